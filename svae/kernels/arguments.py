"""Arguments of the kernels: converted once, and refused by name when malformed.

Potentials go to the core per sequence, with a time axis of length 1 for those that all
pairs share. Shapes are those of `value_of` an argument: a box looks its own up through
autograd. Whatever an argument holds past the length of a sequence is not looked at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.tracer import isbox

from svae import _core
from svae.autodiff.operations import value_of
from svae.errors import overflow
from svae.types import Array, Integers, Mask

_FLOAT64 = onp.dtype(onp.float64)
LARGEST = float(onp.finfo(float).max)
"""Of what is no infinity."""

LARGEST_LOG_POTENTIAL = 1e300
"""Sums of log potentials along a path, and their differences, pass 1.8e308 if the
potentials may be greater; and nothing that is possible has one."""


def require_init(
    name: str,
    x: Array,
    lengths: Integers,
    event: tuple[int, ...],
    finite: bool,
    *,
    log: bool = False,
) -> None:
    """Refuse a malformed potential of the first step, (*event) or (N, *event).

    ``finite`` says that its numbers are known to be right, here and below.
    """
    require_shape(name, x, event, (len(lengths), *event))
    if not finite:
        require_finite(name, x, lengths, log=log)


def require_pair(
    name: str,
    x: Array,
    lengths: Integers,
    num_timesteps: int,
    event: tuple[int, ...],
    finite: bool,
    *,
    log: bool = False,
) -> None:
    """Refuse a malformed potential of the pairs, (*event) or (1|N, 1|T-1, *event)."""
    N, pairs = len(lengths), num_timesteps - 1
    if value_of(x).shape != event:
        leads = [(), (N, pairs), (N, 1), (1, pairs), (1, 1)]
        require_shape(name, x, *((*lead, *event) for lead in leads))
        if not finite:
            steps = onp.arange(1, num_timesteps)
            require_finite(name, x, lengths, steps, log=log)
    elif not finite and (lengths > 1).any():  # else there is no pair that reads it
        require_finite(name, x, lengths, log=log)


def require_node(
    name: str, x: Array, lengths: Integers, finite: bool, *, log: bool = False
) -> None:
    """Refuse what is no number in a potential of the nodes, (N, T, *event)."""
    if not finite:
        require_finite(name, x, lengths, onp.arange(x.shape[1]), log=log)


def warn_of_probabilities(name: str, x: Array, event_ndim: int) -> None:
    """Warn of log potentials (..., K) that look like probabilities.

    Looks at the first event only: not negative, and rows sum to one.
    """
    values = value_of(x)
    if values.size == 0 or values.shape[-1] == 1:
        return
    first = values[(0,) * (values.ndim - event_ndim)]
    if first.item(0) < 0:  # as nearly all are: a single look
        return
    within = first.min() >= 0 and first.max() <= 1
    if within and (abs(first.sum(axis=-1) - 1) < 1e-6).all():
        warnings.warn(
            f"{name}: these look like probabilities (none is negative, and they sum "
            f"to one): log potentials are expected; pass np.log({name})",
            stacklevel=4,
        )


def of_sequences(x: Array, num_sequences: int, ndim: int) -> Array:
    """View a potential with ``ndim`` axes, (N, ...), or (1, ...) if it is constant.

    The core repeats a shared constant; the cotangent of what varies has all sequences.
    """
    shape = value_of(x).shape
    if len(shape) < ndim:
        x = x.reshape((1,) * (ndim - len(shape)) + shape)
    if not isbox(x) or value_of(x).shape[0] == num_sequences:
        return x
    if num_sequences == 0:  # which autograd's broadcast has no adjoint for
        return x[:0]
    return np.broadcast_to(x, (num_sequences, *value_of(x).shape[1:]))


def like(potential: Array, stat: Array) -> Array:
    """Sum a statistic over the sequences that share its potential."""
    shape = value_of(potential).shape
    return stat if value_of(stat).shape == shape else stat.sum(0).reshape(shape)


def as_arrays(values: Iterable[Array], *names: str) -> list[Array]:
    """Arrays of float64, one for each name; boxes stay boxes."""
    if not isinstance(values, Iterable) and not isbox(values):
        raise TypeError(f"wanted arrays {', '.join(names)}, got {values!r:.80}")
    values = list(values)
    if len(values) != len(names):
        raise ValueError(f"got {len(values)} arrays, wanted {', '.join(names)}")
    return [as_array(name, value) for name, value in zip(names, values, strict=True)]


def as_array(name: str, value: Array) -> Array:
    """Array of float64; a box stays a box."""
    if type(value) is onp.ndarray and value.dtype is _FLOAT64:
        return value
    if not isbox(value):
        value = _as_plain(name, value)
    dtype = value_of(value).dtype
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {dtype}, wanted real numbers")
    return value if dtype == _FLOAT64 else value.astype(onp.float64)


def _as_plain(name: str, value: Any) -> Any:
    """Array of NumPy's own type, which has no mask that the core would ignore."""
    if isinstance(value, onp.ma.MaskedArray) and onp.ma.is_masked(value):
        raise ValueError(
            f"{name} has masked entries, which no kernel leaves out: shorten sequences "
            "by their lengths, or give steps without data potentials of zero"
        )
    try:
        return onp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array: {error}") from error


def as_lengths(lengths: Any, num_sequences: int, num_timesteps: int) -> Integers:
    """Lengths (N,), those of all steps by default."""
    if lengths is None:
        return known_lengths(None, num_sequences, num_timesteps)
    lengths = _as_plain("lengths", value_of(lengths))
    if lengths.shape != (num_sequences,):
        raise wrong_shape("lengths", lengths, f"({num_sequences},)")
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths has dtype {lengths.dtype}, wanted integers")
    wrong = onp.flatnonzero((lengths < 1) | (lengths > num_timesteps))
    if wrong.size:
        n = wrong[0]
        raise ValueError(f"lengths[{n}] is {lengths[n]}, wanted 1 to {num_timesteps}")
    return onp.ascontiguousarray(lengths, onp.int64)


def known_lengths(
    lengths: Integers | None, num_sequences: int, num_timesteps: int
) -> Integers:
    """Return lengths that are known to be right as the core reads them."""
    if lengths is None:
        return onp.full(num_sequences, num_timesteps, onp.int64)
    return onp.ascontiguousarray(lengths, onp.int64)


def require_shape(name: str, x: Array, *shapes: tuple[Any, ...]) -> None:
    """Refuse an array of none of the shapes, whose letters stand for any size."""
    actual = value_of(x).shape
    if actual in shapes:
        return
    for shape in shapes:
        if len(shape) == len(actual) and all(
            isinstance(want, str) or want == got
            for want, got in zip(shape, actual, strict=True)
        ):
            return
    wanted = dict.fromkeys(map(_shape_text, shapes))  # those of one sequence coincide
    raise wrong_shape(name, x, " or ".join(wanted))


def _shape_text(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def wrong_shape(name: str, x: Array, wanted: str) -> ValueError:
    """Return the error that tells the shape an argument has from the one it wants."""
    return ValueError(f"{name} has shape {_shape_text(x.shape)}, wanted {wanted}")


def require_finite(
    name: str,
    x: Array,
    lengths: Integers,
    steps: Integers | None = None,
    time_axis: int = 1,
    *,
    log: bool = False,
) -> None:
    """Refuse NaN and infinities; with `steps` of time, only those within the lengths.

    In the log of a potential -inf is as good as a finite number, but none may be larger
    than `LARGEST_LOG_POTENTIAL`.
    """
    array = value_of(x)
    if log:
        right = (onp.abs(array) <= LARGEST_LOG_POTENTIAL) | (array == -onp.inf)
    else:
        right = onp.isfinite(array)
    if right.all():
        return
    wrong = ~right
    if steps is not None:
        valid: Mask = onp.expand_dims(
            steps < lengths[:, None],
            tuple(a for a in range(1, array.ndim) if a != time_axis),
        )
        for axis in (0, time_axis):
            if array.shape[axis] == 1:  # shared: read if any sequence, any step does
                valid = onp.any(valid, axis, keepdims=True)
        wrong &= valid
    if wrong.any():
        index = tuple(onp.argwhere(wrong)[0].tolist())
        wanted = "finite numbers"
        if log:
            wanted += f" up to {LARGEST_LOG_POTENTIAL:g}, or -inf"
        raise ValueError(f"{name}{list(index)} is {array[index]}, wanted {wanted}")


def require_all_finite(arrays: dict[str, Array], *, log: bool = False) -> None:
    """Refuse NaN and infinities in arrays that have no lengths."""
    limit = LARGEST_LOG_POTENTIAL if log else LARGEST
    if not are_finite(arrays.values(), limit):
        for name, array in arrays.items():
            require_finite(name, array, _NO_LENGTHS, log=log)


_NO_LENGTHS = onp.ones(1, onp.int64)


def are_finite(arrays: Iterable[Array], limit: float = LARGEST) -> bool:
    """Tell whether all numbers are at most `limit` in magnitude, in one call.

    They nearly always are; where they are not, `require_finite` tells which.
    """
    return _core.are_within([value_of(x) for x in arrays], limit)


def require_no_overflow(outputs: Sequence[Array], name: str = "sequence") -> None:
    """Refuse what finite arguments have made so large that its sum is no number."""
    limit = onp.finfo(float).max / max(len(outputs[0]), 1)
    if are_finite(outputs, limit):
        return
    wrong = onp.zeros(len(outputs[0]), bool)
    for output in outputs:
        axes = tuple(range(1, output.ndim))
        wrong |= ~(onp.abs(output) <= limit).all(axes)
    raise overflow(name, int(onp.flatnonzero(wrong)[0]))


def contiguous(arrays: Sequence[Array], outer_axes: Sequence[int]) -> list[Array]:
    """Arrays of any strides in the outer axes, contiguous in the others."""
    return [
        x if _is_contiguous_inside(x, outer) else x.copy()
        for x, outer in zip(arrays, outer_axes, strict=False)
    ]


def packed(x: Array) -> Array:
    """Array whose numbers lie one after the other."""
    return x if _is_contiguous_inside(x, 0) else x.copy()


def _is_contiguous_inside(x: Array, outer: int) -> bool:
    flags = x.flags
    if not flags.aligned:
        return False
    if flags.c_contiguous or x.size == 0:
        return True
    return bool(x[(0,) * outer].flags.c_contiguous)
