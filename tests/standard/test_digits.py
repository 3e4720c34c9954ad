"""How many digits are right where covariances are singular, or nearly so."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad

from svae.standard import (
    LinearGaussian,
    forms,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    log_likelihood,
)
from svae.standard.system import as_system
from svae.testing import (
    StateSpaceProblem,
    assert_close,
    relative_error,
    state_space_oracle,
    state_space_problem,
    state_space_slope,
)
from tests.helpers.state_space import season

FAR = onp.full(4, 100.0)
SPEED = LinearGaussian(
    A=onp.array([[1.0, 1.0], [0.0, 1.0]]),
    Q=onp.diag([0.0, 1e-4]),
    C=onp.array([[1.0, 0.0]]),
    R=onp.eye(1),
    m0=onp.array([100.0, 0.0]),
    P0=1e6 * onp.eye(2),
)
WALK = LinearGaussian(
    onp.eye(1), onp.eye(1), onp.eye(1), 1e-12 * onp.eye(1), [100.0], 1e6 * onp.eye(1)
)
HARD = {
    "exact observations": WALK,
    "slow": WALK._replace(Q=1e-8 * onp.eye(1), R=onp.eye(1), P0=onp.eye(1)),
    "season": season(0.5, 0.2, 0.3, 1e6)._replace(m0=FAR),
    "season, exact": season(0.5, 0.2, 1e-12, 1e6)._replace(m0=FAR),
    "season, no noise": season(0.5, 0.2, 0.0, 1e6)._replace(m0=FAR),
    "speed": SPEED,
    "regression": SPEED._replace(Q=onp.zeros((2, 2)), R=1e-4 * onp.eye(1)),
}
"""By name: P0 of 1e6, a mean of 100, Q of less than full rank, R of 1e-12 or none."""


def problem_of(params, rng, T=7):
    y = 100 + onp.cumsum(rng.standard_normal((1, T, 1)), 1)
    y[0, 3] = onp.nan
    return StateSpaceProblem(params, y)


@pytest.mark.parametrize("kind", HARD)
def test_values_have_eleven_digits(kind, rng):
    pytest.importorskip("mpmath")
    problem = problem_of(HARD[kind], rng)
    filtered, predicted, smoothed = state_space_oracle(problem)
    for function, want in (
        (kalman_filter, filtered),
        (kalman_predict, predicted),
        (kalman_smoother, smoothed),
    ):
        got = function(*problem[:2])
        for name in ("mean", "cov", "cross_cov"):
            for t in range(getattr(want, name, onp.zeros((0, 0))).shape[1]):
                error = relative_error(
                    getattr(got, name)[0, t], getattr(want, name)[0, t]
                )
                assert error < 1e-11, f"{function.__name__}, {name}, step {t}: {error}"
    total = log_likelihood(*problem[:2])
    assert_close(total, filtered.log_likelihood, rtol=1e-13)


@pytest.mark.parametrize("kind", ["exact observations", "season", "regression"])
def test_gradients_have_nine_digits(kind, rng):
    pytest.importorskip("mpmath")
    params, y, _, _ = problem = problem_of(HARD[kind], rng, T=5)
    for name in ("A", "Q", "C", "R", "m0", "P0"):
        x = onp.asarray(getattr(params, name), float)
        direction = onp.abs(x).max(initial=1e-3) * rng.standard_normal(x.shape)
        if name in ("Q", "R", "P0"):
            direction = direction + direction.T

        def of_one(x, name=name):
            return np.sum(log_likelihood(params._replace(**{name: x}), y))

        slope = grad(of_one)(x)
        want = state_space_slope(problem, name, direction)
        terms = onp.abs(slope * direction).sum()
        assert abs(onp.sum(slope * direction) - want) < 1e-9 * terms, name


def test_the_form_is_chosen_by_digits(rng):
    regular = state_space_problem(rng)
    assert forms.choose(as_system(*regular), "auto") == "information"
    for kind, params in HARD.items():
        system = as_system(params, problem_of(params, rng).y)
        assert forms.choose(system, "auto") == "covariance", kind


@pytest.mark.parametrize("size", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("name", ["Q", "R", "P0"])
def test_the_information_form_keeps_ten_digits_where_it_is_chosen(name, size, rng):
    """Whatever is small: the other form is the truth, which needs no inverse."""
    params, y, _, _ = state_space_problem(rng, N=2, T=30)
    for factor in (size, 1 / size):
        scaled = params._replace(**{name: factor * getattr(params, name)})
        got, want = (
            kalman_smoother(scaled, y, form=form) for form in ("auto", "covariance")
        )
        assert_close(got, want, rtol=1e-10)


def test_a_state_that_is_known_stays_known():
    """P0, Q and R of zero at once, where the past does not settle the observation."""
    params = LinearGaussian(
        A=onp.array([[1.0, 1.0], [0.0, 1.0]]),
        Q=onp.diag([0.0, 1.0]),
        C=onp.array([[1.0, 0.0]]),
        R=onp.zeros((1, 1)),
        m0=onp.array([1.0, 2.0]),
        P0=onp.zeros((2, 2)),
    )
    y = onp.array([[onp.nan], [onp.nan], [7.0]])
    found = kalman_smoother(params, y)
    # x_3 = 1 + 2 + 2 + w_1, which is 7
    assert_close(found.mean, onp.array([[1, 2], [3, 4], [7, 4.0]]), rtol=1e-15)
    assert_close(found.cov[:2], onp.zeros((2, 2, 2)), rtol=1e-30)
    assert_close(found.cov[2], onp.diag([0.0, 1.0]), rtol=1e-15)
    assert found.log_likelihood == pytest.approx(-2 - onp.log(2 * onp.pi) / 2)
