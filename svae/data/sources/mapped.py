"""Memory maps that give their pages back.

What is read of a map stays in resident memory until the system runs short of it; a pass
over a large file would seem to need all of it.  So a stretch is copied, and its pages
are given back at once: they remain in the system's cache, and cost nothing to keep.
"""

import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from svae.data.sources.reference import FileSource, opened

__all__ = ["Mapped"]

AROUND = 2**21  # a fault may map pages around the one that is read, a huge one at most


class View(NamedTuple):
    """An array, the map that it is a view of, and the address of that."""

    array: np.ndarray
    mapping: mmap.mmap
    address: int


class Mapped(FileSource):
    """An array mapped from a file; pickled as path, offset, dtype, shape and strides.

    Parameters
    ----------
    path : str
    shape : tuple of int
    dtype : numpy.dtype
    offset : int
        Where its first element is in the file, in bytes.
    strides : tuple of int
        In bytes: views, and arrays in Fortran's order, are as good as any.
    handle : View, optional
        What this process has mapped already.
    """

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: Any,
        offset: int,
        strides: tuple[int, ...],
        handle: View | None = None,
    ) -> None:
        super().__init__(path, shape, dtype, handle)
        self.offset, self.strides = offset, strides

    @classmethod
    def of(cls, array: Any) -> "Mapped | None":
        """Return a memory map as a source; None for anything else.

        So does a copy-on-write map (mode "c"): its changes are in no file, and giving
        its pages back would lose them.
        """
        if not isinstance(array, np.memmap) or array.mode == "c":
            return None
        mapping = _mapping(array)
        if mapping is None or array.filename is None:
            return None
        view = View(array.view(np.ndarray), mapping, _address(mapping))
        # of a view, ``offset`` is that of the whole; where a map begins is rounded
        begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        offset = begin + array.ctypes.data - view.address
        place = array.shape, array.dtype, offset, array.strides
        return cls(str(array.filename), *place, view)

    def _open(self) -> View:
        mapping = opened(self.path, _map)
        try:
            array: np.ndarray = np.ndarray(
                self.shape, self.dtype, mapping, self.offset, self.strides
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path}: the file has {len(mapping)} bytes, too few for "
                f"{self.dtype} of shape {self.shape} from byte {self.offset} on"
            ) from error
        return View(array, mapping, _address(mapping))

    def __getstate__(self) -> dict[str, Any]:
        """Return where the array is, after what was changed has gone to the file."""
        if self._handle is not None and self._handle.array.flags.writeable:
            self._handle.mapping.flush()
        return super().__getstate__()

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part, as float64."""
        part = self.handle.array[key]
        values = np.array(part, dtype=np.float64, order="C")
        if part.size:
            _release(part, self.handle)
        return values


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _mapping(array: Any) -> mmap.mmap | None:
    """Return the map that an array is a view of, or None if it is in memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def _address(mapping: mmap.mmap) -> int:
    return np.frombuffer(mapping, np.uint8).ctypes.data


def _release(part: np.ndarray, view: View) -> None:
    """Give back the pages that a part of a map lies on.

    What was written to a shared map is in the system's cache and stays there.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    low, high = byte_bounds(part)
    first = max(0, low - view.address - AROUND)
    first -= first % mmap.PAGESIZE
    last = min(len(view.mapping), high - view.address + AROUND)
    view.mapping.madvise(mmap.MADV_DONTNEED, first, last - first)
