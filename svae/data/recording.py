"""Sequences that stay where they are, and are read a stretch at a time."""

from typing import Any

import numpy as np

from svae.data.sources import Source, adopt

__all__ = [
    "Recording",
]


NUMERIC = "biuf"  # kinds of dtype: bool, integers, floats


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

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """Rows and columns (H, W) of the image that a frame is; None if not known."""
        shape: tuple[int, int] | None = getattr(self.source, "frame_shape", None)
        return shape

    @property
    def quantity(self) -> str | None:
        """What the values are and their unit, for figures; None if not known."""
        quantity: str | None = getattr(self.source, "quantity", None)
        return quantity

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


def _shape(data: Any) -> tuple[Any, ...]:
    """Return the shape, () without any: that of an empty HDF5 dataset is None."""
    return tuple(getattr(data, "shape", None) or ())


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
