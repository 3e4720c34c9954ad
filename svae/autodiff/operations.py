"""Array operations that autograd lacks, each one node of its graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, defvjp_argnums
from autograd.tracer import box_types

from svae.autodiff.primitive import primitive
from svae.types import VJP, Array

__all__ = [
    "combination",
    "cut",
    "inner",
    "joined",
    "multiply",
    "per_sequence",
    "trailing",
    "value_of",
]


def value_of(x: Array) -> Any:
    """Return the NumPy array inside of any number of boxes."""
    value: Any = x
    while type(value) in box_types:
        value = value._value
    return value


def per_sequence(scale: Array, x: Array) -> Array:
    """Multiply the rows of (N, ...) by (N,)."""
    return scale.reshape((-1,) + (1,) * (x.ndim - 1)) * x


@primitive
def trailing(x: Any, axes: int) -> Array:
    """Return an array with that many axes of length 1 behind its own."""
    return onp.reshape(x, onp.shape(x) + (1,) * axes)


defvjp(trailing, lambda ans, x, axes: lambda g: g.reshape(onp.shape(x)))


@primitive
def cut(array: Array, axis: int, start: int, stop: int) -> Array:
    """Return a stretch along an axis, counted from the last if negative.

    What autograd does for a slice, it adds to zeros by index, is ten times as slow.
    """
    return array[_stretch(array, axis, start, stop)]


@primitive
def _spread(stretch: Array, shape: tuple[int, ...], where: tuple[Any, ...]) -> Array:
    array = onp.zeros(shape)
    array[where] = stretch
    return array


def _stretch(array: Array, axis: int, start: int, stop: int) -> tuple[Any, ...]:
    everything = [slice(None)] * array.ndim
    everything[axis] = slice(start, stop)
    return tuple(everything)


defvjp(
    cut,
    lambda ans, array, axis, start, stop: (
        lambda g: _spread(g, array.shape, _stretch(array, axis, start, stop))
    ),
)


defvjp(_spread, lambda ans, stretch, shape, where: lambda g: g[where])


@primitive
def joined(axes: int, *parts: Any) -> Array:
    """Line up arrays of the same first ``axes`` behind these, each as one row (..., F).

    One node in a trace, where every reshape and their concatenation would be others.
    """
    rows = [onp.reshape(x, (*x.shape[:axes], math.prod(x.shape[axes:]))) for x in parts]
    return onp.concatenate(rows, axis=-1)


def _joined_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> VJP:
    axes, *parts = args
    shapes = [onp.shape(value_of(x)) for x in parts]
    edges = [0, *accumulate(math.prod(shape[axes:]) for shape in shapes)]

    def pull_back(g: Array) -> list[Array]:
        return [
            cut(g, -1, edges[n - 1], edges[n]).reshape(shapes[n - 1]) for n in argnums
        ]

    return pull_back


defvjp_argnums(joined, _joined_vjp)


@primitive
def inner(potential: Array, statistic: Array, *others: Array) -> Array:
    """Inner product over all axes but the first; of several pairs the sum."""
    number = len(potential)
    product = onp.einsum(
        "nk,nk->n", potential.reshape(number, -1), statistic.reshape(number, -1)
    )
    return product + inner(*others) if others else product


@primitive
def combination(beside: Any, counts: Any, *numbers: Any) -> Array:
    """Sum numbers, each times its counts (N,), and what is ``beside``, (N,)."""
    return sum((c * x for c, x in zip(counts, numbers, strict=True)), beside)


defvjp_argnums(
    inner,
    lambda argnums, ans, args, kwargs: (
        # of either of a pair, the other one
        lambda g: [per_sequence(g, args[argnum ^ 1]) for argnum in argnums]
    ),
)


defvjp_argnums(
    combination,
    lambda argnums, ans, args, kwargs: (
        lambda g: [(args[1][argnum - 2] * g).sum() for argnum in argnums]
    ),
)


@primitive
def multiply(left: Array, right: Array) -> Array:
    """Multiply (..., M) by (M, N): one matrix product, of many rows and few columns.

    As its transpose, and so in the VJP: BLAS takes up to five times as long for a tall
    matrix on the left.
    """
    rows = left.reshape(-1, left.shape[-1])
    product = onp.dot(right.T, rows.T).T
    return product.reshape(*left.shape[:-1], right.shape[-1])


def _multiply_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> VJP:
    left, right = args

    def pull_back(g: Array) -> list[Array]:
        rows, of_rows = left.reshape(-1, left.shape[-1]), g.reshape(-1, g.shape[-1])
        cotangents = {
            0: lambda: np.dot(of_rows, right.T).reshape(left.shape),
            1: lambda: np.dot(of_rows.T, rows).T,
        }
        return [cotangents[argnum]() for argnum in argnums]

    return pull_back


defvjp_argnums(multiply, _multiply_vjp)
