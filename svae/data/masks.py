"""Windows of sequences, padded to one length, and which of their steps say something.

The words for masks are the same in all of the package.  A step is *valid* before the
end of its sequence, an entry or a frame is *observed* where there are data of it, and
*scored* where it is both: those are what the likelihood is about.  Which frames are
*shown* to the encoder is a matter of training; see `svae.objective.batch`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Windows", "valid_steps"]


@dataclass(frozen=True, eq=False)
class Windows:
    """M windows, padded to one length."""

    values: np.ndarray
    """(M, T, P), finite; what it is where nothing was observed has no influence."""
    lengths: np.ndarray | None = None
    """(M,), or None when all have length T."""
    observed: np.ndarray | None = None
    """(M, T, P) bool, or (M, T, 1) of frames that are observed as a whole: False where
    entries are missing; None when none is, or only what lies past the lengths."""

    @cached_property
    def valid(self) -> np.ndarray:
        """Mask (M, T) of the steps within the lengths."""
        return valid_steps(self.lengths, self.values)

    @cached_property
    def scored(self) -> np.ndarray | None:
        """Mask (M, T, P) of what the likelihood scores, or None for everything."""
        if self.lengths is None:
            return self.observed
        valid = self.valid[..., None]
        if self.observed is None:
            return np.broadcast_to(valid, self.values.shape)
        return valid & self.observed

    @cached_property
    def observed_frames(self) -> np.ndarray | None:
        """Mask (M, T) of the frames of which there are data, or None for all."""
        if self.observed is None:
            return None
        return np.asarray(self.observed.any(axis=-1))

    @property
    def num_steps(self) -> np.ndarray:
        """The lengths (M,), also where they are all the same."""
        return np.asarray(self.valid.sum(axis=1))

    @property
    def nonempty(self) -> np.ndarray:
        """Mask (M,) of the windows of which anything is observed."""
        if self.observed is None:
            return np.ones(len(self.values), dtype=bool)
        return np.asarray(self.observed.any(axis=(1, 2)))

    @property
    def scored_frames(self) -> np.ndarray:
        """Mask (M, T) of the frames of which anything is scored."""
        frames = self.observed_frames
        return self.valid if frames is None else self.valid & frames


def valid_steps(lengths: Any, frames: Any) -> np.ndarray:
    """Return the mask (N, T) of the steps of ``frames`` (N, T, ...) within lengths."""
    number, steps = frames.shape[:2]
    if lengths is None:
        return np.ones((number, steps), dtype=bool)
    return np.arange(steps) < np.asarray(lengths)[:, None]
