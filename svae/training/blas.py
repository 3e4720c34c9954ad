"""As many threads of BLAS as are wanted, for a while.

A BLAS starts its threads when it is loaded, with NumPy and SciPy: long before anyone
knows that products will be small, or wants to time something on one core, where threads
only stand in each other's way.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["AFFIXES", "ENVIRONMENT", "blas_threads", "loaded_openblas", "thread_counts"]

ENVIRONMENT = dict.fromkeys(
    (
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""What BLAS libraries read when they are loaded."""

MAPS = Path("/proc/self/maps")
AFFIXES = [(before, after) for before in ("", "scipy_") for after in ("", "64_")]
"""What builds of OpenBLAS put around the names of its functions."""


class _Library(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], Any]


@contextmanager
def blas_threads(count: int = 1) -> Iterator[None]:
    """Let each BLAS of this process use ``count`` threads with the calling one.

    Every one that threadpoolctl knows, if that is installed; without it each OpenBLAS,
    where the system shows what is loaded (Linux).  Elsewhere, and for other libraries,
    `ENVIRONMENT` does it from the start.
    """
    if find_spec("threadpoolctl") is not None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(count, user_api="blas"):
            yield
        return
    libraries = _libraries()
    before = [library.get() for library in libraries]
    for library in libraries:
        library.set(count)
    try:
        yield
    finally:
        for library, number in zip(libraries, before, strict=True):
            library.set(number)


def thread_counts() -> list[int]:
    """Return how many threads each OpenBLAS of this process may use."""
    return [library.get() for library in _libraries()]


def loaded_openblas() -> dict[str, ctypes.CDLL]:
    """Return every OpenBLAS that is loaded, by its file, in the order of files."""
    if not MAPS.exists():
        return {}
    files = {line.split(maxsplit=5)[-1] for line in MAPS.read_text().splitlines()}
    return {file: ctypes.CDLL(file) for file in sorted(files) if "openblas" in file}


def _libraries() -> list[_Library]:
    """Find every OpenBLAS that is loaded, by how many threads it may use."""
    name = "{}openblas_{}_num_threads{}".format
    return [
        _Library(*(getattr(library, name(a, what, z)) for what in ("get", "set")))
        for library in loaded_openblas().values()
        for a, z in AFFIXES
        if hasattr(library, name(a, "get", z))
    ]
