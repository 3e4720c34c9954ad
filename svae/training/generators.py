"""Random generators whose state can be kept in a file and restored from it."""

from typing import Any

import numpy as np

__all__ = ["GENERATORS", "generator_at", "state_of"]

GENERATORS: dict[str, Any] = {
    bits.__name__: bits
    for bits in (
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.MT19937,
        np.random.Philox,
        np.random.SFC64,
    )
}
"""Bit generators whose state can be kept."""


def generator_at(state: dict[str, Any]) -> np.random.Generator:
    """Return a generator whose bit generator has a state.

    Raises
    ------
    ValueError
        If it is none of NumPy's.
    """
    bits = _generator_of(state)()
    bits.state = state
    return np.random.Generator(bits)


def state_of(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a generator's bit generator.

    Raises
    ------
    ValueError
        If `generator_at` could not restore it: the bit generator is none of NumPy's.
    """
    state = dict(rng.bit_generator.state)
    _generator_of(state)
    return state


def _generator_of(state: dict[str, Any]) -> Any:
    name = state["bit_generator"]
    if name not in GENERATORS:
        raise ValueError(
            f"rng: the bit generator must be one of {', '.join(GENERATORS)}, "
            f"got {name!r}"
        )
    return GENERATORS[name]
