"""The checks notice what is wrong, and say where."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd.extend import defvjp, primitive

from svae.testing import (
    assert_close,
    assert_identical,
    check_against,
    check_gradients,
    relative_error,
)


@primitive
def product(x, y):
    return x * y


# the cotangent of y is wrong in the eighth digit
defvjp(
    product,
    lambda _, x, y: lambda g: g * y,
    lambda _, x, y: lambda g: g * x * 1.00000003,
)


def test_a_gradient_that_is_wrong_in_the_eighth_digit_is_seen(rng):
    args = list(rng.standard_normal((2, 5)))
    with pytest.raises(AssertionError, match="output 1, argument 1"):
        check_gradients(lambda x, y: [x + y, product(x, y)], args, rng)
    with pytest.raises(AssertionError, match="output 1"):
        check_against(lambda x, y: [product(x, y)], lambda x, y: [x * y], args, rng)


def test_small_numbers_have_relative_errors_of_their_own():
    assert relative_error([1e-20, 2e-20], [1e-20, 1e-20]) == 1.0
    with pytest.raises(AssertionError, match="output 1: 1.0"):
        assert_close([1.0, 2e-20], [1.0, 1e-20], 1e-9)
    assert relative_error([0.5], [0.0]) == 0.5  # of nothing, the difference itself


def test_shapes_are_compared(rng):
    with pytest.raises(AssertionError, match=r"shape \(3,\), wanted \(1, 3\)"):
        relative_error(onp.ones(3), onp.ones((1, 3)))


def test_identical_is_to_the_last_bit():
    with pytest.raises(AssertionError, match="output 0 differs by"):
        assert_identical([onp.array([1.0])], [onp.nextafter([1.0], 2.0)])


def test_right_gradients_pass(rng):
    args = list(rng.standard_normal((2, 5)))
    check_gradients(lambda x, y: [np.sin(x) * y, x * y], args, rng)
    check_against(lambda x, y: [x * y], lambda x, y: [y * x], args, rng)
