"""The layers against the elementary operations they are made of."""

import autograd.numpy as np
import numpy as onp
import pytest
from gradients import assert_close, check_gradients, cotangents, random_like

from svae import layers

TWINS = {
    "affine": lambda x, w, b: np.matmul(x, w) + b,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "softplus": lambda x: np.log(1.0 + np.exp(x)),
    "bounded_exp": lambda x: np.exp(10.0 * np.tanh(x / 10.0)),
    "gaussian_log_density": lambda x, m, v, observed: np.sum(
        -0.5 * (x - m) ** 2 / v - 0.5 * np.log(2 * np.pi * v), axis=-1
    ),
    "masked gaussian_log_density": lambda x, m, v, observed: np.sum(
        observed * (-0.5 * (x - m) ** 2 / v - 0.5 * np.log(2 * np.pi * v)), axis=-1
    ),
}


def arguments(name, rng):
    if name == "affine":
        return [rng.standard_normal(s) for s in ((2, 3, 4), (4, 5), (5,))]
    if name.endswith("gaussian_log_density"):
        mean = rng.standard_normal((2, 3, 4))
        return [mean, rng.uniform(0.5, 2.0, (2, 3, 4))]
    return [2 * rng.standard_normal((3, 4))]


def bind(function, name, rng):
    """Fix the observations, which have no gradient; they broadcast over samples."""
    if not name.endswith("gaussian_log_density"):
        return function
    x = rng.standard_normal((2, 1, 4))
    observed = rng.random(x.shape) < 0.6 if name.startswith("masked") else None
    return lambda mean, variance: function(x, mean, variance, observed)


def layer_of(name):
    return getattr(layers, name.split()[-1])


@pytest.mark.parametrize("name", TWINS)
def test_value_and_gradients_are_those_of_the_twin(name, rng):
    args = arguments(name, rng)
    layer, twin = (
        bind(f, name, onp.random.default_rng(1)) for f in (layer_of(name), TWINS[name])
    )
    assert_close(layer(*args), twin(*args), 1e-13)
    outputs_bar = random_like(rng, [layer(*args)])
    got = cotangents(lambda *a: [layer(*a)], args, outputs_bar)
    want = cotangents(lambda *a: [twin(*a)], args, outputs_bar)
    assert_close(got, want, 1e-12)
    check_gradients(lambda *a: [layer(*a)], args, rng)


@pytest.mark.parametrize("name", TWINS)
def test_second_derivatives_are_those_of_the_twin(name, rng):
    args = arguments(name, rng)
    directions = random_like(rng, args)
    results = []
    for f in (layer_of(name), TWINS[name]):
        f = bind(f, name, onp.random.default_rng(1))

        def slopes(*a, f=f):
            return cotangents(lambda *b: [np.sum(f(*b) ** 2)], a, [1.0])

        results.append(cotangents(slopes, args, directions))
    assert_close(results[0], results[1], 1e-10)


def test_nothing_overflows():
    with onp.errstate(over="raise", invalid="raise"):
        for name in ("sigmoid", "softplus", "bounded_exp"):
            values = getattr(layers, name)(onp.array([-1e4, 0.0, 1e4]))
            assert onp.all(onp.isfinite(values))
