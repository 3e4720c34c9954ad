"""The BLAS that NumPy calls, and the kind of CPU that it has chosen its kernels for.

OpenBLAS holds kernels for many kinds of CPU and chooses among them when it is loaded:
as ``OPENBLAS_CORETYPE`` says, or by what it makes of the CPU itself. Matrix products
may take twice as long with others, so figures are labelled by them.
"""

import ctypes
from typing import Any

import numpy as np

from svae.training.blas import AFFIXES, loaded_openblas

__all__ = ["UNKNOWN", "blas_label", "core_name"]

UNKNOWN = "unknown"


def blas_label() -> str:
    """Return the BLAS that NumPy was built with, its version, and its kernels."""
    known: Any = np.show_config(mode="dicts")
    blas = known["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']} for {core_name()}"


def core_name() -> str:
    """Return the kind of CPU whose kernels NumPy's OpenBLAS runs, like ``"SkylakeX"``.

    `UNKNOWN` for another BLAS, and where the system does not show what is loaded.
    """
    libraries = loaded_openblas()
    own = [x for file, x in libraries.items() if "numpy.libs" in file]
    shared = [x for file, x in libraries.items() if "scipy.libs" not in file]
    for library in (own or shared)[:1]:
        for before, after in AFFIXES:
            name = f"{before}openblas_get_corename{after}"
            if hasattr(library, name):
                get = getattr(library, name)
                get.argtypes, get.restype = [], ctypes.c_char_p
                return (get() or UNKNOWN.encode()).decode(errors="replace")
    return UNKNOWN
