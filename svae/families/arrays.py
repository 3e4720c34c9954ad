"""What the families share: symmetric matrices in batches, and the shape of draws.

Matrices are (..., D, D).  Only their symmetric part counts, which also makes their
cotangents symmetric.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp
from autograd.tracer import isbox

from svae.autodiff.primitive import primitive
from svae.types import Array

__all__ = [
    "draw_shape",
    "free_root",
    "from_free_root",
    "inverse",
    "inverse_and_log_det",
    "inverse_root",
    "is_positive_definite",
    "log_det",
    "matvec",
    "outer",
    "symmetric",
    "transpose",
]


def transpose(matrix: Array) -> Array:
    """Swap the last two axes."""
    return matrix.swapaxes(-1, -2)


def symmetric(matrix: Array) -> Array:
    """Return the symmetric part of (..., D, D)."""
    return 0.5 * (matrix + transpose(matrix))


def outer(left: Any, right: Any) -> Array:
    """Return ``left right'``, (..., D, E), of vectors (..., D) and (..., E)."""
    return left[..., :, None] * right[..., None, :]


def matvec(matrix: Array, vector: Array) -> Array:
    """Multiply (..., D, E) by (..., E)."""
    return (matrix @ vector[..., None])[..., 0]


def inverse_and_log_det(matrix: Array) -> tuple[Array, Array]:
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
    if isbox(matrix):
        return inverse(matrix), log_det(matrix)
    factor = onp.linalg.cholesky(matrix)
    return _inverse_of_square(factor), _log_det_of_square(factor)


def inverse_root(matrix: Array) -> Array:
    """Return the lower Cholesky factor of the inverse of positive definite matrices.

    Without the inverse: where ``matrix`` is UU' with U upper triangular, which is a
    Cholesky factor with rows and columns in reverse order, the factor is U^-T.

    Parameters
    ----------
    matrix : (..., D, D) symmetric array

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite.
    """
    upper = onp.linalg.cholesky(matrix[..., ::-1, ::-1])[..., ::-1, ::-1]
    return onp.linalg.inv(onp.swapaxes(upper, -1, -2))


@primitive
def inverse(matrix: Array) -> Array:
    """Invert positive definite matrices; see `inverse_and_log_det`."""
    return _inverse_of_square(onp.linalg.cholesky(matrix))


@primitive
def log_det(matrix: Array) -> Array:
    """Return log determinants of positive definite matrices, (...)."""
    return _log_det_of_square(onp.linalg.cholesky(matrix))


def _inverse_of_square(factor: onp.ndarray) -> onp.ndarray:
    """Return the inverse of LL' for L = ``factor``."""
    root = onp.linalg.inv(factor)
    return root.swapaxes(-1, -2) @ root


def _log_det_of_square(factor: onp.ndarray) -> onp.ndarray:
    """Return the log determinant of LL' for L = ``factor``."""
    pivots = factor.diagonal(axis1=-2, axis2=-1)
    return 2.0 * onp.log(pivots).sum(axis=-1)


# d inv(M) = -inv(M) dM inv(M) and d log|M| = tr(inv(M) dM), M symmetric
defvjp(
    inverse,
    lambda ans, matrix: lambda g: -np.matmul(ans, np.matmul(symmetric(g), ans)),
)


defvjp(
    log_det,
    lambda ans, matrix: lambda g: g[..., None, None] * inverse(matrix),
)


def is_positive_definite(matrix: Array) -> bool:
    """Whether every matrix of (..., D, D) is finite and has a Cholesky factor."""
    if not onp.isfinite(matrix).all():
        return False
    try:
        onp.linalg.cholesky(matrix)
    except onp.linalg.LinAlgError:
        return False
    return True


def free_root(matrix: Array) -> Array:
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


def from_free_root(root: Array) -> tuple[Array, Array]:
    """Return the matrix of coordinates, and half its log determinant (...).

    Any (..., D, D) will do; what is above the diagonal has no influence.
    """
    identity = onp.eye(root.shape[-1])
    logs = (identity * root).sum(axis=-1)
    below = onp.tril(onp.ones(identity.shape), -1)
    factor = below * root + identity * onp.exp(logs)[..., None]
    return np.matmul(factor, transpose(factor)), logs.sum(axis=-1)


def draw_shape(size: int | tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of ``size`` draws of arrays of ``shape``."""
    return (*size, *shape) if isinstance(size, tuple) else (size, *shape)
