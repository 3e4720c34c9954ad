"""What the windows of a step contribute, here or on the workers of an executor.

The data are cut into shards, stretches of neighbouring windows, more of them than there
are workers, so that the windows of a step can be dealt out evenly, shard by shard.
Nothing is random in a part of a step (see `svae.training.batches.Draw`), and
contributions are added in a fixed order: all executors give the same sums, to rounding
those of a single process.

An executor of `concurrent.futures` does not let one choose the worker of a task.  So a
worker keeps every shard that it is given, a task names its shards, and a worker that
does not have one asks for it: data travel once for each worker, not with every step.
"""

import uuid
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from svae.autodiff.trees import tree_map
from svae.data import Recording
from svae.data.sources import Source
from svae.errors import NotPositiveDefinite
from svae.models import ConvergenceWarning, Diagnostics
from svae.models.base import check_positive_int
from svae.objective.bound import Contribution, contribution
from svae.objective.model import Generative
from svae.training.batches import Draw, assemble, padded

__all__ = ["Evaluate", "Sharded", "Task", "evaluate"]

ATTEMPTS = 5
"""How often a step is tried before the loss of workers is an error."""

SHARDS_OF_WORKER = 8
"""The more there are, the more evenly a batch is dealt out; each has its contexts."""


class Task(NamedTuple):
    """Windows to evaluate, and everything but the data that it takes."""

    model: Generative
    message: Any
    """m, the expected statistics of q(theta)."""
    encoder: Any
    decoder: Any
    draw: Draw
    natural_gradient: str = "full"

    def part(self, rows: np.ndarray) -> "Task":
        """Return the task for some of the windows."""
        return self._replace(draw=self.draw.part(rows))


Outcome: TypeAlias = tuple[Contribution, int]
"""What the windows contribute, and how many of their contexts did not converge."""

Evaluate: TypeAlias = Callable[[Task], Outcome]


def evaluate(task: Task, sequences: Any) -> Outcome:
    """Read the windows of a task and evaluate them.

    Raises
    ------
    NotPositiveDefinite
        If the recognition network's potentials leave a chain without a Gaussian.
    """
    model, message, encoder, decoder, draw, natural_gradient = task
    with warnings.catch_warnings():
        # counted instead, from the diagnostics
        warnings.simplefilter("ignore", ConvergenceWarning)
        batch, unconverged = assemble(model, message, encoder, sequences, draw)
        inputs = message, encoder, decoder, batch, draw.noise
        return contribution(model, *inputs, natural_gradient), unconverged


class Stretch(NamedTuple):
    """Consecutive frames of a sequence."""

    first: int
    frames: Any
    """(T, P) array or recording."""


class Held:
    """What a worker has of a sequence, read by the numbers of frames in the sequence.

    Parameters
    ----------
    stretches : list of Stretch
        What is read together is in one of them.
    """

    def __init__(self, stretches: list[Stretch]) -> None:
        self.stretches = stretches

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one of the stretches."""
        return tuple(self.stretches[0].frames.shape)

    def __getitem__(self, steps: slice) -> Any:
        """Read consecutive steps."""
        for first, frames in self.stretches:
            if first <= steps.start and steps.stop <= first + len(frames):
                return frames[steps.start - first : steps.stop - first]
        raise IndexError(f"steps {steps.start}:{steps.stop} are elsewhere")


Shard: TypeAlias = dict[int, Stretch]
"""Number of a sequence -> what is there of it."""


class Sharded:
    """Evaluate tasks on the workers of an executor.

    Parameters
    ----------
    executor : concurrent.futures.Executor, or callable that returns one
        Its workers are processes, here or elsewhere, that can import this package.
    sequences : list of (T_n, P) arrays or recordings
        Of recordings in files only the reference is sent.
    windows : (M, 3) int64 array
        All windows of training.
    context : int
        Frames before a window that its evaluation may read.
    num_workers : int, optional
        Into how many parts steps are divided; default: the executor's workers.

    Raises
    ------
    TypeError
        If there is no executor, or one of threads: autograd's traces are not safe in
        several threads.
    """

    def __init__(
        self,
        executor: Any,
        sequences: Sequence[Any],
        windows: np.ndarray,
        context: int,
        num_workers: int | None = None,
    ) -> None:
        self._make = executor if callable(executor) else None
        self._executor = _checked(executor() if callable(executor) else executor)
        self._own = self._make is not None
        if num_workers is None:
            num_workers = count_workers(self._executor)
        check_positive_int(num_workers=num_workers)
        self._num_parts = num_workers
        lengths = np.array([len(sequence) for sequence in sequences])
        self._before = np.cumsum(lengths) - lengths
        starts = self._positions(windows)
        number = SHARDS_OF_WORKER * num_workers
        self._bounds = _even_bounds(starts, int(lengths.sum()), number)
        self._shards = [
            _shard(sequences, windows[(starts >= low) & (starts < high)], context)
            for low, high in zip(self._bounds[:-1], self._bounds[1:], strict=True)
        ]
        self._token = uuid.uuid4().hex

    def __call__(self, task: Task) -> Outcome:
        """Evaluate a task, again if a worker is lost.

        Raises
        ------
        RuntimeError
            If workers are lost in every attempt, or the executor is none that can be
            replaced.
        """
        starts = self._positions(task.draw.cut)
        shards = np.searchsorted(self._bounds, starts, side="right") - 1
        parts = [np.flatnonzero(rows) for rows in _deal(shards, self._num_parts)]
        for _ in range(ATTEMPTS):
            try:
                return _sum(self._gather(task, parts, shards), parts)
            except (BrokenExecutor, CancelledError) as error:
                lost = error
                self._replace_executor(error)
        raise RuntimeError(f"a step lost workers {ATTEMPTS} times in a row: {lost}")

    def close(self) -> None:
        """Shut down the executor if it was made here."""
        if self._own:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _positions(self, windows: np.ndarray) -> np.ndarray:
        """Return the number of the first frame of each window among all frames."""
        return self._before[windows[:, 0]] + windows[:, 1]

    def _gather(
        self, task: Task, parts: Sequence[np.ndarray], shards: np.ndarray
    ) -> list[Outcome]:
        """Return what each part, rows of the batch, contributes, in their order."""
        calls = [
            (self._token, np.unique(shards[rows]).tolist(), task.part(rows))
            for rows in parts
        ]
        submit = self._executor.submit
        futures = [submit(work, *call) for call in calls]
        outcomes = []
        for rows, call, future in zip(parts, calls, futures, strict=True):
            sent: dict[int, Shard] = {}
            try:
                while isinstance(answer := future.result(), Missing):
                    sent |= {number: self._shards[number] for number in answer.shards}
                    future = submit(work, *call, sent)
            except NotPositiveDefinite as error:
                sequence = int(rows[error.sequence])
                raise NotPositiveDefinite(sequence, error.step) from None
            outcomes.append(answer)
        return outcomes

    def _replace_executor(self, error: BaseException) -> None:
        """Take another executor for one that broke.

        Of a pool of processes all are lost when one dies.  Where the executor replaces
        its workers itself there is nothing to do.
        """
        if not isinstance(error, BrokenExecutor):
            return
        broken: Any = self._executor
        if self._make is not None:
            self._executor = _checked(self._make())
        elif isinstance(self._executor, ProcessPoolExecutor):
            self._executor = ProcessPoolExecutor(
                broken._max_workers,
                broken._mp_context,
                broken._initializer,
                broken._initargs,
            )
        else:
            raise RuntimeError(
                f"executor: a worker died and {type(broken).__name__} broke ({error}); "
                "with a function that makes executors in its place, training goes on"
            ) from error
        if self._own:
            broken.shutdown(wait=False)
        self._own = True


class Missing(NamedTuple):
    """What a worker answers that has not all shards of its task."""

    shards: list[int]


_kept: dict[str, dict[int, Shard]] = {}
"""Of a worker: the shards of the training that it last worked for."""


def work(
    token: str, numbers: list[int], task: Task, sent: dict[int, Shard] | None = None
) -> Outcome | Missing:
    """Evaluate a part of a step in a worker that has shards, or was ``sent`` some."""
    if token not in _kept:
        _kept.clear()
    kept = _kept.setdefault(token, {})
    kept.update(sent or {})
    if missing := [number for number in numbers if number not in kept]:
        return Missing(missing)
    held: dict[int, Held] = {}
    for number in numbers:
        for index, stretch in kept[number].items():
            held.setdefault(index, Held([])).stretches.append(stretch)
    return evaluate(task, held)


def count_workers(executor: Any) -> int:
    """Return the number of workers of an executor.

    Raises
    ------
    TypeError
        If the executor does not tell.
    """
    for name in ("_max_workers", "num_workers"):  # the standard library; mpi4py
        if isinstance(number := getattr(executor, name, None), int):
            return number
    if (client := getattr(executor, "_client", None)) is not None:  # dask
        return len(client.scheduler_info(n_workers=-1)["workers"])
    raise TypeError(
        f"executor: {type(executor).__name__} does not tell how many workers it has; "
        "give num_workers"
    )


def _checked(executor: Any) -> Any:
    if isinstance(executor, ThreadPoolExecutor):
        raise TypeError(
            "executor: autograd's traces are not safe in several threads; take one of "
            "processes"
        )
    if not isinstance(executor, Executor) and not hasattr(executor, "submit"):
        raise TypeError(
            "executor must be a concurrent.futures.Executor or a function that makes "
            f"one, got {executor!r}"
        )
    return executor


def _even_bounds(starts: np.ndarray, num_frames: int, number: int) -> np.ndarray:
    """Cut frames before windows into at most ``number`` stretches of about one length.

    Returns the first frames of the stretches, and the number of all frames.
    """
    ideal = np.arange(1, number) * num_frames / number
    cuts = starts[np.minimum(np.searchsorted(starts, ideal), len(starts) - 1)]
    return np.unique([0, *cuts, num_frames])


def _deal(shards: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """Deal out windows, given the shard of each, in parts of about equal size.

    The largest shard goes first, to the part that has least (Graham 1969); returns
    masks of the windows, of the parts that have any.
    """
    numbers, counts = np.unique(shards, return_counts=True)
    owners, sizes = np.zeros(len(numbers), dtype=np.int64), np.zeros(num_parts)
    for k in np.argsort(-counts, kind="stable"):
        owners[k] = np.argmin(sizes)
        sizes[owners[k]] += counts[k]
    of_windows = owners[np.searchsorted(numbers, shards)]
    return [of_windows == part for part in np.flatnonzero(sizes)]


def _shard(sequences: Sequence[Any], windows: np.ndarray, context: int) -> Shard:
    """Return what windows and their contexts cover of the sequences."""
    shard = {}
    for index in np.unique(windows[:, 0]).tolist():
        _, starts, stops = windows[windows[:, 0] == index].T
        # a window with a context has the frame before it in front
        first = max(0, int(starts.min()) - context)
        sequence = sequences[index]
        if isinstance(sequence, Recording) and isinstance(sequence.source, Source):
            shard[index] = Stretch(0, sequence)  # a reference is sent
        else:
            shard[index] = Stretch(first, sequence[first : stops.max()])
    return shard


def _sum(outcomes: Sequence[Outcome], rows: Sequence[np.ndarray]) -> Outcome:
    """Add contributions, in order; what belongs to windows goes to their rows."""
    parts = [part for part, _ in outcomes]
    order = np.argsort(np.concatenate(rows))

    def arrange(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)[order]

    def diagnostics(of_parts: Sequence[Diagnostics]) -> Diagnostics:
        return Diagnostics(*map(arrange, zip(*of_parts, strict=True)))

    def add(*arrays: Any) -> Any:
        return sum(arrays[1:], arrays[0])

    states = None
    if parts[0].states is not None:
        windows = [window for part in parts for window in part.states]
        longest = max(len(window) for window in windows)
        states = padded(windows, longest)[order]
    total = Contribution(
        sum(part.reconstruction for part in parts),
        sum(part.local_kl for part in parts),
        tree_map(add, *(part.message for part in parts)),
        tree_map(add, *(part.encoder for part in parts)),
        tree_map(add, *(part.decoder for part in parts)),
        diagnostics([part.inference for part in parts]),
        diagnostics([part.gradient_solve for part in parts]),
        states,
    )
    return total, sum(unconverged for _, unconverged in outcomes)
