"""Commands that ask something of a run, and ``svae info``."""

import argparse
import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae import kernels, plot, store
from svae.cli import ahead, output, runs, selfcheck
from svae.cli.runs import Run
from svae.metrics import bouts
from svae.queries.importance import ImportanceScore
from svae.store import replacing

__all__ = ["draw", "forecast", "info", "sample", "score", "segment", "segmented"]


def score(options: argparse.Namespace) -> int:
    """Print the score of data under a fitted model, in the units of the data."""
    if options.theta is not None and options.num_importance_samples is None:
        options.usage("argument --theta: only with --num-importance-samples")
    if options.ahead is not None and options.num_importance_samples is not None:
        options.usage("argument --ahead: not with --num-importance-samples")
    run = Run.load(options.run)
    sequences = run.read(options.data)
    weighted = options.num_importance_samples is not None
    found = run.model.score(
        sequences,
        options.num_samples,
        options.num_importance_samples,
        options.theta or "mean",
        options.rng,
        detailed=weighted,
        ahead=options.ahead,
    )
    bound = found.score if isinstance(found, ImportanceScore) else found
    given = "" if options.ahead is None else " given those before it"
    print(f"{bound + run.scaling.log_density(sequences):.6f} nats per frame{given}")
    if isinstance(found, ImportanceScore):
        sizes = found.effective_samples
        print(
            f"standard error: {found.standard_error:.2g}; effective samples: "
            f"{sizes.min():.1f} to {sizes.max():.1f} "
            f"of {options.num_importance_samples}"
        )
    ahead.describe_errors(run, options.data, sequences)
    return 0


def segment(options: argparse.Namespace) -> int:
    """Write the state of each frame; say how much each state is used."""
    run = Run.load(options.run)
    if not hasattr(run.model.latent, "num_states"):
        options.usage(f"argument RUN: {run.record['model']} has no discrete states")
    sequences, paths = run.read(options.data), []
    path = Path(options.out or run.folder / "segments.csv")
    with replacing(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "frame", *bouts.Segmentation._fields])
        for number, columns in enumerate(segmented(run.model, sequences)):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            writer.writerows([number, frame, *row] for frame, row in enumerate(rows))
            paths.append(columns.state)
    for usage in bouts.usage(paths):
        print(
            f"state {usage.state}: {100 * usage.share:.1f} % of the frames, "
            f"bouts: {usage.num_bouts}, "
            f"median duration: {usage.median_duration:g} frames"
        )
    print(f"written to {path}")
    return 0


def segmented(
    model: svae.SVAE, sequences: list[Any], num_frames: int = 100_000
) -> Iterator[bouts.Segmentation]:
    """Yield what a model says of each sequence; those of so many frames at a time.

    Inference packs sequences, but all of their posteriors may not fit into memory.
    """
    ends = np.cumsum([len(sequence) for sequence in sequences])
    for _, group in groupby(range(len(ends)), lambda n: ends[n] // num_frames):
        some = [sequences[n] for n in group]
        posteriors = model.infer(some, num_samples=1)
        for path, posterior in zip(model.predict(some), posteriors, strict=True):
            yield bouts.segmentation(path, posterior.states)


def forecast(options: argparse.Namespace) -> int:
    """Write predictions of the frames after each sequence, and draw the first."""
    run, horizon, theta = Run.load(options.run), options.horizon, options.theta
    if run.model.latent.independent:
        raise ValueError(f"{run.record['model']}: independent rows have no forecast")
    sequences = run.read(options.data)
    forecasts = run.model.forecast(sequences, horizon, theta=theta, rng=options.rng)
    path, scaling = run.folder / "forecast.npz", run.scaling
    arrays: dict[str, Any] = {
        "mean": scaling.undo(np.stack([each.mean for each in forecasts])),
        "variance": scaling.scale**2 * np.stack([each.variance for each in forecasts]),
        "samples": scaling.undo(np.stack([each.samples for each in forecasts])),
    }
    if forecasts[0].states is not None:
        arrays["states"] = np.stack([each.states for each in forecasts])
    with replacing(path) as file:
        np.savez(file, **arrays)
    shapes = (f"{name} {array.shape}" for name, array in arrays.items())
    print(f"written to {path}: {', '.join(shapes)}")

    if output.can_draw(print):
        first, context = sequences[0], 2 * horizon
        figure = plot.forecast(
            run.model,
            first,
            len(first),
            horizon,
            context,
            theta=theta,
            rng=options.rng,
            shape=run.frame_shape,
            undo=scaling.undo,
            **runs.words_of_figures(run.record),
        )
        output.save_figures(run.folder, {"prediction": figure})
    return 0


def sample(options: argparse.Namespace) -> int:
    """Write frames drawn from a fitted model."""
    run = Run.load(options.run)
    frames = run.scaling.undo(run.model.sample(options.num_steps, rng=options.rng))
    path = run.folder / "sample.npy"
    with replacing(path) as file:
        np.save(file, frames)
    print(f"written to {path}: {frames.shape}")
    return 0


def draw(options: argparse.Namespace) -> int:
    """Draw the figures of a run again, perhaps for other data."""
    run = Run.load(options.run)
    sequences = runs.excerpt(run.read(options.data))
    figures = plot.figures(
        run.model,
        sequences,
        options.shape or run.frame_shape,
        run.scaling.undo,
        run.record.get("num_frames"),
        **runs.words_of_figures(run.record),
    )
    output.save_figures(run.folder, figures)
    print(f"written to {run.folder / 'figures'}")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print what is installed, and check the gradients of both chains."""
    facts = store.versions()
    facts |= {"instructions": kernels.isa(), "threads": str(svae.get_num_threads())}
    errors = selfcheck.gradient_errors()
    for name, error in errors.items():
        verdict = "right" if error < selfcheck.TOLERANCE else "WRONG"
        facts[name] = f"gradient {verdict}, relative error {error:.1e}"
    for name, fact in facts.items():
        print(f"{name:<16}{fact}")
    return 0 if max(errors.values()) < selfcheck.TOLERANCE else 1
