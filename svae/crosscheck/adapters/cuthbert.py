"""cuthbert: filters and smoothers in JAX, by square roots, in double precision.

It has no data at its first state, so that one is made up: from it, the first step goes
to the first state of the case, whatever it was.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import (
    Chain,
    System,
    each_chain,
    each_system,
    version_of,
)

name, version = "cuthbert", version_of("cuthbert")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    (T, P), D = system.y.shape, len(system.m0)
    A, Q = (np.broadcast_to(x, (T - 1, D, D)) for x in (system.A, system.Q))
    C, R = np.broadcast_to(system.C, (T, P, D)), np.broadcast_to(system.R, (T, P, P))
    covs = np.concatenate([system.P0[None], Q])
    total, filtered, filtered_roots, smoothed, roots, gains = _compiled()[0](
        np.concatenate([np.zeros((1, D, D)), A]),
        np.concatenate([system.m0[None], system.push]),
        np.array([_root(x) for x in covs]),
        C,
        system.shift,
        np.array([_root(x) for x in R]),
        system.y,
    )
    covs = _square(roots[1:])
    return {
        "log_likelihood": total[-1],
        "filtered.mean": filtered[1:],
        "filtered.cov": _square(filtered_roots[1:]),
        "smoothed.mean": smoothed[1:],
        "smoothed.cov": covs,
        "smoothed.cross_cov": np.asarray(gains[1:-1]) @ covs[1:],
    }


@cache
def _compiled() -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from cuthbert import discrete, filter, smoother
    from cuthbert.gaussian import kalman

    def smooth(A: Any, push: Any, Q: Any, C: Any, shift: Any, R: Any, y: Any) -> Any:
        def dynamics(t: Any) -> Any:
            return A[t], push[t], Q[t]

        def observation(t: Any) -> Any:
            return C[t], shift[t], R[t], y[t]

        D = push.shape[1]
        build = kalman.build_filter(jnp.zeros(D), jnp.eye(D), dynamics, observation)
        filtered = filter(build, jnp.arange(len(y)), build.init_prepare())
        build = kalman.build_smoother(dynamics, store_gain=True)
        smoothed = smoother(build, filtered)
        total = filtered.log_normalizing_constant
        of_filter = filtered.mean, filtered.chol_cov
        return total, *of_filter, smoothed.mean, smoothed.chol_cov, smoothed.gain

    def smooth_chain(start: Any, transitions: Any, node: Any) -> Any:
        build = discrete.build_filter(
            start, lambda t: transitions[t], lambda t: node[t]
        )
        filtered = filter(build, jnp.arange(len(node)), build.init_prepare())
        build = discrete.build_smoother(lambda t: transitions[t])
        smoothed = smoother(build, filtered)
        return filtered.log_normalizing_constant, filtered.dist, smoothed.dist

    return jax.jit(smooth), jax.jit(smooth_chain)


def _root(cov: np.ndarray) -> np.ndarray:
    """Return a lower root, which singular covariances have too."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        half = vectors * np.sqrt(np.maximum(values, 0.0))
        return np.asarray(np.linalg.qr(half.T)[1].T)


def _square(factor: Any) -> np.ndarray:
    factor = np.asarray(factor)
    return np.asarray(factor @ np.swapaxes(factor, -1, -2))


def hmm(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_chain(inputs, _smooth_chain)


def _smooth_chain(chain: Chain) -> dict[str, Any]:
    T, K = chain.log_likelihoods.shape
    first = np.broadcast_to(chain.start, (1, K, K))
    steps = np.broadcast_to(chain.transition, (T - 1, K, K))
    transitions = np.concatenate([first, steps])
    found = _compiled()[1](chain.start, transitions, chain.log_likelihoods)
    total, filtered, smoothed = found
    return {
        "log_likelihood": total[-1],
        "filtered": filtered[1:],
        "smoothed": smoothed[1:],
    }
