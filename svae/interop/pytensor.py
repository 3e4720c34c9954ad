"""The chains in PyTensor, and so in PyMC: `Op`s over the compiled kernels.

Functions have the names, the arguments and the meaning of those of `svae.kernels` and
`svae.standard`, on tensors of float64.  Their gradients are other `Op`s, second
derivatives of log normalizers and of log likelihoods too.  Numba calls them as Python;
what they compute is compiled already.

An exact marginal likelihood is a term of a model in PyMC:

    with pymc.Model():
        ...
        logp = svae.interop.pytensor.log_likelihood(params, y)
        pymc.Potential("y", logp)

>>> import numpy as np, pytensor, pytensor.tensor as pt
>>> from svae.interop.pytensor import hmm_log_likelihood
>>> stay = pt.dscalar("stay")
>>> transition = pt.stacklists([[stay, 1 - stay], [1 - stay, stay]])
>>> umbrella = np.log([[0.9, 0.2], [0.9, 0.2]])
>>> logp = hmm_log_likelihood(np.full(2, 0.5), transition, umbrella)
>>> value, slope = pytensor.function([stay], [logp, pytensor.grad(logp, stay)])(0.7)
>>> round(float(np.exp(value)), 4), round(float(slope), 4)
(0.3515, 0.697)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.link.numba.dispatch.basic import generate_fallback_impl, numba_funcify
from pytensor.tensor.rewriting.basic import register_specialize

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
) -> tuple[Any, tuple[Any, Any, Any], Any]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    `svae.kernels.gaussian_chain` has parameters, results and errors.  The log
    normalizer has two derivatives, everything else one.
    """
    chain, values = gaussian_arguments(init, pair, node, noise)
    return gaussian_results(_call(chain, values, lengths))


def markov_chain(
    init: Any, pair: Any, node: Any, lengths: Any = None
) -> tuple[Any, tuple[Any, Any, Any]]:
    """Log normalizer and expected statistics of a Markov chain over K states.

    `svae.kernels.markov_chain` has parameters, results and errors.  The log normalizer
    has two derivatives, statistics have one.
    """
    logZ, *stats = _call(MARKOV_CHAIN, (init, pair, node), lengths)
    return logZ, (stats[0], stats[1], stats[2])


def viterbi(init: Any, pair: Any, node: Any, lengths: Any = None) -> tuple[Any, Any]:
    """Most likely path of every sequence; `svae.kernels.viterbi`.

    Nothing is differentiable.
    """
    inputs = _tensors(MARKOV_CHAIN, (init, pair, node))
    paths, logprob = _Viterbi()(*inputs, _as_lengths(lengths, inputs[-1]))
    return paths, logprob


def sample_markov_chain(
    init: Any, pair: Any, node: Any, uniforms: Any, lengths: Any = None
) -> Any:
    """Paths by backward sampling; `svae.kernels.sample_markov_chain`.

    Nothing is differentiable.
    """
    inputs = _tensors(MARKOV_CHAIN, (init, pair, node))
    uniforms = _float64("uniforms", uniforms)
    return _Paths()(*inputs, uniforms, _as_lengths(lengths, inputs[-1]))


def log_likelihood(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    form: str = "auto",
) -> Any:
    """Log likelihood of a linear-Gaussian state-space model, (N,), or () for y (T, P).

    `svae.standard.log_likelihood` has parameters and errors; the fields of ``params``
    may be tensors.  Two derivatives.
    """
    values = _state_space(params, y, u)
    density = LOG_LIKELIHOOD if u is None else LOG_LIKELIHOOD_WITH_INPUTS
    return _density(density, values, lengths, form)


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
) -> Any:
    """Log likelihood of hidden Markov models, (N,), or () for data (T, K).

    `svae.standard.hmm_log_likelihood` has parameters and errors.  Two derivatives.
    """
    return _density(
        HMM_LOG_LIKELIHOOD, (start, transition, log_likelihoods), lengths, ""
    )


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
    A, C, u = map(pt.as_tensor_variable, (params.A, params.C, u))
    B = pt.zeros((A.shape[-1], u.shape[-1])) if B is None else B
    D = pt.zeros((C.shape[-2], u.shape[-1])) if D is None else D
    return [*matrices, y, B, D, u]


def _smoothed(
    moments: Moments, values: Sequence[Any], lengths: Any, form: str
) -> tuple[list[Any], bool]:
    """Return outputs of a smoother, and whether data came without sequences."""
    is_single = pt.as_tensor_variable(values[moments.data]).ndim == 2
    inputs = _tensors(moments, values)
    lengths = _as_lengths(lengths, inputs[moments.data])
    return _Moments(moments.name, form)(*inputs, lengths), is_single


def _float64(name: str, x: Any) -> Any:
    """Return a tensor of float64; refuse tensors of other floats."""
    if not hasattr(x, "type"):
        x = np.asarray(x, float)
    x = pt.as_tensor_variable(x)
    if x.dtype != "float64":
        raise ValueError(f"{name} has dtype {x.dtype}, wanted float64: cast it")
    return x


def _as_lengths(lengths: Any, node: Any) -> Any:
    """Return lengths (N,), those of all steps by default."""
    if lengths is not None:
        return pt.as_tensor_variable(lengths).astype("int64")
    N, T = node.type.shape[:2]
    if N is None or T is None:
        return pt.full((node.shape[0],), node.shape[1]).astype("int64")
    return pt.constant(np.full(N, T, np.int64))


def _tensors(rule: Chain | Density | Moments, values: Iterable[Any]) -> list[Any]:
    """Return tensors with the axes that the rules want."""
    tensors = []
    for name, ndim, x in zip(rule.inputs, rule.ndims, values, strict=True):
        x = _float64(name, x)
        missing = ndim - x.ndim if ndim else 0
        if not 0 <= missing <= (2 if ndim == 4 else 1) or (
            missing and name in _PER_SEQUENCE
        ):
            raise wrong_shape(name, np.empty((0,) * x.ndim), f"{ndim} axes")
        tensors.append(pt.expand_dims(x, tuple(range(missing))) if missing else x)
    return tensors


_PER_SEQUENCE = {"node", "node_J", "node_h", "noise", "uniforms"}


def _call(chain: Chain, values: Iterable[Any], lengths: Any) -> list[Any]:
    """Return what an `Op` says of these values, each statistic like its own."""
    values = [_float64(name, x) for name, x in zip(chain.inputs, values, strict=True)]
    inputs = _tensors(chain, values)
    found = _Chain(chain.name)(*inputs, _as_lengths(lengths, inputs[chain.last_node]))
    logZ, *outputs = found
    triples = zip(values, inputs, outputs, strict=True)
    return [logZ, *(_like(x, y).reshape(v.shape) for v, x, y in triples)]


def _density(density: Density, values: Sequence[Any], lengths: Any, form: str) -> Any:
    """Return log likelihoods of data, which may be one sequence without its axis."""
    is_single = pt.as_tensor_variable(values[density.data]).ndim == 2
    inputs = _tensors(density, values)
    operation = _Density(density.name, form, tuple(range(len(inputs))))
    found = operation(
        *inputs, _as_lengths(lengths, inputs[density.data]), return_list=True
    )
    return found[0][0] if is_single else found[0]


def _like(x: Any, bar: Any) -> Any:
    """Sum what has all sequences over those that share an input."""
    rest = range(1, bar.ndim)
    if x.type.shape[0] == 1:
        return bar.sum(0, keepdims=True)
    if x.type.shape[0] is None:
        shape = bar.shape[0] // x.shape[0], x.shape[0], *(bar.shape[k] for k in rest)
        return bar.reshape(shape).sum(0)
    return bar


_CHAINS = {
    chain.name: chain
    for chain in (GAUSSIAN_CHAIN, GAUSSIAN_CHAIN_WITH_SAMPLES, MARKOV_CHAIN)
}
_DENSITIES = {
    density.name: density
    for density in (LOG_LIKELIHOOD, LOG_LIKELIHOOD_WITH_INPUTS, HMM_LOG_LIKELIHOOD)
}


_MOMENTS = {
    moments.name: moments
    for moments in (KALMAN_SMOOTHER, KALMAN_SMOOTHER_WITH_INPUTS, HMM_SMOOTHER)
}


class _Kernel(Op):  # type: ignore[misc]
    """An `Op` whose outputs have shapes that are read off those of its inputs."""

    __props__: tuple[str, ...] = ()
    num_floats: int
    """The inputs that can be differentiated come first."""

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return the shapes of outputs."""
        raise NotImplementedError

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """Return the outputs."""
        raise NotImplementedError

    def make_node(self, *inputs: Any) -> Any:
        tensors = [pt.as_tensor_variable(x) for x in inputs]
        shapes = self.shapes([x.type.shape for x in tensors])
        outputs = [pt.tensor(shape=shape, dtype="float64") for shape in shapes]
        return Apply(self, tensors, outputs)

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
        for storage, x in zip(output_storage, self.compute(inputs), strict=True):
            storage[0] = x

    def infer_shape(self, fgraph: Any, node: Any, input_shapes: Any) -> Any:
        return self.shapes(input_shapes)

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        is_float = [x.dtype == "float64" for x in node.inputs]
        return [[connected] * len(node.outputs) for connected in is_float]

    if not hasattr(Op, "pullback"):  # the name before PyTensor 3

        def L_op(self, inputs: Any, outputs: Any, output_grads: Any) -> Any:
            return self.pullback(inputs, outputs, output_grads)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        return [
            grad_not_implemented(self, k, x)
            if x.dtype == "float64"
            else DisconnectedType()()
            for k, x in enumerate(inputs)
        ]


@numba_funcify.register(_Kernel)
def _numba_kernel(op: Any, node: Any = None, **kwargs: Any) -> Any:
    with warnings.catch_warnings():  # of object mode, in which nothing is slow here
        warnings.simplefilter("ignore")
        return generate_fallback_impl(op, node=node, **kwargs)


def _is_disconnected(x: Any) -> bool:
    return isinstance(x.type, DisconnectedType)


class _Chain(_Kernel):
    """``inputs, lengths -> log Z, outputs`` of a chain."""

    __props__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.chain = _CHAINS[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return self.chain.shapes(inputs[:-1])

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        *inputs, lengths = arrays
        return self.chain.forward(inputs, lengths)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        *potentials, lengths = inputs
        logZ_bar, *bars = cotangents
        through = None
        if not all(map(_is_disconnected, bars)):
            full = [
                pt.zeros_like(x) if _is_disconnected(bar) else bar
                for bar, x in zip(bars, outputs[1:], strict=True)
            ]
            adjoint = _ChainAdjoint(self.name)
            through = adjoint(*potentials, *full, lengths, return_list=True)
        found = []
        for k, x in enumerate(potentials):
            parts = [] if through is None else [through[k]]
            if k < self.chain.num_potentials and not _is_disconnected(logZ_bar):
                stat = outputs[1 + k]
                parts.append(pt.shape_padright(logZ_bar, stat.ndim - 1) * stat)
            found.append(_like(x, sum(parts[1:], parts[0])) if parts else None)
        zeros = zip(found, potentials, strict=True)
        bars = [pt.zeros_like(x) if bar is None else bar for bar, x in zeros]
        return [*bars, DisconnectedType()()]


class _ChainAdjoint(_Kernel):
    """``inputs, outputs_bar, lengths -> inputs_bar``, with all sequences."""

    __props__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.chain = _CHAINS[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return self.chain.shapes(inputs[: len(self.chain.inputs)])[1:]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        count = len(self.chain.inputs)
        return self.chain.adjoint(arrays[:count], arrays[count:-1], arrays[-1])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        count, potentials = len(self.chain.inputs), self.chain.num_potentials
        directions = [
            pt.zeros_like(x) if _is_disconnected(bar) or k >= potentials else bar
            for k, (bar, x) in enumerate(zip(cotangents, outputs, strict=True))
        ]
        products = self(*inputs[:count], *directions, inputs[-1], return_list=True)
        refused = [
            grad_not_implemented(self, k, x, NO_DERIVATIVE)
            for k, x in enumerate(inputs[:-1])
        ]
        refused[count : count + potentials] = products[:potentials]
        return [*refused, DisconnectedType()()]


class _Density(_Kernel):
    """``inputs, lengths -> log likelihoods, gradient of their sum`` in some inputs."""

    __props__ = ("name", "form", "wrt")

    def __init__(self, name: str, form: str, wrt: tuple[int, ...]) -> None:
        self.name, self.form, self.wrt = name, form, wrt
        self.density = _DENSITIES[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        shapes = [tuple(x) for x in inputs]
        return [shapes[self.density.data][:1], *(shapes[k] for k in self.wrt)]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        *inputs, lengths = arrays
        return self.density.value_and_gradient(inputs, lengths, self.form, self.wrt)

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        # the gradient is there for the pullback alone
        rest = [False] * len(self.wrt)
        return [[x.dtype == "float64", *rest] for x in node.inputs]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        every = self.name, self.form, tuple(range(len(self.density.inputs)))
        _, *gradient = _Density(*every)(*inputs)
        bars = _DensityPullback(*every)(*inputs, cotangents[0], *gradient)
        return [*bars, DisconnectedType()()]


class _DensityPullback(_Kernel):
    """``inputs, lengths, value_bar, gradient -> cotangents`` of some inputs."""

    __props__ = ("name", "form", "wrt")

    def __init__(self, name: str, form: str, wrt: tuple[int, ...]) -> None:
        self.name, self.form, self.wrt = name, form, wrt
        self.density = _DENSITIES[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return [tuple(inputs[k]) for k in self.wrt]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        count = len(self.density.inputs)
        return self.density.pull_back(
            arrays[:count],
            arrays[count],
            self.form,
            self.wrt,
            arrays[count + 1],
            arrays[count + 2 :],
        )

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        count, outputs = len(self.density.inputs), len(node.outputs)
        known = [True] * count + [False, True] + [False] * len(self.wrt)
        return [[connected] * outputs for connected in known]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        count = len(self.density.inputs)
        directions = [
            pt.zeros_like(x) if _is_disconnected(bar) else bar
            for bar, x in zip(cotangents, outputs, strict=True)
        ]
        second = _DensitySecond(self.name, self.form, self.wrt)
        *products, of_value_bar = second(*inputs[: count + 2], *directions)
        found = [pt.zeros_like(x) for x in inputs[:count]]
        for k, product in zip(self.wrt, products, strict=True):
            found[k] = product
        nothing = [DisconnectedType()() for _ in self.wrt]
        return [*found, DisconnectedType()(), of_value_bar, *nothing]


class _DensitySecond(_Kernel):
    """``inputs, lengths, value_bar, directions -> cotangents`` of those before."""

    __props__ = ("name", "form", "wrt")

    def __init__(self, name: str, form: str, wrt: tuple[int, ...]) -> None:
        self.name, self.form, self.wrt = name, form, wrt
        self.density = _DENSITIES[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        shapes = [tuple(x) for x in inputs]
        return [*(shapes[k] for k in self.wrt), shapes[len(self.density.inputs) + 1]]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        count = len(self.density.inputs)
        return self.density.second(
            arrays[:count],
            arrays[count],
            self.form,
            self.wrt,
            arrays[count + 1],
            arrays[count + 2 :],
        )


@register_specialize
@node_rewriter([_Density, _DensityPullback])
def _without_unused_gradients(fgraph: Any, node: Any) -> Any:
    """Differentiate a log likelihood in those inputs alone whose gradient is used."""
    op, first = node.op, len(node.outputs) - len(node.op.wrt)
    is_used = [bool(fgraph.clients[x]) for x in node.outputs]
    wrt = tuple(k for k, used in zip(op.wrt, is_used[first:], strict=True) if used)
    if wrt == op.wrt or not any(is_used):
        return None
    inputs = list(node.inputs)
    if isinstance(op, _DensityPullback):
        *others, last = range(len(op.density.inputs) + 2)
        gradient = zip(op.wrt, inputs[last + 1 :], strict=True)
        inputs = [*inputs[: last + 1], *(x for k, x in gradient if k in wrt)]
    new = type(op)(op.name, op.form, wrt)(*inputs, return_list=True)
    kept = [
        x for x, used in zip(node.outputs[first:], is_used[first:], strict=True) if used
    ]
    return dict(zip([*node.outputs[:first], *kept], new, strict=True))


class _Moments(_Kernel):
    """``inputs, lengths -> moments`` of a smoother."""

    __props__ = ("name", "form")

    def __init__(self, name: str, form: str) -> None:
        self.name, self.form = name, form
        self.moments = _MOMENTS[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return self.moments.shapes(inputs[:-1])

    def make_node(self, *inputs: Any) -> Any:
        known = [x.type.shape for x in inputs]
        unknown = [tuple(-1 if n is None else n for n in shape) for shape in known]
        outputs = [
            pt.tensor(shape=[None if n < 0 else n for n in shape], dtype="float64")
            for shape in self.shapes(unknown)
        ]
        return Apply(self, list(inputs), outputs)

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        *inputs, lengths = arrays
        return self.moments.forward(inputs, lengths, self.form)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        bars = [
            pt.zeros_like(x) if _is_disconnected(bar) else bar
            for bar, x in zip(cotangents, outputs, strict=True)
        ]
        pull_back = _MomentsPullback(self.name, self.form)
        return [*pull_back(*inputs, *bars, return_list=True), DisconnectedType()()]


class _MomentsPullback(_Kernel):
    """``inputs, lengths, outputs_bar -> cotangents`` of a smoother's inputs."""

    __props__ = ("name", "form")

    def __init__(self, name: str, form: str) -> None:
        self.name, self.form = name, form
        self.moments = _MOMENTS[name]

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return [tuple(x) for x in inputs[: len(self.moments.inputs)]]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        count = len(self.moments.inputs)
        inputs, lengths, bars = arrays[:count], arrays[count], arrays[count + 1 :]
        return self.moments.pull_back(inputs, lengths, self.form, range(count), bars)


class _Viterbi(_Kernel):
    def make_node(self, *inputs: Any) -> Any:
        shape = inputs[2].type.shape
        outputs = [
            pt.tensor(shape=shape[:2], dtype="int64"),
            pt.tensor(shape=shape[:1], dtype="float64"),
        ]
        return Apply(self, list(inputs), outputs)

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return [tuple(inputs[2][:2]), tuple(inputs[2][:1])]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        return kernels.viterbi(event(arrays[0]), *arrays[1:])


class _Paths(_Kernel):
    def make_node(self, *inputs: Any) -> Any:
        return Apply(
            self,
            list(inputs),
            [pt.tensor(shape=inputs[3].type.shape, dtype="int64")],
        )

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        return [tuple(inputs[3])]

    def compute(self, arrays: Sequence[Any]) -> Sequence[Any]:
        return [kernels.sample_markov_chain(event(arrays[0]), *arrays[1:])]
