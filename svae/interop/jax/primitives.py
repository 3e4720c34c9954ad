"""The chains as primitives of JAX: forward and reverse mode, `jit` and `vmap`.

A chain has inputs: its potentials, and perhaps noise. It has outputs: the log
normalizer log Z, and one output of the shape of each input, the expected statistics and
the samples. Three primitives do all, as in `svae.kernels.chain_primitive`:

    chain     lengths, inputs            -> log Z, outputs
    tangent   lengths, inputs, inputs_dot  -> outputs_dot
    adjoint   lengths, inputs, outputs_bar -> inputs_bar

Statistics are the gradient of log Z, so d log Z = <statistics, inputs_dot> is written
in `jax.numpy`, and its second derivative is the first of the statistics. On potentials
tangent and adjoint are the same Hessian of log Z, and each is the other's transpose.
Neither is executed where only log Z is differentiated: the cotangents of the other
outputs are then zeros that JAX knows to be zero. (A `jax.custom_vjp` would have no
forward mode, and so no `jax.hessian`.)

Every operand has leading axes, as many as the lengths have: that of sequences, behind
those over which `jax.vmap` maps. Each is as long as the others' or one, for what is
shared. Outputs have all of them in full, so that each sequence has the cotangents of
its own statistics; what is shared is summed where it is known to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

__all__ = ["gaussian_chain", "markov_chain", "sample_markov_chain", "viterbi"]

Arrays = Sequence[Any]
_FLOAT, _INTEGER = np.dtype(np.float64), np.dtype(np.int64)


def _primitive(
    name: str,
    shapes_of: Callable[..., list[Any]],
    lowering: Callable[..., Any] | None = None,
) -> Primitive:
    """Make a primitive that is known to `jit` and `vmap`.

    ``shapes_of(*operands)`` are the shapes of its results, (shape, dtype) each; without
    a lowering it is a target of the library.
    """
    primitive = Primitive(f"svae_{name}")
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("shape",)))
    primitive.def_abstract_eval(
        lambda *operands, **parameters: [
            ShapedArray(shape, dtype)
            for shape, dtype in shapes_of(*operands, **parameters)
        ]
    )

    def batched(operands: Arrays, axes: Arrays, **parameters: Any) -> tuple[Any, Any]:
        moved = [
            jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(operands, axes, strict=True)
        ]
        results = primitive.bind(*moved, **parameters)
        return results, [0] * len(results)

    batching.primitive_batchers[primitive] = batched
    lowering = lowering or jax.ffi.ffi_lowering(f"svae_{name}")
    mlir.register_lowering(primitive, lowering, platform="cpu")
    return primitive


def _leading(operands: Arrays) -> tuple[int, ...]:
    """Return the leading axes of all operands, in full."""
    ndim = operands[0].ndim
    return np.broadcast_shapes(*(x.shape[:ndim] for x in operands))


def _shapes(leading: tuple[int, ...], arrays: Arrays) -> list[Any]:
    """Return the shapes of arrays with all leading axes in full."""
    ndim = len(leading)
    return [((*leading, *x.shape[ndim:]), _FLOAT) for x in arrays]


def _halves(operands: Arrays) -> tuple[Arrays, Arrays]:
    return operands[: len(operands) // 2], operands[len(operands) // 2 :]


def _vanishes(tangent: Any) -> bool:
    return isinstance(tangent, ad.Zero)


def _all_vanish(tangents: Arrays) -> bool:
    return all(map(_vanishes, tangents))


def _zeros(arrays: Arrays) -> list[Any]:
    return [ad.Zero(ShapedArray(x.shape, _FLOAT)) for x in arrays]


def _instantiated(tangents: Arrays, inputs: Arrays, ndim: int) -> list[Any]:
    """Return tangents or cotangents as arrays, zeros with leading axes of one."""
    return [
        jnp.zeros((1,) * ndim + x.shape[ndim:], _FLOAT) if _vanishes(dot) else dot
        for dot, x in zip(tangents, inputs, strict=True)
    ]


def _summed_like(x: Any, like: Any, ndim: int) -> Any:
    """Sum over those leading axes that ``like`` shares."""
    shared = [k for k in range(ndim) if like.shape[k] == 1 and x.shape[k] != 1]
    return jnp.sum(x, shared, keepdims=True) if shared else x


def _no_derivatives(arrays: Arrays) -> list[Any]:
    """Return arrays of these shapes that cannot be computed, if they are needed."""
    return [_no_derivative.bind(shape=x.shape)[0] for x in arrays]


_no_derivative = _primitive(
    "no_derivative",
    lambda shape: [(shape, _FLOAT)],
    lambda context, shape: jax.ffi.ffi_lowering("svae_no_derivative")(context),
)


def _chain(name: str, num_potentials: int, num_inputs: int) -> Primitive:
    """Make the primitives of a kind of chain, and return that of its forward pass."""

    def outputs_of_chain(lengths: Any, *inputs: Any) -> list[Any]:
        leading = _leading([lengths, *inputs])
        return [(leading, _FLOAT), *_shapes(leading, inputs)]

    def like_inputs(*operands: Any) -> list[Any]:
        return _shapes(_leading(operands), operands[1 : 1 + num_inputs])

    def tangent_pass(lengths: Any, *operands: Any) -> list[Any]:
        inputs, dots = _halves(operands)
        potentials_dot, noise = dots[:num_potentials], inputs[num_potentials:]
        no_bars = _instantiated(_zeros(noise), noise, lengths.ndim)
        outputs = adjoint.bind(lengths, *inputs, *potentials_dot, *no_bars)
        samples = outputs[num_potentials:]
        if any(x.size for x in samples):
            samples = _no_derivatives(samples)
        return [*outputs[:num_potentials], *samples]

    chain = _primitive(name, outputs_of_chain)
    adjoint = _primitive(f"{name}_vjp", like_inputs)
    lowering = mlir.lower_fun(tangent_pass, multiple_results=True)
    tangent = _primitive(f"{name}_tangent", like_inputs, lowering)

    def chain_jvp(primals: Arrays, tangents: Arrays) -> tuple[Any, Any]:
        lengths, *inputs = primals
        dots = tangents[1:]
        results = chain.bind(lengths, *inputs)
        if _all_vanish(dots):
            return results, _zeros(results)
        logZ, *outputs = results
        ndim = lengths.ndim
        terms = [
            jnp.sum(stat * dot, tuple(range(ndim, stat.ndim)))
            for stat, dot in zip(outputs[:num_potentials], dots, strict=False)
            if not _vanishes(dot)
        ]
        logZ_dot = sum(terms[1:], terms[0]) if terms else _zeros([logZ])[0]
        dots = _instantiated(dots, inputs, ndim)
        return results, [logZ_dot, *tangent.bind(lengths, *inputs, *dots)]

    ad.primitive_jvps[chain] = chain_jvp
    for one, other in ((tangent, adjoint), (adjoint, tangent)):
        _define_linear(one, other)
    return chain


def _define_linear(one: Primitive, other: Primitive) -> None:
    """Differentiate a pass, linear in its last operands; another is its transpose."""

    def jvp(primals: Arrays, tangents: Arrays) -> tuple[Any, Any]:
        lengths, *operands = primals
        inputs, _ = _halves(operands)
        inputs_dot, dots = _halves(tangents[1:])
        results = one.bind(lengths, *operands)
        if not _all_vanish(inputs_dot):
            return results, _no_derivatives(results)
        if _all_vanish(dots):
            return results, _zeros(results)
        dots = _instantiated(dots, inputs, lengths.ndim)
        return results, one.bind(lengths, *inputs, *dots)

    def transpose(bars: Arrays, lengths: Any, *operands: Any) -> list[Any]:
        inputs, linear = _halves(operands)
        none = [None] * (1 + len(inputs))
        wanted = [ad.is_undefined_primal(x) for x in linear]
        if _all_vanish(bars):
            zeros = [
                ad.Zero(x.aval) if want else None
                for x, want in zip(linear, wanted, strict=True)
            ]
            return [*none, *zeros]
        ndim = lengths.ndim
        found = other.bind(lengths, *inputs, *_instantiated(bars, inputs, ndim))
        return none + [
            _summed_like(bar, x.aval, ndim) if want else None
            for bar, x, want in zip(found, linear, wanted, strict=True)
        ]

    ad.primitive_jvps[one] = jvp
    ad.primitive_transposes[one] = transpose


def _paths_of(lengths: Any, *operands: Any) -> list[Any]:
    leading, node = _leading([lengths, *operands]), operands[2]
    return [((*leading, node.shape[-2]), _INTEGER), (leading, _FLOAT)]


def _samples_of(lengths: Any, *operands: Any) -> list[Any]:
    leading, uniforms = _leading([lengths, *operands]), operands[3]
    return [((*leading, *uniforms.shape[-2:]), _INTEGER)]


gaussian_chain = _chain("gaussian_chain", 7, 8)
"""lengths, init J, init h, J11, J12, J22, node J, node h, noise
-> log Z, seven statistics, samples."""
markov_chain = _chain("markov_chain", 3, 3)
"""lengths, init, pair, node -> log Z, three statistics."""
viterbi = _primitive("viterbi", _paths_of)
"""lengths, init, pair, node -> paths, their log probabilities."""
sample_markov_chain = _primitive("sample_markov_chain", _samples_of)
"""lengths, init, pair, node, uniforms -> paths."""
