"""Files of arrays by their suffix: ``.npy`` and ``.npz``, mapped or read at once."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from svae.data.sources.npy import fill, mapped, read_header
from svae.data.sources.npz import Member, members
from svae.data.sources.reference import MEMORY, naming

__all__ = ["READERS", "read_arrays"]


def read_arrays(path: Path, key: str | None, mmap: bool) -> list[np.ndarray]:
    """Read the arrays of a file, or map those that are there as they are.

    Raises
    ------
    ValueError
        If the file is damaged, has no array ``key``, or has more in compressed arrays
        than is read at once; the message names it.
    """
    with open(path, "rb") as file, naming(str(path)):
        return READERS[path.suffix.lower()](file, str(path), key, mmap)


def _read_npy(
    file: BinaryIO, path: str, key: str | None, mmap: bool
) -> list[np.ndarray]:
    header = read_header(file, os.fstat(file.fileno()).st_size)
    return [mapped(header, path, 0) if mmap else fill(header, file)]


def _read_npz(
    file: BinaryIO, path: str, key: str | None, mmap: bool
) -> list[np.ndarray]:
    if file.read(6) == np.lib.format.MAGIC_PREFIX:
        raise ValueError("a single array, not an archive of them: call it .npy")
    found = members(file)
    if not found:
        raise ValueError("there is no array in the file")
    if key is not None and key not in found:
        raise ValueError(f"no array {key!r}, there are {sorted(found)}")
    chosen = list(found.values()) if key is None else [found[key]]
    _refuse_large([member for member in chosen if member.compressed])
    return [
        member.map(path) if mmap and not member.compressed else member.read()
        for member in chosen
    ]


def _refuse_large(compressed: list[Member]) -> None:
    size = sum(math.prod(member.header.shape) for member in compressed)
    if size > MEMORY:
        names = ", ".join(member.name for member in compressed)
        raise ValueError(
            f"the compressed arrays {names} have {size} numbers, and more than "
            f"{MEMORY} are not read at once; save them with numpy.savez, as .npy or as "
            "HDF5, of which parts are read as they are needed"
        )


Reader = Callable[[BinaryIO, str, str | None, bool], list[np.ndarray]]
READERS: dict[str, Reader] = {".npy": _read_npy, ".npz": _read_npz}
