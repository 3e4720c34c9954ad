"""The layers against the elementary operations they are made of."""

import autograd.numpy as np
import numpy as onp
import pytest

from svae import reference
from svae.kernels import layers
from svae.testing import (
    assert_close,
    assert_identical,
    check_gradients,
    cotangents,
    random_like,
)
from tests.helpers.layers import HEADS, SHAPE, head_of, head_problem

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
    "tanh_layer": reference.tanh_layer,
}


def arguments(name, rng):
    if name in ("affine", "tanh_layer"):
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


each_head = pytest.mark.parametrize(("mean", "residual", "masked"), HEADS)


@each_head
def test_a_gaussian_head_is_that_of_the_reference(mean, residual, masked, rng):
    args, data, observed = head_problem(rng, residual, masked, **SHAPE)
    head, twin = (head_of(m, mean, data, observed) for m in (layers, reference))
    assert_close(head(*args), twin(*args), 1e-13)
    outputs_bar = random_like(rng, head(*args))
    got, want = (cotangents(f, args, outputs_bar) for f in (head, twin))
    assert_close(got, want, 1e-12)
    check_gradients(head, args, rng)
    directions = random_like(rng, args)
    second = [
        cotangents(
            lambda *a, f=f: cotangents(lambda *b: [f(*b)[0] ** 2], a, outputs_bar),
            args,
            directions,
        )
        for f in (head, twin)
    ]
    assert_close(*second, 1e-10)


@each_head
def test_only_the_arguments_that_vary_have_cotangents(mean, residual, masked, rng):
    args, data, observed = head_problem(rng, residual, masked, **SHAPE)
    head = head_of(layers, mean, data, observed)
    outputs_bar = random_like(rng, head(*args))
    together = cotangents(head, args, outputs_bar)
    for k, x in enumerate(args):
        (alone,) = cotangents(
            lambda x, k=k: head(*args[:k], x, *args[k + 1 :]), [x], outputs_bar
        )
        assert_identical(alone, together[k])
