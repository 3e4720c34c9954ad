"""Gradient checks with a relative error of their own.

`autograd.test_util.check_grads` accepts any difference below 1e-6, so a wrong gradient
of that size passes.  Here errors are relative, and the problems have gradients of order
one.  A function under test takes flat arguments and returns a list of arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd import make_vjp

from svae.autodiff.trees import leaves

__all__ = [
    "assert_close",
    "assert_identical",
    "check_against",
    "check_gradients",
    "cotangents",
    "differences",
    "hessian_vector_product",
    "random_like",
    "relative_error",
]

Outputs = Callable[..., Sequence[Any]]
"""A function from flat arguments to a list of arrays."""

# Central differences of order six: error h^6 f'''''''/140, rounding about 1e-16 f/h.
STEP = 2e-3
STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def relative_error(got: Any, want: Any) -> float:
    """Return the largest difference over the largest magnitude of what is wanted.

    Parameters
    ----------
    got, want : array of one shape
        If all that is wanted is zero, the error is the largest difference itself.

    Raises
    ------
    AssertionError
        If the shapes differ.

    Examples
    --------
    >>> relative_error([1.0, 2.5], [1.0, 2.0])
    0.25
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    error = np.max(np.abs(got - want), initial=0.0)
    scale = np.max(np.abs(want), initial=0.0)
    return float(error / scale if scale else error)


def assert_close(got: Any, want: Any, rtol: float) -> None:
    """Compare two trees of arrays, each array by its own relative error.

    Parameters
    ----------
    got, want : nested tuples, lists or dicts of arrays
    rtol : float
        Largest `relative_error` that passes.

    Raises
    ------
    AssertionError
        At the first array that differs by more; it tells which, and by how much.
    """
    for k, (a, b) in enumerate(zip(leaves(got), leaves(want), strict=True)):
        error = relative_error(a, b)
        assert error <= rtol, f"output {k}: {error}"


def assert_identical(got: Any, want: Any) -> None:
    """Compare two trees of arrays bit for bit; arguments as of `assert_close`."""
    for k, (a, b) in enumerate(zip(leaves(got), leaves(want), strict=True)):
        assert np.array_equal(a, b), f"output {k} differs by {np.max(np.abs(a - b))}"


def random_like(rng: onp.random.Generator, arrays: Sequence[Any]) -> list[Any]:
    """Draw standard normal arrays of these shapes: cotangents, or directions."""
    return [rng.standard_normal(np.shape(x)) for x in arrays]


def cotangents(f: Outputs, args: Sequence[Any], outputs_bar: Sequence[Any]) -> Any:
    """Pull cotangents of all outputs back to all arguments, by autograd.

    Parameters
    ----------
    f : callable
        From flat arguments to a list of arrays.
    args : sequence of arrays
    outputs_bar : sequence of arrays, shaped as the outputs

    Returns
    -------
    tuple of arrays
        The cotangent of every argument, in its shape.

    Examples
    --------
    >>> cotangents(lambda x, y: [x * y], [2.0, 3.0], [1.0])
    (array(3.), array(2.))
    """

    def paired(args: Any) -> Any:
        return sum(np.sum(y * g) for y, g in zip(f(*args), outputs_bar, strict=True))

    vjp, _ = make_vjp(paired)(tuple(args))
    return vjp(1.0)


def hessian_vector_product(
    f: Callable[..., Any], args: Sequence[Any], direction: Sequence[Any]
) -> Any:
    """Return the second derivative of a scalar function along a direction.

    Parameters
    ----------
    f : callable
        From flat arguments to a scalar.
    args, direction : sequences of arrays of the same shapes

    Returns
    -------
    tuple of arrays
        For every argument, in its shape.
    """
    return cotangents(
        lambda *args: cotangents(lambda *a: [f(*a)], args, [1.0]), args, direction
    )


def check_gradients(
    f: Outputs, args: Sequence[Any], rng: onp.random.Generator, rtol: float = 1e-9
) -> None:
    """Compare the gradient of every output in every argument with differences.

    Each output gets a random cotangent, each argument a random direction.

    Parameters
    ----------
    f : callable
        From flat arguments to a list of arrays.
    args : sequence of arrays
        Of order one; the differences take steps of up to 0.006.
    rng : numpy.random.Generator
    rtol : float
        Largest error, relative to the magnitudes of the terms of each derivative.

    Raises
    ------
    AssertionError
        At the first derivative that differs; it names the output and the argument.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> rng = np.random.default_rng(0)
    >>> check_gradients(lambda x, y: [np.sin(x) * y], [rng.normal(size=3), 2.0], rng)
    """
    outputs = f(*args)
    outputs_bar, directions = random_like(rng, outputs), random_like(rng, args)
    got = onp.zeros((len(outputs), len(args)))
    for o, y_bar in enumerate(outputs_bar):
        args_bar = cotangents(lambda *a, o=o: [f(*a)[o]], args, [y_bar])
        for a, (g, d) in enumerate(zip(args_bar, directions, strict=True)):
            got[o, a] = np.sum(g * d)
    for a, d in enumerate(directions):

        def of_argument(x: Any, a: int = a) -> Sequence[Any]:
            return f(*args[:a], x, *args[a + 1 :])

        slopes = differences(of_argument, args[a], d)
        for o, (slope, y_bar) in enumerate(zip(slopes, outputs_bar, strict=True)):
            terms = slope * y_bar
            want, scale = np.sum(terms), np.sum(np.abs(terms))  # terms may cancel
            assert abs(got[o, a] - want) <= rtol * scale, (
                f"output {o}, argument {a}: {got[o, a]}, by differences {want}"
            )


def check_against(
    f: Outputs,
    definition: Outputs,
    args: Sequence[Any],
    rng: onp.random.Generator,
    rtol: float = 1e-10,
    gradient_rtol: float = 1e-9,
) -> None:
    """Compare outputs, and cotangents of all arguments, with another implementation.

    Parameters
    ----------
    f, definition : callables
        From flat arguments to lists of arrays of the same shapes.
    args : sequence of arrays
    rng : numpy.random.Generator
        Draws the cotangents of the outputs.
    rtol, gradient_rtol : float
        Largest `relative_error` of an output, and of a cotangent.

    Raises
    ------
    AssertionError
        At the first array that differs.
    """
    want = definition(*args)
    assert_close(f(*args), want, rtol)
    outputs_bar = random_like(rng, want)
    got = cotangents(f, args, outputs_bar)
    assert_close(got, cotangents(definition, args, outputs_bar), gradient_rtol)


def differences(f: Callable[[Any], Sequence[Any]], x: Any, direction: Any) -> list[Any]:
    """Return the directional derivative of every output of f at x, by differences.

    Parameters
    ----------
    f : callable
        From one array to a list of arrays.
    x, direction : arrays of one shape
    """
    terms = [
        (sign * weight / STEP, f(x + sign * k * STEP * direction))
        for k, weight in STENCIL
        for sign in (1, -1)
    ]
    return [
        sum(w * outputs[o] for w, outputs in terms) for o in range(len(terms[0][1]))
    ]
