"""Opening files: arrays, tables, HDF5, and the extractions of MoSeq and DeepLabCut."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from svae.data.recording import NUMERIC, Recording
from svae.data.sequences import CUTOFF, TABLE
from svae.data.sources import (
    Extraction,
    Images,
    Stored,
    adopt,
    datasets,
    frame_shape_of,
    is_extraction,
    listing,
    refuse_pandas,
)
from svae.data.sources.counting import counting
from svae.data.sources.poses import positions
from svae.data.sources.readers import READERS, read_arrays
from svae.data.sources.reference import naming
from svae.data.sources.tables import Table, read_table

__all__ = [
    "deeplabcut",
    "images",
    "load",
    "moseq",
]


HDF5 = (".h5", ".hdf5")


def load(
    path: str | Path,
    key: str | None = None,
    mmap: bool = False,
    frame_shape: tuple[int, int] | str | None = None,
) -> Any:
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
    frame_shape : (H, W) or "auto", optional
        That frames are images of this shape.  Then arrays (T, H, W) and (N, T, H, W)
        are read as `images` does; arrays (T, P) with P = H W are as they are.  With
        "auto" four axes are images, and three if the last two are equal and 8 or more:
        (N, T, P) otherwise.

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
        return _recordings(str(path), key, frame_shape)
    if suffix == TABLE:
        table = _table(path)
        with naming(str(path)):
            return _as_images(table, frame_shape)[0]
    arrays = read_arrays(path, key, mmap)
    for array in arrays:
        if array.dtype.kind not in NUMERIC:
            raise ValueError(f"{path}: expected numbers, got {array.dtype}")
        if array.size == 0:
            raise ValueError(f"{path}: an array is empty, of shape {array.shape}")
    with naming(str(path)):
        found = [each for array in arrays for each in _as_images(array, frame_shape)]
    return found[0] if len(found) == 1 else found


def images(frames: Any) -> "list[Recording]":
    """Take images (T, H, W) as frames of H W pixels, rows one after the other.

    Parameters
    ----------
    frames : (T, H, W) or (N, T, H, W) array, or list of (T_n, H, W) arrays
        In memory, a memory map or a HDF5 dataset; nothing is copied.

    Returns
    -------
    list of Recording
        A sequence (T_n, H W) for each; their ``frame_shape`` is (H, W).

    Raises
    ------
    ValueError
        If an array has another number of axes, or images differ in shape.
    """
    if not hasattr(frames, "shape"):
        found = [each for part in frames for each in images(np.asarray(part))]
        shapes = {str(each.frame_shape) for each in found}
        if len(shapes) > 1:
            raise ValueError(f"images differ in shape: {', '.join(sorted(shapes))}")
        return [Recording(each.source, n) for n, each in enumerate(found)]
    shape, source = tuple(frames.shape), adopt(frames)
    if len(shape) == 3:
        return [Recording(Images(source), 0)]
    if len(shape) == 4:
        return [Recording(Images(source, n), n) for n in range(shape[0])]
    raise ValueError(f"images have shape {shape}, expected (T, H, W) or (N, T, H, W)")


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


def _as_images(array: Any, frame_shape: tuple[int, int] | str | None) -> list[Any]:
    """Return the sequences of images that an array is, or the array if it is none."""
    shape = tuple(array.shape)
    wanted = frame_shape_of(shape) if isinstance(frame_shape, str) else frame_shape
    if wanted is None:
        return [array]
    if len(shape) > 2 and shape[-2:] == tuple(wanted):
        return list(images(array))
    if shape[-1] == wanted[0] * wanted[1]:
        return [array]
    raise ValueError(
        f"an array of shape {shape} has no images of {wanted[0]} x {wanted[1]} pixels"
    )


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


def _recordings(
    path: str, key: str | None, frame_shape: tuple[int, int] | str | None
) -> Any:
    """Return what is meant in a HDF5 file as a recording, or as a list of them."""
    try:
        if key is None and is_extraction(path):
            return _checked_extraction(moseq(path), frame_shape, path)
        refuse_pandas(path, key)
        source = Stored(path, key or _only_dataset(path))
    except OSError as error:
        raise ValueError(str(error)) from error
    if not _can_be_data(source, 3 if frame_shape is None else 4):
        raise ValueError(
            f"{path}: {source.name} is {source.dtype} of shape {source.shape}, "
            "expected numbers (T, P) or (N, T, P)"
        )
    with naming(f"{path}: {source.name}"):
        (first, *more) = _as_images(source, frame_shape)
    if first is not source:
        return [first, *more] if more else first
    if len(source.shape) == 2:
        return Recording(source, 0)
    return [Recording(source, n, item=n) for n in range(source.shape[0])]


def _checked_extraction(
    recording: Recording, frame_shape: tuple[int, int] | str | None, path: str
) -> Recording:
    """Return it; raise ValueError if its images are said to have another shape."""
    known = recording.frame_shape
    if isinstance(frame_shape, tuple) and known is not None and known != frame_shape:
        raise ValueError(
            f"{path}: frames have {known[0]} x {known[1]} pixels, not "
            f"{frame_shape[0]} x {frame_shape[1]}"
        )
    return recording


def _only_dataset(path: str) -> str:
    names = [name for name, each in datasets(path).items() if _can_be_data(each)]
    if len(names) == 1:
        return names[0]
    problem = "several datasets" if names else "no dataset"
    raise ValueError(
        f"{path}: {problem} could be data, (T, P) or (N, T, P) numbers; there are "
        f"{listing(path)}" + ("; name one with key" if names else "")
    )


def _can_be_data(source: Stored, most_axes: int = 3) -> bool:
    shape, kind = source.shape, source.dtype.kind
    return 2 <= len(shape) <= most_axes and 0 not in shape and kind in NUMERIC
