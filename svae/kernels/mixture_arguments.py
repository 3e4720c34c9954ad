"""Arguments of the mixtures: their shapes fit each other, and their numbers are some.

An axis of one does not broadcast here: the core reads as many numbers as the rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as onp

from svae.autodiff.operations import value_of
from svae.errors import Impossible
from svae.kernels.arguments import (
    LARGEST_LOG_POTENTIAL,
    are_finite,
    as_array,
    as_arrays,
    contiguous,
    packed,
    require_all_finite,
    require_shape,
    wrong_shape,
)

__all__ = [
    "Arguments",
    "as_has_data",
    "as_potentials",
    "core_arguments",
    "mixture_arguments",
    "require_search",
]

Array = Any  # a NumPy array, or autograd's box around one


class Arguments(NamedTuple):
    """Arrays of float64 or boxes around such; None where there is none."""

    init: Array
    """(K,) or (N, K)"""
    components: Array
    """(K, D D + D)"""
    constants: Array
    """(K,)"""
    offsets: Array | None
    """(K,), with the next two, or all three None."""
    dofs: Array | None
    """(K, Q)"""
    weights: Array | None
    """(Q,)"""
    node_J: Array
    """(N, D) or (N, D, D)"""
    node_h: Array
    """(N, D)"""
    noise: Array | None
    """(N, S, D)"""


def mixture_arguments(
    potentials: Any, tails: Any, node: Any, noise: Any, told: Any
) -> tuple[Arguments, Array | None]:
    """Return the arrays of `svae.kernels.mixture`, and which rows have data, (N,).

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number.
    Impossible
        If a row forbids all states.
    """
    init, components, constants = as_arrays(
        potentials, "init", "components", "constants"
    )
    node_J, node_h = as_arrays(node, "node J", "node h")
    require_shape("node h", node_h, ("N", "D"))
    require_shape("constants", constants, ("K",))
    (N, D), K = value_of(node_h).shape, len(value_of(constants))
    if D < 1:
        raise wrong_shape("node h", node_h, "a dimension at least")
    if K < 1:
        raise wrong_shape("constants", constants, "a state at least")
    require_shape("init", init, (K,), (N, K))
    require_shape("components", components, (K, D * D + D))
    require_shape("node J", node_J, (N, D), (N, D, D))
    told = as_has_data(told, (N,))
    finite = {"components": components, "node J": node_J, "node h": node_h}
    tails = (None, None, None) if tails is None else _as_tails(tails, K)
    if noise is not None:
        finite["noise"] = noise = as_array("noise", noise)
        require_shape("noise", noise, (N, "S", D))
    if not are_finite([init, constants], LARGEST_LOG_POTENTIAL):
        _require_possible(value_of(init), value_of(constants), told)
    require_all_finite(finite)
    arguments = init, components, constants, *tails, node_J, node_h, noise
    return Arguments(*arguments), told


def core_arguments(
    arguments: Sequence[Array], told: Array | None
) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """Return plain arrays, the fields of `Arguments`, as the core reads them."""
    init, components, constants, *tails, node_J, node_h, noise = arguments
    init = onp.broadcast_to(init, (len(node_h), len(constants)))
    init, node_J, node_h = contiguous([init, node_J, node_h], [1, 1, 1])
    return (
        init,
        packed(components),
        packed(constants),
        None if tails[0] is None else [packed(part) for part in tails],
        [node_J, node_h],
        None if noise is None else contiguous([noise], [2])[0],
        told,
    )


def as_potentials(components: Any, node: Any) -> tuple[Array, Array, Array]:
    """Return components (K, D D + D), and J and h (..., D) of frames or of rows."""
    components = as_array("components", components)
    node_J, node_h = as_arrays(node, "node J", "node h")
    require_shape("components", components, ("K", "D D + D"))
    require_shape("node h", node_h, ("N", "D"), ("N", "T", "D"))
    *lead, D = value_of(node_h).shape
    if D < 1:
        raise wrong_shape("node h", node_h, "a dimension at least")
    K = len(value_of(components))
    if K < 1:
        raise wrong_shape("components", components, "a state at least")
    require_shape("components", components, (K, D * D + D))
    require_shape("node J", node_J, (*lead, D), (*lead, D, D))
    require_all_finite({"components": components, "node J": node_J, "node h": node_h})
    return components, node_J, node_h


def _as_tails(tails: Any, num_states: int) -> list[Array]:
    """Return offsets (K,), degrees of freedom (K, Q) and plain weights (Q,)."""
    names = "offsets", "degrees of freedom", "weights"
    tails = as_arrays(tails, *names)
    offsets, dofs, weights = map(value_of, tails)
    require_shape("weights", weights, ("Q",))
    if len(weights) < 1:
        raise wrong_shape("weights", weights, "a node at least")
    require_shape("offsets", offsets, (num_states,))
    require_shape("degrees of freedom", dofs, (num_states, len(weights)))
    require_all_finite(dict(zip(names, tails, strict=True)))
    if not (dofs > 0).all():
        raise ValueError(f"degrees of freedom hold {dofs.min()}, wanted positive ones")
    if not (weights >= 0).all():
        raise ValueError(f"weights hold {weights.min()}, wanted 0 or more")
    return [tails[0], tails[1], weights]


def as_has_data(told: Any, shape: tuple[int, ...]) -> Array | None:
    """Return which rows have data as numbers, 1 or 0; or None, for all."""
    if told is None:
        return None
    told = as_array("told", value_of(told))
    require_shape("told", told, shape)
    wrong = onp.argwhere((told != 0) & (told != 1))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ValueError(f"told{list(index)} is {told[index]}, wanted 0 or 1")
    return packed(told)


def require_search(tolerance: Any, max_iterations: Any) -> None:
    """Refuse what does not say how long to iterate."""
    if not isinstance(tolerance, Real) or not float(tolerance) >= 0:
        raise ValueError(f"tolerance is {tolerance}, wanted a number, 0 or more")
    if not isinstance(max_iterations, Integral) or int(max_iterations) < 1:
        raise ValueError(
            f"max_iterations is {max_iterations}, wanted a whole number, 1 or more"
        )


def _require_possible(init: Array, constants: Array, told: Array | None) -> None:
    """Refuse what are no log potentials, and a row that forbids all states."""
    require_all_finite({"init": init, "constants": constants}, log=True)
    row = constants if told is None else onp.where(told[:, None] > 0, constants, 0.0)
    impossible = onp.atleast_1d((init + row == -onp.inf).all(axis=-1))
    if impossible.any():
        raise Impossible(int(onp.flatnonzero(impossible)[0]), 0)
