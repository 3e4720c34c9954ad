"""A whole fit, from the first draw to the last step of the last restart.

Where a fit has come is a value, a `TrainingState`.  Training goes on from any of them
in the same way, so that a fit that was stopped and resumed ends as one that never
stopped, bit for bit.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from svae.autodiff.trees import leaves
from svae.data import Windows
from svae.errors import Impossible, NotPositiveDefinite
from svae.networks.decoder_posterior import initial_posterior
from svae.objective.model import Parameters
from svae.training import step as step_
from svae.training import warmup
from svae.training.blas import blas_threads
from svae.training.continuation import parameters_from
from svae.training.generators import generator_at, state_of
from svae.training.gradients import Evaluate
from svae.training.history import Record
from svae.training.linear_start import first_record, linear_networks
from svae.training.plan import Score, TrainingPlan
from svae.training.progress import Show, progress_bars
from svae.training.step import Stage, State
from svae.training.workers import evaluation

__all__ = [
    "ENDED",
    "INTERRUPTED",
    "TRAINING",
    "WARM_UP",
    "BestRestart",
    "BestSoFar",
    "TrainingState",
    "equipped",
    "reopen",
    "result",
    "run",
    "start",
    "train",
]

WORTH_THREADS = 2**25
"""Multiply-adds in a product from which threads share it: a core's millisecond."""

WARM_UP, TRAINING, ENDED = "warm-up", "training", "ended"
INTERRUPTED = "interrupted"
"""How training ended that Ctrl-C has stopped."""


class BestSoFar(NamedTuple):
    """Parameters and their score on held-out data."""

    score: float
    step: int
    parameters: Parameters


class BestRestart(NamedTuple):
    """What a start came to."""

    parameters: Parameters
    """After ``step`` steps: the last, or those of the best score."""
    step: int
    records: list[Record]
    restart: int
    score: float
    """By which restarts are compared: the best score on held-out data, or else the
    bound, a mean over its last tenth."""


class TrainingState(NamedTuple):
    """Where a fit has come."""

    rng: dict[str, Any]
    """State of the bit generator."""
    restart: int
    phase: str
    warmup: int | None
    """Steps of its warm-up."""
    state: State
    """Of training; in the warm-up, of the autoencoder."""
    records: list[Record]
    """Of the steps of training of this start; there may be later ones behind them."""
    best_so_far: BestSoFar | None
    """The best of this start on held-out data."""
    best_restart: BestRestart | None
    """The best of the starts before."""
    record: Record | None = None
    """Of the last step; None where there was another thing to do."""
    first: Record | None = None
    """Of the bound before the first step of this start, if that is a linear one; with
    its score on held-out data, if there are any."""


def start(
    plan: TrainingPlan,
    rng: np.random.Generator,
    restart: int = 0,
    best_restart: BestRestart | None = None,
) -> TrainingState:
    """Return the state before the first step of a start."""
    (parameters, is_whole), phase = _first_parameters(plan, rng), TRAINING
    state = step_.first_state(parameters)
    if plan.warmup is not None:
        phase = WARM_UP
        if is_whole:
            state = warmup.initial_networks(plan.model, state)
    elif not is_whole:
        state = _initialized(plan, state, rng, plan.encoded)
    first = None
    if plan.linear is not None and phase == TRAINING:
        of_start = plan.linear, state.parameters, plan.training.prior
        windows = plan.training.windows
        first = first_record(plan.model, *of_start, plan.sequences, windows)
    return TrainingState(
        state_of(rng),
        restart,
        phase,
        plan.warmup,
        state,
        [],
        None,
        best_restart,
        first=first,
    )


def _first_parameters(
    plan: TrainingPlan, rng: np.random.Generator
) -> tuple[Parameters, bool]:
    """Return what a start begins with, and whether it has a q(theta).

    If not, the encoder is the network alone, without a graph.
    """
    if plan.fitted is not None:
        return parameters_from(plan.model, plan.fitted)
    if plan.linear is not None:
        encoder, weights = linear_networks(plan.model, plan.linear, rng)
        decoder = initial_posterior(plan.model.decoder_posterior, weights)
        return Parameters({}, encoder, decoder), False
    return step_.initial_state(plan.model, plan.obs_dim, rng).parameters, True


def reopen(plan: TrainingPlan, training: TrainingState) -> TrainingState:
    """Return a state that was read back, opened again if there are steps to take.

    Of several starts only the best was kept: they do not go further.
    """
    if training.phase != ENDED or plan.n_init > 1 or _is_over(plan, training):
        return training
    return training._replace(phase=TRAINING, best_restart=None)


@contextmanager
def equipped(
    plan: TrainingPlan,
    training: TrainingState,
    executor: Any,
    num_workers: int | None,
    progress: bool,
) -> Iterator[tuple[Evaluate, Show]]:
    """Yield what `run` needs to take steps, and to show them."""
    with (
        evaluation(plan, executor, num_workers) as evaluate,
        _on_few_threads(plan, training),
        progress_bars(plan.num_frames, progress) as show,
    ):
        yield evaluate, show


@contextmanager
def _on_few_threads(plan: TrainingPlan, training: TrainingState) -> Iterator[None]:
    """Keep BLAS to one thread if the products of a step are small.

    Threads that wait for each other make small steps many times slower, most of all
    beside other work.  The largest product of a step is that of all its frames with the
    largest matrix of a network.
    """
    num_windows = min(plan.settings.batch_size, len(plan.training.windows))
    num_frames = num_windows * plan.longest * plan.settings.num_samples
    parameters = training.state.parameters
    networks = leaves((parameters.encoder, parameters.decoder))
    largest = num_frames * max(np.size(leaf) for leaf in networks)
    with blas_threads(1) if largest < WORTH_THREADS else nullcontext():
        yield


def run(
    plan: TrainingPlan,
    training: TrainingState,
    evaluate: Evaluate,
    rng: np.random.Generator,
    show: Show,
    visit: Callable[[TrainingState], None],
    keep: Callable[[TrainingState, str], None],
) -> None:
    """Train to the end, or until stopped, and keep what was reached.

    Parameters
    ----------
    plan : TrainingPlan
    training : TrainingState
        Where to go on from.
    evaluate : Evaluate
    rng : numpy.random.Generator
        With the state that ``training`` says.
    show : callable
        Shows a step; see `svae.training.progress.progress_bars`.
    visit : callable
        Called with every state that is reached.
    keep : callable
        Called once, with the last state and how training ended: ``"steps"``,
        ``"patience"``, ``"interrupted"`` or, before the error goes on, ``"failed"``.

    Warns
    -----
    UserWarning
        If Ctrl-C ended training.
    """
    ended = "failed"
    try:
        for reached in train(plan, training, evaluate, rng):
            training = reached
            if training.record is not None:
                show(*_title(plan, training), training.state.step, training.record)
            visit(training)
        assert training.best_restart is not None
        all_taken = len(training.best_restart.records) >= plan.num_steps
        ended = "steps" if all_taken else "patience"
    except KeyboardInterrupt:
        ended = INTERRUPTED
        warnings.warn(
            f"interrupted in step {training.state.step + 1} of the "
            f"{training.phase}: the model is what was fitted so far",
            stacklevel=4,
        )
    finally:
        keep(training, ended)


def train(
    plan: TrainingPlan,
    training: TrainingState,
    evaluate: Evaluate,
    rng: np.random.Generator | None = None,
) -> Iterator[TrainingState]:
    """Go on from a state; yield where that leads, step by step, to the end.

    ``rng`` is the generator that made the state, if it is still there.
    """
    rng = generator_at(training.rng) if rng is None else rng
    warm_up = None
    if training.phase == WARM_UP or (plan.n_init > 1 and plan.warmup is not None):
        warm_up = plan.warm_up()
    while training.phase != ENDED:
        if training.phase == WARM_UP:
            assert warm_up is not None
            training = _warm_up_step(plan, training, warm_up, evaluate, rng)
        elif _is_over(plan, training):
            training = _next_start(plan, training, rng)
        else:
            training = _training_step(plan, training, evaluate, rng)
        training = training._replace(rng=state_of(rng))
        yield training


def result(plan: TrainingPlan, training: TrainingState) -> BestRestart | None:
    """Return the best fit so far; None in the warm-up of the first start."""
    if training.phase in (WARM_UP, ENDED):
        return training.best_restart
    return _better(training.best_restart, _outcome(training))


def result_of_warm_up(plan: TrainingPlan, training: TrainingState) -> BestRestart:
    """Return the fit as if the warm-up ended here, without changing the state."""
    rng = generator_at(training.rng)
    state = _initialized(plan, training.state, rng)
    return _outcome(training._replace(state=state))


def _warm_up_step(
    plan: TrainingPlan,
    training: TrainingState,
    stage: Stage,
    evaluate: Evaluate,
    rng: np.random.Generator,
) -> TrainingState:
    """Take a step of the warm-up, or begin to train if that was all of them."""
    if training.state.step == training.warmup:
        state = _initialized(plan, training.state, rng)
        return training._replace(state=state, phase=TRAINING, record=None)
    state, record = step_.step(stage, training.state, evaluate, rng)
    return training._replace(state=state, record=record)


def _training_step(
    plan: TrainingPlan,
    training: TrainingState,
    evaluate: Evaluate,
    rng: np.random.Generator,
) -> TrainingState:
    """Take a step of training, and score where it leads if it is time to."""
    best, first = training.best_so_far, training.first
    if plan.score is not None and training.state.step == 0 and best is None:
        best = _scored_start(plan.score, training.state.parameters)
        if first is not None and best is not None:
            first = first | {"held_out": best.score}
    state, record = step_.step(plan.training, training.state, evaluate, rng)
    if plan.score is not None:
        record["held_out"] = np.nan
        if state.step % plan.score_every == 0 or state.step == plan.num_steps:
            score = record["held_out"] = plan.score(state.parameters)
            if best is None or score > best.score:
                best = BestSoFar(score, state.step, state.parameters)
    records = training.records
    # a state may have been left before: its list is longer than its steps
    del records[training.state.step :]
    records.append(record)
    return training._replace(
        state=state, records=records, best_so_far=best, record=record, first=first
    )


def _scored_start(score: Score, parameters: Parameters) -> BestSoFar | None:
    """Return the parameters before the first step with their score, if they have one.

    A fit that only gets worse on held-out data then returns what it began with.
    """
    try:
        found = score(parameters)
    except (NotPositiveDefinite, Impossible, FloatingPointError):
        return None  # the first steps may mend that
    return BestSoFar(found, 0, parameters) if np.isfinite(found) else None


def _next_start(
    plan: TrainingPlan, training: TrainingState, rng: np.random.Generator
) -> TrainingState:
    """Start anew, or end if that was the last start."""
    best = _better(training.best_restart, _outcome(training))
    if training.restart + 1 < plan.n_init:
        return start(plan, rng, training.restart + 1, best)
    return training._replace(phase=ENDED, best_restart=best, record=None)


def _title(plan: TrainingPlan, training: TrainingState) -> tuple[str | None, int]:
    """Return what to call the stage of a state, and how many steps it has."""
    number = plan.name or ""
    if plan.n_init > 1:
        number = f"start {training.restart + 1}/{plan.n_init}"
    if training.phase == WARM_UP:
        assert training.warmup is not None
        return f"{number} {WARM_UP}".strip(), training.warmup
    return number or None, plan.num_steps


def _is_over(plan: TrainingPlan, training: TrainingState) -> bool:
    step, best = training.state.step, training.best_so_far
    if step >= plan.num_steps:
        return True
    if plan.patience is None or best is None:
        return False
    return step - best.step >= plan.patience * plan.score_every


def _initialized(
    plan: TrainingPlan,
    networks: State,
    rng: np.random.Generator,
    points: Windows | None = None,
) -> State:
    """Return the first state of training with networks that say something of x.

    ``points`` are what they say, if that is known.
    """
    return warmup.initialize(
        plan.model,
        networks,
        plan.training.prior,
        plan.sequences,
        plan.training.windows,
        rng,
        points,
    )


def _outcome(training: TrainingState) -> BestRestart:
    """Return what the present start has come to."""
    step = training.state.step
    records = training.records[:step]
    if training.best_so_far is not None and not _is_first_to_be_scored(training):
        score, step, parameters = training.best_so_far
        return BestRestart(parameters, step, records, training.restart, score)
    last = records[-max(1, step // 10) :]
    score = float(np.mean([each["objective"] for each in last])) if last else -np.inf
    parameters = training.state.parameters
    return BestRestart(parameters, step, records, training.restart, score)


def _is_first_to_be_scored(training: TrainingState) -> bool:
    """Whether there is a score of what the first start began with, and no other yet.

    Steps that nothing speaks against are then no worse than none.
    """
    best, records = training.best_so_far, training.records[: training.state.step]
    if best is None or best.step > 0 or training.best_restart is not None:
        return False
    return all(np.isnan(record["held_out"]) for record in records)


def _better(best: BestRestart | None, other: BestRestart) -> BestRestart:
    if best is not None and not other.score > best.score:
        return best
    return other
