"""Names of the parameters and statistics of q(theta) in certified cases.

An array of a factor is named by the factor and a word: "components.kappa", or by the
factor alone where it has but one, "weights".
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["FACTORS", "Factor", "factors", "natparams_of", "statistics_of"]


class Factor(NamedTuple):
    """A factor of q(theta)."""

    family: str
    """The module of `svae.families`."""
    parameters: tuple[str, ...]
    """Its natural parameters, in the order of the family's tuple."""
    statistics: tuple[str, ...]
    """What they multiply; of the message, potentials of x and z."""


_OF_GAUSSIAN = ".J", ".h", ".quadratic", ".half_log_det"
_NIW = Factor("niw", (".second", ".weighted_mean", ".kappa", ".nu"), _OF_GAUSSIAN)
_MNIW = Factor(
    "mniw",
    (".column_precision", ".weighted_mean", ".second", ".nu"),
    (".J11", ".J12", ".J22", ".half_log_det"),
)
_DIRICHLET = Factor("dirichlet", ("",), ("",))
FACTORS = {
    "weights": _DIRICHLET,
    "transitions": _DIRICHLET,
    "init": _NIW,
    "components": _NIW,
    "dynamics": _MNIW,
}


def factors(arrays: Mapping[str, Any]) -> dict[str, Factor]:
    """Return the factors of which there are natural parameters, by name."""
    return {
        name: factor
        for name, factor in FACTORS.items()
        if name + factor.parameters[0] in arrays
    }


def natparams_of(arrays: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return natural parameters as the families take them."""
    return {
        name: tuple(arrays[name + word] for word in factor.parameters)
        for name, factor in factors(arrays).items()
    }


def statistics_of(arrays: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return statistics, or a message, as the models take them."""
    return {
        name: tuple(arrays[name + word] for word in factor.statistics)
        for name, factor in FACTORS.items()
        if name + factor.statistics[0] in arrays
    }
