"""Sequences: reading them, checking them, cutting them into windows.

Inside the package data is always a list of sequences (T_n, P): float64 arrays, or a
`Recording` for each one that is not in memory.  `as_sequences` makes that of everything
a caller may hold.  NaN means missing, a whole frame or a single entry; it ends at
`batch`, which gives zeros and says where something was observed.  Everything else is
checked here, once: arrays at the door, recordings whenever a stretch is read.

`pinwheel` and `dots` are those of `svae.synthetic`.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae.sources import (
    Extraction,
    Source,
    Stored,
    adopt,
    datasets,
    is_extraction,
    listing,
    refuse_pandas,
)
from svae.sources.counting import counting
from svae.sources.poses import positions
from svae.sources.readers import READERS, read_arrays
from svae.sources.reference import naming
from svae.sources.tables import Table, read_table
from svae.synthetic import dots, pinwheel

__all__ = [
    "Recording",
    "as_sequences",
    "batch",
    "deeplabcut",
    "dots",
    "frames_with_data",
    "load",
    "moseq",
    "pinwheel",
    "stretches",
    "summarize",
    "windows",
]

NUMERIC = "biuf"  # kinds of dtype: bool, integers, floats
STRETCH = 2**20  # numbers that `stretches` reads at a time
HDF5 = (".h5", ".hdf5")
TABLE = ".csv"
CUTOFF = 0.6  # likelihood below which DeepLabCut itself leaves a position out


def load(path: str | Path, key: str | None = None, mmap: bool = False) -> Any:
    """Read numeric data from a ``.npy``, ``.npz``, ``.csv`` or HDF5 file.

    Parameters
    ----------
    path : path
    key : str, optional
        Which array of an ``.npz`` file, or which dataset of an ``.h5`` or ``.hdf5``
        file.  Without it all arrays of an ``.npz`` file are read, and a HDF5 file needs
        to have a single numeric dataset (T, P) or (N, T, P), or to be an extraction by
        MoSeq, which is read as `moseq` does by default.
    mmap : bool
        Whether to map the array of a ``.npy`` file, and those of an ``.npz`` file that
        are not compressed, instead of reading them: for data larger than the memory.

    Returns
    -------
    array, Recording, or list of these
        What is in a HDF5 file as recordings, of which nothing is read yet, one for each
        sequence.  Of an ``.npz`` file, the only array as itself, several as a list of
        sequences in the order of the file.  Of a ``.csv`` file, float64 (rows,
        columns), or what `deeplabcut` makes of a table that begins with ``scorer``.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the file is empty, damaged or not numeric, or it is
        not clear which of its arrays is meant; the message lists them.  If a ``.csv``
        file, or the compressed arrays of an ``.npz`` file, have more than 2^26 numbers:
        they could only be read whole.
    OSError
        If the file cannot be opened: it is absent, say.

    Warns
    -----
    UserWarning
        If a column of a ``.csv`` file counts frames or time, by its name or because it
        grows evenly, and would be modelled as if it were observed.

    Notes
    -----
    Columns of a ``.csv`` file are separated by commas, semicolons or tabs; with the
    last two, decimals may have commas.  A first line without any number is its header.
    Empty cells, ``NaN`` and ``NA`` are missing values, and a row of them is a missing
    frame.  Empty lines do not count.

    The arrays of an ``.npz`` file have checksums, which are compared; damage elsewhere
    is noticed if sizes or headers are wrong after it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*READERS, TABLE, *HDF5):
        expected = ", ".join((*READERS, TABLE, *HDF5))
        raise ValueError(
            f"{path}: unknown suffix {path.suffix!r}, expected one of {expected}"
        )
    if key is not None and suffix not in (".npz", *HDF5):
        raise ValueError(f"{path}: key={key!r} applies to .npz and HDF5 files only")
    with open(path, "rb") as file:
        if not file.read(1):
            raise ValueError(f"{path}: the file is empty")
    if suffix in HDF5:
        return _recordings(str(path), key)
    if suffix == TABLE:
        return _table(path)
    arrays = read_arrays(path, key, mmap)
    for array in arrays:
        if array.dtype.kind not in NUMERIC:
            raise ValueError(f"{path}: expected numbers, got {array.dtype}")
        if array.size == 0:
            raise ValueError(f"{path}: an array is empty, of shape {array.shape}")
    return arrays[0] if len(arrays) == 1 else arrays


def moseq(
    path: str | Path,
    mask_threshold: float = -16.0,
    mask_height: float = 5.0,
    block: int = 1,
) -> "Recording":
    """Open a depth video that MoSeq has extracted (``results_00.h5``).

    Parameters
    ----------
    path : path
        A HDF5 file with the datasets ``frames`` (T, H, W), heights above the floor in
        mm; ``frames_mask`` (T, H, W); and ``timestamps`` (T,), in any unit.
    mask_threshold, mask_height : float
        A pixel is missing if its mask is below ``mask_threshold`` and its height above
        ``mask_height``: something is there, and it is not the animal (a cable, say).
        With the tracking model of MoSeq, the mask is the log likelihood that the pixel
        shows the animal, and the defaults are those of its PCA for missing data.
        Otherwise the mask is a bool, of which MoSeq makes no use, and neither do the
        defaults; a threshold of 0.5 hides all that is high and not in the mask.
    block : int
        Side of the squares of pixels of which the mean is taken, over those that are
        not missing: 80 x 80 pixels become 40 x 40 with a block of 2.

    Returns
    -------
    Recording
        (T', P) with P = (H / block) (W / block), rows of pixels one after the other; of
        which nothing is read yet but the timestamps.  Where these have a gap, at the
        median interval of frames, frames are missing, so T' may exceed T.

    Raises
    ------
    ValueError
        If a dataset is missing or damaged, shapes disagree, ``block`` does not divide
        them, or timestamps do not increase or have a gap of more than 10 000 frames;
        the message names the file and the step.
    OSError
        If the file cannot be opened.
    """
    return Recording(Extraction(str(path), mask_threshold, mask_height, block), 0)


def deeplabcut(path: str | Path, cutoff: float = CUTOFF) -> np.ndarray:
    """Read the positions of body parts that DeepLabCut has tracked (its ``.csv``).

    Parameters
    ----------
    path : path
        A table with lines of names, ``scorer``, ``bodyparts`` and ``coords`` (and
        ``individuals``, if there are several), above the numbers.
    cutoff : float
        Positions are missing where the tracker's likelihood is below it.  The default
        is that of DeepLabCut's own figures; 0 keeps all.

    Returns
    -------
    (T, P) float64 array
        The columns x and y (and z) in the order of the file.  Likelihoods and the index
        are no data.

    Raises
    ------
    ValueError
        If it is no such table, or is damaged; the message names the file and the line.
        The HDF5 files of DeepLabCut are tables of pandas with pickled names, which are
        never read.
    """
    path = Path(path)
    if path.suffix.lower() in HDF5:
        refuse_pandas(str(path), None)
    table = _read_table(path)
    if not table.poses:
        raise ValueError(
            f"{path}: not a table of DeepLabCut, which begins with 'scorer'; data.load "
            "reads tables of numbers"
        )
    with naming(str(path)):
        return positions(table.names[-1], table.values, cutoff)


def _table(path: Path) -> np.ndarray:
    """Return the data of a table; warn of columns that are none."""
    table = _read_table(path)
    if table.poses:
        with naming(str(path)):
            return positions(table.names[-1], table.values, CUTOFF)
    if about := counting(table.names[0] if table.names else [], table.values):
        warnings.warn(f"{path}: {about}", stacklevel=3)
    return table.values


def _read_table(path: Path) -> Table:
    with open(path, "rb") as file, naming(str(path)):
        return read_table(file)


def _recordings(path: str, key: str | None) -> Any:
    """Return what is meant in a HDF5 file as a recording, or as a list of them."""
    try:
        if key is None and is_extraction(path):
            return moseq(path)
        refuse_pandas(path, key)
        source = Stored(path, key or _only_dataset(path))
    except OSError as error:
        raise ValueError(str(error)) from error
    if not _can_be_data(source):
        raise ValueError(
            f"{path}: {source.name} is {source.dtype} of shape {source.shape}, "
            "expected numbers (T, P) or (N, T, P)"
        )
    if len(source.shape) == 2:
        return Recording(source, 0)
    return [Recording(source, n, item=n) for n in range(source.shape[0])]


def _only_dataset(path: str) -> str:
    names = [name for name, each in datasets(path).items() if _can_be_data(each)]
    if len(names) == 1:
        return names[0]
    problem = "several datasets" if names else "no dataset"
    raise ValueError(
        f"{path}: {problem} could be data, (T, P) or (N, T, P) numbers; there are "
        f"{listing(path)}" + ("; name one with key" if names else "")
    )


def _can_be_data(source: Stored) -> bool:
    shape, kind = source.shape, source.dtype.kind
    return len(shape) in (2, 3) and 0 not in shape and kind in NUMERIC


class Recording:
    """A sequence (T, P) that stays where it is, and is read a stretch at a time.

    ``recording[start:stop]`` is a float64 array, checked as data in memory is;
    ``numpy.asarray(recording)`` reads the whole.  Memory maps and HDF5 datasets are
    pickled by where they are in their files, which another process opens for itself;
    anything else (also a copy-on-write map) by its values.

    Parameters
    ----------
    source : (T, P) or (N, T, P) array
        Anything with ``shape`` and ``[]``: a memory map, a HDF5 dataset.
    index : int
        The number of the sequence, for messages.
    item : int, optional
        Which sequence of a source (N, T, P) it is.

    Raises
    ------
    ValueError
        If the shape is another or the source not numeric; when a stretch is read, if it
        has an infinite value; the message names the place.
    """

    __slots__ = ("source", "index", "item", "shape")
    ndim = 2
    dtype = np.dtype(np.float64)

    def __init__(self, source: Any, index: int, item: int | None = None) -> None:
        self.source, self.index, self.item = adopt(source), index, item
        self.shape = _shape(source)[0 if item is None else 1 :]
        _check_kind(getattr(source, "dtype", None), index)
        _check_shape(self.shape, index)

    def __len__(self) -> int:
        """Return the number of steps."""
        return int(self.shape[0])

    def __getitem__(self, steps: slice) -> np.ndarray:
        """Read consecutive steps."""
        if not isinstance(steps, slice) or steps.step not in (None, 1):
            raise TypeError(
                f"a recording is read by recording[start:stop], got [{steps!r}]"
            )
        start, stop, _ = steps.indices(len(self))
        stop = max(start, stop)
        if self.item is None:
            stretch = self.source[start:stop]
        else:
            stretch = self.source[self.item, start:stop]
        expected = (stop - start, self.shape[1])
        if np.shape(stretch) != expected:
            raise ValueError(
                f"sequence {self.index}: steps {start}:{stop} were read as an array of "
                f"shape {np.shape(stretch)}, expected {expected}"
            )
        return _checked(stretch, self.index, start)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a reference, or the values of a source that has none."""
        if isinstance(self.source, Source):
            return Recording, (self.source, self.index, self.item)
        return Recording, (np.asarray(self), self.index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read all steps."""
        if copy is False:
            raise ValueError("a recording cannot become an array without a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=bool(copy))


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
    shape = _shape(data)
    if hasattr(data, "shape") and len(shape) not in (2, 3):
        hint = "; for one channel use data[:, None]" if len(shape) == 1 else ""
        raise ValueError(
            f"data has shape {shape}, expected (T, P), (N, T, P) or a list of (T_n, P)"
            + hint
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


def batch(
    sequences: Sequence[Any], windows: Any
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Stack windows of sequences into one array, of which nothing is NaN.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
        Only the windows are read.
    windows : (M, 3) int64 array
        Sequence, start and stop of each, as `windows` returns them.

    Returns
    -------
    values : (M, T, P)
        T is the length of the longest window.  Zero where nothing was observed.
    observed : (M, T, P) bool, or None
        False where a value is missing and past the end of a shorter window; None if
        that is nowhere, hence never where ``lengths`` are given.
    lengths : (M,) int64, or None
        None if all windows have T steps.
    """
    windows = np.asarray(windows, dtype=np.int64)
    lengths = windows[:, 2] - windows[:, 1]
    num_steps = lengths.max()
    obs_dim = sequences[windows[0, 0]].shape[1]
    values = np.empty((len(windows), num_steps, obs_dim))
    # in the order of the data, in which neighbours may share a compressed chunk
    for row in np.lexsort((windows[:, 1], windows[:, 0])).tolist():
        index, start, stop = windows[row].tolist()
        values[row, : stop - start] = sequences[index][start:stop]
        values[row, stop - start :] = np.nan
    missing = np.isnan(values)
    any_missing = missing.any()
    if any_missing:
        values[missing] = 0.0
    return (
        values,
        ~missing if any_missing else None,
        lengths if np.any(lengths < num_steps) else None,
    )


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


def summarize(sequences: Sequence[Any], digest: bool = False) -> Summary:
    """Go through all data once.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
    digest : bool
        Whether to digest the values too, as float64: the same for the same values,
        however they are stored and read.

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
    for _, _, values in stretches(sequences):
        low = np.fmin(low, np.fmin.reduce(values, axis=0))
        high = np.fmax(high, np.fmax.reduce(values, axis=0))
        observed = ~np.isnan(values)
        num_frames += int(observed.any(axis=1).sum())
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
        total / number, partly, num_frames, count, low, high, size / number, found
    )


def frames_with_data(sequences: Sequence[Any]) -> int:
    """Count the frames of which a value is observed; may be 0."""
    return sum(
        int((~np.isnan(values)).any(axis=1).sum())
        for _, _, values in stretches(sequences)
    )


def _size_of(values: np.ndarray) -> np.ndarray:
    """Sum absolute values (S, P) over steps; infinite past the largest number."""
    with np.errstate(over="ignore"):
        return np.abs(values).sum(axis=0)


def _shape(data: Any) -> tuple[Any, ...]:
    """Return the shape, () without any: that of an empty HDF5 dataset is None."""
    return tuple(getattr(data, "shape", None) or ())


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


def _check_kind(dtype: Any, index: int) -> None:
    """Raise ValueError unless it is of numbers; pass what is no dtype of NumPy."""
    kind = getattr(dtype, "kind", None)
    if kind is not None and kind not in NUMERIC:
        hint = "; data.astype(float) converts numbers that are text or objects"
        raise ValueError(
            f"sequence {index} is not numeric but {dtype}{hint * (kind in 'OSUT')}"
        )


def _check_shape(shape: tuple[Any, ...], index: int) -> None:
    sized = all(isinstance(size, (int, np.integer)) and size > 0 for size in shape)
    if len(shape) != 2 or not sized:
        hint = (
            "; a list holds sequences: of a list of frames make an array first, "
            "numpy.array(data), and of one channel x[:, None]"
        )
        raise ValueError(
            f"sequence {index} has shape {shape}, expected (T, P) with at "
            f"least one step and one dimension{hint * (len(shape) < 2)}"
        )


def _checked(frames: Any, index: int, start: int = 0) -> np.ndarray:
    """Return the frames of a sequence from step ``start`` on as float64, none infinite.

    NaN passes, and stands for what a masked array hides.
    """
    if not isinstance(frames, np.ndarray):
        frames = np.asarray(frames)
    _check_kind(frames.dtype, index)
    if isinstance(frames, np.ma.MaskedArray):
        frames = np.ma.filled(frames.astype(np.float64), np.nan)
    frames = np.asarray(frames, dtype=np.float64)
    infinite = np.isinf(frames)
    if infinite.any():
        step, dim = np.argwhere(infinite)[0]
        raise ValueError(
            f"data is infinite: {frames[step, dim]} at sequence {index}, "
            f"step {start + step}, dimension {dim}"
        )
    return frames
