"""The chains, compiled: autograd primitives over the C++ core.

The same functions as in `svae.reference`, which defines them. A chain is an exponential
family, and `svae.kernels.chain_primitive` turns its kernel and the adjoint into a
differentiable function.

The kernels see potentials per sequence, with a time axis of length 1 for those that all
pairs share; what sequences share is broadcast, and its statistics are summed, out here,
where autograd knows the adjoint of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as onp
from numpy.typing import NDArray

from svae import _core
from svae.autodiff.operations import value_of
from svae.kernels.arguments import (
    LARGEST_LOG_POTENTIAL,
    are_finite,
    as_array,
    as_arrays,
    as_lengths,
    contiguous,
    init_input,
    like,
    node_input,
    pair_input,
    require_finite,
    require_no_overflow,
    require_shape,
    warn_of_probabilities,
    wrong_shape,
)
from svae.kernels.chain_primitive import chain_primitive

__all__ = [
    "gaussian_chain",
    "markov_chain",
    "sample_markov_chain",
    "viterbi",
]


Array = Any  # a NumPy array, or autograd's box around one


@cache
def _use_lapack() -> None:
    """Give the core SciPy's LAPACK, before its first call that may have use for it.

    It is half of what there is to import, and not for everyone.
    """
    from svae import _lapack

    _core.use_lapack(**_lapack.addresses())


def gaussian_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array | None]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    The density is, up to its normalizer, the exponential of ``<J, x_1 x_1'> + h'x_1``
    for `init`, of ``<J11, x_t x_t'> + x_t' J12 x_{t+1} + <J22, x_{t+1} x_{t+1}'>`` for
    every pair, and of ``<J_t, x_t x_t'> + h_t'x_t`` for every node: J is minus half a
    precision. Information filter and Rauch-Tung-Striebel smoother; differentiable in
    all floating arguments, the log normalizer twice.

    Parameters
    ----------
    init : (J (D, D) or (N, D, D), h (D,) or (N, D))
    pair : (J11, J12, J22), each (D, D) or broadcastable to (N, T-1, D, D)
    node : (J (N, T, D) diagonal or (N, T, D, D), h (N, T, D))
    noise : (N, S, T, D) standard normal draws, optional
    lengths : (N,) integers in 1..T, optional
        What the arguments hold past a sequence's length is never read.

    Returns
    -------
    logZ : (N,)
    stats : ((ExxT, Ex), (ExxT, ExxnT, ExnxnT), (ExxT or its diagonal, Ex)), each in the
        shape of its potential, summed over what is shared; zero past a length
    samples : (N, S, T, D), mean + L^-T noise with L the lower Cholesky factor of the
        joint precision in time order; None without noise

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
    pair = as_arrays(pair, "pair J11", "pair J12", "pair J22")
    node = as_arrays(node, "node J", "node h")
    require_shape("node h", node[1], ("N", "T", "D"))
    N, T, D = value_of(node[1]).shape
    if T < 1 or D < 1:
        raise wrong_shape("node h", node[1], "a step and a dimension at least")
    require_shape("node J", node[0], (N, T, D), (N, T, D, D))
    lengths = as_lengths(lengths, N, T)

    potentials = (*init, *pair, *node)
    finite = are_finite(potentials)
    inputs = [
        init_input("init J", init[0], lengths, (D, D), finite),
        init_input("init h", init[1], lengths, (D,), finite),
        pair_input("pair J11", pair[0], lengths, T, (D, D), finite),
        pair_input("pair J12", pair[1], lengths, T, (D, D), finite),
        pair_input("pair J22", pair[2], lengths, T, (D, D), finite),
        node_input("node J", node[0], lengths, finite),
        node_input("node h", node[1], lengths, finite),
    ]
    if noise is not None:
        noise = as_array("noise", noise)
        require_shape("noise", noise, (N, "S", T, D))
        if not are_finite([noise]):
            require_finite("noise", noise, lengths, onp.arange(T), time_axis=2)
        inputs.append(noise)

    outputs = _gaussian_chain(lengths, *inputs)
    stats = [like(x, outputs[1 + k]) for k, x in enumerate(potentials)]
    samples = None if noise is None else outputs[8]
    return outputs[0], (tuple(stats[:2]), tuple(stats[2:5]), tuple(stats[5:])), samples


_GAUSSIAN_OUTER = (1, 1, 2, 2, 2, 2, 2, 2)  # axes; the others are contiguous


def _gaussian_forward(lengths: Array, *inputs: Array) -> tuple[Array, ...]:
    _use_lapack()
    *potentials, noise = _gaussian_rows(inputs)
    logZ, stats, samples = _core.gaussian_chain(potentials, noise, lengths)
    # E x_i^2 bounds all moments but sums over pairs, which are as few as sequences
    squares = stats[5] if stats[5].ndim == 3 else onp.einsum("ntdd->ntd", stats[5])
    sums = [stat for stat in stats[2:5] if stat.shape[1] == 1]
    require_no_overflow([logZ, squares, *sums, *([] if noise is None else [samples])])
    return (logZ, *stats) if noise is None else (logZ, *stats, samples)


def _gaussian_adjoint(
    lengths: Array, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    _use_lapack()
    *potentials, noise = _gaussian_rows(inputs)
    *stats_bar, samples_bar = _gaussian_rows(outputs_bar)
    if samples_bar is not None and not samples_bar.any():
        samples_bar = None
    potentials_bar, noise_bar = _core.gaussian_chain_vjp(
        potentials, noise, lengths, stats_bar, samples_bar
    )
    return (*potentials_bar,) if noise is None else (*potentials_bar, noise_bar)


def _gaussian_rows(arrays: Sequence[Array]) -> list[Any]:
    """Arrays as the core reads them, the eighth None if it is missing."""
    rows = contiguous(arrays, _GAUSSIAN_OUTER)
    return rows if len(rows) == 8 else [*rows, None]


_gaussian_chain = chain_primitive(_gaussian_forward, _gaussian_adjoint, 7)


def markov_chain(
    init: Array, pair: Array, node: Array, lengths: Array | None = None
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
    potentials = as_arrays((init, pair, node), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    outputs = _markov_chain(lengths, *inputs)
    init_stat, pair_stat, node_stat = (
        like(x, outputs[1 + k]) for k, x in enumerate(potentials)
    )
    return outputs[0], (init_stat, pair_stat, node_stat)


def viterbi(
    init: Array, pair: Array, node: Array, lengths: Array | None = None
) -> tuple[NDArray[onp.int64], NDArray[onp.float64]]:
    """Most likely path of every sequence (Rabiner 1989, Eqs. 30-35).

    Parameters and errors as in `markov_chain`. Not differentiable.

    Returns
    -------
    paths : (N, T) int64, -1 past the length; of equally likely states the lowest
    logprob : (N,) sum of the log potentials along the path
    """
    potentials = as_arrays(map(value_of, (init, pair, node)), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    init, pair, node = contiguous(inputs, _MARKOV_OUTER)
    return _core.viterbi(init, pair, node, lengths)


def sample_markov_chain(
    init: Array,
    pair: Array,
    node: Array,
    uniforms: Array,
    lengths: Array | None = None,
) -> NDArray[onp.int64]:
    """Paths by backward sampling: z_t given z_{t+1} and the steps up to t.

    Parameters and errors as in `markov_chain`; not differentiable. `uniforms` (N, S, T)
    in [0, 1): uniforms[n, s, t] draws step t by inverting the distribution function,
    the smallest k with ``uniform * total < cumulative_k``.

    Returns
    -------
    paths : (N, S, T) int64, -1 past the length
    """
    potentials = as_arrays(map(value_of, (init, pair, node)), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    N, T, _ = inputs[2].shape
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
    init, pair, node, uniforms = contiguous((*inputs, uniforms), _MARKOV_OUTER)
    return _core.sample_markov_chain(init, pair, node, uniforms, lengths)


_MARKOV_OUTER = (1, 2, 2, 2)


def _markov_inputs(
    potentials: Sequence[Array], lengths: Array | None
) -> tuple[Array, list[Array]]:
    """Lengths (N,); potentials (N, K), (N, 1|T-1, K, K), (N, T, K)."""
    init, pair, node = potentials
    require_shape("node", node, ("N", "T", "K"))
    N, T, K = value_of(node).shape
    if T < 1 or K < 1:
        raise wrong_shape("node", node, "a step and a state at least")
    lengths = as_lengths(lengths, N, T)
    finite = are_finite(potentials, LARGEST_LOG_POTENTIAL)
    inputs = [
        init_input("init", init, lengths, (K,), finite, log=True),
        pair_input("pair", pair, lengths, T, (K, K), finite, log=True),
        node_input("node", node, lengths, finite, log=True),
    ]
    warn_of_probabilities("init", init, 1)
    warn_of_probabilities("pair", pair, 2)
    return lengths, inputs


def _markov_forward(lengths: Array, *inputs: Array) -> tuple[Array, ...]:
    init, pair, node = contiguous(inputs, _MARKOV_OUTER)
    logZ, stats = _core.markov_chain(init, pair, node, lengths)
    return (logZ, *stats)


def _markov_adjoint(
    lengths: Array, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    init, pair, node = contiguous(inputs, _MARKOV_OUTER)
    stats_bar = contiguous(outputs_bar, _MARKOV_OUTER)
    return _core.markov_chain_vjp(init, pair, node, lengths, stats_bar)


_markov_chain = chain_primitive(_markov_forward, _markov_adjoint, 3)
