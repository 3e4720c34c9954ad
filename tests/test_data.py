"""Reading, checking and cutting sequences."""

import numpy as np
import pytest

from svae import data


class Lazy:
    """Sequences made when asked for, with nothing but ``len`` and ``[]``."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


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
        ("x;y\n1;2\n", "line 2: '1;2' is not a number"),
    ],
)
def test_load_refuses_a_bad_csv(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"a.csv: {message}"):
        data.load(tmp_path / "a.csv")


def test_load_refuses_text_that_is_not_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2\n\xff\xfe,3\n")
    with pytest.raises(ValueError, match=r"a\.csv: 'utf-8' codec"):
        data.load(tmp_path / "a.csv")


def test_load_refuses_unknown_suffix_missing_file_and_stray_key(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"suffix '\.mat', expected \.npy"):
        data.load(tmp_path / "a.mat")
    with pytest.raises(FileNotFoundError):
        data.load(tmp_path / "b.npy")
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(ValueError, match="applies to .npz files only"):
        data.load(tmp_path / "a.npy", key="x")


def test_load_refuses_what_is_not_numeric(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", words=np.array(["a", "b"]))
    np.save(tmp_path / "complex.npy", np.ones(2, complex))
    np.save(tmp_path / "nothing.npy", np.ones((0, 2)))
    with pytest.raises(ValueError, match=r"a\.npy: .*allow_pickle=False"):
        data.load(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="expected numbers, got <U1"):
        data.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="expected numbers, got complex128"):
        data.load(tmp_path / "complex.npy")
    with pytest.raises(ValueError, match=r"is empty, of shape \(0, 2\)"):
        data.load(tmp_path / "nothing.npy")


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


def test_as_sequences_reads_memory_maps_and_hdf5(tmp_path):
    values = np.arange(24.0).reshape(2, 4, 3)
    np.save(tmp_path / "a.npy", values)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    np.testing.assert_array_equal(np.stack(data.as_sequences(mapped)), values)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["three"], file["two"] = values, values[0]
        np.testing.assert_array_equal(
            np.stack(data.as_sequences(file["three"])), values
        )
        np.testing.assert_array_equal(data.as_sequences(file["two"])[0], values[0])


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_as_sequences_names_the_place_of_a_value_that_is_not_finite(value):
    sequences = [np.ones((4, 3)), np.ones((6, 3))]
    sequences[1][5, 2] = value
    place = f"{value} at sequence 1, step 5, dimension 2"
    with pytest.raises(ValueError, match=place):
        data.as_sequences(sequences)


def test_masked_entries_are_not_data():
    masked = np.ma.masked_array(np.ones((2, 3, 2)), mask=np.zeros((2, 3, 2)))
    assert len(data.as_sequences(masked)) == 2
    masked[1, 2, 0] = np.ma.masked
    for form in (masked, list(masked)):
        with pytest.raises(ValueError, match="nan at sequence 1, step 2, dimension 0"):
            data.as_sequences(form)


# Windows


@pytest.mark.parametrize("window", [1, 3, 80, 5000, 6000])
def test_windows_cover_every_step_once(window):
    sequences = [np.ones((5000, 1)), np.ones((81, 1)), np.ones((1, 1))]
    count = [np.zeros(len(s), int) for s in sequences]
    for index, start, stop in data.windows(sequences, window):
        assert 1 <= stop - start <= window
        count[index][start:stop] += 1
    assert all(np.all(c == 1) for c in count)


def test_number_of_windows():
    """5000 frames in windows of 80: 62 whole ones and one of 40 steps.

    A published code takes ``len % window``, 40, for their number.
    """
    windows = data.windows([np.ones((5000, 1))], 80)
    assert len(windows) == 63
    assert windows[-1] == (0, 4960, 5000)
    assert len(data.windows([np.ones((800, 1))], 80)) == 10


@pytest.mark.parametrize("window", [0, -3, 2.5, None])
def test_windows_refuses(window):
    with pytest.raises(ValueError, match="window must be a positive integer"):
        data.windows([np.ones((5, 1))], window)


def test_batch_pads_with_zeros():
    rng = np.random.default_rng(0)
    sequences = [rng.standard_normal((7, 2)), rng.standard_normal((4, 2))]
    windows = data.windows(sequences, 3)
    values, lengths = data.batch(sequences, windows)
    assert values.shape == (5, 3, 2)
    np.testing.assert_array_equal(lengths, [3, 3, 1, 3, 1])
    for row, length, (index, start, stop) in zip(values, lengths, windows, strict=True):
        np.testing.assert_array_equal(row[:length], sequences[index][start:stop])
        assert np.all(row[length:] == 0.0)
