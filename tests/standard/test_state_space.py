"""State-space models: filter, prediction, smoother and likelihood, in both forms."""

import numpy as np
import pytest

from svae.standard import (
    LinearGaussian,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    log_likelihood,
)
from svae.testing import assert_close, state_space_oracle, state_space_problem
from svae.testing.gradients import assert_identical

FUNCTIONS = kalman_filter, kalman_predict, kalman_smoother
FORM = pytest.mark.parametrize("form", ["information", "covariance"])
PROBLEMS = {
    "constant": {},
    "per step": {"per_step": "T", "U": 2},
    "per sequence": {"per_step": "NT", "U": 1, "missing": 0.3},
    "missing": {"missing": 0.4, "P": 3},
    "unobserved": {"missing": 1.0},
    "ragged": {"lengths": np.array([4, 1, 3]), "U": 2, "missing": 0.2},
    "one step": {"T": 1, "U": 1},
    "one dimension": {"D": 1, "P": 1, "T": 6},
    "more states": {"D": 3, "P": 1},
}


@FORM
@pytest.mark.parametrize("kind", PROBLEMS)
def test_all_moments_are_those_of_the_dense_joint(kind, form, rng):
    pytest.importorskip("mpmath")
    problem = state_space_problem(rng, **PROBLEMS[kind])
    want = state_space_oracle(problem)
    for function, answer in zip(FUNCTIONS, want, strict=True):
        assert_close(function(*problem, form=form), answer, rtol=1e-11)
    total = log_likelihood(*problem, form=form)
    assert_close(total, want[0].log_likelihood, rtol=1e-12)


@FORM
def test_a_sequence_may_come_without_its_axis(form, rng):
    params, y, u, _ = state_space_problem(rng, N=1, U=2, missing=0.2)
    for function in FUNCTIONS:
        many = function(params, y, u, form=form)
        one = function(params, y[0], u[0], form=form)
        for a, b in zip(many, one, strict=True):
            np.testing.assert_array_equal(a[0], b)
    assert log_likelihood(params, y[0], u[0], form=form).shape == ()


@FORM
def test_a_sequence_alone_is_the_same_bit_for_bit(form, rng):
    params, y, u, lengths = state_space_problem(
        rng, N=4, T=5, U=1, missing=0.3, lengths=np.array([5, 3, 1, 4])
    )
    for function in FUNCTIONS:
        together = function(params, y, u, lengths, form=form)
        for n, length in enumerate(lengths):
            one = np.s_[n : n + 1]
            alone = function(params, y[one], u[one], lengths[one], form=form)
            assert_identical([x[0] for x in alone], [x[n] for x in together])
            part = np.s_[n : n + 1, :length]
            cut = function(params, y[part], u[part], form=form)
            for name, a, b in zip(alone._fields, cut, together, strict=True):
                b = b[n]
                if name != "log_likelihood":
                    b, rest = np.split(b, [a.shape[1]])
                    assert not rest.any()
                assert_close(a[0], b, rtol=1e-14)


@FORM
def test_nothing_is_read_past_a_length(form, rng):
    lengths = np.array([2, 4, 1])
    problem = state_space_problem(rng, U=1, per_step="NT", lengths=lengths)
    live = np.arange(4) < lengths[:, None]

    def spoiled(x):
        keep = live[:, 4 - x.shape[1] :].reshape(3, -1, *[1] * (x.ndim - 2))
        return np.where(keep, x, np.nan)

    params, y, u, _ = problem
    names = "A", "Q", "C", "R", "B", "D"
    changed = {name: spoiled(getattr(params, name)) for name in names}
    other = params._replace(**changed), spoiled(y), spoiled(u), lengths
    for function in (*FUNCTIONS, log_likelihood):
        assert_identical(function(*other, form=form), function(*problem, form=form))


@FORM
def test_a_missing_entry_is_marginalised(form, rng):
    """As rows of C and of R that are not there, with noise that entries share."""
    params, y, _, _ = state_space_problem(rng, P=3)
    y[:, :, 1] = np.nan
    rows = [0, 2]
    fewer = params._replace(C=params.C[rows], R=params.R[np.ix_(rows, rows)])
    got = kalman_smoother(params, y, form=form)
    assert_close(got, kalman_smoother(fewer, y[..., rows], form=form), rtol=1e-12)


@FORM
def test_predictions_sum_to_the_likelihood(form, rng):
    problem = state_space_problem(rng, T=6, U=1, missing=0.3)
    predicted = kalman_predict(*problem, form=form)
    total = log_likelihood(*problem, form=form)
    assert_close(predicted.log_density.sum(1), total, rtol=1e-12)


@FORM
def test_cross_covariances_are_no_second_moments(form, rng):
    """They do not depend on the data, wherever these are."""
    params, y, _, _ = state_space_problem(rng)
    near, far = (kalman_smoother(params, z, form=form) for z in (y, y + 100.0))
    assert_close(near.cross_cov, far.cross_cov, rtol=1e-14)
    assert_close(near.cov, far.cov, rtol=1e-14)
    assert np.abs(near.mean - far.mean).min() > 0.5


def test_constant_matrices_may_be_given_per_step(rng):
    params, y, _, _ = state_space_problem(rng, T=4)
    per_step = params._replace(
        A=np.stack([params.A] * 3),
        Q=np.stack([params.Q] * 3),
        C=np.stack([params.C] * 4),
        R=np.stack([params.R] * 4),
        P0=np.stack([params.P0] * 3),
        m0=np.stack([params.m0] * 3),
    )
    for function in FUNCTIONS:
        assert_close(function(params, y), function(per_step, y), rtol=1e-13)


def test_inputs_move_states_and_observations():
    """By hand: x_2 = 0.5 x_1 + 2 u_1 without noise, y = x + 10 u."""
    zero = np.zeros((1, 1))
    params = LinearGaussian(
        A=[[0.5]], Q=zero, C=[[1.0]], R=[[1.0]], m0=[3.0], P0=zero, B=[[2.0]], D=[[10]]
    )
    u = np.array([[1.0], [-1.0]])
    found = kalman_predict(params, np.full((2, 1), np.nan), u)
    assert found.mean[:, 0].tolist() == [3.0, 3.5]
    assert found.y_mean[:, 0].tolist() == [13.0, -6.5]
    assert found.y_cov[:, 0, 0].tolist() == [1.0, 1.0]
    assert found.log_density.tolist() == [0.0, 0.0]
