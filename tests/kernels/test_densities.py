"""The density of frames of one variance is its definition, with all derivatives."""

import numpy as np
import pytest
from autograd import grad
from scipy import stats

from svae import reference
from svae.kernels.densities import homoscedastic_log_density
from svae.testing import cotangents, relative_error

SHAPES = {"shared": (), "dimension": (3,)}


def problem(rng, shape, masked):
    data, location = (
        rng.standard_normal((2, 1, 4, 3)),
        rng.standard_normal((2, 5, 4, 3)),
    )
    observed = rng.random((2, 1, 4, 3)) < 0.6 if masked else None
    if masked:
        observed[0, 0, 1] = False
    return data, location, np.exp(rng.standard_normal(shape)), observed


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_the_sum_of_log_densities_of_scipy(shape, masked, rng):
    data, location, variance, observed = problem(rng, shape, masked)
    terms = stats.norm.logpdf(data, location, np.sqrt(variance))
    want = np.sum(terms if observed is None else terms * observed, axis=-1)
    got = homoscedastic_log_density(data, location, variance, observed)
    assert relative_error(got, want) < 1e-13
    defined = reference.homoscedastic_log_density(data, location, variance, observed)
    assert relative_error(defined, want) < 1e-13


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_its_gradients_are_those_of_the_definition(shape, masked, rng):
    data, location, variance, observed = problem(rng, shape, masked)
    weights = [rng.standard_normal((2, 5, 4))]

    def with_density(density):
        return lambda x, v: [density(data, x, v, observed)]

    got, want = (
        cotangents(with_density(density), (location, variance), weights)
        for density in (
            homoscedastic_log_density,
            reference.homoscedastic_log_density,
        )
    )
    for one, other in zip(got, want, strict=True):
        assert relative_error(one, other) < 1e-13


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_can_be_differentiated_twice(shape, rng):
    data, location, variance, _ = problem(rng, shape, False)
    direction = rng.standard_normal(location.shape)

    def slope(density):
        def along(v):
            of_location = grad(lambda x: np.sum(density(data, x, v) ** 2))(location)
            return np.sum(of_location * direction)

        return grad(along)(variance)

    got, want = map(
        slope, (homoscedastic_log_density, reference.homoscedastic_log_density)
    )
    assert relative_error(got, want) < 1e-12
