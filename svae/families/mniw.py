r"""The matrix-normal-inverse-Wishart, over linear dynamics (A, Q).

.. math:: Q^{-1} \sim \mathcal{W}(S^{-1}, \nu), \qquad
          A \mid Q \sim \mathcal{MN}(M, Q, K),

with A (..., D, Din), its rows correlated by Q (..., D, D) and its columns by K
(..., Din, Din), and

.. math::
    t(A, Q^{-1}) = (-\tfrac12 A'Q^{-1}A,\ A'Q^{-1},\ -\tfrac12 Q^{-1},\
                    \tfrac12 \log|Q^{-1}|), \qquad
    \eta = (K^{-1},\ K^{-1}M',\ S + M K^{-1} M',\ \nu),

of shapes (..., Din, Din), (..., Din, D), (..., D, D) and (...).  The expected
statistics are the pair potentials (J11, J12, J22) of x' ~ N(A x, Q) and, fourth, its
constant up to 2 pi.  The base measure is ``|Q^-1|^((Din-D-1)/2) dA dQ^-1``, so that

.. math:: \log Z = \tfrac{\nu D}2 \log 2 + \log\Gamma_D(\nu/2) - \tfrac\nu2 \log|S|
                   + \tfrac{D D_{in}}2 \log 2\pi - \tfrac D2 \log|K^{-1}|,

proper for K and S positive definite and nu > D - 1.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.families import wishart
from svae.families.arrays import (
    free_root,
    from_free_root,
    inverse,
    inverse_and_log_det,
    is_positive_definite,
    symmetric,
    transpose,
)
from svae.types import Array

__all__ = [
    "expected_stats",
    "from_free",
    "from_standard",
    "in_domain",
    "log_normalizer",
    "mean",
    "measure",
    "sample",
    "stats",
    "to_free",
    "to_standard",
]

NatParams = tuple[Array, Array, Array, Array]
LOG_2PI = onp.log(2.0 * onp.pi)


def from_standard(
    mean: Array, column_cov: Array, scale: Array, dof: Array | float
) -> NatParams:
    """Return natural parameters of MNIW(mean, column_cov, scale, dof).

    Parameters
    ----------
    mean : (..., D, Din) array
        M.
    column_cov : (..., Din, Din) array
        K.
    scale : (..., D, D) array
        S, with E[Q] = S / (nu - D - 1).
    dof : (...) array
        nu.  Batch shapes broadcast.

    Returns
    -------
    (..., Din, Din), (..., Din, D), (..., D, D), (...)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a ``column_cov`` is not positive definite.
    """
    batch = onp.broadcast_shapes(
        *(onp.shape(matrix)[:-2] for matrix in (mean, column_cov, scale)),
        onp.shape(dof),
    )
    ones = onp.ones((*batch, 1, 1))
    column_precision = inverse(symmetric(column_cov)) * ones
    weighted = np.matmul(column_precision, transpose(mean))
    S, nu = wishart.from_standard(scale * ones, dof)
    return column_precision, weighted, S + symmetric(np.matmul(mean, weighted)), nu


def to_standard(natparams: NatParams) -> NatParams:
    """Return ``mean``, ``column_cov``, ``scale`` and ``dof``."""
    mean, column_cov, _, wishart_natparams = _conditional(natparams)
    return mean, column_cov, *wishart.to_standard(wishart_natparams)


def log_normalizer(natparams: NatParams) -> Array:
    """Log normalizer, (...)."""
    mean, _, log_det, wishart_natparams = _conditional(natparams)
    return _log_normalizer(wishart.log_normalizer(wishart_natparams), mean, log_det)


def _log_normalizer(of_precision: Array, mean: Array, log_det: Array) -> Array:
    rows, columns = onp.shape(mean)[-2:]
    return of_precision + 0.5 * rows * (columns * LOG_2PI - log_det)


def expected_stats(natparams: NatParams) -> NatParams:
    """Return E[-A'LA/2], E[A'L], E[-L/2] and E[log|L|/2], L the precision Q^-1."""
    mean, column_cov, _, wishart_natparams = _conditional(natparams)
    of_precision = wishart.expected_stats(wishart_natparams)
    return _expected_stats(of_precision, mean, column_cov)


def measure(natparams: NatParams) -> tuple[NatParams, Array]:
    """Return what `expected_stats` and `log_normalizer` do, of one factorisation."""
    mean, column_cov, log_det, wishart_natparams = _conditional(natparams)
    of_precision, log_normalizer = wishart.measure(wishart_natparams)
    stats = _expected_stats(of_precision, mean, column_cov)
    return stats, _log_normalizer(log_normalizer, mean, log_det)


def _expected_stats(
    of_precision: tuple[Array, Array], mean: Array, column_cov: Array
) -> NatParams:
    J22, half_log_det = of_precision
    J12 = -2.0 * (transpose(mean) @ J22)
    # E[A'LA] = D K + M' E[L] M
    spread = onp.shape(mean)[-2] * column_cov
    return -0.5 * (symmetric(J12 @ mean) + spread), J12, J22, half_log_det


def stats(x: tuple[Array, Array]) -> NatParams:
    """Return t of x = (A (..., D, Din), Q^-1 (..., D, D))."""
    dynamics, precision = x
    J22, half_log_det = wishart.stats(precision)
    J12 = np.matmul(transpose(dynamics), precision)
    return -0.5 * symmetric(np.matmul(J12, dynamics)), J12, J22, half_log_det


def mean(natparams: NatParams) -> tuple[Array, Array]:
    """Return E[A] = M (..., D, Din) and E[Q^-1] = nu S^-1 (..., D, D).

    The noise of dynamics at that point, S / nu, is less than E[Q] = S / (nu - D - 1),
    which does not always exist.
    """
    location, _, _, wishart_natparams = _conditional(natparams)
    return location, wishart.mean(wishart_natparams)


def sample(
    natparams: NatParams, rng: Any, size: int | tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Draw A (*size, ..., D, Din) and the precision Q^-1 (*size, ..., D, D)."""
    mean, column_cov, _, wishart_natparams = _conditional(natparams)
    rng = onp.random.default_rng(rng)
    root = wishart.sample_root(wishart_natparams, rng, size)
    noise = rng.standard_normal((*root.shape[:-1], mean.shape[-1]))
    columns = transpose(onp.linalg.cholesky(column_cov))
    dynamics = mean + onp.linalg.inv(transpose(root)) @ noise @ columns
    return dynamics, root @ transpose(root)


def in_domain(natparams: NatParams) -> bool:
    """Whether every element has K and S positive definite and nu > D - 1."""
    column_precision, weighted = natparams[:2]
    if not onp.isfinite(weighted).all():
        return False
    if not is_positive_definite(symmetric(column_precision)):
        return False
    return wishart.in_domain(_conditional(natparams)[3])


def to_free(stats: NatParams) -> tuple[Array, Array, Array, Array]:
    """Return free coordinates of an expected statistic.

    Returns
    -------
    dynamics : (..., D, Din)
        A of the pair potential.
    root : (..., D, D)
        Precision of x' given x, in the coordinates of `svae.families.arrays.free_root`.
    rest : (..., Din, Din)
        Precision of x that the potential adds to that of A x, in the same coordinates:
        of expected statistics, D K.
    log_weight : (...)
        Log of the integral of the potential over x' at x = 0.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the potential has no integral; that of a single theta, with nothing to add to
        the precision of A x, has none.
    """
    J11, J12, J22, half_log_det = stats
    root = free_root(-2.0 * J22)
    dynamics = transpose(onp.matmul(J12, onp.linalg.inv(-2.0 * J22)))
    rest = free_root(-2.0 * J11 - symmetric(np.matmul(J12, dynamics)))
    return dynamics, root, rest, half_log_det - from_free_root(root)[1]


def from_free(coordinates: tuple[Array, Array, Array, Array]) -> NatParams:
    """Return the message of free coordinates; see `to_free`."""
    dynamics, root, rest, log_weight = coordinates
    precision, half_log_det = from_free_root(root)
    J12 = np.matmul(transpose(dynamics), precision)
    J11 = -0.5 * (symmetric(np.matmul(J12, dynamics)) + from_free_root(rest)[0])
    return J11, J12, -0.5 * precision, half_log_det + log_weight


def _conditional(natparams: NatParams) -> tuple[Any, Any, Any, tuple[Array, Array]]:
    """Return M, K, log|K^-1| and the natural parameters (S, nu) of Q^-1."""
    column_precision, weighted, second, nu = natparams
    column_cov, log_det = inverse_and_log_det(symmetric(column_precision))
    mean = transpose(column_cov @ weighted)
    return mean, column_cov, log_det, (second - mean @ weighted, nu)
