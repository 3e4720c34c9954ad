"""How right an array is: its correct digits, and its error in units of its condition.

The digits are the log relative error of NIST's reference data sets, between 0 and 17
and never NaN.  The ratio is that of LAPACK's tests: the relative error over the
condition number of the answer times the unit roundoff, which passes below 30.  Errors
are taken in the largest entry of an array, relative to its largest entry: an array is
one answer, whose small entries are known as well as its large ones let them be.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from svae.types import Array

__all__ = [
    "MOST_DIGITS",
    "PASSES_BELOW",
    "ROUNDOFF",
    "Score",
    "digits",
    "ratchet",
    "relative_error",
    "score",
    "score_paths",
]

ROUNDOFF = 2.0**-53
PASSES_BELOW = 30.0
MOST_DIGITS = 17.0
WORST_CONDITION = 1e13
"""Above which a condition number counts as this: some digits have to be right."""


class Score(NamedTuple):
    """How right one quantity of an answer is."""

    quantity: str
    right: bool
    digits: float
    """Correct digits, 0 to 17."""
    error: float
    """Largest error of an entry over the largest entry; infinite if not comparable."""
    ratio: float
    """The error over the condition number times the unit roundoff."""
    place: tuple[int, ...] | None = None
    """Index of the largest error, None if there is none or no array to point into."""
    reason: str = ""
    """Why there is nothing to compare: a shape, an entry that is no number."""


def digits(error: float) -> float:
    """Return the correct digits of a relative error, between 0 and 17.

    Examples
    --------
    >>> digits(1e-3), digits(0.0), digits(float("nan")), digits(5.0)
    (3.0, 17.0, 0.0, 0.0)
    """
    if not error < 1.0:  # NaN too
        return 0.0
    return min(MOST_DIGITS, -math.log10(error)) if error > 0 else MOST_DIGITS


def relative_error(
    answer: Any, value: Any, low: Any = 0.0, radius: Any = 0.0
) -> tuple[float, tuple[int, ...] | None]:
    """Return the largest error over the largest entry, and where it is.

    Parameters
    ----------
    answer : array
        Of the shape of ``value``, and no NaN.
    value, low : arrays
        The truth is their sum, to twice the working precision.
    radius : array
        Bound on what the truth itself is uncertain by; an answer within it has no
        error.

    Returns
    -------
    error : float
        Infinite if an infinity is missing or too many.  Of a truth that is all zeros,
        the largest entry of the answer.
    place : tuple of ints, or None without an error
    """
    answer, value = np.asarray(answer, float), np.asarray(value, float)
    if value.size == 0:
        return 0.0, None
    finite = np.isfinite(value)
    with np.errstate(invalid="ignore", over="ignore"):
        # first what is large, exactly, and then what is small
        error = np.abs((answer - value) - low) - radius
    error = np.where(finite, error, np.where(answer == value, 0.0, np.inf))
    error = np.where(np.isnan(error), np.inf, np.maximum(error, 0.0))
    place = np.unravel_index(np.argmax(error), error.shape)
    largest = float(error[place])
    if largest == 0.0:
        return 0.0, None
    scale = float(np.max(np.abs(value), initial=0.0, where=finite))
    with np.errstate(over="ignore"):
        relative = largest / scale if scale > 0 else largest
    return float(relative), tuple(int(i) for i in place)


def score(
    quantity: str,
    answer: Any,
    value: Any,
    low: Any = 0.0,
    radius: Any = 0.0,
    condition: float = 1.0,
) -> Score:
    """Score an answer to one quantity; nothing is raised for what an answer may be.

    Parameters
    ----------
    quantity : str
    answer : anything
    value, low, radius : arrays
        See `relative_error`.
    condition : float
        How much the relative error of the inputs is magnified in this quantity.
    """
    try:
        answer = np.asarray(answer)
        if answer.dtype.kind == "O":
            raise TypeError
        if answer.dtype.kind == "c":
            return _incomparable(quantity, "complex numbers")
        answer = answer.astype(float)
    except (TypeError, ValueError):
        return _incomparable(quantity, "no array of numbers")
    shape = np.shape(value)
    if answer.shape != shape:
        return _incomparable(quantity, f"shape {answer.shape}, wanted {shape}")
    absent = np.isnan(answer) & ~np.isnan(np.asarray(value, float))
    if absent.any():
        first = tuple(int(i) for i in np.argwhere(absent)[0])
        reason = f"{absent.sum()} of {absent.size} entries are NaN"
        return Score(quantity, False, 0.0, math.inf, math.inf, first, reason)
    error, place = relative_error(answer, value, low, radius)
    ratio = error / (min(max(condition, 1.0), WORST_CONDITION) * ROUNDOFF)
    return Score(quantity, ratio < PASSES_BELOW, digits(error), error, ratio, place)


def _incomparable(quantity: str, reason: str) -> Score:
    return Score(quantity, False, 0.0, math.inf, math.inf, None, reason)


def score_paths(
    answer: Any, paths: Array, unique: Array, attained: Array, wanted: Array
) -> Score:
    """Score most likely paths, of which ties leave several right.

    Parameters
    ----------
    answer : anything
        (N, T) states, -1 past the length.
    paths : (N, T) int array
    unique : (N,) bool array
        Whether no other path of a sequence is as likely.
    attained : (N,) array
        Log potential of the answer's paths; NaN of what is no path.
    wanted : (N,) array
        Log potential of the most likely paths.
    """
    answer = np.asarray(answer)
    if answer.shape != paths.shape:
        reason = f"shape {answer.shape}, wanted {paths.shape}"
        return _incomparable("paths", reason)
    same = (answer == paths).all(axis=1)
    with np.errstate(invalid="ignore"):
        near = np.abs(attained - wanted) <= 1e-12 * np.maximum(1.0, np.abs(wanted))
    right = same | (near & ~np.asarray(unique, bool))
    if right.all():
        return Score("paths", True, MOST_DIGITS, 0.0, 0.0)
    n = int(np.argmin(right))
    differs = np.flatnonzero(answer[n] != paths[n])
    place = (n, int(differs[0]))
    reason = f"{np.sum(~right)} of {len(right)} paths are not the most likely"
    return Score("paths", False, 0.0, 1.0, math.inf, place, reason)


def ratchet(
    stored: Mapping[str, float],
    found: Mapping[str, float],
    factor: float = 2.0,
    floor: float = 8 * ROUNDOFF,
) -> list[str]:
    """Say which errors are worse than they have been.

    Parameters
    ----------
    stored, found : dict of str to float
        Relative errors by name; a name that only one of them has is said too.
    factor : float
        What an error may grow by.
    floor : float
        Errors below it are rounding, in which machines differ.

    Returns
    -------
    list of str
        Sentences, empty if nothing is worse.

    Examples
    --------
    >>> ratchet({"logZ": 1e-15}, {"logZ": 1e-12})
    ['logZ: error 1e-12, was 1e-15']
    """
    worse = [
        f"{name}: error {found[name]:.2g}, was {stored[name]:.2g}"
        for name in stored
        if name in found and not found[name] <= max(factor * stored[name], floor)
    ]
    worse += [f"{name}: no longer answered" for name in stored if name not in found]
    return worse + [f"{name}: never stored" for name in found if name not in stored]
