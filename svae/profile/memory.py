"""Peak memory of one call, measured in a process of its own.

The process makes the problem, forgets how much memory it had at most so far, calls, and
reads how much it had at most now, in resident pages. What the call added to the pages
before it holds its outputs, its workspace and its temporaries. The allocator returns
freed memory at once, and uses no huge pages, so that pages mean what they say.
"""

import math
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from svae import kernels
from svae.profile.cases import Case, Problem
from svae.profile.clock import run_child
from svae.trees import leaves

__all__ = ["Peak", "peak"]

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
VISIBLE = 2**20
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "NUMPY_MADVISE_HUGEPAGE": "0",
}


@dataclass(frozen=True)
class Peak:
    """Bytes of one call."""

    arguments: int
    """Inputs and outputs together."""
    added: int
    """At most resident during the call, less what was resident before."""
    ratio: float
    """Inputs and what was added, relative to inputs and outputs: 1 is no workspace."""


def peak(case: Case, adjoint: bool = False, num_threads: int = 1) -> Peak:
    """Measure the peak memory of a case.

    Parameters
    ----------
    case : Case
    adjoint : bool
        The adjoint of it (`Problem.adjoint`), with cotangents among the inputs.
    num_threads : int

    Returns
    -------
    Peak
        With a ratio that is not a number if arguments fill less than a megabyte, which
        pages do not show, or if the process failed, as it does before the memory of the
        machine is used up.
    """
    task = asdict(case), adjoint, num_threads
    try:
        return Peak(**run_child(measure, *task, **ALLOCATOR))
    except ChildProcessError:
        return Peak(0, 0, math.nan)


def measure(case: dict[str, Any], adjoint: bool, num_threads: int) -> dict[str, Any]:
    """Do what `peak` says, in this process."""
    kernels.set_num_threads(num_threads)
    problem = Problem.make(Case(**case))
    call: Any = problem.adjoint() if adjoint else problem.forward()
    # once on nothing, for all that a first call loads
    tiny = Problem.make(Case(**(case | {"num_sequences": 1, "num_timesteps": 3})))
    warm: Any = tiny.adjoint() if adjoint else tiny.forward()
    warm()
    inputs = sum(x.nbytes for x in leaves(call.args) if hasattr(x, "nbytes"))
    _limit_to_free_memory()
    outputs, added = _high_water(call)
    size = inputs + sum(x.nbytes for x in leaves(outputs))
    ratio = (inputs + added) / size if size >= VISIBLE else math.nan
    return {"arguments": size, "added": added, "ratio": ratio}


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
