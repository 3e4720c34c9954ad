"""hmmlearn: hidden Markov models, in logarithms (its default)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import Chain, each_chain, refuse, version_of

name, version = "hmmlearn", version_of("hmmlearn")
expected_failures: dict[str, str] = {}


def _model(start: np.ndarray, transition: np.ndarray) -> Any:
    """Return a model whose data are the log likelihoods of its states."""
    from hmmlearn.base import BaseHMM

    class Given(BaseHMM):  # type: ignore[misc]
        def _compute_log_likelihood(self, X: np.ndarray) -> np.ndarray:
            return X

        def _check(self) -> None:
            pass

    refuse(transition.ndim > 2, "has one transition matrix for all steps")
    model = Given(n_components=len(start))
    model.startprob_, model.transmat_ = start, transition
    return model


def hmm(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Score and smooth."""
    return each_chain(inputs, _smooth)


def _smooth(chain: Chain) -> dict[str, Any]:
    refuse(np.isinf(chain.log_likelihoods).any(), "refuses data of no likelihood")
    model = _model(chain.start, chain.transition)
    log_likelihood, probs = model.score_samples(chain.log_likelihoods)
    return {"log_likelihood": log_likelihood, "smoothed": probs}


def viterbi(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Find most likely paths; potentials need not be normalised for that."""
    init, pair, node = (np.asarray(inputs[f"natural.{x}"]) for x in PARTS)
    refuse(pair.ndim > 2 or init.ndim > 1, "has one start and one transition matrix")
    shifts = init.max(), pair.max()
    model = _model(np.exp(init - shifts[0]), np.exp(pair - shifts[1]))
    N, T, _ = node.shape
    refuse(np.isinf(node).any(), "refuses data of no likelihood")
    paths, scores = np.full((N, T), -1), np.zeros(N)
    for n, length in enumerate(inputs.get("natural.lengths", np.full(N, T))):
        score, paths[n, :length] = model.decode(node[n, :length])
        scores[n] = score + shifts[0] + (length - 1) * shifts[1]
    return {"paths": paths, "logprob": scores}


PARTS = ("init", "pair", "node")
