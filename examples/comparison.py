"""What the experiments of Lin, Hubacher and Khan (2018) share: scores, tables, curves.

A record is one line of a table: a method, a seed, the number of steps, and how well the
model then does on data that it has not seen.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

import svae
from svae import metrics
from svae.families import niw
from svae.plot.drawing import COLORS

Record = dict[str, Any]
COLUMNS = ("sum_mse", "mean_mse", "bound", "log_p", "purity", "entropy", "nmi")
IMPUTED = ("noise", "mean", "passes")


class Labelled(NamedTuple):
    """Points with classes that no model sees."""

    points: np.ndarray
    """(N, P)"""
    labels: np.ndarray
    """(N,)"""


class Watch:
    """A callback that scores a model at the marks."""

    def __init__(
        self, scores: Callable[[], Record], marks: Sequence[int], about: Record
    ) -> None:
        self.scores, self.marks, self.about = scores, marks, about
        self.seconds = 0.0
        self.records: list[Record] = []

    def __call__(self, step: int, record: dict[str, float]) -> None:
        """Add the time of a step; at a mark keep the scores and print them."""
        self.seconds += record["seconds"]
        if step in self.marks:
            found = {"steps": step} | self.scores() | {"seconds": self.seconds}
            self.records.append(self.about | found)
            print(line(self.records[-1]), flush=True)


def arguments(
    doc: str | None, num_steps: int, num_seeds: int, data: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the options of all the experiments."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if data is not None:
        parser.add_argument("data", type=Path, help=data)
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-steps", type=int, default=num_steps)
    parser.add_argument("--num-seeds", type=int, default=num_seeds)
    parser.add_argument("--num-processes", type=int, default=1)
    parser.add_argument(
        "--prior",
        choices=("default", "published"),
        default="default",
        help="of mixtures: svae's default, or that of Lin et al.'s code",
    )
    return parser


def with_prior(latent: Any, prior: str) -> Any:
    """Return a mixture with its default prior, or with the published one.

    The latter is ``Dir(0.05 / K)`` and ``NIW(0, 1/2, (D + 1/2) I, 2 D + 1/2)``.
    """
    if prior == "default" or not hasattr(latent, "num_states"):
        return latent
    dim = latent.latent_dim
    components = svae.priors.NIW(mean=0, kappa=0.5, scale=dim + 0.5, dof=2 * dim + 0.5)
    weights = svae.priors.Dirichlet(0.05 / latent.num_states)
    return replace(latent, prior={"weights": weights, "components": components})


def until(num_steps: int, marks: Sequence[int]) -> list[int]:
    """Return the marks before a number of steps, and that number."""
    return [*(mark for mark in marks if mark < num_steps), num_steps]


def run(tasks: Sequence[tuple[Any, ...]], num_processes: int) -> list[Record]:
    """Call ``function(*args)`` of every task, which returns records; all of them."""
    if num_processes == 1:
        return [record for function, *args in tasks for record in function(*args)]
    records: list[Record] = []
    context = get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        futures = [pool.submit(function, *args) for function, *args in tasks]
        for future in as_completed(futures):
            records += future.result()
    return records


def train(
    model: svae.SVAE,
    points: np.ndarray,
    held_out: Labelled,
    marks: Sequence[int],
    about: Record,
    **options: Any,
) -> list[Record]:
    """Fit a model for as many steps as the last mark says; return its scores at all."""
    watch = Watch(lambda: autoencoder_scores(model, held_out), marks, about)
    # as the papers' code does
    model.fit(points, max(marks), callback=watch, start="random", **options)
    return watch.records


def train_mixture(
    latent: Any,
    points: np.ndarray,
    held_out: Labelled,
    marks: Sequence[int],
    about: Record,
    seed: int,
) -> list[Record]:
    """Fit a mixture to the data themselves; return its scores at the marks."""
    model = svae.SVI(latent)
    watch = Watch(lambda: mixture_scores(model, held_out), marks, about)
    model.fit(points, max(marks), rng=seed, callback=watch, num_restarts=1)
    return watch.records


def autoencoder_scores(
    model: svae.SVAE, held_out: Labelled, num_samples: int = 100
) -> Record:
    """Score a model with networks on held-out data, in nats for each point.

    ``log_p`` is the importance-weighted bound with draws from q(theta).
    """
    points, labels = held_out
    errors = model.reconstruct(points, num_samples=20).squared_error
    scores = {
        "sum_mse": float(errors.mean()),
        "mean_mse": float(errors.mean() / points.shape[1]),
        "bound": model.score(points, num_samples=20),
        "log_p": model.score(
            points, num_importance_samples=num_samples, theta="sample"
        ),
    }
    if hasattr(model.latent, "num_states"):
        scores |= cluster_scores(labels, model.predict(points))
    return scores


def mixture_scores(model: svae.SVI, held_out: Labelled) -> Record:
    """Score a mixture of the data, which reconstructs a point by components' means."""
    points, labels = held_out
    means = niw.to_standard(model.natparams_["components"])[0]
    squares = np.sum((points[:, None] - means) ** 2, axis=-1)
    errors = np.sum(model.infer(points).states * squares, axis=1)
    return {
        "sum_mse": float(errors.mean()),
        "mean_mse": float(errors.mean() / points.shape[1]),
        "bound": model.score(points),
        "log_p": model.score(points, theta="mean"),
    } | cluster_scores(labels, model.predict(points))


def cluster_scores(labels: np.ndarray, states: np.ndarray) -> Record:
    """Compare states with classes."""
    return {
        "purity": metrics.purity(labels, states),
        "entropy": metrics.entropy(labels, states),
        "nmi": metrics.normalized_mutual_information(labels, states),
    }


def imputation_errors(
    model: svae.SVAE, points: np.ndarray, num_copies: int = 20, num_passes: int = 10
) -> Record:
    """Hide a tenth of all entries and return mean squared errors of those, an entry.

    ``noise``: standard normal noise stands in the hidden places and the encoder takes
    it for data, as in the authors' code; ``mean``: the encoder gets the training mean;
    ``passes``: then its own completions, with fresh noise in each pass.
    """
    hidden = np.random.default_rng(0).random(points.shape) < 0.1
    missing = np.where(hidden, np.nan, points)
    errors: dict[str, list[float]] = {"noise": [], "mean": [], "passes": []}
    for copy in range(num_copies):
        rng = np.random.default_rng(copy + 1)
        noisy = np.where(hidden, rng.standard_normal(points.shape), points)
        guesses = {
            "noise": model.reconstruct(noisy, 100, rng).mean,
            "mean": model.impute(missing, 100, 1, rng),
            "passes": model.impute(missing, 100, num_passes, rng),
        }
        for name, guess in guesses.items():
            errors[name].append(float(np.mean((guess - points)[hidden] ** 2)))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def by_method(
    records: Sequence[Record], keys: Sequence[str], columns: Sequence[str]
) -> list[Record]:
    """Return mean and standard deviation over seeds, for each value of the keys."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    rows = []
    for values, group in groups.items():
        row = dict(zip(keys, values, strict=True)) | {"seeds": len(group)}
        for column in columns:
            if column in group[0]:
                numbers = [record[column] for record in group]
                deviation = np.std(numbers, ddof=1) if len(numbers) > 1 else 0.0
                row[column] = (float(np.mean(numbers)), float(deviation))
        rows.append(row)
    return rows


def line(row: Record) -> str:
    """Return a row as text, means with their standard deviations."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return f"{value[0]:.3g} ({value[1]:.2g})"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return "  ".join(f"{name} {text(value)}" for name, value in row.items())


def report(
    records: Sequence[Record], key: str, columns: Sequence[str], out: Path
) -> list[Record]:
    """Print the table over seeds, of each method at each value of the key; return it.

    Writes it and all records to ``metrics.json``.
    """
    table = by_method(records, ("method", key), columns)
    for row in table:
        print(line(row))
    text = json.dumps({"table": table, "runs": records}, indent=2)
    (out / "metrics.json").write_text(text + "\n")
    return table


def curves(
    rows: Sequence[Record],
    x: str,
    label: Callable[[float], str] = "{:g}".format,
    log: bool = True,
) -> Figure:
    """Draw the held-out sum-MSE of each method, with standard deviations over seeds."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained", dpi=120)
    ax = figure.subplots()
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for rank, method in enumerate(methods):
        mine = sorted(
            (row for row in rows if row["method"] == method), key=lambda row: row[x]
        )
        at = [row[x] for row in mine]
        mean, deviation = np.array([row["sum_mse"] for row in mine]).T
        color = COLORS[rank % len(COLORS)]
        ax.plot(at, mean, "o-", color=color, label=method)
        low = np.maximum(mean - deviation, 0.1 * mean)
        ax.fill_between(at, low, mean + deviation, color=color, alpha=0.2)
    if log:
        ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = sorted({row[x] for row in rows})
    ax.set_xticks(ticks, [label(tick) for tick in ticks])
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.set(ylabel="held-out squared error, summed over dimensions")
    ax.legend()
    return figure
