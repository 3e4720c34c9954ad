"""What is malformed is refused by name, sequence and step."""

import numpy as np
import pytest

import svae
from svae.standard import (
    kalman_filter,
    kalman_smoother,
    log_likelihood,
    sample,
    sample_posterior,
)
from svae.testing import state_space_problem


@pytest.fixture
def problem(rng):
    """Three sequences of four steps, two states, two observations, two inputs."""
    return state_space_problem(rng, U=2)


SHAPES = {
    "A": (np.ones((2, 3)), r"A has shape \(2, 3\), wanted \(2, 2\) or \(3, 2, 2\)"),
    "Q": (np.eye(3), r"Q has shape \(3, 3\), wanted \(2, 2\) or \(3, 2, 2\)"),
    "C": (np.eye(3), r"C has shape \(3, 3\), wanted \(2, 2\) or \(4, 2, 2\)"),
    "R": (np.ones(2), r"R has shape \(2,\)"),
    "m0": (np.ones(3), r"P0 has shape \(2, 2\), wanted \(3, 3\)"),
    "P0": (np.eye(1), r"P0 has shape \(1, 1\)"),
    "B": (np.ones((2, 3)), r"B has shape \(2, 3\)"),
    "D": (np.ones((3, 2, 2)), r"D has shape \(3, 2, 2\), wanted .* \(4, 2, 2\)"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name, problem):
    params, y, u, _ = problem
    wrong, message = SHAPES[name]
    with pytest.raises(ValueError, match=message):
        log_likelihood(params._replace(**{name: wrong}), y, u)


def test_a_shape_that_would_do_is_said_once(problem):
    params, y, u, _ = problem
    with pytest.raises(ValueError) as refused:  # of one sequence two of them coincide
        log_likelihood(params._replace(A=np.ones((2, 3))), y[:1], u[:1])
    wanted = str(refused.value).split("wanted ")[1].split(" or ")
    assert len(wanted) == len(set(wanted)) > 1


@pytest.mark.parametrize("name", ["Q", "R", "P0"])
def test_covariances(name, problem):
    params, y, u, _ = problem
    cov = getattr(params, name)
    skew = cov + np.array([[0, 0.1], [0, 0]])
    with pytest.raises(ValueError, match=rf"{name} is not symmetric: .* \[0, 1\]"):
        log_likelihood(params._replace(**{name: skew}), y, u)
    negative = np.diag([1.0, -0.2])
    with pytest.raises(ValueError, match=rf"{name} is no covariance: .* -0.2"):
        log_likelihood(params._replace(**{name: negative}), y, u)
    steps = 4 if name == "R" else 3
    many = np.stack([cov] * steps)
    many[2] = negative
    with pytest.raises(ValueError, match=rf"{name}\[2\] is no covariance"):
        log_likelihood(params._replace(**{name: many}), y, u)
    if name == "P0":
        return
    each = np.stack([np.stack([cov] * steps)] * 3)
    each[1, 2] = skew
    with pytest.raises(ValueError, match=rf"{name}\[1, 2\] is not symmetric"):
        log_likelihood(params._replace(**{name: each}), y, u)
    lengths = np.array([4, 2, 4])  # the second has no third step
    assert np.isfinite(
        log_likelihood(params._replace(**{name: each}), y, u, lengths)
    ).all()


def test_rounding_is_no_asymmetry(problem):
    params, y, u, _ = problem
    Q = params.Q + np.array([[0, 1e-15], [0, 0]])
    assert np.isfinite(log_likelihood(params._replace(Q=Q), y, u)).all()
    root = np.array([[1.0], [1 / 3]])
    singular = root @ root.T
    assert np.isfinite(log_likelihood(params._replace(Q=singular), y, u)).all()


def test_numbers(problem):
    params, y, u, _ = problem
    with pytest.raises(ValueError, match=r"A\[1, 0\] is nan, wanted finite"):
        log_likelihood(params._replace(A=[[1.0, 0.0], [np.nan, 0.0]]), y, u)
    y[2, 1, 0] = np.inf
    with pytest.raises(ValueError, match=r"y\[2, 1, 0\] is inf, wanted a number"):
        log_likelihood(params, y, u)
    y[2, 1, 0] = np.nan
    u[1, 3, 1] = np.nan
    with pytest.raises(ValueError, match=r"u\[1, 3, 1\] is nan"):
        log_likelihood(params, y, u)
    log_likelihood(params, y, u, np.array([4, 3, 4]))
    with pytest.raises(ValueError, match=r"u\[3, 1\] is nan"):
        log_likelihood(params, y, u[1])


def test_inputs_and_their_effects_come_together(problem):
    params, y, u, _ = problem
    with pytest.raises(ValueError, match="B or D is given without u"):
        log_likelihood(params, y)
    with pytest.raises(ValueError, match="u is given without B or D"):
        log_likelihood(params._replace(B=None, D=None), y, u)


def test_forms_and_parameters(problem):
    params, y, u, _ = problem
    with pytest.raises(ValueError, match="form is 'square', wanted one of auto, "):
        log_likelihood(params, y, u, form="square")
    with pytest.raises(TypeError, match="params is tuple, wanted a LinearGaussian"):
        log_likelihood(tuple(params), y, u)
    with pytest.raises(ValueError, match="Q is singular, and form='information'"):
        log_likelihood(params._replace(Q=np.zeros((2, 2))), y, u, form="information")
    with pytest.raises(ValueError, match=r"noise has shape \(1, 4, 3\)"):
        sample(params._replace(m0=params.m0), 4, u=u[0], noise=np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match=r"noise has shape \(3, 1, 4, 3\)"):
        sample_posterior(params, y, u=u, noise=np.zeros((3, 1, 4, 3)))
    with pytest.raises(ValueError, match=r"lengths\[1\] is 5"):
        kalman_filter(params, y, u, np.array([4, 5, 1]))


@pytest.mark.parametrize("function", [log_likelihood, kalman_smoother])
def test_what_has_no_density_is_named(function, problem):
    """A state without noise, seen without noise: the second sight says nothing new."""
    params, y, u, _ = problem
    still = params._replace(
        A=np.eye(2), Q=np.zeros((2, 2)), R=np.zeros((2, 2)), C=np.eye(2)
    )
    y[0] = np.nan
    with pytest.raises(svae.NotPositiveDefinite, match="y has no density") as caught:
        function(still, y, u)
    assert (caught.value.sequence, caught.value.step) == (1, 1)


def test_axes_without_entries(problem):
    params, _, _, _ = problem
    with pytest.raises(ValueError, match=r"y has shape \(0, 2\), wanted \(N, T, P\)"):
        log_likelihood(params, np.zeros((0, 2)))
    alone = params._replace(B=None, D=None)
    assert log_likelihood(alone, np.zeros((0, 4, 2)), form="covariance").shape == (0,)


@pytest.mark.parametrize("function", [log_likelihood, kalman_smoother])
def test_what_grows_past_all_numbers_is_an_error(function, problem):
    params, _, _, _ = problem
    growing = params._replace(A=1e100 * np.eye(2), B=None, D=None)
    y = np.full((1, 8, 2), np.nan)
    with pytest.raises(FloatingPointError, match="sequence 0, step 4: .* 1.8e308"):
        function(growing, y, form="covariance")
    with pytest.raises((FloatingPointError, svae.NotPositiveDefinite)):
        function(growing, y)
