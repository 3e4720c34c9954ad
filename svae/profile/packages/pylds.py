"""pylds: linear dynamical systems, one sequence after the other."""

from typing import Any

import numpy as np

from svae.profile.packages.prepared import Answers, Model, Prepared, one_by_one
from svae.profile.systems import log_constant, potentials

__all__ = ["lds"]


def lds(model: Model) -> Prepared:
    """Use the information form: precisions where ours has minus half of them."""
    from pylds.lds_messages_interface import info_E_step

    (J, h), (J11, J12, J22), (node_J, node_h) = potentials(model)
    T, D = node_h.shape[1:]
    precisions = -2 * node_J[..., None] * np.eye(D)
    pair = [np.tile(x, (T - 1, 1, 1)) for x in (-2 * J11, -J12.T, -2 * J22)]
    no_h, no_constants = np.zeros((T - 1, D)), np.zeros(T)

    def one(node: Any) -> Any:
        logZ, means, covs, _ = info_E_step(
            *(-2 * J, h, 0.0),
            *(*pair, no_h, no_h, no_constants[1:]),
            *(*node, no_constants),
        )
        return logZ, means, np.diagonal(covs, axis1=-2, axis2=-1)

    call, as_arrays = one_by_one(one, list(zip(precisions, node_h, strict=True)))
    constant = log_constant(model)

    def answers(results: Any) -> Answers:
        logZ, means, variances = as_arrays(results)
        return logZ + constant, means, variances

    return Prepared(call, answers)
