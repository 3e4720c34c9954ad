"""The chains on JAX's arrays: arguments refused by name, shared statistics summed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svae.interop.jax import primitives
from svae.kernels.arguments import (
    require_init,
    require_pair,
    require_shape,
    wrong_shape,
)

__all__ = ["gaussian_chain", "markov_chain", "sample_markov_chain", "viterbi"]

ArrayLike = Any
"""An array of JAX or of NumPy, or a tracer."""


def gaussian_chain(
    init: Iterable[ArrayLike],
    pair: Iterable[ArrayLike],
    node: Iterable[ArrayLike],
    noise: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> tuple[jax.Array, tuple[Any, Any, Any], jax.Array | None]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    `svae.kernels.gaussian_chain` says what they are. The log normalizer has two
    derivatives, in forward and in reverse mode; statistics have one, and samples have
    one in reverse mode.

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
    samples : (N, S, T, D); None without noise

    Raises
    ------
    RuntimeError
        If JAX computes in float32: see ``jax_enable_x64``.
    TypeError, ValueError
        If an argument is not of float64, or has a wrong shape.
    ValueError or jax.errors.JaxRuntimeError
        From XLA, in the call or when its result is waited for: if a number is not
        finite, if a result is too large for a float, or if the joint precision of a
        sequence is not positive definite. The message names the sequence, below the
        axes of `jax.vmap` if there are any, and the step.
    """
    init = as_arrays(init, "init J", "init h")
    pair = as_arrays(pair, "pair J11", "pair J12", "pair J22")
    J, h = node = as_arrays(node, "node J", "node h")
    require_shape("node h", h, ("N", "T", "D"))
    N, T, D = h.shape
    if T < 1 or D < 1:
        raise wrong_shape("node h", h, "a step and a dimension at least")
    require_shape("node J", J, (N, T, D), (N, T, D, D))
    lengths = as_lengths(lengths, N, T)
    every = np.full(N, T, np.int64)
    require_init("init J", init[0], every, (D, D), True)
    require_init("init h", init[1], every, (D,), True)
    for name, x in zip(("J11", "J12", "J22"), pair, strict=True):
        require_pair(f"pair {name}", x, every, T, (D, D), True)
    draws = jnp.zeros((1, 0, T, D))
    if noise is not None:
        (draws,) = as_arrays([noise], "noise")
        require_shape("noise", draws, (N, "S", T, D))
    potentials = [*init, *pair, *node]
    inputs = [
        *_per_sequence(init, [3, 2]),
        *_per_sequence(pair, [4, 4, 4]),
        *node,
        draws,
    ]
    logZ, *outputs = primitives.gaussian_chain.bind(lengths, *inputs)
    stats = [_like(x, stat) for x, stat in zip(potentials, outputs, strict=False)]
    samples = None if noise is None else outputs[7]
    return logZ, (tuple(stats[:2]), tuple(stats[2:5]), tuple(stats[5:])), samples


def markov_chain(
    init: ArrayLike,
    pair: ArrayLike,
    node: ArrayLike,
    lengths: ArrayLike | None = None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Log normalizer and expected statistics of a Markov chain over K states.

    `svae.kernels.markov_chain` says what they are; derivatives and errors as in
    `gaussian_chain`. It does not warn of potentials that look like probabilities.

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
    """
    potentials, operands = _markov_operands(init, pair, node, lengths)
    logZ, *outputs = primitives.markov_chain.bind(*operands)
    of_init, of_pair, of_node = map(_like, potentials, outputs)
    return logZ, (of_init, of_pair, of_node)


def viterbi(
    init: ArrayLike,
    pair: ArrayLike,
    node: ArrayLike,
    lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Most likely path of every sequence.

    Parameters and errors as in `markov_chain`. Not differentiable: its results are
    constants.

    Returns
    -------
    paths : (N, T) int64, -1 past the length; of equally likely states the lowest
    logprob : (N,) sum of the log potentials along the path
    """
    _, operands = _markov_operands(init, pair, node, lengths)
    paths, logprob = primitives.viterbi.bind(*map(jax.lax.stop_gradient, operands))
    return paths, logprob


def sample_markov_chain(
    init: ArrayLike,
    pair: ArrayLike,
    node: ArrayLike,
    uniforms: ArrayLike,
    lengths: ArrayLike | None = None,
) -> jax.Array:
    """Paths by backward sampling: z_t given z_{t+1} and the steps up to t.

    Parameters and errors as in `markov_chain`; not differentiable. `uniforms` (N, S, T)
    in [0, 1) draw as `svae.kernels.sample_markov_chain` says.

    Returns
    -------
    paths : (N, S, T) int64, -1 past the length
    """
    potentials, operands = _markov_operands(init, pair, node, lengths)
    N, T, _ = potentials[2].shape
    (uniforms,) = as_arrays([uniforms], "uniforms")
    require_shape("uniforms", uniforms, (N, "S", T))
    fixed = map(jax.lax.stop_gradient, [*operands, uniforms])
    (paths,) = primitives.sample_markov_chain.bind(*fixed)
    return paths


def _markov_operands(
    init: ArrayLike, pair: ArrayLike, node: ArrayLike, lengths: ArrayLike | None
) -> tuple[list[Any], list[Any]]:
    """Return potentials as they are given, and lengths and potentials per sequence."""
    potentials = as_arrays((init, pair, node), "init", "pair", "node")
    init, pair, node = potentials
    require_shape("node", node, ("N", "T", "K"))
    N, T, K = node.shape
    if T < 1 or K < 1:
        raise wrong_shape("node", node, "a step and a state at least")
    every = np.full(N, T, np.int64)
    require_init("init", init, every, (K,), True)
    require_pair("pair", pair, every, T, (K, K), True)
    return potentials, [
        as_lengths(lengths, N, T),
        *_per_sequence([init, pair], [2, 4]),
        node,
    ]


def as_arrays(values: Iterable[Any], *names: str) -> list[Any]:
    """Return arrays of float64, one for each name."""
    if not jax.config.jax_enable_x64:
        raise RuntimeError(
            "svae.interop.jax computes in float64, which JAX does not before "
            'jax.config.update("jax_enable_x64", True) or JAX_ENABLE_X64=1'
        )
    values = list(values)
    if len(values) != len(names):
        raise ValueError(f"got {len(values)} arrays, wanted {', '.join(names)}")
    return [as_array(name, x) for name, x in zip(names, values, strict=True)]


def as_array(name: str, value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        value = np.asarray(value)
        dtype = value.dtype
    if dtype == np.float64:
        return jnp.asarray(value)
    if dtype.kind in "biu":
        return jnp.asarray(value, np.float64)
    raise TypeError(
        f"{name} has dtype {dtype}, wanted float64: convert it, as in "
        f"x.astype(jnp.float64), where digits are not lost"
    )


def as_lengths(lengths: Any, num_sequences: int, num_timesteps: int) -> Any:
    """Return lengths (N,), or (1,) if all sequences have all steps."""
    if lengths is None:
        return jnp.full(1, num_timesteps, np.int64)
    lengths = jnp.asarray(lengths)
    require_shape("lengths", lengths, (num_sequences,))
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths has dtype {lengths.dtype}, wanted integers")
    return lengths.astype(np.int64)


def _per_sequence(potentials: Sequence[Any], ndims: Sequence[int]) -> list[Any]:
    """Return potentials with an axis of sequences, and pairs with one of steps."""
    return [
        x if x.ndim == ndim else x.reshape((1,) * (ndim - x.ndim) + x.shape)
        for x, ndim in zip(potentials, ndims, strict=True)
    ]


def _like(potential: Any, stat: Any) -> Any:
    """Sum a statistic over the sequences that share its potential."""
    if stat.shape == potential.shape:
        return stat
    return stat.sum(0).reshape(potential.shape)
