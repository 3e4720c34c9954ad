r"""The normal-inverse-Wishart, over the mean and precision of a Gaussian.

.. math:: \Lambda \sim \mathcal{W}(S^{-1}, \nu), \qquad
          \mu \mid \Lambda \sim \mathcal{N}(m, (\kappa \Lambda)^{-1}),

.. math::
    t(\mu, \Lambda) = (-\Lambda/2,\ \Lambda\mu,\ -\mu'\Lambda\mu/2,\
                       \tfrac12 \log|\Lambda|), \qquad
    \eta = (S + \kappa m m',\ \kappa m,\ \kappa,\ \nu),

of shapes (..., D, D), (..., D), (...) and (...).  The expected statistics are the
potentials (J, h) of x ~ N(mu, Lambda^-1) and, third plus fourth, its constant up to
2 pi.  The base measure is ``|Lambda|^(-D/2) dmu dLambda``, so that

.. math:: \log Z = \tfrac{\nu D}2 \log 2 + \log\Gamma_D(\nu/2) - \tfrac\nu2 \log|S|
                   + \tfrac D2 \log 2\pi - \tfrac D2 \log\kappa,

proper for S positive definite, kappa > 0 and nu > D - 1.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.autodiff.operations import trailing
from svae.families import wishart
from svae.families.arrays import (
    free_root,
    from_free_root,
    matvec,
    outer,
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
    mean: Array, kappa: Array | float, scale: Array, dof: Array | float
) -> NatParams:
    """Return natural parameters of NIW(mean, kappa, scale, dof).

    Parameters
    ----------
    mean : (..., D) array
    kappa : (...) array
        Strength of belief in ``mean``, in observations.
    scale : (..., D, D) array
        S, with E[Sigma] = S / (nu - D - 1).
    dof : (...) array
        nu.  Batch shapes broadcast.

    Returns
    -------
    (..., D, D), (..., D), (...), (...)
    """
    batch = onp.broadcast_shapes(
        onp.shape(mean)[:-1], onp.shape(kappa), onp.shape(scale)[:-2], onp.shape(dof)
    )
    kappa = kappa * onp.ones(batch)
    weighted = kappa[..., None] * mean
    S, nu = wishart.from_standard(scale * onp.ones((*batch, 1, 1)), dof)
    return S + outer(weighted, mean), weighted, kappa, nu


def to_standard(natparams: NatParams) -> NatParams:
    """Return ``mean``, ``kappa``, ``scale`` and ``dof``."""
    mean, kappa, of_precision = _conditional(natparams)
    return mean, kappa, *wishart.to_standard(of_precision)


def log_normalizer(natparams: NatParams) -> Array:
    """Log normalizer, (...)."""
    mean, kappa, of_precision = _conditional(natparams)
    return _log_normalizer(wishart.log_normalizer(of_precision), mean, kappa)


def _log_normalizer(of_precision: Array, mean: Array, kappa: Array) -> Array:
    return of_precision + 0.5 * onp.shape(mean)[-1] * (LOG_2PI - np.log(kappa))


def expected_stats(natparams: NatParams) -> NatParams:
    """Return E[-L/2], E[L mu], E[-mu'L mu/2] and E[log|L|/2], L the precision."""
    mean, kappa, of_precision = _conditional(natparams)
    return _expected_stats(wishart.expected_stats(of_precision), mean, kappa)


def measure(natparams: NatParams) -> tuple[NatParams, Array]:
    """Return what `expected_stats` and `log_normalizer` do, of one factorisation."""
    mean, kappa, of_precision = _conditional(natparams)
    of_precision, log_normalizer = wishart.measure(of_precision)
    stats = _expected_stats(of_precision, mean, kappa)
    return stats, _log_normalizer(log_normalizer, mean, kappa)


def _expected_stats(
    of_precision: tuple[Array, Array], mean: Array, kappa: Array
) -> NatParams:
    J, half_log_det = of_precision
    h = -2.0 * matvec(J, mean)
    spread = onp.shape(mean)[-1] / kappa
    return J, h, -0.5 * ((h * mean).sum(axis=-1) + spread), half_log_det


def stats(x: tuple[Array, Array]) -> NatParams:
    """Return t of x = (mu (..., D), Lambda (..., D, D))."""
    mean, precision = x
    J, half_log_det = wishart.stats(precision)
    h = matvec(precision, mean)
    return J, h, -0.5 * (h * mean).sum(axis=-1), half_log_det


def mean(natparams: NatParams) -> tuple[Array, Array]:
    """Return E[mu] = m (..., D) and E[Lambda] = nu S^-1 (..., D, D).

    The covariance at that point, S / nu, is less than E[Sigma] = S / (nu - D - 1),
    which does not always exist.
    """
    location, _, of_precision = _conditional(natparams)
    return location, wishart.mean(of_precision)


def sample(
    natparams: NatParams, rng: Any, size: int | tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Draw mu (*size, ..., D) and the precision (*size, ..., D, D)."""
    mean, kappa, of_precision = _conditional(natparams)
    rng = onp.random.default_rng(rng)
    root = wishart.sample_root(of_precision, rng, size)
    noise = rng.standard_normal(root.shape[:-1]) / onp.sqrt(kappa)[..., None]
    return mean + matvec(onp.linalg.inv(transpose(root)), noise), root @ transpose(root)


def in_domain(natparams: NatParams) -> bool:
    """Whether every element has S positive definite, kappa > 0 and nu > D - 1."""
    _, weighted, kappa, _ = natparams
    if not (onp.isfinite(kappa) & (kappa > 0)).all():
        return False
    if not onp.isfinite(weighted).all():
        return False
    return wishart.in_domain(_conditional(natparams)[2])


def to_free(stats: NatParams) -> tuple[Array, Array, Array]:
    """Return free coordinates of a message, a statistic or an expected one.

    Returns
    -------
    mean : (..., D)
        Of the Gaussian potential of x.
    root : (..., D, D)
        Its precision, in the coordinates of `svae.families.arrays.free_root`.
    log_weight : (...)
        Log of the integral of the potential over x.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the potential has no integral.
    """
    J, h, quadratic, half_log_det = stats
    root = free_root(-2.0 * J)
    mean = onp.linalg.solve(-2.0 * J, h[..., None])[..., 0]
    _, half = from_free_root(root)
    log_weight = quadratic + half_log_det + 0.5 * (h * mean).sum(axis=-1) - half
    return mean, root, log_weight


def from_free(coordinates: tuple[Array, Array, Array]) -> NatParams:
    """Return the message of free coordinates; see `to_free`."""
    mean, root, log_weight = coordinates
    precision, half_log_det = from_free_root(root)
    h = matvec(precision, mean)
    quadratic = -0.5 * (h * mean).sum(axis=-1)
    return -0.5 * precision, h, quadratic, half_log_det + log_weight


def _conditional(natparams: NatParams) -> tuple[Array, Array, tuple[Array, Array]]:
    """Return m, kappa and the natural parameters (S, nu) of L."""
    second, weighted, kappa, nu = natparams
    mean = weighted / trailing(kappa, 1)
    return mean, kappa, (second - outer(weighted, mean), nu)
