"""What the families share: symmetric matrices in batches, and the shape of draws.

Matrices are (..., D, D).  Only their symmetric part counts, which also makes their
cotangents symmetric.
"""

import math
from itertools import accumulate
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, defvjp_argnums, primitive

from svae.primitives import value_of

__all__ = [
    "cut",
    "draw_shape",
    "free_root",
    "from_free_root",
    "inverse_and_log_det",
    "is_positive_definite",
    "joined",
    "log_det",
    "matvec",
    "outer",
    "symmetric",
    "transpose",
]


def transpose(matrix: Any) -> Any:
    """Swap the last two axes."""
    return np.swapaxes(matrix, -1, -2)


def symmetric(matrix: Any) -> Any:
    """Return the symmetric part of (..., D, D)."""
    return 0.5 * (matrix + transpose(matrix))


def outer(left: Any, right: Any) -> Any:
    """Return ``left right'``, (..., D, E), of vectors (..., D) and (..., E)."""
    return left[..., :, None] * right[..., None, :]


def matvec(matrix: Any, vector: Any) -> Any:
    """Multiply (..., D, E) by (..., E)."""
    return np.matmul(matrix, vector[..., None])[..., 0]


@primitive
def inverse_and_log_det(matrix: Any) -> tuple[Any, Any]:
    """Invert a positive definite matrix by its Cholesky factor.

    Parameters
    ----------
    matrix : (..., D, D) symmetric array

    Returns
    -------
    inverse : (..., D, D)
    log_det : (...), log determinant of ``matrix``

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    factor = onp.linalg.cholesky(matrix)
    root = onp.linalg.inv(factor)
    return onp.swapaxes(root, -1, -2) @ root, _log_det_of_square(factor)


@primitive
def log_det(matrix: Any) -> Any:
    """Log determinant (...) of positive definite matrices (..., D, D).

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    return _log_det_of_square(onp.linalg.cholesky(matrix))


def _log_det_of_square(factor: onp.ndarray) -> onp.ndarray:
    pivots = onp.diagonal(factor, axis1=-2, axis2=-1)
    return 2.0 * onp.log(pivots).sum(axis=-1)


def _of_log_det(inverse: Any, log_det_bar: Any) -> Any:
    return np.reshape(log_det_bar, (*onp.shape(log_det_bar), 1, 1)) * inverse


# d A^-1 = -A^-1 dA A^-1  and  d log|A| = <A^-1, dA>, of symmetric matrices
defvjp(
    inverse_and_log_det,
    lambda ans, matrix: (
        lambda g: _of_log_det(ans[0], g[1]) - np.matmul(ans[0], np.matmul(g[0], ans[0]))
    ),
)
defvjp(
    log_det,
    lambda ans, matrix: lambda g: _of_log_det(inverse_and_log_det(matrix)[0], g),
)


def is_positive_definite(matrix: Any) -> bool:
    """Whether every matrix of (..., D, D) is finite and has a Cholesky factor."""
    if not onp.isfinite(matrix).all():
        return False
    try:
        onp.linalg.cholesky(matrix)
    except onp.linalg.LinAlgError:
        return False
    return True


def free_root(matrix: Any) -> Any:
    """Return unconstrained coordinates (..., D, D) of positive definite matrices.

    The lower Cholesky factor, with the logarithms of its diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    factor = onp.linalg.cholesky(matrix)
    identity = onp.eye(factor.shape[-1])
    logs = onp.log(onp.diagonal(factor, axis1=-2, axis2=-1))
    return onp.where(identity, logs[..., None], factor)


def from_free_root(root: Any) -> tuple[Any, Any]:
    """Return the matrix of coordinates, and half its log determinant (...).

    Any (..., D, D) will do; what is above the diagonal has no influence.
    """
    identity = onp.eye(root.shape[-1])
    logs = np.sum(identity * root, axis=-1)
    below = onp.tril(onp.ones(identity.shape), -1)
    factor = below * root + identity * np.exp(logs)[..., None]
    return np.matmul(factor, transpose(factor)), np.sum(logs, axis=-1)


@primitive
def cut(array: Any, axis: int, start: int, stop: int) -> Any:
    """Return a stretch along an axis, counted from the last if negative.

    What autograd does for a slice, it adds to zeros by index, is ten times as slow.
    """
    return array[_stretch(array, axis, start, stop)]


@primitive
def _spread(stretch: Any, shape: tuple[int, ...], where: tuple[Any, ...]) -> Any:
    array = onp.zeros(shape)
    array[where] = stretch
    return array


def _stretch(array: Any, axis: int, start: int, stop: int) -> tuple[Any, ...]:
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
def joined(axes: int, *parts: Any) -> Any:
    """Line up arrays of the same first ``axes`` behind these, each as one row (..., F).

    One node in a trace, where every reshape and their concatenation would be others.
    """
    rows = [onp.reshape(x, (*x.shape[:axes], math.prod(x.shape[axes:]))) for x in parts]
    return onp.concatenate(rows, axis=-1)


def _joined_vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Any:
    axes, *parts = args
    shapes = [onp.shape(value_of(x)) for x in parts]
    edges = [0, *accumulate(math.prod(shape[axes:]) for shape in shapes)]

    def pull_back(g: Any) -> Any:
        return [
            np.reshape(cut(g, -1, edges[n - 1], edges[n]), shapes[n - 1])
            for n in argnums
        ]

    return pull_back


defvjp_argnums(joined, _joined_vjp)


def draw_shape(size: int | tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of ``size`` draws of arrays of ``shape``."""
    return (*size, *shape) if isinstance(size, tuple) else (size, *shape)
