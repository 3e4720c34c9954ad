"""Reading arrays and tables from files."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from svae import data


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
