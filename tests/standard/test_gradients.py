"""Gradients of every argument, by differences, of singular covariances too."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad, hessian

from svae.standard import (
    LinearGaussian,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    log_likelihood,
    sample,
    sample_posterior,
)
from svae.testing import check_gradients, state_space_problem
from tests.helpers.state_space import season

FORM = pytest.mark.parametrize("form", ["information", "covariance"])
FUNCTIONS = kalman_filter, kalman_predict, kalman_smoother
NAMES = LinearGaussian._fields
COVARIANCES = "Q", "R", "P0"


def of_arrays(function, problem):
    """Return a function of the parameters, the observed y and u, and these."""
    params, y, u, lengths = problem
    names = [name for name in NAMES if getattr(params, name) is not None]
    seen = ~onp.isnan(y)

    def call(*arrays):
        *values, data, inputs = arrays
        found = {
            name: (x + np.swapaxes(x, -1, -2)) / 2 if name in COVARIANCES else x
            for name, x in zip(names, values, strict=True)
        }
        data = np.where(seen, data, onp.nan)
        inputs = None if u is None else inputs
        result = function(LinearGaussian(**found), data, inputs, lengths)
        return list(result) if isinstance(result, tuple) else [result]

    arrays = [onp.asarray(getattr(params, name), float) for name in names]
    inputs = onp.zeros(1) if u is None else u
    return call, [*arrays, onp.where(seen, y, 0.0), inputs]


@FORM
@pytest.mark.parametrize("per_step", ["", "T", "NT"])
def test_the_likelihood_in_every_argument(per_step, form, rng):
    problem = state_space_problem(
        rng, U=2, per_step=per_step, missing=0.3, lengths=np.array([4, 2, 1])
    )

    def of_one(*arguments):
        return log_likelihood(*arguments, form=form)

    check_gradients(*of_arrays(of_one, problem), rng)


@FORM
@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_moments_in_every_argument(function, form, rng):
    problem = state_space_problem(rng, U=1, missing=0.2, lengths=np.array([4, 2, 1]))

    def of_one(*arguments):
        return function(*arguments, form=form)

    check_gradients(*of_arrays(of_one, problem), rng)


@FORM
def test_second_derivatives(form, rng):
    params, y, _, _ = state_space_problem(rng, N=1, D=1, P=1, missing=0.2)

    def of_A(A):
        return log_likelihood(params._replace(A=A), y, form=form).sum()

    step = 1e-5
    slope = grad(of_A)
    want = (slope(params.A + step) - slope(params.A - step)) / (2 * step)
    assert hessian(of_A)(params.A).item() == pytest.approx(want.item(), rel=1e-6)


def complex_slope(f, x, direction):
    """Return the derivative along a direction, by Richardson's differences."""
    steps = 1e-2 * 0.5 ** onp.arange(6)
    table = [(f(x + h * direction) - f(x - h * direction)) / (2 * h) for h in steps]
    for order in range(1, len(table)):
        factor = 4.0**order
        table = [
            (factor * b - a) / (factor - 1)
            for a, b in zip(table[:-1], table[1:], strict=True)
        ]
    return table[-1]


def test_a_local_level_with_a_season_in_its_variances(rng):
    """Q has rank two of four, and a season of variance zero: in it and beside it."""
    y = onp.cumsum(rng.standard_normal(12))[:, None]
    y[4] = onp.nan

    def value(variances):
        return log_likelihood(season(*variances), y)

    for variances in ([0.5, 0.2, 0.3], [0.5, 0.0, 0.3], [0.0, 0.0, 1.0]):
        slope = grad(value)(onp.array(variances))
        for k, unit in enumerate(onp.eye(3)):
            # one-sided where the variance is zero: a polynomial of order six through it
            steps = 1e-3 * onp.arange(8)
            values = [value(onp.array(variances) + h * unit) for h in steps]
            fitted = onp.polynomial.Polynomial.fit(steps, values, 7).deriv()(0.0)
            assert slope[k] == pytest.approx(fitted, rel=1e-6, abs=1e-8)


def test_every_entry_of_a_singular_covariance():
    """The gradient along directions that leave the covariance one."""
    rng = onp.random.default_rng(3)
    params = season(0.5, 0.0, 0.3)
    y = rng.standard_normal((8, 1))
    for name in COVARIANCES:
        cov = onp.asarray(getattr(params, name), float)

        def of_cov(x, name=name):
            return log_likelihood(params._replace(**{name: x}), y)

        slope = grad(of_cov)(cov)
        onp.testing.assert_array_equal(slope, slope.T)
        root = rng.standard_normal(cov.shape)
        direction = root @ root.T / len(root)
        steps = 1e-3 * onp.arange(8)
        values = [of_cov(cov + h * direction) for h in steps]
        fitted = onp.polynomial.Polynomial.fit(steps, values, 7).deriv()(0.0)
        assert onp.sum(slope * direction) == pytest.approx(fitted, rel=1e-7)


def test_observations_without_noise():
    """R of zero: the gradient in R and in C, of what the past leaves open."""
    rng = onp.random.default_rng(4)
    params, y, _, _ = state_space_problem(rng, N=2, P=1, T=5)
    params = params._replace(R=onp.zeros((1, 1)))
    call, arrays = of_arrays(log_likelihood, (params, y, None, None))
    slope = grad(lambda R: log_likelihood(params._replace(R=R), y).sum())(params.R)
    steps = 1e-3 * onp.arange(8)
    values = [log_likelihood(params._replace(R=[[h]]), y).sum() for h in steps]
    fitted = onp.polynomial.Polynomial.fit(steps, values, 7).deriv()(0.0)
    assert slope.item() == pytest.approx(fitted, rel=1e-6)

    def of_C(C):
        return [log_likelihood(params._replace(C=C), y)]

    check_gradients(of_C, [params.C], rng)


@pytest.mark.parametrize("function", [kalman_filter, kalman_smoother])
def test_moments_with_singular_noise(function):
    rng = onp.random.default_rng(5)
    params = season(0.5, 0.2, 0.3)
    y = rng.standard_normal((7, 1))
    bars = [rng.standard_normal(x.shape) for x in function(params, y)]

    def value(Q):
        found = function(params._replace(Q=Q), y)
        return sum(np.sum(x * bar) for x, bar in zip(found, bars, strict=True))

    root = rng.standard_normal((4, 4))
    direction = root @ root.T / 4
    steps = 1e-3 * onp.arange(8)
    values = [value(params.Q + h * direction) for h in steps]
    fitted = onp.polynomial.Polynomial.fit(steps, values, 7).deriv()(0.0)
    slope = np.sum(grad(value)(params.Q) * direction)
    assert slope == pytest.approx(fitted, rel=1e-6)


@FORM
def test_draws_in_every_argument(form, rng):
    problem = state_space_problem(rng, N=2, U=1, lengths=np.array([4, 2]))
    size = 2 + 2 * (form == "covariance")
    noise = rng.standard_normal((2, 3, 4, size))

    def posterior(params, y, u, lengths):
        return sample_posterior(params, y, u=u, lengths=lengths, noise=noise, form=form)

    check_gradients(*of_arrays(posterior, problem), rng)


def test_draws_of_the_model_in_every_argument(rng):
    params, y, u, _ = state_space_problem(rng, N=1, U=1)
    noise = rng.standard_normal((3, 4, 4))

    def draws(params, y, u, lengths):
        return tuple(sample(params, 4, u=u[0], noise=noise))

    call, arrays = of_arrays(draws, (params, y, u, None))
    check_gradients(lambda *x: call(*x, y, u), arrays[:-2], rng)


def test_data_far_from_zero_cost_a_gradient_nothing(rng):
    """In either form: of expectations of squares there are only those of residuals."""
    params, y, _, _ = state_space_problem(rng, N=2, T=20, missing=0.2)
    params = params._replace(A=onp.eye(2), m0=params.m0 + 1e4)
    y = y + params.C @ onp.full(2, 1e4)
    for name in NAMES[:6]:

        def of_one(x, form, name=name):
            total = log_likelihood(params._replace(**{name: x}), y, form=form)
            return np.sum(total)

        x = getattr(params, name)
        got, want = (grad(of_one)(x, form) for form in ("information", "covariance"))
        assert onp.abs(got - want).max() < 1e-9 * onp.abs(want).max(), name
