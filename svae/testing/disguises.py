"""Arrays as callers have them: the same numbers in any guise, and what is no array."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "chance",
    "disguised",
    "negative_definite",
    "numbers",
    "replaced",
    "spoiled",
    "wrong_lengths",
]

Generator = np.random.Generator


def chance(rng: Generator, probability: float) -> bool:
    """Throw a coin."""
    return bool(rng.random() < probability)


def numbers(rng: Generator, *shape: int) -> np.ndarray:
    """Draw normal numbers that float32 holds too."""
    return np.asarray(rng.standard_normal(shape), np.float32).astype(float)


def negative_definite(rng: Generator, *shape: int) -> np.ndarray:
    """Draw negative definite matrices (..., D, D), which need not be symmetric."""
    root = numbers(rng, *shape, shape[-1]) / np.sqrt(shape[-1])
    J = -0.3 * root @ np.swapaxes(root, -1, -2) - 0.6 * np.eye(shape[-1])
    if chance(rng, 0.3):
        J = J + root - np.swapaxes(root, -1, -2)
    return J.astype(np.float32).astype(float)


class Derived(np.ndarray):
    """An array of a class of a caller's own."""


def backwards(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return a view with negative strides in some axes."""
    axes = tuple(np.flatnonzero(rng.random(x.ndim) < 0.5).tolist())
    return np.flip(np.flip(x, axes).copy(), axes)


def spread(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return a view with gaps in some axes, which hold NaN."""
    if x.ndim == 0:
        return x
    steps = rng.integers(1, 3, x.ndim)
    wide = np.full([n * step for n, step in zip(x.shape, steps, strict=True)], np.nan)
    view = wide[tuple(slice(None, None, step) for step in steps)]
    view[...] = x
    return view


def askew(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return an array that begins at no multiple of eight bytes."""
    offset = int(rng.integers(1, 8))
    memory = np.zeros(x.nbytes + 8, np.uint8)[offset : offset + x.nbytes]
    view = memory.view(np.float64).reshape(x.shape)
    view[...] = x
    return view


def of_records(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return a field of records, whose strides are no multiples of eight."""
    records = np.zeros(x.shape, [("flag", np.int8), ("x", np.float64)])
    records["x"] = x
    return records["x"]


def transposed(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return an array whose axes lie in another order in memory."""
    order = rng.permutation(x.ndim)
    return x.transpose(order).copy().transpose(np.argsort(order))


def repeated(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return a view of strides of zero, where that holds the same numbers."""
    same = np.broadcast_to(x[:1], x.shape) if x.ndim and x.shape[0] else x
    return same if np.array_equal(x, same, equal_nan=True) else x


def read_only(x: np.ndarray, rng: Generator) -> np.ndarray:
    """Return an array that may not be written to."""
    x = x.copy()
    x.flags.writeable = False
    return x


Guise = Callable[[np.ndarray, Generator], Any]
GUISES: tuple[Guise, ...] = (
    *(backwards, spread, askew, of_records, transposed, repeated, read_only),
    lambda x, rng: x.tolist() if x.size else x,
    lambda x, rng: x.astype(np.float32) if _fits(x, np.float32) else x,
    lambda x, rng: x.astype(np.longdouble),
    lambda x, rng: x.astype(">f8"),
    lambda x, rng: x.view(Derived),
    lambda x, rng: np.ma.array(x),
)


def _fits(x: np.ndarray, dtype: Any) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(x.astype(dtype).astype(float), x, equal_nan=True)


def disguised(x: np.ndarray, rng: Generator) -> Any:
    """Return what holds the same numbers in another way, or, often, the array."""
    return x if chance(rng, 0.4) else GUISES[rng.integers(len(GUISES))](x, rng)


def other_shape(x: np.ndarray, rng: Generator) -> Any:
    """Return an array of another shape: an axis more or less, or longer or shorter."""
    kind, axis = rng.integers(5), int(rng.integers(max(x.ndim, 1)))
    if kind == 0 or x.ndim == 0:
        return x[None]
    if kind == 1:
        return x.sum(axis)
    if kind == 2:
        return np.concatenate([x, x[(slice(None),) * axis + (slice(0, 1),)]], axis)
    stop = (0, 1)[kind - 3]
    return x[(slice(None),) * axis + (slice(0, stop),)]


def with_value(x: np.ndarray, rng: Generator) -> Any:
    """Return an array with an entry that is no number, or is a very large one."""
    if not x.size:
        return x
    x = np.array(x)
    values = [np.nan, np.inf, -np.inf, 1e308, -1e308, 1e200, -1e200]
    x[tuple(rng.integers(x.shape))] = rng.choice(values)
    return x


def masked(x: np.ndarray, rng: Generator) -> Any:
    """Return an array with an entry masked."""
    if not x.size:
        return x
    mask = np.zeros(x.shape, bool)
    mask[tuple(rng.integers(x.shape))] = True  # an index of none is of the whole
    return np.ma.array(x, mask=mask)


SPOILS: tuple[Guise, ...] = (
    *(other_shape, other_shape, other_shape, with_value, with_value, masked),
    lambda x, rng: x + 1j,
    lambda x, rng: x.astype(object),
    lambda x, rng: x.astype(str),
    lambda x, rng: None,
    lambda x, rng: 3,
    lambda x, rng: "three",
    lambda x, rng: [[1.0], [1.0, 2.0]],
    lambda x, rng: [x, [x]],
)


def spoiled(x: np.ndarray, rng: Generator) -> Any:
    """Return what is probably no argument any more."""
    with np.errstate(all="ignore"):
        return SPOILS[rng.integers(len(SPOILS))](x, rng)


def wrong_lengths(lengths: np.ndarray, rng: Generator) -> Any:
    """Return what are no lengths."""
    n = rng.integers(max(len(lengths), 1))
    other = lengths.copy()
    if len(lengths):
        other[n] = rng.choice([0, -1, 10**6, 2**62])
    choices = [
        *(other, lengths[:-1], lengths[None], np.append(lengths, 1), lengths + 0.5),
        *([[1], [1, 2]], "three", 3, lengths.astype(str), lengths.astype(object)),
        np.ma.array(lengths, mask=np.arange(len(lengths)) == n),
    ]
    return choices[rng.integers(len(choices))]


def replaced(tree: Any, place: Sequence[int], value: Any) -> Any:
    """Return nested tuples with another value at a place."""
    if not place:
        return value
    parts = list(tree)
    parts[place[0]] = replaced(parts[place[0]], place[1:], value)
    return tuple(parts)
