"""Peak memory of one call, measured in a process of its own.

The process makes the problem, forgets how much memory it had at most so far, calls, and
reads how much it had at most now, in resident pages. What the call added to the pages
before it holds its outputs, its workspace and its temporaries. The allocator returns
freed memory at once, and uses no huge pages, so that pages mean what they say.
"""

import math
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svae import kernels
from svae.autodiff.trees import leaves
from svae.profile.bars import steps_of
from svae.profile.cases import Case
from svae.profile.cells import aligned, cell
from svae.profile.clock import run_child
from svae.profile.problems import Problem

__all__ = ["Peak", "memory_table", "peak", "peaks"]

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
VISIBLE = 2**20
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "NUMPY_MADVISE_HUGEPAGE": "0",
}


@dataclass(frozen=True)
class Peak:
    """Memory of one call, in bytes."""

    kernel: str
    size: int
    num_sequences: int
    num_timesteps: int
    adjoint: bool
    inputs: int = 0
    """For the adjoint with the cotangents."""
    outputs: int = 0
    added: int = 0
    """At most resident during the call, less what was resident before."""
    note: str = ""
    """Why there are no numbers, if there are none."""

    @property
    def ratio(self) -> float:
        """Inputs and what was added, over inputs and outputs: 1 is no workspace.

        NaN if these fill less than a megabyte, which pages do not show.
        """
        arguments = self.inputs + self.outputs
        if arguments < VISIBLE:
            return math.nan
        return (self.inputs + self.added) / arguments


def peak(case: Case, adjoint: bool = False) -> Peak:
    """Measure the peak memory of a case, or of its adjoint (`Problem.adjoint`).

    A process that would use up the memory of the machine fails before, and says so in
    the note.
    """
    where = case.kernel, case.size, case.num_sequences, case.num_timesteps, adjoint
    try:
        return Peak(*where, **run_child(measure, asdict(case), adjoint, **ALLOCATOR))
    except ChildProcessError as error:
        return Peak(*where, note=str(error))


def peaks(chosen: Sequence[Case], progress: bool = False) -> list[Peak]:
    """Measure cases and their adjoints."""
    return [
        peak(case, adjoint)
        for case in steps_of(chosen, progress, "case")
        for adjoint in ((False, True) if case.kernel in ("lds", "hmm") else (False,))
    ]


def memory_table(peaks: Sequence[Peak]) -> str:
    """Return peaks of memory as aligned text, in MB (1e6 bytes)."""
    headings = [
        "call",
        "size",
        "N",
        "T",
        "inputs",
        "outputs",
        "added",
        "peak/in+out",
        "",
    ]
    rows = []
    for peak in peaks:
        sizes = (peak.inputs, peak.outputs, peak.added)
        rows.append(
            [
                peak.kernel + (" adjoint" if peak.adjoint else ""),
                *map(str, (peak.size, peak.num_sequences, peak.num_timesteps)),
                *(f"{size / 1e6:.1f}" for size in sizes),
                cell(peak.ratio, ".2f"),
                peak.note,
            ]
        )
    return (
        aligned(headings, rows)
        + "\n\nMB; added: resident at most during the call, less what was before it;\n"
        "peak/in+out: inputs and what was added, over inputs and outputs"
    )


def measure(case: dict[str, Any], adjoint: bool) -> dict[str, int]:
    """Do what `peak` says, in this process and with one thread."""
    kernels.set_num_threads(1)
    problem = Problem.make(Case(**case))
    call: Any = problem.adjoint() if adjoint else problem.forward()
    # once on nothing, for all that a first call loads
    tiny = Problem.make(Case(**(case | {"num_sequences": 1, "num_timesteps": 3})))
    warm: Any = tiny.adjoint() if adjoint else tiny.forward()
    warm()
    _limit_to_free_memory()
    outputs, added = _high_water(call)
    return {
        "inputs": sum(np.asarray(x).nbytes for x in leaves(call.args)),
        "outputs": sum(x.nbytes for x in leaves(outputs)),
        "added": added,
    }


def _high_water(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a call returns, and the bytes that it added at most."""
    if not FORGET.exists():  # macOS: never forgets, but the process did little before
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outputs = call()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return outputs, unit * (after - before)
    FORGET.write_text("5")
    before = _status("VmRSS")
    outputs = call()
    return outputs, _status("VmHWM") - before


def _status(name: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(1024 * int(x.split()[1]) for x in lines if x.startswith(name + ":"))


def _limit_to_free_memory() -> None:
    """Let a call that wants more than there is fail, and not the machine."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return
    lines = info.read_text().splitlines()
    free = next(1024 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable"))
    limit = _status("VmSize") + free * 8 // 10
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
