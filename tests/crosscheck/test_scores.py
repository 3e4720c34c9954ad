"""Digits are never NaN, and an error counts in units of the condition number."""

import math

import numpy as np
import pytest

from svae.crosscheck.scores import (
    MOST_DIGITS,
    ROUNDOFF,
    digits,
    ratchet,
    relative_error,
    score,
    score_paths,
)


@pytest.mark.parametrize("error", [0.0, 1e-300, 1e-9, 1.0, 1e9, math.inf, math.nan])
def test_digits_are_numbers_between_0_and_17(error):
    assert 0.0 <= digits(error) <= MOST_DIGITS


def test_error_is_relative_to_the_largest_entry_and_says_where():
    error, place = relative_error(
        [[100.0, 1.0], [2.0, 3.5]], [[100.0, 1.0], [2.0, 3.0]]
    )
    assert (error, place) == (0.005, (1, 1))


def test_the_low_part_and_the_radius_of_the_truth_count():
    value, low = 1.0, 1e-17
    assert relative_error(1.0, value, low)[0] == pytest.approx(1e-17)
    assert relative_error(1.0, value, low, radius=2e-17) == (0.0, None)


@pytest.mark.parametrize(
    ("answer", "value", "error"),
    [
        ([-np.inf, 1.0], [-np.inf, 1.0], 0.0),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        ([-1e300, 1.0], [-np.inf, 1.0], np.inf),
        ([np.inf, 1.0], [0.0, 1.0], np.inf),
        ([0.0], [0.0], 0.0),
        ([1e-3], [0.0], 1e-3),
        ([], [], 0.0),
    ],
)
def test_infinities_and_zeros(answer, value, error):
    assert relative_error(answer, value)[0] == error


def test_what_passes_is_30_times_condition_times_rounding():
    for condition in (1.0, 1e6):
        for times, right in ((29.0, True), (31.0, False)):
            answer = 1.0 + times * condition * ROUNDOFF
            assert score("x", answer, 1.0, condition=condition).right is right


def test_no_condition_number_excuses_an_answer_without_a_digit():
    assert not score("x", 1.1, 1.0, condition=1e30).right


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.zeros((2, 3)), r"shape (2, 3), wanted (3,)"),
        (np.array([1.0, np.nan, 3.0]), "1 of 3 entries are NaN"),
        (np.array([1.0, 2.0, 3.0], complex), "complex"),
        ("nonsense", "no array of numbers"),
        ([[1.0], [2.0, 3.0]], "no array of numbers"),
        (None, "no array of numbers"),
        (np.array([object()] * 3), "no array of numbers"),
    ],
)
def test_what_is_no_answer_is_wrong_with_a_reason(answer, reason):
    one = score("x", answer, np.array([1.0, 2.0, 3.0]))
    assert not one.right and one.digits == 0.0 and reason in one.reason


def test_of_tied_paths_any_that_attains_the_score_is_right():
    paths, unique = np.array([[0, 1], [1, 1]]), np.array([True, False])
    other, scores = np.array([[0, 1], [0, 0]]), np.array([3.0, 5.0])
    assert score_paths(other, paths, unique, scores, scores).right
    worse = score_paths(other, paths, unique, scores - [0.0, 1e-6], scores)
    assert not worse.right and worse.place == (1, 0)
    assert not score_paths(other[:, ::-1], paths, unique, scores, scores).right


def test_ratchet_turns_one_way():
    stored = {"a": 1e-12, "b": 1e-17, "c": 1.0}
    assert ratchet(stored, {"a": 1.9e-12, "b": 4e-16, "c": 0.1}) == []
    worse = ratchet(stored, {"a": 2.1e-12, "b": 1e-14, "d": 0.0})
    assert worse == [
        "a: error 2.1e-12, was 1e-12",
        "b: error 1e-14, was 1e-17",
        "c: no longer answered",
        "d: never stored",
    ]
    assert ratchet({"a": 1.0}, {"a": math.nan}) == ["a: error nan, was 1"]
