"""The Markov chain, compiled: an autograd primitive over the C++ core.

`svae.reference` defines these functions.  The kernels see potentials per sequence, with
a time axis of length 1 for those that all pairs share; what sequences share is
broadcast, and its statistics are summed, out here, where autograd knows the adjoint of
either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as onp

from svae import _core
from svae.autodiff.operations import value_of
from svae.kernels.arguments import (
    LARGEST_LOG_POTENTIAL,
    are_finite,
    as_array,
    as_arrays,
    as_lengths,
    contiguous,
    known_lengths,
    like,
    of_sequences,
    require_finite,
    require_init,
    require_node,
    require_pair,
    require_shape,
    warn_of_probabilities,
    wrong_shape,
)
from svae.kernels.chain_primitive import chain_primitive
from svae.types import Array, Integers

__all__ = [
    "checked_lengths",
    "markov_chain",
    "sample_markov_chain",
    "unchecked_markov_chain",
    "viterbi",
]

_OUTER = (1, 2, 2)  # axes; the others are contiguous


def markov_chain(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Log normalizer and expected statistics of a Markov chain over K states.

    The probability of a path is, up to its normalizer, the exponential of
    ``init[z_1]``, of ``pair[z_t, z_{t+1}]`` for every pair, and of ``node[t, z_t]`` for
    every node. Scaled forward and backward messages (Rabiner 1989, Eqs. 19-27), in log
    space where doubles are too narrow; differentiable in all potentials, the log
    normalizer twice. A potential of -inf forbids: its statistic and its cotangent are
    zero; probabilities below 1e-120 are given as zero.

    Parameters
    ----------
    init : (K,) or (N, K) log potentials
    pair : (K, K) or broadcastable to (N, T-1, K, K), [i, j] for i followed by j
    node : (N, T, K)
    lengths : (N,) integers in 1..T, optional
        What the arguments hold past a sequence's length is never read.

    Returns
    -------
    logZ : (N,)
    stats : (init, pair, node) probabilities of states and of pairs, each in the shape
        of its potential, summed over what is shared; zero past a length

    Raises
    ------
    ValueError
        If an argument has a wrong shape, or holds NaN, +inf or a finite number above
        1e300 in magnitude: sums of such along a path would be none.
    Impossible
        If no path of a sequence has positive probability.

    Warns
    -----
    UserWarning
        If `init` or `pair` looks like probabilities: none negative, with sums of one.
    """
    init, pair, node = as_arrays((init, pair, node), "init", "pair", "node")
    lengths = checked_lengths(init, pair, node, lengths, finite=True)
    try:
        return _results(_markov_chain_of_numbers, init, pair, node, lengths)
    except ValueError as error:
        failure = error
    checked_lengths(init, pair, node, lengths)  # the core has no names for arguments
    raise failure


def unchecked_markov_chain(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return what `markov_chain` does, of arrays that are known to be right.

    For loops that look at their arguments once: what is NaN stays so.
    """
    return _results(_markov_chain, init, pair, node, lengths)


def _results(
    chain: Callable[..., Any],
    init: Array,
    pair: Array,
    node: Array,
    lengths: Integers | None,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Return what a primitive says of these arguments, each statistic like its own."""
    N, T, _ = value_of(node).shape
    inputs = _per_sequence(init, pair, node)
    outputs = chain(known_lengths(lengths, N, T), *inputs)
    return outputs[0], (
        like(init, outputs[1]),
        like(pair, outputs[2]),
        like(node, outputs[3]),
    )


def viterbi(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[Integers, Array]:
    """Most likely path of every sequence (Rabiner 1989, Eqs. 30-35).

    Parameters and errors as in `markov_chain`. Not differentiable.

    Returns
    -------
    paths : (N, T) int64, -1 past the length; of equally likely states the lowest
    logprob : (N,) sum of the log potentials along the path
    """
    potentials = map(value_of, (init, pair, node))
    init, pair, node = as_arrays(potentials, "init", "pair", "node")
    lengths = checked_lengths(init, pair, node, lengths)
    init, pair, node = contiguous(_per_sequence(init, pair, node), _OUTER)
    return _core.viterbi(init, pair, node, lengths)


def sample_markov_chain(
    init: Array,
    pair: Array,
    node: Array,
    uniforms: Array,
    lengths: Integers | None = None,
) -> Integers:
    """Paths by backward sampling: z_t given z_{t+1} and the steps up to t.

    Parameters and errors as in `markov_chain`; not differentiable. `uniforms` (N, S, T)
    in [0, 1): uniforms[n, s, t] draws step t by inverting the distribution function,
    the smallest k with ``uniform * total < cumulative_k``.

    Returns
    -------
    paths : (N, S, T) int64, -1 past the length
    """
    potentials = map(value_of, (init, pair, node))
    init, pair, node = as_arrays(potentials, "init", "pair", "node")
    lengths = checked_lengths(init, pair, node, lengths)
    N, T, _ = node.shape
    uniforms = as_array("uniforms", value_of(uniforms))
    require_shape("uniforms", uniforms, (N, "S", T))
    require_finite("uniforms", uniforms, lengths, onp.arange(T), time_axis=2)
    live = onp.arange(T) < lengths[:, None, None]
    wrong = onp.argwhere(live & ((uniforms < 0) | (uniforms >= 1)))
    if wrong.size:
        index = tuple(wrong[0].tolist())
        raise ValueError(
            f"uniforms{list(index)} is {uniforms[index]}, wanted 0 <= uniform < 1"
        )
    init, pair, node = contiguous(_per_sequence(init, pair, node), _OUTER)
    (uniforms,) = contiguous([uniforms], [2])
    return _core.sample_markov_chain(init, pair, node, uniforms, lengths)


def filter_forward(
    init: Array, pair: Array, node: Array, lengths: Integers
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return what `svae.kernels.markov_filter` does, of arrays known to be right."""
    init, pair, node = contiguous(_per_sequence(init, pair, node), _OUTER)
    return _core.markov_filter(init, pair, node, lengths)


def checked_lengths(
    init: Array,
    pair: Array,
    node: Array,
    lengths: Integers | None,
    finite: bool = False,
) -> Integers:
    """Refuse malformed arguments of a chain, and return its lengths (N,).

    ``finite`` says that the numbers are known to be right, or will be looked at.
    """
    require_shape("node", node, ("N", "T", "K"))
    N, T, K = value_of(node).shape
    if T < 1 or K < 1:
        raise wrong_shape("node", node, "a step and a state at least")
    lengths = as_lengths(lengths, N, T)
    finite = finite or are_finite((init, pair, node), LARGEST_LOG_POTENTIAL)
    require_init("init", init, lengths, (K,), finite, log=True)
    require_pair("pair", pair, lengths, T, (K, K), finite, log=True)
    require_node("node", node, lengths, finite, log=True)
    warn_of_probabilities("init", init, 1)
    warn_of_probabilities("pair", pair, 2)
    return lengths


def _per_sequence(init: Array, pair: Array, node: Array) -> list[Array]:
    """Potentials as the core knows them, (N, K), (N, 1|T-1, K, K) and (N, T, K)."""
    N = len(value_of(node))
    return [of_sequences(init, N, 2), of_sequences(pair, N, 4), node]


def forward(
    lengths: Integers, *inputs: Array, limit: float | None = None
) -> tuple[Array, ...]:
    """Return log Z and statistics of potentials as the core knows them.

    Numbers beyond the ``limit``, but for -inf, are refused with a ValueError.
    """
    init, pair, node = contiguous(inputs, _OUTER)
    logZ, stats = _core.markov_chain(init, pair, node, lengths, limit)
    return (logZ, *stats)


def adjoint(
    lengths: Integers, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    """Return the cotangents of potentials, given those of their statistics."""
    init, pair, node = contiguous(inputs, _OUTER)
    stats_bar = contiguous(outputs_bar, _OUTER)
    return _core.markov_chain_vjp(init, pair, node, lengths, stats_bar)


_markov_chain = chain_primitive(forward, adjoint, 3)
_markov_chain_of_numbers = chain_primitive(
    partial(forward, limit=LARGEST_LOG_POTENTIAL), adjoint, 3
)
