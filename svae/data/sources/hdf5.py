"""Datasets in HDF5 files."""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from svae.data.sources.reference import MEMORY, FileSource, naming, opened

__all__ = ["Stored", "dataset_names", "datasets", "listing", "refuse_pandas"]

IN_MEMORY = ("core", "fileobj")  # drivers of h5py without a file of their own
LARGE = 2**28  # bytes from which it is asked whether a file can have them
LARGEST_RATIO = 1100  # of what filters make of a byte: gzip has the largest, 1032


class Stored(FileSource):
    """A HDF5 dataset; pickled as the path of its file and its name there.

    Parameters
    ----------
    path : str
    name : str
    dataset : h5py.Dataset, optional
        What this process has opened already.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it has no such dataset.
    """

    def __init__(self, path: str, name: str, dataset: Any = None) -> None:
        # the file beside its dataset: without a reference it would be closed
        handle = _lookup(path, name) if dataset is None else (None, dataset)
        dataset = handle[1]
        super().__init__(path, dataset.shape or (), dataset.dtype, handle)
        self.name = name

    @classmethod
    def of(cls, dataset: Any) -> "Stored | None":
        """Return a dataset as a source; None for anything else."""
        h5py = sys.modules.get("h5py")  # there is no dataset without it
        if h5py is None or not isinstance(dataset, h5py.Dataset):
            return None
        if dataset.file.driver in IN_MEMORY or dataset.name is None:
            return None
        return cls(dataset.file.filename, dataset.name, dataset)

    def _open(self) -> tuple[Any, Any]:
        file, dataset = _lookup(self.path, self.name)
        if dataset.shape != self.shape or dataset.dtype != self.dtype:
            raise ValueError(
                f"{self.path}: dataset {self.name!r} is now {dataset.dtype} of shape "
                f"{dataset.shape}, and was {self.dtype} of shape {self.shape}"
            )
        return file, dataset

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part.

        Raises
        ------
        ValueError
            If it is damaged; the message names the file.
        """
        dataset = self.handle[1]
        with naming(self.path), naming(f"dataset {self.name!r}"):
            return np.asarray(dataset[key])


def datasets(path: str) -> dict[str, Stored]:
    """Return all datasets of a file by their names."""
    return {name: Stored(path, name) for name in dataset_names(path)}


def dataset_names(path: str) -> list[str]:
    """Return the names of all datasets of a file, of which none is looked at."""
    return _names(path, lambda item: hasattr(item, "shape"))


def refuse_pandas(path: str, name: str | None) -> None:
    """Raise ValueError if a table of pandas is meant: by its name, or without any.

    An index is among its datasets, the names of its columns may be pickled, and those
    of DeepLabCut have likelihoods between the coordinates.
    """
    within = None if name is None else [name.strip("/").removesuffix("/table")]
    tables = _names(path, lambda item: "pandas_type" in item.attrs, within)
    if tables:
        raise ValueError(
            f"{path}: {tables[0]!r} is a table of pandas, with an index and perhaps "
            "likelihoods beside the data, and with pickled names; read the .csv that "
            "DeepLabCut writes beside it (save_as_csv=True), or save the columns that "
            "are data: numpy.save('a.npy', pandas.read_hdf(path)[columns].to_numpy())"
        )


def listing(path: str) -> str:
    """List the datasets of a file and their shapes, for messages."""
    found = datasets(path).items()
    return ", ".join(f"{name} {stored.shape}" for name, stored in found) or "none"


def _names(
    path: str, wanted: Callable[[Any], bool], within: list[str] | None = None
) -> list[str]:
    """Return the names of the items of a file, or of those within, that are wanted."""
    file = _open_file(path)
    with naming(path):
        names: list[str] = [name for name in within or () if name in file]
        if within is None:
            file.visit(names.append)
        return [name for name in names if _is(wanted, file, name)]


def _is(wanted: Callable[[Any], bool], file: Any, name: str) -> bool:
    with naming(f"dataset {name!r}"):
        return wanted(file[name])


def _open_file(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ValueError(
            f"{path}: reading HDF5 needs h5py (pip install h5py)"
        ) from error

    return opened(path, lambda path: h5py.File(path, "r"))


def _lookup(path: str, name: str) -> tuple[Any, Any]:
    file = _open_file(path)
    with naming(path):
        there = name in file
        with naming(f"dataset {name!r}"):
            dataset = file[name] if there else None
            if hasattr(dataset, "shape"):
                _check_size(dataset, path)
                return file, dataset
    raise ValueError(f"{path}: no dataset {name!r}; there are {listing(path)}")


def _check_size(dataset: Any, path: str) -> None:
    """Raise ValueError if reading would take memory or time out of all proportion.

    A damaged shape may declare anything; what is behind it tells.  A dataset of which
    nothing was written yet has no size in its file, and is all zeros.
    """
    declared = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if dataset.chunks and chunk > 8 * MEMORY:
        raise ValueError(
            f"its chunks, of shape {dataset.chunks}, have {chunk} bytes each and are "
            "read whole; write it with smaller ones (h5repack -l CHUNK=...)"
        )
    if dataset.external:  # its bytes are in other files
        return
    offset, size = dataset.id.get_offset(), os.path.getsize(path)
    if offset is not None:
        fits = offset + declared <= size
    else:
        stored = declared > LARGE and dataset.id.get_storage_size()
        fits = not stored or declared <= LARGEST_RATIO * stored
    if not fits:
        raise ValueError(
            f"it is {dataset.dtype} of shape {dataset.shape}, which are {declared} "
            f"bytes, more than a file of {size} bytes can hold: the file is damaged"
        )
