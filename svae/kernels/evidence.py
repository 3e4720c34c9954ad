"""Evidence of points or of frames for the states of a mixture, and its derivative.

Half of a round of the mean field, for x that is independent from frame to frame: given
statistics s of the states, x is Gaussian with the potentials ``P's + r``, and its
features f have the evidence ``P E[f]``, P being the components.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums
from autograd.tracer import isbox

from svae import _core
from svae.autodiff.operations import joined, value_of
from svae.autodiff.primitive import primitive
from svae.autodiff.tuples import Outputs
from svae.errors import NotPositiveDefinite
from svae.kernels.arguments import (
    as_array,
    contiguous,
    packed,
    require_all_finite,
    require_no_overflow,
    require_shape,
)
from svae.kernels.mixture_arguments import (
    as_has_data,
    as_potentials,
    improper,
)
from svae.types import VJP, Array, Potentials

__all__ = ["mixture_evidence", "mixture_evidence_vjp", "unchecked_mixture_evidence"]


def mixture_evidence(
    components: Array,
    node: tuple[Array, Array],
    observed: Array | None,
    states: Array | None,
) -> tuple[Array, Array | None, Array | None]:
    """Evidence for the states of points (N,) or of frames (N, T), and moments of x.

    Given statistics of the states the evidence is differentiable once in components,
    node and states. The moments are constants, and so is all that is returned without
    statistics.

    Parameters
    ----------
    components : (K, D D + D)
        J and h of x given each state, the rows of P.
    node : (J (..., D) or (..., D, D), h (..., D))
    observed : (...) array, optional
        1 for a point with data, 0 for one without, whose evidence is zero and whose x
        has, beside its node, a standard normal law; by default all have data.
    states : (..., K) array, optional
        Expected statistics of the states; without them x is given each state alone.

    Returns
    -------
    evidence : (..., K)
        Of every state: P E[f]; without ``states`` the log normalizers of x.
    second_moment, mean : (..., D, D), (..., D)
        None without ``states``.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number, or if ``observed``
        is not 0 or 1.
    NotPositiveDefinite
        If x of a point has no proper Gaussian, naming point, or sequence and step.
    FloatingPointError
        If a result is too large for a float.
    """
    components, node_J, node_h = as_potentials(components, node)
    *lead, _ = value_of(node_h).shape
    observed = as_has_data(observed, tuple(lead))
    if states is None:
        plain = (value_of(x) for x in (components, node_J, node_h))
        return _evidence(None, *plain, observed)[0], None, None
    states = as_array("states", states)
    require_shape("states", states, (*lead, len(value_of(components))))
    require_all_finite({"states": states})
    return unchecked_mixture_evidence(components, (node_J, node_h), observed, states)


def unchecked_mixture_evidence(
    components: Array, node: Potentials, observed: Array | None, states: Array
) -> tuple[Array, Array, Array]:
    """Return what `mixture_evidence` does, of arguments that are known to be right.

    ``observed`` may hold numbers or booleans.
    """
    observed = (
        None if observed is None else onp.ascontiguousarray(observed, onp.float64)
    )
    found = _evidence(states, components, *node, observed)
    plain = value_of(found)
    return found[0], plain[1], plain[2]


@primitive
def _evidence(
    states: Array | None,
    components: Array,
    node_J: Array,
    node_h: Array,
    observed: Array | None,
) -> Outputs:
    """Return evidence, second moments and means, or without states the evidence."""
    *lead, D = node_h.shape
    arguments = _core_arguments(components, node_J, node_h, observed)
    flat = None if states is None else packed(states.reshape(-1, states.shape[-1]))
    try:
        results = _core.mixture_evidence(*arguments, flat)
    except NotPositiveDefinite as error:
        raise improper(error.sequence, lead) from None
    found = results[:1] if flat is None else results
    require_no_overflow(found, "row")
    ends = (len(components),), (D, D), (D,)
    return Outputs.of(
        part.reshape(*lead, *end) for part, end in zip(found, ends, strict=False)
    )


def _core_arguments(
    components: Array, node_J: Array, node_h: Array, observed: Array | None
) -> tuple[Any, Any, Any, Any, Any]:
    """Return plain arrays as the core reads them, with nothing known of the states."""
    *lead, D = node_h.shape
    K, num_points = len(components), math.prod(lead)
    nothing = onp.zeros(K)
    node_J = node_J.reshape(num_points, *node_J.shape[len(lead) :])
    node_J, node_h = contiguous([node_J, node_h.reshape(num_points, D)], [1, 1])
    init = onp.broadcast_to(nothing, (num_points, K))
    observed = None if observed is None else observed.reshape(-1)
    return init, packed(components), nothing, [node_J, node_h], observed


def _evidence_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any
) -> VJP:
    states, components, node_J, node_h, observed = args

    def pull_back(outputs_bar: Any) -> list[Array]:
        if any(map(isbox, (outputs_bar, ans, *args))):
            raise NotImplementedError(
                "the evidence of a mixture has one derivative; svae.reference has more"
            )
        K = len(components)
        flat, evidence_bar = states.reshape(-1, K), outputs_bar[0].reshape(-1, K)
        states_bar, J_bar, h_bar = _core.mixture_evidence_vjp(
            *_core_arguments(components, node_J, node_h, observed),
            packed(flat),
            packed(evidence_bar),
        )

        def components_bar() -> Array:
            # e = P E[f(x)], and s P are potentials of x
            _, second_moment, mean = ans.parts
            moments = second_moment.reshape(-1, *second_moment.shape[-2:])
            features = joined(1, moments, mean.reshape(-1, mean.shape[-1]))
            of_x = joined(1, J_bar, h_bar)
            if observed is None:
                return evidence_bar.T @ features + flat.T @ of_x
            counted = observed.reshape(-1, 1)
            return (counted * evidence_bar).T @ features + (counted * flat).T @ of_x

        def node_J_bar() -> Array:
            bar = J_bar
            if node_J.ndim == node_h.ndim:
                bar = onp.diagonal(bar, axis1=-1, axis2=-2)
            return bar.reshape(node_J.shape)

        cotangents: dict[int, Callable[[], Array]] = {
            0: lambda: states_bar.reshape(states.shape),
            1: components_bar,
            2: node_J_bar,
            3: lambda: h_bar.reshape(node_h.shape),
        }
        return [cotangents[argnum]() for argnum in argnums]

    return pull_back


defvjp_argnums(_evidence, _evidence_vjp)


def mixture_evidence_vjp(
    components: Array,
    node: tuple[Array, Array],
    observed: Array | None,
    states: Array,
    evidence_bar: Array,
) -> tuple[Array, Array, Array]:
    """Return what the adjoint kernel of the evidence of points itself computes.

    Parameters
    ----------
    components, node, observed, states
        As in `mixture_evidence`, plain arrays, of points.
    evidence_bar : (N, K)

    Returns
    -------
    states_bar : (N, K)
    J_bar, h_bar : (N, D, D), (N, D)
        Of all potentials of x.
    """
    components, node_J, node_h = as_potentials(components, node)
    num_points, num_states = len(node_h), len(components)
    observed = as_has_data(observed, (num_points,))
    states = as_array("states", states)
    require_shape("states", states, (num_points, num_states))
    require_all_finite({"states": states})
    return _core.mixture_evidence_vjp(
        *_core_arguments(components, node_J, node_h, observed),
        packed(states),
        packed(as_array("evidence_bar", evidence_bar)),
    )
