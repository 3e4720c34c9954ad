"""Depth videos as MoSeq extracts them: ``results_00.h5`` of moseq2-extract.

``frames`` (T, H, W) are heights above the floor in mm, of a crop that follows the
animal, ``frames_mask`` (T, H, W) says how likely it is that a pixel shows the animal,
and ``timestamps`` (T,) when a frame was taken, in ms.  Frames that the camera dropped
are absent; here they come back as missing ones, as a chain over time needs them.
"""

import math
from typing import Any

import numpy as np

from svae.data.sources.hdf5 import Stored, dataset_names
from svae.data.sources.reference import Source

__all__ = ["Extraction", "is_extraction"]

PARTS = ("frames", "frames_mask", "timestamps")
LONGEST_GAP = 10_000  # steps: minutes, which no camera drops frame by frame


def is_extraction(path: str) -> bool:
    """Whether a HDF5 file has the frames and masks of an extraction."""
    parts = PARTS[:2]
    if not set(parts) <= set(dataset_names(path)):
        return False
    return all(len(Stored(path, part).shape) == 3 for part in parts)


class Extraction(Source):
    """All frames of an extraction, (T', P) with NaN for what is missing.

    Parameters
    ----------
    path : str
    mask_threshold, mask_height : float
        As in `svae.data.moseq`.
    block : int
        Side of the squares of pixels that are averaged.

    Raises
    ------
    ValueError
        If a dataset is missing or damaged, shapes disagree, ``block`` does not divide
        them, or timestamps do not increase or jump by more than 10 000 frames; the
        message names the file and the place.
    """

    dtype = np.dtype(np.float64)
    quantity = "height (mm)"

    def __init__(
        self, path: str, mask_threshold: float, mask_height: float, block: int
    ) -> None:
        self.path, self.block = path, block
        self.mask_threshold, self.mask_height = mask_threshold, mask_height
        self._frames, self._mask, self._timestamps = (
            Stored(path, part) for part in PARTS
        )
        self._check()
        self._times: np.ndarray | None = None
        _, height, width = self._frames.shape
        self.frame_shape = height // block, width // block
        self.shape = int(self.times[-1]) + 1, math.prod(self.frame_shape)

    def _check(self) -> None:
        shape = self._frames.shape
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"{self.path}: frames has shape {shape}, expected (T, H, W)"
            )
        for part in (self._frames, self._mask, self._timestamps):
            if part.dtype.kind not in "biuf":
                raise ValueError(
                    f"{self.path}: {part.name} is {part.dtype}, expected numbers"
                )
        others = self._mask, self._timestamps
        for part, expected in zip(others, (shape, shape[:1]), strict=True):
            if part.shape != expected:
                raise ValueError(
                    f"{self.path}: {part.name} has shape {part.shape}, expected "
                    f"{expected}, for frames has {shape}"
                )
        if self.block < 1 or shape[1] % self.block or shape[2] % self.block:
            raise ValueError(
                f"{self.path}: block={self.block!r} does not divide frames of "
                f"{shape[1]} x {shape[2]} pixels"
            )

    @property
    def times(self) -> np.ndarray:
        """The steps (T,) at which there are frames; all between are missing."""
        if self._times is None:
            self._times = steps_of(self._timestamps[:], self.path)
        return self._times

    def __getstate__(self) -> dict[str, Any]:
        """Return what is needed to read the file again."""
        return self.__dict__ | {"_times": None}

    def __getitem__(self, key: slice) -> np.ndarray:
        """Read consecutive steps, (S, P)."""
        start, stop, _ = key.indices(self.shape[0])
        first, last = np.searchsorted(self.times, (start, stop))
        read = np.full((max(0, stop - start), self.shape[1]), np.nan)
        read[self.times[first:last] - start] = self._heights(first, last)
        return read

    def _heights(self, first: int, last: int) -> np.ndarray:
        heights = self._frames[first:last].astype(np.float64)
        if self._mask.dtype.kind != "b" or self.mask_threshold > 0:  # else it is idle
            low = self._mask[first:last] < self.mask_threshold
            heights[low & (heights > self.mask_height)] = np.nan
        if self.block > 1:
            heights = block_means(heights, self.block)
        return heights.reshape(len(heights), self.shape[1])


def steps_of(timestamps: np.ndarray, path: str) -> np.ndarray:
    """Return the steps (T,) of frames, from 0 on, at the median interval.

    Each interval is rounded to whole steps, one at least: roundings do not add up.

    Raises
    ------
    ValueError
        If timestamps do not increase, or there is a gap of more than 10 000 steps; the
        message names the file and the step.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # of what is infinite
        intervals = np.diff(np.asarray(timestamps, dtype=np.float64))
    wrong = np.flatnonzero(~(intervals > 0))
    if len(wrong):
        step = wrong[0] + 1
        raise ValueError(
            f"{path}: timestamps do not increase at step {step}: "
            f"{timestamps[step]} follows {timestamps[step - 1]}"
        )
    steps = np.zeros(len(timestamps), dtype=np.int64)
    if len(intervals):
        with np.errstate(over="ignore", invalid="ignore"):
            gaps = np.maximum(np.rint(intervals / np.median(intervals)), 1.0)
        absurd = np.flatnonzero(~(gaps <= LONGEST_GAP))
        if len(absurd):
            step = absurd[0] + 1
            raise ValueError(
                f"{path}: timestamps jump at step {step}, from {timestamps[step - 1]} "
                f"to {timestamps[step]}, {gaps[step - 1]:.0f} times the usual "
                f"interval, and at most {LONGEST_GAP} frames in a row count as "
                "dropped; correct the clock, or cut the recording there into two files"
            )
        np.cumsum(gaps.astype(np.int64), out=steps[1:])
    return steps


def block_means(images: np.ndarray, block: int) -> np.ndarray:
    """Average squares of (T, H, W) pixels over those that are observed."""
    count, height, width = images.shape
    squares = images.reshape(count, height // block, block, width // block, block)
    observed = ~np.isnan(squares)
    number = observed.sum(axis=(2, 4))
    total = np.where(observed, squares, 0.0).sum(axis=(2, 4))
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
