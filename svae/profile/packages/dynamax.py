"""dynamax: filters and smoothers in JAX, step by step."""

from functools import partial
from typing import Any

from svae.profile.packages import jax_on_cpu

__all__ = ["hmm", "hmm_gradient", "lds", "lds_gradient"]


def _smooth_lds(m1: Any, V1: Any, A: Any, Q: Any, y: Any, R: Any) -> Any:
    import jax.numpy as jnp
    from dynamax.linear_gaussian_ssm.inference import lgssm_smoother, make_lgssm_params

    posterior = lgssm_smoother(
        make_lgssm_params(m1, V1, A, Q, jnp.eye(len(m1)), R),  # R (T, D): diagonals
        y,
    )
    covariances = posterior.smoothed_covariances
    return (
        posterior.marginal_loglik,
        posterior.smoothed_means,
        jnp.diagonal(covariances, 0, -2, -1),
        covariances.sum(0),
        posterior.smoothed_cross_covariances.sum(0),
    )


def _smooth_hmm(start: Any, transition: Any, log_likelihoods: Any) -> Any:
    from dynamax.hidden_markov_model.inference import hmm_smoother

    posterior = hmm_smoother(start, transition, log_likelihoods)
    return posterior.marginal_loglik, posterior.smoothed_probs, posterior.trans_probs


def _log_likelihood(start: Any, transition: Any, log_likelihoods: Any) -> Any:
    from dynamax.hidden_markov_model.inference import hmm_filter

    return hmm_filter(start, transition, log_likelihoods).marginal_loglik


lds = partial(jax_on_cpu.lds, smooth=_smooth_lds)
lds_gradient = partial(jax_on_cpu.lds_gradient, smooth=_smooth_lds)
hmm = partial(jax_on_cpu.hmm, smooth=_smooth_hmm)
hmm_gradient = partial(jax_on_cpu.hmm_gradient, log_likelihood=_log_likelihood)
