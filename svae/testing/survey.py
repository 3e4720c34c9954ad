"""Many trials in a process of its own, each of which may take so long and so much.

A trial that hangs, takes all memory or ends the process is counted as wrong, and the
next ones follow in another process.  Needs limits of processes, which Windows lacks.
"""

import multiprocessing
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["BYTES", "OK", "SECONDS", "TooLong", "survey"]

SECONDS = 10  # of a trial, at most
BYTES = 2**30  # of the address space that a trial may add
OK = ("same", "refused", "other")


class TooLong(BaseException):
    """A read takes too long; no handler of a reader takes it for damage."""


Trials = Callable[[str, range, int, Path], Iterator[tuple[int, str, str]]]


def fuzz(
    try_all: Trials, kind: str, runs: range, seed: int, folder: Path, results: Any
) -> None:
    """Send what trials yield, each of which has limits."""
    _limit()
    for trial in try_all(kind, runs, seed, folder):
        signal.alarm(0 if trial[2] else SECONDS)
        results.send(trial)


def survey(
    kind: str, runs: int, seed: int, try_all: Trials
) -> tuple[Counter[str], list[str]]:
    """Fuzz a kind in a process of its own; return counts, and what went wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    context = multiprocessing.get_context("spawn")
    start = 0
    with tempfile.TemporaryDirectory() as folder:
        while start < runs:
            receive, send = context.Pipe(duplex=False)
            arguments = (try_all, kind, range(start, runs), seed, Path(folder), send)
            process = context.Process(target=fuzz, args=arguments)
            process.start()
            send.close()
            try:
                while True:
                    if not receive.poll(6 * SECONDS):  # in C, where no signal is seen
                        process.kill()
                    run, name, result = receive.recv()
                    start = run + 1
                    if result:
                        counts[result if result in OK else "wrong"] += 1
                    if result not in ("", *OK):
                        wrong.append(f"{kind} {run} ({name}): {result}")
            except EOFError:
                process.join()
            if process.exitcode != 0:
                counts["wrong"] += 1
                wrong.append(f"{kind} {start - 1}: exit status {process.exitcode}")
    return counts, wrong


def _limit() -> None:
    """Stop what takes too long, and what takes too much memory."""

    def too_long(number: int, frame: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, too_long)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
