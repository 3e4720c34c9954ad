"""Bouts: the stretches of equal states into which a path of states falls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Bouts", "Segmentation", "Usage", "bouts", "segmentation", "usage"]


class Bouts(NamedTuple):
    """The B bouts of a path, in the order of time."""

    states: np.ndarray
    """(B,), the state of each."""
    onsets: np.ndarray
    """(B,) int64, first frames."""
    durations: np.ndarray
    """(B,) int64, numbers of frames; they sum to those of the path."""


class Segmentation(NamedTuple):
    """What is known of the state of each of T frames."""

    state: np.ndarray
    """(T,), the path."""
    probability: np.ndarray
    """(T,), posterior probability that a frame is in the state of the path."""
    duration: np.ndarray
    """(T,) int64, length in frames of the bout that a frame belongs to."""
    onset: np.ndarray
    """(T,) int64, first frame of that bout."""


class Usage(NamedTuple):
    """How much of all paths a state has."""

    state: int
    share: float
    """Of the frames."""
    num_bouts: int
    median_duration: float
    """Of its bouts, in frames."""


def bouts(path: Any) -> Bouts:
    """Cut a path (T,) of one frame or more where its state changes.

    Examples
    --------
    >>> bouts([3, 3, 1, 3]).durations.tolist()
    [2, 1, 1]
    """
    path = np.asarray(path)
    onsets = np.append(0, np.flatnonzero(path[1:] != path[:-1]) + 1)
    return Bouts(path[onsets], onsets, np.diff(np.append(onsets, len(path))))


def segmentation(path: np.ndarray, probs: np.ndarray) -> Segmentation:
    """Return what is known of each frame of a path (T,), given probabilities (T, K)."""
    _, onsets, durations = bouts(path)
    return Segmentation(
        path,
        probs[np.arange(len(path)), path],
        np.repeat(durations, durations),
        np.repeat(onsets, durations),
    )


def usage(paths: Sequence[np.ndarray]) -> list[Usage]:
    """Return the usage of each state on the paths, the most frequent first."""
    found = [bouts(path) for path in paths]
    states = np.concatenate([each.states for each in found])
    durations = np.concatenate([each.durations for each in found])
    usages = []
    for state in np.unique(states).tolist():
        own = durations[states == state]
        share = float(own.sum() / durations.sum())
        usages.append(Usage(state, share, len(own), float(np.median(own))))
    return sorted(usages, key=lambda each: -each.share)
