"""Several outputs of one primitive, of which few may matter.

Autograd has tuples for that.  Whenever one is indexed it describes the vector space of
every entry, and whenever a cotangent comes back for one entry it makes zeros for all.
Here an entry costs what it costs, and entries that nothing depends on cost nothing.
"""

from typing import Any

import numpy as np
from autograd.core import VSpace
from autograd.extend import Box, defvjp

from svae.autodiff.primitive import primitive

__all__ = ["Outputs", "Unavailable"]


class Unavailable:
    """A cotangent that nobody can compute, which is no matter unless it is used.

    Parameters
    ----------
    reason : str
        What to tell whoever uses it.
    """

    __slots__ = ("reason",)
    __array_ufunc__ = None  # a sum with an array is for __radd__

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __add__(self, other: Any) -> "Unavailable":
        """Return a sum, which cannot be computed either."""
        return self

    __radd__ = __add__


class Outputs:
    """Arrays that one primitive returns, or cotangents of such.

    Parameters
    ----------
    parts : list of arrays
        None for a cotangent of zero.
    shapes : list of tuples
    """

    __slots__ = ("parts", "shapes")

    def __init__(self, parts: list[Any], shapes: list[tuple[int, ...]]) -> None:
        self.parts, self.shapes = parts, shapes

    @classmethod
    def of(cls, arrays: Any) -> "Outputs":
        """Return arrays as outputs."""
        parts = list(arrays)
        return cls(parts, [part.shape for part in parts])

    def __getitem__(self, k: int) -> Any:
        """Return an array, zeros if it was left out.

        Raises
        ------
        NotImplementedError
            If it is unavailable.
        """
        part = self.parts[k]
        if isinstance(part, Unavailable):
            raise NotImplementedError(part.reason)
        return np.zeros(self.shapes[k]) if part is None else part


@primitive
def _take(outputs: Any, k: int) -> Any:
    return outputs[k]


@primitive
def _put(cotangent: Any, k: int, shapes: list[tuple[int, ...]]) -> Any:
    """Return what has a cotangent in one place, and zeros in all others."""
    parts = [None] * len(shapes)
    parts[k] = cotangent
    return Outputs(parts, shapes)


defvjp(
    _take,
    lambda ans, outputs, k: lambda g: _put(g, k, outputs.shapes),
)
defvjp(_put, lambda ans, cotangent, k, shapes: lambda g: _take(g, k))


class OutputsBox(Box):  # type: ignore[misc]
    """Autograd's box around outputs."""

    __slots__ = ()
    __getitem__ = _take

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays."""
        return self._value.shapes


class OutputsVSpace(VSpace):  # type: ignore[misc]
    """The space of cotangents of outputs."""

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self.shapes = shapes

    def zeros(self) -> Outputs:
        """Return zeros, none of which takes memory."""
        return Outputs([None] * len(self.shapes), self.shapes)

    def _add(self, a: Outputs, b: Outputs) -> Outputs:
        sums = [
            y if x is None else x if y is None else x + y
            for x, y in zip(a.parts, b.parts, strict=True)
        ]
        return Outputs(sums, self.shapes)

    def _mut_add(self, a: Outputs, b: Outputs) -> Outputs:
        return self._add(a, b)


OutputsBox.register(Outputs)
VSpace.register(Outputs, lambda outputs: OutputsVSpace(outputs.shapes))
