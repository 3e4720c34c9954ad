"""Frames that are images: arrays (T, H, W), read as rows of H W pixels."""

import math
from typing import Any

import numpy as np

from svae.data.sources.reference import Source

__all__ = ["Images", "frame_shape_of", "side_of"]

SMALLEST = 8  # rows from which square frames are taken for images


class Images(Source):
    """A sequence of images as a source (T, H W), rows of pixels one after the other.

    Parameters
    ----------
    source : (T, H, W) or (N, T, H, W) array or Source
    item : int, optional
        Which sequence of a source (N, T, H, W) it is.
    """

    def __init__(self, source: Any, item: int | None = None) -> None:
        self.source, self.item = source, item
        steps, *frame = source.shape if item is None else source.shape[1:]
        self.frame_shape: tuple[int, int] = (int(frame[0]), int(frame[1]))
        self.shape = int(steps), self.frame_shape[0] * self.frame_shape[1]
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, steps: Any) -> np.ndarray:
        """Read consecutive steps, (S, H W)."""
        part = self.source[steps if self.item is None else (self.item, steps)]
        return np.asarray(part).reshape(len(part), self.shape[1])


def frame_shape_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the (H, W) of an array's images, or None if it has no images.

    Four axes can only be (N, T, H, W).  Three are images (T, H, W) if these are square
    and have 8 rows or more, and else sequences (N, T, P): sequences of as many steps as
    channels are rarer than videos.
    """
    square = len(shape) == 3 and shape[1] == shape[2] >= SMALLEST
    if len(shape) == 4 or square:
        return int(shape[-2]), int(shape[-1])
    return None


def side_of(num_columns: int) -> int | None:
    """Return the H of square images that rows of so many numbers can be, or None."""
    side = math.isqrt(num_columns)
    return side if side**2 == num_columns and side >= SMALLEST else None
