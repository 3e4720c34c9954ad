"""Mean-field inference of independent points in a mixture, and its derivative.

Block coordinate ascent and its implicit derivative are one kernel each: csrc/mixture
has their equations. `svae.reference.mixture` defines both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as onp
from autograd.extend import defvjp_argnums
from autograd.tracer import isbox

from svae import _core
from svae.autodiff.operations import joined, value_of
from svae.autodiff.primitive import primitive
from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import Cotangents, Diagnostics
from svae.errors import Impossible, NotPositiveDefinite, overflow
from svae.kernels.arguments import (
    as_array,
    as_arrays,
    contiguous,
    packed,
    require_all_finite,
    require_no_overflow,
    require_shape,
)
from svae.kernels.mixture_arguments import (
    Arguments,
    as_points,
    core_arguments,
    draws_of_frames,
    draws_of_points,
    improper,
    mixture_arguments,
    over_frames,
    require_search,
)
from svae.reference import MeanField
from svae.types import VJP, Array, Potentials

__all__ = ["LinearSolve", "mixture", "mixture_vjp"]


class LinearSolve(NamedTuple):
    """How to solve the linear system in the gradient of a mean field."""

    tolerance: float
    """Relative residual at which it has converged."""
    max_iterations: int
    watch: Callable[[Array], None] | None = None
    """Called with the residuals (N,) that were reached: to warn of large ones."""


class _Search(NamedTuple):
    """What is constant in a call of `mixture`."""

    observed: Array | None
    starts: Array | None
    from_data: bool
    from_prior: bool
    tolerance: float
    max_iterations: int
    adjoint: LinearSolve


class _Bars(NamedTuple):
    """What the adjoint of the core returns, of points."""

    init: Array
    """(N, K)"""
    constants: Array
    """(N, K)"""
    evidence: Array
    """(N, K), of <J_k, E x x'> + h_k'E x"""
    J: Array
    """(N, D, D), of the potentials of x, but for `MeanField.evidence`"""
    h: Array
    """(N, D)"""
    dofs: Array
    """(N, K Q)"""
    noise: Array
    """(N, S, D)"""
    iterations: Array
    """(N,), of the linear solve"""
    residual: Array
    """(N,)"""


def mixture(
    potentials: tuple[Array, Array, Array],
    tails: tuple[Array, Array, Array] | None,
    node: Potentials,
    noise: Array | None,
    observed: Array | None,
    starts: Array | None,
    from_data: bool,
    from_prior: bool,
    tolerance: float,
    max_iterations: int,
    adjoint: LinearSolve | None = None,
) -> MeanField:
    """Mean-field inference of independent x in a mixture; see csrc/mixture.

    There is an x for each of N points, or for each of T frames of N sequences.

    Differentiable once in potentials, node and noise, and in offsets and degrees of
    freedom of the tails, by the implicit function theorem at the fixed point. The
    diagnostics of its linear solve come with `svae.autodiff.vjp.Cotangents`.

    Parameters
    ----------
    potentials : (init (K,) or (N, K), components (K, D D + D), constants (K,))
        Log potentials of the states, of all points, of each or of those of each
        sequence; J and h of x given each state; and the constant of each state.
    tails : (offsets (K,), degrees of freedom (K, Q), weights (Q,)), optional
        Given where x given a state is a Student-t: what is added to the evidence, and
        nodes and weights of a quadrature over nu.
    node : (J (..., D) or (..., D, D), h (..., D))
        Of points (N,) or of frames (N, T).
    noise : (N, S, D) or (N, S, T, D) array, optional
    observed : (...) array, optional
        1 for a point with data, 0 for one without; by default all have data.
    starts : (N, R, K) or (N, R, T, K) array, optional
        Probabilities of the states to start from.
    from_data, from_prior : bool
        Whether to start there, too.
    tolerance : float
        Largest change of a statistic at which a point has converged.
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
        If an argument has a wrong shape or holds what is no number, if ``observed`` is
        not 0 or 1, or if there is nowhere to start.
    NotPositiveDefinite
        If x of a point has no proper Gaussian.
    Impossible
        If no state of a point has positive probability.
    FloatingPointError
        If a result is too large for a float.
    """
    require_search(tolerance, max_iterations)
    arguments, observed = mixture_arguments(potentials, tails, node, noise, observed)
    if starts is not None:
        starts = as_array("starts", value_of(starts))
        N, *steps, _ = value_of(arguments.node_h).shape
        sizes = N, "R", *steps, len(value_of(arguments.constants))
        require_shape("starts", starts, sizes)
        require_all_finite({"starts": starts})
        (starts,) = contiguous([draws_of_points(starts, (N, *steps))], [2])
    if not (from_data or from_prior or (starts is not None and starts.shape[1] > 0)):
        raise ValueError("nowhere to start: give starts, from_data or from_prior")
    if adjoint is None:
        adjoint = LinearSolve(tolerance, max_iterations)
    how = observed, starts, bool(from_data), bool(from_prior), tolerance, max_iterations
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
    given = Arguments(*arguments)
    lead = given.node_h.shape[:-1]
    try:
        results = _core.mixture(
            *core_arguments(given, search.observed),
            search.starts,
            search.from_data,
            search.from_prior,
            search.tolerance,
            search.max_iterations,
        )
    except NotPositiveDefinite as error:
        raise improper(error.sequence, lead) from None
    except Impossible as error:  # no potential forbids it: its evidence is -inf
        raise overflow("row", error.sequence) from None
    *numbers, potentials, samples = results  # of which -inf may be right
    if samples is None:
        require_no_overflow(numbers, "row")
        results = *numbers, potentials
    else:
        require_no_overflow([*numbers, samples], "row")
    return Outputs.of(_of_frames(results, lead))


def _of_frames(results: Sequence[Array], lead: tuple[int, ...]) -> Iterator[Array]:
    """Yield the fields of a `MeanField` of points, of frames if the points are that."""
    for field, x in zip(MeanField._fields, results, strict=False):
        if field == "samples":
            yield draws_of_frames(x, lead)
        elif x.ndim > 1:
            yield x.reshape(*lead, *x.shape[1:])
        else:
            is_count = field in ("iterations", "residual")
            yield over_frames(x, lead, onp.max if is_count else onp.sum)


def _mixture_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any
) -> VJP:
    search, *arguments = args

    def pull_back(outputs_bar: Outputs) -> Cotangents:
        if any(map(isbox, (outputs_bar, ans, *arguments))):
            raise NotImplementedError(
                "a mean field has one derivative; svae.reference.mixture has two"
            )
        return _pull_back(
            argnums, search, Arguments(*arguments), MeanField(*ans.parts), outputs_bar
        )

    return pull_back


def _pull_back(
    argnums: Sequence[int],
    search: _Search,
    given: Arguments,
    found: MeanField,
    outputs_bar: Outputs,
) -> Cotangents:
    """Return cotangents of chosen arguments, which `_mixture` counts from one."""
    lead = given.node_h.shape[:-1]
    fixed, second_moment, mean = (
        as_points(x, lead) for x in (found.fixed, found.second_moment, found.mean)
    )
    log_normalizer_bar, of_node_bar, *bars = _bars_of_points(outputs_bar, lead)
    samples_bar = bars.pop() if given.noise is not None else None
    bar = _Bars(
        *_core.mixture_vjp(
            *core_arguments(given, search.observed),
            packed(fixed),
            [packed(x) for x in (log_normalizer_bar, of_node_bar, *bars)],
            None if samples_bar is None else packed(samples_bar),
            search.adjoint.tolerance,
            search.adjoint.max_iterations,
        )
    )
    solve = Diagnostics(
        *(over_frames(x, lead, onp.max) for x in (bar.iterations, bar.residual))
    )
    if search.adjoint.watch is not None:
        search.adjoint.watch(solve.residual)
    counted = fixed
    if search.observed is not None:
        counted = counted * search.observed.reshape(-1, 1)

    def init_bar() -> Array:
        if given.init.ndim == 1:
            return bar.init.sum(axis=0)
        return over_frames(bar.init, lead, onp.sum)

    def components_bar() -> Array:
        # e = P E[f(x)], and s P are potentials of x
        features, of_x = joined(1, second_moment, mean), joined(1, bar.J, bar.h)
        return bar.evidence.T @ features + counted.T @ of_x

    def dofs_bar() -> Array:
        assert given.dofs is not None
        return bar.dofs.sum(axis=0).reshape(given.dofs.shape)

    def offsets_bar() -> Array:
        # e = .. + b, and log Z_x has b's
        return (bar.evidence + log_normalizer_bar[:, None] * counted).sum(axis=0)

    def node_J_bar() -> Array:
        # evidence = <J, E x x'> + h'E x, of which the kernel gives E's share
        of_J = bar.J + of_node_bar[:, None, None] * second_moment
        if given.node_J.ndim == given.node_h.ndim:
            of_J = onp.diagonal(of_J, axis1=-1, axis2=-2)
        return of_J.reshape(given.node_J.shape)

    def node_h_bar() -> Array:
        return (bar.h + of_node_bar[:, None] * mean).reshape(given.node_h.shape)

    cotangents: dict[int, Callable[[], Array]] = {
        1: init_bar,
        2: components_bar,
        3: lambda: bar.constants.sum(axis=0),
        4: offsets_bar,
        5: dofs_bar,
        7: node_J_bar,
        8: node_h_bar,
        9: lambda: draws_of_frames(bar.noise, lead),
    }
    return Cotangents((cotangents[argnum]() for argnum in argnums), [solve])


def _bars_of_points(outputs_bar: Outputs, lead: tuple[int, ...]) -> Iterator[Array]:
    """Yield cotangents of log normalizer, evidence and what follows half_log_det."""
    for k, field in enumerate(MeanField._fields[: len(outputs_bar.shapes)]):
        if field in _CONSTANTS:
            continue
        bar = outputs_bar[k]
        if field == "samples":
            yield draws_of_points(bar, lead)
        elif bar.ndim > 1:
            yield as_points(bar, lead)
        else:
            yield bar if len(lead) == 1 else onp.repeat(bar, lead[1])


defvjp_argnums(_mixture, _mixture_vjp)


def mixture_vjp(
    potentials: tuple[Array, Array, Array],
    tails: tuple[Array, Array, Array] | None,
    node: Potentials,
    noise: Array | None,
    observed: Array | None,
    fixed: Array,
    outputs_bar: Sequence[Array],
    samples_bar: Array | None,
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, ...]:
    """Return what the adjoint kernel itself computes; see csrc/mixture/mixture_vjp.hpp.

    Parameters
    ----------
    potentials, tails, node, noise, observed
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
    arguments, observed = mixture_arguments(potentials, tails, node, noise, observed)
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
        *core_arguments(arguments, observed),
        packed(fixed),
        [packed(bar) for bar in bars],
        None if samples_bar is None else packed(samples_bar),
        tolerance,
        max_iterations,
    )
