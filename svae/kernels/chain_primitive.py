"""Differentiable functions from the kernels of an exponential family.

A chain has inputs: its potentials, and perhaps noise. It has outputs: the log
normalizer log Z, and one output of the shape of each input, the expected statistics of
the potentials and the samples that the noise made. Expected statistics are the gradient
of log Z, hence

    cotangent of an input = logZ_bar * statistic + adjoint(cotangents of other outputs)

and on statistics the adjoint is the Hessian of log Z, which is symmetric: its own
adjoint is the same kernel again. That gives log Z two derivatives, every output one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums
from autograd.tracer import isbox

from svae.autodiff.operations import per_sequence, value_of
from svae.autodiff.primitive import primitive
from svae.autodiff.tuples import Outputs, Unavailable
from svae.types import Array

__all__ = [
    "chain_primitive",
]


def chain_primitive(
    forward: Callable[..., tuple[Array, ...]],
    adjoint: Callable[..., tuple[Array, ...]],
    num_potentials: int,
) -> Callable[..., Any]:
    """Make a function differentiable by its adjoint.

    Parameters
    ----------
    forward : callable
        ``forward(lengths, *inputs) -> (logZ (N,), *outputs)``, as many as inputs.
    adjoint : callable
        ``adjoint(lengths, inputs, outputs_bar) -> inputs_bar``, tuples of arrays.
    num_potentials : int
        How many of the inputs are potentials; the outputs of these are statistics.

    Returns
    -------
    callable
        ``chain(lengths, *inputs)``, which returns `Outputs`: what `forward` does.
    """

    @primitive
    def chain(lengths: Array, *inputs: Array) -> Outputs:
        return Outputs.of(forward(lengths, *inputs))

    @primitive
    def chain_vjp(lengths: Array, *inputs_and_bars: Array) -> Outputs:
        inputs, outputs_bar = _halves(inputs_and_bars)
        if _all_zero(outputs_bar):
            return Outputs.of(onp.zeros(x.shape) for x in inputs)
        return Outputs.of(adjoint(lengths, inputs, outputs_bar))

    def first_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> Any:
        lengths, *inputs = args

        def vjp(ans_bar: Outputs) -> tuple[Array, ...]:
            logZ_bar, outputs_bar = ans_bar[0], _items(ans_bar, len(inputs), 1)
            of_logZ, through = not _vanishes(logZ_bar), None
            if not all(map(_vanishes, reversed(outputs_bar))):
                through = chain_vjp(lengths, *inputs, *outputs_bar)

            def cotangent(k: int) -> Array:
                bar = _zeros_like(inputs[k]) if through is None else through[k]
                if k >= num_potentials or not of_logZ:
                    return bar
                along = per_sequence(logZ_bar, ans[1 + k])
                return along if through is None else bar + along

            return tuple(cotangent(argnum - 1) for argnum in argnums)

        return vjp

    def second_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> Any:
        lengths, *inputs_and_bars = args
        inputs, outputs_bar = _halves(inputs_and_bars)
        potentials, noise = inputs[:num_potentials], inputs[num_potentials:]

        def vjp(inputs_bar_bar: Outputs) -> tuple[Array | Unavailable, ...]:
            directions = _items(inputs_bar_bar, len(inputs), 0)
            hessian_product = None
            if any(0 < argnum - len(inputs) <= len(potentials) for argnum in argnums):
                zeros = [_zeros_like(x) for x in noise]
                of_potentials = directions[:num_potentials]
                hessian_product = chain_vjp(lengths, *inputs, *of_potentials, *zeros)

            def cotangent(k: int) -> Array | Unavailable:
                if k < len(inputs):
                    _refuse_third_derivative(outputs_bar, directions)
                    return _zeros_like(inputs[k])
                k -= len(inputs)
                if hessian_product is not None and k < num_potentials:
                    return hessian_product[k]
                return _tangent_of_samples(inputs[k], directions)

            return tuple(cotangent(argnum - 1) for argnum in argnums)

        return vjp

    defvjp_argnums(chain, first_vjp)
    defvjp_argnums(chain_vjp, second_vjp)
    return chain


def _halves(items: Sequence[Array]) -> tuple[Sequence[Array], Sequence[Array]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


def _items(container: Outputs, count: int, first: int) -> list[Array]:
    return [container[first + k] for k in range(count)]


def _zeros_like(x: Array) -> Array:
    return onp.zeros(value_of(x).shape)


def _vanishes(x: Array) -> bool:
    """Zero, and not because a variable happens to be zero."""
    return not isbox(x) and not x.any()


def _all_zero(arrays: Sequence[Array]) -> bool:
    # the last are those that most often are not
    return not any(value_of(x).any() for x in reversed(arrays))


_NO_DERIVATIVE = (
    "a chain's statistics and samples have one derivative, its log normalizer has two; "
    "svae.reference has derivatives of any order"
)


def _refuse_third_derivative(
    outputs_bar: Sequence[Array], directions: Sequence[Array]
) -> None:
    if not _all_zero(outputs_bar) and not _all_zero(directions):
        raise NotImplementedError(_NO_DERIVATIVE)


def _tangent_of_samples(
    samples_bar: Array, directions: Sequence[Array]
) -> Array | Unavailable:
    """Tangent of samples, which no kernel computes.

    Autograd asks for it also where it drops it, beside the second derivative of log Z,
    so it is refused only where it is used.
    """
    if _all_zero(directions):
        return _zeros_like(samples_bar)
    return Unavailable(_NO_DERIVATIVE)
