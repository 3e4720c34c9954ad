"""What the course of a fit tells is said once; what is sound is passed in silence."""

import re
import warnings

import numpy as np
import pytest

import svae
from svae.models import ConvergenceWarning
from svae.training import course

NETWORK = svae.MLP((6,))
ADVICE = "do otherwise"


def said(fit, *arguments, **options):
    """Return the warnings of a call, of which none was given twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(*arguments, **options)
    messages = [str(each.message) for each in caught]
    assert len(set(messages)) == len(messages)
    assert all(each.filename == __file__ for each in caught)
    return messages


def assert_tells(message, *parts):
    for part in parts:
        assert re.search(part, message), message


# ------------------------------------------------------------------------- halvings


def test_frequent_halvings_are_told():
    seen = np.concatenate([np.zeros(100), np.tile([0, 0, 9], 50)])
    (message,) = course.of_halvings(seen, ADVICE)
    assert_tells(message, r"3\.\d times on average in the last 125 steps", f"{ADVICE}$")


@pytest.mark.parametrize(
    "backtracks",
    [
        np.zeros(200),
        np.ones(200),
        np.concatenate([np.full(100, 9), np.zeros(100)]),  # only at first
        np.full(20, 9),  # training has hardly begun
        np.zeros(0),
    ],
)
def test_few_halvings_are_passed_in_silence(backtracks):
    assert course.of_halvings(backtracks, ADVICE) == []


# --------------------------------------------------------------------------- states


def falling(start, end, num_steps=300):
    return np.round(np.linspace(start, end, num_steps))


def test_states_that_are_lost_are_told():
    (message,) = course.of_falling_states(falling(19, 7), 20, ADVICE)
    assert_tells(message, r"fell from 1[89]\.\d to 7\.\d of 20", f"{ADVICE}$")
    unknown = np.concatenate([np.full(50, np.nan), falling(19, 7)])
    assert course.of_falling_states(unknown, 20, ADVICE) == [message]


@pytest.mark.parametrize(
    "in_use",
    [
        falling(20, 16),
        falling(3, 18),
        falling(20, 2, 80),  # training has hardly begun
        np.full(300, np.nan),
        np.where(np.arange(300) % 2, 1.0, 2.0),
        np.zeros(0),
    ],
)
def test_states_that_stay_are_passed_in_silence(in_use):
    assert course.of_falling_states(in_use, 20, ADVICE) == []


# -------------------------------------------------------------------- held-out data


def scored(values, every=20):
    scores = np.full(every * len(values), np.nan)
    scores[every - 1 :: every] = values
    return scores


RISING = 100 * np.linspace(-5.0, 5.0, 200)
"""Bound of 100 frames in 200 steps."""


def test_networks_that_learn_by_heart_are_told():
    scores = scored([-4, -2, -1, -2, -3, -4, -5, -6, -7, -8.0])
    (message,) = course.of_held_out(scores, RISING, 60, 100)
    assert_tells(message, "best after step 60 of 200", "fallen by 7 nats", "patience=5")
    assert_tells(message, r"rose by [67]\.\d+", "parameters of step 60 are kept")


def test_a_score_that_no_step_improves_is_told():
    scores = scored(-np.arange(10.0))
    (message,) = course.of_held_out(scores, RISING, 0, 100)
    assert_tells(message, "those before the first one", "rose by 9", "weight_decay")


@pytest.mark.parametrize(
    ("scores", "objective", "best_step"),
    [
        (scored(np.arange(10.0)), RISING, 200),
        (scored([-3, -1, -2, -1.5, -1.2, -1, 0, -0.1, -1, -2.0]), RISING, 140),
        (scored([-1.2, -1.1, -1.0] + 7 * [-1.005]), RISING, 60),  # hardly falls
        (scored([0, -1, -2, -3.0] + 6 * [-4.0]), -RISING, 20),  # the bound falls too
        (scored([0.0, -1, -2, -3, -4], 10), RISING[:50], 10),  # hardly begun
        (scored([0.0, -1.0], 100), RISING, 100),  # one score tells nothing
    ],
)
def test_scores_that_hold_are_passed_in_silence(scores, objective, best_step):
    assert course.of_held_out(scores, objective, best_step, 100) == []


# ---------------------------------------------------------------------------- start


def test_a_fit_that_ends_below_its_start_is_told(rng):
    objective = 100 * (-3.0 + 0.01 * rng.standard_normal(200))
    (message,) = course.below_start(-200.0, objective, 100, ADVICE)
    assert_tells(message, r"ended (1|0\.99\d|1\.0\d*) nats .* below", f"{ADVICE}$")
    assert course.below_start(-200.0, objective[:50], 100, ADVICE) == []
    for start in (-301.0, -400.0, -300.5):
        assert course.below_start(start, objective, 100, ADVICE) == []
    noisy = 100 * (-3.0 + 5.0 * rng.standard_normal(200))
    assert course.below_start(-280.0, noisy, 100, ADVICE) == []


# ---------------------------------------------------------------------- whole fits


def test_a_fit_that_learns_by_heart_is_told_once_and_a_sound_one_not(rng):
    """Few frames and wide networks; many frames and narrow ones."""
    mixing = rng.standard_normal((1, 6))

    def frames(number):
        factor = np.cumsum(rng.standard_normal((number, 1)), axis=0)
        factor = np.sin(0.3 * factor)
        return factor @ mixing + 0.5 * rng.standard_normal((number, 6))

    kept, wide = frames(200), svae.MLP((60,))
    options = {"held_out": kept, "score_every": 10, "rng": 0}
    model = svae.SVAE(svae.LDS(4), wide, wide, "gaussian")
    messages = said(model.fit, frames(30), 200, learning_rate=3e-2, **options)
    (message,) = [each for each in messages if each.startswith("held_out")]
    assert_tells(message, "by heart|no step has improved", "weight_decay")
    model = svae.SVAE(svae.LDS(1), NETWORK, NETWORK)
    options["learning_rate"] = 1e-2
    assert said(model.fit, frames(2000), 120, window=100, **options) == []


def test_halvings_are_told_once_by_a_fit(monkeypatch, rng):
    """As frozen if they leave q(theta) nearly where it is, and else as frequent."""
    step = svae.training.step.update
    halvings = iter([])

    def halved(*arguments):
        parameters, adam, _ = step(*arguments)
        return parameters, adam, next(halvings)

    monkeypatch.setattr("svae.training.step.update", halved)
    frames = rng.standard_normal((60, 2))
    for pattern, seen in (
        ([4], "nearly frozen"),
        ([0, 0, 9], "halved 3.0 times on average"),
    ):
        halvings = iter(120 * pattern)
        model = svae.SVAE(svae.LDS(1), NETWORK, NETWORK)
        (message,) = said(model.fit, frames, 120, rng=0, window=20)
        assert_tells(message, seen, "natural_gradient='conjugate'")


def test_lost_states_are_told_once_by_a_fit(monkeypatch, rng):
    """Those of a chain that has enough of them left to be in use."""
    counts = iter(np.round(np.linspace(4, 2, 120)))
    monkeypatch.setattr(
        "svae.training.step._states_in_use", lambda *given: float(next(counts))
    )
    path = np.repeat(np.arange(12) % 2, 25)
    frames = 3.0 * (2 * path[:, None] - 1) + rng.standard_normal((300, 3))
    fit = svae.SVAE(svae.HMM(2, 2), NETWORK, NETWORK).fit
    options = {"learning_rate": 1e-2, "window": 100, "warmup": 100, "rng": 0}
    (message,) = said(fit, frames, 120, **options)
    assert_tells(message, "states in use fell from 4.0 to 2.0", "noise_variance")


def test_unconverged_inference_is_told_once():
    latent = svae.SLDS(2, 2, tolerance=1e-12, max_iterations=1)
    frames = svae.synthetic.switching_lds(num_blocks=2, block_length=30, rng=0).frames
    with pytest.warns(ConvergenceWarning) as caught:
        svae.SVAE(latent, NETWORK, NETWORK).fit(frames, 3, rng=0, warmup=None)
    assert len(caught) == 1
