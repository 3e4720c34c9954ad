"""The file from which a fit goes on: ``checkpoint.npz`` in the folder of a run.

It holds the state of training (parameters, moments of Adam, step, state of the random
numbers, windows left in the epoch, history) and what identifies the fit (model,
settings, data, versions), so that nothing else can be resumed from it by mistake.

Files keep the names of earlier versions: ``job`` for what identifies a fit, ``leader``
for the best parameters so far, ``champion`` for the best restart and its ``merit``, the
score.
"""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from svae import kernels, store
from svae.data.sources.reference import naming
from svae.models.lds import DATA, WITHOUT_DATA
from svae.objective.model import Parameters
from svae.store import versions
from svae.training import lock
from svae.training.adam import AdamState
from svae.training.generators import generator_at
from svae.training.history import STATES_IN_USE, check_first, columns, records
from svae.training.loop import (
    ENDED,
    BestRestart,
    BestSoFar,
    TrainingState,
    reopen,
    start,
)
from svae.training.plan import TrainingPlan
from svae.training.step import State
from svae.training.validation import check_training_state

__all__ = [
    "FILE",
    "FILES",
    "FINISHED",
    "MODEL",
    "TRIAL",
    "UNFINISHED",
    "Checkpoint",
    "alone",
    "began_without",
    "begin",
    "content",
]

FILE, KIND = "checkpoint.npz", "svae.checkpoint"
TRIAL = "trial.npz"
"""The checkpoint of the trial before a fit; see `svae.training.trial`."""
FILES = ("model.npz", "history.csv", FILE)
"""What a fit leaves in its folder; of these the checkpoint is removed last."""
LATER = {
    "fit.start": "random",
    "fit.schedule": "constant",
    "fit.natural_schedule": "constant",
    "fit.weight_decay": 0.0,
    "fit.freeze": [],
}
"""Settings that came later, and what fits did that have none of them."""
FINISHED, UNFINISHED = "a finished fit", "a fit that has not ended"
MODEL = "a model without a checkpoint"


class Checkpoint:
    """The checkpoint of one fit in a folder.

    Parameters
    ----------
    folder : path
    identity : dict
        What identifies the fit, of values that json holds: a checkpoint of another fit
        is refused.
    interval : float
        Seconds from one checkpoint to the next.
    file : str
        Its name in the folder.

    Raises
    ------
    ValueError
        If the interval is negative.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        interval: float,
        file: str = FILE,
    ) -> None:
        if not interval >= 0:
            raise ValueError(f"checkpoint_interval must be from 0 on, got {interval!r}")
        self.folder, self.interval = folder, interval
        self.path = folder / file
        # tuples are lists there
        self._identity = json.loads(json.dumps(identity, default=_plain))
        self._written = -np.inf

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder alone, without what killed fits had begun to write."""
        with lock.locked(self.folder):
            store.remove_stale(self.folder)
            yield

    def load(self, plan: TrainingPlan) -> TrainingState | None:
        """Read the state of training; None if there is no checkpoint.

        Raises
        ------
        ValueError
            If the file is damaged or no checkpoint, or of another fit; the message
            names the first difference.

        Warns
        -----
        UserWarning
            If it was written with other versions: last digits may differ.
        """
        if not self.path.is_file():
            return None
        tree, meta = _read(self.path)
        with naming(str(self.path)):
            was, now = _comparable(meta["job"], self._identity)
            old, new = dict(meta["versions"]), _versions()
            if not all(type(version) is str for version in old.values()):
                raise ValueError(f"its versions are {old}")
        for name in [*was, *now]:
            if was.get(name) != now.get(name):
                raise ValueError(
                    f"resume: {self.folder} has a fit with {name} = {was.get(name)}, "
                    f"not {now.get(name)}"
                )
        with naming(str(self.path)):
            training = _with_later_records(plan, _from_tree(tree))
            check_training_state(plan, training)
        changed = [
            f"{k} {old[k]}, now {new.get(k)}" for k in old if old[k] != new.get(k)
        ]
        if changed:
            warnings.warn(
                f"{self.folder} has a fit with {'; '.join(changed)}: it goes on, but "
                "last digits may differ",
                stacklevel=5,
            )
        return training

    def refuse_another(self) -> None:
        """Raise ValueError if there is a fit in the folder, which would be lost.

        Or if there is a file that is damaged or no checkpoint.
        """
        found = content(self.folder)
        if found is not None:
            resume = "" if found == MODEL else "go on with it (resume=True), "
            raise ValueError(
                f"checkpoint: {self.folder} has {found}: {resume}replace it "
                "(overwrite=True), or choose another folder"
            )

    def prepare(self, training: TrainingState, overwrite: bool) -> None:
        """Make sure that a state can be saved; then remove what it overwrites.

        Raises
        ------
        TypeError
            If weights of a network are nested in a way that cannot be saved.
        """
        store.check(_to_tree(training))
        for name in (TRIAL, *FILES) if overwrite else ():
            (self.folder / name).unlink(missing_ok=True)

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._written >= self.interval

    def save(self, training: TrainingState) -> None:
        """Write a state, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = {
            "kind": KIND,
            "job": self._identity,
            "phase": training.phase,
            "versions": _versions(),
        }
        store.save(self.path, _to_tree(training), meta)
        self._written = time.monotonic()


def alone(checkpoint: Checkpoint | None) -> AbstractContextManager[None]:
    """Have the folder of a checkpoint alone, if there is one."""
    return nullcontext() if checkpoint is None else checkpoint.alone()


def began_without(trial: Checkpoint | None) -> bool:
    """Whether the fit in a folder began without a trial, of which this is the place."""
    if trial is None or trial.path.is_file():
        return False
    return (trial.folder / FILE).is_file()


def begin(
    plan: TrainingPlan,
    rng: Any,
    checkpoint: Checkpoint | None,
    resume: bool,
    overwrite: bool,
) -> tuple[TrainingState, np.random.Generator]:
    """Return the state that a fit begins with, new or resumed, and its generator.

    Parameters
    ----------
    plan : TrainingPlan
    rng : int or numpy.random.Generator, optional
        Of a new fit.
    checkpoint : Checkpoint, optional
    resume : bool
        Whether to go on from the checkpoint, if there is one yet.
    overwrite : bool
        Whether a fit that is in the folder is removed.

    Raises
    ------
    ValueError
        If the folder has a fit to resume that is damaged or another.
    TypeError
        If weights of a network are nested in a way that cannot be saved.
    """
    resumed = None
    if checkpoint is not None and resume:
        resumed = checkpoint.load(plan)
    if resumed is not None:
        generator = generator_at(resumed.rng)
        training = reopen(plan, resumed)
    else:
        generator = np.random.default_rng(rng)
        training = start(plan, generator)
    if checkpoint is not None:
        checkpoint.prepare(training, overwrite)
    return training, generator


def content(folder: Path) -> str | None:
    """Return what there is of a fit in a folder: `FINISHED`, `UNFINISHED`, `MODEL`.

    None if there is nothing that would be lost.

    Raises
    ------
    ValueError
        If there is a checkpoint that is damaged, or none.
    """
    if not (folder / FILE).is_file():
        if (folder / "model.npz").is_file():
            return MODEL
        return UNFINISHED if (folder / TRIAL).is_file() else None
    _, meta = _read(folder / FILE)
    with naming(str(folder / FILE)):
        return FINISHED if meta["phase"] == ENDED else UNFINISHED


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    tree, meta = store.load(path)
    if meta.get("kind") != KIND:
        raise ValueError(f"{path}: not a checkpoint")
    return tree, meta


def _plain(value: Any) -> Any:
    """Return a value in the types of json."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _comparable(
    was: dict[str, Any], now: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what identifies two fits, as far as both files say it, by dotted names.

    Earlier versions digested the means of the data, and named classes without modules;
    their priors of dynamics were fixed.
    """
    old, new = LATER | _flat(was), _flat(now)
    noise, sticky = "model.latent.noise_variance", "model.latent.sticky"
    for fit in (old, new):
        if fit.get("fit.start") == "random" and fit.get(noise) == DATA:
            fit[noise] = WITHOUT_DATA  # which it is there
        if sticky in fit and fit[sticky] is None and fit.get(noise) != DATA:
            fit[sticky] = 0.0
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


def _with_later_records(plan: TrainingPlan, training: TrainingState) -> TrainingState:
    """Return a state whose records have what earlier versions did not record, NaN."""
    later = {STATES_IN_USE: np.nan} if STATES_IN_USE in plan.recorded else {}
    best = training.best_restart
    if best is not None:
        best = best._replace(records=[later | record for record in best.records])
    of_steps = [later | record for record in training.records]
    return training._replace(records=of_steps, best_restart=best)


def _to_tree(training: TrainingState) -> Any:
    """Return a state in the types that a store takes, by the names that files have."""
    state, best_so_far = training.state, training.best_so_far
    best_restart = training.best_restart
    return {
        "rng": training.rng,
        "restart": training.restart,
        "phase": training.phase,
        "warmup": training.warmup,
        "state": {
            "parameters": tuple(state.parameters),
            "adam": tuple(state.adam),
            "step": state.step,
            "memory": state.memory,
            "queue": state.queue,
        },
        "records": columns(training.records[: state.step]),
        "first": training.first,
        "leader": best_so_far and (*best_so_far[:2], tuple(best_so_far.parameters)),
        "champion": best_restart
        and {
            "parameters": tuple(best_restart.parameters),
            "step": best_restart.step,
            "records": columns(best_restart.records),
            "restart": best_restart.restart,
            "merit": best_restart.score,
        },
    }


def _from_tree(tree: Any) -> TrainingState:
    state, best_so_far, best_restart = tree["state"], None, None
    if (leader := tree["leader"]) is not None:
        best_so_far = BestSoFar(leader[0], leader[1], Parameters(*leader[2]))
    if (champion := tree["champion"]) is not None:
        best_restart = BestRestart(
            Parameters(*champion["parameters"]),
            champion["step"],
            records(champion["records"]),
            champion["restart"],
            champion["merit"],
        )
    return TrainingState(
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
        records(tree["records"]),
        best_so_far,
        best_restart,
        first=check_first(tree.get("first")),
    )
