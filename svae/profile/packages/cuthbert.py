"""cuthbert: filters and smoothers in JAX, of elements that associate.

It has no data at its first state, so that one is made up: from it, the first step goes
to the first state of the problem whatever it was. Taken in sequence, which on one core
costs less than in parallel.
"""

from functools import partial
from typing import Any

from svae.profile.packages import jax_on_cpu

__all__ = ["hmm", "hmm_gradient", "lds", "lds_gradient"]


def _smooth_lds(m1: Any, V1: Any, A: Any, Q: Any, y: Any, R: Any) -> Any:
    import jax.numpy as jnp
    from cuthbert import filter, smoother
    from cuthbert.gaussian import kalman

    of_first, of_next = jnp.linalg.cholesky(V1), jnp.linalg.cholesky(Q)
    none, one = jnp.zeros_like(m1), jnp.eye(len(m1))

    def dynamics(t: Any) -> Any:
        first = t == 0
        return (
            jnp.where(first, jnp.zeros_like(A), A),
            jnp.where(first, m1, none),
            jnp.where(first, of_first, of_next),
        )

    def observation(t: Any) -> Any:
        return one, none, jnp.diag(jnp.sqrt(R[t])), y[t]

    build = kalman.build_filter(none, one, dynamics, observation)
    filtered = filter(build, jnp.arange(len(y)), build.init_prepare())
    smoothed = smoother(kalman.build_smoother(dynamics, store_gain=True), filtered)
    factors, gains = smoothed.chol_cov[1:], smoothed.gain[1:-1]
    covariances = factors @ jnp.swapaxes(factors, -1, -2)
    return (
        filtered.log_normalizing_constant[-1],
        smoothed.mean[1:],
        jnp.sum(factors**2, axis=-1),
        covariances.sum(0),
        (gains @ covariances[1:]).sum(0),
    )


def _smooth_hmm(start: Any, transition: Any, log_likelihoods: Any) -> Any:
    from cuthbert import smoother
    from cuthbert.discrete import build_smoother

    filtered, dynamics = _filter_hmm(start, transition, log_likelihoods)
    probs = smoother(build_smoother(dynamics), filtered).dist[1:]
    before = filtered.dist[1:-1]
    pairs = transition * (before.T @ (probs[1:] / (before @ transition)))
    return filtered.log_normalizing_constant[-1], probs, pairs


def _log_likelihood(start: Any, transition: Any, log_likelihoods: Any) -> Any:
    filtered, _ = _filter_hmm(start, transition, log_likelihoods)
    return filtered.log_normalizing_constant[-1]


def _filter_hmm(start: Any, transition: Any, log_likelihoods: Any) -> Any:
    import jax.numpy as jnp
    from cuthbert import filter
    from cuthbert.discrete import build_filter

    def dynamics(t: Any) -> Any:
        return jnp.where(t == 0, jnp.broadcast_to(start, transition.shape), transition)

    build = build_filter(start, dynamics, lambda t: log_likelihoods[t])
    steps = jnp.arange(len(log_likelihoods))
    return filter(build, steps, build.init_prepare()), dynamics


lds = partial(jax_on_cpu.lds, smooth=_smooth_lds)
lds_gradient = partial(jax_on_cpu.lds_gradient, smooth=_smooth_lds)
hmm = partial(jax_on_cpu.hmm, smooth=_smooth_hmm)
hmm_gradient = partial(jax_on_cpu.hmm_gradient, log_likelihood=_log_likelihood)
