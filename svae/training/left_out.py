"""Data that a trial leaves out, to score what training makes of the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from svae.training.batches import spread

__all__ = ["read", "without_a_fifth"]

MANY = 10
"""Windows from which every fifth is left out, rather than the end of each."""
SHORTEST = 5
"""Frames that what is left out of a window must have."""
FRAMES = 10_000
"""Frames that are scored at most."""


def without_a_fifth(
    windows: np.ndarray, latent: Any
) -> tuple[np.ndarray | None, np.ndarray]:
    """Divide windows into those to train on, and a fifth that is left out.

    Every fifth window of many, which are sequences, stretches of them or rows; of few
    windows of a chain the last fifth of each.

    Parameters
    ----------
    windows : (M, 3) int64 array
        Sequence, start and stop of each; see `svae.data.windows`.
    latent : latent model

    Returns
    -------
    kept : (L, 3) int64 array or None
        None if there are too few frames to leave any out.
    left_out : (M', 3) int64 array
    """
    if len(windows) >= MANY:
        is_left_out = np.arange(len(windows)) % 5 == 4
        return windows[~is_left_out], windows[is_left_out]
    sequence, start, stop = windows.T
    cut = stop - (stop - start) // 5
    is_cut = stop - cut >= SHORTEST
    if latent.independent or not is_cut.any():
        return None, windows[:0]
    kept = np.column_stack([sequence, start, np.where(is_cut, cut, stop)])
    return kept, np.column_stack([sequence, cut, stop])[is_cut]


def read(sequences: Sequence[Any], windows: np.ndarray, latent: Any) -> list[Any]:
    """Return the frames of windows as sequences, of too many those of some windows.

    Parameters
    ----------
    sequences : sequence of (T_n, P) arrays or recordings
    windows : (M, 3) int64 array
    latent : latent model
        Of independent rows there is one array (M, P).

    Returns
    -------
    list of (T, P) arrays
    """
    frames = [
        sequences[n][start : min(stop, start + FRAMES)]
        for n, start, stop in spread(windows, FRAMES)
    ]
    return [np.concatenate(frames)] if latent.independent else frames
