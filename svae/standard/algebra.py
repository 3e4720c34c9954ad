"""Matrices (..., M, D) and vectors (..., D), under autograd or not.

Methods of arrays, which plain arrays have without a detour through autograd.
"""

from __future__ import annotations

import autograd.numpy as np

from svae.types import Array

__all__ = ["apply", "log_det_of_root", "outer", "square", "transpose"]


def transpose(x: Array) -> Array:
    """Return matrices transposed."""
    return x.swapaxes(-1, -2)


def apply(matrix: Array, vector: Array) -> Array:
    """Return products of matrices and vectors, the same for one as for many.

    A product of BLAS may depend on how many there are.
    """
    return (matrix * vector[..., None, :]).sum(-1)


def outer(x: Array, y: Array) -> Array:
    """Return outer products of vectors."""
    return x[..., :, None] * y[..., None, :]


def square(root: Array) -> Array:
    """Return the matrices that these are roots of."""
    return root @ transpose(root)


def log_det_of_root(root: Array) -> Array:
    """Return sums of the logs of diagonals."""
    return np.sum(np.log(np.diagonal(root, axis1=-1, axis2=-2)), -1)
