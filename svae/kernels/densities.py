r"""Densities of frames whose variance does not depend on the frame.

A primitive of its own: with a variance (P,) or () in the place of one for each entry,
logarithms and quotients are those of P numbers, and what is left for the entries of a
frame is their squared distance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums
from autograd.tracer import isbox

from svae import _core, reference
from svae.autodiff.primitive import primitive
from svae.autodiff.vjp import by_definition
from svae.types import VJP, Array, Mask

__all__ = ["homoscedastic_log_density"]

LOG_2PI = onp.log(2.0 * onp.pi)


@primitive
def homoscedastic_log_density(
    data: Array, location: Array, variance: Array, observed: Mask | None = None
) -> Array:
    """Return log N(data; location, variance) summed over dimensions, (...).

    Parameters
    ----------
    data : array that broadcasts to ``location``
        Constant, finite.
    location : (..., P) array
    variance : (P,) or () array
        Positive.
    observed : bool array that broadcasts to ``location``, optional
        Which entries count; all by default.
    """
    residual = _residual(data, location, observed)
    if onp.ndim(variance):
        residual *= 1.0 / onp.sqrt(variance)
    squares = onp.einsum("...p,...p->...", residual, residual)
    if not onp.ndim(variance):
        squares = squares / variance
    return -0.5 * (squares + _constants(variance, observed, location))


def _vjp(argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any) -> VJP:
    data, location, variance, observed = (*args, None)[:4]

    def vjp(g: Array) -> list[Array]:
        if any(map(isbox, (g, location, variance))):
            return by_definition(reference.homoscedastic_log_density, argnums, args, g)
        cotangents: dict[int, Any] = {}
        residual = _residual(data, location, observed)
        if 2 in argnums:
            cotangents[2] = _variance_bar(g, ans, residual, variance, observed)
        if 1 in argnums:
            # of -(data - location)^2 / 2 variance
            residual *= 1.0 / variance
            residual *= g[..., None]
            cotangents[1] = residual
        return [cotangents[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(homoscedastic_log_density, _vjp)


def _variance_bar(
    g: Array, ans: Array, residual: Array, variance: Array, observed: Mask | None
) -> Array:
    """Return the cotangent of the variance: that of -(r^2 / v + log v) / 2."""
    if onp.ndim(variance):
        rows = _rows(residual)
        squares = g.reshape(-1) @ (rows * rows)
        counts = _weighted_counts(g, observed, residual)
        return 0.5 * (squares / variance - counts) / variance
    # the sum of squares over the variance is what the density has beside constants
    counts = _counts(observed, residual)
    squares = -2.0 * ans - _constants(variance, observed, residual)
    return 0.5 * onp.sum(g * (squares - counts)) / variance


def _residual(data: Array, location: Array, observed: Mask | None) -> Array:
    """Return ``data - location``, 0 where nothing was observed."""
    # memory that the last step of training had
    residual = _core.empty(_rows(location).shape).reshape(location.shape)
    onp.subtract(data, location, out=residual)
    if observed is not None:
        residual *= observed
    return residual


def _rows(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _constants(variance: Array, observed: Mask | None, frames: Array) -> Array:
    """Return the sum of ``log(2 pi variance)`` over the entries that count."""
    logs = onp.log(variance) + LOG_2PI
    if not onp.ndim(variance):
        return _counts(observed, frames) * logs
    return onp.sum(logs) if observed is None else observed @ logs


def _counts(observed: Mask | None, frames: Array) -> Any:
    """Return how many entries of each frame count."""
    return frames.shape[-1] if observed is None else observed.sum(axis=-1)


def _weighted_counts(g: Array, observed: Mask | None, frames: Array) -> Any:
    """Return the sum of ``g`` over the frames in which each dimension counts, (P,)."""
    if observed is None:
        return onp.sum(g)
    return g.reshape(-1) @ _rows(onp.broadcast_to(observed, frames.shape))
