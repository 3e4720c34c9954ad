"""What a problem of the set is, and numbers that problems are made of.

Numbers are rounded before the truth is derived: draws to float64, parameters that are
meant to be exact to few bits (`dyadic`).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from svae.types import Array

__all__ = [
    "Problem",
    "covariance",
    "dyadic",
    "generator_of",
    "random_like",
    "stable",
]


@dataclass(frozen=True)
class Problem:
    """A case before its answers are known; the fields are those of a `Case`."""

    name: str
    kind: str
    inputs: Mapping[str, Any]
    origin: str
    catches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    natural: str = ""
    family: str = ""
    model: str = ""
    generator: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


def generator_of(name: str) -> np.random.Generator:
    """Return random numbers of a case's own, whatever other cases there are."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def dyadic(x: Any, bits: int = 6) -> Array:
    """Round to multiples of 2**-bits, of which few products are ever rounded."""
    return np.round(np.asarray(x) * 2.0**bits) / 2.0**bits


def covariance(rng: np.random.Generator, *shape: int, bits: int = 8) -> Array:
    """Draw symmetric positive definite matrices (..., D, D) of few bits."""
    D = shape[-1]
    root = rng.standard_normal((*shape, D)) / np.sqrt(D)
    return dyadic(root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(D), bits)


def stable(rng: np.random.Generator, *shape: int, radius: float = 0.9) -> Array:
    """Draw dynamics (..., D, D), rotations times a radius, of few bits."""
    D = shape[-1]
    return dyadic(radius * np.linalg.qr(rng.standard_normal((*shape, D)))[0], 8)


def random_like(
    rng: np.random.Generator, arrays: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """Draw standard normal arrays of the shapes of others, named by a prefix."""
    return {
        f"{prefix}.{name}": dyadic(rng.standard_normal(np.shape(x)), 10)
        for name, x in arrays.items()
    }
