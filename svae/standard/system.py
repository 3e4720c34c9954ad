"""Arguments of the state-space functions: checked once, and brought to one shape."""

from __future__ import annotations

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd.tracer import isbox

from svae.autodiff.operations import value_of
from svae.errors import NotPositiveDefinite
from svae.kernels.arguments import (
    as_array,
    as_lengths,
    require_shape,
    wrong_shape,
)
from svae.standard.algebra import apply
from svae.standard.records import LinearGaussian, check_effects, check_record
from svae.types import Array, Integers, Mask

__all__ = ["NUM_ARRAYS", "Sums", "System", "as_system", "at_step", "singular"]

NUM_ARRAYS = 9
"""Of a system: those that can be differentiated, the first."""
ASYMMETRY = 1e-10
"""Largest difference of a covariance from its transpose, relative to its entries."""
NEGATIVE = 1e-11
"""Largest negative eigenvalue of a covariance, relative to the others: rounding."""


class System(NamedTuple):
    """A state-space model and what was observed of it, without NaN or inputs.

    Leading axes (N, T) of parameters are 1 where they are shared; a transition has T-1
    steps. Nothing is read past a length, where parameters and data are harmless.
    """

    A: Array
    """(N or 1, T-1 or 1, D, D), and so are the others."""
    Q: Array
    C: Array
    R: Array
    m0: Array
    """(N or 1, D)."""
    P0: Array
    b: Array
    """B u, (N or 1, T-1 or 1, D)."""
    d: Array
    """D u, (N or 1, T or 1, P)."""
    y: Array
    """(N, T, P), zero where it was not observed."""
    seen: Mask
    """(N, T, P), False past a length."""
    lengths: Integers
    is_single: bool
    """Whether y came without an axis of sequences."""

    @property
    def live(self) -> Mask:
        """Which steps are within the lengths, (N, T)."""
        return onp.arange(self.seen.shape[1]) < self.lengths[:, None]

    @property
    def is_alike(self) -> bool:
        """Whether all sequences have the same covariances: no gaps, shared matrices."""
        matrices = self.A, self.Q, self.C, self.R, self.P0
        return all(len(x) == 1 for x in matrices) and bool(self.seen.all())

    @property
    def is_constant(self) -> bool:
        """Whether matrices do not depend on time either."""
        matrices = self.A, self.Q, self.C, self.R
        return self.is_alike and all(x.shape[1] == 1 for x in matrices)


def at_step(x: Array, t: int) -> Array:
    """Return step t of an array whose second axis is time, or is shared."""
    return x[:, t if x.shape[1] > 1 else 0]


def as_system(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
) -> System:
    """Check parameters, observations and inputs, and bring them to one shape.

    Parameters
    ----------
    params : LinearGaussian
    y : (N, T, P) or (T, P) array
        NaN for what is missing.
    u : (N, T, U) or (T, U) array, optional
    lengths : (N,) integers in 1..T, optional

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number, or if a covariance
        is asymmetric or has a negative variance; it names argument, sequence and step.
    TypeError
        If the parameters are no `LinearGaussian`.
    """
    check_record(params)
    y, is_single = _batched("y", y, "P")
    N, T, P = value_of(y).shape
    lengths = as_lengths(lengths, N, T)
    m0 = as_array("m0", params.m0)
    D = value_of(m0).shape[-1] if value_of(m0).ndim else 0
    if D < 1:
        raise wrong_shape("m0", value_of(m0), "(D,) or (N, D)")
    check = _Checked(N, T, lengths)
    m0 = check.of_sequences("m0", m0, (D,))
    P0 = check.of_sequences("P0", params.P0, (D, D), covariance=True)
    A = check.of_steps("A", params.A, T - 1, (D, D))
    Q = check.of_steps("Q", params.Q, T - 1, (D, D), covariance=True)
    C = check.of_steps("C", params.C, T, (P, D))
    R = check.of_steps("R", params.R, T, (P, P), covariance=True)
    b, d = onp.zeros((1, 1, D)), onp.zeros((1, 1, P))
    check_effects(params, u)
    if u is not None:
        given = as_array("u", u)
        u, _ = _batched("u", given, "U")
        U = value_of(u).shape[-1]
        require_shape("u", u, (N, T, U), (1, T, U))
        u = check.numbers("u", u, 3 - value_of(given).ndim, onp.arange(T))
        if params.B is not None:
            B = check.of_steps("B", params.B, T - 1, (D, U))
            b = apply(B, u[:, :-1]) if T > 1 else b
        if params.D is not None:
            D_u = check.of_steps("D", params.D, T, (P, U))
            d = apply(D_u, u)
    seen = onp.isfinite(value_of(y)) & check.live[..., None]
    infinite = onp.isinf(value_of(y)) & check.live[..., None]
    if infinite.any():
        n, t, p = onp.argwhere(infinite)[0].tolist()
        raise ValueError(
            f"y[{n}, {t}, {p}] is {value_of(y)[n, t, p]}, wanted a number, or NaN for "
            "what is missing"
        )
    if not seen.all():
        y = np.where(seen, y, 0.0)
    return System(A, Q, C, R, m0, P0, b, d, y, seen, lengths, is_single)


class Sums:
    """Gradients in the shapes of arguments, summed over what they share."""

    def __init__(self, system: System) -> None:
        self.bars = {
            name: onp.zeros(getattr(system, name).shape)
            for name in System._fields[:NUM_ARRAYS]
        }

    def add(self, name: str, steps: slice, bar: Array) -> None:
        """Add what steps say, (N, steps, ...)."""
        total = self.bars[name]
        if name in ("m0", "P0"):
            total += bar[:, 0] if len(total) > 1 else bar.sum(0)
            return
        if len(total) == 1:
            bar = bar.sum(0, keepdims=True)
        if total.shape[1] == 1:
            total += bar.sum(1, keepdims=True)
        else:
            total[:, steps] += bar


def singular(n: int, t: int, what: str) -> NotPositiveDefinite:
    """Return the error of a covariance that should have an inverse at a step."""
    error = NotPositiveDefinite(n, t)
    error.reason = what
    return error


def _batched(name: str, x: Array, last: str) -> tuple[Array, bool]:
    """Return an array (N, T, ...), and whether it came without sequences."""
    x = as_array(name, x)
    shape = value_of(x).shape
    if len(shape) not in (2, 3) or 0 in shape[-2:]:
        raise wrong_shape(name, value_of(x), f"(N, T, {last}) or (T, {last})")
    return (x[None], True) if len(shape) == 2 else (x, False)


class _Checked:
    """The checks of the parameters of N sequences of T steps."""

    def __init__(self, N: int, T: int, lengths: Integers) -> None:
        self.N, self.T, self.lengths = N, T, lengths
        self.live = onp.arange(T) < lengths[:, None]

    def of_sequences(
        self, name: str, x: Any, event: tuple[int, ...], covariance: bool = False
    ) -> Array:
        """Return a parameter of the first step, (N or 1, *event)."""
        x = as_array(name, x)
        require_shape(name, x, event, (self.N, *event), (1, *event))
        added = len(event) + 1 - value_of(x).ndim
        x = self.numbers(name, x[None] if added else x, added)
        return self.symmetric(name, x, added) if covariance else x

    def of_steps(
        self,
        name: str,
        x: Any,
        steps: int,
        event: tuple[int, ...],
        covariance: bool = False,
    ) -> Array:
        """Return a matrix of the steps, (N or 1, steps or 1, *event)."""
        x = as_array(name, x)
        shape = value_of(x).shape
        leads = [(), (steps,), (self.N, steps), (self.N, 1), (1, steps), (1, 1)]
        require_shape(name, x, *((*lead, *event) for lead in leads))
        added = 4 - len(shape)
        if added:
            x = x.reshape((1,) * added + shape)
        if value_of(x).shape[1] == 0:  # a single step has no transition
            return onp.zeros((1, 1, *event))
        filler = onp.eye(event[0]) if covariance else None
        steps_of_x = onp.arange(steps) + self.T - steps
        x = self.numbers(name, x, added, steps_of_x, filler)
        return self.symmetric(name, x, added) if covariance else x

    def numbers(
        self,
        name: str,
        x: Array,
        added: int,
        steps: Integers | None = None,
        filler: Array | None = None,
    ) -> Array:
        """Refuse what is no number; put others where none is read.

        ``added`` leading axes were not given, here and below.
        """
        values = value_of(x)
        wrong = ~onp.isfinite(values)
        if steps is not None and not self.live.all():
            read: Any = steps < self.lengths[:, None]
            if len(values) == 1:
                read = read.any(0, keepdims=True)
            if values.shape[1] == 1:
                read = read.any(1, keepdims=True)
            read = read.reshape(read.shape + (1,) * (values.ndim - 2))
            if not read.all():
                keep = read | (~wrong if filler is None else False)
                x = np.where(keep, x, 0.0 if filler is None else filler)
                wrong = wrong & read
        if wrong.any():
            index = tuple(onp.argwhere(wrong)[0].tolist())
            place = _place(index, added)
            raise ValueError(f"{name}{place} is {values[index]}, wanted finite numbers")
        return x

    def symmetric(self, name: str, x: Array, added: int) -> Array:
        """Refuse what is no covariance; return its symmetric part."""
        values = value_of(x)
        transposed = onp.swapaxes(values, -1, -2)
        scale = onp.abs(values).max((-1, -2))
        gap = onp.abs(values - transposed).max((-1, -2))
        wrong = gap > ASYMMETRY * scale
        if wrong.any():
            lead = tuple(onp.argwhere(wrong)[0].tolist())
            i, j = onp.argwhere(abs(values[lead] - transposed[lead]) == gap[lead])[0]
            raise ValueError(
                f"{name}{_place(lead, added)} is not symmetric: its entries [{i}, {j}] "
                f"and [{j}, {i}] are {values[lead][i, j]} and {values[lead][j, i]}"
            )
        smallest = onp.linalg.eigvalsh((values + transposed) / 2)[..., 0]
        wrong = smallest < -NEGATIVE * scale
        if wrong.any():
            lead = tuple(onp.argwhere(wrong)[0].tolist())
            raise ValueError(
                f"{name}{_place(lead, added)} is no covariance: it has the eigenvalue "
                f"{smallest[lead]:.3g}, and none may be negative"
            )
        if not isbox(x) and not gap.any():
            return x
        return (x + np.swapaxes(x, -1, -2)) / 2


def _place(index: tuple[int, ...], added: int) -> str:
    """Return sequence, step and entry as an index of what was given."""
    return str(list(index[added:])) if index[added:] else ""
