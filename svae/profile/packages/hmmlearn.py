"""hmmlearn: hidden Markov models, one sequence after the other."""

from typing import Any

import numpy as np

from svae.profile.packages.prepared import HIDDEN_MARKOV, Model, Prepared, one_by_one

__all__ = ["hmm"]


def hmm(model: Model) -> Prepared:
    """Call the compiled passes of hmmlearn, scaled, as its EM algorithm does."""
    from hmmlearn import _hmmc

    start, transition, nodes = (model[name] for name in HIDDEN_MARKOV)

    def one(log_likelihoods: np.ndarray) -> Any:
        node = np.exp(log_likelihoods)
        loglik, forward, scaling = _hmmc.forward_scaling(start, transition, node)
        backward = _hmmc.backward_scaling(start, transition, node, scaling)
        _hmmc.compute_scaling_xi_sum(forward, transition, backward, node)
        probs = forward * backward
        return loglik, probs / probs.sum(axis=1, keepdims=True)

    return one_by_one(one, nodes)
