"""Optimisers against closed forms and against autograd's Adam."""

import numpy as np
import pytest
from autograd.misc.optimizers import adam

from svae import kernels, reference
from svae.autodiff.trees import from_vector, leaves, rebuild, to_vector, tree_map
from svae.families.product import natural_step
from svae.training.adam import adam_init, adam_step


def test_adam_is_that_of_autograd(rng):
    target = rng.standard_normal(7)

    def ascent(x, _=0):
        return 2 * (target - x) * np.arange(1, 8)

    x, state = np.zeros(7), adam_init(7)
    for _ in range(50):
        x, state = adam_step(x, ascent(x), state, 0.01)
    descent = adam(lambda x, i: -ascent(x), np.zeros(7), num_iters=50, step_size=0.01)
    # autograd's bias corrections are the same, its epsilon sits beside the root too
    np.testing.assert_allclose(x, descent, rtol=1e-6)


def test_adam_leaves_its_arguments_alone(rng):
    x, gradient, state = rng.standard_normal(3), rng.standard_normal(3), adam_init(3)
    before = x.copy()
    adam_step(x, gradient, state, 0.1)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(state.mean, 0.0)


def test_compiled_adam_is_that_of_the_reference(rng):
    for size in (0, 1, 5, 10_007):
        vector, gradient, mean = rng.standard_normal((3, size))
        square = rng.random(size)
        words = 0.01, 1e-8, 0.9, 0.999
        new = kernels.adam(vector, gradient, mean, square, *words)
        expected = reference.adam(vector, gradient, mean, square, *words)
        np.testing.assert_allclose(new, expected, rtol=1e-13, atol=1e-16)


def test_adam_moves_trees_as_it_moves_vectors(rng):
    tree = {"b": [rng.random((2, 3)), None], "a": (np.float64(2.0), rng.random(2))}
    gradient = tree_map(lambda x: rng.standard_normal(np.shape(x)), tree)
    # as the gradient of a matrix may be: held column by column
    gradient["b"][0] = np.asfortranarray(gradient["b"][0])
    moved, state = adam_step(tree, gradient, adam_init(9), 0.1)
    vector, same = adam_step(to_vector(tree), to_vector(gradient), adam_init(9), 0.1)
    np.testing.assert_array_equal(to_vector(moved), vector)
    assert moved["b"][1] is None
    for got, want in zip(state, same, strict=True):
        np.testing.assert_array_equal(got, want)


def test_adam_refuses_trees_that_do_not_agree(rng):
    state = adam_init(5)
    with pytest.raises(ValueError, match="different sizes"):
        adam_step([np.zeros(2), np.zeros(3)], [np.zeros(3), np.zeros(2)], state, 0.1)
    with pytest.raises(ValueError, match="1 arrays, wanted 2"):
        adam_step([np.zeros(2), np.zeros(3)], [np.zeros(5)], state, 0.1)
    with pytest.raises(ValueError, match="mean has shape"):
        adam_step([np.zeros(2)], [np.zeros(2)], state, 0.1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_adam_refuses_a_gradient_that_is_not_finite(rng, wrong):
    gradient = rng.standard_normal(20)
    gradient[17] = wrong
    with pytest.raises(FloatingPointError, match="not finite"):
        adam_step(np.zeros(20), gradient, adam_init(20), 0.1)


def test_natural_step_halves_until_valid():
    moved, backtracks = natural_step(
        {"a": (np.array([1.0]),)},
        {"a": (np.array([-6.0]),)},
        1.0,
        lambda tree: tree["a"][0][0] > 0,
    )
    assert backtracks == 3
    assert moved["a"][0][0] == 0.25


def test_natural_step_takes_a_valid_step_whole():
    moved, backtracks = natural_step([np.ones(2)], [np.ones(2)], 0.5, lambda tree: True)
    assert backtracks == 0
    np.testing.assert_array_equal(moved[0], 1.5)


def test_natural_step_refuses_what_is_not_finite():
    with pytest.raises(FloatingPointError, match="domain"):
        natural_step(
            [np.ones(1)], [np.array([np.nan])], 1.0, lambda t: bool(np.isfinite(t[0]))
        )


def test_trees_round_trip(rng):
    tree = {
        "b": [rng.random((2, 3)), None],
        "a": (np.float64(2.0), {"c": rng.random(2)}),
    }
    vector = to_vector(tree)
    assert vector.shape == (9,)
    back = from_vector(tree, vector)
    for got, want in zip(leaves(back), leaves(tree), strict=True):
        np.testing.assert_array_equal(got, want)
    assert list(back) == ["b", "a"]
    assert back["b"][1] is None
    doubled = tree_map(lambda x, y: x + y, tree, back)
    np.testing.assert_array_equal(to_vector(doubled), 2 * vector)
    assert rebuild(tree, leaves(tree))["a"][0] == 2.0
    assert to_vector({}).shape == (0,)
