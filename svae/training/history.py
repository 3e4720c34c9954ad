"""What is recorded of each step of training: rows while it runs, columns afterwards."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from svae import store
from svae.autodiff.trees import check_alike

__all__ = [
    "HISTORY",
    "STATES_IN_USE",
    "Record",
    "check_first",
    "check_history",
    "check_trial",
    "columns",
    "records",
    "write_csv",
]

Record: TypeAlias = dict[str, float]

HISTORY = (
    "objective",
    "reconstruction",
    "local_kl",
    "global_kl",
    "decoder_kl",
    "iterations",
    "gradient_iterations",
    "unconverged",
    "backtracks",
    "seconds",
)
"""What is recorded for each step."""
STATES_IN_USE = "states_in_use"
"""What is recorded beside it of models with discrete states."""


def columns(
    records: Sequence[Record], names: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the records of N steps as a column (N,) for each name.

    Without ``names`` these are all that are recorded: none, if there are no records.
    """
    if names is None:
        names = records[0] if records else ()
    return {name: np.array([record[name] for record in records]) for name in names}


def records(columns: Mapping[str, np.ndarray]) -> list[Record]:
    """Return the records of which these are the `columns`."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def write_csv(history: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a history as a table, a row for each step, whole or not at all."""
    rows = zip(*history.values(), strict=True)
    with store.replacing(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *history])
        writer.writerows([step, *row] for step, row in enumerate(rows))


def check_first(record: Any) -> Record | None:
    """Return a record of step 0 that was read back; None of a fit that has none.

    Raises
    ------
    ValueError
        If it is not a dict of finite numbers.
    """
    if record is None:
        return None
    numbers = {"objective": 0.0, "linear": 0.0}
    if not isinstance(record, dict) or not numbers.keys() <= record.keys():
        raise ValueError(f"step 0 is {record!r}")
    check_alike(record, dict.fromkeys(record, 0.0), "step 0")
    return record


def check_trial(trial: Any) -> dict[str, np.ndarray] | None:
    """Return the scores of a trial that were read back; None of a fit without one.

    Raises
    ------
    ValueError
        If they are no columns ``step`` and ``score`` of one length.
    """
    if trial is None:
        return None
    if not isinstance(trial, dict) or trial.keys() != {"step", "score"}:
        raise ValueError(f"the trial is {trial!r}")
    step, score = trial["step"], trial["score"]
    check_alike(step, np.zeros(np.shape(step), dtype=np.int64), "steps of the trial")
    if np.shape(score) != np.shape(step) or np.ndim(step) != 1:
        raise ValueError("the trial has no score for each step")
    return trial


def check_history(history: Any) -> dict[str, np.ndarray]:
    """Return a history that was read back.

    Raises
    ------
    ValueError
        If it is none: a dict of columns of numbers of one length, the objective finite.
    """
    objective = history["objective"]
    check_alike(objective, np.zeros(len(objective)), "objective")
    for name, column in history.items():
        numbers = type(name) is str and column.dtype.kind in "iuf"
        if not numbers or column.shape != objective.shape:
            raise ValueError(f"history has no numbers for each step in {name!r}")
    return dict(history)
