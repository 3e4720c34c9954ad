"""Addresses of SciPy's BLAS and LAPACK functions, so that the core links to none."""

from libc.stdint cimport uintptr_t
from scipy.linalg.cython_blas cimport dgemm, dtrsm
from scipy.linalg.cython_lapack cimport dpotrf


def addresses():
    """Return those that `_core.use_lapack` takes, by name."""
    return {
        "dgemm": <uintptr_t> <void *> dgemm,
        "dtrsm": <uintptr_t> <void *> dtrsm,
        "dpotrf": <uintptr_t> <void *> dpotrf,
    }
