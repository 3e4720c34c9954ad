"""dynamax: filters and smoothers in JAX, in double precision."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import (
    Chain,
    System,
    each_chain,
    each_system,
    refuse,
    version_of,
)

name, version = "dynamax", version_of("dynamax")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    refuse(np.isnan(system.y).any(), "takes no missing data")
    # dynamics are counted by the step that they lead to; the first of them leads to
    # none
    steps = len(system.y)
    A, Q = (_from_the_second(x, steps) for x in (system.A, system.Q))
    push = np.concatenate([np.zeros_like(system.m0)[None], system.push])
    found = _compiled()[0](*system._replace(A=A, push=push, Q=Q))
    means = np.asarray(found.smoothed_means)
    # documented as E[x_t x_{t+1}'], whatever the name
    products = means[:-1, :, None] * means[1:, None, :]
    return {
        "log_likelihood": found.marginal_loglik,
        "filtered.mean": found.filtered_means,
        "filtered.cov": found.filtered_covariances,
        "smoothed.mean": means,
        "smoothed.cov": found.smoothed_covariances,
        "smoothed.cross_cov": found.smoothed_cross_covariances - products,
    }


@cache
def _compiled() -> tuple[Any, Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import inference
    from dynamax.linear_gaussian_ssm.inference import lgssm_smoother, make_lgssm_params

    def smooth(
        A: Any, push: Any, Q: Any, C: Any, shift: Any, R: Any, m0: Any, P0: Any, y: Any
    ) -> Any:
        biases = {"dynamics_bias": push, "emissions_bias": shift}
        return lgssm_smoother(make_lgssm_params(m0, P0, A, Q, C, R, **biases), y)

    return jax.jit(smooth), inference.hmm_smoother, inference.hmm_posterior_mode


def _from_the_second(x: np.ndarray, steps: int) -> np.ndarray:
    if x.ndim == 2:
        return x
    first = x[:1] if len(x) else np.eye(x.shape[-1])[None]
    return np.concatenate([first, x])


def hmm(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_chain(inputs, _smooth_chain)


def _smooth_chain(chain: Chain) -> dict[str, Any]:
    found = _compiled()[1](*chain)
    pairs = np.asarray(found.trans_probs)
    return {
        "log_likelihood": found.marginal_loglik,
        "filtered": found.filtered_probs,
        "predicted": found.predicted_probs,
        "smoothed": found.smoothed_probs,
        "pairs": pairs if pairs.ndim == 2 else pairs.sum(0),
    }


def viterbi(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Find most likely paths."""
    init, pair, node = (np.asarray(inputs[f"natural.{x}"]) for x in PARTS)
    refuse(pair.ndim > 2 or init.ndim > 1, "takes one start and one transition matrix")
    refuse("natural.lengths" in inputs, "takes sequences of one length")
    start, transition = np.exp(init - init.max()), np.exp(pair - pair.max())
    paths = [np.asarray(_compiled()[2](start, transition, x)) for x in node]
    return {"paths": np.array(paths)}


PARTS = ("init", "pair", "node")
