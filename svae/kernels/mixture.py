"""Mean-field inference of independent points in a mixture: a kernel and its adjoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as onp

from svae import _core
from svae.errors import Impossible
from svae.kernels.arguments import (
    LARGEST_LOG_POTENTIAL,
    as_array,
    as_arrays,
    contiguous,
    packed,
    require_shape,
    wrong_shape,
)
from svae.kernels.chains import (
    Array,
    _as_states,
    _as_tails,
    _as_told,
    _overflow,
    _require_all_finite,
    _require_no_overflow,
    _require_possible,
    _require_search,
    are_finite,
)

__all__ = [
    "mixture",
    "mixture_evidence",
    "mixture_evidence_vjp",
    "mixture_vjp",
]


def mixture(
    potentials: tuple[Array, Array, Array],
    tails: tuple[Array, Array, Array] | None,
    node: tuple[Array, Array],
    noise: Array | None,
    told: Array | None,
    starts: Array | None,
    from_data: bool,
    from_prior: bool,
    tolerance: float,
    max_iterations: int,
) -> tuple[Any, ...]:
    """Mean-field inference of independent rows x in a mixture; see csrc/mixture.

    Not differentiable: `svae.models.inference.one_step` makes it so, with
    `mixture_vjp`.

    Parameters
    ----------
    potentials : (init (N, K), components (K, D D + D), constants (K,))
        Of the states of each row; J and h of x given each state; and the constant of
        each state.
    tails : (offsets (K,), degrees of freedom (K, Q), weights (Q,)), optional
        Where x given a state is a Student-t: what is added to the evidence, and nodes
        and weights of a quadrature over log nu.
    node : (J (N, D) or (N, D, D), h (N, D))
    noise : (N, S, D) array, optional
    told : (N,) array, optional
        1 of a row with data, 0 of one without.
    starts : (N, R, K) array, optional
        Probabilities of the states to start from.
    from_data, from_prior : bool
        Whether to start there, too.
    tolerance : float
        Largest change of a statistic at which a row has converged.
    max_iterations : int

    Returns
    -------
    fixed : (N, K) expected statistics of the states
    iterations, residual : (N,)
    log_normalizer : (N,) the surrogate at the fixed point
    evidence : (N,) expectation of <J, x x'> + h'x of the node
    half_log_det : (N,) of the precision of x
    second_moment, mean : (N, D, D), (N, D)
    states, potentials : (N, K) probabilities and node potentials of z
    samples : (N, S, D) or None

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number, if ``told`` is not
        0 or 1, or if there is nowhere to start.
    NotPositiveDefinite
        If x of a row has no proper Gaussian.
    Impossible
        If no state of a row has positive probability.
    FloatingPointError
        If a result is too large for a float.
    """
    _require_search(tolerance, max_iterations)
    arguments = _mixture_arguments(potentials, tails, node, noise, told)
    N, K = arguments[0].shape
    if starts is not None:
        starts = as_array("starts", starts)
        require_shape("starts", starts, (N, "R", K))
        _require_all_finite({"starts": starts})
        (starts,) = contiguous([starts], [2])
    if not (from_data or from_prior or (starts is not None and starts.shape[1] > 0)):
        raise ValueError("nowhere to start: give starts, from_data or from_prior")
    how = bool(from_data), bool(from_prior), tolerance, max_iterations
    try:
        results = _core.mixture(*arguments, starts, *how)
    except Impossible as error:  # no potential forbids it: its evidence is -inf
        raise _overflow("row", error.sequence) from None
    *numbers, potentials_of_states, samples = results  # of which -inf may be right
    _require_no_overflow(numbers if samples is None else [*numbers, samples], "row")
    return results


def mixture_vjp(
    potentials: tuple[Array, Array, Array],
    tails: tuple[Array, Array, Array] | None,
    node: tuple[Array, Array],
    noise: Array | None,
    told: Array | None,
    fixed: Array,
    outputs_bar: Sequence[Array],
    samples_bar: Array | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, ...]:
    """Adjoint of `mixture`; see csrc/mixture.

    Parameters
    ----------
    potentials, tails, node, noise, told
        As in `mixture`.
    fixed : (N, K)
        What `mixture` returned.
    outputs_bar : sequence of arrays
        Cotangents of ``log_normalizer``, ``evidence``, ``second_moment``, ``mean``,
        ``states`` and ``potentials``.
    samples_bar : (N, S, D) array or None
    tolerance : float
        Relative residual at which the linear solve has converged.
    max_iterations : int

    Returns
    -------
    init_bar, constants_bar : (N, K)
    evidence_bar : (N, K) of <J_k, E x x'> + h_k'E x
    J_bar, h_bar : (N, D, D), (N, D) of the potentials of x, but for ``evidence``
    dofs_bar : (N, K Q)
    noise_bar : (N, S, D)
    iterations, residual : (N,) of the linear solve
    """
    _require_search(tolerance, max_iterations)
    arguments = _mixture_arguments(potentials, tails, node, noise, told)
    fixed, *bars = as_arrays(
        (fixed, *outputs_bar),
        "fixed",
        "log_normalizer_bar",
        "evidence_bar",
        "second_moment_bar",
        "mean_bar",
        "states_bar",
        "potentials_bar",
    )
    if samples_bar is not None:
        samples_bar = as_array("samples_bar", samples_bar)
    require_shape("fixed", fixed, arguments[0].shape)
    _require_all_finite({"fixed": fixed})
    return _core.mixture_vjp(
        *arguments,
        packed(fixed),
        [packed(bar) for bar in bars],
        None if samples_bar is None else packed(samples_bar),
        tolerance,
        max_iterations,
    )


def mixture_evidence(
    components: Array,
    node: tuple[Array, Array],
    told: Array | None,
    states: Array | None,
) -> tuple[Array, Array, Array]:
    """Evidence of rows for components, and moments of x; see `mixture`.

    Not differentiable: `svae.models.inference.frames` makes it so, with
    `mixture_evidence_vjp`.

    Parameters
    ----------
    components : (K, D D + D)
    node : (J (N, D) or (N, D, D), h (N, D))
    told : (N,) array, optional
    states : (N, K) array, optional
        Expected statistics of the states; without them x is given each state alone.

    Returns
    -------
    evidence : (N, K)
        Of every component; without ``states`` the log normalizers of x.
    second_moment, mean : (N, D, D), (N, D)
        None without ``states``.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds what is no number, or if ``told`` is
        not 0 or 1.
    NotPositiveDefinite
        If x of a row has no proper Gaussian.
    FloatingPointError
        If a result is too large for a float.
    """
    arguments = _evidence_arguments(components, node, told)
    if states is None:
        evidence = _core.mixture_evidence(*arguments, None)[0]
        _require_no_overflow([evidence], "row")
        return evidence, None, None
    states = _as_states("states", states, arguments)
    results = _core.mixture_evidence(*arguments, states)
    _require_no_overflow(results, "row")
    return results


def mixture_evidence_vjp(
    components: Array,
    node: tuple[Array, Array],
    told: Array | None,
    states: Array,
    evidence_bar: Array,
) -> tuple[Array, Array, Array]:
    """Adjoint of `mixture_evidence` in the states and in all potentials of x.

    Returns
    -------
    states_bar : (N, K)
    J_bar, h_bar : (N, D, D), (N, D)
    """
    arguments = _evidence_arguments(components, node, told)
    evidence_bar = as_array("evidence_bar", evidence_bar)
    return _core.mixture_evidence_vjp(
        *arguments,
        _as_states("states", states, arguments),
        packed(evidence_bar),
    )


def _evidence_arguments(
    components: Any, node: Any, told: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Arrays as the core reads them, with nothing known of the states."""
    components = as_array("components", components)
    node = as_arrays(node, "node J", "node h")
    require_shape("components", components, ("K", "D D + D"))
    require_shape("node h", node[1], ("N", "D"))
    if len(components) < 1:
        raise wrong_shape("components", components, "a state at least")
    nothing = onp.zeros(len(components))
    init = onp.broadcast_to(nothing, (len(node[1]), len(components)))
    potentials = init, components, nothing
    *shared, _, rows, _, told = _mixture_arguments(potentials, None, node, None, told)
    return shared[0], shared[1], shared[2], rows, told


def _mixture_arguments(
    potentials: Any, tails: Any, node: Any, noise: Any, told: Any
) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """Arrays as the core reads them."""
    init, components, constants = as_arrays(
        potentials, "init", "components", "constants"
    )
    node_J, node_h = as_arrays(node, "node J", "node h")
    require_shape("node h", node_h, ("N", "D"))
    require_shape("constants", constants, ("K",))
    (N, D), K = node_h.shape, len(constants)
    if D < 1:
        raise wrong_shape("node h", node_h, "a dimension at least")
    if K < 1:
        raise wrong_shape("constants", constants, "a state at least")
    require_shape("init", init, (N, K))
    require_shape("components", components, (K, D * D + D))
    require_shape("node J", node_J, (N, D), (N, D, D))
    told = _as_told(told, N)
    finite = {"components": components, "node J": node_J, "node h": node_h}
    if tails is not None:
        tails = _as_tails(tails, K)
    if noise is not None:
        finite["noise"] = noise = as_array("noise", noise)
        require_shape("noise", noise, (N, "S", D))
    if not are_finite([init, constants], LARGEST_LOG_POTENTIAL):
        _require_possible(init, constants, told)
    _require_all_finite(finite)
    if noise is not None:
        (noise,) = contiguous([noise], [2])
    rows = contiguous([init, node_J, node_h], [1, 1, 1])
    return (
        rows[0],
        packed(components),
        packed(constants),
        tails,
        rows[1:],
        noise,
        told,
    )
