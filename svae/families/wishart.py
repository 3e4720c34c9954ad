r"""The Wishart, over a precision matrix L (..., D, D): what NIW and MNIW share.

.. math:: t(\Lambda) = (-\Lambda/2,\ \tfrac12 \log|\Lambda|), \qquad \eta = (S, \nu),

that is W(S^-1, nu) with nu degrees of freedom.  The base measure is
``|L|^(-(D+1)/2) dL`` over the D(D+1)/2 entries of L, so that

.. math:: \log Z = \tfrac{\nu D}2 \log 2 + \log\Gamma_D(\nu/2) - \tfrac\nu2 \log|S|,

proper for S positive definite and nu > D - 1.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.autodiff.operations import trailing
from svae.autodiff.special import digamma, gammaln
from svae.families.arrays import (
    draw_shape,
    inverse_and_log_det,
    is_positive_definite,
    log_det,
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
    "measure",
    "sample",
    "sample_root",
    "stats",
    "to_standard",
]

LOG_2, LOG_PI = onp.log(2.0), onp.log(onp.pi)


def from_standard(scale: Array, dof: Array | float) -> tuple[Array, Array]:
    """Return (S, nu) of ``scale`` S (..., D, D), the *inverse* scale of L, and ``dof``.

    ``dof`` broadcasts to the batch (...) of ``scale``.
    """
    return symmetric(scale), dof * onp.ones(onp.shape(scale)[:-2])


def to_standard(natparams: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return ``scale`` (..., D, D) and ``dof`` (...)."""
    return symmetric(natparams[0]), natparams[1]


def log_normalizer(natparams: tuple[Array, Array]) -> Array:
    """Log normalizer, (...)."""
    S, nu = natparams
    halves = _gamma_arguments(nu, onp.shape(S)[-1])
    return _log_normalizer(nu, halves, log_det(symmetric(S)))


def _log_normalizer(nu: Array, halves: Array, log_det_S: Array) -> Array:
    dim = onp.shape(halves)[-1]
    log_gammas = gammaln(halves).sum(axis=-1)
    log_gamma = 0.25 * dim * (dim - 1) * LOG_PI + log_gammas
    return 0.5 * nu * (dim * LOG_2 - log_det_S) + log_gamma


def expected_stats(natparams: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return -E[L]/2 (..., D, D) and E[log|L|]/2 (...).

    ``E[log|L|] = sum_{i<D} psi((nu - i)/2) + D log 2 - log|S|`` and E[L] = nu S^-1.
    """
    S, nu = natparams
    halves = _gamma_arguments(nu, onp.shape(S)[-1])
    return _expected_stats(nu, halves, *inverse_and_log_det(symmetric(S)))


def measure(natparams: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
    """Return what `expected_stats` and `log_normalizer` do, of one factorisation."""
    S, nu = natparams
    halves = _gamma_arguments(nu, onp.shape(S)[-1])
    inverse, log_det_S = inverse_and_log_det(symmetric(S))
    stats = _expected_stats(nu, halves, inverse, log_det_S)
    return stats, _log_normalizer(nu, halves, log_det_S)


def _expected_stats(
    nu: Array, halves: Array, inverse: Array, log_det_S: Array
) -> tuple[Array, Array]:
    dim = onp.shape(halves)[-1]
    digammas = digamma(halves).sum(axis=-1)
    half_precision = 0.5 * trailing(nu, 2) * inverse
    return -half_precision, 0.5 * (digammas + dim * LOG_2 - log_det_S)


def stats(precision: Array) -> tuple[Array, Array]:
    """Return -L/2 and log|L|/2 of L (..., D, D)."""
    return -0.5 * precision, 0.5 * log_det(precision)


def mean(natparams: tuple[Array, Array]) -> Array:
    """Return E[L] = nu S^-1, (..., D, D)."""
    return -2.0 * expected_stats(natparams)[0]


def sample(
    natparams: tuple[Array, Array], rng: Any, size: int | tuple[int, ...] = ()
) -> np.ndarray:
    """Draw precision matrices L, (*size, ..., D, D)."""
    root = sample_root(natparams, rng, size)
    return root @ transpose(root)


def sample_root(
    natparams: tuple[Array, Array], rng: Any, size: int | tuple[int, ...] = ()
) -> np.ndarray:
    """Draw R with L = RR', (*size, ..., D, D), by the decomposition of Bartlett (1933).

    R is ``F^-T B`` with S = FF' and B lower triangular: standard normal below the
    diagonal, and the roots of chi-square draws of nu - i degrees of freedom on it.
    """
    S, nu = natparams
    rng = onp.random.default_rng(rng)
    dim = S.shape[-1]
    shape = draw_shape(size, S.shape[:-2])
    bartlett = onp.tril(rng.standard_normal((*shape, dim, dim)), -1)
    gammas = rng.standard_gamma(_gamma_arguments(nu, dim), (*shape, dim))
    bartlett[..., range(dim), range(dim)] = onp.sqrt(2.0 * gammas)
    factor = onp.linalg.cholesky(symmetric(S))
    return onp.linalg.inv(transpose(factor)) @ bartlett


def in_domain(natparams: tuple[Array, Array]) -> bool:
    """Whether every S is positive definite and every nu finite and above D - 1."""
    S, nu = natparams
    valid = onp.isfinite(nu) & (nu > S.shape[-1] - 1)
    return bool(valid.all()) and is_positive_definite(symmetric(S))


def _gamma_arguments(nu: Any, dim: int) -> Array:
    """Return (nu - i)/2 for i = 0 .. D-1, (..., D)."""
    return 0.5 * (trailing(nu, 1) - onp.arange(dim))
