"""A whole fit, from the first draw to the last step of the last restart.

Where a fit has come is a value, a `Course`.  It goes on from any course in the same
way, so that a fit that was stopped and resumed ends as one that never stopped, bit for
bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.autodiff.trees import check_alike, leaves, to_vector
from svae.objective.model import Generative, Parameters, check_parameters
from svae.training import step as fit
from svae.training import warmup
from svae.training.blas import blas_threads
from svae.training.workers import Evaluate, Sharded

__all__ = [
    "ENDED",
    "TRAINING",
    "WARM_UP",
    "Course",
    "Fitted",
    "Job",
    "begin",
    "check_course",
    "ended",
    "generator_at",
    "go_on",
    "on_few_threads",
    "on_workers",
    "result",
    "stage",
    "train",
]

WORTH_THREADS = 2**25
"""Multiply-adds in a product from which threads share it: a core's millisecond."""

WARM_UP, TRAINING, ENDED = "warm-up", "training", "ended"
GENERATORS: dict[str, Any] = {
    bits.__name__: bits
    for bits in (
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.MT19937,
        np.random.Philox,
        np.random.SFC64,
    )
}
"""Bit generators whose state can be kept."""
Record = dict[str, float]


class Job(NamedTuple):
    """What is to be done; it stays the same from start to end."""

    model: Generative
    prior: Any
    sequences: Sequence[Any]
    windows: np.ndarray
    """(M, 3), of training; see `svae.data.windows`."""
    evaluate: Evaluate
    settings: fit.Settings
    num_steps: int
    warmup: int | None
    """Steps of the warm-up of a start, or None for none; see `svae.training.warmup`."""
    n_init: int = 1
    """How many times training starts anew; the best is kept."""
    score: Callable[[Parameters], float] | None = None
    """Score of parameters on held-out data."""
    score_every: int = 100
    """Steps between scores."""
    patience: int | None = None
    """Scores without a better one after which training stops."""


class WarmUp(NamedTuple):
    """What is the same in all steps of a warm-up."""

    model: Generative
    """The autoencoder."""
    windows: np.ndarray
    """(M, 3), single frames."""
    settings: fit.Settings

    @classmethod
    def of(cls, job: Job) -> "WarmUp":
        """Return that of a job."""
        longest = int((job.windows[:, 2] - job.windows[:, 1]).max())
        return cls(
            warmup.autoencoder(job.model),
            data.windows(job.sequences, 1),
            warmup.settings_of_frames(job.settings, longest),
        )


class Scored(NamedTuple):
    """Parameters and their score on held-out data."""

    score: float
    step: int
    parameters: Parameters


class Fitted(NamedTuple):
    """What a start came to."""

    parameters: Parameters
    """After ``step`` steps: the last, or those of the best score."""
    step: int
    records: list[Record]
    restart: int
    merit: float
    """By which restarts are compared: the best score, or else the bound, a mean over
    its last tenth."""


class Course(NamedTuple):
    """Where a fit has come."""

    rng: dict[str, Any]
    """State of the bit generator."""
    restart: int
    phase: str
    warmup: int | None
    """Steps of its warm-up."""
    state: fit.State
    """Of training; in the warm-up, of the autoencoder."""
    records: list[Record]
    """Of the steps of training of this start; there may be later ones behind them."""
    leader: Scored | None
    """The best of this start on held-out data."""
    champion: Fitted | None
    """The best of the starts before."""
    record: Record | None = None
    """Of the last step; None where there was another thing to do."""


def begin(
    job: Job,
    rng: np.random.Generator,
    restart: int = 0,
    champion: Fitted | None = None,
) -> Course:
    """Return the course before the first step of a start."""
    obs_dim = job.sequences[0].shape[1]
    state, phase = fit.initial_state(job.model, obs_dim, rng), TRAINING
    if job.warmup is not None:
        state, phase = warmup.initial_networks(job.model, state), WARM_UP
    return Course(_state_of(rng), restart, phase, job.warmup, state, [], None, champion)


def go_on(job: Job, course: Course) -> Course:
    """Return a course that was read back, opened again if there are steps to take.

    Of several starts only the best was kept: they do not go further.
    """
    if course.phase != ENDED or job.n_init > 1 or _is_over(job, course):
        return course
    return course._replace(phase=TRAINING, champion=None)


@contextmanager
def on_workers(job: Job, executor: Any, num_workers: int | None) -> Iterator[Job]:
    """Yield the job with its windows evaluated on the workers of an executor, if any.

    See `svae.training.workers.Sharded`.
    """
    if executor is None:
        yield job
        return
    context = job.settings.context
    workers = Sharded(executor, job.sequences, job.windows, context, num_workers)
    try:
        yield job._replace(evaluate=workers)
    finally:
        workers.close()


def check_course(job: Job, course: Course) -> None:
    """Raise ValueError if a course that was read back cannot be one of a job."""
    generator_at(course.rng)
    if course.phase not in (WARM_UP, TRAINING, ENDED):
        raise ValueError(f"phase is {course.phase!r}")
    _check_count("restart", course.restart, job.n_init)
    if course.phase == WARM_UP or course.warmup is not None:
        _check_count("warmup", course.warmup)
    warming = course.phase == WARM_UP
    _check_state(job, course.state, warming)
    _check_records(job, course.records, 0 if warming else course.state.step)
    if course.leader is not None:
        _check_best(job, *course.leader)
    if course.phase == ENDED and course.champion is None:
        raise ValueError("it has ended without a champion")
    if course.champion is not None:
        best = course.champion
        _check_best(job, best.merit, best.step, best.parameters)
        _check_count("restart", best.restart, job.n_init)
        _check_records(job, best.records, len(best.records))


def _check_state(job: Job, state: fit.State, warming: bool) -> None:
    obs_dim, windows = job.sequences[0].shape[1], job.windows
    model = warmup.autoencoder(job.model) if warming else job.model
    parameters = check_parameters(model, state.parameters, obs_dim)
    weights = to_vector((parameters.encoder, parameters.decoder))
    _check_count("step", state.step)
    _check_count("step of Adam", state.adam.step)
    moments = state.adam.mean, state.adam.square
    check_alike(moments, (weights, weights), "moments of Adam")
    if np.any(state.adam.square < 0):
        raise ValueError("moments of Adam are negative")
    num_windows = len(windows)
    if warming:
        num_windows = int((windows[:, 2] - windows[:, 1]).sum())
    check_alike(state.queue, np.zeros(np.size(state.queue), dtype=np.int64), "queue")
    for window in [*state.queue.tolist(), *state.memory]:
        _check_count("window", window, num_windows)
    for probs in state.memory.values():
        num_states = getattr(job.model.latent, "num_states", 0)
        check_alike(probs, np.zeros((len(probs), num_states)), "memory")


def _check_records(job: Job, records: list[Record], count: int) -> None:
    """Raise ValueError unless there are so many, of all that is recorded."""
    names = {*fit.HISTORY, *(["held_out"] if job.score is not None else [])}
    numbers = all(isinstance(x, (int, float)) for r in records for x in r.values())
    if len(records) != count or any(r.keys() != names for r in records) or not numbers:
        raise ValueError(f"records are not those of {count} steps")


def _check_best(job: Job, merit: float, step: int, parameters: Parameters) -> None:
    if not isinstance(merit, float) or np.isnan(merit):
        raise ValueError(f"merit is {merit!r}")
    _check_count("step", step)
    check_parameters(job.model, parameters, job.sequences[0].shape[1])


def _check_count(name: str, count: Any, stop: float = np.inf) -> None:
    if type(count) is not int or not 0 <= count < stop:
        raise ValueError(f"{name} is {count!r}")


@contextmanager
def on_few_threads(job: Job, course: Course) -> Iterator[None]:
    """Keep BLAS to one thread if the products of a step are small.

    Threads that wait for each other make small steps many times slower, most of all
    beside other work.  The largest product of a step is that of all its frames with the
    largest matrix of a network.
    """
    lengths = job.windows[:, 2] - job.windows[:, 1]
    num_windows = min(job.settings.batch_size, len(lengths))
    num_frames = num_windows * int(lengths.max()) * job.settings.num_samples
    parameters = course.state.parameters
    networks = leaves((parameters.encoder, parameters.decoder))
    largest = num_frames * max(np.size(leaf) for leaf in networks)
    with blas_threads(1) if largest < WORTH_THREADS else nullcontext():
        yield


def train(
    job: Job, course: Course, rng: np.random.Generator | None = None
) -> Iterator[Course]:
    """Go on from a course; yield where that leads, step by step, to the end.

    ``rng`` is the generator that began the course, if it is still there.
    """
    rng = generator_at(course.rng) if rng is None else rng
    warm = None
    if course.phase == WARM_UP or (job.n_init > 1 and job.warmup is not None):
        warm = WarmUp.of(job)
    while course.phase != ENDED:
        course = _proceed(job, course, warm, rng)._replace(rng=_state_of(rng))
        yield course


def result(job: Job, course: Course) -> Fitted:
    """Return the best fit so far, of one that has not ended too.

    The warm-up comes to its end for it, without changing the course.
    """
    if course.phase == ENDED:
        assert course.champion is not None
        return course.champion
    if course.phase == WARM_UP:
        if course.champion is not None:
            return course.champion
        rng = generator_at(course.rng)
        course = course._replace(state=_settled(job, course, rng), phase=TRAINING)
    return _better(course.champion, _fitted(course))


def stage(job: Job, course: Course) -> tuple[str | None, int]:
    """Return what to call a course's stage, and how many steps it has."""
    restart = f"start {course.restart + 1}/{job.n_init}" if job.n_init > 1 else ""
    if course.phase == WARM_UP:
        assert course.warmup is not None
        return f"{restart} {WARM_UP}".strip(), course.warmup
    return restart or None, job.num_steps


def ended(job: Job, course: Course) -> str:
    """Return why the fit ended: ``"steps"`` or ``"patience"``."""
    assert course.champion is not None
    return "steps" if len(course.champion.records) >= job.num_steps else "patience"


def generator_at(state: dict[str, Any]) -> np.random.Generator:
    """Return a generator whose bit generator has a state.

    Raises
    ------
    ValueError
        If it is none of NumPy's.
    """
    bits = _generator_of(state)()
    bits.state = state
    return np.random.Generator(bits)


def _state_of(rng: np.random.Generator) -> dict[str, Any]:
    state = dict(rng.bit_generator.state)
    _generator_of(state)
    return state


def _generator_of(state: dict[str, Any]) -> Any:
    name = state["bit_generator"]
    if name not in GENERATORS:
        raise ValueError(
            f"rng: the bit generator must be one of {', '.join(GENERATORS)}, "
            f"got {name!r}"
        )
    return GENERATORS[name]


def _proceed(
    job: Job, course: Course, warm: WarmUp | None, rng: np.random.Generator
) -> Course:
    """Do the next thing: a step, the end of the warm-up, a new start, or the end."""
    if course.phase == WARM_UP:
        if course.state.step == course.warmup:
            return course._replace(
                state=_settled(job, course, rng), phase=TRAINING, record=None
            )
        assert warm is not None
        model, frames, settings = warm
        state, record = fit.advance(
            model, course.state, {}, frames, job.evaluate, settings, rng
        )
        return course._replace(state=state, record=record)
    if not _is_over(job, course):
        return _step(job, course, rng)
    champion = _better(course.champion, _fitted(course))
    if course.restart + 1 < job.n_init:
        return begin(job, rng, course.restart + 1, champion)
    return course._replace(phase=ENDED, champion=champion, record=None)


def _step(job: Job, course: Course, rng: np.random.Generator) -> Course:
    """Take a step of training, and score where it leads if it is time to."""
    state, record = fit.advance(
        job.model,
        course.state,
        job.prior,
        job.windows,
        job.evaluate,
        job.settings,
        rng,
    )
    leader = course.leader
    if job.score is not None:
        record["held_out"] = np.nan
        if state.step % job.score_every == 0 or state.step == job.num_steps:
            score = record["held_out"] = job.score(state.parameters)
            if leader is None or score > leader.score:
                leader = Scored(score, state.step, state.parameters)
    records = course.records
    # a course may have been left before: its list is longer than its steps
    del records[course.state.step :]
    records.append(record)
    return course._replace(state=state, records=records, leader=leader, record=record)


def _is_over(job: Job, course: Course) -> bool:
    step, leader = course.state.step, course.leader
    if step >= job.num_steps:
        return True
    if job.patience is None or leader is None:
        return False
    return step - leader.step >= job.patience * job.score_every


def _settled(job: Job, course: Course, rng: np.random.Generator) -> fit.State:
    return warmup.settle(
        job.model, course.state, job.prior, job.sequences, job.windows, rng
    )


def _fitted(course: Course) -> Fitted:
    step = course.state.step
    records = course.records[:step]
    if course.leader is not None:
        merit, step, parameters = course.leader
        return Fitted(parameters, step, records, course.restart, merit)
    last = records[-max(1, step // 10) :]
    merit = float(np.mean([each["objective"] for each in last])) if last else -np.inf
    return Fitted(course.state.parameters, step, records, course.restart, merit)


def _better(champion: Fitted | None, other: Fitted) -> Fitted:
    if champion is not None and not other.merit > champion.merit:
        return champion
    return other
