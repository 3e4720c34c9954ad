"""Primitives and boxes of the package: autograd's, with the same derivatives."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, hessian
from autograd.extend import defvjp
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.test_util import check_grads

from svae.autodiff.primitive import LeanBox, primitive
from svae.autodiff.vjp import trace


@primitive
def cube(x):
    """Return the third power."""
    assert type(x) is np.ndarray
    return x**3


defvjp(cube, lambda ans, x: lambda g: 3.0 * g * x**2)

ARITHMETIC = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / y,
    "opposite": lambda x, y: -x * y,
    "exponential": lambda x, y: np.exp(x) * y,
    "logarithm": lambda x, y: np.log(x) * y,
    "total": lambda x, y: x.sum() * y,
    "totals": lambda x, y: (x * y).sum(axis=-1),
    "totals of two axes": lambda x, y: (x + y).sum(axis=(0, -1)),
    "kept totals": lambda x, y: (x * y).sum(axis=0, keepdims=True) * y,
    "shapes": lambda x, y: (x * y).reshape(-1) + (x + y).reshape((1, -1)),
    "of NumPy's functions": lambda x, y: np.sum(x * y, axis=-1) * np.reshape(y, -1)[0],
    "of other orders": lambda x, y: (x * y).reshape(-1, order="F") * 2.0,
    "with plain operands": lambda x, y: 2.0 * x - np.ones(3) * y + y / 3.0 - 1.0 / x,
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 2, 3), (2, 1))]


def pulled_back(function, x, y, g=None):
    pull_back, (value,) = trace(lambda x, y: (function(x, y),), [x, y])
    return value, pull_back(np.cos(value) if g is None else g)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("function", ARITHMETIC.values(), ids=ARITHMETIC)
def test_derivatives_of_arithmetic_are_autograds_bit_for_bit(function, shapes, rng):
    x, y = (rng.uniform(0.5, 2.0, shape) for shape in shapes)
    value, cotangents = pulled_back(function, x, y)
    assert np.array_equal(value, function(x, y))
    for k, got in enumerate(cotangents):

        def paired(argument, k=k):
            outputs = function(*((argument, y) if k == 0 else (x, argument)))
            return anp.sum(outputs * np.cos(value))

        want = grad(paired)((x, y)[k])
        assert got.shape == want.shape and np.array_equal(got, want)


@pytest.mark.parametrize("function", ARITHMETIC.values(), ids=ARITHMETIC)
def test_arithmetic_has_derivatives_of_second_order(function, rng):
    x, y = rng.uniform(0.5, 2.0, (2, 2, 3))

    def first(x, y):
        def of_cubes(x, y):
            return function(cube(x), cube(y)).sum()

        return pulled_back(of_cubes, x, y, np.ones(()))[1]

    check_grads(lambda x: first(x, y)[0], modes=["rev"], order=1)(x)
    check_grads(lambda y: first(x, y)[1], modes=["rev"], order=1)(y)


def test_a_trace_has_lean_boxes_and_primitives_see_what_is_in_them(rng):
    kinds = []

    def function(x):
        kinds.extend([type(x), type(cube(x)), type(x * 2.0), type(anp.sin(x))])
        return (cube(x) * anp.sin(x),)

    x = rng.standard_normal(3)
    pull_back, _ = trace(function, [x])
    assert kinds[:3] == [LeanBox] * 3 and issubclass(kinds[3], ArrayBox)
    want = 3.0 * x**2 * np.sin(x) + x**3 * np.cos(x)
    assert np.allclose(pull_back(np.ones(3))[0], want, rtol=1e-14)


def test_traces_of_others_may_hold_one(rng):
    x = rng.standard_normal(3)
    found = hessian(lambda x: anp.sum(cube(x)))(x)
    assert np.allclose(found, np.diag(6.0 * x), rtol=1e-14)


def test_no_axis_at_all_is_summed_as_any_other():
    x, y = np.ones((2, 1)), np.zeros((2, 0))
    of_x, of_y = pulled_back(lambda x, y: x * y, x, y)[1]
    assert of_x.shape == x.shape and not of_x.any() and of_y.shape == y.shape


def test_what_has_no_derivative_is_refused():
    @primitive
    def word(x):
        return "word"

    defvjp(word, lambda ans, x: lambda g: g)
    with pytest.raises(TypeError, match="str"):
        trace(lambda x: (word(x),), [np.ones(2)])


def test_what_is_real_has_a_real_derivative(rng):
    x, turn = rng.standard_normal(3), np.exp(1j * rng.standard_normal(3))

    def size(x):
        z = cube(x) * turn + x
        return anp.sum(anp.real(z * anp.conj(z)))

    got = grad(size)(x)
    want = 6 * x**5 + 2 * x + 8 * x**3 * turn.real
    assert got.dtype == float and np.allclose(got, want, rtol=1e-13)
