"""Sequences: reading them, checking them, cutting them into windows.

Inside the package data is always a list of float64 arrays (T_n, P), one for each
sequence; `as_sequences` makes that of everything a caller may hold, and is where data
is checked, once.  `pinwheel` and `dots` are those of `synthetic`.
"""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from svae.synthetic import dots, pinwheel

__all__ = ["as_sequences", "batch", "dots", "load", "pinwheel", "windows"]

Window = tuple[int, int, int]
NUMERIC = "biuf"  # kinds of dtype: bool, integers, floats
# what reading a damaged file raises
DAMAGE = (ValueError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)


def load(path: str | Path, key: str | None = None) -> np.ndarray | list[np.ndarray]:
    """Read numeric data from a ``.npy``, ``.npz`` or ``.csv`` file.

    Parameters
    ----------
    path : path
    key : str, optional
        Which array of an ``.npz`` file.  Without it all are read: the only one as
        itself, several as a list of sequences in the order of the file.

    Returns
    -------
    array, or list of arrays
        Of a ``.csv`` file, float64 (rows, columns); a first line without any number
        is its header, an empty cell is NaN.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the file is empty, damaged or not numeric.
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}, expected .npy, .npz or .csv"
        )
    if key is not None and suffix != ".npz":
        raise ValueError(f"{path}: key={key!r} applies to .npz files only")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        with open(path, "rb") as file:
            arrays = readers[suffix](file, key)
    except DAMAGE as error:
        raise ValueError(f"{path}: {error}") from error
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMERIC:
            kind = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"{path}: expected numbers, got {kind}")
        if array.size == 0:
            raise ValueError(f"{path}: an array is empty, of shape {array.shape}")
    return arrays[0] if len(arrays) == 1 else arrays


def as_sequences(data: Any) -> list[np.ndarray]:
    """Return data as a list of checked sequences.

    Parameters
    ----------
    data : (T, P) or (N, T, P) array, or sequence of (T_n, P) arrays
        Anything with ``shape`` counts as an array (a memory map, a HDF5 dataset, a data
        frame), anything else with ``len`` and ``[]`` as a sequence of arrays.

    Returns
    -------
    list of (T_n, P) float64 arrays
        Without a copy where the data is float64 already.

    Raises
    ------
    ValueError
        If the data has another shape, is empty or not numeric, if sequences differ in
        P, or if a value is not finite; the message names the place.
    """
    shape = tuple(getattr(data, "shape", ()))
    if hasattr(data, "shape") and len(shape) not in (2, 3):
        hint = "; for one channel use data[:, None]" if len(shape) == 1 else ""
        raise ValueError(
            f"data has shape {shape}, expected (T, P), (N, T, P) or a list of (T_n, P)"
            + hint
        )
    if not _is_indexable(data):
        raise ValueError(
            "data must be an array (T, P) or (N, T, P) or a list of arrays (T_n, P), "
            f"got {type(data).__name__}"
        )
    items = [data] if len(shape) == 2 else [data[n] for n in range(len(data))]
    if not items:
        raise ValueError("data has no sequences")
    sequences = [_as_sequence(item, index) for index, item in enumerate(items)]
    obs_dim = sequences[0].shape[1]
    for index, sequence in enumerate(sequences):
        if sequence.shape[1] != obs_dim:
            raise ValueError(
                f"sequence {index} has {sequence.shape[1]} dimensions, "
                f"sequence 0 has {obs_dim}"
            )
    return sequences


def windows(sequences: Sequence[np.ndarray], window: int) -> list[Window]:
    """Cut sequences into windows that cover every step exactly once.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays
    window : int
        Steps in a window; the last of a sequence has what remains.

    Returns
    -------
    list of (sequence, start, stop)
    """
    if not isinstance(window, (int, np.integer)) or window < 1:
        raise ValueError(f"window must be a positive integer, got {window!r}")
    return [
        (index, start, min(start + window, len(sequence)))
        for index, sequence in enumerate(sequences)
        for start in range(0, len(sequence), window)
    ]


def batch(
    sequences: Sequence[np.ndarray], windows: Sequence[Window]
) -> tuple[np.ndarray, np.ndarray]:
    """Stack windows of sequences into one array.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays
    windows : list of M (sequence, start, stop)

    Returns
    -------
    values : (M, T, P)
        T is the length of the longest window; zeros follow the shorter ones.
    lengths : (M,) int64
    """
    lengths = np.array([stop - start for _, start, stop in windows])
    values = np.zeros((len(windows), lengths.max(), sequences[0].shape[1]))
    for row, (index, start, stop) in zip(values, windows, strict=True):
        row[: stop - start] = sequences[index][start:stop]
    return values, lengths


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


def _is_indexable(data: Any) -> bool:
    has_both = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return has_both and not isinstance(data, (str, bytes, dict))


def _as_sequence(item: Any, index: int) -> np.ndarray:
    """Return one sequence as a float64 (T, P) array of finite values."""
    if isinstance(item, np.ma.MaskedArray):  # what it hides is not data
        item = np.ma.filled(item.astype(np.float64), np.nan)
    sequence = np.asarray(item)
    if sequence.dtype.kind not in NUMERIC:
        raise ValueError(f"sequence {index} is not numeric but {sequence.dtype}")
    if sequence.ndim != 2 or sequence.size == 0:
        raise ValueError(
            f"sequence {index} has shape {sequence.shape}, expected (T, P) with at "
            "least one step and one dimension"
        )
    sequence = np.asarray(sequence, dtype=np.float64)
    finite = np.isfinite(sequence)
    if not finite.all():
        step, dim = np.argwhere(~finite)[0]
        raise ValueError(
            f"data is not finite: {sequence[step, dim]} at sequence {index}, "
            f"step {step}, dimension {dim}"
        )
    return sequence
