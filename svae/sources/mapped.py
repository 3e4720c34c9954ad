"""Memory maps that give their pages back.

What is read of a map stays in resident memory until the system runs short of it; a pass
over a large file would seem to need all of it.  So a stretch is copied, and its pages
are given back at once: they remain in the system's cache, and cost nothing to keep.
"""

import mmap
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from svae.sources.reference import FileSource, opened

__all__ = ["Mapped"]


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
    handle : array, optional
        What this process has mapped already.
    """

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: Any,
        offset: int,
        strides: tuple[int, ...],
        handle: np.ndarray | None = None,
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
        # of a view, ``offset`` is that of the whole; where a map begins is rounded
        begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
        offset = begin + array.ctypes.data - _address(mapping)
        place = array.shape, array.dtype, offset, array.strides
        return cls(str(array.filename), *place, array.view(np.ndarray))

    def _open(self) -> np.ndarray:
        mapping = opened(self.path, _map)
        try:
            return np.ndarray(
                self.shape, self.dtype, mapping, self.offset, self.strides
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path}: the file has {len(mapping)} bytes, too few for "
                f"{self.dtype} of shape {self.shape} from byte {self.offset} on"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Return where the array is, after what was changed has gone to the file."""
        mapping = _mapping(self._handle)
        if mapping is not None and self._handle.flags.writeable:
            mapping.flush()
        return super().__getstate__()

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part, as float64."""
        part = self.handle[key]
        values = np.array(part, dtype=np.float64, order="C")
        _release(part)
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


def _release(part: np.ndarray) -> None:
    """Give back the pages that a part of a map lies on.

    What was written to a shared map is in the system's cache and stays there.
    """
    mapping = _mapping(part)
    if mapping is None or part.size == 0 or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first, last = (bound - _address(mapping) for bound in byte_bounds(part))
    first -= first % mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, first, last - first)
