"""The file from which a fit goes on: ``checkpoint.npz`` in the folder of a run.

It holds the course of the fit (parameters, moments of Adam, step, state of the random
numbers, windows left in the epoch, history) and what the fit is of (model, settings,
data, versions), so that nothing else can be resumed from it by mistake.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from svae import data, kernels, store
from svae.data.sources.reference import naming
from svae.objective.model import Parameters
from svae.store import versions
from svae.training import lock
from svae.training.adam import AdamState
from svae.training.loop import ENDED, Course, Fitted, Job, Record, Scored, check_course
from svae.training.step import State

__all__ = [
    "FILE",
    "FILES",
    "FINISHED",
    "MODEL",
    "UNFINISHED",
    "Keeper",
    "content",
    "fingerprint",
]

FILE, KIND = "checkpoint.npz", "svae.checkpoint"
FILES = ("model.npz", "history.csv", FILE)
"""What a fit leaves in its folder; of these the checkpoint is removed last."""
FINISHED, UNFINISHED = "a finished fit", "a fit that has not ended"
MODEL = "a model without a checkpoint"


def fingerprint(sequences: Sequence[Any], summary: data.Summary) -> dict[str, Any]:
    """Return what tells data from other data: sizes, and a digest of all values."""
    lengths = np.array([len(sequence) for sequence in sequences])
    means = hashlib.sha256(lengths.tobytes() + summary.mean.tobytes()).hexdigest()
    return {
        "sequences": len(lengths),
        "frames": int(lengths.sum()),
        "dimensions": len(summary.mean),
        "digest": summary.digest,
        "mean_digest": means[:16],
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
        # tuples are lists there
        self._job = json.loads(json.dumps(job, default=_plain))
        self._written = -np.inf

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder alone, without what killed fits had begun to write."""
        with lock.locked(self.folder):
            store.remove_stale(self.folder)
            yield

    def load(self, job: Job) -> Course | None:
        """Read the course of a job; None if there is none.

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
        with naming(str(self.folder / FILE)):
            was, now = _comparable(meta["job"], self._job)
            old, new = dict(meta["versions"]), _versions()
            if not all(type(version) is str for version in old.values()):
                raise ValueError(f"its versions are {old}")
        for name in [*was, *now]:
            if was.get(name) != now.get(name):
                raise ValueError(
                    f"resume: {self.folder} has a fit with {name} = {was.get(name)}, "
                    f"not {now.get(name)}"
                )
        with naming(str(self.folder / FILE)):
            course = _from_tree(tree)
            check_course(job, course)
        changed = [
            f"{k} {old[k]}, now {new.get(k)}" for k in old if old[k] != new.get(k)
        ]
        if changed:
            warnings.warn(
                f"{self.folder} has a fit with {'; '.join(changed)}: it goes on, but "
                "last digits may differ",
                stacklevel=3,
            )
        return course

    def refuse_another(self) -> None:
        """Raise ValueError if there is a fit in the folder, which would be lost.

        Or if there is a file that is damaged or no checkpoint.
        """
        found = content(self.folder)
        if found is not None:
            go_on = "" if found == MODEL else "go on with it (resume=True), "
            raise ValueError(
                f"checkpoint: {self.folder} has {found}: {go_on}replace it "
                "(overwrite=True), or choose another folder"
            )

    def prepare(self, course: Course, overwrite: bool) -> None:
        """Make sure that a course can be saved; then remove what it overwrites.

        Raises
        ------
        TypeError
            If weights of a network are nested in a way that cannot be saved.
        """
        store.check(_to_tree(course))
        for name in FILES if overwrite else ():
            (self.folder / name).unlink(missing_ok=True)

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


def content(folder: Path) -> str | None:
    """Return what there is of a fit in a folder: `FINISHED`, `UNFINISHED`, `MODEL`.

    None if there is nothing that would be lost.

    Raises
    ------
    ValueError
        If there is a checkpoint that is damaged, or none.
    """
    if not (folder / FILE).is_file():
        return MODEL if (folder / "model.npz").is_file() else None
    _, meta = _read(folder)
    with naming(str(folder / FILE)):
        return FINISHED if meta["phase"] == ENDED else UNFINISHED


def _read(folder: Path) -> tuple[Any, dict[str, Any]]:
    tree, meta = store.load(folder / FILE)
    if meta.get("kind") != KIND:
        raise ValueError(f"{folder / FILE}: not a checkpoint")
    return tree, meta


def _plain(value: Any) -> Any:
    """Return a value in the types of json."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _comparable(
    was: dict[str, Any], now: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what two jobs have to say of what both speak of, by dotted names.

    Earlier versions digested the means of the data, and named classes without modules.
    """
    old, new = _flat(was), _flat(now)
    if "data.mean_digest" in old:
        return _without(old, ".mean_digest"), _without(new, ".mean_digest")
    means = {k.replace(".digest", ".mean_digest"): value for k, value in old.items()}
    bare = {
        k: value.rpartition(".")[2] if k.endswith(".class") else value
        for k, value in _without(new, ".digest").items()
    }
    return means, bare


def _without(values: dict[str, Any], ending: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.endswith(ending)}


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
