"""Expected statistics are derivatives of the log normalizer, to second order."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.builtins import tuple as box_tuple
from autograd.core import make_vjp

from tests.helpers.families import (
    assert_all_close,
    every_batch,
    every_family,
    inner,
    make,
)


def random_direction(rng, natparams, name):
    """A tangent direction: symmetric where the parameter is a symmetric matrix."""
    direction = [rng.standard_normal(np.shape(eta)) for eta in natparams]
    for i in symmetric_entries(name):
        direction[i] = direction[i] + np.swapaxes(direction[i], -1, -2)
    return tuple(direction)


def symmetric_entries(name):
    return {"gaussian": (0,), "wishart": (0,), "niw": (0,), "mniw": (0, 2)}.get(
        name, ()
    )


def step(natparams, direction, size):
    return tuple(e + size * d for e, d in zip(natparams, direction, strict=True))


@every_family
@every_batch
def test_expected_stats_are_the_gradient_of_the_log_normalizer(name, batch):
    family, natparams = make(name, batch)
    gradient = grad(lambda eta: anp.sum(family.log_normalizer(eta)))(natparams)
    stats = family.expected_stats(natparams)
    assert type(stats) is tuple
    assert np.shape(family.log_normalizer(natparams)) == batch
    assert_all_close(stats, gradient, 1e-10)


@every_family
def test_expected_stats_match_differences_of_the_log_normalizer(name):
    family, natparams = make(name)
    direction = random_direction(np.random.default_rng(1), natparams, name)
    exact = inner(direction, family.expected_stats(natparams))
    size = 1e-5
    ahead = family.log_normalizer(step(natparams, direction, size))
    behind = family.log_normalizer(step(natparams, direction, -size))
    assert (ahead - behind) / (2 * size) == pytest.approx(exact, rel=1e-7)


@every_family
@every_batch
def test_vjp_of_expected_stats_is_the_hessian(name, batch):
    family, natparams = make(name, batch)
    direction = random_direction(np.random.default_rng(2), natparams, name)
    vjp, _ = make_vjp(lambda eta: box_tuple(family.expected_stats(eta)), natparams)
    product_of_stats = vjp(direction)

    def slope(eta):
        gradient = grad(lambda e: anp.sum(family.log_normalizer(e)))(eta)
        return sum(anp.sum(g * d) for g, d in zip(gradient, direction, strict=True))

    assert_all_close(product_of_stats, grad(slope)(natparams), 1e-9)

    size = 1e-5
    ahead = family.expected_stats(step(natparams, direction, size))
    behind = family.expected_stats(step(natparams, direction, -size))
    differences = [(a - b) / (2 * size) for a, b in zip(ahead, behind, strict=True)]
    assert_all_close(product_of_stats, differences, 1e-6)


@every_family
@every_batch
def test_cotangents_of_symmetric_matrices_are_symmetric(name, batch):
    family, natparams = make(name, batch)
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(np.shape(eta)) for eta in natparams]

    def nonlinear(eta):
        stats = family.expected_stats(eta)
        terms = [anp.sum(w * s**2) for w, s in zip(weights, stats, strict=True)]
        return sum(terms) + anp.sum(family.log_normalizer(eta) ** 2)

    gradient = grad(nonlinear)(natparams)
    for i in symmetric_entries(name):
        matrix = gradient[i]
        error = np.max(np.abs(matrix - np.swapaxes(matrix, -1, -2)))
        assert error <= 1e-12 * np.max(np.abs(matrix))


@pytest.mark.parametrize("name", ["gaussian", "wishart", "niw", "mniw"])
def test_only_the_symmetric_part_counts(name):
    family, natparams = make(name)
    skewed = list(natparams)
    for i in symmetric_entries(name):
        skew = np.triu(np.ones(natparams[i].shape), 1)
        skewed[i] = natparams[i] + skew - skew.T
    assert_all_close(
        family.expected_stats(tuple(skewed)), family.expected_stats(natparams), 1e-10
    )
