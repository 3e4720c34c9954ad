"""The plainest predictions of a frame from those before it."""

import numpy as np
import pytest

from svae import metrics


def walk(rng, steps=400, dim=3, obs_dim=8):
    """Return frames of a stable VAR(1) seen through a matrix, and their law."""
    A = 0.95 * np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    C, d = rng.standard_normal((obs_dim, dim)), 5 * rng.standard_normal(obs_dim)
    x, frames = np.zeros(dim), []
    for _ in range(steps):
        frames.append(C @ x + d)
        x = A @ x + 0.3 * rng.standard_normal(dim)
    return np.array(frames), (A, C, d)


BASELINES = {
    "mean": metrics.mean_frame,
    "previous": metrics.previous_frame,
    "var": lambda data, train: metrics.autoregression(data, train, 3),
}
each_baseline = pytest.mark.parametrize("name", BASELINES)


@each_baseline
def test_rows_know_nothing_of_their_own_frame_or_later_ones(name, rng):
    train, _ = walk(rng)
    frames = train[:20].copy()
    frames[4], frames[7, 2] = np.nan, np.nan
    whole = BASELINES[name](frames, train)
    assert np.isfinite(whole).all()
    for t in range(20):
        changed = frames.copy()
        changed[t:] = rng.standard_normal(frames[t:].shape)
        np.testing.assert_array_equal(
            BASELINES[name](changed, train)[: t + 1], whole[: t + 1]
        )
    np.testing.assert_allclose(whole[0], train.mean(axis=0))


@each_baseline
def test_predictions_are_arranged_as_the_data(name, rng):
    train, _ = walk(rng, 60)
    stacked = train.reshape(3, 20, -1)
    found = BASELINES[name](stacked, train)
    listed = BASELINES[name]([*stacked[:2], stacked[2, :5]], [*stacked])
    assert found.shape == stacked.shape
    assert [each.shape for each in listed] == [(20, 8), (20, 8), (5, 8)]
    one = BASELINES[name](stacked[1], train)
    np.testing.assert_allclose(found[1], one)


def test_the_previous_frame_carries_what_was_last_observed():
    frames = np.array([[1.0, 2.0], [np.nan, 3.0], [np.nan, np.nan], [4.0, 5.0]])
    train = np.array([[7.0, np.nan], [9.0, np.nan]])
    want = [[8.0, 0.0], [1.0, 2.0], [1.0, 3.0], [1.0, 3.0]]
    np.testing.assert_array_equal(metrics.previous_frame(frames, train), want)
    frames = np.array([[np.nan, 1.0], [2.0, np.nan], [0.0, 0.0]])
    want = [[8.0, 0.0], [8.0, 1.0], [2.0, 1.0]]
    np.testing.assert_array_equal(metrics.previous_frame(frames, train), want)


@pytest.mark.parametrize("transposed", [False, True])
def test_an_autoregression_finds_the_law_of_one(transposed, rng):
    """Of fewer frames than columns too, which have the axes of a Gram matrix."""
    frames, (A, C, d) = walk(
        rng, 12 if transposed else 2000, 3, 20 if transposed else 8
    )
    if transposed:  # without noise, few frames are enough
        x = [rng.standard_normal(3)]
        for _ in range(11):
            x.append(A @ x[-1])
        frames = np.array(x) @ C.T + d
    found = metrics.autoregression(frames, frames, 3, ridge=1e-9)
    x = np.linalg.lstsq(C, (frames - d).T, rcond=None)[0]
    want = (C @ A @ x[:, :-1]).T + d
    error = np.max(np.abs(found[1:] - want)) / np.std(frames)
    assert error < (1e-6 if transposed else 0.15)


def test_an_autoregression_beats_the_others_on_one(rng):
    frames, _ = walk(rng, 1000)
    train, test = frames[:600], frames[600:]
    test = test.copy()
    test[rng.random(test.shape) < 0.1] = np.nan
    errors = [
        metrics.mean_squared_error(test, baseline(test, train))
        for baseline in BASELINES.values()
    ]
    assert errors[2] < 0.7 * min(errors[:2])


def test_columns_that_never_vary_are_predicted(rng):
    train, _ = walk(rng)
    train[:, 2] = 3.0
    constant = np.full((30, 4), 2.0)
    np.testing.assert_allclose(metrics.autoregression(constant, constant, 3), constant)
    found = metrics.autoregression(train, train, 99)
    np.testing.assert_allclose(found[:, 2], 3.0)


def test_errors_are_of_what_was_observed():
    data = np.array([[1.0, np.nan], [2.0, 3.0]])
    predictions = np.array([[0.0, np.nan], [2.0, 1.0]])
    assert metrics.mean_squared_error(data, predictions) == (1 + 0 + 4) / 3
    assert metrics.mean_squared_error([data, data[1:]], [predictions, data[1:]]) == 1.0


def test_what_makes_no_sense_is_refused(rng):
    frames = rng.standard_normal((5, 3))
    with pytest.raises(ValueError, match=r"predictions have shapes \[\(4, 3\)\]"):
        metrics.mean_squared_error(frames, frames[1:])
    with pytest.raises(ValueError, match="not finite somewhere in sequence 0"):
        metrics.mean_squared_error(frames, frames * np.nan)
    with pytest.raises(ValueError, match="every entry is NaN"):
        metrics.mean_squared_error(frames * np.nan, frames)
    with pytest.raises(ValueError, match=r"data has shape \(5, 2\), wanted \(T, 3\)"):
        metrics.previous_frame(frames[:, :2], frames)
    with pytest.raises(ValueError, match=r"train\[1\] has shape \(5, 2\)"):
        metrics.mean_frame(frames, [frames, frames[:, :2]])
    with pytest.raises(ValueError, match="no two frames next to each other"):
        metrics.autoregression(frames, frames[:1], 2)
