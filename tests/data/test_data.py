"""Reading, checking and cutting sequences."""

import io
import pickle
import sys
import zipfile

import numpy as np
import pytest

from svae import data
from svae.cli import runs


class Lazy:
    """Sequences made when asked for, with nothing but ``len`` and ``[]``."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Watched:
    """An array that is elsewhere: ``shape``, ``dtype``, ``[]``, and what was read."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads = []

    def __getitem__(self, key):
        self.reads.append(key)
        return self.values[key]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read whole, past []")


# Reading


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.bool_])
def test_load_npy(tmp_path, dtype):
    values = np.arange(6).reshape(3, 2).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(data.load(tmp_path / "a.npy"), values)


def test_load_npz(tmp_path):
    one, two = np.ones((3, 2)), np.zeros((4, 2))
    np.savez(tmp_path / "single.npz", values=one)
    np.savez_compressed(tmp_path / "ragged.npz", b=one, a=two)
    np.testing.assert_array_equal(data.load(tmp_path / "single.npz"), one)
    first, second = data.load(str(tmp_path / "ragged.npz"))
    np.testing.assert_array_equal(first, one)
    np.testing.assert_array_equal(second, two)
    np.testing.assert_array_equal(data.load(tmp_path / "ragged.npz", key="a"), two)
    with pytest.raises(ValueError, match=r"no array 'c', there are \['a', 'b'\]"):
        data.load(tmp_path / "ragged.npz", key="c")


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "x,y\n1,2\n3,4\n",
        '\ufeff"first x", y\r\n1, 2\r\n3.0,4e0\r\n\r\n',
    ],
)
def test_load_csv_with_and_without_header(tmp_path, text):
    (tmp_path / "a.CSV").write_bytes(text.encode())
    loaded = data.load(tmp_path / "a.CSV")
    assert loaded.dtype == np.float64
    np.testing.assert_array_equal(loaded, [[1, 2], [3, 4]])


def test_an_empty_cell_is_nan(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,\n ,4\n")
    np.testing.assert_array_equal(
        data.load(tmp_path / "a.csv"), [[1, np.nan], [np.nan, 4]]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "there are no numbers"),
        ("x,y\n", "there are no numbers"),
        ("x,y\n1,2\n3,four\n", "line 3: 'four' is not a number"),
        ("1,two\n3,4\n", "line 1: 'two' is not a number"),
        ("x,y\n1,2\n\n3\n", "line 4 has 1 columns, expected 2"),
        ("x y\n1 2\n", "line 2: '1 2' is not a number; columns are separated by"),
        ("t,x\n2020-01-01,2\n", "line 2: '2020-01-01' is .*text or dates need to"),
        ("x,y\n1_0,2\n", "line 2: '1_0' is not a number"),
        ("x,y\n1,2,3\n", "line 2 has 3 columns, expected 2"),
        ("x;y\n1,5;2\n0.5;1\n", r"numbers have commas \(line 2\) and .*\(line 3\)"),
        ("1\t2.5\n1,234\t3\n", r"numbers have commas \(line 2\) and .*\(line 1\)"),
        ("x;y\n1,234,567;2\n", "line 2: '1,234,567' is not a number"),
        ('x,y\n"1,5",2\n', "line 2: '1,5' is not a number; .*decimals by points"),
    ],
)
def test_load_refuses_a_bad_csv(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"a.csv: {message}"):
        data.load(tmp_path / "a.csv")


def test_load_refuses_text_that_is_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2\n\xff\xfe,3\n")
    with pytest.raises(ValueError, match=r"a\.csv: it is not text in UTF-8"):
        data.load(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes("x\n1\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"b\.csv: .*; save it as CSV in UTF-8"):
        data.load(tmp_path / "b.csv")


def test_load_refuses_unknown_suffix_missing_file_and_stray_key(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"suffix '\.mat', expected one of \.npy"):
        data.load(tmp_path / "a.mat")
    with pytest.raises(FileNotFoundError):
        data.load(tmp_path / "b.npy")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="applies to .npz and HDF5"):
        data.load(tmp_path / "a.npy", key="x")


def test_load_refuses_what_is_not_numeric(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", words=np.array(["a", "b"]))
    np.save(tmp_path / "complex.npy", np.ones(2, complex))
    np.save(tmp_path / "nothing.npy", np.ones((0, 2)))
    with pytest.raises(ValueError, match=r"a\.npy: .*pickles are never"):
        data.load(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="expected numbers, got <U1"):
        data.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="expected numbers, got complex128"):
        data.load(tmp_path / "complex.npy")
    with pytest.raises(ValueError, match=r"is empty, of shape \(0, 2\)"):
        data.load(tmp_path / "nothing.npy")


def test_text_under_the_name_of_an_array_is_told_its_own(tmp_path):
    for name in ("a.npy", "a.npz"):
        (tmp_path / name).write_text("1,2\n3,4\n")
    with pytest.raises(ValueError, match=r"a\.npy: .* call a table of text \.csv") as e:
        data.load(tmp_path / "a.npy")
    assert "pickle" not in str(e.value)
    with pytest.raises(ValueError, match=r"a\.npz: the archive: .*not a zip file"):
        data.load(tmp_path / "a.npz")
    ragged = np.empty(2, object)
    ragged[:] = [[1.0], [1.0, 2.0]]
    np.save(tmp_path / "b.npy", ragged, allow_pickle=True)
    with pytest.raises(ValueError, match=r"b\.npy: .*never read; save .*savez") as e:
        data.load(tmp_path / "b.npy")
    assert "allow_pickle" not in str(e.value)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_header_that_lost_a_digit_loses_no_rows(save, mmap, tmp_path):
    path, values = tmp_path / "a.npz", np.arange(1000.0).reshape(250, 4)
    save(path, one=np.ones((3, 4)), x=values)
    np.testing.assert_array_equal(data.load(path, "x", mmap=mmap), values)
    if save is np.savez:
        path.write_bytes(path.read_bytes().replace(b"(250, 4)", b"(25 , 4)"))
    else:  # what was compressed with a wrong header has the right checksum
        content = io.BytesIO()
        np.save(content, values)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            changed = content.getvalue().replace(b"(250, 4)", b"(25 , 4)")
            archive.writestr("x.npy", changed)
    with pytest.raises(ValueError, match=r"a\.npz: array 'x': the header says .*25, 4"):
        data.load(path, mmap=mmap)


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_longer_or_shorter_than_its_header_says_is_refused(mmap, tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000.0).reshape(250, 4))
    whole = path.read_bytes()
    for content in (
        whole.replace(b"(250, 4)", b"(25 , 4)"),
        whole.replace(b"(250, 4)", b"(9" + b"0" * 30 + b", 4)")[:-24],
        whole[:-1],
        whole + b"\0",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npy: the header .*damaged"):
            data.load(path, mmap=mmap)


def test_arrays_of_an_archive_are_mapped_if_told_so(tmp_path):
    one, two = np.arange(12.0).reshape(4, 3), np.arange(15, dtype=">f4").reshape(5, 3)
    np.savez(tmp_path / "a.npz", one=one, two=np.asfortranarray(two))
    mapped = data.load(tmp_path / "a.npz", mmap=True)
    assert all(isinstance(each, np.memmap) for each in mapped)
    recordings = pickle.loads(pickle.dumps(data.as_sequences(mapped)))
    for recording, values in zip(recordings, (one, two), strict=True):
        assert isinstance(recording, data.Recording)
        np.testing.assert_array_equal(recording[1:3], values[1:3])
        np.testing.assert_array_equal(recording[:], values)


@pytest.mark.parametrize("mmap", [False, True])
def test_large_compressed_arrays_are_refused_before_they_are_read(mmap, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((2**13, 2**13 + 1), np.bool_), y=np.ones(2))
    remedy = r"save them with numpy.savez, as \.npy or as HDF5"
    with pytest.raises(ValueError, match=rf"a\.npz: .* arrays x, y have .*{remedy}"):
        data.load(path, mmap=mmap)
    np.testing.assert_array_equal(data.load(path, "y", mmap=mmap), np.ones(2))


def test_files_that_cannot_be_opened_keep_their_errors(tmp_path):
    for suffix in (".npy", ".npz", ".csv", ".h5"):
        (tmp_path / f"folder{suffix}").mkdir()
        for name, error in ("none", FileNotFoundError), ("folder", IsADirectoryError):
            with pytest.raises(error, match=name + suffix):
                data.load(tmp_path / (name + suffix))


def test_load_refuses_damaged_files(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((5, 2)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    (tmp_path / "flipped.npz").write_bytes(flipped)
    (tmp_path / "noise.npy").write_bytes(b"not an array at all")
    np.savez(tmp_path / "empty.npz")
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("short.npz", "flipped.npz", "noise.npy", "empty.npz", "array.npz"):
        with pytest.raises(ValueError, match=name):
            data.load(tmp_path / name)


# HDF5


def write_hdf5(path, **datasets):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


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


# What the command line reads


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


# MoSeq


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


# Checking


def test_as_sequences_accepts_every_form():
    values = np.arange(24.0).reshape(2, 4, 3)
    forms = [values, list(values), tuple(values), Lazy(values), values.astype(int)]
    for form in [*forms, values.astype(np.float32), Lazy(values.tolist())]:
        sequences = data.as_sequences(form)
        assert [s.shape for s in sequences] == [(4, 3), (4, 3)]
        assert all(s.dtype == np.float64 for s in sequences)
        np.testing.assert_array_equal(np.stack(sequences), values)
    (alone,) = data.as_sequences(values[0])
    assert np.shares_memory(alone, values)
    ragged = data.as_sequences([values[0], values[1, :2]])
    assert [len(s) for s in ragged] == [4, 2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(5), r"shape \(5,\), expected \(T, P\).* data\[:, None\]"),
        (np.ones((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\), expected \(T, P\)"),
        (np.float64(3.0), r"shape \(\), expected"),
        (3.0, "got float"),
        ("words", "got str"),
        ({"a": np.ones((3, 2))}, "got dict"),
        (None, "got NoneType"),
        ([], "no sequences"),
        (np.ones((0, 3, 2)), "no sequences"),
        ([1.0, 2.0], r"sequence 0 has shape \(\), expected \(T, P\)"),
        ([np.ones((3, 2)), np.ones(3)], r"sequence 1 has shape \(3,\)"),
        ([np.ones((3, 2)), np.ones((0, 2))], r"sequence 1 has shape \(0, 2\)"),
        (np.ones((3, 0)), r"sequence 0 has shape \(3, 0\)"),
        ([np.ones((3, 2)), np.ones((3, 4))], "sequence 1 has 4 dimensions, sequence 0"),
        ([np.array([["a", "b"]])], "sequence 0 is not numeric but <U1"),
        (np.ones((3, 2), complex), "sequence 0 is not numeric but complex128"),
        (np.array([[None, 1]]), "sequence 0 is not numeric but object"),
    ],
)
def test_as_sequences_refuses(bad, message):
    with pytest.raises(ValueError, match=message):
        data.as_sequences(bad)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_as_sequences_names_the_place_of_an_infinite_value(value):
    sequences = [np.ones((4, 3)), np.ones((6, 3))]
    sequences[0][0, 0] = np.nan
    sequences[1][5, 2] = value
    place = f"{value} at sequence 1, step 5, dimension 2"
    with pytest.raises(ValueError, match=place):
        data.as_sequences(sequences)


def test_nan_is_missing_anywhere_and_everywhere():
    sequences = [np.ones((4, 3)), np.full((2, 3), np.nan)]
    sequences[0][1], sequences[0][3, 2] = np.nan, np.nan
    kept = data.as_sequences(sequences)
    for sequence, same in zip(sequences, kept, strict=True):
        np.testing.assert_array_equal(same, sequence)
        assert np.shares_memory(same, sequence)


def test_masked_entries_are_missing():
    values = np.arange(12.0).reshape(2, 3, 2)
    values[1, 2, 0] = np.inf  # what is hidden may be anything
    for dtype in (np.float64, np.float32):
        masked = np.ma.masked_array(values, mask=np.isinf(values), dtype=dtype)
        for form in (masked, list(masked)):
            sequences = np.stack(data.as_sequences(form))
            expected = np.where(np.isinf(values), np.nan, values)
            np.testing.assert_array_equal(sequences, expected)


def test_a_data_frame_is_read_whole_for_its_slices_go_by_label():
    class Frame:
        shape, iloc = (3, 2), None

        def __array__(self, dtype=None, copy=None):
            return np.array([[0, 1], [2, np.nan], [4, 5]], dtype)

        def __getitem__(self, key):
            raise KeyError(key)

    (sequence,) = data.as_sequences(Frame())
    np.testing.assert_array_equal(sequence, [[0, 1], [2, np.nan], [4, 5]])


# Data that is elsewhere


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


# Windows


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


# Scaling


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
