"""Reading extractions of MoSeq."""

import pickle

import numpy as np
import pytest

from svae import data
from svae.cli import runs
from tests.helpers.sources import write_hdf5


def write_moseq(path, **changes):
    """Write an extraction of five frames of 4 x 6 pixels; one was dropped."""
    rng = np.random.default_rng(0)
    parts = {
        "frames": rng.integers(0, 80, (5, 4, 6)).astype(np.uint8),
        "frames_mask": rng.uniform(-30, 0, (5, 4, 6)).astype(np.float32),
        "timestamps": np.array([7.0, 40.4, 73.0, 140.2, 173.5]),
    } | changes
    parts = {name: part for name, part in parts.items() if part is not None}
    write_hdf5(path, scalars__angle=np.zeros(5), **parts)
    return parts


def test_moseq_restores_dropped_frames_and_hides_what_is_doubtful(tmp_path):
    parts = write_moseq(tmp_path / "results_00.h5")
    heights = parts["frames"].astype(float)
    heights[(parts["frames_mask"] < -16) & (parts["frames"] > 5)] = np.nan
    expected = np.insert(heights.reshape(5, 24), 3, np.nan, axis=0)
    assert 0.2 < np.isnan(heights).mean() < 0.8
    recording = data.load(tmp_path / "results_00.h5")
    assert isinstance(recording, data.Recording)
    assert recording.shape == (6, 24)
    again = pickle.loads(pickle.dumps(recording))
    for start in range(7):
        for stop in range(7):
            for each in (recording, again):
                np.testing.assert_array_equal(each[start:stop], expected[start:stop])
    np.testing.assert_array_equal(
        runs.read(str(tmp_path / "results_00.h5"))[0], expected
    )


def test_moseq_takes_thresholds_and_averages_blocks(tmp_path):
    parts = write_moseq(tmp_path / "a.h5")
    recording = data.moseq(
        tmp_path / "a.h5", mask_threshold=-5, mask_height=30, block=2
    )
    heights = parts["frames"].astype(float)
    heights[(parts["frames_mask"] < -5) & (parts["frames"] > 30)] = np.nan
    expected = np.full((6, 2, 3), np.nan)
    for step, frame in zip((0, 1, 2, 4, 5), heights, strict=True):
        for row, column in np.ndindex(2, 3):
            square = frame[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            if not np.all(np.isnan(square)):
                expected[step, row, column] = np.nanmean(square)
    np.testing.assert_allclose(recording[:], expected.reshape(6, 6), rtol=1e-15)


def test_moseq_without_a_tracking_model_has_masks_that_hide_nothing(tmp_path):
    mask = np.random.default_rng(1).random((5, 4, 6)) < 0.5
    parts = write_moseq(tmp_path / "a.h5", frames_mask=mask)
    frames = parts["frames"].reshape(5, 24)
    np.testing.assert_array_equal(data.load(tmp_path / "a.h5")[:3], frames[:3])
    hidden = np.isnan(data.moseq(tmp_path / "a.h5", mask_threshold=0.5)[:3])
    np.testing.assert_array_equal(hidden, ((frames > 5) & ~mask.reshape(5, 24))[:3])


@pytest.mark.parametrize(
    ("timestamps", "steps"),
    [
        ([0, 33, 66, 100, 133], [0, 1, 2, 3, 4]),
        ([5, 50, 72, 105, 1105], [0, 1, 2, 3, 29]),  # late, but not dropped
        (1e6 * np.array([1.0, 2.0, 4.1, 5.0, 6.0]), [0, 1, 3, 4, 5]),  # other units
        (np.array([1, 2, 3, 4, 9], np.uint8), [0, 1, 2, 3, 8]),
    ],
)
def test_frames_are_dropped_at_gaps_of_the_timestamps(timestamps, steps, tmp_path):
    write_moseq(tmp_path / "a.h5", timestamps=timestamps)
    seen = ~np.isnan(data.moseq(tmp_path / "a.h5", -np.inf)[:]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(seen), steps)


def test_an_extraction_of_one_frame(tmp_path):
    parts = write_moseq(tmp_path / "a.h5")
    parts = {name: part[:1] for name, part in parts.items()}
    write_moseq(tmp_path / "a.h5", **parts)
    assert data.load(tmp_path / "a.h5").shape == (1, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"timestamps": None},
            r"no dataset 'timestamps'; there are frames \(5, 4, 6\)",
        ),
        (
            {"timestamps": np.arange(4.0)},
            r"timestamps has shape \(4,\), expected \(5,\)",
        ),
        (
            {"frames_mask": np.ones((5, 4, 5))},
            r"frames_mask has shape \(5, 4, 5\), expected \(5, 4, 6\)",
        ),
        ({"timestamps": [0.0, 1, 2, 2, 3]}, "at step 3: 2.0 follows 2.0"),
        ({"timestamps": np.uint8([0, 1, 9, 2, 3])}, "at step 3: 2 follows 9"),
        ({"timestamps": [0.0, np.nan, 2, 3, 4]}, "at step 1: nan follows 0.0"),
        ({"timestamps": [-np.inf, 1, 2, 3, 4]}, "jump at step 1, from -inf to 1.0"),
        ({"timestamps": [0.0, 1, 2, 3, np.inf]}, "jump at step 4, from 3.0 to inf"),
        (
            {"timestamps": 33.0 * np.arange(5) + [0, 0, 0, 86_400_000, 86_400_000]},
            "jump at step 3, .*, 2618183 times the usual interval.* two files",
        ),
        ({"timestamps": [0.0, 1e-300, 2e-300, 3e-300, 1e308]}, "jump at step 4"),
        (
            {"timestamps": np.array(list("abcde"), "S")},
            r"timestamps is \|S1, expected n",
        ),
    ],
)
def test_moseq_refuses(changes, message, tmp_path):
    write_moseq(tmp_path / "a.h5", **changes)
    with pytest.raises(ValueError, match=rf"a\.h5: .*{message}"):
        data.load(tmp_path / "a.h5")


def test_the_longest_gap_is_still_dropped_frames(tmp_path):
    write_moseq(tmp_path / "a.h5", timestamps=[0.0, 1, 2, 3, 10_003])
    assert data.moseq(tmp_path / "a.h5").shape == (10_004, 24)


def test_moseq_refuses_blocks_and_other_files(tmp_path):
    write_moseq(tmp_path / "a.h5")
    for block in (3, 0, 8):
        with pytest.raises(ValueError, match=f"block={block} .* 4 x 6 pixels"):
            data.moseq(tmp_path / "a.h5", block=block)
    path = write_hdf5(tmp_path / "b.h5", frames=np.ones((5, 3)), timestamps=np.ones(5))
    np.testing.assert_array_equal(data.load(path), np.ones((5, 3)))  # somebody else's
    with pytest.raises(ValueError, match=r"b\.h5: no dataset 'frames_mask'"):
        data.moseq(path)
