"""Names for the types of arrays, and for what methods of models take.

Under autograd an array may be a box around one, which behaves alike; annotations name
the array.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Integers",
    "Mask",
    "Message",
    "Potentials",
    "Rng",
    "VJP",
]

Array: TypeAlias = NDArray[np.floating[Any]]
"""Of float64, which `numpy.linalg` and others do not say of what they return."""
Integers: TypeAlias = NDArray[np.int64]
"""Lengths, or discrete states."""
Mask: TypeAlias = NDArray[np.bool_]
Potentials: TypeAlias = tuple[Array, Array]
"""J and h of a Gaussian."""
Message: TypeAlias = dict[str, Any]
"""Natural parameters or statistics of theta, a tuple of arrays for each factor."""
Rng: TypeAlias = int | np.random.Generator | np.random.SeedSequence | None
"""A seed or a generator, as `numpy.random.default_rng` takes them."""
VJP: TypeAlias = Callable[[Any], Sequence[Any]]
"""Cotangent of what a primitive returns -> those of the arguments asked for."""
