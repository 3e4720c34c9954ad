"""Mean-field inference of independent points in a mixture, and its derivative.

Block coordinate ascent and its implicit derivative are one kernel each: csrc/mixture
has their equations. `svae.reference.mixture` defines both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as onp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

from svae import _core
from svae.autodiff.operations import joined, value_of
from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import Cotangents, Diagnostics
from svae.errors import Impossible
from svae.kernels.arguments import (
    as_array,
    as_arrays,
    contiguous,
    overflow,
    packed,
    require_all_finite,
    require_no_overflow,
    require_shape,
)
from svae.kernels.mixture_arguments import (
    core_arguments,
    mixture_arguments,
    require_search,
)
from svae.reference import MeanField

__all__ = ["LinearSolve", "mixture", "mixture_vjp"]

Array = Any  # a NumPy array, or autograd's box around one


class LinearSolve(NamedTuple):
    """How to solve the linear system in the gradient of a mean field."""

    tolerance: float
    """Relative residual at which it has converged."""
    max_iterations: int
    watch: Callable[[Array], None] | None = None
    """Called with the residuals (N,) that were reached: to warn of large ones."""


class _Search(NamedTuple):
    """What is constant in a call of `mixture`."""

    told: Array | None
    starts: Array | None
    from_data: bool
    from_prior: bool
    tolerance: float
    max_iterations: int
    adjoint: LinearSolve


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
    adjoint: LinearSolve | None = None,
) -> MeanField:
    """Mean-field inference of independent rows x in a mixture; see csrc/mixture.

    Differentiable once in potentials, node and noise, and in offsets and degrees of
    freedom of the tails, by the implicit function theorem at the fixed point. The
    diagnostics of its linear solve come with `svae.autodiff.vjp.Cotangents`.

    Parameters
    ----------
    potentials : (init (K,) or (N, K), components (K, D D + D), constants (K,))
        Log potentials of the states of each row; J and h of x given each state; and
        the constant of each state.
    tails : (offsets (K,), degrees of freedom (K, Q), weights (Q,)), optional
        Given where x given a state is a Student-t: what is added to the evidence, and
        nodes and weights of a quadrature over nu.
    node : (J (N, D) or (N, D, D), h (N, D))
    noise : (N, S, D) array, optional
    told : (N,) array, optional
        1 for a row with data, 0 for one without; by default all have data.
    starts : (N, R, K) array, optional
        Probabilities of the states to start from.
    from_data, from_prior : bool
        Whether to start there, too.
    tolerance : float
        Largest change of a statistic at which a row has converged.
    max_iterations : int
    adjoint : LinearSolve, optional
        How to solve for the gradient; by default as exactly as the ascent.

    Returns
    -------
    MeanField
        The first three and half_log_det are constants.

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
    require_search(tolerance, max_iterations)
    arguments, told = mixture_arguments(potentials, tails, node, noise, told)
    if starts is not None:
        starts = as_array("starts", value_of(starts))
        sizes = len(value_of(arguments.node_h)), "R", len(value_of(arguments.constants))
        require_shape("starts", starts, sizes)
        require_all_finite({"starts": starts})
        (starts,) = contiguous([starts], [2])
    if not (from_data or from_prior or (starts is not None and starts.shape[1] > 0)):
        raise ValueError("nowhere to start: give starts, from_data or from_prior")
    if adjoint is None:
        adjoint = LinearSolve(tolerance, max_iterations)
    how = told, starts, bool(from_data), bool(from_prior), tolerance, max_iterations
    found = _mixture(_Search(*how, adjoint), *arguments)
    plain = value_of(found).parts
    results = [
        plain[k] if field in _CONSTANTS else found[k]
        for k, field in enumerate(MeanField._fields[: len(plain)])  # samples or not
    ]
    return MeanField(*results)


_CONSTANTS = ("fixed", "iterations", "residual", "half_log_det")


@primitive
def _mixture(search: _Search, *arguments: Array) -> Outputs:
    """Return the fields of `MeanField` that there are."""
    try:
        results = _core.mixture(
            *core_arguments(arguments, search.told),
            search.starts,
            search.from_data,
            search.from_prior,
            search.tolerance,
            search.max_iterations,
        )
    except Impossible as error:  # no potential forbids it: its evidence is -inf
        raise overflow("row", error.sequence) from None
    *numbers, potentials, samples = results  # of which -inf may be right
    if samples is None:
        require_no_overflow(numbers, "row")
        return Outputs.of((*numbers, potentials))
    require_no_overflow([*numbers, samples], "row")
    return Outputs.of(results)


def _mixture_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> Any:
    search, *arguments = args
    init, _, _, _, dofs, _, node_J, *_ = arguments

    def pull_back(outputs_bar: Any) -> Cotangents:
        if any(map(isbox, (outputs_bar, ans, *arguments))):
            raise NotImplementedError(
                "a mean field has one derivative; svae.reference.mixture has two"
            )
        found = MeanField(*ans.parts)
        bars = [outputs_bar[k] for k in range(3, len(ans.parts))]
        log_normalizer_bar, evidence_bar, _, second_moment_bar, mean_bar, *rest = bars
        states_bar, potentials_bar, *samples_bar = rest
        (
            init_bar,
            constants_bar,
            linear_bar,
            J_bar,
            h_bar,
            dofs_bar,
            noise_bar,
            iterations,
            residual,
        ) = _core.mixture_vjp(
            *core_arguments(arguments, search.told),
            packed(found.fixed),
            [
                packed(bar)
                for bar in (
                    log_normalizer_bar,
                    evidence_bar,
                    second_moment_bar,
                    mean_bar,
                    states_bar,
                    potentials_bar,
                )
            ],
            packed(samples_bar[0]) if samples_bar else None,
            search.adjoint.tolerance,
            search.adjoint.max_iterations,
        )
        if search.adjoint.watch is not None:
            search.adjoint.watch(residual)
        counted = found.fixed
        if search.told is not None:
            counted = counted * search.told[:, None]

        def components_bar() -> Array:
            # e = P E[f(x)], and s P are potentials of x
            features = joined(1, found.second_moment, found.mean)
            of_x = joined(1, J_bar, h_bar)
            return linear_bar.T @ features + counted.T @ of_x

        def node_J_bar() -> Array:
            # evidence = <J, E x x'> + h'E x, of which the kernel gives E's share
            bar = J_bar + evidence_bar[:, None, None] * found.second_moment
            return onp.diagonal(bar, axis1=-1, axis2=-2) if node_J.ndim == 2 else bar

        cotangents: dict[int, Callable[[], Array]] = {
            1: lambda: init_bar if init.ndim == 2 else init_bar.sum(axis=0),
            2: components_bar,
            3: lambda: constants_bar.sum(axis=0),
            # e = .. + b, and log Z_x has b's
            4: lambda: (linear_bar + log_normalizer_bar[:, None] * counted).sum(axis=0),
            5: lambda: dofs_bar.sum(axis=0).reshape(dofs.shape),
            7: node_J_bar,
            8: lambda: h_bar + evidence_bar[:, None] * found.mean,
            9: lambda: noise_bar,
        }
        return Cotangents(
            (cotangents[argnum]() for argnum in argnums),
            [Diagnostics(iterations, residual)],
        )

    return pull_back


defvjp_argnums(_mixture, _mixture_vjp)


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
    """Return what the adjoint kernel itself computes; see csrc/mixture/mixture_vjp.hpp.

    Parameters
    ----------
    potentials, tails, node, noise, told
        As in `mixture`, plain arrays.
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
    require_search(tolerance, max_iterations)
    arguments, told = mixture_arguments(potentials, tails, node, noise, told)
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
    require_shape("fixed", fixed, (len(arguments.node_h), len(arguments.constants)))
    require_all_finite({"fixed": fixed})
    return _core.mixture_vjp(
        *core_arguments(arguments, told),
        packed(fixed),
        [packed(bar) for bar in bars],
        None if samples_bar is None else packed(samples_bar),
        tolerance,
        max_iterations,
    )
