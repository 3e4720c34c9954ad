r"""Forward passes and adjoints of the chains in NumPy, for frameworks that trace.

A framework asks for functions of flat tuples of arrays whose shapes follow from those
of the arguments.  So everything here has a leading axis of sequences, of length 1 for
what they share, and one output for each input beside the log normalizer: the statistic
of a potential, or the samples of a noise.  Statistics stay apart by sequence, also
those of what is shared, because

.. math:: \bar\eta = \sum_n \bar{\log Z}_n \, E_n[t(x)] + (\text{adjoint of outputs})

needs each with the cotangent of its own log normalizer; a sum over sequences would do
for equal cotangents only.  The gradient of log Z alone is that first term, which the
forward pass has found: the adjoint is called for cotangents of statistics and samples
alone.  On statistics it is the Hessian of log Z, so that it is its own adjoint.

A `Density` is a log likelihood of `svae.standard`.  Whoever asks for its gradient
nearly always asks for that of a sum over sequences, so this is found with the value;
only for unequal cotangents there is another pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import standard
from svae.autodiff.vjp import trace
from svae.kernels import gaussian, markov
from svae.kernels.arguments import LARGEST, LARGEST_LOG_POTENTIAL, as_lengths
from svae.types import Array, Integers

__all__ = [
    "GAUSSIAN_CHAIN",
    "GAUSSIAN_CHAIN_WITH_SAMPLES",
    "MARKOV_CHAIN",
    "Moments",
    "NO_DERIVATIVE",
    "Chain",
    "Density",
    "HMM_LOG_LIKELIHOOD",
    "HMM_SMOOTHER",
    "KALMAN_SMOOTHER",
    "KALMAN_SMOOTHER_WITH_INPUTS",
    "LOG_LIKELIHOOD",
    "LOG_LIKELIHOOD_WITH_INPUTS",
    "event",
    "gaussian_arguments",
    "gaussian_results",
    "hessian_product",
    "pull_back",
]

NO_DERIVATIVE = (
    "a chain's statistics and samples have one derivative, its log normalizer has two; "
    "svae.reference has derivatives of any order"
)


class Chain(NamedTuple):
    """A function ``inputs, lengths -> (log Z, one output for each input)``."""

    name: str
    inputs: tuple[str, ...]
    """What the inputs are called, nodes after everything that sequences may share."""
    ndims: tuple[int, ...]
    """Axes of each input, with that of sequences and, for pairs, that of steps."""
    num_potentials: int
    """The inputs behind these are noise."""
    forward: Callable[[Sequence[Array], Any], tuple[Array, ...]]
    """Inputs, which are checked, and lengths -> log Z (N,) and outputs (N, ...)."""
    adjoint: Callable[[Sequence[Array], Sequence[Array], Any], tuple[Array, ...]]
    """Inputs, cotangents of the outputs behind log Z, and lengths -> cotangents of the
    inputs, (N, ...) each also where sequences share an input."""

    @property
    def last_node(self) -> int:
        """The position of the input that tells how many sequences there are."""
        return self.num_potentials - 1

    def shapes(self, inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return the shapes of outputs, log Z first, from those of inputs."""
        N = inputs[self.last_node][0]
        return [(N,), *((N, *shape[1:]) for shape in inputs)]


def pull_back(
    chain: Chain,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    bars: Sequence[Array | None],
    lengths: Integers | None = None,
) -> list[Array]:
    """Return the cotangents of inputs.

    Parameters
    ----------
    chain : Chain
    inputs : sequence of arrays
    outputs : sequence of arrays
        What ``chain.forward`` has returned for them.
    bars : sequence of arrays or None
        Cotangents of the outputs; None for zero.
    lengths : (N,) integers, optional

    Returns
    -------
    list of arrays
        In the shapes of the inputs.
    """
    totals: list[Any] = [np.zeros(x.shape) for x in inputs]
    if any(bar is not None for bar in bars[1:]):
        pairs = zip(bars[1:], outputs[1:], strict=True)
        full = [np.zeros(x.shape) if bar is None else bar for bar, x in pairs]
        through = chain.adjoint(inputs, full, lengths)
        totals = [_like(x, bar) for x, bar in zip(inputs, through, strict=True)]
    if bars[0] is not None:
        for k in range(chain.num_potentials):
            scale = bars[0].reshape((-1,) + (1,) * (outputs[1 + k].ndim - 1))
            totals[k] = totals[k] + _like(inputs[k], scale * outputs[1 + k])
    return totals


def hessian_product(
    chain: Chain,
    inputs: Sequence[Array],
    directions: Sequence[Array],
    lengths: Integers | None = None,
) -> list[Array]:
    """Return the Hessian of the sum of log Z in the potentials, times directions.

    Parameters
    ----------
    chain : Chain
        One without noise.
    inputs, directions : sequences of arrays
        Of the same shapes, which those of the result are too.
    lengths : (N,) integers, optional
    """
    N = len(inputs[chain.last_node])
    full = [np.broadcast_to(x, (N, *x.shape[1:])).copy() for x in directions]
    through = chain.adjoint(inputs, full, lengths)
    return [_like(x, bar) for x, bar in zip(inputs, through, strict=True)]


def _like(x: Array, bar: Array) -> Array:
    """Sum what has all sequences over those that share an input."""
    return bar.sum(0, keepdims=True) if len(x) == 1 and len(bar) != 1 else bar


def event(x: Array) -> Array:
    """Return what sequences share without their axis, as the kernels' checks know it.

    A lone sequence shares it with nobody, and the two are the same.
    """
    return x[0] if len(x) == 1 else x


def _gaussian_forward(inputs: Sequence[Array], lengths: Any) -> tuple[Array, ...]:
    init = [event(x) for x in inputs[:2]]
    noise = inputs[7] if len(inputs) > 7 else None
    chain = init, inputs[2:5], inputs[5:7], noise, lengths
    checked = gaussian.as_chain(*chain, finite=True)[-1]
    try:
        return gaussian.forward(checked, *inputs, limit=LARGEST)
    except ValueError:
        gaussian.as_chain(*chain)  # the core does not know what to call an argument
        raise


def _gaussian_adjoint(
    inputs: Sequence[Array], outputs_bar: Sequence[Array], lengths: Any
) -> tuple[Array, ...]:
    N, T, _ = inputs[6].shape
    found = gaussian.adjoint(as_lengths(lengths, N, T), inputs, outputs_bar)
    return _complete(found, inputs)


def _markov_forward(inputs: Sequence[Array], lengths: Any) -> tuple[Array, ...]:
    chain = event(inputs[0]), inputs[1], inputs[2], lengths
    checked = markov.checked_lengths(*chain, finite=True)
    try:
        return markov.forward(checked, *inputs, limit=LARGEST_LOG_POTENTIAL)
    except ValueError:
        markov.checked_lengths(*chain)
        raise


def _markov_adjoint(
    inputs: Sequence[Array], outputs_bar: Sequence[Array], lengths: Any
) -> tuple[Array, ...]:
    N, T, _ = inputs[2].shape
    return markov.adjoint(as_lengths(lengths, N, T), inputs, outputs_bar)


def _complete(found: Sequence[Array], inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return as many cotangents as inputs: no samples, no cotangent of the noise."""
    return (*found, *(np.zeros(x.shape) for x in inputs[len(found) :]))


_POTENTIALS = ("init_J", "init_h", "J11", "J12", "J22", "node_J", "node_h")

GAUSSIAN_CHAIN = Chain(
    "gaussian_chain",
    _POTENTIALS,
    (3, 2, 4, 4, 4, 0, 3),  # node_J has three axes, or four
    7,
    _gaussian_forward,
    _gaussian_adjoint,
)
GAUSSIAN_CHAIN_WITH_SAMPLES = GAUSSIAN_CHAIN._replace(
    name="gaussian_chain_with_samples",
    inputs=(*_POTENTIALS, "noise"),
    ndims=(*GAUSSIAN_CHAIN.ndims, 4),
)
MARKOV_CHAIN = Chain(
    "markov_chain",
    ("init", "pair", "node"),
    (2, 4, 3),
    3,
    _markov_forward,
    _markov_adjoint,
)


def gaussian_arguments(
    init: Iterable[Any], pair: Iterable[Any], node: Iterable[Any], noise: Any
) -> tuple[Chain, Sequence[Any]]:
    """Return the rule of a Gaussian chain, and its arguments in a row."""
    values = *_several(init, "init J, h"), *_several(pair, "pair J11, J12, J22")
    values = *values, *_several(node, "node J, h")
    if noise is None:
        return GAUSSIAN_CHAIN, values
    return GAUSSIAN_CHAIN_WITH_SAMPLES, (*values, noise)


def gaussian_results(outputs: Sequence[Any]) -> tuple[Any, tuple[Any, Any, Any], Any]:
    """Nest the outputs of a Gaussian chain as `svae.kernels.gaussian_chain` does."""
    logZ, *stats = outputs
    samples = stats[7] if len(stats) > 7 else None
    return logZ, (tuple(stats[:2]), tuple(stats[2:5]), tuple(stats[5:7])), samples


def _several(values: Iterable[Any], names: str) -> Sequence[Any]:
    """Return as many values as there are names."""
    values = list(values)
    if len(values) != names.count(",") + 1:
        raise ValueError(f"got {len(values)} tensors, wanted {names}")
    return values


class Density(NamedTuple):
    """A log likelihood ``inputs, lengths, form -> (N,)``, by way of autograd."""

    name: str
    inputs: tuple[str, ...]
    ndims: tuple[int, ...]
    """Axes of each input, with that of sequences and, for matrices, that of steps."""
    function: Callable[[Sequence[Any], Any, str], Any]
    """Of inputs with all axes, which it checks."""
    data: int
    """The position of the input that tells how many sequences there are."""

    def value_and_gradient(
        self,
        inputs: Sequence[Array],
        lengths: Any,
        form: str,
        wrt: Sequence[int],
    ) -> tuple[Array, ...]:
        """Return the log likelihoods (N,), and the gradient of their sum.

        Parameters
        ----------
        inputs : sequence of arrays
        lengths : (N,) integers or None
        form : str
            As in `svae.standard.log_likelihood`.
        wrt : sequence of int
            Positions of the inputs to differentiate in.
        """
        if not len(wrt):
            return (self.function(inputs, lengths, form),)
        back, (value,) = self._traced(inputs, lengths, form, wrt)
        return (value, *map(_own, back(np.ones_like(value))))

    def pull_back(
        self,
        inputs: Sequence[Array],
        lengths: Any,
        form: str,
        wrt: Sequence[int],
        value_bar: Array,
        gradient: Sequence[Array],
    ) -> tuple[Array, ...]:
        """Return cotangents of the inputs ``wrt``.

        ``gradient`` is that of `value_and_gradient`, from which equal cotangents
        ``value_bar`` (N,) of all sequences need no other pass.
        """
        if value_bar.size and (value_bar == value_bar[0]).all():
            return tuple(value_bar[0] * x for x in gradient)
        back, _ = self._traced(inputs, lengths, form, wrt)
        return tuple(map(_own, back(value_bar)))

    def second(
        self,
        inputs: Sequence[Array],
        lengths: Any,
        form: str,
        wrt: Sequence[int],
        value_bar: Array,
        directions: Sequence[Array],
    ) -> tuple[Array, ...]:
        """Return cotangents of inputs and of ``value_bar``, given those of `pull_back`.

        The first are the Hessian of <value_bar, log likelihoods>, times directions.
        """

        def product(weights: Any, *chosen: Any) -> tuple[Any]:
            every = list(inputs)
            for k, x in zip(wrt, chosen, strict=True):
                every[k] = x
            back, _ = self._traced(every, lengths, form, wrt)
            pairs = zip(back(weights), directions, strict=True)
            return (sum((x * along).sum() for x, along in pairs),)

        back, _ = trace(product, [value_bar, *(inputs[k] for k in wrt)])
        of_weights, *of_inputs = back(1.0)
        return (*map(_own, of_inputs), _own(of_weights))

    def _traced(
        self, inputs: Sequence[Any], lengths: Any, form: str, wrt: Sequence[int]
    ) -> Any:
        def of_chosen(*chosen: Any) -> tuple[Any]:
            every = list(inputs)
            for k, x in zip(wrt, chosen, strict=True):
                every[k] = x
            return (self.function(every, lengths, form),)

        return trace(of_chosen, [inputs[k] for k in wrt])


class Moments(NamedTuple):
    """A smoother ``inputs, lengths, form -> outputs``, by way of autograd."""

    name: str
    inputs: tuple[str, ...]
    ndims: tuple[int, ...]
    function: Callable[[Sequence[Any], Any, str], tuple[Any, ...]]
    """Of inputs with all axes, which it checks."""
    shapes: Callable[[Sequence[Sequence[Any]]], list[tuple[Any, ...]]]
    """Shapes of the outputs, from those of the inputs."""
    data: int

    def forward(
        self, inputs: Sequence[Array], lengths: Any, form: str
    ) -> tuple[Array, ...]:
        """Return the outputs."""
        return tuple(map(_own, self.function(inputs, lengths, form)))

    def pull_back(
        self,
        inputs: Sequence[Array],
        lengths: Any,
        form: str,
        wrt: Sequence[int],
        bars: Sequence[Array],
    ) -> tuple[Array, ...]:
        """Return cotangents of the inputs ``wrt``, given those of all outputs."""

        def of_chosen(*chosen: Any) -> tuple[Any, ...]:
            every = list(inputs)
            for k, x in zip(wrt, chosen, strict=True):
                every[k] = x
            return self.function(every, lengths, form)

        back, _ = trace(of_chosen, [inputs[k] for k in wrt])
        return tuple(map(_own, back(*bars)))


def _own(x: Any) -> Array:
    """Return an array that shares its numbers with no other."""
    return np.array(x, float, order="C")


def _state_space(inputs: Sequence[Any]) -> tuple[standard.LinearGaussian, Any, Any]:
    A, Q, C, R, m0, P0, y, *rest = inputs
    B, D, u = rest or (None, None, None)
    return standard.LinearGaussian(A, Q, C, R, m0, P0, B, D), y, u


def _log_likelihood(inputs: Sequence[Any], lengths: Any, form: str) -> Any:
    return standard.log_likelihood(*_state_space(inputs), lengths, form)


def _kalman_smoother(inputs: Sequence[Any], lengths: Any, form: str) -> Any:
    return tuple(standard.kalman_smoother(*_state_space(inputs), lengths, form))


def _of_kalman_smoother(inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    D, (N, T, _) = inputs[0][-1], inputs[6]
    return [(N, T, D), (N, T, D, D), (N, T - 1, D, D), (N,)]


def _hmm_smoother(inputs: Sequence[Any], lengths: Any, form: str) -> Any:
    start, transition, logs = inputs
    found = standard.hmm_smoother(event(start), transition, logs, lengths)
    return found.probabilities, found.transitions, found.log_likelihood


def _of_hmm_smoother(inputs: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    N, T, K = inputs[2]
    return [(N, T, K), (K, K), (N,)]


def _hmm_log_likelihood(inputs: Sequence[Any], lengths: Any, form: str) -> Any:
    start, transition, log_likelihoods = inputs
    return standard.hmm_log_likelihood(
        event(start), transition, log_likelihoods, lengths
    )


LOG_LIKELIHOOD = Density(
    "log_likelihood",
    ("A", "Q", "C", "R", "m0", "P0", "y"),
    (4, 4, 4, 4, 2, 3, 3),
    _log_likelihood,
    6,
)
LOG_LIKELIHOOD_WITH_INPUTS = LOG_LIKELIHOOD._replace(
    name="log_likelihood_with_inputs",
    inputs=(*LOG_LIKELIHOOD.inputs, "B", "D", "u"),
    ndims=(*LOG_LIKELIHOOD.ndims, 4, 4, 3),
)
HMM_LOG_LIKELIHOOD = Density(
    "hmm_log_likelihood",
    ("start", "transition", "log_likelihoods"),
    (2, 4, 3),
    _hmm_log_likelihood,
    2,
)

KALMAN_SMOOTHER = Moments(
    "kalman_smoother",
    LOG_LIKELIHOOD.inputs,
    LOG_LIKELIHOOD.ndims,
    _kalman_smoother,
    _of_kalman_smoother,
    LOG_LIKELIHOOD.data,
)
KALMAN_SMOOTHER_WITH_INPUTS = KALMAN_SMOOTHER._replace(
    name="kalman_smoother_with_inputs",
    inputs=LOG_LIKELIHOOD_WITH_INPUTS.inputs,
    ndims=LOG_LIKELIHOOD_WITH_INPUTS.ndims,
)
HMM_SMOOTHER = Moments(
    "hmm_smoother",
    HMM_LOG_LIKELIHOOD.inputs,
    HMM_LOG_LIKELIHOOD.ndims,
    _hmm_smoother,
    _of_hmm_smoother,
    HMM_LOG_LIKELIHOOD.data,
)
