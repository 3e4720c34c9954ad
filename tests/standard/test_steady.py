"""Covariances that have stopped to change: the same results, and far fewer steps."""

import numpy as onp
import pytest

from svae.standard import (
    arrays,
    backward,
    kalman_filter,
    kalman_predict,
    kalman_smoother,
    score,
    steady,
)
from svae.standard.system import as_system
from svae.testing import assert_close, state_space_problem
from tests.helpers.state_space import season

T = 260


def systems(rng):
    inputs = state_space_problem(rng, N=2, T=T, D=3, P=2, U=2)
    y = 100 + onp.cumsum(rng.standard_normal((1, T, 1)), 1)
    return {
        "regular": state_space_problem(rng, N=3, T=T, D=2, P=1)[:3],
        "inputs": inputs[:3],
        "season": (season(0.5, 0.2, 0.3, 1e6), y, None),
        "season without noise": (season(0.5, 0.2, 0.0, 1e6), y, None),
    }


KINDS = ["regular", "inputs", "season", "season without noise"]


@pytest.fixture
def step_by_step(monkeypatch):
    """Return a function that lets a call take every step."""

    def call(function, *arguments, **options):
        with monkeypatch.context() as patch:
            for module in (arrays, backward):
                patch.setattr(module, "has_converged", lambda roots: False)
            return function(*arguments, **options)

    return call


def first_alike(roots):
    """Return the first step whose root is the object of the step before."""
    return next((t for t in range(1, T) if roots[t] is roots[t - 1]), T)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_but_rounding(kind, step_by_step, rng):
    params, y, u = systems(rng)[kind]
    assert first_alike(arrays.forward(as_system(params, y, u)).S) < T - 50
    for function in (kalman_filter, kalman_predict, kalman_smoother):
        got = function(params, y, u, form="covariance")
        want = step_by_step(function, params, y, u, form="covariance")
        assert_close(got, want, rtol=1e-13)
    system, weights = as_system(params, y, u), rng.standard_normal(len(y))
    got, want = score.score(system, weights), step_by_step(score.score, system, weights)
    # all but the offsets d: a sum over the gradients in y, which cancel
    places = [k for k, name in enumerate(system._fields[: len(got)]) if name != "d"]
    for k in places:
        assert_close(got[k], want[k], rtol=1e-12)


def test_gaps_and_matrices_of_steps_are_not_steady(rng):
    params, y, u = systems(rng)["season"]
    y[0, 150] = onp.nan
    assert first_alike(arrays.forward(as_system(params, y)).S) == T
    other = params._replace(A=onp.stack([params.A] * (T - 1)))
    assert first_alike(arrays.forward(as_system(other, onp.nan_to_num(y))).S) == T


def test_what_grows_or_creeps_is_not_steady(rng):
    """Variances of a state that nobody sees grow; those of a constant fall as 1/t."""
    params, y, _ = systems(rng)["season"]
    blind = params._replace(C=onp.array([[0.0, 1.0, 0.0, 0.0]]))
    assert first_alike(arrays.forward(as_system(blind, y)).S) == T
    constant = params._replace(Q=onp.zeros((4, 4)))
    assert first_alike(arrays.forward(as_system(constant, y)).S) == T


@pytest.mark.parametrize("length", [0, 1, 2, 7, 100])
def test_a_recursion_in_stretches(length, rng):
    M = 0.5 * rng.standard_normal((3, 3))
    g, x = rng.standard_normal((2, length, 3)), [rng.standard_normal((2, 3))]
    for t in range(length):
        x.append(x[-1] @ M.T + g[:, t])
    assert_close(steady.recursion(M, g, x[0]), onp.stack(x, 1), rtol=1e-13)


def test_a_sequence_alone_is_the_same_bit_for_bit(rng):
    params, y, _ = systems(rng)["regular"]
    together = kalman_smoother(params, y, form="covariance")
    for n in range(len(y)):
        alone = kalman_smoother(params, y[n], form="covariance")
        for a, b in zip(alone, together, strict=True):
            onp.testing.assert_array_equal(a, b[n])
