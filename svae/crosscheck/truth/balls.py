"""Arrays of balls: real numbers with proven bounds, by python-flint's Arb.

An array of balls is a NumPy array of objects, each a midpoint of many digits and a
radius that bounds its error; every operation encloses the exact result.  Inputs are
exact float64 numbers (`exact`).  `certify` raises the precision until the balls of a
computation are small, and returns `Certified` pairs of doubles.

Arrays of balls go through autograd like those of floats, at any order, if each has at
least one axis (a sum keeps its axes): `solve`, `log_det` and `cholesky` are here with
their derivatives, as `autograd.numpy.linalg` knows floats alone.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import contextmanager
from copy import deepcopy
from fractions import Fraction
from typing import Any, TypeAlias

import autograd.numpy as np
import numpy as onp
from autograd import make_vjp
from autograd.extend import defvjp, primitive
from flint import arb, arb_mat, ctx

from svae.crosscheck.cases import Certified

__all__ = [
    "Balls",
    "Derivation",
    "Disagreement",
    "agree",
    "balls",
    "certify",
    "cholesky",
    "condition",
    "eye",
    "exact",
    "fraction",
    "inverse",
    "log_det",
    "midpoints",
    "precision",
    "pull_back",
    "solve",
    "transpose",
    "zeros",
]

Balls: TypeAlias = Any
"""A NumPy array of objects, each an arb."""
Derivation: TypeAlias = tuple[str, Mapping[str, Any]]
"""A way, in words, and the quantities that it finds, arrays of balls by name."""

START, MOST = 256, 2**15  # bits
FINE = 100  # bits of the value that a radius leaves alone
NEGLIGIBLE = 400  # bits below one and the largest of an array, where values may be zero


class Disagreement(Exception):
    """Two derivations of a quantity whose balls do not overlap, so one is wrong."""


@contextmanager
def precision(bits: int) -> Any:
    """Compute with so many bits, then with as many as before."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


_exact = onp.vectorize(lambda x: arb(float(x)), otypes=[object])
_as_balls = onp.vectorize(arb, otypes=[object])


def exact(x: Any) -> Balls:
    """Return balls of radius zero around the numbers of an array.

    Examples
    --------
    >>> exact([0.1])[0] * 10 == 1
    False
    """
    x = onp.asarray(x, float)
    return _exact(x) if x.size else onp.zeros(x.shape, object)


def balls(x: Any) -> Balls:
    """Return balls of an array of them, of integers (empty sums) or of floats."""
    x = onp.atleast_1d(x)
    return _as_balls(x) if x.size and x.dtype == object else exact(x)


def zeros(shape: tuple[int, ...]) -> Balls:
    """Return exact zeros."""
    return exact(onp.zeros(shape))


def eye(size: int) -> Balls:
    """Return the exact identity."""
    return exact(onp.eye(size))


def midpoints(x: Balls) -> Balls:
    """Return the midpoints, exact numbers."""
    return onp.vectorize(lambda ball: ball.mid(), otypes=[object])(x)


def transpose(x: Balls) -> Balls:
    """Swap the last two axes."""
    return np.swapaxes(x, -1, -2)


def as_arb_mat(x: Balls) -> arb_mat:
    """Return a matrix of Arb."""
    rows, columns = x.shape
    return arb_mat(rows, columns, list(x.ravel()))


def as_array(x: arb_mat) -> Balls:
    """Return an array of a matrix of Arb."""
    return onp.array(x.entries(), dtype=object).reshape(x.nrows(), x.ncols())


def stacked(function: Callable[..., Balls]) -> Callable[..., Balls]:
    """Let a function of matrices take arrays of them, with the same leading axes."""

    def over_axes(A: Balls, *others: Balls) -> Balls:
        lead = A.shape[:-2]
        if not lead:
            return function(A, *others)
        flat = [x.reshape(-1, *x.shape[-2:]) for x in (A, *others)]
        found = onp.array([function(*one) for one in zip(*flat, strict=True)], object)
        return found.reshape(*lead, *found.shape[1:])

    return over_axes


@primitive
def solve(A: Balls, B: Balls) -> Balls:
    """Return inverse(A) B of arrays of matrices with the same leading axes."""
    return stacked(lambda A, B: as_array(as_arb_mat(A).solve(as_arb_mat(B))))(A, B)


defvjp(
    solve,
    lambda ans, A, B: lambda g: -solve(transpose(A), g) @ transpose(ans),
    lambda ans, A, B: lambda g: solve(transpose(A), g),
)


@primitive
def inverse(A: Balls) -> Balls:
    """Return the inverses of matrices."""
    return stacked(lambda A: as_array(as_arb_mat(A).inv()))(A)


defvjp(inverse, lambda ans, A: lambda g: -transpose(ans) @ g @ transpose(ans))


@primitive
def log_det(A: Balls) -> Balls:
    """Return log determinants (..., 1, 1) of matrices, those of the inverse negated."""
    return stacked(lambda A: onp.array([[as_arb_mat(A).det().log()]], object))(A)


defvjp(log_det, lambda ans, A: lambda g: g * transpose(inverse(A)))


def cholesky(A: Balls) -> Balls:
    """Return lower Cholesky factors (..., D, D), column by column."""
    columns, rest = [], A
    for k in range(A.shape[-1]):
        column = rest[..., :, k : k + 1] / np.sqrt(rest[..., k : k + 1, k : k + 1])
        below = onp.arange(A.shape[-1])[:, None] >= k
        column = np.where(below, column, exact(0.0))
        columns.append(column)
        rest = rest - column @ transpose(column)
    return np.concatenate(columns, -1)


def pull_back(
    function: Callable[..., Balls], arguments: Mapping[str, Balls]
) -> dict[str, Balls]:
    """Return the gradient of a function of named arrays, by name.

    Parameters
    ----------
    function : callable
        From a dict of arrays of balls to one number (1,), or an array to be summed.
    arguments : dict
    """
    with warnings.catch_warnings():  # nothing observed: a likelihood of one
        warnings.filterwarnings("ignore", "Output seems independent of input")
        vjp, value = make_vjp(function)(dict(arguments))
        return vjp(exact(onp.ones(onp.shape(value))))


def agree(first: Mapping[str, Any], second: Mapping[str, Any], of: str = "") -> None:
    """Compare two derivations, whose balls must overlap wherever both have a quantity.

    Raises
    ------
    Disagreement
        At the first quantity of which they do not; it names the place.
    """
    for name in first.keys() & second.keys():
        one, other = balls(first[name]), balls(second[name])
        if one.shape != other.shape:
            raise Disagreement(f"{of} {name}: shapes {one.shape} and {other.shape}")
        for place in onp.ndindex(one.shape):
            a, b = arb(one[place]), arb(other[place])
            if not (a.overlaps(b) and a.is_finite() and b.is_finite()):
                raise Disagreement(f"{of} {name}{list(place)}: {a} and {b}")


def certify(
    derive: Callable[[], Iterable[Derivation]], of: str = "", start: int = START
) -> tuple[dict[str, Certified], tuple[str, ...]]:
    """Return certified values of what independent derivations agree on.

    Parameters
    ----------
    derive : callable
        Yields derivations in the precision that is set.  The first that has a quantity
        gives its value; arrays of integers or truth values pass as they are.
    of : str
        What is derived, for errors.
    start : int
        Bits of the first attempt.

    Returns
    -------
    expected : dict
        `Certified` by quantity, with radii below 2^-`FINE` of the values.
    ways : tuple of str
        The derivations.

    Raises
    ------
    Disagreement
        If two derivations exclude each other, or if no precision suffices.
    """
    bits = start
    while bits <= MOST:
        with precision(bits):
            found = _all_fine(derive)
            if found is not None:
                quantities = [one for _, one in found]
                for k, one in enumerate(quantities):
                    for other in quantities[k + 1 :]:
                        agree(one, other, of)
                merged = _merged(quantities)
                expected = {name: certified(x) for name, x in merged.items()}
                return expected, tuple(way for way, _ in found)
        bits *= 2
    raise Disagreement(f"{of}: {MOST} bits are not enough")


def _all_fine(derive: Callable[[], Iterable[Derivation]]) -> list[Derivation] | None:
    """Return derivations if all their balls are small."""
    found = []
    try:
        for way, one in derive():
            if not all(_fine(x) for x in one.values()):
                return None
            found.append((way, one))
    except ZeroDivisionError:  # a matrix that may be singular, for all we know
        return None
    return found


def _merged(quantities: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all quantities, each by the first derivation that has it."""
    merged: dict[str, Any] = {}
    for one in quantities:
        merged |= {name: x for name, x in one.items() if name not in merged}
    return merged


def _fine(x: Any) -> bool:
    """Say whether all balls are small, relative to their values."""
    x = onp.asarray(x)
    if x.dtype != object:
        return True
    if not all(arb(ball).is_finite() for ball in x.flat):
        return False
    scale = max((arb(ball).abs_upper() for ball in x.flat), default=arb(0))
    floor = (scale + 1) * arb(2) ** -NEGLIGIBLE
    return all(
        arb(ball).rad() <= (arb(ball).abs_lower() + floor) * arb(2) ** -FINE
        for ball in x.flat
    )


def certified(x: Any) -> Certified:
    """Return pairs of doubles and radii of balls; integers and truth values as such."""
    x = onp.asarray(x)
    if x.dtype != object:
        return Certified(x, onp.zeros(x.shape), onp.zeros(x.shape))
    hi, lo, radius = (onp.zeros(x.shape) for _ in range(3))
    for place in onp.ndindex(x.shape):
        hi[place], lo[place], radius[place] = _as_doubles(arb(x[place]))
    return Certified(hi, lo, radius)


def _as_doubles(ball: arb) -> tuple[float, float, float]:
    if ball.contains(0):
        ball = arb(0, ball.abs_upper())
    middle = fraction(ball.mid())
    hi = float(middle)
    lo = float(middle - Fraction(hi))
    rest = middle - Fraction(hi) - Fraction(lo)
    bound = abs(rest) + fraction(ball.rad())
    if not bound:
        return hi, lo, 0.0
    return hi, lo, math.nextafter(float(bound), math.inf)


def fraction(x: arb) -> Fraction:
    """Return the midpoint of a ball, exactly."""
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def condition(
    derive: Callable[[Mapping[str, Balls]], Iterable[Derivation]],
    inputs: Mapping[str, Any],
    wanted: Collection[str],
    draws: int = 8,
    bits: int = START,
) -> dict[str, float]:
    """Return condition numbers: the relative change of an answer over that of inputs.

    Every number x of the inputs becomes x (1 + s d) with d tiny and s random signs;
    matrices that are symmetric remain so.  The answer's largest change over its largest
    magnitude, over d, is one draw; the number is the largest of `draws`, at least 1.
    With n inputs that matter alike it grows as the root of n, as rounding errors do.

    Parameters
    ----------
    derive : callable
        From inputs as balls to derivations, of which no more are asked for than are
        needed to have all that is wanted.
    inputs : dict of float64 arrays
    wanted : names of quantities
    draws, bits : int

    Returns
    -------
    dict
        By quantity; arrays of integers have none.
    """
    signs = onp.random.default_rng(1)

    def function(inputs: Mapping[str, Balls]) -> dict[str, Any]:
        found: list[Mapping[str, Any]] = []
        for _, one in derive(inputs):
            found.append(one)
            if set(wanted) <= set().union(*found):
                break
        return _merged(found)

    width, worst = 2 * bits, dict[str, float]()
    while not worst and width <= MOST:
        rng = deepcopy(signs)
        with precision(width):
            worst = _largest_changes(
                function, inputs, draws, arb(2) ** (-bits // 2), rng
            )
        width *= 2
    return {name: float(f"{x:.3g}") for name, x in worst.items()}


def _largest_changes(
    function: Callable[[Mapping[str, Balls]], dict[str, Any]],
    inputs: Mapping[str, Any],
    draws: int,
    step: arb,
    rng: onp.random.Generator,
) -> dict[str, float]:
    """Return condition numbers; none where the precision does not tell a change."""
    at = {name: exact(x) for name, x in inputs.items()}
    center = {name: balls(x) for name, x in function(at).items() if _real(x)}
    scales = {
        name: max((ball.abs_upper() for ball in x.flat), default=arb(0))
        for name, x in center.items()
    }
    worst = dict.fromkeys(center, 1.0)
    for _ in range(draws):
        moved = {name: _moved(x, at[name], step, rng) for name, x in inputs.items()}
        there = function(moved)
        for name, x in center.items():
            gap = balls(there[name]) - x
            change = max((arb(d.mid()).abs_upper() for d in gap.flat), default=arb(0))
            if all(ball.contains(0) for ball in x.flat):  # of zeros there is none
                continue
            unsure = max((arb(d.rad()).abs_upper() for d in gap.flat), default=arb(0))
            if unsure > change / 1024 and unsure > scales[name] * step / 1024:
                return {}
            ratio = float(arb(change / scales[name] / step).mid())
            worst[name] = max(worst[name], ratio)
    return worst


def _real(x: Any) -> bool:
    return bool(onp.asarray(x).dtype == object)


def _moved(x: Any, at: Balls, step: arb, rng: onp.random.Generator) -> Balls:
    """Return numbers moved by random signs times a relative step."""
    x = onp.asarray(x)
    sign = rng.choice([-1.0, 1.0], x.shape)
    if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
        flipped = onp.swapaxes(x, -1, -2)
        if onp.array_equal(x, flipped, equal_nan=True):
            upper = onp.triu(sign)
            sign = upper + onp.swapaxes(onp.triu(sign, 1), -1, -2)
    finite = onp.isfinite(x)
    factor = 1 + exact(onp.where(finite, sign, 0.0)) * step
    return onp.where(finite, at * factor, at)
