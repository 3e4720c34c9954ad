"""Times of calls, and the roofs of the machine that they are measured against.

One core, one thread of BLAS. Calls that are to be compared are timed in turns, so that
a machine that is slow for a while is slow for all of them, and the median is kept; a
roof is the best that was seen.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svae import kernels
from svae.profile.blas import blas_label
from svae.training.blas import ENVIRONMENT, blas_threads

__all__ = ["Roofs", "Timed", "interleave", "pinned", "run_child", "usable_cpus"]

SHORTEST = 5e-3
"""Seconds that a sample lasts at least; shorter calls are repeated within it."""

TASKS = Path("/proc/self/task")


def usable_cpus() -> set[int]:
    """Return the CPUs that this process may use; none if the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    return set(os.sched_getaffinity(0))


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Keep all threads of this process on these CPUs, where the system can (Linux).

    All threads, for those of a BLAS or of a compiler run beside the one that calls;
    threads that start meanwhile come under the same rule, and are released with it.
    """
    before = usable_cpus()
    if not before or not TASKS.is_dir():
        yield
        return
    _allow(cpus)
    try:
        yield
    finally:
        _allow(before)


def _allow(cpus: set[int]) -> None:
    for task in os.listdir(TASKS):
        try:
            os.sched_setaffinity(int(task), cpus)
        except ProcessLookupError:  # the thread has ended
            continue


@dataclass(frozen=True)
class Timed:
    """A call, and the number of threads it may use."""

    call: Callable[[], Any]
    num_threads: int = 1
    """Of the compiled core."""
    blas_threads: int = 1


def interleave(
    calls: dict[str, Timed], repeats: int, budget: float
) -> dict[str, float]:
    """Time calls in turns.

    Parameters
    ----------
    calls : dict of str to Timed
    repeats : int
        Samples of each, fewer (but three) once the budget is used up.
    budget : float
        Seconds.

    Returns
    -------
    dict of str to float
        Median seconds of one call; a call before each sample is not in its time.
    """
    cpus, threads = usable_cpus(), kernels.get_num_threads()
    one = {max(cpus)} if cpus else cpus

    def sample(timed: Timed, count: int) -> float:
        kernels.set_num_threads(timed.num_threads)
        with (
            pinned(one if timed.num_threads == 1 else cpus),
            blas_threads(timed.blas_threads),
        ):
            timed.call()  # once for the caches and pages that another call has left
            start = time.perf_counter()
            for _ in range(count):
                timed.call()
            return (time.perf_counter() - start) / count

    start = time.perf_counter()
    try:
        counts = {
            name: int(SHORTEST / sample(timed, 1)) + 1 for name, timed in calls.items()
        }
        samples: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(repeats):
            if turn >= 3 and time.perf_counter() - start > budget:
                break
            for name, timed in calls.items():
                samples[name].append(sample(timed, counts[name]))
    finally:
        kernels.set_num_threads(threads)
    return {name: float(np.median(seconds)) for name, seconds in samples.items()}


@dataclass
class Roofs:
    """The best that one core was seen to do.

    Multiply-adds in registers with the widest lanes of the instruction set in use,
    NumPy's matrix product, and reading two arrays and writing their sum.
    """

    fma: float = 0.0
    """GFLOP/s."""
    dgemm: float = 0.0
    """GFLOP/s, of matrices of 1000 x 1000."""
    bandwidth: float = 0.0
    """GB/s."""
    blas: str = ""
    """What did the matrix product, and with which kernels."""

    def raise_fma(self, rounds: int = 1_000_000) -> None:
        """Run the loop of multiply-adds again; keep the best."""
        cpus = usable_cpus()
        with pinned({max(cpus)} if cpus else cpus):
            for _ in range(5):
                start = time.perf_counter()
                flops, _sum = kernels.multiply_add(rounds)
                elapsed = time.perf_counter() - start
                self.fma = max(self.fma, flops / elapsed / 1e9)

    def raise_numpy(self, repeats: int = 7) -> None:
        """Run NumPy's matrix product and sum again; keep the best."""
        measured = run_child(numpy_roofs, repeats)
        self.dgemm = max(self.dgemm, measured["dgemm"])
        self.bandwidth = max(self.bandwidth, measured["bandwidth"])
        self.blas = measured["blas"]


def numpy_roofs(repeats: int) -> dict[str, Any]:
    """Measure, in a process of its own, what NumPy reaches with one thread of BLAS."""
    a, b = np.random.default_rng(0).standard_normal((2, 1000, 1000))
    x = np.ones((3, 2**24))  # 128 MB each
    product, total = np.empty_like(a), x[2]

    def best(call: Callable[[], Any]) -> float:
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    with pinned({max(usable_cpus())} if usable_cpus() else set()):
        dgemm = 2 * 1000**3 / best(lambda: np.matmul(a, b, out=product)) / 1e9
        bandwidth = x.nbytes / best(lambda: np.add(x[0], x[1], out=total)) / 1e9
    return {"dgemm": dgemm, "bandwidth": bandwidth, "blas": blas_label()}


def run_child(function: Callable[..., Any], *arguments: Any, **environment: str) -> Any:
    """Call a function of a module in a process of its own, with one thread of BLAS.

    Parameters
    ----------
    function : callable
        Found again by its module and name.
    arguments
        Anything that json holds.
    environment
        Variables of the process.

    Returns
    -------
    object
        What the function returned, through json.

    Raises
    ------
    ChildProcessError
        If the process failed.
    """
    # Not from the working directory: that of a clone has sources without compiled core.
    code = (
        "import json, sys; from importlib import import_module; "
        "sys.path = [path for path in sys.path if path]; "
        "module, name, arguments = json.loads(sys.argv[1]); "
        "print(json.dumps(getattr(import_module(module), name)(*arguments)))"
    )
    task = json.dumps([function.__module__, function.__name__, arguments])
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, task],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ChildProcessError(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])
