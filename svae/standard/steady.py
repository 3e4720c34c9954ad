r"""Constant systems whose covariances have stopped to change.

The covariances of a constant system without gaps do not depend on the data, and most
converge. Once a root is, but for rounding, what it was after half as many steps, it
stays what it is; of a sequence that converges geometrically what is left is then far
below rounding. From there on a step costs a product of a matrix and a vector, and all
steps of such a recursion :math:`x_{t+1} = M x_t + g_t` go in stretches side by side,
whose ends are joined afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_not

import numpy as np

from svae.standard.algebra import apply
from svae.types import Array

__all__ = ["EPS", "each", "has_converged", "recursion", "runs"]

EPS = float(np.finfo(float).eps)
FIRST = 16
"""Steps before which nothing is taken for converged."""
EVERY = 8
"""Steps between looks."""


def has_converged(roots: Sequence[Array]) -> bool:
    """Return whether the last root is that of half as many steps, but for rounding.

    Rows are compared with their own lengths, the standard deviations.
    """
    count = len(roots)
    if count < FIRST or count % EVERY:
        return False
    last, before = roots[-1], roots[count // 2 - 1]
    sizes = np.sqrt((last**2).sum(-1, keepdims=True))
    return bool((np.abs(last - before) <= 4 * EPS * sizes).all())


def recursion(M: Array, g: Array, start: Array) -> Array:
    """Return x_0..x_L of x_{t+1} = M x_t + g_t.

    Parameters
    ----------
    M : (D, D) array
        Of powers that do not grow.
    g : (N, L, D) array
    start : (N, D) array
        x_0.

    Returns
    -------
    (N, L + 1, D) array
    """
    N, L, D = g.shape
    size = max(int(np.sqrt(L)), 1)
    count = -(-L // size)
    padded = np.zeros((N, count * size, D))
    padded[:, :L] = g
    stretches = padded.reshape(N, count, size, D)
    x = np.zeros((N, count, size + 1, D))  # as if every stretch started from zero
    powers = np.empty((size + 1, D, D))
    powers[0] = np.eye(D)
    for k in range(size):
        x[:, :, k + 1] = apply(M, x[:, :, k]) + stretches[:, :, k]
        powers[k + 1] = M @ powers[k]
    starts = np.empty((N, count + 1, D))
    starts[:, 0] = start
    for k in range(count):
        starts[:, k + 1] = apply(powers[size], starts[:, k]) + x[:, k, size]
    x[:, :, :size] += apply(powers[:size], starts[:, :count, None])
    found = x[:, :, :size].reshape(N, count * size, D)
    last = starts[:, count:] if L == count * size else found[:, L : L + 1]
    return np.concatenate((found[:, :L], last), 1)


def runs(*columns: Sequence[Array]) -> list[slice]:
    """Return the stretches over which all columns have the same objects."""
    count = len(columns[0])
    changes = np.zeros(max(count - 1, 0), bool)
    for column in columns:
        changes |= np.fromiter(map(is_not, column[1:], column[:-1]), bool, count - 1)
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), count]
    return [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def each(function: Callable[..., Array], *columns: Sequence[Array]) -> list[Array]:
    """Apply a function step by step, once where its arguments are the same objects."""
    found: list[Array] = []
    if len(columns[0]):
        for run in runs(*columns):
            result = function(*(column[run.start] for column in columns))
            found += [result] * (run.stop - run.start)
    return found
