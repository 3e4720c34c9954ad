"""A Gaussian chain whose pairs K states mix, compiled: an autograd primitive.

`svae.reference.switching_gaussian_chain` defines it.  The kernel mixes the parameters
of the states as it reads a step, and contracts the statistics of a pair as it has made
them: no array has matrices of every step.  All outputs but the samples are the gradient
of log Z in an input, hence

    cotangent of an input = logZ_bar * output + adjoint(cotangents of other outputs)

What few ask for is made for those: the sums over a state's steps, and the cotangent of
parameters, which cost as much as the chain itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums
from autograd.tracer import isbox

from svae import _core
from svae.autodiff.operations import cut, joined, per_sequence, value_of
from svae.autodiff.primitive import primitive
from svae.autodiff.tuples import Outputs
from svae.kernels.arguments import (
    are_finite,
    as_array,
    as_arrays,
    contiguous,
    known_lengths,
    like,
    of_sequences,
    packed,
    require_finite,
    require_init,
    require_shape,
    wrong_shape,
)
from svae.kernels.gaussian import as_nodes, use_lapack
from svae.types import VJP, Array, Integers

__all__ = ["switching_gaussian_chain", "unchecked_switching_gaussian_chain"]

NAMES = ("pairs J11", "pairs J12", "pairs J22", "pairs h1", "pairs h2")


def switching_gaussian_chain(
    init: Iterable[Array],
    pairs: Iterable[Array],
    weights: Array,
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array, Array | None]:
    """Gaussian chain whose pair potentials are mixtures of those of K states.

    What `gaussian_chain` returns of the pair potentials
    ``sum_k weights[n, t, k] * J[k]`` of every step, without arrays of these: mixed and
    contracted in registers.  Of affine dynamics states have linear terms
    ``h1'x_t + h2'x_{t+1}``, too.  Differentiable in all floating arguments, once.
    Weights that are one for one state and zero for the others give the digits of
    `gaussian_chain` with the matrices of these.

    Parameters
    ----------
    init : (J (D, D) or (N, D, D), h (D,) or (N, D))
    pairs : (J11, J12, J22) or (J11, J12, J22, h1, h2), (K, D, D) and (K, D) each
    weights : (N, T-1, K), such as probabilities
    node : (J (N, T, D) diagonal or (N, T, D, D), h (N, T, D))
    noise : (N, S, T, D) standard normal draws, optional
    lengths : (N,) integers in 1..T, optional
        What the arguments hold past a sequence's length is never read.

    Returns
    -------
    logZ : (N,)
    stats : those of `init`, `pairs` and `node` as `gaussian_chain` has them; those of
        `pairs` are (K, ...), summed over sequences and steps, times the weights of the
        state
    products : (N, T-1, K), the inner product of the parameters of a state with the
        statistics of a pair: the gradient of logZ in the weights
    samples : (N, S, T, D), None without noise

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds a number that is not finite.
    NotPositiveDefinite
        If the joint precision of a sequence is not positive definite.
    FloatingPointError
        If a result is too large for a float.
    """
    init = as_arrays(init, "init J", "init h")
    pairs = list(pairs) if isinstance(pairs, Iterable) else pairs
    count = 5 if isinstance(pairs, list) and len(pairs) == 5 else 3
    pairs = as_arrays(pairs, *NAMES[:count])
    node, noise, lengths = as_nodes(node, noise, lengths)
    weights = as_array("weights", weights)
    N, T, D = value_of(node[1]).shape
    finite = are_finite((*init, *pairs, weights))
    require_init("init J", init[0], lengths, (D, D), finite)
    require_init("init h", init[1], lengths, (D,), finite)
    require_shape("weights", weights, (N, T - 1, "K"))
    K = value_of(weights).shape[2]
    if K < 1:
        raise wrong_shape("weights", weights, "a state at least")
    for name, part, ndim in zip(NAMES, pairs, (2, 2, 2, 1, 1), strict=False):
        require_shape(name, part, (K, *(D,) * ndim))
        if not finite:
            require_finite(name, part, lengths)
    if not finite:
        require_finite("weights", weights, lengths, onp.arange(1, T))
    logZ, (of_init, sums, of_node), products, samples = (
        unchecked_switching_gaussian_chain(
            init, joined(1, *pairs), weights, node, noise, lengths, with_sums=True
        )
    )
    edges = [0, *accumulate(math.prod(value_of(part).shape[1:]) for part in pairs)]
    of_pairs = tuple(
        cut(sums, 1, edges[k], edges[k + 1]).reshape(value_of(part).shape)
        for k, part in enumerate(pairs)
    )
    return logZ, (of_init, of_pairs, of_node), products, samples


def unchecked_switching_gaussian_chain(
    init: Iterable[Array],
    rows: Array,
    weights: Array,
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
    *,
    with_sums: bool = False,
) -> tuple[Array, tuple[Any, Any, Any], Array, Array | None]:
    """Return what `switching_gaussian_chain` does, of arrays known to be right.

    ``rows`` (K, 3 D D) or (K, 3 D D + 2 D) has all parameters of a state one after the
    other, and so have its statistics, None unless they are asked for.
    """
    init, node = tuple(init), tuple(node)
    N, T, _ = value_of(node[1]).shape
    first = [of_sequences(x, N, n) for x, n in zip(init, (3, 2), strict=True)]
    inputs = [*first, *node, rows, weights] + ([] if noise is None else [noise])
    outputs = _chain(known_lengths(lengths, N, T), with_sums, *inputs)
    of_init = tuple(like(x, outputs[1 + k]) for k, x in enumerate(init))
    of_node = outputs[3], outputs[4]
    sums = outputs[5] if with_sums else None
    samples = None if noise is None else outputs[7]
    return outputs[0], (of_init, sums, of_node), outputs[6], samples


# Places among the inputs; each has an output at one more.
ROWS, WEIGHTS, NOISE = 4, 5, 6
_OUTER = (1, 1, 2, 2, 0, 2, 2)  # axes; the others are contiguous


def forward(
    lengths: Integers, with_sums: bool, *inputs: Array
) -> tuple[Array | None, ...]:
    """Return log Z and an output for every input, as the core knows them.

    That of rows is of every sequence, (N, K, F), or None.
    """
    nodes, rows, weights, noise = _as_read(inputs)
    logZ, stats, products, sums, samples = _core.switching_chain(
        nodes, rows, weights, noise, lengths, with_sums
    )
    return (logZ, *stats, sums, products, *([] if samples is None else [samples]))


def adjoint(
    lengths: Integers,
    inputs: Sequence[Array],
    outputs_bar: Sequence[Any],
    logZ_bar: Array,
    with_rows: bool,
) -> tuple[Any, ...]:
    """Return the cotangents of inputs, given those of all outputs.

    That of log Z goes into the one of rows alone, (N, K, F), or None.
    """
    nodes, rows, weights, noise = _as_read(inputs)
    nodes_bar, sums_bar, products_bar, samples_bar = _as_read(outputs_bar)
    if samples_bar is not None and not samples_bar.any():
        samples_bar = None
    of_statistics = None
    if with_rows:
        with onp.errstate(all="ignore"):  # past the lengths may be anything
            of_statistics = products_bar + per_sequence(logZ_bar, weights)
    nodes_bar, weights_bar, rows_bar, noise_bar = _core.switching_chain_vjp(
        nodes,
        rows,
        weights,
        noise,
        lengths,
        nodes_bar,
        products_bar,
        sums_bar if sums_bar.any() else None,
        of_statistics,
        samples_bar,
    )
    last = [] if noise is None else [noise_bar]
    return (*nodes_bar, rows_bar, weights_bar, *last)


def _as_read(arrays: Sequence[Array]) -> tuple[list[Array], Array, Array, Any]:
    """Return arrays as the core reads them: nodes, rows, weights, and noise if any."""
    use_lapack()
    read = contiguous(arrays, _OUTER)
    return read[:ROWS], packed(read[ROWS]), read[WEIGHTS], (*read, None)[NOISE]


@primitive
def _chain(lengths: Integers, with_sums: bool, *inputs: Array) -> Outputs:
    parts = list(forward(lengths, with_sums, *inputs))
    if with_sums:
        parts[1 + ROWS] = parts[1 + ROWS].sum(axis=0)  # type: ignore[union-attr]
    return Outputs(parts, [(len(parts[0]),), *(x.shape for x in inputs)])  # type: ignore[arg-type]


def _chain_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> VJP:
    lengths, _, *inputs = args
    wanted = [argnum - 2 for argnum in argnums]

    def pull_back(ans_bar: Outputs) -> list[Array]:
        logZ_bar, *outputs_bar = (ans_bar[k] for k in range(1 + len(inputs)))
        if any(map(isbox, (logZ_bar, *outputs_bar, *inputs))):
            raise NotImplementedError(
                "a switching chain has one derivative; svae.reference has more"
            )
        of_logZ = bool(logZ_bar.any())
        if any(bar.any() for bar in reversed(outputs_bar)):
            bars = list(adjoint(lengths, inputs, outputs_bar, logZ_bar, ROWS in wanted))
            if ROWS in wanted:
                bars[ROWS] = bars[ROWS].sum(axis=0)
        else:
            bars = [onp.zeros(x.shape) for x in inputs]
            if of_logZ and ROWS in wanted:
                sums: Any = forward(lengths, True, *inputs[:NOISE])[1 + ROWS]
                bars[ROWS] = onp.tensordot(logZ_bar, sums, 1)
        for k in wanted if of_logZ else ():
            if k not in (ROWS, NOISE):
                bars[k] = bars[k] + per_sequence(logZ_bar, ans[1 + k])
        return [bars[k] for k in wanted]

    return pull_back


defvjp_argnums(_chain, _chain_vjp)
