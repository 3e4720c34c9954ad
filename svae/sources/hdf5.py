"""Datasets in HDF5 files."""

import sys
from typing import Any

import numpy as np

from svae.sources.reference import FileSource, opened

__all__ = ["Stored", "datasets", "listing"]

IN_MEMORY = ("core", "fileobj")  # drivers of h5py without a file of their own


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
        """Read a part."""
        return np.asarray(self.handle[1][key])


def datasets(path: str) -> dict[str, Stored]:
    """Return all datasets of a file by their names."""
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            names.append(name)

    file = _open_file(path)
    file.visititems(note)
    return {name: Stored(path, name) for name in names}


def listing(path: str) -> str:
    """List the datasets of a file and their shapes, for messages."""
    found = datasets(path).items()
    return ", ".join(f"{name} {stored.shape}" for name, stored in found) or "none"


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
    if name not in file or not hasattr(file[name], "shape"):
        raise ValueError(f"{path}: no dataset {name!r}; there are {listing(path)}")
    return file, file[name]
