"""Training on several processes: how much faster it is, and that nothing is lost.

    OMP_NUM_THREADS=1 SVAE_NUM_THREADS=1 python examples/workers.py runs/workers

trains an LDS with the sizes of a depth video (10 latent dimensions, windows of 250
frames of 900 pixels, networks of 2 x 200 units) in one process and on workers: a pool
of processes and, where dask is installed, a local cluster; in every second run a worker
is killed halfway.  ``workers.csv`` has the median time of a step, and how far the bound
at the end is from that of the single process.  One thread in each process, or they
fight for cores.
"""

import argparse
import csv
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np

import svae

WINDOW = 250
WARM = 10
"""Steps that are not timed, or the first half of fewer: workers then get their data."""

Context = Any  # yields an executor, its size, and a way to find its workers


def main() -> None:
    """Train in every way; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the table")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--num-steps", type=int, default=25)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--num-windows", type=int, default=64)
    parser.add_argument("--num-pixels", type=int, default=900)
    options = parser.parse_args()
    if options.num_steps < 2:
        parser.error("argument --num-steps: wanted 2 or more, the first is not timed")
    options.out.mkdir(parents=True, exist_ok=True)

    ways: dict[str, Callable[[], Context]] = {
        "one process": lambda: nullcontext((None, None, list)),
        "pool": lambda: pool(options.workers),
    }
    if find_spec("distributed") is not None:
        ways["dask"] = lambda: dask(options.workers)
    shape = options.num_windows * WINDOW, options.num_pixels
    frames = np.random.default_rng(0).standard_normal(shape)
    rows = []
    for batch_size in options.batch_sizes:
        alone = None
        for name, way in ways.items():
            for lose in (False, True) if name != "one process" else (False,):
                row = run(way, frames, options.num_steps, batch_size, lose)
                alone = alone or row
                row = {
                    "batch_size": batch_size,
                    "way": name + (", one killed" if lose else ""),
                    "ms_per_step": 1e3 * row["seconds"],
                    "speed_up": alone["seconds"] / row["seconds"],
                    "total_seconds": row["total"],
                    "relative_difference": abs(row["bound"] / alone["bound"] - 1.0),
                }
                rows.append(row)
                print("  ".join(f"{key} {tell(value)}" for key, value in row.items()))
    with open(options.out / "workers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def run(
    way: Callable[[], Context],
    frames: np.ndarray,
    num_steps: int,
    batch_size: int,
    lose: bool,
) -> dict[str, float]:
    """Train, perhaps with the loss of a worker halfway; return time and bound."""
    model = svae.SVAE(svae.LDS(latent_dim=10))
    with way() as (executor, num_workers, pids):

        def kill(step: int, record: dict[str, float]) -> None:
            if lose and step == num_steps // 2:
                os.kill(pids()[0], signal.SIGKILL)

        start = time.perf_counter()
        model.fit(
            frames,
            num_steps,
            batch_size,
            WINDOW,
            rng=0,
            executor=executor,
            num_workers=num_workers,
            callback=kill,
        )
        total = time.perf_counter() - start
    timed = min(WARM, num_steps // 2)
    return {
        "seconds": float(np.median(model.history_["seconds"][timed:])),
        "total": total,
        "bound": float(model.history_["objective"][-1]),
    }


@contextmanager
def pool(number: int) -> Iterator[Any]:
    """Yield how to make a pool, its size, and a function that lists its processes."""
    make = partial(ProcessPoolExecutor, number, get_context("spawn"))
    yield make, number, lambda: [child.pid for child in active_children()]


@contextmanager
def dask(number: int) -> Iterator[Any]:
    """Yield the client of a local dask cluster, likewise."""
    from distributed import Client, LocalCluster

    quiet = {"dashboard_address": None, "silence_logs": 50}
    with (
        LocalCluster(n_workers=number, threads_per_worker=1, **quiet) as cluster,
        Client(cluster) as client,
    ):
        yield client, number, lambda: list(client.run(os.getpid).values())


def tell(value: Any) -> str:
    """Return a number in four digits, or a text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
