"""dynamax: filters and smoothers in JAX, step by step."""

from typing import Any

from svae.profile.packages import jax_on_cpu
from svae.profile.packages.prepared import Model, Prepared

__all__ = ["hmm", "hmm_gradient", "lds", "lds_gradient"]


def lds(model: Model) -> Prepared:
    """Return what is smoothed, with the sums that our chain returns."""
    return jax_on_cpu.lds(model, _smooth_lds)


def lds_gradient(model: Model) -> Prepared:
    """Differentiate through the smoother."""
    return jax_on_cpu.lds_gradient(model, _smooth_lds)


def hmm(model: Model) -> Prepared:
    """Return what is smoothed, with the sums of the pairs' probabilities."""
    return jax_on_cpu.hmm(model, _smooth_hmm)


def hmm_gradient(model: Model) -> Prepared:
    """Differentiate through the filter."""
    return jax_on_cpu.hmm_gradient(model, _log_likelihood)


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
