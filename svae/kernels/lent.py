"""The chains as plain functions, lent to extensions of other frameworks."""

from __future__ import annotations

from typing import Any

from svae import _core
from svae.kernels.gaussian import use_lapack

__all__ = ["chain_calls"]


def chain_calls() -> Any:
    """Return the capsule of the core's table of chains.

    ``svae/interop/native/chain_calls.h`` declares the table. Its functions take the
    chains that `svae.kernels` has, and need no lock of Python's.
    """
    use_lapack()
    return _core.chain_calls()
