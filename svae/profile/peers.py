"""Other packages on the same problems, in turns with the chains of this one.

Each gets the model in everyday parameters, as it wants to have it, before the clock
starts; compilation is not timed either. A package that wants one sequence at a time, or
gigabytes for many, is given the first `FEW` of a batch, and its time is that per step
all the same. All use one core. A ratio of times is given only where the answers agree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

from svae.profile.bars import steps_of
from svae.profile.cases import KERNELS, Case
from svae.profile.clock import Timed, interleave
from svae.profile.packages import (
    cuthbert,
    dynamax,
    hmmlearn,
    ours,
    pylds,
    simdkalman,
    statsmodels,
)
from svae.profile.packages.prepared import Model, Prepared
from svae.profile.problems import Problem, largest_error

__all__ = ["AGREE", "PEERS", "Comparison", "cases", "compare", "missing"]

AGREE = 1e-6
"""Largest relative error of answers that are taken for the same."""
FEW = 4
SIZES = {"lds": (4, 10, 20), "hmm": (10, 30, 100)}
PER_SEQUENCE = ("y", "R", "log_likelihoods")
LARGEST_OF_GRADIENTS = {"lds": 10, "hmm": 30}
"""What JAX keeps for a gradient grows fast with the size."""


@dataclass(frozen=True)
class Comparison:
    """A package beside this one, on one core; nanoseconds per step of one sequence."""

    peer: str
    task: str
    """``"lds"`` and ``"hmm"``: filter and smoother. ``"lds gradient"``: a weighted sum
    of means and variances, and its gradient in all parameters and data. ``"hmm
    gradient"``: the gradient of the log likelihood in these."""
    size: int
    num_sequences: int
    num_timesteps: int
    svae_ns: float
    peer_ns: float
    ratio: float
    """Time of the peer over that of this package; NaN unless the answers agree."""
    largest_error: float
    note: str


class Peer(NamedTuple):
    """How to put a problem to a package."""

    package: str
    task: str
    prepare: Callable[[Model], Prepared]
    batched: bool = False

    def count(self, num_sequences: int) -> int:
        """Return how many sequences of a batch it gets."""
        return num_sequences if self.batched else min(FEW, num_sequences)


def cases(
    kernel: str = "all",
    sizes: Sequence[int] | None = None,
    num_sequences: Sequence[int] = (64, 1),
    num_timesteps: int = 1000,
) -> list[Case]:
    """List the problems: a batch and a single sequence of every size."""
    return [
        Case(name, size, N, num_timesteps, 0)
        for name in ("lds", "hmm")
        if name in KERNELS[kernel]
        for size in sizes or SIZES[name]
        for N in num_sequences
    ]


def missing() -> list[str]:
    """Name the packages that are not installed."""
    names = dict.fromkeys(peer.package for peer in PEERS)
    return [name for name in names if find_spec(name) is None]


def compare(
    chosen: Sequence[Case] | None = None,
    repeats: int = 5,
    budget: float = 4.0,
    rng: int = 0,
    progress: bool = False,
) -> list[Comparison]:
    """Time the packages that are installed beside this one.

    Parameters
    ----------
    chosen : sequence of Case, optional
        Of kernels ``"lds"`` and ``"hmm"`` without variants; by default `cases`.
    repeats, budget, rng, progress
        As in `svae.profile.run`.

    Returns
    -------
    list of Comparison
        Without those that `missing` names; a package that fails says so in its note.
    """
    absent = missing()
    found = []
    for case in steps_of(cases() if chosen is None else chosen, progress, "case"):
        model = Problem.make(case, rng).model
        for task in _tasks(case):
            peers = [p for p in PEERS if p.task == task and p.package not in absent]
            if peers:
                found += _beside(case, task, model, peers, repeats, budget)
    return found


def _tasks(case: Case) -> list[str]:
    """List what there is to do."""
    with_gradient = case.size <= LARGEST_OF_GRADIENTS[case.kernel]
    return [case.kernel, f"{case.kernel} gradient"][: 1 + with_gradient]


def _beside(
    case: Case,
    task: str,
    model: Model,
    peers: Sequence[Peer],
    repeats: int,
    budget: float,
) -> list[Comparison]:
    ours = OURS[task](model)
    expected = ours.answers(ours.call())
    calls, errors, notes = {"": Timed(ours.call)}, {}, {}
    for name, peer in ((peer.package, peer) for peer in peers):
        few = peer.count(case.num_sequences)
        try:
            prepared = peer.prepare(_first(model, few))
            got = prepared.answers(prepared.call())
            errors[name] = largest_error(got, tuple(x[:few] for x in expected))
        except Exception as error:  # whatever another package makes of our problem
            notes[name] = f"failed: {type(error).__name__}: {error}"[:120]
            continue
        calls[name] = Timed(prepared.call)
        if not errors[name] <= AGREE:
            notes[name] = "answers differ"
    seconds = interleave(calls, repeats, budget)
    svae_ns = 1e9 * seconds[""] / case.num_steps

    def comparison(peer: Peer) -> Comparison:
        name, steps = peer.package, peer.count(case.num_sequences) * case.num_timesteps
        peer_ns = 1e9 * seconds.get(name, math.nan) / steps
        return Comparison(
            f"{name} {version(name)}",
            task,
            case.size,
            case.num_sequences,
            case.num_timesteps,
            svae_ns,
            peer_ns,
            math.nan if name in notes else peer_ns / svae_ns,
            errors.get(name, math.nan),
            notes.get(name, ""),
        )

    return [comparison(peer) for peer in peers]


def _first(model: Model, count: int) -> Model:
    """Keep the first sequences of a batch."""
    return {k: x[:count] if k in PER_SEQUENCE else x for k, x in model.items()}


OURS = {
    "lds": ours.lds,
    "lds gradient": ours.lds_gradient,
    "hmm": ours.hmm,
    "hmm gradient": ours.hmm_gradient,
}
PEERS = (
    Peer("dynamax", "lds", dynamax.lds, batched=True),
    Peer("cuthbert", "lds", cuthbert.lds, batched=True),
    Peer("simdkalman", "lds", simdkalman.lds, batched=True),
    Peer("pylds", "lds", pylds.lds),
    Peer("statsmodels", "lds", statsmodels.lds),
    Peer("dynamax", "lds gradient", dynamax.lds_gradient, batched=True),
    Peer("cuthbert", "lds gradient", cuthbert.lds_gradient),
    Peer("dynamax", "hmm", dynamax.hmm, batched=True),
    Peer("cuthbert", "hmm", cuthbert.hmm),
    Peer("hmmlearn", "hmm", hmmlearn.hmm),
    Peer("dynamax", "hmm gradient", dynamax.hmm_gradient, batched=True),
    Peer("cuthbert", "hmm gradient", cuthbert.hmm_gradient),
)
