"""A step of Adam, which is not differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as onp

from svae.kernels import passes
from svae.types import Array

__all__ = ["adam"]


def adam(
    vector: Array | Sequence[Array],
    gradient: Array | Sequence[Array],
    mean: Array,
    square: Array,
    rate: float,
    epsilon: float,
    mean_decay: float,
    square_decay: float,
) -> Array:
    """Take a step of Adam, upwards.

    Parameters
    ----------
    vector, gradient : (P,) array, or sequence of arrays of P entries altogether
    mean, square : (P,)
        Moments of the gradient.
    rate, epsilon : float
        Both with the factors that unbias the moments.
    mean_decay, square_decay : float

    Returns
    -------
    (3, P) array
        The new vector, mean and square.

    Raises
    ------
    FloatingPointError
        If the gradient is not finite.
    """
    new = passes.empty((3, len(mean)))
    is_finite = passes.adam(
        _contiguous(vector),
        _contiguous(gradient),
        mean,
        square,
        rate,
        epsilon,
        mean_decay,
        square_decay,
        *new,
    )
    if not is_finite:
        raise FloatingPointError("the gradient is not finite")
    return new


def _contiguous(parts: Array | Sequence[Array]) -> list[Array]:
    parts = [parts] if isinstance(parts, onp.ndarray) else parts
    return [onp.asarray(x, float, order="C") for x in parts]
