"""Data larger than memory, in constant memory.

    python examples/streaming.py runs/streaming

makes files of 20 GB that take next to nothing of the disk, for they are sparse or have
the same compressed chunk everywhere: a memory map, and HDF5 datasets that are
contiguous with and without space in the file, and chunked.  For each of them a new
process gets a reference, passes over all data once (`svae.data.summarize`), and fits an
LDS, for which `fit` passes over it once more.  ``streaming.csv`` and ``streaming.png``
tell how much of the process was resident in memory at which time; the files are deleted
at the end.  ``--kind plain`` leaves out what gives the pages of a map back, to see what
it is for.  Needs h5py and matplotlib, and Linux for memory over time.
"""

import argparse
import csv
import resource
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import matplotlib.pyplot as plt
import numpy as np

import svae

OBS_DIM, CHUNK = 1000, 256
DTYPE = np.dtype(np.float32)
STATUS = Path("/proc/self/status")
MB, GB = 2**20, 1e9


def main() -> None:
    """Measure every kind of file; write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the csv and the figure")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS)[:4])
    parser.add_argument("--scratch", type=Path, help="folder for the large files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    num_frames = int(options.gigabytes * GB / (OBS_DIM * DTYPE.itemsize))
    print(f"{num_frames} frames of {OBS_DIM} {DTYPE} values, {options.gigabytes} GB")
    print(f"{'':26}{'on disk':>9}{'before':>9}{'summarize':>12}{'':10}{'fit':>11}")
    runs = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for kind in options.kind:
            path = Path(folder, "large")
            source = KINDS[kind](path, num_frames)
            on_disk = path.stat().st_blocks * 512
            runs[kind] = run = in_new_process(measure, source, options.num_steps)
            print(row(kind, on_disk, run, options.gigabytes), flush=True)
            path.unlink()
    with (options.out / "streaming.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "seconds", "resident_bytes"])
        for kind, run in runs.items():
            writer.writerows([kind, *sample] for sample in run.samples)
    figure(runs, options.gigabytes).savefig(options.out / "streaming.png", dpi=150)


# The files


def memory_map(path: Path, num_frames: int) -> Any:
    """Return a recording of a ``.npy`` file that is one hole."""
    shape = num_frames, OBS_DIM
    np.lib.format.open_memmap(path, "w+", DTYPE, shape)
    return svae.data.as_sequences(np.load(path, mmap_mode="r"))


def plain_map(path: Path, num_frames: int) -> Any:
    """Return the same as it would be without care: a map, read as an array."""
    (recording,) = memory_map(path, num_frames)
    return PlainMap(str(path), recording.source.offset, recording.shape)


class PlainMap:
    """A memory map that keeps what was read of it."""

    def __init__(self, path: str, offset: int, shape: tuple[int, ...]) -> None:
        self.where = path, DTYPE, "r", offset, shape
        self.shape, self.array = shape, None

    def __getitem__(self, steps: slice) -> np.ndarray:
        """Read steps."""
        if self.array is None:
            self.array = np.memmap(*self.where)
        return self.array[steps]


def contiguous(path: Path, num_frames: int) -> Any:
    """Return a recording of a HDF5 dataset that has its space, and is one hole."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((num_frames, OBS_DIM))
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.py_create(DTYPE)
        h5py.h5d.create(file.id, b"frames", kind, space, dcpl=layout)
    return recordings_of(path)


def unwritten(path: Path, num_frames: int) -> Any:
    """Return a recording of a HDF5 dataset that was never written."""
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", (num_frames, OBS_DIM), DTYPE)
    return recordings_of(path)


def chunked(path: Path, num_frames: int) -> Any:
    """Return a recording of a compressed HDF5 dataset: one chunk, again and again."""
    frames = svae.data.dots(OBS_DIM, CHUNK, noise_sigma=0, rng=0).round(1).astype(DTYPE)
    chunk = zlib.compress(frames.tobytes(), level=1)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "frames",
            (num_frames, OBS_DIM),
            DTYPE,
            chunks=frames.shape,
            compression="gzip",
            compression_opts=1,
        )
        for start in range(0, num_frames, CHUNK):
            dataset.id.write_direct_chunk((start, 0), chunk)
    return recordings_of(path)


def recordings_of(path: Path) -> Any:
    """Return the frames of a HDF5 file as recordings."""
    with h5py.File(path, "r") as file:
        return svae.data.as_sequences(file["frames"])


KINDS: dict[str, Callable[[Path, int], Any]] = {
    "memory map": memory_map,
    "HDF5, contiguous": contiguous,
    "HDF5, never written": unwritten,
    "HDF5, chunks in gzip": chunked,
    "plain": plain_map,
}


# What is measured


class Measured(NamedTuple):
    """How a process did."""

    samples: list[tuple[float, int]]
    """Resident bytes at seconds since the start."""
    marks: list[float]
    """When the pass began and ended, and when the fit ended."""
    before: int
    """Bytes that were resident before the pass."""
    peaks: tuple[int, int]
    """Most bytes that were resident until the pass had ended, and the fit."""


def in_new_process(function: Callable[..., Measured], *arguments: Any) -> Measured:
    """Call a function in a process of its own, which gets no data."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(source: Any, num_steps: int) -> Measured:
    """Pass over the data and fit a model to it, watching the memory."""
    model = svae.SVAE(svae.LDS(5), svae.MLP((20,)), svae.MLP((20,)))
    sequences = svae.data.as_sequences(source)
    with Watch() as watch:
        before = resident("VmRSS")
        marks = [watch.now()]
        svae.data.summarize(sequences)
        marks.append(watch.now())
        after_pass = resident("VmHWM")
        model.fit(sequences, num_steps, batch_size=8, window=200, rng=0)
        marks.append(watch.now())
    return Measured(watch.samples, marks, before, (after_pass, resident("VmHWM")))


class Watch:
    """Sample the resident memory of this process until the end of the block."""

    def __init__(self, interval: float = 0.05) -> None:
        self.interval, self.samples = interval, []
        self.done, self.start = threading.Event(), time.perf_counter()
        self.thread = threading.Thread(target=self.run)

    def now(self) -> float:
        """Return seconds since the start."""
        return time.perf_counter() - self.start

    def run(self) -> None:
        """Take samples."""
        while not self.done.wait(self.interval):
            self.samples.append((self.now(), resident("VmRSS")))

    def __enter__(self) -> "Watch":
        """Start."""
        self.thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Stop."""
        self.done.set()
        self.thread.join()


def resident(word: str) -> int:
    """Return the bytes of this process in memory: VmRSS now, VmHWM at most so far.

    Where there is no ``/proc``, always at most so far.
    """
    if STATUS.exists():
        (line,) = (s for s in STATUS.read_text().splitlines() if s.startswith(word))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# What is shown


def row(kind: str, on_disk: int, run: Measured, gigabytes: float) -> str:
    """Return a line of the table."""
    seconds = run.marks[1] - run.marks[0]
    after_pass, after_fit = run.peaks
    return (
        f"{kind:24}{on_disk / MB:8.1f} MB{run.before / MB:6.0f} MB"
        f"{after_pass / MB:9.0f} MB  {gigabytes / seconds:5.2f} GB/s"
        f"{after_fit / MB:8.0f} MB"
    )


def figure(runs: dict[str, Measured], gigabytes: float) -> plt.Figure:
    """Draw resident memory over time, and the size of the data."""
    fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for kind, run in runs.items():
        times, sizes = np.array(run.samples).T
        (line,) = ax.plot(times, sizes / MB, label=kind)
        ends = np.interp(run.marks[1:], times, sizes / MB)
        ax.plot(run.marks[1:], ends, "o", color=line.get_color(), ms=4)
    ax.axhline(gigabytes * GB / MB, color="black", ls="--", lw=1)
    ax.text(0, 0.9 * gigabytes * GB / MB, " size of the data", va="top")
    ax.set(xlabel="seconds", ylabel="resident memory [MB]", yscale="log")
    ax.set_title("a pass over the data, a fit that begins with another: marks are ends")
    ax.legend(loc="center right")
    return fig


if __name__ == "__main__":
    main()
