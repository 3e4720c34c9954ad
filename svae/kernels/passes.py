"""The compiled passes over arrays, which refuse masked entries.

The core sees the numbers of an array and no mask, so these would be read as any other.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from svae import _core

__all__ = [
    "adam",
    "exp",
    "gaussian_head",
    "log",
    "logistic",
    "softplus",
    "tanh",
    "tanh_layer",
    "tanh_layer_vjp",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def without_masks(function: Function) -> Function:
    """Return a function that refuses masked entries of its arguments."""

    @wraps(function)
    def checked(*arguments: Any) -> Any:
        for k, argument in enumerate(arguments):
            parts = argument if isinstance(argument, (list, tuple)) else (argument,)
            if any(isinstance(x, np.ma.MaskedArray) and x.mask.any() for x in parts):
                raise ValueError(
                    f"argument {k} of {function.__name__} has masked entries"
                )
        return function(*arguments)

    return cast(Function, checked)


adam = without_masks(_core.adam)
exp = without_masks(_core.exp)
gaussian_head = without_masks(_core.gaussian_head)
log = without_masks(_core.log)
logistic = without_masks(_core.logistic)
softplus = without_masks(_core.softplus)
tanh = without_masks(_core.tanh)
tanh_layer = without_masks(_core.tanh_layer)
tanh_layer_vjp = without_masks(_core.tanh_layer_vjp)
