"""The library of targets for XLA: loaded, given the core's chains, and registered."""

from __future__ import annotations

import ctypes
from functools import cache

import jax

from svae.interop.build_jax import LIBRARY
from svae.kernels.lent import chain_calls

__all__ = ["register"]

TARGETS = (
    "gaussian_chain",
    "gaussian_chain_vjp",
    "markov_chain",
    "markov_chain_vjp",
    "viterbi",
    "sample_markov_chain",
    "no_derivative",
)
_REMEDY = "build it with: python -m svae.interop.build_jax"


@cache
def register() -> None:
    """Make the targets known to XLA, once.

    Raises
    ------
    ImportError
        If the library is missing, or of other versions of JAX or of the core.
    """
    if not LIBRARY.exists():
        raise ImportError(
            f"svae.interop.jax needs a library that is not built; {_REMEDY}"
        )
    try:
        library = ctypes.CDLL(str(LIBRARY))
        use = library.svae_use
        symbols = {name: library[f"svae_{name}"] for name in TARGETS}
    except (OSError, AttributeError) as error:
        raise ImportError(f"{LIBRARY} cannot be loaded ({error}); {_REMEDY}") from error
    use.argtypes, use.restype = [ctypes.c_void_p], ctypes.c_bool
    if not use(_pointer(chain_calls())):
        raise ImportError(f"{LIBRARY} is of another version of svae; {_REMEDY}")
    try:
        for name, symbol in symbols.items():
            capsule = jax.ffi.pycapsule(symbol)
            jax.ffi.register_ffi_target(f"svae_{name}", capsule, platform="cpu")
    except Exception as error:  # of jaxlib, which has no type of its own for this
        raise ImportError(
            f"JAX {jax.__version__} does not take {LIBRARY} ({error}); {_REMEDY}"
        ) from error


def _pointer(capsule: object) -> int | None:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return get(capsule, b"svae.chain_calls")
