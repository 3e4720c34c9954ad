"""Files that are read at once: arrays of NumPy, and tables of numbers."""

import csv
import zipfile
import zlib
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["READERS", "read_arrays"]

# what reading a damaged file raises
DAMAGE = (ValueError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path, key: str | None, mmap: bool) -> list[Any]:
    """Read the arrays of a file, that of a ``.npy`` file as a memory map if told so.

    Raises
    ------
    ValueError
        If the file is damaged, or has no array ``key``; the message names it.
    """
    suffix = path.suffix.lower()
    try:
        if mmap and suffix == ".npy":
            return [np.load(path, mmap_mode="r", allow_pickle=False)]
        with open(path, "rb") as file:
            return READERS[suffix](file, key)
    except DAMAGE as error:
        raise ValueError(f"{path}: {error}") from error


def _read_npy(file: BinaryIO, key: str | None) -> list[Any]:
    return [np.load(file, allow_pickle=False)]


def _read_npz(file: BinaryIO, key: str | None) -> list[Any]:
    archive = np.load(file, allow_pickle=False)
    if isinstance(archive, np.ndarray):
        raise ValueError("a single array, not an archive of them: call it .npy")
    with archive:
        names = archive.files if key is None else [key]
        if not names:
            raise ValueError("there is no array in the file")
        if key is not None and key not in archive.files:
            raise ValueError(f"no array {key!r}, there are {sorted(archive.files)}")
        return [archive[name] for name in names]


def _read_csv(file: BinaryIO, key: str | None) -> list[Any]:
    # Spreadsheets write a byte order mark, which utf-8-sig drops.
    reader = csv.reader(StringIO(file.read().decode("utf-8-sig"), newline=""))
    lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise ValueError("there are no numbers in the file")
    columns = len(lines[0][1])
    for line, row in lines:
        if len(row) != columns:
            raise ValueError(f"line {line} has {len(row)} columns, expected {columns}")
        for cell in row:
            if cell.strip() and not _is_number(cell):
                raise ValueError(f"line {line}: {cell!r} is not a number")
    return [np.array([[float(cell.strip() or "nan") for cell in r] for _, r in lines])]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


READERS = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
