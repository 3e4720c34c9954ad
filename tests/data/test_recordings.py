"""Recordings: sources that are read where and when they are needed."""

import numpy as np
import pytest

from svae import data
from tests.helpers.sources import Watched


def recorded(kind, values, folder):
    """Return the values as a source that should be read lazily."""
    if kind == "h5py":
        h5py = pytest.importorskip("h5py")
        file = h5py.File(folder / "a.h5", "w")
        return file.create_dataset("values", data=values)
    if kind == "memmap":
        np.save(folder / "a.npy", values)
        return np.load(folder / "a.npy", mmap_mode="r")
    return Watched(values)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("kind", ["watched", "memmap", "h5py"])
def test_recordings_have_the_values_of_their_source(kind, dtype, tmp_path):
    values = np.arange(30).reshape(2, 5, 3).astype(dtype)
    source = recorded(kind, values, tmp_path)
    for n, recording in enumerate(data.as_sequences(source)):
        assert isinstance(recording, data.Recording)
        assert (recording.shape, recording.ndim, len(recording)) == ((5, 3), 2, 5)
        assert recording.dtype == np.float64
        steps = (slice(1, 3), slice(None), slice(-2, None), slice(3, 99), slice(4, 2))
        for chosen in steps:
            read = recording[chosen]
            assert read.dtype == np.float64
            np.testing.assert_array_equal(read, values[n, chosen])
        assert np.asarray(recording).dtype == np.float64
        assert np.asarray(recording, dtype=np.float32).dtype == np.float32
        np.testing.assert_array_equal(np.array(recording), values[n])


@pytest.mark.parametrize("kind", ["watched", "memmap", "h5py"])
def test_a_source_of_two_dimensions_is_one_recording(kind, tmp_path):
    values = np.arange(15.0).reshape(5, 3)
    (recording,) = data.as_sequences(recorded(kind, values, tmp_path))
    assert isinstance(recording, data.Recording)
    np.testing.assert_array_equal(recording[1:4], values[1:4])


def test_a_recording_cannot_be_written_nor_picked_apart():
    (recording,) = data.as_sequences(Watched(np.ones((5, 3))))
    with pytest.raises(TypeError, match="item assignment"):
        recording[:2] = 0.0
    for key in (3, (slice(None), 0), slice(None, None, 2), slice(None, None, -1)):
        with pytest.raises(TypeError, match=r"recording\[start:stop\]"):
            recording[key]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(recording, copy=False)
    copied = np.array(recording)
    assert not np.shares_memory(copied, recording.source.values)


def test_nothing_is_read_but_the_windows_of_a_batch():
    values = np.arange(60.0).reshape(2, 10, 3)
    alone = [Watched(each) for each in values]
    stacked = Watched(values)
    for source in (alone, stacked):
        sequences = data.as_sequences(source)
        windows = data.windows(sequences, 4)
        batch = data.batch(sequences, windows[[4, 1]]).values
        np.testing.assert_array_equal(batch, [values[1, 4:8], values[0, 4:8]])
    assert [each.reads for each in alone] == [[slice(4, 8)], [slice(4, 8)]]
    # in the order of the data, whatever that of the batch
    assert stacked.reads == [(0, slice(4, 8)), (1, slice(4, 8))]


def test_stretches_are_all_data_in_pieces(monkeypatch):
    monkeypatch.setattr("svae.data.sequences.STRETCH", 12)
    values = np.arange(30.0).reshape(10, 3)
    values[2, 1] = np.nan
    watched = Watched(values)
    sequences = data.as_sequences([values[:5], watched, Watched(values[:4])])
    pieces = list(data.stretches(sequences))
    places = [(0, 0), (0, 4), (1, 0), (1, 4), (1, 8), (2, 0)]
    assert [piece[:2] for piece in pieces] == places
    rows = np.concatenate([piece[2] for piece in pieces])
    np.testing.assert_array_equal(
        rows, np.concatenate([values[:5], values, values[:4]])
    )
    assert watched.reads == [slice(0, 4), slice(4, 8), slice(8, 10)]
    monkeypatch.setattr("svae.data.sequences.STRETCH", 1)  # one step at least
    assert len(list(data.stretches(sequences))) == 19


@pytest.mark.parametrize("kind", ["watched", "memmap"])
def test_an_infinite_value_is_found_when_it_is_read(kind, tmp_path):
    values = np.ones((2, 10, 3))
    values[1, 7, 2], values[0, 0, 0] = -np.inf, np.nan
    sequences = data.as_sequences(recorded(kind, values, tmp_path))
    np.testing.assert_array_equal(sequences[1][:7], np.ones((7, 3)))
    place = "-inf at sequence 1, step 7, dimension 2"
    with pytest.raises(ValueError, match=place):
        sequences[1][6:9]
    with pytest.raises(ValueError, match=place):
        np.asarray(sequences[1])


def test_recordings_are_numbered_by_the_list_that_they_are_in():
    stacked = np.ones((2, 4, 3))
    stacked[1, 2, 0] = np.inf
    recordings = data.as_sequences(Watched(stacked))
    sequences = data.as_sequences([np.ones((5, 3)), *recordings])
    with pytest.raises(ValueError, match="sequence 2, step 2, dimension 0"):
        sequences[2][:]
    (again,) = data.as_sequences(recordings[1])
    with pytest.raises(ValueError, match="sequence 0, step 2, dimension 0"):
        again[:]


def test_a_source_that_reads_masked_arrays():
    masked = np.ma.masked_array(np.full((4, 2), 1e20), mask=np.eye(4, 2))
    (recording,) = data.as_sequences(Watched(masked))
    np.testing.assert_array_equal(np.isnan(recording[:]), np.eye(4, 2))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([np.ones((4, 2)), np.ones((4, 3))], "sequence 1 has 3 dimensions, sequence 0"),
        ([np.ones((4, 2)), np.ones((0, 2))], r"sequence 1 has shape \(0, 2\)"),
        ([np.ones((4, 2)), np.ones((2, 4, 2))], r"sequence 1 has shape \(2, 4, 2\)"),
        ([np.ones((4, 2), complex)], "sequence 0 is not numeric but complex128"),
        ([np.full((4, 2), "a")], "sequence 0 is not numeric but <U1"),
    ],
)
def test_the_form_of_a_source_is_checked_without_reading(sources, message):
    watched = [Watched(source) for source in sources]
    with pytest.raises(ValueError, match=message):
        data.as_sequences(watched)
    assert not any(source.reads for source in watched)


def test_a_source_of_other_dimensions_is_refused():
    for shape in ((5,), (2, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"expected \(T, P\), \(N, T, P\)"):
            data.as_sequences(Watched(np.ones(shape)))
    with pytest.raises(ValueError, match="no sequences"):
        data.as_sequences(Watched(np.ones((0, 4, 2))))
    unknown = Watched(np.ones((4, 2)))
    unknown.shape = None  # of an empty HDF5 dataset
    with pytest.raises(ValueError, match=r"shape \(\), expected"):
        data.as_sequences(unknown)
    unknown.shape = (np.nan, 2)  # of a dask array that was filtered
    with pytest.raises(ValueError, match=r"shape \(nan, 2\)"):
        data.as_sequences(unknown)


def test_a_source_that_is_not_what_it_said_is_refused():
    short, words = Watched(np.ones((4, 2))), Watched(np.full((4, 2), "a"))
    short.shape = (6, 2)
    words.dtype = "not a dtype of NumPy"
    recordings = data.as_sequences([short, words])
    with pytest.raises(ValueError, match=r"sequence 0: steps 2:6 .* shape \(2, 2\)"):
        recordings[0][2:]
    with pytest.raises(ValueError, match="sequence 1 is not numeric but <U1"):
        recordings[1][:]
