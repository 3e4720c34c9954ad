"""Reading HDF5 files, and data that stay in their file."""

import pickle
import sys

import numpy as np
import pytest

from svae import data
from svae.cli import runs
from tests.helpers.sources import write_hdf5


@pytest.mark.parametrize("suffix", [".h5", ".HDF5"])
def test_load_hdf5_reads_nothing_yet(suffix, tmp_path):
    values = np.arange(30.0).reshape(2, 5, 3)
    path = write_hdf5(tmp_path / f"a{suffix}", x=values[0], g__y=values.astype("i2"))
    recording = data.load(path, "x")
    assert isinstance(recording, data.Recording)
    np.testing.assert_array_equal(recording[1:4], values[0, 1:4])
    recordings = data.load(str(path), key="g/y")
    assert [type(each) for each in recordings] == [data.Recording] * 2
    np.testing.assert_array_equal(recordings, values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recordings)), values)


def test_load_hdf5_finds_the_only_dataset_that_can_be_data(tmp_path):
    values = np.arange(15).reshape(5, 3)
    others = {"times": np.arange(5.0), "names": np.array([b"a"]), "four": [[[[1]]]]}
    path = write_hdf5(
        tmp_path / "a.h5", deep__down__frames=values, **others, void=np.zeros((0, 3))
    )
    np.testing.assert_array_equal(data.load(path), values)


def test_load_hdf5_says_what_there_is(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", g__x=np.ones((5, 3)), y=np.ones((2, 5, 3)))
    there = r"g/x \(5, 3\), y \(2, 5, 3\)"
    with pytest.raises(ValueError, match=rf"a\.h5: several .* {there}; name one"):
        data.load(path)
    for key in ("z", "g"):
        with pytest.raises(ValueError, match=f"a.h5: no dataset '{key}'.*{there}"):
            data.load(path, key)
    path = write_hdf5(tmp_path / "b.h5", times=np.arange(5.0), words=[[b"a"]])
    with pytest.raises(ValueError, match=r"b\.h5: no dataset could .*times \(5,\)"):
        data.load(path)
    with pytest.raises(ValueError, match=r"times is float64 of shape \(5,\), expected"):
        data.load(path, "times")
    with pytest.raises(
        ValueError, match=r"words is object of shape \(1, 1\), expected"
    ):
        data.load(path, "words")
    path = write_hdf5(tmp_path / "c.h5")
    with pytest.raises(ValueError, match=r"c\.h5: no dataset .* there are none"):
        data.load(path)
    (tmp_path / "d.h5").write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"d\.h5: cannot be opened: .*signature"):
        data.load(tmp_path / "d.h5")


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_tables_of_pandas_are_refused_with_their_likelihoods(layout, tmp_path):
    """As pandas lays them out, through PyTables; DeepLabCut writes the second."""
    h5py = pytest.importorskip("h5py")
    path, values = tmp_path / "a.h5", np.ones((5, 6))
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        if layout == "fixed":
            group.attrs["pandas_type"] = np.bytes_("frame")
            group["block0_values"] = values
        else:
            group.attrs["pandas_type"] = np.bytes_("frame_table")
            kinds = [("index", "i8"), ("values_block_0", "f8", (6,))]
            group["table"] = np.zeros(5, kinds)
    remedy = r"the \.csv that DeepLabCut .* pandas.read_hdf"
    keys = [None, "df_with_missing", "/df_with_missing", "df_with_missing/table"]
    for key in keys:
        with pytest.raises(ValueError, match=rf"a\.h5: 'df_with_missing' .*{remedy}"):
            data.load(path, key)
    with pytest.raises(ValueError, match="is a table of pandas"):
        data.deeplabcut(path)
    if layout == "fixed":  # whoever names the values means them
        loaded = data.load(path, "df_with_missing/block0_values")
        np.testing.assert_array_equal(loaded, values)


def test_a_dataset_that_its_file_cannot_hold_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["flat"] = np.arange(30.0).reshape(10, 3)
        rows = {"shape": (10, 3), "maxshape": (None, 3)}
        file.create_dataset("chunks", **rows, chunks=(4, 3), data=np.ones((10, 3)))
        file.create_dataset("large", (2**28, 3), "f4", chunks=(2**26, 3))
    whole = path.read_bytes()
    dimensions = np.array([10, 3], "<u8").tobytes()
    assert whole.count(dimensions) > 1
    path.write_bytes(whole.replace(dimensions, np.array([2**40, 3], "<u8").tobytes()))
    for name in ("flat", "chunks"):
        about = rf"a\.h5: dataset '{name}': .*(damaged|corruption)"
        with pytest.raises(ValueError, match=about):
            data.load(path, name)
    with pytest.raises(ValueError, match=r"'large': its chunks, of .*h5repack"):
        data.load(path, "large")


def test_damage_that_shows_when_it_is_read_names_the_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, values = tmp_path / "a.h5", np.random.default_rng(0).random((50, 3))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, fletcher32=True, chunks=(50, 3))
    whole, place = path.read_bytes(), values[20].tobytes()
    path.write_bytes(whole.replace(place, bytes(len(place))))
    recording = data.load(path)
    with pytest.raises(ValueError, match=r"a\.h5: dataset 'x': OSError"):
        recording[:10]


def test_load_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"a\.h5: reading HDF5 needs h5py"):
        data.load(tmp_path / "a.h5")


def test_load_maps_a_npy_file_if_told_so(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "a.npy", values)
    mapped = data.load(tmp_path / "a.npy", mmap=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, values)
    (tmp_path / "b.npy").write_bytes(b"not an array at all")
    with pytest.raises(ValueError, match=r"b\.npy: "):
        data.load(tmp_path / "b.npy", mmap=True)


def test_the_command_line_names_an_array_after_a_colon(tmp_path, monkeypatch):
    values = np.arange(30.0).reshape(2, 5, 3)
    path = write_hdf5(tmp_path / "a.h5", g__x=values, y=values[0])
    np.testing.assert_array_equal(runs.read(f"{path}:g/x"), values)
    np.savez(tmp_path / "b.npz", x=values[1], y=values[0])
    (sequence,) = runs.read(f"{tmp_path}/b.npz:x")
    np.testing.assert_array_equal(sequence, values[1])
    names = [runs.name_of(source) for source in (f"{path}:/g/x", "pinwheel", "d/e.npy")]
    assert names == ["a-g-x", "pinwheel", "e"]
    (tmp_path / "a.h5").rename(tmp_path / "with:colon.h5")
    np.testing.assert_array_equal(runs.read(f"{tmp_path}/with:colon.h5:g/x"), values)
    np.save(tmp_path / "is:file.npy", values)
    np.testing.assert_array_equal(runs.read(f"{tmp_path}/is:file.npy"), values)
    for wrong in ("c.h5:x", "c.h5", ":", "a.h5:g/x:"):
        with pytest.raises(ValueError, match=f"{wrong}: neither a file nor built-in"):
            runs.read(wrong)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_the_command_line_leaves_large_data_in_its_file(suffix, tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((2, 50, 3))
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", values)
    source = str(tmp_path / f"a{suffix}")
    assert all(type(each) is np.ndarray for each in runs.read(source))
    assert runs.excerpt(sequences := runs.read(source)) is sequences
    monkeypatch.setattr(runs, "MEMORY", 299)
    monkeypatch.setattr(runs, "EXCERPT", 180)
    sequences = runs.read(source)
    assert all(isinstance(each, data.Recording) for each in sequences)
    np.testing.assert_array_equal(sequences, values)
    scaled = runs.survey(sequences)[1].apply(sequences)
    again = pickle.loads(pickle.dumps(scaled))
    assert len(pickle.dumps(scaled)) < 2000
    for each in (scaled, again):
        assert all(isinstance(one, data.Recording) for one in each)
        np.testing.assert_allclose(np.mean(each, axis=(0, 1)), 0, atol=1e-14)
        np.testing.assert_allclose(np.std(each, axis=(0, 1)), 1, rtol=1e-14)
    shown = runs.excerpt(sequences)
    assert [len(each) for each in shown] == [50, 10]
    np.testing.assert_array_equal(np.concatenate(shown), values.reshape(100, 3)[:60])
