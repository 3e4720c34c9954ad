"""Archives of arrays: read to the end of every member, or refused by its name."""

import io
import zipfile

import numpy as np
import pytest

from svae.data.sources.npz import members, read_members

ARRAYS = {
    "x": np.arange(1000.0).reshape(250, 4),
    "fortran": np.asfortranarray(np.arange(12, dtype=">i2").reshape(3, 4)),
    "scalar": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "words": np.array(["a", "ab"]),
    "none": np.array([], "U"),
}
SAVES = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])


def read(path):
    with open(path, "rb") as file:
        return read_members(file)


def assert_same(one, two):
    assert one.dtype == two.dtype
    assert one.flags.writeable
    np.testing.assert_array_equal(one, two, strict=True)


@SAVES
def test_every_array_comes_back(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    read_back = read(tmp_path / "a.npz")
    assert list(read_back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert_same(read_back[name], array)


def test_arrays_that_are_not_compressed_are_mapped(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    with open(path, "rb") as file:
        found = members(file)
        assert not any(member.compressed for member in found.values())
        for name, member in found.items():
            mapped = member.map(str(path))
            np.testing.assert_array_equal(mapped, ARRAYS[name], strict=True)
            assert isinstance(mapped, np.memmap) == (ARRAYS[name].nbytes > 0)


def with_member(path, content, method=zipfile.ZIP_STORED, name="x.npy"):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return path


def npy(array, **changes):
    file = io.BytesIO()
    np.save(file, array, **changes)
    return file.getvalue()


@SAVES
def test_what_follows_an_array_is_noticed(save, tmp_path):
    """A digit of the header is lost, and the checksum of the archive is right."""
    whole = npy(ARRAYS["x"])
    method = zipfile.ZIP_STORED if save is np.savez else zipfile.ZIP_DEFLATED
    for content, bytes_left in (
        (whole.replace(b"(250, 4)", b"(25 , 4)"), 8000),
        (whole.replace(b"(250, 4)", b"(251, 4)"), 8000),
        (whole + b"more", 8004),
        (whole[:-1], 7999),
    ):
        path = with_member(tmp_path / "a.npz", content, method)
        with pytest.raises(ValueError, match=rf"'x': .* but {bytes_left} bytes follow"):
            read(path)


def test_a_flipped_bit_in_a_header_is_found_by_the_checksum(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(1000), y=np.arange(8.0))
    whole = path.read_bytes()
    for old, new in ((b"<f8", b">f8"), (b"<f8", b"<i8"), (b"False", b"True ")):
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match="array 'x': .*Bad CRC-32"):
            read(path)
        with (
            open(path, "rb") as file,
            pytest.raises(ValueError, match="'x': its checksum is wrong"),
        ):
            members(file)["x"].map(str(path))


def test_archives_of_other_things_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    with_member(path, b"read me", name="notes.txt")
    with pytest.raises(ValueError, match=r"'notes.txt': it does not begin as an array"):
        read(path)
    with_member(path, npy(ARRAYS["x"]), zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="'x': it is compressed in a way that NumPy"):
        read(path)
    with_member(path, npy(np.array([None]), allow_pickle=True))
    with pytest.raises(ValueError, match="'x': the array has Python .*savez"):
        read(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        with zipfile.ZipFile(path, "w") as archive:
            for _ in range(2):
                archive.writestr("x.npy", npy(ARRAYS["x"]))
    with pytest.raises(ValueError, match="two arrays have one name"):
        read(path)


def test_a_size_that_no_file_of_this_size_can_have_is_not_allocated(tmp_path):
    header = io.BytesIO()
    declared = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
    np.lib.format.write_array_header_1_0(header, declared)
    path = with_member(tmp_path / "a.npz", header.getvalue() + bytes(80))
    with pytest.raises(ValueError, match=r"'x': .* 16000000000000 bytes, but 80 bytes"):
        read(path)
