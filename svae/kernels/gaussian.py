"""The Gaussian chain, compiled: an autograd primitive over the C++ core.

`svae.reference.gaussian_chain` defines it.  A chain is an exponential family, and
`svae.kernels.chain_primitive` turns its kernel and the adjoint into a differentiable
function.

The kernel sees potentials per sequence, with a time axis of length 1 for those that all
pairs share; what sequences share is broadcast, and its statistics are summed, out here,
where autograd knows the adjoint of either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as onp

from svae import _core
from svae.autodiff.operations import value_of
from svae.kernels.arguments import (
    LARGEST,
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
    wrong_shape,
)
from svae.kernels.chain_primitive import chain_primitive
from svae.types import Array, Integers, Potentials

__all__ = ["as_chain", "as_nodes", "gaussian_chain", "unchecked_gaussian_chain"]


@cache
def use_lapack() -> None:
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
    lengths: Integers | None = None,
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
    chain = as_chain(init, pair, node, noise, lengths, finite=True)
    try:
        return _results(_gaussian_chain_of_numbers, *chain)
    except ValueError as error:
        failure = error
    as_chain(*chain)  # the core does not know what to call an argument
    raise failure


def as_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
    finite: bool = False,
) -> tuple[list[Array], list[Array], Potentials, Array | None, Integers]:
    """Check what `gaussian_chain` is given, and convert it; errors are its own.

    ``finite`` says that the numbers are known to be right, or will be looked at.
    """
    init = as_arrays(init, "init J", "init h")
    pair = as_arrays(pair, "pair J11", "pair J12", "pair J22")
    node, noise, lengths = as_nodes(node, noise, lengths, finite)
    _, T, D = value_of(node[1]).shape
    finite = finite or are_finite((*init, *pair))
    require_init("init J", init[0], lengths, (D, D), finite)
    require_init("init h", init[1], lengths, (D,), finite)
    require_pair("pair J11", pair[0], lengths, T, (D, D), finite)
    require_pair("pair J12", pair[1], lengths, T, (D, D), finite)
    require_pair("pair J22", pair[2], lengths, T, (D, D), finite)
    return init, pair, node, noise, lengths


def as_nodes(
    node: Iterable[Array],
    noise: Array | None,
    lengths: Integers | None,
    finite: bool = False,
) -> tuple[Potentials, Array | None, Integers]:
    """Check what `gaussian_chain` is given of every step, and convert it.

    ``finite`` as in `as_chain`.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or holds a number that is not finite, by name,
        sequence and step.
    """
    J, h = as_arrays(node, "node J", "node h")
    require_shape("node h", h, ("N", "T", "D"))
    N, T, D = value_of(h).shape
    if T < 1 or D < 1:
        raise wrong_shape("node h", h, "a step and a dimension at least")
    require_shape("node J", J, (N, T, D), (N, T, D, D))
    lengths = as_lengths(lengths, N, T)
    known = finite or are_finite((J, h))
    require_node("node J", J, lengths, known)
    require_node("node h", h, lengths, known)
    if noise is not None:
        noise = as_array("noise", noise)
        require_shape("noise", noise, (N, "S", T, D))
        if not (finite or are_finite([noise])):
            require_finite("noise", noise, lengths, onp.arange(T), time_axis=2)
    return (J, h), noise, lengths


def unchecked_gaussian_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array | None]:
    """Return what `gaussian_chain` does, of arrays that are known to be right.

    For loops that have looked at their arguments once, with `as_nodes`.
    """
    return _results(_gaussian_chain, init, pair, node, noise, lengths)


def _results(
    chain: Callable[..., Any],
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None,
    lengths: Integers | None,
) -> tuple[Array, tuple[Any, Any, Any], Array | None]:
    """Return what a primitive says of these arguments, each statistic like its own."""
    potentials = (*init, *pair, *node)
    N, T, _ = value_of(potentials[-1]).shape
    inputs = _per_sequence(potentials)
    if noise is not None:
        inputs.append(noise)
    outputs = chain(known_lengths(lengths, N, T), *inputs)
    stats = [like(x, outputs[1 + k]) for k, x in enumerate(potentials)]
    samples = None if noise is None else outputs[8]
    return outputs[0], (tuple(stats[:2]), tuple(stats[2:5]), tuple(stats[5:])), samples


def filter_forward(
    potentials: Sequence[Array], lengths: Integers
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Return what `svae.kernels.gaussian_filter` does, of arrays known to be right."""
    use_lapack()
    read, _ = _as_read(_per_sequence(potentials))
    return _core.gaussian_filter(read, lengths)


def _per_sequence(potentials: Sequence[Array]) -> list[Array]:
    """Return potentials with an axis of sequences, nodes as they are."""
    num_sequences = len(value_of(potentials[-1]))
    init_and_pair = zip(potentials[:5], (3, 2, 4, 4, 4), strict=True)
    first = [of_sequences(x, num_sequences, ndim) for x, ndim in init_and_pair]
    return [*first, *potentials[5:]]


_OUTER = (1, 1, 2, 2, 2, 2, 2, 2)  # axes; the others are contiguous


def forward(
    lengths: Integers, *inputs: Array, limit: float | None = None
) -> tuple[Array, ...]:
    """Return log Z, statistics and samples of inputs as the core knows them.

    Numbers beyond the ``limit`` are refused, if there is one, with a ValueError.
    """
    use_lapack()
    potentials, noise = _as_read(inputs)
    logZ, stats, samples = _core.gaussian_chain(potentials, noise, lengths, limit)
    return (logZ, *stats) if samples is None else (logZ, *stats, samples)


def adjoint(
    lengths: Integers, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    """Return the cotangents of inputs, given those of statistics and samples."""
    use_lapack()
    potentials, noise = _as_read(inputs)
    stats_bar, samples_bar = _as_read(outputs_bar)
    if samples_bar is not None and not samples_bar.any():
        samples_bar = None
    potentials_bar, noise_bar = _core.gaussian_chain_vjp(
        potentials, noise, lengths, stats_bar, samples_bar
    )
    if noise_bar is None:
        return (*potentials_bar,)
    return (*potentials_bar, noise_bar)


def _as_read(arrays: Sequence[Array]) -> tuple[list[Array], Array | None]:
    """Return arrays as the core reads them: seven, and the eighth if there is one."""
    read = contiguous(arrays, _OUTER)
    return read[:7], read[7] if len(read) > 7 else None


_gaussian_chain = chain_primitive(forward, adjoint, 7)
_gaussian_chain_of_numbers = chain_primitive(
    partial(forward, limit=LARGEST), adjoint, 7
)
