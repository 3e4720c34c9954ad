"""The chains in PyTorch: custom operators over the compiled kernels.

Functions have the names, the arguments and the meaning of those of `svae.kernels` and
`svae.standard`, on float64 tensors of the CPU, which are not copied.  Each is one
operator of the namespace ``svae``: one node of a graph of `torch.compile`, known to
`torch.vmap`, `torch.func` and to autograd, which finds second derivatives of log
normalizers and log likelihoods too.

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
    HMM_LOG_LIKELIHOOD,
    HMM_SMOOTHER,
    KALMAN_SMOOTHER,
    KALMAN_SMOOTHER_WITH_INPUTS,
    LOG_LIKELIHOOD,
    LOG_LIKELIHOOD_WITH_INPUTS,
    MARKOV_CHAIN,
    NO_DERIVATIVE,
    Chain,
    Density,
    Moments,
    event,
    gaussian_arguments,
    gaussian_results,
)
from svae.kernels.arguments import wrong_shape
from svae.standard import HMMSmoothed, LinearGaussian, Smoothed
from svae.standard.records import check_effects, check_record

__all__ = [
    "gaussian_chain",
    "hmm_log_likelihood",
    "hmm_smoother",
    "kalman_smoother",
    "log_likelihood",
    "markov_chain",
    "sample_markov_chain",
    "viterbi",
]


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
    chain, values = gaussian_arguments(init, pair, node, noise)
    return gaussian_results(_call(chain, values, lengths))


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


def log_likelihood(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    form: str = "auto",
) -> Tensor:
    """Log likelihood of a linear-Gaussian state-space model, (N,), or () for y (T, P).

    `svae.standard.log_likelihood` has parameters and errors; the fields of ``params``
    may be tensors.  Two derivatives.
    """
    values = _state_space(params, y, u)
    density = LOG_LIKELIHOOD if u is None else LOG_LIKELIHOOD_WITH_INPUTS
    return _log_density(density, values, lengths, form)


def kalman_smoother(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    form: str = "auto",
) -> Smoothed:
    """Means and covariances of the states given all data.

    `svae.standard.kalman_smoother` has parameters, results and errors.  One derivative.
    """
    values = _state_space(params, y, u)
    moments = KALMAN_SMOOTHER if u is None else KALMAN_SMOOTHER_WITH_INPUTS
    found, is_single = _smoothed(moments, values, lengths, form)
    return Smoothed(*(x[0] if is_single else x for x in found))


def hmm_log_likelihood(
    start: Any, transition: Any, log_likelihoods: Any, lengths: Any = None
) -> Tensor:
    """Log likelihood of hidden Markov models, (N,), or () for data (T, K).

    `svae.standard.hmm_log_likelihood` has parameters and errors.  Two derivatives.
    """
    values = start, transition, log_likelihoods
    return _log_density(HMM_LOG_LIKELIHOOD, values, lengths, "")


def hmm_smoother(
    start: Any, transition: Any, log_likelihoods: Any, lengths: Any = None
) -> HMMSmoothed:
    """Probabilities of the states given all data, and expected transitions.

    `svae.standard.hmm_smoother` has parameters, results and errors; there are no
    probabilities of pairs.  One derivative.
    """
    values = start, transition, log_likelihoods
    (states, counts, total), is_single = _smoothed(HMM_SMOOTHER, values, lengths, "")
    if is_single:
        states, total = states[0], total[0]
    return HMMSmoothed(states, None, counts, total)


def _state_space(params: LinearGaussian, y: Any, u: Any) -> list[Any]:
    """Return arguments of a state-space model, of which B and D may be zero."""
    check_record(params)
    check_effects(params, u)
    *matrices, B, D = params
    if u is None:
        return [*matrices, y]
    A, C, u = _float64("A", params.A), _float64("C", params.C), _float64("u", u)
    B = u.new_zeros((A.shape[-1], u.shape[-1])) if B is None else B
    D = u.new_zeros((C.shape[-2], u.shape[-1])) if D is None else D
    return [*matrices, y, B, D, u]


def _smoothed(
    moments: Moments, values: Iterable[Any], lengths: Any, form: str
) -> tuple[list[Tensor], bool]:
    """Return outputs of a smoother, and whether data came without sequences."""
    values = [_float64(n, x) for n, x in zip(moments.inputs, values, strict=True)]
    inputs = _tensors(moments, values)
    lengths = _as_lengths(lengths, inputs[moments.data])
    found = _MOMENTS[moments.name](*inputs, lengths, form)
    return list(found), values[moments.data].ndim == 2


def _log_density(
    density: Density, values: Iterable[Any], lengths: Any, form: str
) -> Tensor:
    """Return log likelihoods of data, which may be one sequence without its axis."""
    values = [_float64(n, x) for n, x in zip(density.inputs, values, strict=True)]
    inputs = _tensors(density, values)
    wrt = list(range(len(values)))
    if not torch._C._are_functorch_transforms_active():  # which hide what is required
        is_wanted = torch.is_grad_enabled()
        wrt = [k for k in wrt if is_wanted and values[k].requires_grad]
    lengths = _as_lengths(lengths, inputs[density.data])
    value = _DENSITIES[density.name](*inputs, lengths, form, wrt)[0]
    return value[0] if values[density.data].ndim == 2 else value


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


def _tensors(rule: Chain | Density | Moments, values: Iterable[Any]) -> list[Tensor]:
    """Return tensors with the axes that the rules want, without copies."""
    tensors = []
    for name, ndim, x in zip(rule.inputs, rule.ndims, values, strict=True):
        x = _float64(name, x)
        missing = ndim - x.ndim
        events = (1, 2) if ndim == 4 else (1,)  # without sequences, or steps either
        if ndim and missing and (missing not in events or name in _PER_SEQUENCE):
            raise wrong_shape(name, x, f"{ndim} axes")
        if ndim and missing:
            x = x.reshape((1,) * missing + tuple(x.shape))
        tensors.append(x)
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
    if len(stat) == 1:
        return stat.reshape(potential.shape)
    return stat.sum(0).reshape(potential.shape)


def _arrays(tensors: Iterable[Tensor]) -> list[Any]:
    return [x.numpy() for x in tensors]


def _from_arrays(arrays: Iterable[Any]) -> tuple[Tensor, ...]:
    return tuple(map(torch.from_numpy, arrays))


def _schema(inputs: Iterable[str], num_outputs: int, options: str = "") -> str:
    arguments = ", ".join(f"Tensor {name}" for name in inputs) + options
    return f"({arguments}) -> ({', '.join(['Tensor'] * num_outputs)})"


def _operator(
    name: str,
    schema: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    vmap: Callable[..., Any],
    derivative: tuple[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Define an operator, and return what calls it.

    Parameters
    ----------
    name, schema : str
    function, fake : callable
        Of the arguments: results, and empty tensors of their shapes.
    vmap : callable
        ``vmap(call, batch_size, in_dims, *arguments)``, results with the batch first.
    derivative : (backward, setup_context), optional
    """
    operator = torch.library.custom_op(
        f"svae::{name}", mutates_args=(), device_types="cpu", schema=schema
    )(function)
    operator.register_fake(fake)

    def batched(info: Any, in_dims: Any, *arguments: Any) -> Any:
        outputs = vmap(call, info.batch_size, in_dims, *arguments)
        return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0

    operator.register_vmap(batched)
    if derivative is not None:
        operator.register_autograd(derivative[0], setup_context=derivative[1])

    class Function(torch.autograd.Function):  # type: ignore[misc]
        """What `torch.func` differentiates, which refuses operators with a backward."""

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return call(*arguments)

    if derivative is not None:
        Function.backward, Function.setup_context = map(staticmethod, derivative)
        Function.vmap = staticmethod(batched)

    def call(*arguments: Any) -> Any:
        if derivative and torch._C._are_functorch_transforms_active():
            return Function.apply(*arguments)
        return operator(*arguments)

    return call


def _as_sequences(shared: int, node: int) -> Callable[..., Any]:
    """Return a rule of `torch.vmap` which makes the batch a part of the sequences.

    Of the inputs, all of which have an axis of sequences, the first ``shared`` may have
    one instead of all; ``node`` tells how many there are.
    """

    def vmap(call: Any, B: int, in_dims: Sequence[Any], *tensors: Tensor) -> Any:
        moved = _moved(in_dims, tensors)
        N = moved[node].shape[0 if in_dims[node] is None else 1]

        def merged(k: int) -> Tensor:
            x = moved[k]
            if in_dims[k] is None:
                if k < shared and len(x) == 1:
                    return x
                x = x.expand(B, *x.shape)
            return x.expand(B, N, *x.shape[2:]).flatten(0, 1)

        outputs = call(*map(merged, range(len(tensors))))
        if isinstance(outputs, Tensor):
            return outputs.unflatten(0, (B, N))
        return tuple(x.unflatten(0, (B, N)) for x in outputs)

    return vmap


def _one_by_one(call: Any, B: int, in_dims: Sequence[Any], *arguments: Any) -> Any:
    """Call for each entry of the batch, a rule of `torch.vmap` for what sums."""
    moved = _moved(in_dims, arguments)
    pairs = list(zip(moved, in_dims, strict=True))
    found = [
        call(*(x[b] if isinstance(d, int) else x for x, d in pairs)) for b in range(B)
    ]
    return tuple(torch.stack(parts) for parts in zip(*found, strict=True))


def _moved(in_dims: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Return arguments with the batch as the first axis, where they have one."""
    pairs = zip(arguments, in_dims, strict=True)
    return [x.movedim(dim, 0) if isinstance(dim, int) else x for x, dim in pairs]


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

    vmap = _as_sequences(shared, chain.last_node)
    names = [*chain.inputs, "lengths"]
    call_adjoint = _operator(
        f"{chain.name}_vjp",
        _schema([*names, *bars], count),
        adjoint,
        adjoint_fake,
        vmap,
        (adjoint_backward, keep_adjoint),
    )
    schema = _schema(names, 1 + count)
    return _operator(chain.name, schema, forward, fake, vmap, (backward, keep))


def _density(density: Density) -> Any:
    """Define the operators of a log likelihood, its pullback and that of this.

    Their last arguments are the form, and which inputs are differentiated; the others'
    gradients are empty.
    """
    count = len(density.inputs)
    every = slice(count)

    def filled(wrt: Sequence[int], arrays: Iterable[Any]) -> list[Tensor]:
        found = [torch.empty(0, dtype=torch.float64) for _ in range(count)]
        for k, x in zip(wrt, arrays, strict=True):
            found[k] = torch.from_numpy(x)
        return found

    def like(inputs: Sequence[Tensor], wrt: Sequence[int]) -> list[Tensor]:
        shapes = [x.shape if k in wrt else (0,) for k, x in enumerate(inputs)]
        return [inputs[0].new_empty(shape) for shape in shapes]

    def parted(arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Return inputs, lengths, form and ``wrt``; and a bar and others, if any."""
        *tensors, form, wrt = arguments
        arrays = _arrays(tensors)
        between = arrays[count + 1 :]
        bar, others = between[:1], [between[1 + k] for k in wrt if len(between) > 1]
        return (arrays[every], arrays[count], form, wrt), (*bar, others)

    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        model, _ = parted(arguments)
        value, *gradient = density.value_and_gradient(*model)
        return torch.from_numpy(value), *filled(model[-1], gradient)

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        data = arguments[density.data]
        return data.new_empty(data.shape[:1]), *like(arguments[every], arguments[-1])

    def pulled_back(*arguments: Any) -> tuple[Tensor, ...]:
        model, rest = parted(arguments)
        return tuple(filled(model[-1], density.pull_back(*model, *rest)))

    def pulled_back_fake(*arguments: Any) -> tuple[Tensor, ...]:
        return tuple(like(arguments[every], arguments[-1]))

    def second(*arguments: Any) -> tuple[Tensor, ...]:
        model, rest = parted(arguments)
        *products, of_bar = density.second(*model, *rest)
        return *filled(model[-1], products), torch.from_numpy(of_bar)

    def second_fake(*arguments: Any) -> tuple[Tensor, ...]:
        bar = torch.empty_like(arguments[count + 1])
        return *pulled_back_fake(*arguments), bar

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs[:-2], *output[1:])
        ctx.options = inputs[-2:]

    def backward(ctx: Any, value_bar: Any, *_: Any) -> Any:
        nothing = [None] * (count + 3)
        if value_bar is None:
            return tuple(nothing)
        inputs, gradient = (
            ctx.saved_tensors[: count + 1],
            ctx.saved_tensors[count + 1 :],
        )
        bars = call_pullback(*inputs, value_bar, *gradient, *ctx.options)
        for k in ctx.options[1]:
            nothing[k] = bars[k]
        return tuple(nothing)

    def keep_pullback(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[: count + 2])
        ctx.options = inputs[-2:]

    def pullback_backward(ctx: Any, *directions: Any) -> Any:
        found = call_second(*ctx.saved_tensors, *directions, *ctx.options)
        nothing: list[Any] = [None] * (2 * count + 4)
        for k in ctx.options[1]:
            nothing[k] = found[k]
        nothing[count + 1] = found[count]
        return tuple(nothing)

    def vmap(call: Any, B: int, in_dims: Sequence[Any], *arguments: Any) -> Any:
        if arguments[-1]:
            return _one_by_one(call, B, in_dims, *arguments)
        options = arguments[-2:]

        def without(*tensors: Tensor) -> Any:
            return call(*tensors, *options)[0]

        merged = _as_sequences(density.data, density.data)
        value = merged(without, B, in_dims[:-2], *arguments[:-2])
        return value, *(value.new_empty((B, 0)) for _ in range(count))

    options = ", str form, int[] wrt"
    names = [*density.inputs, "lengths"]
    gradient = [f"{name}_gradient" for name in density.inputs]
    bars = [f"{name}_bar" for name in density.inputs]
    call_second = _operator(
        f"{density.name}_second",
        _schema([*names, "value_bar", *bars], count + 1, options),
        second,
        second_fake,
        _one_by_one,
    )
    call_pullback = _operator(
        f"{density.name}_vjp",
        _schema([*names, "value_bar", *gradient], count, options),
        pulled_back,
        pulled_back_fake,
        _one_by_one,
        (pullback_backward, keep_pullback),
    )
    schema = _schema(names, 1 + count, options)
    return _operator(density.name, schema, forward, fake, vmap, (backward, keep))


def _moments(moments: Moments) -> Any:
    """Define the operators of a smoother and of its pullback."""
    count = len(moments.inputs)

    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        *inputs, lengths = _arrays(arguments[:-1])
        return _from_arrays(moments.forward(inputs, lengths, arguments[-1]))

    def fake(*arguments: Any) -> tuple[Tensor, ...]:
        shapes = moments.shapes([x.shape for x in arguments[:count]])
        return tuple(arguments[0].new_empty(shape) for shape in shapes)

    def pulled_back(*arguments: Any) -> tuple[Tensor, ...]:
        *tensors, form = arguments
        arrays, every = _arrays(tensors), range(count)
        inputs, lengths, bars = arrays[:count], arrays[count], arrays[count + 1 :]
        return _from_arrays(moments.pull_back(inputs, lengths, form, every, bars))

    def pulled_back_fake(*arguments: Any) -> tuple[Tensor, ...]:
        return tuple(x.new_empty(x.shape) for x in arguments[:count])

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.form = inputs[-1]

    def backward(ctx: Any, *bars: Any) -> Any:
        return *call_pullback(*ctx.saved_tensors, *bars, ctx.form), None, None

    names = [*moments.inputs, "lengths"]
    num_outputs = len(moments.shapes([(1,) * ndim for ndim in moments.ndims]))
    bars = [f"output{k}_bar" for k in range(num_outputs)]
    call_pullback = _operator(
        f"{moments.name}_vjp",
        _schema([*names, *bars], count, ", str form"),
        pulled_back,
        pulled_back_fake,
        _one_by_one,
    )
    return _operator(
        moments.name,
        _schema(names, num_outputs, ", str form"),
        forward,
        fake,
        _one_by_one,
        (backward, keep),
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


_DENSITIES = {
    density.name: _density(density)
    for density in (LOG_LIKELIHOOD, LOG_LIKELIHOOD_WITH_INPUTS, HMM_LOG_LIKELIHOOD)
}


_MOMENTS = {
    moments.name: _moments(moments)
    for moments in (KALMAN_SMOOTHER, KALMAN_SMOOTHER_WITH_INPUTS, HMM_SMOOTHER)
}


def _paths(node: Tensor, *leads: Any) -> Tensor:
    return node.new_empty(leads, dtype=torch.int64)


_viterbi = _operator(
    "viterbi",
    _schema((*MARKOV_CHAIN.inputs, "lengths"), 2),
    lambda *tensors: _from_arrays(kernels.viterbi(*_events(_arrays(tensors)))),
    lambda init, pair, node, lengths: (
        _paths(node, *node.shape[:2]),
        node.new_empty(node.shape[:1]),
    ),
    _as_sequences(2, 2),
)
_sample_markov_chain = _operator(
    "sample_markov_chain",
    _schema((*MARKOV_CHAIN.inputs, "uniforms", "lengths"), 1),
    lambda *tensors: torch.from_numpy(
        kernels.sample_markov_chain(*_events(_arrays(tensors)))
    ),
    lambda init, pair, node, uniforms, lengths: _paths(node, *uniforms.shape),
    _as_sequences(2, 2),
)


def _events(arrays: list[Any]) -> list[Any]:
    """Return arrays with the first potential as a kernel takes it."""
    return [event(arrays[0]), *arrays[1:]]
