r"""Mean-field inference of independent points, compiled: a mixture of one step.

What `svae.models.inference.switching` finds for chains of any length, and defines:
`kernels.mixture` is all of it, the alternation and either factor, and its derivative.
A step of training on points is too short for anything else: each has a handful of
numbers.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as onp

from svae import kernels
from svae.autodiff.operations import value_of
from svae.models.base import Diagnostics, Local
from svae.models.evidence import Evidence, first_states
from svae.models.inference.fixed_point import (
    GRADIENT_ITERATIONS,
    GRADIENT_TOLERANCE,
    warn_of_gradient,
    warn_of_inference,
)
from svae.types import Array, Message

__all__ = ["Ascent", "local_factor"]


class Ascent(NamedTuple):
    """How to find the fixed point; constants."""

    tolerance: float
    max_iterations: int
    names: tuple[str, ...]
    """Where to start, unless ``starts`` are given."""
    starts: Sequence[onp.ndarray] | None
    """Probabilities of the states (N, 1, K)."""

    def settings(self) -> dict[str, Any]:
        """Return them as the kernel takes them."""
        starts = None
        if self.starts is not None:
            starts = onp.stack([value_of(start) for start in self.starts], axis=1)
        return {
            "starts": starts,
            "from_data": starts is None and "data" in self.names,
            "from_prior": starts is None and "prior" in self.names,
            "tolerance": self.tolerance,
            "max_iterations": self.max_iterations,
        }


GRADIENT = kernels.LinearSolve(
    GRADIENT_TOLERANCE,
    GRADIENT_ITERATIONS,
    partial(warn_of_gradient, tolerance=GRADIENT_TOLERANCE),
)


def local_factor(
    switch: Any,
    ascent: Ascent,
    message: Message,
    evidence: Evidence,
    noise: Array | None,
) -> Local:
    """Return the local factor of N points, sequences of one step.

    Parameters
    ----------
    switch : Emission
    ascent : Ascent
    message, evidence, noise
        As in `LatentModel.infer`.
    """
    init = first_states(message["weights"][0], evidence.belief)
    conditionals = switch.conditionals(switch.natparams(message))
    components, constants, offsets, dofs, weights = conditionals
    q = kernels.mixture(
        (init, components, constants),
        None if dofs is None else (offsets, dofs, weights),
        evidence.node,
        noise,
        evidence.observed,
        **ascent.settings(),
        adjoint=GRADIENT,
    )
    warn_of_inference(q.residual, ascent.tolerance, ascent.max_iterations)
    return Local(
        q.samples,
        # KL(q(x) q(z) || exp E log p), as `switching` has it
        q.evidence - q.log_normalizer,
        q.mean,
        q.second_moment,
        q.log_normalizer,
        q.states,
        q.potentials,
        q.half_log_det,
        Diagnostics(q.iterations, q.residual),
    )
