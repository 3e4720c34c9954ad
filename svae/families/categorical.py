r"""The categorical: one of K states.

.. math:: t(z) = (e_z), \qquad \eta = (\text{log potentials}), \qquad
          \log Z = \log \sum_k e^{\eta_k},

e_z the one-hot vector, (..., K).  A potential of ``-inf`` forbids its state.
Potentials need not be normalised, so eta is known up to a constant.  The base measure
counts.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.tracer import getval

from svae.families.arrays import draw_shape
from svae.types import Array

__all__ = [
    "expected_stats",
    "from_standard",
    "in_domain",
    "log_normalizer",
    "quantile",
    "sample",
    "stats",
    "to_standard",
]


def from_standard(probs: Array) -> tuple[Array]:
    """Return log potentials of ``probs`` (..., K), ``-inf`` for a probability of 0."""
    with onp.errstate(divide="ignore"):
        return (np.log(probs),)


def to_standard(natparams: tuple[Array]) -> tuple[Array]:
    """Return probabilities, (..., K)."""
    return expected_stats(natparams)


def log_normalizer(natparams: tuple[Array]) -> Array:
    """Log of the sum of exp(potentials), (...)."""
    scaled, top = _scaled_potentials(natparams)
    return top[..., 0] + np.log(np.sum(scaled, axis=-1))


def expected_stats(natparams: tuple[Array]) -> tuple[Array]:
    """Return the probabilities of the states, (..., K)."""
    scaled, _ = _scaled_potentials(natparams)
    return (scaled / np.sum(scaled, axis=-1, keepdims=True),)


def stats(states: Any, num_states: int) -> tuple[Array]:
    """Return the one-hot vectors, (..., K), of integer ``states`` (...)."""
    return (onp.eye(num_states)[states],)


def sample(
    natparams: tuple[Array], rng: Any, size: int | tuple[int, ...] = ()
) -> np.ndarray:
    """Draw states, (*size, ...) int64, by the inverse of the distribution function."""
    shape = draw_shape(size, natparams[0].shape[:-1])
    return quantile(natparams, onp.random.default_rng(rng).random(shape))


def quantile(natparams: tuple[Array], uniforms: Any) -> np.ndarray:
    """Return the states, (...) int64, at values in [0, 1) of distribution functions.

    ``uniforms`` broadcast with the batch (...) of the potentials.
    """
    cumulative = onp.cumsum(expected_stats(natparams)[0], axis=-1)
    # times the last entry, which is 1 up to rounding: the draw is never past it
    scaled = onp.asarray(uniforms)[..., None] * cumulative[..., -1:]
    return onp.sum(scaled >= cumulative, axis=-1)


def in_domain(natparams: tuple[Array]) -> bool:
    """Whether every element allows a state: no NaN, no +inf, not -inf alone."""
    top = onp.max(natparams[0], axis=-1)
    return bool(onp.isfinite(top).all())


def _scaled_potentials(natparams: tuple[Array]) -> tuple[Any, np.ndarray]:
    """Return exp(potentials - top) and the largest potential, a constant shift."""
    (potentials,) = natparams
    top = onp.max(getval(potentials), axis=-1, keepdims=True)
    return np.exp(potentials - top), top
