"""Derivatives in many arrays at once, against autograd in one."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad
from autograd.extend import defvjp_argnums, primitive

from svae.autodiff.vjp import Cotangents, Diagnostics, trace


def function(x, y, z):
    return np.sum(np.sin(x) * y) + np.sum(x**2), np.sum(y), "told"


def test_gradients_are_those_of_autograd(rng):
    x, y, z = rng.standard_normal((3, 4))
    pull_back, (value, total, word) = trace(function, [x, y, z])
    assert value == function(x, y, z)[0]
    assert total == y.sum()
    assert word == "told"
    for position, got in enumerate(pull_back(2.0)):
        want = grad(lambda *a: function(*a)[0], position)
        if position < 2:
            onp.testing.assert_allclose(got, 2 * want(x, y, z), rtol=1e-14)
        else:
            onp.testing.assert_array_equal(got, 0.0)


def test_pull_back_serves_many_cotangents(rng):
    x = rng.standard_normal(3)
    pull_back, _ = trace(lambda x: (x**2,), [x])
    for cotangent in rng.standard_normal((2, 3)):
        onp.testing.assert_allclose(pull_back(cotangent)[0], 2 * x * cotangent)


def test_nests_inside_another_derivative(rng):
    x = rng.standard_normal(3)

    def inner(y):
        pull_back, _ = trace(lambda a: (np.sum(a**3),), [y])
        return np.sum(pull_back(1.0)[0])

    onp.testing.assert_allclose(grad(inner)(x), 6 * x, rtol=1e-14)


def test_an_output_that_depends_on_nothing_is_an_error():
    with pytest.raises(ValueError, match="does not depend"):
        trace(lambda x: (1.0,), [onp.ones(2)])
    pull_back, _ = trace(lambda x: (1.0, np.sum(x)), [onp.ones(2)])
    onp.testing.assert_array_equal(pull_back(3.0, 2.0)[0], [2.0, 2.0])


def test_other_values_have_pull_backs_of_their_own(rng):
    x, y, z = rng.standard_normal((3, 4))
    pull_back, _ = trace(lambda x, y, z: (np.sum(x * y), x**2 * z, "told"), [x, y, z])
    cotangent = rng.standard_normal(4)
    for got, want in zip(
        pull_back(None, cotangent), (2 * x * z, 0 * y, x**2), strict=True
    ):
        onp.testing.assert_allclose(got, want * cotangent, rtol=1e-14)
    for got, want in zip(pull_back(1.0), (y, x, 0 * z), strict=True):
        onp.testing.assert_allclose(got, want, rtol=1e-14)
    for got in pull_back(None, None, 1.0):
        onp.testing.assert_array_equal(got, 0.0)
    both = pull_back(2.0, cotangent)
    for got, of_first, of_second in zip(
        both, pull_back(2.0), pull_back(None, cotangent), strict=True
    ):
        onp.testing.assert_allclose(got, of_first + of_second, rtol=1e-14)
    # one pass leaves nothing behind for the next
    onp.testing.assert_array_equal(pull_back(1.0)[0], y)


def test_an_argument_may_be_an_output(rng):
    x, y = rng.standard_normal((2, 3))
    pull_back, values = trace(lambda x, y: (x, x + y), [x, y])
    onp.testing.assert_array_equal(values[0], x)
    onp.testing.assert_array_equal(pull_back(y)[0], y)
    onp.testing.assert_array_equal(pull_back(y)[1], 0.0)
    onp.testing.assert_array_equal(pull_back(None, x)[1], x)
    onp.testing.assert_array_equal(pull_back(y, x)[0], x + y)


@primitive
def halved(x):
    """Solve 2 y = x, and tell how the solve of the adjoint ended."""
    return x / 2.0


def _halved_vjp(argnums, ans, args, kwargs):
    return lambda g: Cotangents(
        [g / 2.0], [Diagnostics(onp.ones(len(g)), onp.abs(g) / 1e3)]
    )


defvjp_argnums(halved, _halved_vjp)


def test_diagnostics_of_solves_come_with_the_cotangents(rng):
    x, y = rng.standard_normal((2, 3))
    pull_back, _ = trace(lambda x, y: (halved(x * y), halved(halved(y)), x), [x, y])
    g = rng.standard_normal(3)
    of_first = pull_back(g)
    onp.testing.assert_array_equal(of_first[0], g / 2.0 * y)
    (solve,) = of_first.diagnostics
    onp.testing.assert_array_equal(solve, [onp.ones(3), onp.abs(g) / 1e3])
    of_second = pull_back(None, g)
    assert len(of_second.diagnostics) == 2  # the last of the function first
    for solve, divisor in zip(of_second.diagnostics, (1e3, 2e3), strict=True):
        onp.testing.assert_allclose(solve.residual, onp.abs(g) / divisor)
    assert pull_back(None, None, g).diagnostics == []
    # nothing of one pass is left in the next, and autograd's own pass goes through
    assert len(pull_back(g).diagnostics) == 1
    onp.testing.assert_array_equal(grad(lambda x: np.sum(halved(x)))(x), 0.5)
