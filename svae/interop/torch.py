"""The chains in PyTorch: custom operators over the compiled kernels.

Functions have the names, the arguments and the meaning of those of `svae.kernels`, on
float64 tensors of the CPU, which are not copied.  Each is one operator of the
namespace ``svae``: one node of a graph of `torch.compile`, known to `torch.vmap` and to
autograd, which finds second derivatives of log normalizers too.

>>> import torch
>>> from svae.interop.torch import markov_chain
>>> init = torch.zeros(2, dtype=torch.float64, requires_grad=True)
>>> pair = torch.tensor([[0.7, 0.3], [0.3, 0.7]], dtype=torch.float64).log()
>>> node = torch.tensor([[[0.9, 0.2], [0.9, 0.2]]], dtype=torch.float64).log()
>>> logZ, _ = markov_chain(init, pair, node)
>>> logZ.sum().backward()
>>> init.grad
tensor([0.8834, 0.1166], dtype=torch.float64)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from svae import kernels
from svae.interop.rules import (
    GAUSSIAN_CHAIN,
    GAUSSIAN_CHAIN_WITH_SAMPLES,
    MARKOV_CHAIN,
    NO_DERIVATIVE,
    Chain,
    event,
)
from svae.kernels.arguments import wrong_shape

__all__ = ["gaussian_chain", "markov_chain", "sample_markov_chain", "viterbi"]


def gaussian_chain(
    init: Iterable[Any],
    pair: Iterable[Any],
    node: Iterable[Any],
    noise: Any = None,
    lengths: Any = None,
) -> tuple[Tensor, tuple[Any, Any, Any], Tensor | None]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    `svae.kernels.gaussian_chain` has parameters, results and errors.  The log
    normalizer has two derivatives, everything else one.

    Raises
    ------
    ValueError
        Also if a tensor is not of float64, or not on the CPU.
    """
    values = *_several(init, "init J, h"), *_several(pair, "pair J11, J12, J22")
    values = *values, *_several(node, "node J, h")
    chain = GAUSSIAN_CHAIN
    if noise is not None:
        chain, values = GAUSSIAN_CHAIN_WITH_SAMPLES, (*values, noise)
    logZ, *outputs = _call(chain, values, lengths)
    stats = tuple(outputs[:2]), tuple(outputs[2:5]), tuple(outputs[5:7])
    return logZ, stats, None if noise is None else outputs[7]


def markov_chain(
    init: Any, pair: Any, node: Any, lengths: Any = None
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Log normalizer and expected statistics of a Markov chain over K states.

    `svae.kernels.markov_chain` has parameters, results and errors.  The log normalizer
    has two derivatives, statistics have one.

    Raises
    ------
    ValueError
        Also if a tensor is not of float64, or not on the CPU.
    """
    logZ, *stats = _call(MARKOV_CHAIN, (init, pair, node), lengths)
    return logZ, (stats[0], stats[1], stats[2])


def viterbi(
    init: Any, pair: Any, node: Any, lengths: Any = None
) -> tuple[Tensor, Tensor]:
    """Most likely path of every sequence; `svae.kernels.viterbi`.

    Nothing is differentiable.
    """
    inputs = _tensors(MARKOV_CHAIN, (init, pair, node))
    paths, logprob = _viterbi(*inputs, _as_lengths(lengths, inputs[-1]))
    return paths, logprob


def sample_markov_chain(
    init: Any, pair: Any, node: Any, uniforms: Any, lengths: Any = None
) -> Tensor:
    """Paths by backward sampling; `svae.kernels.sample_markov_chain`.

    Nothing is differentiable.
    """
    inputs = _tensors(MARKOV_CHAIN, (init, pair, node))
    uniforms = _float64("uniforms", uniforms)
    return _sample_markov_chain(*inputs, uniforms, _as_lengths(lengths, inputs[-1]))


def _several(values: Iterable[Any], names: str) -> Sequence[Any]:
    """Return as many values as there are names."""
    values = list(values)
    if len(values) != names.count(",") + 1:
        raise ValueError(f"got {len(values)} tensors, wanted {names}")
    return values


def _float64(name: str, x: Any) -> Tensor:
    """Return a tensor of float64 on the CPU; refuse other tensors."""
    if not isinstance(x, Tensor):
        return torch.as_tensor(x, dtype=torch.float64)
    if x.dtype != torch.float64:
        raise ValueError(
            f"{name} has dtype {x.dtype}, wanted torch.float64: pass it as .double()"
        )
    if x.device.type not in ("cpu", "meta"):
        raise ValueError(f"{name} is on {x.device}, wanted the CPU: pass it as .cpu()")
    return x


def _as_lengths(lengths: Any, node: Tensor) -> Tensor:
    """Return lengths (N,), those of all steps by default."""
    if lengths is None:
        return torch.full(node.shape[:1], node.shape[1], dtype=torch.int64)
    return torch.as_tensor(lengths)


def _tensors(chain: Chain, values: Iterable[Any]) -> list[Tensor]:
    """Return tensors with the axes that the rules want, without copies."""
    tensors = []
    for name, ndim, x in zip(chain.inputs, chain.ndims, values, strict=True):
        x = _float64(name, x)
        missing = ndim - x.ndim
        events = (1, 2) if ndim == 4 else (1,)  # without sequences, or steps either
        if ndim and missing and (missing not in events or name in _PER_SEQUENCE):
            raise wrong_shape(name, x, f"{ndim} axes")
        tensors.append(x.reshape((1,) * max(missing, 0) + tuple(x.shape)))
    if tensors[chain.last_node].ndim != 3:
        raise wrong_shape(chain.inputs[chain.last_node], tensors[-1], "three axes")
    return tensors


_PER_SEQUENCE = {"node", "node_J", "node_h", "noise", "uniforms"}


def _call(chain: Chain, values: Iterable[Any], lengths: Any) -> list[Tensor]:
    """Return what an operator says of these values, each statistic like its own."""
    values = [_float64(name, x) for name, x in zip(chain.inputs, values, strict=True)]
    inputs = _tensors(chain, values)
    operator = _OPERATORS[chain.name]
    logZ, *outputs = operator(*inputs, _as_lengths(lengths, inputs[chain.last_node]))
    return [logZ, *(_like(x, y) for x, y in zip(values, outputs, strict=True))]


def _like(potential: Tensor, stat: Tensor) -> Tensor:
    """Sum a statistic over the sequences that share its potential."""
    if stat.shape == potential.shape:
        return stat
    return stat.sum(0).reshape(potential.shape)


def _arrays(tensors: Iterable[Tensor]) -> list[Any]:
    return [x.numpy() for x in tensors]


def _from_arrays(arrays: Iterable[Any]) -> tuple[Tensor, ...]:
    return tuple(map(torch.from_numpy, arrays))


def _schema(inputs: Iterable[str], num_outputs: int) -> str:
    arguments = ", ".join(f"Tensor {name}" for name in inputs)
    return f"({arguments}) -> ({', '.join(['Tensor'] * num_outputs)})"


def _operator(
    name: str,
    inputs: Sequence[str],
    num_outputs: int,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    shared: int,
    node: int,
    derivative: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Define an operator, and return what calls it.

    Parameters
    ----------
    name : str
    inputs : sequence of str
        Names of tensors which have an axis of sequences each.
    num_outputs : int
    function, fake : callable
        Of the tensors: results, and empty tensors of their shapes.
    shared : int
        How many of the first inputs may have one sequence instead of all.
    node : int
        Which input tells how many sequences there are.
    derivative : (backward, setup_context), optional
    """
    define = torch.library.custom_op(
        f"svae::{name}",
        mutates_args=(),
        device_types="cpu",
        schema=_schema(inputs, num_outputs),
    )
    operator = define(function)
    operator.register_fake(fake)

    def vmap(info: Any, in_dims: Sequence[int | None], *tensors: Tensor) -> Any:
        """Make the batch a part of the sequences."""
        B = info.batch_size
        pairs = list(zip(tensors, in_dims, strict=True))
        moved = [x if dim is None else x.movedim(dim, 0) for x, dim in pairs]
        N = moved[node].shape[0 if in_dims[node] is None else 1]

        def merged(k: int) -> Tensor:
            x = moved[k]
            if in_dims[k] is None:
                if k < shared and len(x) == 1:
                    return x
                x = x.expand(B, *x.shape)
            return x.expand(B, N, *x.shape[2:]).flatten(0, 1)

        outputs = call(*map(merged, range(len(tensors))))
        if num_outputs == 1:
            return outputs.unflatten(0, (B, N)), 0
        return tuple(x.unflatten(0, (B, N)) for x in outputs), (0,) * num_outputs

    operator.register_vmap(vmap)
    if derivative is not None:
        operator.register_autograd(derivative[0], setup_context=derivative[1])

    class Function(torch.autograd.Function):  # type: ignore[misc]
        """What `torch.func` differentiates, which refuses operators with a backward."""

        @staticmethod
        def forward(*tensors: Tensor) -> Any:
            return call(*tensors)

    if derivative is not None:
        Function.backward, Function.setup_context = map(staticmethod, derivative)
        Function.vmap = staticmethod(vmap)

    def call(*tensors: Tensor) -> Any:
        if derivative and torch._C._are_functorch_transforms_active():
            return Function.apply(*tensors)
        return operator(*tensors)

    return call


def _chain(chain: Chain) -> Any:
    """Define the operators of a chain and of its adjoint, and say what is whose."""
    count, potentials = len(chain.inputs), chain.num_potentials
    shared = potentials - (2 if "node_J" in chain.inputs else 1)
    bars = [f"{name}_bar" for name in chain.inputs]

    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        *inputs, lengths = _arrays(tensors)
        return _from_arrays(chain.forward(inputs, lengths))

    def fake(*tensors: Tensor) -> tuple[Tensor, ...]:
        shapes = chain.shapes([x.shape for x in tensors[:count]])
        return tuple(tensors[0].new_empty(shape) for shape in shapes)

    def adjoint(*tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, lengths, outputs_bar = _parted(_arrays(tensors))
        return _from_arrays(chain.adjoint(inputs, outputs_bar, lengths))

    def adjoint_fake(*tensors: Tensor) -> tuple[Tensor, ...]:
        return fake(*tensors)[1:]

    def _parted(tensors: Sequence[Any]) -> tuple[Any, Any, Any]:
        return tensors[:count], tensors[count], tensors[count + 1 :]

    def keep(ctx: Any, inputs: Any, output: Any) -> None:  # by these names
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1 : 1 + potentials])

    def backward(ctx: Any, logZ_bar: Any, *outputs_bar: Any) -> Any:
        inputs, lengths, stats = _parted(ctx.saved_tensors)
        through = [None] * count
        if any(bar is not None for bar in outputs_bar):
            N = len(inputs[chain.last_node])
            full = [
                x.new_zeros((N, *x.shape[1:])) if bar is None else bar
                for x, bar in zip(inputs, outputs_bar, strict=True)
            ]
            through = call_adjoint(*inputs, lengths, *full)

        def cotangent(k: int) -> Tensor | None:
            if not ctx.needs_input_grad[k]:
                return None
            bar = through[k]
            if bar is not None and len(bar) != len(inputs[k]):
                bar = bar.sum(0, keepdim=True)
            if k >= potentials or logZ_bar is None:
                return bar
            of_logZ = _weighted(logZ_bar, stats[k], len(inputs[k]))
            return of_logZ if bar is None else bar + of_logZ

        return (*map(cotangent, range(count)), None)

    def keep_adjoint(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    def adjoint_backward(ctx: Any, *directions: Any) -> Any:
        inputs, lengths, outputs_bar = _parted(ctx.saved_tensors)
        nothing = (None,) * (2 * count + 1)
        if all(x is None for x in directions):
            return nothing
        needed = ctx.needs_input_grad
        if any(needed[:count]) and any(bool(bar.any()) for bar in outputs_bar):
            raise NotImplementedError(NO_DERIVATIVE)
        if any(needed[count + 1 + potentials :]):
            raise NotImplementedError(NO_DERIVATIVE)
        full = [
            torch.zeros_like(bar) if k >= potentials or direction is None else direction
            for k, (bar, direction) in enumerate(
                zip(outputs_bar, directions, strict=True)
            )
        ]
        products = call_adjoint(*inputs, lengths, *full)[:potentials]
        return (*nothing[: count + 1], *products, *nothing[count + 1 + potentials :])

    place = shared, chain.last_node
    names = [*chain.inputs, "lengths"]
    call_adjoint = _operator(
        f"{chain.name}_vjp",
        [*names, *bars],
        count,
        adjoint,
        adjoint_fake,
        *place,
        derivative=(adjoint_backward, keep_adjoint),
    )
    return _operator(
        chain.name, names, 1 + count, forward, fake, *place, derivative=(backward, keep)
    )


def _weighted(scale: Tensor, x: Tensor, length: int) -> Tensor:
    """Scale each sequence's (N, ...); sum over all if their input has but one."""
    if length != len(x):
        return torch.tensordot(scale, x, dims=1)[None]
    return scale.reshape((-1,) + (1,) * (x.ndim - 1)) * x


_OPERATORS = {
    chain.name: _chain(chain)
    for chain in (GAUSSIAN_CHAIN, GAUSSIAN_CHAIN_WITH_SAMPLES, MARKOV_CHAIN)
}


def _paths(node: Tensor, *leads: Any) -> Tensor:
    return node.new_empty(leads, dtype=torch.int64)


_viterbi = _operator(
    "viterbi",
    (*MARKOV_CHAIN.inputs, "lengths"),
    2,
    lambda *tensors: _from_arrays(kernels.viterbi(*_events(_arrays(tensors)))),
    lambda init, pair, node, lengths: (
        _paths(node, *node.shape[:2]),
        node.new_empty(node.shape[:1]),
    ),
    2,
    2,
)
_sample_markov_chain = _operator(
    "sample_markov_chain",
    (*MARKOV_CHAIN.inputs, "uniforms", "lengths"),
    1,
    lambda *tensors: torch.from_numpy(
        kernels.sample_markov_chain(*_events(_arrays(tensors)))
    ),
    lambda init, pair, node, uniforms, lengths: _paths(node, *uniforms.shape),
    2,
    2,
)


def _events(arrays: list[Any]) -> list[Any]:
    """Return arrays with the first potential as a kernel takes it."""
    return [event(arrays[0]), *arrays[1:]]
