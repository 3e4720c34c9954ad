"""The folder of a fit made on the command line, and the data that it reads.

``model.npz`` is the fitted model, ``history.csv`` the bound at every step, ``run.json``
how the run was made and how it ended; ``figures/`` holds its figures.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae import data, synthetic
from svae.estimator import SVAE, load
from svae.store import replacing

__all__ = [
    "BUILT_IN",
    "Missing",
    "Run",
    "Scaling",
    "missing",
    "read",
    "scaling_of",
    "write_json",
]

BUILT_IN: dict[str, Callable[[], np.ndarray]] = {
    "pinwheel": lambda: data.pinwheel(rng=1)[0],
    "dots": lambda: data.dots(rng=1),
    "switching": lambda: synthetic.switching_lds(rng=1).frames,
}


class Scaling(NamedTuple):
    """Columns lose ``mean`` and are divided by ``scale``, (P,) each."""

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Standardise sequences; what is missing stays NaN.

        Raises
        ------
        ValueError
            If they have another number of dimensions.
        """
        obs_dim = sequences[0].shape[1]
        if obs_dim != len(self.mean):
            raise ValueError(
                f"data has {obs_dim} dimensions, the model was fitted to "
                f"{len(self.mean)}"
            )
        return [
            (np.asarray(sequence) - self.mean) / self.scale for sequence in sequences
        ]

    def log_density(self, sequences: list[np.ndarray]) -> float:
        """Return log of the density of sequences over that of what `apply` makes.

        A mean over frames, in nats: each value that is observed counts its scale.
        """
        observed = sum(np.sum(~np.isnan(each), axis=0) for each in sequences)
        num_frames = sum(len(each) for each in sequences)
        return float(-np.sum(observed * np.log(self.scale)) / num_frames)

    def undo(self, frames: np.ndarray) -> np.ndarray:
        """Bring frames (..., P) back to the units of the data."""
        return np.asarray(self.mean + self.scale * frames)


class Run(NamedTuple):
    """A finished fit, read back from its folder."""

    folder: Path
    model: SVAE
    record: dict[str, Any]
    """What ``run.json`` says."""
    scaling: Scaling

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read the folder.

        Raises
        ------
        ValueError
            If it is not the folder of a run, or a file in it is damaged.
        """
        folder = Path(folder)
        if not all((folder / name).is_file() for name in ("model.npz", "run.json")):
            raise ValueError(f"{folder}: not the folder of a `svae fit`")
        model = load(folder / "model.npz")
        if not isinstance(model, SVAE):
            raise ValueError(f"{folder}: its model is no SVAE")
        record = json.loads((folder / "run.json").read_text())
        nothing = {"mean": np.zeros(model.obs_dim_), "scale": np.ones(model.obs_dim_)}
        standardize = record["standardize"] or nothing
        scaling = Scaling(*(np.array(standardize[key]) for key in Scaling._fields))
        return cls(folder, model, record, scaling)

    def read(self, source: str | None) -> list[np.ndarray]:
        """Read data in the units of the model; by default what it was fitted to."""
        return self.scaling.apply(read(source or self.record["data"]))


def read(source: str) -> list[np.ndarray]:
    """Read a built-in data set or a file."""
    if source in BUILT_IN:
        return data.as_sequences(BUILT_IN[source]())
    if not Path(source).is_file():
        known = ", ".join(BUILT_IN)
        raise ValueError(f"{source}: neither a file nor built-in data ({known})")
    return data.as_sequences(data.load(source))


def scaling_of(sequences: list[np.ndarray]) -> Scaling:
    """Return what brings each column to mean 0 and variance 1 where it is observed.

    One that is constant, or missing everywhere, comes to 0 throughout.
    """
    count, total = np.zeros((2, sequences[0].shape[1]))
    low, high = np.full((2, len(count)), np.nan)
    for _, _, rows in data.stretches(sequences):
        count += np.sum(~np.isnan(rows), axis=0)
        total += np.nansum(rows, axis=0)
        low = np.fmin(low, np.fmin.reduce(rows, axis=0))
        high = np.fmax(high, np.fmax.reduce(rows, axis=0))
    count = np.maximum(count, 1.0)
    mean, squares = total / count, np.zeros_like(total)
    for _, _, rows in data.stretches(sequences):
        squares += np.nansum((rows - mean) ** 2, axis=0)
    return Scaling(mean, np.where(high > low, np.sqrt(squares / count), 1.0))


class Missing(NamedTuple):
    """How much of the data is missing."""

    values: int
    num_values: int
    frames: int
    """Frames of which there is no value at all."""
    num_frames: int


def missing(sequences: list[np.ndarray]) -> Missing:
    """Count what is NaN."""
    values = frames = num_frames = 0
    for _, _, rows in data.stretches(sequences):
        absent = np.isnan(rows)
        values += int(absent.sum())
        frames += int(absent.all(axis=1).sum())
        num_frames += len(rows)
    return Missing(values, num_frames * sequences[0].shape[1], frames, num_frames)


def write_json(path: Path, content: Any) -> None:
    """Write json so that a reader never sees half of it."""
    with replacing(path, "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
