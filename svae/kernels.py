"""The chains, compiled: autograd primitives over the C++ core.

The same functions as in `svae.reference`, which defines them. A chain is an exponential
family, and `svae.primitives` turns its kernel and the adjoint into a differentiable
function.

The kernels see potentials per sequence, with a time axis of length 1 for those shared by
all pairs; what is shared by sequences is broadcast, and its statistics summed, out here,
where autograd knows the adjoint of either. Only this module imports `svae._core`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.tracer import isbox
from numpy.typing import NDArray

from svae import _core, _lapack
from svae._core import get_num_threads, isa, set_num_threads
from svae.primitives import chain_primitive, value_of

__all__ = [
    "gaussian_chain",
    "get_num_threads",
    "isa",
    "markov_chain",
    "sample_markov_chain",
    "set_num_threads",
    "viterbi",
]

Array = Any  # a NumPy array, or autograd's box around one

_core.use_lapack(**_lapack.addresses())


def gaussian_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array | None]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    The density, up to its normalizer, is the exponential of ``<J, x_1 x_1'> + h'x_1`` for
    `init`, of ``<J11, x_t x_t'> + x_t' J12 x_{t+1} + <J22, x_{t+1} x_{t+1}'>`` for every
    pair, and of ``<J_t, x_t x_t'> + h_t'x_t`` for every node: J is minus half a precision.
    Information filter and Rauch-Tung-Striebel smoother; differentiable in all floating
    arguments, the log normalizer twice.

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
    """
    init = _arrays(init, "init J", "init h")
    pair = _arrays(pair, "pair J11", "pair J12", "pair J22")
    node = _arrays(node, "node J", "node h")
    _require_shape("node h", node[1], ("N", "T", "D"))
    N, T, D = node[1].shape
    if T < 1 or D < 1:
        raise _wrong_shape("node h", node[1], "a step and a dimension at least")
    _require_shape("node J", node[0], (N, T, D), (N, T, D, D))
    lengths = _lengths(lengths, N, T)

    inputs = [
        _init_input("init J", init[0], lengths, (D, D)),
        _init_input("init h", init[1], lengths, (D,)),
        _pair_input("pair J11", pair[0], lengths, T, (D, D)),
        _pair_input("pair J12", pair[1], lengths, T, (D, D)),
        _pair_input("pair J22", pair[2], lengths, T, (D, D)),
        _node_input("node J", node[0], lengths),
        _node_input("node h", node[1], lengths),
    ]
    if noise is not None:
        noise = _array("noise", noise)
        _require_shape("noise", noise, (N, "S", T, D))
        _require_finite("noise", noise, lengths, onp.arange(T), time_axis=2)
        inputs.append(noise)

    outputs = _gaussian_chain(lengths, *inputs)
    potentials = (*init, *pair, *node)
    stats = [_like(x, outputs[1 + k]) for k, x in enumerate(potentials)]
    samples = None if noise is None else outputs[8]
    return outputs[0], (tuple(stats[:2]), tuple(stats[2:5]), tuple(stats[5:])), samples


_GAUSSIAN_OUTER = (1, 1, 2, 2, 2, 2, 2, 2)  # axes; the others are contiguous


def _gaussian_forward(lengths: Array, *inputs: Array) -> tuple[Array, ...]:
    *potentials, noise = _gaussian_rows(inputs)
    logZ, stats, samples = _core.gaussian_chain(*potentials, noise, lengths)
    return (logZ, *stats) if noise is None else (logZ, *stats, samples)


def _gaussian_adjoint(
    lengths: Array, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    *potentials, noise = _gaussian_rows(inputs)
    *stats_bar, samples_bar = _gaussian_rows(outputs_bar)
    if samples_bar is not None and not samples_bar.any():
        samples_bar = None
    potentials_bar, noise_bar = _core.gaussian_chain_vjp(
        *potentials, noise, lengths, stats_bar, samples_bar
    )
    return tuple(potentials_bar) if noise is None else (*potentials_bar, noise_bar)


def _gaussian_rows(arrays: Sequence[Array]) -> list[Array | None]:
    """Arrays as the core reads them, the eighth None if it is missing."""
    rows = _contiguous(arrays, _GAUSSIAN_OUTER)
    return rows if len(rows) == 8 else [*rows, None]


def _contiguous(arrays: Sequence[Array], outer_axes: Sequence[int]) -> list[Array]:
    """Arrays of any strides in the outer axes, contiguous in the others."""
    return [
        x if x.flags.aligned and _is_contiguous_inside(x, outer) else x.copy()
        for x, outer in zip(arrays, outer_axes, strict=False)
    ]


def _is_contiguous_inside(x: Array, outer: int) -> bool:
    return x.size == 0 or bool(x[(0,) * outer].flags.c_contiguous)


_gaussian_chain = chain_primitive(_gaussian_forward, _gaussian_adjoint, 7)


def markov_chain(
    init: Array, pair: Array, node: Array, lengths: Array | None = None
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Log normalizer and expected statistics of a Markov chain over K states.

    The probability of a path is, up to its normalizer, the exponential of
    ``init[z_1]``, of ``pair[z_t, z_{t+1}]`` for every pair, and of ``node[t, z_t]`` for
    every node. Filter and smoother in log space (Rabiner 1989, Eqs. 19-27);
    differentiable in all potentials, the log normalizer twice. A potential of -inf
    forbids: its statistic and its cotangent are zero.

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
        If an argument has a wrong shape or holds NaN or +inf.
    Impossible
        If no path of a sequence has positive probability.
    """
    potentials = _arrays((init, pair, node), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    outputs = _markov_chain(lengths, *inputs)
    init_stat, pair_stat, node_stat = (
        _like(x, outputs[1 + k]) for k, x in enumerate(potentials)
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
    potentials = _arrays(map(value_of, (init, pair, node)), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    init, pair, node = _contiguous(inputs, _MARKOV_OUTER)
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
    potentials = _arrays(map(value_of, (init, pair, node)), "init", "pair", "node")
    lengths, inputs = _markov_inputs(potentials, lengths)
    N, T, _ = inputs[2].shape
    uniforms = _array("uniforms", value_of(uniforms))
    _require_shape("uniforms", uniforms, (N, "S", T))
    _require_finite("uniforms", uniforms, lengths, onp.arange(T), time_axis=2)
    live = onp.arange(T) < lengths[:, None, None]
    wrong = onp.argwhere(live & ((uniforms < 0) | (uniforms >= 1)))
    if wrong.size:
        index = tuple(wrong[0].tolist())
        raise ValueError(
            f"uniforms{list(index)} is {uniforms[index]}, wanted 0 <= uniform < 1"
        )
    init, pair, node, uniforms = _contiguous((*inputs, uniforms), _MARKOV_OUTER)
    return _core.sample_markov_chain(init, pair, node, uniforms, lengths)


_MARKOV_OUTER = (1, 2, 2, 2)


def _markov_inputs(
    potentials: Sequence[Array], lengths: Array | None
) -> tuple[Array, list[Array]]:
    """Lengths (N,); potentials (N, K), (N, 1|T-1, K, K), (N, T, K)."""
    init, pair, node = potentials
    _require_shape("node", node, ("N", "T", "K"))
    N, T, K = node.shape
    if T < 1 or K < 1:
        raise _wrong_shape("node", node, "a step and a state at least")
    lengths = _lengths(lengths, N, T)
    inputs = [
        _init_input("init", init, lengths, (K,), log=True),
        _pair_input("pair", pair, lengths, T, (K, K), log=True),
        _node_input("node", node, lengths, log=True),
    ]
    return lengths, inputs


def _markov_forward(lengths: Array, *inputs: Array) -> tuple[Array, ...]:
    init, pair, node = _contiguous(inputs, _MARKOV_OUTER)
    logZ, stats = _core.markov_chain(init, pair, node, lengths)
    return (logZ, *stats)


def _markov_adjoint(
    lengths: Array, inputs: Sequence[Array], outputs_bar: Sequence[Array]
) -> tuple[Array, ...]:
    init, pair, node = _contiguous(inputs, _MARKOV_OUTER)
    stats_bar = _contiguous(outputs_bar, _MARKOV_OUTER)
    return _core.markov_chain_vjp(init, pair, node, lengths, stats_bar)


_markov_chain = chain_primitive(_markov_forward, _markov_adjoint, 3)


def _init_input(
    name: str, x: Array, lengths: Array, event: tuple[int, ...], *, log: bool = False
) -> Array:
    """Potential of the first step, (N, *event)."""
    N = len(lengths)
    _require_shape(name, x, event, (N, *event))
    _require_finite(name, x, lengths, log=log)
    return x if x.ndim > len(event) else _repeat(np.reshape(x, (1, *event)), N)


def _pair_input(
    name: str,
    x: Array,
    lengths: Array,
    num_timesteps: int,
    event: tuple[int, ...],
    *,
    log: bool = False,
) -> Array:
    """Potential of the pairs, (N, 1|T-1, *event)."""
    N, pairs = len(lengths), num_timesteps - 1
    leads = [(), (N, pairs), (N, 1), (1, pairs), (1, 1)]
    _require_shape(name, x, *((*lead, *event) for lead in leads))
    stepped = x if x.ndim > len(event) else np.reshape(x, (1, 1, *event))
    _require_finite(name, stepped, lengths, onp.arange(1, num_timesteps), log=log)
    return _repeat(stepped, N)


def _node_input(name: str, x: Array, lengths: Array, *, log: bool = False) -> Array:
    _require_finite(name, x, lengths, onp.arange(x.shape[1]), log=log)
    return x


def _repeat(x: Array, num_sequences: int) -> Array:
    """View (1 | N, ...) as (N, ...); autograd wants equally many axes."""
    if x.shape[0] == num_sequences:
        return x
    return np.broadcast_to(x, (num_sequences, *x.shape[1:]))


def _like(potential: Array, stat: Array) -> Array:
    """Sum a statistic over the sequences that share its potential."""
    if stat.shape == potential.shape:
        return stat
    return np.reshape(np.sum(stat, 0), potential.shape)


def _arrays(values: Iterable[Array], *names: str) -> list[Array]:
    """Arrays of float64, one for each name; boxes stay boxes."""
    values = list(values)
    if len(values) != len(names):
        raise ValueError(f"got {len(values)} arrays, wanted {', '.join(names)}")
    return [_array(name, value) for name, value in zip(names, values, strict=True)]


def _array(name: str, value: Array) -> Array:
    if not isbox(value):
        try:
            value = onp.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} is not an array: {error}") from error
    if value.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {value.dtype}, wanted real numbers")
    return value if value.dtype == onp.float64 else value.astype(onp.float64)


def _lengths(lengths: Any, num_sequences: int, num_timesteps: int) -> Array:
    """Lengths (N,), those of all steps by default."""
    if lengths is None:
        return onp.full(num_sequences, num_timesteps, onp.int64)
    lengths = onp.asarray(lengths)
    if lengths.shape != (num_sequences,):
        raise _wrong_shape("lengths", lengths, f"({num_sequences},)")
    if lengths.dtype.kind not in "iu":
        raise ValueError(f"lengths has dtype {lengths.dtype}, wanted integers")
    wrong = onp.flatnonzero((lengths < 1) | (lengths > num_timesteps))
    if wrong.size:
        n = wrong[0]
        raise ValueError(f"lengths[{n}] is {lengths[n]}, wanted 1 to {num_timesteps}")
    return onp.ascontiguousarray(lengths, onp.int64)


def _require_shape(name: str, x: Array, *shapes: tuple[Any, ...]) -> None:
    """Refuse an array of none of the shapes, whose letters stand for any size."""
    for shape in shapes:
        if len(shape) == x.ndim and all(
            isinstance(want, str) or want == got
            for want, got in zip(shape, x.shape, strict=True)
        ):
            return
    raise _wrong_shape(name, x, " or ".join(map(_shape_text, shapes)))


def _shape_text(shape: tuple[Any, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _wrong_shape(name: str, x: Array, wanted: str) -> ValueError:
    return ValueError(f"{name} has shape {_shape_text(x.shape)}, wanted {wanted}")


def _require_finite(
    name: str,
    x: Array,
    lengths: Array,
    steps: Array | None = None,
    time_axis: int = 1,
    *,
    log: bool = False,
) -> None:
    """Refuse NaN and infinities; with `steps` of time, only those within the lengths.

    In the log of a potential -inf is as good as a finite number.
    """
    array = value_of(x)
    with onp.errstate(over="ignore", invalid="ignore"):
        total = onp.sum(array)
    if onp.isfinite(total) or (log and total < onp.inf):
        return
    wrong = ~(array < onp.inf) if log else ~onp.isfinite(array)
    if steps is not None:
        live = onp.expand_dims(
            steps < lengths[:, None],
            tuple(a for a in range(1, array.ndim) if a != time_axis),
        )
        for axis in (0, time_axis):
            if array.shape[axis] == 1:  # shared: read if any sequence, any step does
                live = live.any(axis, keepdims=True)
        wrong &= live
    if wrong.any():
        index = tuple(onp.argwhere(wrong)[0].tolist())
        wanted = "finite numbers or -inf" if log else "finite numbers"
        raise ValueError(f"{name}{list(index)} is {array[index]}, wanted {wanted}")
