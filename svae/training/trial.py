"""A trial before a fit: how many steps serve data that they are not taken on.

After a linear start training learns what is common to all frames first, and the frames
it sees by heart later; where there are few frames for many dimensions it does so from
its first step on.  A fit that is told no number of steps therefore leaves a fifth of
the data out, trains on the rest, and scores the fifth every so many steps.  The fit
itself takes as many steps, on all data, as had the best score: early stopping with a
second fit (Goodfellow, Bengio and Courville 2016, Algorithm 7.2).
"""

import copy
import warnings
from typing import Any, NamedTuple

import numpy as np

from svae.errors import Impossible, NotPositiveDefinite
from svae.training.checkpoint import Checkpoint, begin
from svae.training.loop import INTERRUPTED, TrainingState, equipped, result, run
from svae.training.plan import TrainingPlan

__all__ = ["Trial", "hold_trial"]

FAILURES = FloatingPointError, NotPositiveDefinite, Impossible
"""What ends a trial, but no fit that might do without."""


class Trial(NamedTuple):
    """What a trial came to."""

    num_steps: int
    """Steps with the best score; 0 if none improved on the start."""
    step: np.ndarray
    """(K,), steps before each score."""
    score: np.ndarray
    """(K,), nats for each frame that was left out."""
    ended: str
    """As in `svae.training.loop.run`."""


def hold_trial(
    plan: TrainingPlan,
    rng: Any,
    saved: Checkpoint | None,
    resume: bool,
    overwrite: bool,
    executor: Any,
    num_workers: int | None,
    progress: bool,
) -> Trial:
    """Hold a trial.

    Parameters
    ----------
    plan : TrainingPlan
        Of the trial.
    rng : int or numpy.random.Generator, optional
        Of the fit, which begins with the same numbers.
    saved : Checkpoint or None
        Of the trial.
    resume, overwrite, executor, num_workers, progress
        As in `svae.SVAE.fit`.

    Warns
    -----
    UserWarning
        If training or a score failed.  The fit then ends before that, or, if there was
        no score yet, takes all steps.
    """
    reached, generator = begin(plan, copy.deepcopy(rng), saved, resume, overwrite)
    why = ""

    def visit(training: TrainingState) -> None:
        nonlocal reached
        reached = training
        if saved is not None and saved.is_due():
            saved.save(training)

    def keep(training: TrainingState, ended: str) -> None:
        nonlocal reached, why
        reached, why = training, ended
        if saved is not None:
            saved.save(training)

    how = executor, num_workers, progress
    with equipped(plan, reached, *how) as (evaluate, show):
        try:
            run(plan, reached, evaluate, generator, show, visit, keep)
        except FAILURES as error:
            steps = _outcome(plan, reached, why).num_steps
            warnings.warn(
                f"trial: {error}; the fit takes {steps} steps (num_steps=N takes N)",
                stacklevel=3,
            )
    return _outcome(plan, reached, why)


def _outcome(plan: TrainingPlan, training: TrainingState, ended: str) -> Trial:
    """Return what a trial came to; no step of one that was interrupted counts."""
    best = result(plan, training)
    assert best is not None
    scored = {0: (training.first or {}).get("held_out", np.nan)}
    for step, record in enumerate(best.records, 1):
        if not np.isnan(record["held_out"]):
            scored[step] = record["held_out"]
    num_steps = best.step if training.best_so_far else plan.num_steps
    num_steps = 0 if ended == INTERRUPTED else num_steps
    return Trial(num_steps, np.array([*scored]), np.array([*scored.values()]), ended)
