"""Potentials of Gaussian chains: as rows of numbers, and as a chain takes them.

A row holds what multiplies the features of x, ``(J, h)`` or ``(J11, J12, J22)`` and,
for affine dynamics, the linear terms of either end of a pair; its constant stands
beside it.  Rows can be mixed by probabilities of states, and be multiplied by features,
in one matrix product.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp

from svae import kernels
from svae.autodiff.operations import cut, joined, multiply
from svae.autodiff.primitive import primitive
from svae.errors import NotPositiveDefinite
from svae.families import gaussian
from svae.families.arrays import outer
from svae.models.base import LOG_2PI
from svae.models.evidence import Belief, where_given
from svae.types import Array

__all__ = [
    "begin",
    "dense",
    "each_sequence",
    "gaussian_natparams",
    "independent",
    "log_normalizer_of",
    "mixed",
    "moments",
    "pair_natparams",
    "shift",
    "split",
    "split_pair",
]


def gaussian_natparams(stats: Any) -> tuple[Any, Any]:
    """Return P (..., K, D D + D) and c (..., K) of NIW statistics."""
    J, h, quadratic, half_log_det = stats
    constant = quadratic + half_log_det - 0.5 * h.shape[-1] * LOG_2PI
    return joined(h.ndim - 1, J, h), constant


def pair_natparams(stats: Any, dim: int) -> tuple[Any, Any]:
    """Return P (..., K, 3 D D or 3 D D + 2 D) and c (..., K) of MNIW statistics.

    Of affine dynamics, x' = A x + b + noise, the statistics are those of [A b] and of
    [x; 1]: the last row and column of J11 and the last row of J12 belong to b.
    """
    J11, J12, J22, half_log_det = stats
    constant = half_log_det - 0.5 * dim * LOG_2PI
    if J11.shape[-1] == dim:
        return joined(J22.ndim - 2, J11, J12, J22), constant
    blocks = [J11[..., :dim, :dim], J12[..., :dim, :], J22]
    # from both halves of the symmetric J11, so that its cotangent is symmetric too
    blocks += [J11[..., :dim, dim] + J11[..., dim, :dim], J12[..., dim, :]]
    return joined(J22.ndim - 2, *blocks), constant + J11[..., dim, dim]


def split(potentials: Array, dim: int) -> tuple[Any, Any]:
    """Cut (..., D D + D) into J (..., D, D) and h (..., D)."""
    size = dim**2
    J = cut(potentials, -1, 0, size).reshape(*potentials.shape[:-1], dim, dim)
    return J, cut(potentials, -1, size, size + dim)


def split_pair(potentials: Array, dim: int) -> tuple[Any, Any]:
    """Cut the potentials of pairs into (J11, J12, J22) and, if affine, (h1, h2)."""
    size, shape = dim**2, (*potentials.shape[:-1], dim, dim)
    pair = tuple(
        cut(potentials, -1, k * size, (k + 1) * size).reshape(shape) for k in range(3)
    )
    if (width := potentials.shape[-1]) == 3 * size:
        return pair, None
    h1 = cut(potentials, -1, 3 * size, 3 * size + dim)
    return pair, (h1, cut(potentials, -1, width - dim, width))


def shift(h: Array, shifts: Any) -> Array:
    """Add the linear terms of pairs, (N, T-1, D) for either end, to those of nodes."""
    if shifts is None:
        return h
    nothing = onp.zeros((len(h), 1, h.shape[-1]))
    of_left, of_right = shifts
    return (
        h
        + np.concatenate([of_left, nothing], axis=1)
        + np.concatenate([nothing, of_right], axis=1)
    )


def begin(init: Any, belief: Belief | None) -> Any:
    """Return the initial potentials of x, those of a belief where there is one."""
    if belief is None:
        return init
    J, h = init
    return where_given(belief, belief.J, J), where_given(belief, belief.h, h)


def log_normalizer_of(belief: Belief | None) -> Array | float:
    """Log normalizer (N,) of the beliefs about x that are given; 0 elsewhere."""
    if belief is None:
        return 0.0
    logZ = gaussian.log_normalizer((belief.J, belief.h))
    return onp.where(belief.given, logZ, 0.0)


def moments(J: Array, h: Array) -> tuple[Any, Any]:
    """Return covariances and means of independent Gaussians (..., D, D), (..., D)."""
    _, second_moment, mean, _ = independent(J, h)
    return second_moment - outer(mean, mean), mean


def independent(
    J: Array, h: Array, noise: Array | None = None
) -> tuple[Any, Any, Any, Any]:
    """Log normalizers (...), second moments and means of independent Gaussians.

    And S samples of each, (S, ..., D) like the noise that makes them.
    """
    shape, dim = h.shape[:-1], h.shape[-1]
    nothing = onp.zeros((dim, dim))
    node = J.reshape(-1, 1, dim, dim), h.reshape(-1, 1, dim)
    if noise is not None:
        noise = onp.swapaxes(noise.reshape(len(noise), -1, 1, dim), 0, 1)
    try:
        chain: Any = kernels.gaussian_chain(
            (nothing, nothing[0]), (nothing,) * 3, node, noise
        )
    except NotPositiveDefinite as error:
        sequence, *steps = onp.unravel_index(error.sequence, shape)
        raise NotPositiveDefinite(int(sequence), int(*steps[:1])) from None
    logZ, stats, samples = chain
    second_moment, mean = stats[2]
    if noise is not None:
        samples = np.reshape(np.swapaxes(samples, 0, 1), (-1, *shape, dim))
    return (
        logZ.reshape(shape),
        second_moment.reshape(*shape, dim, dim),
        mean.reshape(*shape, dim),
        samples,
    )


def each_sequence(
    potential: Array, valid: onp.ndarray, per_step: bool = False
) -> Array:
    """Repeat a potential (...), shared by N sequences, to (N, ...).

    Or, to what all steps of a sequence share, (N, 1, ...).
    """
    return _repeated(potential, (len(valid), 1) if per_step else (len(valid),))


@primitive
def _repeated(potential: Array, outer: tuple[int, ...]) -> Array:
    return onp.broadcast_to(potential, (*outer, *potential.shape))


defvjp(
    _repeated,
    lambda ans, potential, outer: lambda g: g.sum(axis=tuple(range(len(outer)))),
)


def dense(J: Array) -> Array:
    """Return node potentials (N, T, D) as matrices (N, T, D, D)."""
    return J if J.ndim == 4 else J[..., None] * onp.eye(J.shape[-1])


def mixed(weights: Array, parts: Any) -> tuple[Any, ...]:
    """Mix parts (K, ...) of rows by weights (..., K).

    Of whole rows that are cut afterwards, reverse mode would add up large arrays.
    """

    def mix(part: Any) -> Array:
        rows = part.reshape(len(part), -1)
        shape = (*weights.shape[:-1], *part.shape[1:])
        return multiply(weights, rows).reshape(shape)

    return tuple(mix(part) for part in parts)
