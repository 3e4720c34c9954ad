"""Calls of kernels with arguments in any guise: refused by name, or as defined.

The arguments have random sizes, axes of zero and of one entry too; random guises:
other strides, types and places in memory; numbers that are none past the lengths; and
often one that is wrong. A call that fails may raise only ValueError, TypeError,
LinAlgError or FloatingPointError, and names an argument, a sequence or a row. Otherwise
its results, and of some calls the gradients, are those of the definition.
"""

import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from svae import kernels, reference
from svae.errors import Impossible, NotPositiveDefinite
from svae.testing.disguises import (
    chance,
    disguised,
    replaced,
    spoiled,
    wrong_lengths,
)
from svae.testing.gradients import cotangents

__all__ = ["AUTOGRAD", "Case", "close", "flat", "judged", "same_gradients"]

AUTOGRAD = threading.RLock()
"""Autograd has one stack of traces for all threads."""
Generator = np.random.Generator
REFUSALS = (ValueError, TypeError, np.linalg.LinAlgError, FloatingPointError)
TOLERANCE = 1e-8
HUGE = 1e100  # results of such numbers have no digits that can be compared


class Case(NamedTuple):
    """A call of a kernel."""

    name: str
    arguments: tuple[Any, ...]
    """Arrays or None, in nested tuples."""
    names: dict[tuple[int, ...], str]
    """What errors call the array at each place."""
    call: Callable[..., list[Any]]
    """The kernel, of these arguments."""
    define: Callable[..., list[Any]]
    """The definition, of plain arrays and of what the kernel returned."""
    lengths: tuple[int, ...] | None = None
    """The place of lengths."""
    gradient: Callable[[Generator], None] | None = None
    """Compares gradients."""
    is_entrywise: bool = False
    """Whether results go entry by entry: no number where an argument has none."""


def judged(case: Case, rng: Generator) -> str:
    """Call a kernel with arguments in disguise, one perhaps spoiled."""
    arguments = dressed(case, rng)
    place = None
    if chance(rng, 0.35):
        arguments, place = one_spoiled(case, arguments, rng)
    try:
        got = case.call(*arguments)
    except REFUSALS as error:
        judge_refusal(case, place, error)
        return f"{case.name}: refused"
    plain = [plainly(part) for part in arguments]
    if place is not None and is_masked(at(arguments, place)):
        raise AssertionError(f"{case.name} takes masked {case.names[place]}")
    if is_huge(plain) and not case.is_entrywise:
        assert not any(map(has_nan, got)), f"{case.name}: a result is no number"
    else:
        with np.errstate(all="ignore"):
            want = case.define(*plain, got)
        compare(case, got, want)
    if place is None and case.gradient is not None and chance(rng, 0.3):
        case.gradient(rng)
        return f"{case.name}: agrees, with its adjoint"
    return f"{case.name}: agrees" + ("" if place is None else ", if odd")


def dressed(case: Case, rng: Generator) -> tuple[Any, ...]:
    """Return the arguments in disguise."""
    arguments = case.arguments
    for place in case.names:
        value = at(arguments, place)
        if value is None:
            continue
        if place == case.lengths:
            kinds = [np.int64, np.int32, np.uint8, ">i8"]
            value = value.astype(kinds[rng.integers(4)])
            value = value.tolist() if value.size and chance(rng, 0.2) else value
        else:
            value = disguised(value, rng)
        arguments = replaced(arguments, place, value)
    return arguments


def one_spoiled(
    case: Case, arguments: tuple[Any, ...], rng: Generator
) -> tuple[tuple[Any, ...], Any]:
    """Spoil one argument; return all, and its place."""
    places = [place for place in case.names if at(case.arguments, place) is not None]
    place = places[rng.integers(len(places))]
    value = at(case.arguments, place)
    value = wrong_lengths(value, rng) if place == case.lengths else spoiled(value, rng)
    return replaced(arguments, place, value), place


def judge_refusal(case: Case, place: Any, error: Exception) -> None:
    """Assert that a refusal names what is wrong, or is one of the definition too."""
    if isinstance(error, NotPositiveDefinite | Impossible):
        if place is None:
            same_refusal(case, error)
        return
    if place is None and not case.is_entrywise:
        raise AssertionError(f"{case.name} refuses good arguments") from error
    names = [*case.names.values(), "observed", "sequence", "row", "argument [0-9]+ of"]
    if not re.search("|".join(names), str(error)):
        raise AssertionError(f"{case.name} names nothing: {error}") from error


def same_refusal(case: Case, error: Any) -> None:
    """Assert that the definition fails in the same way, at the same place."""
    try:
        with np.errstate(all="ignore"):
            case.define(*case.arguments, None)
    except type(error) as other:
        assert (other.sequence, other.step) == (error.sequence, error.step), error
        return
    raise AssertionError(f"{case.name} fails, its definition does not") from error


def compare(case: Case, got: list[Any], want: list[Any]) -> None:
    """Assert that results are finite, and those wanted."""
    assert len(got) == len(want), case.name
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{case.name} {k}: {a.shape}, wanted {b.shape}"
        same = np.isneginf(a) & np.isneginf(b)
        if case.is_entrywise:
            same |= (np.isnan(a) & np.isnan(b)) | (np.isposinf(a) & np.isposinf(b))
        a, b = np.where(same, 0.0, a), np.where(same, 0.0, b)
        assert np.isfinite(a).all(), f"{case.name} {k} is not finite"
        close(f"{case.name} {k}", a, b)


def at(tree: Any, place: tuple[int, ...]) -> Any:
    """Look up a place in nested tuples."""
    for index in place:
        if tree is None:
            return None
        tree = tree[index]
    return tree


def plainly(tree: Any) -> Any:
    """Return plain arrays of floats in nested tuples."""
    if tree is None or isinstance(tree, bool):
        return tree
    if isinstance(tree, tuple):
        return tuple(map(plainly, tree))
    return np.array(tree, float)


def is_masked(x: Any) -> bool:
    """Tell whether an array has masked entries."""
    return isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x)


def has_nan(x: Any) -> bool:
    """Tell whether an array holds what is no number."""
    return bool(np.isnan(x).any())


def is_huge(tree: Any) -> bool:
    """Tell whether an array holds a number so large that digits cannot be compared."""
    if isinstance(tree, (tuple, list)):
        return any(map(is_huge, tree))
    if tree is None:
        return False
    size = np.abs(tree)
    return bool(np.any(np.isfinite(size) & (size > HUGE)))


def flat(tree: Any) -> list[Any]:
    """Return the arrays of nested tuples in order, None left out."""
    if tree is None:
        return []
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in flat(branch)]
    return [tree]


def close(what: str, got: Any, want: Any, tolerance: float = TOLERANCE) -> None:
    """Compare arrays, relative to the largest entry wanted if that is above one."""
    scale = np.max(np.abs(want), initial=1.0)
    error = np.max(np.abs(got - want), initial=0.0)
    assert error <= tolerance * scale, f"{what}: {error} of {scale}"


def same_gradients(
    name: str,
    of: Callable[[Any], Callable[..., list[Any]]],
    arrays: list[Any],
    rng: Generator,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare cotangents, for random ones of all results, with the definition's.

    ``of`` makes a function of the arrays with that of `svae.kernels` or
    `svae.reference`.
    """
    with AUTOGRAD:
        bars = [rng.standard_normal(y.shape) for y in of(kernels)(*arrays)]
        got, want = (
            cotangents(of(module), arrays, bars) for module in (kernels, reference)
        )
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        close(f"{name}, gradient {k}", a, b, tolerance)
