r"""The Dirichlet, over probabilities pi of K states.

.. math:: t(\pi) = (\log \pi), \qquad \eta = (\alpha - 1), \qquad
          \log Z = \sum_k \log\Gamma(\alpha_k) - \log\Gamma\big(\sum_k \alpha_k\big),

all (..., K).  The base measure is Lebesgue's on the first K - 1 entries of pi.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.autodiff.special import digamma, gammaln
from svae.families.arrays import draw_shape
from svae.types import Array

__all__ = [
    "expected_stats",
    "from_free",
    "from_standard",
    "in_domain",
    "log_normalizer",
    "mean",
    "sample",
    "stats",
    "to_free",
    "to_standard",
]


def from_standard(alpha: Array) -> tuple[Array]:
    """Return ``alpha - 1`` of concentrations ``alpha`` (..., K)."""
    return (alpha - 1.0,)


def to_standard(natparams: tuple[Array]) -> tuple[Array]:
    """Return the concentrations ``alpha``, (..., K)."""
    return (natparams[0] + 1.0,)


def log_normalizer(natparams: tuple[Array]) -> Array:
    """Log of the multivariate beta function of alpha, (...)."""
    (alpha,) = to_standard(natparams)
    return gammaln(alpha).sum(axis=-1) - gammaln(alpha.sum(axis=-1))


def expected_stats(natparams: tuple[Array]) -> tuple[Array]:
    """Return E[log pi], (..., K)."""
    (alpha,) = to_standard(natparams)
    return (digamma(alpha) - digamma(alpha.sum(axis=-1, keepdims=True)),)


def stats(probs: Array) -> tuple[Array]:
    """Return log pi, (..., K); ``-inf`` where a probability underflowed."""
    with onp.errstate(divide="ignore"):
        return (np.log(probs),)


def mean(natparams: tuple[Array]) -> Array:
    """Return E[pi], (..., K): concentrations over their sum."""
    (alpha,) = to_standard(natparams)
    return alpha / np.sum(alpha, axis=-1, keepdims=True)


def sample(
    natparams: tuple[Array], rng: Any, size: int | tuple[int, ...] = ()
) -> np.ndarray:
    """Draw pi, (*size, ..., K)."""
    (alpha,) = to_standard(natparams)
    rng = onp.random.default_rng(rng)
    shape = draw_shape(size, alpha.shape)
    # log of a Gamma(alpha) draw; the draw itself underflows for small alpha:
    # Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha)
    logs = onp.log(rng.standard_gamma(alpha + 1.0, shape))
    logs -= rng.standard_exponential(shape) / alpha
    probs = onp.exp(logs - onp.max(logs, axis=-1, keepdims=True))
    return probs / onp.sum(probs, axis=-1, keepdims=True)


def in_domain(natparams: tuple[Array]) -> bool:
    """Whether every concentration is positive and finite."""
    (alpha,) = to_standard(natparams)
    return bool((onp.isfinite(alpha) & (alpha > 0)).all())


def to_free(stats: tuple[Array]) -> tuple[Array]:
    """Return free coordinates of a message: log potentials (..., K), themselves."""
    return stats


def from_free(coordinates: tuple[Array]) -> tuple[Array]:
    """Return the message of free coordinates; see `to_free`."""
    return coordinates
