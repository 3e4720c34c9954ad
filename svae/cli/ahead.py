"""One step ahead, on the command line: predictions of a run, and baselines beside them.

Errors are mean squares of an entry, in the units of the data.  The baselines learn from
what the run was fitted to.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from svae import metrics
from svae.cli import runs
from svae.cli.runs import Run, Scaling
from svae.estimators import SVAE
from svae.store import replacing

__all__ = ["describe_errors", "errors", "predict_next"]

NUM_SAMPLES = 20
"""Draws of x that errors are made of; their noise is in pairs that cancel."""


def predict_next(options: argparse.Namespace) -> int:
    """Write the prediction of each frame from those before it."""
    run = Run.load(options.run)
    sequences = run.read(options.data)
    found = run.model.predict_next(sequences, options.num_samples, rng=options.rng)
    path = Path(options.out or run.folder / "predictions.npz")
    scaling = run.scaling
    arrays: dict[str, Any] = {
        "mean": scaling.undo(_joined(found, "mean")),
        "variance": scaling.scale**2 * _joined(found, "var"),
        "log_density": np.concatenate(
            [
                each.log_density - _observed(frames) @ np.log(scaling.scale)
                for each, frames in zip(found, sequences, strict=True)
            ]
        ),
        "latent_mean": _joined(found, "latent_mean"),
        "lengths": np.array([len(frames) for frames in sequences]),
    }
    if found[0].states is not None:
        arrays["states"] = _joined(found, "states")
    with replacing(path) as file:
        np.savez(file, **arrays)
    shapes = (f"{name} {array.shape}" for name, array in arrays.items())
    print(f"written to {path}: {', '.join(shapes)}")
    describe_errors(run, options.data, sequences, found)
    return 0


def describe_errors(
    run: Run, source: str | None, sequences: list[Any], found: Any = None
) -> None:
    """Print the error of predictions one step ahead, and those of baselines.

    Parameters
    ----------
    run : Run
    source : str or None
        Where ``sequences`` come from; None if they are what was fitted.
    sequences : list
        In the units of the model.
    found : list of Prediction, optional
        Of ``sequences``, if they are there already.
    """
    train, note = sequences, ""
    if source is not None:
        try:
            own = runs.read_own(run.folder, run.record).sequences
            train = run.scaling.apply(own)
        except (ValueError, OSError) as error:
            note = f"; baselines learned from these data themselves: {error}"
    print(errors(run.model, run.scaling, sequences, train, found) + note)


def errors(
    model: SVAE,
    scaling: Scaling,
    sequences: list[Any],
    train: list[Any],
    found: Any = None,
) -> str:
    """Return a line with the error of predictions one step ahead, and of baselines.

    Parameters
    ----------
    model : SVAE
    scaling : Scaling
        Which brings the errors to units of the data.
    sequences, train : list
        Data to predict, and those that the baselines learn from; of what does not fit
        into memory easily, the beginning.
    found : list of Prediction, optional
        Of ``sequences``, if they are there already.
    """
    shown = runs.excerpt(sequences)
    if found is None or shown is not sequences:
        found = model.predict_next(shown, NUM_SAMPLES)
    frames, learned = (
        [scaling.undo(np.asarray(each[:])) for each in some]
        for some in (shown, runs.excerpt(train))
    )
    predicted = [scaling.undo(each.mean) for each in found]
    values = [
        f"{name} {metrics.mean_squared_error(frames, each):.6g}"
        for name, each in _baselines(model, frames, learned)
    ]
    error = metrics.mean_squared_error(frames, predicted)
    part = "" if shown is sequences else f" of the first {sum(map(len, shown))} frames"
    line = f"one step ahead, mean squared error{part}: {error:.6g}"
    return f"{line} ({', '.join(values)})"


def _baselines(
    model: SVAE, frames: list[np.ndarray], train: list[np.ndarray]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the name and the predictions of each baseline."""
    yield "mean frame", metrics.mean_frame(frames, train)
    if model.latent.independent:
        return
    yield "previous frame", metrics.previous_frame(frames, train)
    if any(len(each) > 1 for each in train):
        size = model.latent.latent_dim
        found = metrics.autoregression(frames, train, size)
        yield f"VAR(1) of {size} principal components", found


def _joined(found: Any, name: str) -> np.ndarray:
    return np.concatenate([getattr(each, name) for each in found])


def _observed(frames: Any) -> np.ndarray:
    """Return 1.0 where there are data, else 0.0, (T, P)."""
    return 1.0 - np.isnan(np.asarray(frames[:]))
