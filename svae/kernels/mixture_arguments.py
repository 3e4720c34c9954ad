"""Arguments of the mixtures: their shapes fit each other, and their numbers are some.

An axis of one does not broadcast here: the core reads numbers for
every point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as onp

from svae.autodiff.operations import value_of
from svae.errors import Impossible, NotPositiveDefinite
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
from svae.types import Array

__all__ = [
    "Arguments",
    "as_has_data",
    "as_points",
    "as_potentials",
    "core_arguments",
    "draws_of_frames",
    "draws_of_points",
    "improper",
    "mixture_arguments",
    "over_frames",
    "require_search",
]


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
    """(..., D) or (..., D, D), of points (N,) or of frames (N, T)"""
    node_h: Array
    """(..., D)"""
    noise: Array | None
    """(N, S, D) or (N, S, T, D)"""


def mixture_arguments(
    potentials: Any, tails: Any, node: Any, noise: Array | None, observed: Any
) -> tuple[Arguments, Array | None]:
    """Return the arrays of `svae.kernels.mixture`, and which frames have data, (...).

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number.
    Impossible
        If a point forbids all states.
    """
    init, components, constants = as_arrays(
        potentials, "init", "components", "constants"
    )
    node_J, node_h = as_arrays(node, "node J", "node h")
    require_shape("node h", node_h, ("N", "D"), ("N", "T", "D"))
    require_shape("constants", constants, ("K",))
    *lead, D = value_of(node_h).shape
    (N, *steps), K = lead, len(value_of(constants))
    if min((*steps, D)) < 1:
        wanted = "a step and a dimension at least" if steps else "a dimension at least"
        raise wrong_shape("node h", node_h, wanted)
    if K < 1:
        raise wrong_shape("constants", constants, "a state at least")
    require_shape("init", init, (K,), (N, K))
    require_shape("components", components, (K, D * D + D))
    require_shape("node J", node_J, (*lead, D), (*lead, D, D))
    observed = as_has_data(observed, tuple(lead))
    finite = {"components": components, "node J": node_J, "node h": node_h}
    tails = (None, None, None) if tails is None else _as_tails(tails, K)
    if noise is not None:
        finite["noise"] = noise = as_array("noise", noise)
        require_shape("noise", noise, (N, "S", *steps, D))
    if not are_finite([init, constants], LARGEST_LOG_POTENTIAL):
        _require_possible(value_of(init), value_of(constants), observed)
    require_all_finite(finite)
    arguments = init, components, constants, *tails, node_J, node_h, noise
    return Arguments(*arguments), observed


def core_arguments(
    arguments: Arguments, observed: Array | None
) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """Return plain arrays, the fields of `Arguments`, as the core reads them.

    The core knows points, and frames are that.
    """
    init, components, constants, _, _, _, node_J, node_h, noise = arguments
    tails = [packed(part) for part in arguments[3:6] if part is not None]
    lead, K = node_h.shape[:-1], len(constants)
    if init.ndim == len(lead) == 2:  # of sequences: for each of their frames
        init = init[:, None]
    init = as_points(onp.broadcast_to(init, (*lead, K)), lead)
    nodes = [as_points(node_J, lead), as_points(node_h, lead)]
    init, node_J, node_h = contiguous([init, *nodes], [1, 1, 1])
    return (
        init,
        packed(components),
        packed(constants),
        tails or None,
        [node_J, node_h],
        None if noise is None else contiguous([draws_of_points(noise, lead)], [2])[0],
        None if observed is None else as_points(observed, lead),
    )


def as_points(x: Array, lead: tuple[int, ...]) -> Array:
    """View what is of points (N, ...), or of frames (N, T, ...), as of points."""
    return x if len(lead) == 1 else x.reshape(math.prod(lead), *x.shape[2:])


def draws_of_points(x: Array, lead: tuple[int, ...]) -> Array:
    """View noise (N, S, D) or (N, S, T, D) as that of points."""
    return x if len(lead) == 1 else as_points(onp.swapaxes(x, 1, 2), lead)


def draws_of_frames(x: Array, lead: tuple[int, ...]) -> Array:
    """Return the draws of points as those of frames, if it is frames."""
    if len(lead) == 1:
        return x
    return onp.swapaxes(x.reshape(*lead, *x.shape[1:]), 1, 2)


def over_frames(x: Array, lead: tuple[int, ...], gather: Callable[..., Array]) -> Array:
    """Gather what is of points (N, ...) over the frames of sequences, if it is frames.

    A sequence of one frame is a point.
    """
    if len(lead) == 1 or lead[1] == 1:
        return x
    return gather(x.reshape(*lead, *x.shape[1:]), axis=1)


def improper(point: int, lead: Sequence[int]) -> NotPositiveDefinite:
    """Return the error that names the sequence and step of a point."""
    place = (int(k) for k in onp.unravel_index(point, lead))
    return NotPositiveDefinite(*([*place, 0][:2]))


def as_potentials(components: Any, node: Any) -> tuple[Array, Array, Array]:
    """Return components (K, D D + D), and J and h (..., D) of frames or of points."""
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


def as_has_data(observed: Any, shape: tuple[int, ...]) -> Array | None:
    """Return which points have data as numbers, 1 or 0; or None, for all."""
    if observed is None:
        return None
    observed = as_array("observed", value_of(observed))
    require_shape("observed", observed, shape)
    wrong = onp.argwhere((observed != 0) & (observed != 1))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ValueError(f"observed{list(index)} is {observed[index]}, wanted 0 or 1")
    return packed(observed)


def require_search(tolerance: Any, max_iterations: Any) -> None:
    """Refuse what does not say how long to iterate."""
    if not isinstance(tolerance, Real) or not float(tolerance) >= 0:
        raise ValueError(f"tolerance is {tolerance}, wanted a number, 0 or more")
    if not isinstance(max_iterations, Integral) or int(max_iterations) < 1:
        raise ValueError(
            f"max_iterations is {max_iterations}, wanted a whole number, 1 or more"
        )


def _require_possible(init: Array, constants: Array, observed: Array | None) -> None:
    """Refuse what are no log potentials, and a frame that forbids all states."""
    require_all_finite({"init": init, "constants": constants}, log=True)
    if observed is not None:
        constants = onp.where(observed[..., None] > 0, constants, 0.0)
        if init.ndim < observed.ndim + 1:
            init = init.reshape(-1, *(1,) * (observed.ndim - 1), init.shape[-1])
    impossible = onp.atleast_1d((init + constants == -onp.inf).all(axis=-1))
    if impossible.any():
        sequence, *step = (int(k) for k in onp.argwhere(impossible)[0])
        raise Impossible(sequence, *step[:1] or [0])
