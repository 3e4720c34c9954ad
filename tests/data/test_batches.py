"""Cutting sequences into windows and batches; scaling."""

import numpy as np
import pytest

from svae import data
from svae.cli import runs
from tests.helpers.sources import Watched


@pytest.mark.parametrize("window", [1, 3, 80, 5000, 6000, 10**30])
def test_windows_cover_every_step_once_in_order(window):
    sequences = [np.ones((5000, 1)), np.ones((81, 1)), np.ones((1, 1))]
    expected = [
        (index, start, min(start + window, len(sequence)))
        for index, sequence in enumerate(sequences)
        for start in range(0, len(sequence), window)
    ]
    windows = data.windows(sequences, window)
    assert windows.dtype == np.int64
    np.testing.assert_array_equal(windows, expected)


def test_windows_of_one_step_in_a_long_recording():
    windows = data.windows([range(3), range(10**6)], 1)
    steps = np.concatenate([np.arange(3), np.arange(10**6)])
    np.testing.assert_array_equal(windows[:, 1], steps)
    np.testing.assert_array_equal(windows[:, 2], steps + 1)
    np.testing.assert_array_equal(np.bincount(windows[:, 0]), [3, 10**6])


def test_number_of_windows():
    """5000 frames in windows of 80: 62 whole ones and one of 40 steps.

    A published code takes ``len % window``, 40, for their number.
    """
    windows = data.windows([np.ones((5000, 1))], 80)
    assert len(windows) == 63
    np.testing.assert_array_equal(windows[-1], (0, 4960, 5000))
    assert len(data.windows([np.ones((800, 1))], 80)) == 10


@pytest.mark.parametrize("window", [0, -3, 2.5, None])
def test_windows_refuses(window):
    with pytest.raises(ValueError, match="window must be a positive integer"):
        data.windows([np.ones((5, 1))], window)


def test_batch_pads_with_zeros():
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((7, 2)), rng.standard_normal((4, 2))]
    windows = data.windows(sequences, 3)
    batch = data.batch(sequences, windows)
    values, observed, lengths = batch.values, batch.observed, batch.lengths
    assert values.shape == observed.shape == (5, 3, 2)
    assert observed.dtype == np.bool_
    np.testing.assert_array_equal(lengths, [3, 3, 1, 3, 1])
    assert lengths.dtype == np.int64
    for m, (index, start, stop) in enumerate(windows):
        length = stop - start
        np.testing.assert_array_equal(values[m, :length], sequences[index][start:stop])
        assert np.all(values[m, length:] == 0.0)
        assert np.all(observed[m, :length])
        assert not np.any(observed[m, length:])


def test_a_batch_that_is_all_there_needs_no_mask_and_no_lengths():
    sequences = [np.arange(14.0).reshape(7, 2), np.arange(8.0).reshape(4, 2)]
    batch = data.batch(sequences, [(1, 0, 3), (0, 4, 7)])
    np.testing.assert_array_equal(batch.values, [sequences[1][:3], sequences[0][4:]])
    assert batch.observed is None
    assert batch.lengths is None


def test_what_is_missing_is_zero_in_a_batch_and_not_observed():
    sequence = np.arange(1.0, 17.0).reshape(8, 2)
    sequence[1], sequence[2, 1], sequence[4:] = np.nan, np.nan, np.nan
    before = sequence.copy()
    batch = data.batch([sequence], data.windows([sequence], 4))
    np.testing.assert_array_equal(
        batch.values, [[[1, 2], [0, 0], [5, 0], [7, 8]], np.zeros((4, 2))]
    )
    np.testing.assert_array_equal(batch.observed, batch.values != 0)
    assert batch.lengths is None
    np.testing.assert_array_equal(sequence, before)


@pytest.mark.parametrize("stretch", [2**20, 30])
def test_scaling_is_that_of_what_is_observed(stretch, monkeypatch):
    monkeypatch.setattr("svae.data.sequences.STRETCH", stretch)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, 5)) * [1, 10, 0.1, 1, 1] + [0, 1e6, -3, 0, 0]
    rows[rng.random((100, 5)) < 0.3] = np.nan
    rows[:20, 0] = np.nan  # wholly missing in some stretches
    rows[:, 3], rows[:, 4] = np.where(np.isnan(rows[:, 3]), np.nan, 7.3), np.nan
    watched = Watched(rows[50:])
    sequences = data.as_sequences([rows[:30], rows[30:50], watched])
    missing, scaling = runs.survey(sequences)
    absent = np.isnan(rows)
    assert missing == (absent.sum(), 500, absent.all(axis=1).sum(), 100)
    assert sum(key.stop - key.start for key in watched.reads) == 50  # once
    longest = max(key.stop - key.start for key in watched.reads)
    assert longest == min(50, stretch // 5)
    np.testing.assert_allclose(scaling.mean[:4], np.nanmean(rows[:, :4], 0), rtol=1e-14)
    np.testing.assert_allclose(scaling.scale[:3], np.nanstd(rows[:, :3], 0), rtol=1e-9)
    np.testing.assert_array_equal(scaling.scale[3:], 1.0)
    assert scaling.mean[4] == 0.0
    watched.reads.clear()
    applied = scaling.apply(sequences)
    assert not watched.reads
    np.testing.assert_array_equal(
        np.concatenate(applied), (rows - scaling.mean) / scaling.scale
    )
    assert [type(each) for each in applied] == [np.ndarray] * 2 + [data.Recording]
    np.testing.assert_array_equal(applied[2][3:7], np.asarray(applied[2])[3:7])
    kept = [each[:] for each in sequences]  # as they were
    np.testing.assert_array_equal(np.concatenate(kept), rows)
    np.testing.assert_allclose(scaling.undo(np.concatenate(applied)), rows, rtol=1e-12)
