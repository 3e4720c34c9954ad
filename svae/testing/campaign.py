"""Many runs of a fuzzer, each with a generator of its own, so that any can be repeated.

A fuzzer is a function of a generator. It makes a case, asserts whatever must hold of
it, and returns a word or two for what came of it, to be counted. Runs share nothing:
run 17 of seed 3 is the same however many there are, in whatever thread.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["campaign", "main", "one_of"]

Fuzzer = Callable[[np.random.Generator], str]


def one_of(*fuzzers: Fuzzer) -> Fuzzer:
    """Return a fuzzer that runs one of some, as often as it is given."""
    return lambda rng: fuzzers[rng.integers(len(fuzzers))](rng)


def campaign(
    fuzzer: Fuzzer, runs: int, seed: int = 0, start: int = 0, threads: int = 1
) -> Counter[str]:
    """Count what comes of the runs `start`, `start` + 1, ... of a seed.

    Raises
    ------
    AssertionError
        At the first run that does not end as it should; it tells which that is.
    """

    def run(number: int) -> str:
        try:
            return fuzzer(np.random.default_rng([seed, number]))
        except Exception as error:
            raise AssertionError(f"run {number} of seed {seed}: {error!r}") from error

    numbers = range(start, start + runs)
    if threads == 1:
        return Counter(map(run, numbers))
    with ThreadPoolExecutor(threads) as executor:
        return Counter(executor.map(run, numbers))


def main(fuzzer: Fuzzer, description: str | None, runs: int = 1000) -> None:
    """Read a command line, run, and print the counts and the time."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", "--calls", type=int, default=runs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first run")
    parser.add_argument("--threads", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    began = time.perf_counter()
    counts = campaign(fuzzer, **vars(options))
    for what, count in sorted(counts.items()):
        print(f"{count:8d}  {what}")
    print(f"{counts.total():8d}  in {time.perf_counter() - began:.0f} seconds")
