r"""The Gaussian, with dense or diagonal precision.

.. math:: t(x) = (x x', x), \qquad \eta = (J, h) = (-\Sigma^{-1}/2,\ \Sigma^{-1} \mu),

with J of shape (..., D, D) and h (..., D); or, where ``J.ndim == h.ndim``, the diagonal
of J alone, (..., D), and ``t(x) = (x * x, x)``.  The base measure is Lebesgue's:

.. math:: \log Z = \tfrac12 h' P^{-1} h - \tfrac12 \log|P| + \tfrac D2 \log 2\pi,
          \qquad P = -(J + J').
"""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.families.arrays import (
    draw_shape,
    inverse,
    inverse_and_log_det,
    is_positive_definite,
    matvec,
    outer,
    symmetric,
    transpose,
)
from svae.types import Array

__all__ = [
    "expected_stats",
    "from_standard",
    "in_domain",
    "log_normalizer",
    "mean",
    "sample",
    "stats",
    "to_standard",
]

LOG_2PI = onp.log(2.0 * onp.pi)


def from_standard(mean: Array, cov: Array) -> tuple[Array, Array]:
    """Return (J, h) of N(mean, cov).

    Parameters
    ----------
    mean : (..., D) array
    cov : (..., D, D) array, or its diagonal (..., D)

    Returns
    -------
    J : (..., D, D) or (..., D)
    h : (..., D)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a dense ``cov`` is not positive definite.
    """
    if onp.ndim(cov) == onp.ndim(mean):
        return -0.5 / cov, mean / cov
    precision = inverse(symmetric(cov))
    return -0.5 * precision, matvec(precision, mean)


def to_standard(natparams: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return ``mean`` (..., D) and ``cov``, dense or diagonal as J is."""
    mean, cov, _ = _moments(natparams)
    return mean, cov


def log_normalizer(natparams: tuple[Array, Array]) -> Array:
    """Log of the integral of exp(x'J x + h'x), (...)."""
    h = natparams[1]
    mean, _, log_det = _moments(natparams)
    return 0.5 * ((h * mean).sum(axis=-1) - log_det + onp.shape(h)[-1] * LOG_2PI)


def expected_stats(natparams: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return E[x x'] (or its diagonal) and E[x], shaped like J and h."""
    mean, cov, _ = _moments(natparams)
    if _is_diagonal(natparams):
        return cov + mean * mean, mean
    return cov + outer(mean, mean), mean


def stats(x: Array, diagonal: bool = False) -> tuple[Array, Array]:
    """Return x x' (x * x if ``diagonal``) and x, for x (..., D)."""
    return (x * x if diagonal else outer(x, x)), x


def mean(natparams: tuple[Array, Array]) -> Array:
    """Return E[x], (..., D)."""
    return to_standard(natparams)[0]


def sample(
    natparams: tuple[Array, Array], rng: Any, size: int | tuple[int, ...] = ()
) -> np.ndarray:
    """Draw x, (*size, ..., D), as mean + L^-T noise with P = LL'."""
    J, h = natparams
    mean, cov, _ = _moments(natparams)
    noise = onp.random.default_rng(rng).standard_normal(draw_shape(size, h.shape))
    if _is_diagonal(natparams):
        return mean + onp.sqrt(cov) * noise
    factor = onp.linalg.cholesky(-(J + transpose(J)))
    return mean + matvec(onp.linalg.inv(transpose(factor)), noise)


def in_domain(natparams: tuple[Array, Array]) -> bool:
    """Whether every precision is positive definite and every h finite."""
    J, h = natparams
    if not onp.isfinite(h).all():
        return False
    if _is_diagonal(natparams):
        return bool((onp.isfinite(J) & (J < 0)).all())
    return is_positive_definite(-(J + transpose(J)))


def _moments(natparams: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Return mean, covariance (or variances) and log determinant of the precision."""
    J, h = natparams
    if _is_diagonal(natparams):
        variance = -0.5 / J
        return variance * h, variance, -onp.log(variance).sum(axis=-1)
    cov, log_det = inverse_and_log_det(-(J + transpose(J)))
    return matvec(cov, h), cov, log_det


def _is_diagonal(natparams: tuple[Array, Array]) -> bool:
    J, h = natparams
    return bool(onp.ndim(J) == onp.ndim(h))
