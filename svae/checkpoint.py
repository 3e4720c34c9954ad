"""The file from which a fit goes on: ``checkpoint.npz`` in the folder of a run.

It holds the course of the fit (parameters, moments of Adam, step, state of the random
numbers, windows left in the epoch, history) and what the fit is of (model, settings,
data, versions), so that nothing else can be resumed from it by mistake.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae import kernels, store
from svae.fit import State
from svae.generative import Parameters
from svae.optim import AdamState
from svae.training import ENDED, Course, Fitted, Record, Scored
from svae.versions import versions

__all__ = ["FILE", "Keeper", "fingerprint", "unfinished"]

FILE, KIND = "checkpoint.npz", "svae.checkpoint"


def fingerprint(sequences: Sequence[Any], mean: np.ndarray) -> dict[str, Any]:
    """Return what tells data from other data: sizes, and a digest of their mean."""
    lengths = np.array([len(sequence) for sequence in sequences])
    digest = hashlib.sha256(lengths.tobytes() + mean.tobytes()).hexdigest()
    return {
        "sequences": len(lengths),
        "frames": int(lengths.sum()),
        "dimensions": len(mean),
        "digest": digest[:16],
    }


class Keeper:
    """Keeps the course of one job in a folder.

    Parameters
    ----------
    folder : path
    job : dict
        What json holds of the job: a course of another is refused.
    interval : float
        Seconds from one checkpoint to the next.

    Raises
    ------
    ValueError
        If the interval is negative.
    """

    def __init__(self, folder: Path, job: dict[str, Any], interval: float) -> None:
        if not interval >= 0:
            raise ValueError(f"checkpoint_interval must be from 0 on, got {interval!r}")
        self.folder, self.interval = folder, interval
        self._job = json.loads(json.dumps(job, default=str))  # tuples are lists there
        self._written = -np.inf

    def load(self) -> Course | None:
        """Read the course; None if there is none.

        Raises
        ------
        ValueError
            If the file is damaged or no checkpoint, or of another job; the message
            names the first difference.

        Warns
        -----
        UserWarning
            If it was written with other versions: last digits may differ.
        """
        if not (self.folder / FILE).is_file():
            return None
        tree, meta = _read(self.folder)
        was, now = _flat(meta["job"]), _flat(self._job)
        for name in [*was, *now]:
            if was.get(name) != now.get(name):
                raise ValueError(
                    f"resume: {self.folder} has a fit with {name} = {was.get(name)}, "
                    f"not {now.get(name)}"
                )
        old, new = meta["versions"], _versions()
        changed = [
            f"{k} {old[k]}, now {new.get(k)}" for k in old if old[k] != new.get(k)
        ]
        if changed:
            warnings.warn(
                f"{self.folder} has a fit with {'; '.join(changed)}: it goes on, but "
                "last digits may differ",
                stacklevel=3,
            )
        return _from_tree(tree)

    def refuse_unfinished(self) -> None:
        """Raise ValueError if there is a fit that has not ended, which would be lost.

        Or if there is a file that is damaged or no checkpoint.
        """
        if unfinished(self.folder):
            raise ValueError(
                f"checkpoint: {self.folder} has a fit that has not ended: resume it, "
                "or choose another folder"
            )

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._written >= self.interval

    def save(self, course: Course) -> None:
        """Write a course, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "kind": KIND,
            "job": self._job,
            "phase": course.phase,
            "versions": _versions(),
        }
        store.save(self.folder / FILE, _to_tree(course), meta)
        self._written = time.monotonic()


def unfinished(folder: Path) -> bool:
    """Whether a folder has the checkpoint of a fit that has not ended.

    Raises
    ------
    ValueError
        If the file is damaged or no checkpoint.
    """
    return (folder / FILE).is_file() and _read(folder)[1]["phase"] != ENDED


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    tree, meta = store.load(folder / FILE)
    if meta.get("kind") != KIND:
        raise ValueError(f"{folder / FILE}: not a checkpoint")
    return tree, meta


def _versions() -> dict[str, str]:
    return versions() | {"instructions": kernels.isa()}


def _flat(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by dotted names."""
    if not isinstance(nested, dict):
        return {prefix: nested}
    return {
        name: value
        for key, branch in nested.items()
        for name, value in _flat(branch, f"{prefix}.{key}" if prefix else key).items()
    }


def _to_tree(course: Course) -> Any:
    """Return a course in the types that a store takes."""
    state, leader, champion = course.state, course.leader, course.champion
    return {
        "rng": course.rng,
        "restart": course.restart,
        "phase": course.phase,
        "warmup": course.warmup,
        "state": {
            "parameters": tuple(state.parameters),
            "adam": tuple(state.adam),
            "step": state.step,
            "memory": state.memory,
            "queue": state.queue,
        },
        "records": _columns(course.records[: state.step]),
        "leader": leader and (*leader[:2], tuple(leader.parameters)),
        "champion": champion
        and {
            "parameters": tuple(champion.parameters),
            "step": champion.step,
            "records": _columns(champion.records),
            "restart": champion.restart,
            "merit": champion.merit,
        },
    }


def _from_tree(tree: Any) -> Course:
    state, leader, champion = tree["state"], tree["leader"], tree["champion"]
    if leader is not None:
        leader = Scored(leader[0], leader[1], Parameters(*leader[2]))
    if champion is not None:
        champion = Fitted(
            **champion
            | {
                "parameters": Parameters(*champion["parameters"]),
                "records": _rows(champion["records"]),
            }
        )
    return Course(
        tree["rng"],
        tree["restart"],
        tree["phase"],
        tree["warmup"],
        State(
            Parameters(*state["parameters"]),
            AdamState(*state["adam"]),
            state["step"],
            state["memory"],
            state["queue"],
        ),
        _rows(tree["records"]),
        leader,
        champion,
    )


def _columns(records: Sequence[Record]) -> dict[str, np.ndarray]:
    names = records[0] if records else ()
    return {name: np.array([record[name] for record in records]) for name in names}


def _rows(columns: dict[str, np.ndarray]) -> list[Record]:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
