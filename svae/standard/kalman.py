"""Filter, prediction, smoother and likelihood of linear-Gaussian state-space models."""

from __future__ import annotations

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.standard import fisher, forms, information, score
from svae.standard.algebra import apply, log_det_of_root, transpose
from svae.standard.covariance import Moments
from svae.standard.records import Filtered, LinearGaussian, Predicted, Smoothed
from svae.standard.system import System, as_system
from svae.types import Array, Integers

__all__ = ["kalman_filter", "kalman_predict", "kalman_smoother", "log_likelihood"]


def log_likelihood(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
    form: str = "auto",
) -> Array:
    """Return log p(y), the log likelihood of a linear-Gaussian state-space model.

    Differentiable in every field of the parameters, in y and in u, and twice. The
    gradient in a covariance is symmetric, and right where the covariance is singular.

    Parameters
    ----------
    params : LinearGaussian
    y : (N, T, P) or (T, P) array
        NaN is a missing entry, which is marginalised.
    u : (N, T, U) or (T, U) array, optional
        Inputs, for B and D; (T, U) are those of all sequences.
    lengths : (N,) integers in 1..T, optional
        What the arguments hold past a sequence's length is never read.
    form : {"auto", "information", "covariance"}
        The information form is compiled and needs inverses of Q, R and P0; the
        covariance form is written in square roots, and needs none. By default the first
        where it has enough digits (`svae.standard.forms`).

    Returns
    -------
    (N,) array, or () for y (T, P)

    Raises
    ------
    ValueError
        If an argument is malformed; it names argument, sequence and step.
    NotPositiveDefinite
        If an observation has no density, because R is singular and the past leaves no
        doubt, or if the information form has no inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from svae.standard import LinearGaussian, log_likelihood
    >>> one = np.eye(1)
    >>> y = np.array([[1.2], [np.nan], [0.7]])
    >>> def f(A):
    ...     return log_likelihood(LinearGaussian(A, one, one, one, [0.0], one), y)
    >>> float(f(0.9 * one).round(6)), grad(f)(0.9 * one).round(6).item()
    (-2.839446, 0.111265)
    """
    system = as_system(params, y, u, lengths)
    if forms.choose(system, form) == "information":
        found = fisher.log_likelihood(system)
    else:
        found = score.log_likelihood(system)
    return found[0] if system.is_single else found


def kalman_filter(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
    form: str = "auto",
) -> Filtered:
    """Return the law of each x_t given y_1..y_t.

    Parameters and errors as in `log_likelihood`.

    Returns
    -------
    Filtered
        With ``mean`` (N, T, D), ``cov`` (N, T, D, D), ``log_likelihood`` (N,).
    """
    system = as_system(params, y, u, lengths)
    if forms.choose(system, form, ahead=True) == "information":
        found, total = information.filtered(system)
    else:
        found = score.moments(system, smooth=False)
        total = np.sum(np.where(system.live, found.log_density, 0.0), 1)
    mean, cov = _within(system, found.filtered_mean, found.filtered_cov)
    return Filtered(*_alone(system, mean, cov, total))


def kalman_predict(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
    form: str = "auto",
) -> Predicted:
    """Return the laws of each x_t and y_t given y_1..y_{t-1}, one step ahead.

    Parameters and errors as in `log_likelihood`. The first prediction is the prior.

    Returns
    -------
    Predicted
        With ``mean`` (N, T, D), ``cov`` (N, T, D, D) of x_t, ``y_mean`` (N, T, P),
        ``y_cov`` (N, T, P, P) of all entries of y_t, and ``log_density`` (N, T) of
        those that were observed.
    """
    system = as_system(params, y, u, lengths)
    if forms.choose(system, form, ahead=True) == "information":
        found, _ = information.filtered(system)
        found = found._replace(log_density=_log_density(system, found))
    else:
        found = score.moments(system, smooth=False)
    mean, cov = found.predicted_mean, found.predicted_cov
    C = system.C
    y_mean = apply(C, mean) + system.d
    y_cov = C @ cov @ transpose(C) + system.R
    parts = _within(system, mean, cov, y_mean, y_cov, found.log_density)
    return Predicted(*_alone(system, *parts))


def kalman_smoother(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
    form: str = "auto",
) -> Smoothed:
    """Return the law of each x_t given all observations.

    Parameters and errors as in `log_likelihood`.

    Returns
    -------
    Smoothed
        With ``mean`` (N, T, D), ``cov`` (N, T, D, D), ``cross_cov`` (N, T-1, D, D),
        the covariances of x_t and x_{t+1}, and ``log_likelihood`` (N,).
    """
    system = as_system(params, y, u, lengths)
    if forms.choose(system, form) == "information":
        mean, cov, cross, total = information.smoother(system)
    else:
        found = score.moments(system, smooth=True)
        mean, cov, cross = found.smoothed_mean, found.smoothed_cov, found.cross_cov
        total = np.sum(np.where(system.live, found.log_density, 0.0), 1)
    mean, cov = _within(system, mean, cov)
    if not system.live.all():
        cross = np.where(system.live[:, 1:, None, None], cross, 0.0)
    return Smoothed(*_alone(system, mean, cov, cross, total))


def _within(system: System, *parts: Any) -> list[Any]:
    """Return arrays (N, T, ...) with zeros past the lengths."""
    live = system.live
    if live.all():
        return list(parts)
    return [
        np.where(live.reshape(live.shape + (1,) * (x.ndim - 2)), x, 0.0) for x in parts
    ]


def _alone(system: System, *parts: Any) -> list[Any]:
    """Return results without the axis of sequences if the data came without."""
    return [x[0] for x in parts] if system.is_single else list(parts)


def _log_density(system: System, found: Moments) -> Array:
    """Return log densities (N, T) of what was observed, given what was predicted."""
    seen = system.seen.astype(float)
    C = system.C * seen[..., None]
    mask, of_missing = seen[..., None] * seen[..., None, :], 1 - seen
    R = system.R * mask + of_missing[..., None] * onp.eye(seen.shape[-1])
    v = seen * (system.y - apply(C, found.predicted_mean) - system.d)
    F = C @ found.predicted_cov @ transpose(C) + R
    L = np.linalg.cholesky(F)
    e = np.linalg.solve(L, v[..., None])[..., 0]
    return (
        -np.sum(e**2, -1) / 2
        - log_det_of_root(L)
        - seen.sum(-1) * np.log(2 * np.pi) / 2
    )
