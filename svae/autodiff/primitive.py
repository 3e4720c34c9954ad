"""Autograd's primitives and boxes, without what the package has no use for.

Autograd looks at the arguments of every call for boxes, and for other libraries that
might want to handle the call in its place; of every sum and product it describes both
operands, in case one of them was repeated, or is complex. In a training step on small
arrays that takes longer than the arithmetic. What is decorated here is a primitive of
autograd all the same: its VJP is told by `autograd.extend.defvjp` or `defvjp_argnums`,
its arguments may be boxes of any trace, and a box that it returns can do all that one
of autograd's can. The derivatives are the same numbers.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from autograd.core import primitive_vjps
from autograd.extend import defvjp_argnums
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import box_type_mappings, box_types, trace_primitives_map

from svae.types import VJP

__all__ = ["LeanBox", "boxed", "primitive"]


def primitive(raw: Callable[..., Any]) -> Any:
    """Return a function that is recorded where positional arguments are boxes.

    Parameters
    ----------
    raw : callable
        Of plain arguments; what it returns may be differentiated by a VJP of its own.
    """

    @wraps(raw)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        boxes = [x for x in args if type(x) in box_types]
        if not boxes:
            return raw(*args, **kwargs)
        level = max([box._trace for box in boxes])  # of the innermost trace
        values, argnums, parents = list(args), [], []
        for k, x in enumerate(args):
            if type(x) in box_types and x._trace == level:
                values[k] = x._value
                argnums.append(k)
                parents.append(x._node)
        result = recorded(*values, **kwargs)  # there may be boxes of outer traces
        kind = type(parents[0])
        node = kind(result, recorded, values, kwargs, tuple(argnums), tuple(parents))
        return boxed(result, level, node)

    return recorded


def boxed(value: Any, level: int, node: Any) -> Any:
    """Return the box of a value in a trace.

    Raises
    ------
    TypeError
        If there are no derivatives in values of its type.
    """
    kind = box_type_mappings.get(type(value))
    if kind is None:
        raise TypeError(f"cannot differentiate what is a {type(value).__name__}")
    return (LeanBox if kind is ArrayBox else kind)(value, level, node)


def _operation(ufunc: np.ufunc, *pull_backs: Callable[..., Any]) -> Any:
    """Return a primitive whose operands broadcast.

    Parameters
    ----------
    ufunc : numpy.ufunc
    *pull_backs : callable
        For each operand its cotangent, of ``(g, result, *operands)``.
    """

    @primitive
    def operation(*operands: Any) -> Any:
        return ufunc(*operands)

    def vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> VJP:
        if ans.dtype.kind == "c":  # for which autograd knows what is real
            return _vjp_of_autograd(ufunc)(argnums, ans, args, kwargs)
        return lambda g: [
            _summed(pull_backs[k](g, ans, *args), _shape(args[k])) for k in argnums
        ]

    defvjp_argnums(operation, vjp)
    return operation


def _vjp_of_autograd(ufunc: np.ufunc) -> Any:
    return primitive_vjps[trace_primitives_map[ufunc]]


def _shape(x: Any) -> tuple[int, ...]:
    """Return the shape of an array, a box or a number."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return shape


def _summed(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an operand was repeated."""
    if _shape(g) == shape:
        return g
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, size in enumerate(shape):
        if size == 1 != g.shape[axis]:
            g = g.sum(axis=axis, keepdims=True)
    return g


_add = _operation(np.add, lambda g, z, x, y: g, lambda g, z, x, y: g)
_subtract = _operation(np.subtract, lambda g, z, x, y: g, lambda g, z, x, y: -g)
_multiply = _operation(np.multiply, lambda g, z, x, y: y * g, lambda g, z, x, y: x * g)
_divide = _operation(
    np.divide, lambda g, z, x, y: g / y, lambda g, z, x, y: -g * x / y**2
)
_negative = _operation(np.negative, lambda g, z, x: -g)
_OPERATIONS = {
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.divide: _divide,
    np.negative: _negative,
    np.exp: _operation(np.exp, lambda g, z, x: z * g),
    np.log: _operation(np.log, lambda g, z, x: g / x),
}


@primitive
def _reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """Return an array of another shape."""
    return np.reshape(x, shape)


defvjp_argnums(
    _reshape,
    lambda argnums, ans, args, kwargs: lambda g: [g.reshape(_shape(args[0]))],
)


@primitive
def _total(x: Any, axis: Any, keepdims: bool) -> Any:
    """Return a sum over axes, over all of them for None."""
    return np.asarray(x).sum(axis=axis, keepdims=keepdims)


def _total_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> VJP:
    x, axis, keepdims = args
    shape = _shape(x)
    kept = list(shape)
    for k in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        kept[k] = 1

    def vjp(g: Any) -> list[Any]:
        if _shape(g) and not keepdims:
            g = g.reshape(kept)
        return [g + np.zeros(shape)]

    return vjp


defvjp_argnums(_total, _total_vjp)


class LeanBox(ArrayBox):  # type: ignore[misc]
    """Autograd's box around an array or a number, with a short way to arithmetic."""

    __slots__ = ()

    def __array_ufunc__(
        self, ufunc: Any, method: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Do what NumPy was asked to do, with a box among the operands."""
        if ufunc in _OPERATIONS and method == "__call__" and not kwargs:
            return _OPERATIONS[ufunc](*args)
        return super().__array_ufunc__(ufunc, method, *args, **kwargs)

    def __add__(self, other: Any) -> Any:
        """Return a sum."""
        return _add(self, other)

    def __radd__(self, other: Any) -> Any:
        """Return a sum."""
        return _add(other, self)

    def __sub__(self, other: Any) -> Any:
        """Return a difference."""
        return _subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        """Return a difference."""
        return _subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        """Return a product."""
        return _multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        """Return a product."""
        return _multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        """Return a quotient."""
        return _divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        """Return a quotient."""
        return _divide(other, self)

    def __neg__(self) -> Any:
        """Return the same with the other sign."""
        return _negative(self)

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        """Return an array of another shape."""
        if order != "C":
            return super().reshape(*shape, order=order)
        return _reshape(self, shape if len(shape) > 1 else shape[0])

    def sum(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
    ) -> Any:
        """Return a sum over axes, over all of them by default."""
        if dtype is not None or out is not None:
            return super().sum(axis=axis, dtype=dtype, out=out, keepdims=keepdims)
        return _total(self, axis, keepdims)


LeanBox.register(LeanBox)  # a box may be in another
