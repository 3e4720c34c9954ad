"""Sources of arrays that watch what is read of them."""

import pytest


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


def write_hdf5(path, **datasets):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path
