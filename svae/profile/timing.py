"""A record for each case: its times, its memory, and the answers compared."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from svae import reference
from svae.autodiff.trees import leaves
from svae.profile import peers
from svae.profile.bars import steps_of
from svae.profile.cases import Case, cases, shorter
from svae.profile.clock import Roofs, Timed, interleave, usable_cpus
from svae.profile.machine import environment
from svae.profile.memory import peak
from svae.profile.peers import Comparison
from svae.profile.problems import Problem, largest_error

__all__ = ["Record", "Report", "run"]

REFERENCE_STEPS = 30
"""Steps of the sequences that the reference is given, in all cases."""


@dataclass(frozen=True)
class Record:
    """What was measured of one case with one number of threads.

    Times are nanoseconds per step of one sequence; what was not measured is NaN.
    """

    kernel: str
    size: int
    variant: str
    num_sequences: int
    num_timesteps: int
    num_samples: int
    num_threads: int
    flops_per_step: float
    forward_ns: float
    gflops: float
    percent_dgemm: float
    percent_fma: float
    compiled_ns: float
    """The forward pass without the checks of the public function."""
    adjoint_ns: float
    adjoint_ratio: float
    """Adjoint over that."""
    speedup: float
    """Of the forward pass, over one thread."""
    adjoint_speedup: float
    flops_per_byte: float
    """Stated operations over the bytes of inputs and outputs."""
    memory_ratio: float
    """Peak with inputs, over inputs and outputs."""
    adjoint_memory_ratio: float
    reference_ratio: float
    """Time of the reference per step, over that of the compiled chain."""
    reference_error: float

    @property
    def case(self) -> Case:
        """What was timed."""
        return Case(
            self.kernel,
            self.size,
            self.num_sequences,
            self.num_timesteps,
            self.num_samples,
            self.variant,
        )


@dataclass(frozen=True)
class Report:
    """All that `run` measured."""

    environment: dict[str, str]
    roofs: Roofs
    records: list[Record]
    comparisons: list[Comparison] = field(default_factory=list)
    """With other packages, see `svae.profile.peers`."""
    missing: list[str] = field(default_factory=list)
    """Packages to compare with that are not installed."""


def run(
    chosen: Sequence[Case] | None = None,
    threads: Sequence[int] | None = None,
    repeats: int = 9,
    budget: float = 4.0,
    memory: bool = True,
    compared: Sequence[Case] = (),
    rng: int = 0,
    progress: bool = False,
) -> Report:
    """Time the compiled chains.

    Parameters
    ----------
    chosen : sequence of Case, optional
        By default all of `cases`.
    threads : sequence of int, optional
        Numbers of threads to time beside one; by default as many as there are CPUs.
    repeats : int
        Samples of every time, of which the median is kept.
    budget : float
        Seconds after which a case takes no more than three samples.
    memory : bool
        Whether to measure memory, which takes two processes for each case.
    compared : sequence of Case
        What to time other packages on too, by `peers.compare`.
    rng : int
        Seed of the problems.
    progress : bool
        Show a bar, which needs tqdm.

    Returns
    -------
    Report
        With one record for each case and number of threads.

    Raises
    ------
    ValueError
        If a number is not positive.
    """
    chosen = cases() if chosen is None else list(chosen)
    threads = sorted({1, *(threads or [len(usable_cpus()) or os.cpu_count() or 1])})
    if min(repeats, *threads) < 1:
        raise ValueError(f"repeats {repeats}, threads {threads}: wanted 1 or more")

    surroundings, roofs, measured = environment(), Roofs(), []
    roofs.raise_numpy()
    for case in steps_of(chosen, progress, "case"):
        roofs.raise_fma()
        measured.append(_measure(case, threads, repeats, budget, memory, rng))
    comparisons = peers.compare(compared, repeats, budget, rng, progress)
    roofs.raise_numpy()
    records = [
        record
        for case, figures in zip(chosen, measured, strict=True)
        for record in _records(case, figures, threads, roofs)
    ]
    missing = peers.missing() if compared else []
    return Report(surroundings, roofs, records, comparisons, missing)


def _measure(
    case: Case,
    threads: Sequence[int],
    repeats: int,
    budget: float,
    memory: bool,
    rng: int,
) -> dict[str, float]:
    """Return seconds of the calls of a case, and its other figures, by name."""
    problem, first = Problem.make(case, rng), shorter(case, REFERENCE_STEPS)
    start = Problem.make(first, rng)
    forward, adjoint = problem.forward(), problem.adjoint(rng)
    calls = {"reference": Timed(start.forward(reference))}
    if compiled := problem.compiled():
        calls["compiled"] = Timed(compiled)
    for n in threads:
        calls[f"forward {n}"] = Timed(forward, n)
        if adjoint:
            calls[f"adjoint {n}"] = Timed(adjoint, n)
    figures = interleave(calls, repeats, budget)
    figures["reference"] *= case.num_steps / first.num_steps
    expected, got = start.forward(reference)(), start.forward()()
    figures["error"] = largest_error(got, expected)
    arrays = leaves(problem.arguments) + leaves(forward())
    figures["bytes"] = sum(x.nbytes for x in arrays)
    if memory:
        del problem, forward, compiled, adjoint, calls, arrays
        figures["memory"] = peak(case).ratio
        if "adjoint 1" in figures:
            figures["adjoint memory"] = peak(case, adjoint=True).ratio
    return figures


def _records(
    case: Case, figures: dict[str, float], threads: Sequence[int], roofs: Roofs
) -> list[Record]:
    """Put the figures of a case in words, for each number of threads."""
    per_step = 1e9 / case.num_steps
    records = []
    for n in threads:
        forward = figures[f"forward {n}"]
        adjoint = figures.get(f"adjoint {n}", math.nan)
        alone = n == 1  # the other figures are those of one thread
        gflops = case.flops / forward / 1e9

        def single(name: str, alone: bool = alone) -> float:
            return figures.get(name, math.nan) if alone else math.nan

        records.append(
            Record(
                case.kernel,
                case.size,
                case.variant,
                case.num_sequences,
                case.num_timesteps,
                case.num_samples,
                n,
                flops_per_step=case.flops / case.num_steps,
                forward_ns=per_step * forward,
                gflops=gflops,
                percent_dgemm=100 * gflops / roofs.dgemm if alone else math.nan,
                percent_fma=100 * gflops / roofs.fma if alone else math.nan,
                compiled_ns=per_step * single("compiled"),
                adjoint_ns=per_step * adjoint,
                adjoint_ratio=adjoint / single("compiled"),
                speedup=figures["forward 1"] / forward,
                adjoint_speedup=figures.get("adjoint 1", math.nan) / adjoint,
                flops_per_byte=case.flops / figures["bytes"],
                memory_ratio=single("memory"),
                adjoint_memory_ratio=single("adjoint memory"),
                reference_ratio=single("reference") / forward,
                reference_error=single("error"),
            )
        )
    return records
