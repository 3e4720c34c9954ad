"""Arrays that stay in their files: what is pickled of them, and what is read."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from svae import data
from svae.data.sources import Mapped, Stored

VALUES = np.arange(60.0).reshape(2, 10, 3)
WORKER = """
import pickle, sys
import numpy as np
recordings = pickle.load(open(sys.argv[1], "rb"))
assert "h5py" not in sys.modules
try:
    np.save(sys.argv[2], [recording[2:7] for recording in recordings])
except (OSError, ValueError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def elsewhere(recordings, folder):
    """Pickle recordings; return the process that reads them, and what it read."""
    (folder / "pickled").write_bytes(pickle.dumps(recordings))
    # that of this package, from which the worker does not start
    environment = os.environ | {"PYTHONPATH": str(Path(data.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, folder / "pickled", folder / "read.npy"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, np.load(folder / "read.npy") if done.returncode == 0 else None


def memory_map(folder, values=VALUES, mode="r"):
    np.save(folder / "a.npy", values)
    return np.load(folder / "a.npy", mmap_mode=mode)


def hdf5(folder, values=VALUES):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "a.h5", "w")
    return file.create_dataset("group/values", data=values)


@pytest.mark.parametrize("source", [memory_map, hdf5])
def test_a_recording_reaches_another_process_without_its_data(
    source, tmp_path, monkeypatch
):
    large = np.tile(VALUES, (1, 1000, 1))
    monkeypatch.chdir(tmp_path)
    made = source(Path(), large)  # by a relative path
    recordings = data.as_sequences(made)
    if source is hdf5:
        made.file.flush()
        made.file.close()
        h5py = sys.modules["h5py"]
        recordings = data.as_sequences(h5py.File("a.h5", "r")["group/values"])
    assert len(pickle.dumps(recordings)) < 1000
    done, read = elsewhere(recordings, tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read, large[:, 2:7])


VIEWS = {
    "part": lambda a: a[1, 4:],
    "every other": lambda a: a[0, ::2],
    "backwards": lambda a: a[0, ::-1],
    "columns": lambda a: a[1, :, 1:],
    "transposed": lambda a: a[0].T,
    "fortran": lambda a: a[:, 3],
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", ["f8", ">f4", "i2", "?"])
def test_views_of_a_map_are_found_again_in_the_file(dtype, view, order, tmp_path):
    values = np.asarray(VALUES % 7, dtype=dtype, order=order)
    source = memory_map(tmp_path, values)
    (recording,) = data.as_sequences(view(source))
    again = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(recording[:], view(values))
    np.testing.assert_array_equal(again[:], view(values))
    assert again.source.handle is not recording.source.handle


def test_a_map_with_an_offset(tmp_path):
    path = tmp_path / "raw"
    page = os.sysconf("SC_PAGE_SIZE")
    path.write_bytes(bytes(page + 24) + VALUES.tobytes())
    source = np.memmap(path, float, "r", offset=page + 24, shape=VALUES.shape)
    recordings = pickle.loads(pickle.dumps(data.as_sequences(source[:, 1:])))
    np.testing.assert_array_equal(recordings, VALUES[:, 1:])


def test_changes_of_a_shared_map_are_kept_and_seen(tmp_path):
    source = memory_map(tmp_path, mode="r+")
    (recording,) = data.as_sequences(source[0])
    assert recording[3:4].tolist() == VALUES[0, 3:4].tolist()
    source[0, 3] = -1.0
    again = pickle.loads(pickle.dumps(recording))
    for each in (recording, again):
        np.testing.assert_array_equal(each[3:4], [[-1.0] * 3])
    assert np.all(source[0, 3] == -1.0)  # its pages were given back in between


def test_changes_of_a_private_map_are_pickled(tmp_path):
    source = memory_map(tmp_path, mode="c")
    source[0, 3] = -1.0
    recordings = data.as_sequences(source)
    again = pickle.loads(pickle.dumps(recordings))
    for each in (recordings, again):
        np.testing.assert_array_equal(each[0][3:4], [[-1.0] * 3])
        np.testing.assert_array_equal(each[1][:], VALUES[1])
    assert not isinstance(recordings[0].source, Mapped)


def test_what_is_in_no_file_is_pickled_by_its_values(tmp_path):
    class Elsewhere:  # local: it could not be pickled itself
        shape = (10, 3)

        def __getitem__(self, key):
            return VALUES[0][key]

    (recording,) = data.as_sequences(Elsewhere())
    made = memory_map(tmp_path)[0] + 0.0  # a memory map by type only
    for source in (recording, data.Recording(made, 0)):
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again[:], VALUES[0])
        assert isinstance(again.source, np.ndarray)


def test_a_hdf5_file_in_memory_is_pickled_by_its_values(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w", driver="core", backing_store=False) as file:
        recordings = data.as_sequences(file.create_dataset("values", data=VALUES))
        again = pickle.loads(pickle.dumps(recordings))
    np.testing.assert_array_equal(again, VALUES)


@pytest.mark.parametrize("source", [memory_map, hdf5])
def test_all_references_of_a_process_share_a_handle(source, tmp_path):
    source(tmp_path)
    if source is hdf5:
        h5py = sys.modules["h5py"]
        made = h5py.File(tmp_path / "a.h5", "r")["group/values"]
        pieces = data.as_sequences(made)
        one, two = (pickle.loads(pickle.dumps(piece)) for piece in pieces)
        assert one.source.handle[0] is two.source.handle[0]
        assert isinstance(one.source, Stored)
    else:
        pieces = data.as_sequences(memory_map(tmp_path))
        one, two = (pickle.loads(pickle.dumps(piece)) for piece in pieces)
        assert one.source.handle.mapping is two.source.handle.mapping
    np.testing.assert_array_equal([one, two], VALUES)


def test_a_worker_that_cannot_open_the_file_names_it(tmp_path):
    recordings = data.as_sequences(memory_map(tmp_path))
    (tmp_path / "a.npy").write_bytes(b"short")
    done, _ = elsewhere(recordings, tmp_path)
    assert "a.npy: the file has 5 bytes, too few for float64 of shape" in done.stderr
    (tmp_path / "a.npy").write_bytes(b"")
    done, _ = elsewhere(recordings, tmp_path)
    assert "a.npy: cannot be opened: cannot mmap an empty" in done.stderr
    (tmp_path / "a.npy").unlink()
    done, _ = elsewhere(recordings, tmp_path)
    assert "a.npy: cannot be opened: No such file or dir" in done.stderr


def test_a_worker_that_finds_another_dataset_says_so(tmp_path):
    dataset = hdf5(tmp_path)
    h5py, recordings = sys.modules["h5py"], data.as_sequences(dataset)
    pickled = pickle.dumps(recordings)
    dataset.file.close()
    for change, message in (
        (lambda file: file["group"].create_dataset("values", data=[1]), "is now int64"),
        (lambda file: file["group"].create_group("values"), "no dataset '/group/val"),
    ):
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            del file["group/values"]
            change(file)
        with pytest.raises(ValueError, match=f"a.h5: .*{message}"):
            pickle.loads(pickled)[0][:2]
    (tmp_path / "a.h5").write_bytes(b"no HDF5 file")
    with pytest.raises(OSError, match=r"a\.h5: cannot be opened: .*sign"):
        pickle.loads(pickled)[0][:2]


STREAM = """
import sys
import numpy as np
from svae import data

def status(word):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(word)).split()[1])

kind, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
shape = size // 8000, 1000
if kind == "hdf5":
    import h5py
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape, float, chunks=(64, 1000))
    (sequence,) = data.as_sequences(data.load(path))
else:  # one hole, of which reading still takes pages
    (sequence,) = data.as_sequences(np.memmap(path, float, "w+", shape=shape))
before = status("VmRSS")
assert np.all(data.summarize([sequence]).mean == 0.0)
windows = data.windows([sequence], 200)
for chosen in np.random.default_rng(0).permutation(len(windows)).tolist():
    data.batch([sequence], windows[[chosen]])
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["map", "hdf5"])
def test_all_data_pass_through_little_memory(kind, run_python, tmp_path):
    pytest.importorskip("h5py")
    size = 256 * 2**20
    arguments = [kind, str(tmp_path / "large.h5"), str(size)]
    done = run_python(f"import sys; sys.argv[1:] = {arguments}\n{STREAM}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < size / 4
