"""Passes of the core over arrays, without derivatives: what the layers are built from.

They take contiguous, aligned arrays of float64, and some write to their arguments:
`svae/_core.pyi` has the shapes. Nothing outside of this room calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as onp

from svae import _core

__all__ = [
    "adam",
    "empty",
    "exp",
    "gaussian_head",
    "log",
    "logistic",
    "softplus",
    "tanh",
    "tanh_layer",
    "tanh_layer_vjp",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _without_masks(function: _Function) -> _Function:
    """Refuse masked entries, which the core does not see."""

    @wraps(function)
    def checked(*arguments: Any) -> Any:
        for k, argument in enumerate(arguments):
            if type(argument) is onp.ndarray:  # as nearly all are, and steps are short
                continue
            parts = argument if type(argument) in (list, tuple) else (argument,)
            for x in parts:
                if type(x) is not onp.ndarray and onp.ma.is_masked(x):
                    name = function.__name__
                    raise ValueError(f"argument {k} of {name} has masked entries")
        return function(*arguments)

    return cast(_Function, checked)


adam = _without_masks(_core.adam)
empty = _core.empty
exp = _without_masks(_core.exp)
gaussian_head = _without_masks(_core.gaussian_head)
log = _without_masks(_core.log)
logistic = _without_masks(_core.logistic)
softplus = _without_masks(_core.softplus)
tanh = _without_masks(_core.tanh)
tanh_layer = _without_masks(_core.tanh_layer)
tanh_layer_vjp = _without_masks(_core.tanh_layer_vjp)
