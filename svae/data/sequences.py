"""Sequences: reading them, checking them, cutting them into windows.

Inside the package data is always a list of sequences (T_n, P): float64 arrays, or a
`Recording` for each one that is not in memory.  `as_sequences` makes that of everything
a caller may hold.  NaN means missing, a whole frame or a single entry; it ends at
`batch`, which gives zeros and says where something was observed.  Everything else is
checked here, once: arrays at the door, recordings whenever a stretch is read.

`pinwheel` and `dots` are those of `svae.synthetic`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae.data.masks import Windows
from svae.data.recording import Recording, _check_kind, _check_shape, _checked, _shape
from svae.data.sources import adopt, side_of

__all__ = [
    "as_sequences",
    "batch",
    "frames_with_data",
    "stretches",
    "summarize",
    "windows",
]


STRETCH = 2**20  # numbers that `stretches` reads at a time
TABLE = ".csv"
CUTOFF = 0.6  # likelihood below which DeepLabCut itself leaves a position out


def as_sequences(data: Any) -> list[Any]:
    """Return data as a list of checked sequences.

    Parameters
    ----------
    data : (T, P) or (N, T, P) array, or sequence of (T_n, P) arrays
        Anything with ``shape`` counts as an array (a memory map, a HDF5 dataset, a data
        frame), anything else with ``len`` and ``[]`` as a sequence of arrays.  NaN and
        what a masked array hides are missing values.

    Returns
    -------
    list of (T_n, P) float64 arrays or recordings
        Arrays in memory without a copy where they are float64 already; a `Recording`
        for memory maps and all else that has ``shape`` and ``[]``, of which nothing is
        read yet.

    Raises
    ------
    ValueError
        If the data has another shape, is empty or not numeric, if sequences differ in
        P, or if a value is infinite; the message names the place.
    """
    if hasattr(data, "nnz") and hasattr(data, "toarray"):
        raise ValueError("data is sparse, expected a dense array: data.toarray()")
    shape = _shape(data)
    if hasattr(data, "shape") and len(shape) not in (2, 3):
        hints = {
            1: "; for one channel use data[:, None]",
            4: "; of images (N, T, H, W), svae.data.images(data)",
        }
        raise ValueError(
            f"data has shape {shape}, expected (T, P), (N, T, P) or a list of (T_n, P)"
            + hints.get(len(shape), "")
        )
    if not _is_indexable(data):
        raise ValueError(
            "data must be an array (T, P) or (N, T, P) or a list of arrays (T_n, P), "
            f"got {type(data).__name__}{_how_to_convert(data)}"
        )
    if len(shape) == 2:
        sequences = [_as_sequence(data, 0)]
    elif len(shape) == 3 and _is_lazy(data):
        source = adopt(data)
        sequences = [Recording(source, n, item=n) for n in range(shape[0])]
    else:
        sequences = [_as_sequence(data[n], n) for n in range(len(data))]
    if not sequences:
        raise ValueError("data has no sequences")
    obs_dim = sequences[0].shape[1]
    for index, sequence in enumerate(sequences):
        if sequence.shape[1] != obs_dim:
            raise ValueError(
                f"sequence {index} has {sequence.shape[1]} dimensions, "
                f"sequence 0 has {obs_dim}"
            )
    return sequences


def windows(sequences: Sequence[Any], window: int) -> np.ndarray:
    """Cut sequences into windows that cover every step exactly once.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
    window : int
        Steps in a window; the last of a sequence has what remains.

    Returns
    -------
    (M, 3) int64 array
        Sequence, start and stop of each window, in the order of the data.
    """
    if not isinstance(window, (int, np.integer)) or window < 1:
        raise ValueError(f"window must be a positive integer, got {window!r}")
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    window = min(int(window), int(lengths.max(initial=1)))
    counts = -(-lengths // window)
    cuts = np.empty((counts.sum(), 3), dtype=np.int64)
    sequence, start, stop = cuts.T
    sequence[:] = np.repeat(np.arange(len(lengths)), counts)
    start[:] = np.arange(len(cuts))
    start -= np.repeat(np.cumsum(counts) - counts, counts)  # windows before its first
    start *= window
    np.minimum(start + window, np.repeat(lengths, counts), out=stop)
    return cuts


def batch(sequences: Sequence[Any], windows: Any) -> Windows:
    """Stack windows of sequences into one array, of which nothing is NaN.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
        Only the windows are read.
    windows : (M, 3) int64 array
        Sequence, start and stop of each, as `windows` returns them.

    Returns
    -------
    Windows
        T is the length of the longest window.  Values are zero where nothing was
        observed, and past the end of a shorter window, where ``observed`` is False too:
        it is never None where ``lengths`` are given.
    """
    windows = np.asarray(windows, dtype=np.int64)
    lengths = windows[:, 2] - windows[:, 1]
    num_steps = lengths.max()
    first = sequences[windows[0, 0]]
    values = np.empty((len(windows), num_steps, first.shape[1]))
    of_one_array = isinstance(first, np.ndarray) and np.ptp(windows[:, 0]) == 0
    if of_one_array and lengths.min() == num_steps == 1:  # points, which are many
        values[:, 0] = first[windows[:, 1]]
    else:
        _read(sequences, windows, values)
    missing = np.isnan(values)
    any_missing = missing.any()
    if any_missing:
        values[missing] = 0.0
    return Windows(
        values,
        lengths if np.any(lengths < num_steps) else None,
        ~missing if any_missing else None,
    )


def _read(sequences: Sequence[Any], windows: np.ndarray, values: np.ndarray) -> None:
    """Read windows into the rows of values, with NaN behind the shorter ones."""
    # in the order of the data, in which neighbours may share a compressed chunk
    for row in np.lexsort((windows[:, 1], windows[:, 0])).tolist():
        index, start, stop = windows[row].tolist()
        values[row, : stop - start] = sequences[index][start:stop]
        values[row, stop - start :] = np.nan


def stretches(sequences: Sequence[Any]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Go through all data in order, with little of it in memory at any time.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings

    Yields
    ------
    sequence, start : int
    values : (S, P) float64 array
        Steps ``start`` to ``start + S`` of the sequence, NaN where missing.
    """
    steps = max(1, STRETCH // sequences[0].shape[1])
    for index, start, stop in windows(sequences, steps).tolist():
        yield index, start, sequences[index][start:stop]


class Summary(NamedTuple):
    """What one pass over all data tells."""

    mean: np.ndarray
    """(P,), of what was observed; 0 where nothing was."""
    partly_observed: bool
    """Whether a frame has missing entries beside observed ones."""
    num_frames: int
    """How many frames have an observed value: what is per frame is per one of these."""
    num_observed: np.ndarray
    """(P,), how many values were observed."""
    low: np.ndarray
    """(P,), the smallest of them; NaN where there is none."""
    high: np.ndarray
    """(P,), the largest."""
    magnitude: np.ndarray
    """(P,), mean absolute value of what was observed; 0 where nothing was."""
    digest: str | None = None
    """Of all values, and of where they are missing; None unless it was asked for."""
    moments: tuple[np.ndarray, np.ndarray] | None = None
    """Mean and standard deviation (P,) of what was observed, 0 where nothing was; this
    mean is exact for a constant column.  None unless they were asked for."""
    rows_of_image: int | None = None
    """H of the images that frames are, or may be as P is a square; None of others."""


def summarize(
    sequences: Sequence[Any], digest: bool = False, moments: bool = False
) -> Summary:
    """Go through all data once.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
    digest : bool
        Whether to digest the values too, as float64: the same for the same values,
        however they are stored and read.
    moments : bool
        Whether to find standard deviations too.

    Raises
    ------
    ValueError
        If no value at all was observed.
    """
    total = np.zeros(sequences[0].shape[1])
    count, size, num_frames = np.zeros(len(total)), np.zeros(len(total)), 0
    low, high = np.full((2, len(total)), np.nan)
    partly = False
    lengths = np.array([len(sequence) for sequence in sequences], "<i8")
    hashed = hashlib.sha256(lengths.tobytes()) if digest else None
    pooled = _Moments(len(total)) if moments else None
    for _, _, values in stretches(sequences):
        low = np.fmin(low, np.fmin.reduce(values, axis=0))
        high = np.fmax(high, np.fmax.reduce(values, axis=0))
        observed = ~np.isnan(values)
        num_frames += int(observed.any(axis=1).sum())
        if pooled is not None:
            pooled.add(values, observed)
        if hashed is not None:
            # a NaN is a NaN, whatever is in its other bits
            values = np.where(observed, values, np.nan)
            hashed.update(np.ascontiguousarray(values, "<f8").data)
        if observed.all():
            total += values.sum(axis=0)
            size += _size_of(values)
            count += len(values)
            continue
        seen = np.where(observed, values, 0.0)
        total += seen.sum(axis=0)
        size += _size_of(seen)
        count += observed.sum(axis=0)
        partly = partly or bool(np.any(observed.any(axis=1) & ~observed.all(axis=1)))
    if not count.any():
        raise ValueError("data has no observed value: every entry is NaN")
    found = None if hashed is None else hashed.hexdigest()[:32]
    number = np.maximum(count, 1)
    return Summary(
        total / number,
        partly,
        num_frames,
        count,
        low,
        high,
        size / number,
        found,
        None if pooled is None else pooled.result(),
        _rows_of_image(sequences[0]),
    )


def _rows_of_image(sequence: Any) -> int | None:
    """Return the H of the images that the frames of a sequence (T, P) can be."""
    known = sequence.frame_shape if isinstance(sequence, Recording) else None
    return side_of(sequence.shape[1]) if known is None else known[0]


def frames_with_data(sequences: Sequence[Any]) -> int:
    """Count the frames of which a value is observed; may be 0."""
    return sum(
        int((~np.isnan(values)).any(axis=1).sum())
        for _, _, values in stretches(sequences)
    )


class _Moments:
    """Mean and standard deviation of columns, pooled over stretches of frames.

    Squares about two means become squares about the common one (Chan, Golub and
    LeVeque 1983); sums of the squares themselves would cancel.
    """

    def __init__(self, obs_dim: int) -> None:
        self.count, self.mean, self.squares = np.zeros((3, obs_dim))

    def add(self, values: np.ndarray, observed: np.ndarray) -> None:
        """Add frames (S, P) and the mask of what is observed of them."""
        present = np.full(values.shape[1], len(values))
        if not observed.all():
            present = observed.sum(axis=0)
            values = np.where(observed, values, 0.0)
        mean = values.sum(axis=0) / np.maximum(present, 1)
        centered = values - mean
        centered[~observed] = 0.0
        squares = np.einsum("tp,tp->p", centered, centered)
        weight = present / np.maximum(self.count + present, 1)
        self.squares += squares + self.count * weight * (mean - self.mean) ** 2
        self.mean += weight * (mean - self.mean)
        self.count += present

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (P,)."""
        return self.mean, np.sqrt(self.squares / np.maximum(self.count, 1))


def _size_of(values: np.ndarray) -> np.ndarray:
    """Sum absolute values (S, P) over steps; infinite past the largest number."""
    with np.errstate(over="ignore"):
        return np.abs(values).sum(axis=0)


def _is_indexable(data: Any) -> bool:
    has_length = hasattr(data, "__len__") or hasattr(data, "shape")
    has_both = has_length and hasattr(data, "__getitem__")
    return has_both and not isinstance(data, (str, bytes, Mapping))


def _how_to_convert(data: Any) -> str:
    if isinstance(data, (str, Path)):
        return "; svae.data.load reads a file"
    if isinstance(data, Mapping):
        return "; list(data.values()) has its arrays as sequences"
    if isinstance(data, Iterable):
        return "; list(data) has its items as sequences"
    return ""


def _is_lazy(data: Any) -> bool:
    """Whether data may be elsewhere than in memory, so that reading it can wait."""
    if isinstance(data, np.ndarray):
        return isinstance(data, np.memmap)
    if hasattr(data, "iloc"):  # a data frame: in memory, and [] may select by label
        return False
    return hasattr(data, "shape") and hasattr(data, "__getitem__")


def _as_sequence(item: Any, index: int) -> np.ndarray | Recording:
    if isinstance(item, Recording):  # with the number that it has among these
        return Recording(item.source, index, item.item)
    if _is_lazy(item):
        return Recording(item, index)
    if not isinstance(item, np.ndarray):
        try:
            item = np.asarray(item)
        except ValueError as error:
            raise ValueError(
                f"sequence {index} is no array (T, P): its frames differ in length, or "
                "what a list of arrays should have is a level deeper"
            ) from error
    _check_kind(item.dtype, index)
    _check_shape(item.shape, index)
    return _checked(item, index)
