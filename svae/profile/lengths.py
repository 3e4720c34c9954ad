"""A single sequence, longer and longer, with more and more threads.

What is short stays in the caches; what is long does not, and has work for all threads.
So the time per step is that of the shortest sequence at best, over the threads.
"""

import os
from collections.abc import Sequence

from svae.profile import goals
from svae.profile.cases import KERNELS, Case
from svae.profile.cells import aligned, cell
from svae.profile.clock import usable_cpus
from svae.profile.timing import Record

__all__ = ["doubling_threads", "lengths_table", "long_cases", "with_lengths"]

SHORTEST = 1000
HEADINGS = {
    "kernel": ("kernel", "size", "N", "T", "threads"),
    "forward": ("ns/step", "/first", "goal", "speed-up", "goal"),
    "adjoint": ("adjoint", "/first", "speed-up"),
}


def long_cases(
    kernel: str = "all",
    sizes: Sequence[int] = (10,),
    num_sequences: int = 1,
    num_timesteps: int = 1_000_000,
) -> list[Case]:
    """List chains of 1000 steps, and of ten times more up to a number of steps.

    Parameters
    ----------
    kernel : str
        Of `svae.profile.KERNELS`.
    sizes : sequence of int
        Latent dimensions, or states.
    num_sequences, num_timesteps : int
        The length is that of the longest.

    Returns
    -------
    list of Case
        Of both chains, their filters and the like aside.
    """
    lengths, length = [], SHORTEST
    while length < num_timesteps:
        lengths.append(length)
        length *= 10
    return [
        Case(name, size, num_sequences, length)
        for name in ("lds", "hmm")
        if name in KERNELS[kernel]
        for size in dict.fromkeys(sizes)
        for length in (*lengths, num_timesteps)
    ]


def doubling_threads(most: int | None = None) -> list[int]:
    """List 1, 2, 4 and so on, and at last the most: by default the number of CPUs."""
    most = most or len(usable_cpus()) or os.cpu_count() or 1
    return [*(2**k for k in range(most.bit_length()) if 2**k < most), most]


def with_lengths(records: Sequence[Record]) -> bool:
    """Whether some case was timed for sequences of several lengths."""
    return len({_family(r) for r in records}) < len({r.case for r in records})


def lengths_table(records: Sequence[Record]) -> str:
    """Return times for each length and number of threads as aligned text.

    Beside the time per step stands what it is of that of the shortest sequence with as
    many threads, and the speed-up over one thread.
    """
    first: dict[tuple[object, ...], Record] = {}
    for record in records:
        first.setdefault((_family(record), record.num_threads), record)
    rows = [
        _row(record, first[_family(record), record.num_threads]) for record in records
    ]
    headings = [heading for group in HEADINGS.values() for heading in group]
    return aligned(headings, rows) + (
        "\n\n/first: time per step over that of the shortest with as many threads\n"
        + goals.ABOUT
    )


def _family(record: Record) -> tuple[object, ...]:
    return record.kernel, record.size, record.variant, record.num_sequences


def _row(record: Record, first: Record) -> list[str]:
    case, threads = record.case, record.num_threads
    return [
        record.kernel,
        str(record.size),
        str(record.num_sequences),
        str(record.num_timesteps),
        str(threads),
        cell(record.forward_ns, "#"),
        cell(record.forward_ns / first.forward_ns, ".2f"),
        goals.at_most(goals.growth(case, first.num_timesteps)),
        cell(record.speedup, ".2f"),
        goals.at_least(goals.speedup(case, threads)),
        cell(record.adjoint_ns, "#"),
        cell(record.adjoint_ns / first.adjoint_ns, ".2f"),
        cell(record.adjoint_speedup, ".2f"),
    ]
