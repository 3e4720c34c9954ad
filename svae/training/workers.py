"""Minibatches evaluated by the workers of an executor.

The data are cut into shards, stretches of neighbouring windows, more of them than there
are workers, so that the windows of a step can be dealt out evenly, shard by shard.
Nothing is random in a part of a step (see `svae.training.batches.Minibatch`), and
contributions are added in a fixed order: all executors give the same sums, to rounding
those of a single process.

An executor of `concurrent.futures` does not let one choose the worker of a task.  So a
worker keeps every shard that it is given, a task names its shards, and a worker that
does not have one asks for it: data travel once for each worker, not with every step.
"""

import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ThreadPoolExecutor,
)
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from svae.data import Recording
from svae.data.sources import Source
from svae.errors import NotPositiveDefinite
from svae.models.base import check_positive_int
from svae.objective.model import Generative
from svae.training.batches import Minibatch
from svae.training.gradients import Evaluate, Outcome, evaluate, total
from svae.training.plan import TrainingPlan

__all__ = ["Sharded", "evaluation"]

ATTEMPTS = 5
"""How often a step is tried before the loss of workers is an error."""

SHARDS_OF_WORKER = 8
"""The more there are, the more evenly a batch is dealt out; each has its contexts."""


@contextmanager
def evaluation(
    plan: TrainingPlan, executor: Any = None, num_workers: int | None = None
) -> Iterator[Evaluate]:
    """Yield the function that evaluates minibatches, here or on an executor's workers.

    Parameters
    ----------
    plan : TrainingPlan
    executor : concurrent.futures.Executor, or callable that returns one, optional
    num_workers : int, optional
        See `Sharded`.
    """
    if executor is None:
        yield partial(evaluate, plan.sequences)
        return
    context, windows = plan.settings.context, plan.training.windows
    workers = Sharded(executor, plan.sequences, windows, context, num_workers)
    try:
        yield workers
    finally:
        workers.close()


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
    """Evaluate minibatches on the workers of an executor.

    Parameters
    ----------
    executor : concurrent.futures.Executor, dask client, or callable that returns one
        Its workers are processes, here or elsewhere, that can import this package.
    sequences : list of (T_n, P) arrays or recordings
        Of recordings in files only the reference is sent.
    windows : (M, 3) int64 array
        All windows of training.
    context : int
        Frames before a window that its evaluation may read.
    num_workers : int, optional
        Into how many parts steps are divided; default: the workers of a dask client,
        the ``num_workers`` of an executor that has them (that of mpi4py does), or else
        the number of CPUs of this machine.

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
        executor = executor() if callable(executor) else executor
        self._executor = _checked(executor)
        if num_workers is None:
            num_workers = default_num_workers(executor)
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

    def __call__(
        self,
        model: Generative,
        message: Any,
        encoder: Any,
        decoder: Any,
        minibatch: Minibatch,
        natural_gradient: str = "full",
        frozen: Collection[str] = (),
    ) -> Outcome:
        """Evaluate a minibatch, again if a worker is lost.

        For the arguments see `svae.training.gradients.evaluate`.

        Raises
        ------
        RuntimeError
            If workers are lost in every attempt, or the executor broke and there is no
            function that makes another one.
        """
        starts = self._positions(minibatch.cut)
        shards = np.searchsorted(self._bounds, starts, side="right") - 1
        parts = [np.flatnonzero(rows) for rows in _deal(shards, self._num_parts)]
        arguments = [
            (
                *(model, message, encoder, decoder, minibatch.part(rows)),
                *(natural_gradient, frozen),
            )
            for rows in parts
        ]
        for _ in range(ATTEMPTS):
            try:
                return total(self._gather(parts, shards, arguments), parts)
            except (BrokenExecutor, CancelledError) as error:
                lost = error
                self._replace_executor(error)
        raise RuntimeError(f"a step lost workers {ATTEMPTS} times in a row: {lost}")

    def close(self) -> None:
        """Shut down the executor if it was made here."""
        if self._make is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _positions(self, windows: np.ndarray) -> np.ndarray:
        """Return the number of the first frame of each window among all frames."""
        return self._before[windows[:, 0]] + windows[:, 1]

    def _gather(
        self,
        parts: Sequence[np.ndarray],
        shards: np.ndarray,
        arguments: Sequence[tuple[Any, ...]],
    ) -> list[Outcome]:
        """Return what each part, rows of the minibatch, contributes, in their order.

        ``arguments`` are those of `svae.training.gradients.evaluate` for each part.
        """
        submit = partial(self._executor.submit, work, self._token)
        needed = [np.unique(shards[rows]).tolist() for rows in parts]
        calls = list(zip(needed, arguments, strict=True))
        futures = [submit(numbers, {}, *given) for numbers, given in calls]
        outcomes = []
        for rows, (numbers, given), future in zip(parts, calls, futures, strict=True):
            sent: dict[int, Shard] = {}
            try:
                while isinstance(answer := future.result(), Missing):
                    sent |= {number: self._shards[number] for number in answer.shards}
                    future = submit(numbers, sent, *given)
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
        broken = self._executor
        if self._make is None:
            raise RuntimeError(
                f"executor: a worker died and {type(broken).__name__} broke ({error}); "
                "given a function that makes executors in its place, "
                "fit(executor=lambda: ProcessPoolExecutor(4)), training goes on with "
                "another one"
            ) from error
        self._executor = _checked(self._make())
        broken.shutdown(wait=False)


class Missing(NamedTuple):
    """The answer of a worker that has not all shards of its part."""

    shards: list[int]


_kept: dict[str, dict[int, Shard]] = {}
"""In a worker: the shards of the training that it last worked for."""


def work(
    token: str, numbers: list[int], sent: dict[int, Shard], *arguments: Any
) -> Outcome | Missing:
    """Evaluate a part of a step in a worker that has shards, or was sent some.

    Parameters
    ----------
    token : str
        Names the training, so that shards of another are forgotten.
    numbers : list of int
        Shards that have the windows of the part.
    sent : dict of int to Shard
        Those of them that the worker lacked.
    *arguments
        Of `svae.training.gradients.evaluate`.
    """
    if token not in _kept:
        _kept.clear()
    kept = _kept.setdefault(token, {})
    kept.update(sent)
    if missing := [number for number in numbers if number not in kept]:
        return Missing(missing)
    held: dict[int, Held] = {}
    for number in numbers:
        for index, stretch in kept[number].items():
            held.setdefault(index, Held([])).stretches.append(stretch)
    return evaluate(held, *arguments)


def default_num_workers(executor: Any) -> int:
    """Return the number of workers that an executor publishes, or that of all CPUs."""
    if hasattr(executor, "scheduler_info"):  # a client of dask
        return len(executor.scheduler_info(n_workers=-1)["workers"])
    number = getattr(executor, "num_workers", None)  # mpi4py
    return number if isinstance(number, int) else os.cpu_count() or 1


def _checked(executor: Any) -> Any:
    if isinstance(executor, ThreadPoolExecutor):
        raise TypeError(
            "executor: autograd's traces are not safe in several threads; take one of "
            "processes"
        )
    if hasattr(executor, "get_executor"):  # a client of dask
        executor = executor.get_executor()
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
