"""Hidden Markov models in probabilities: filter, smoother, paths, likelihood.

The states are z_1 ~ start and P(z_{t+1} = j | z_t = i) = transition[i, j], and what is
known of the observations is log_likelihoods[t, k] = log p(y_t | z_t = k). Probabilities
of zero, and log likelihoods of -inf, are as good as others: values come from
`svae.kernels` with log potentials of -inf, which are exact, and gradients are those in
the probabilities themselves, so that the gradient in a probability of zero is what a
little of it would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

from svae import kernels
from svae.autodiff.operations import value_of
from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import by_definition, trace
from svae.kernels.arguments import (
    as_array,
    as_lengths,
    require_finite,
    require_shape,
    wrong_shape,
)
from svae.standard.records import HMMFiltered, HMMSmoothed
from svae.types import VJP, Array, Integers, Rng

__all__ = [
    "hmm_filter",
    "hmm_log_likelihood",
    "hmm_predict",
    "hmm_sample",
    "hmm_sample_posterior",
    "hmm_smoother",
    "hmm_viterbi",
]

UNBALANCED = 1e-6
"""Largest distance of a sum of probabilities from one."""
SMALLEST = 1e-100
"""Nothing is divided by probabilities below: expected counts have lost digits."""


class HMM(NamedTuple):
    """Checked arguments."""

    start: Array
    """(K,) or (N, K)."""
    transition: Array
    """(K, K) or (N or 1, T-1 or 1, K, K)."""
    log_likelihoods: Array
    """(N, T, K)."""
    lengths: Integers
    is_single: bool

    @property
    def is_positive(self) -> bool:
        """Whether all probabilities are large enough to divide by."""
        start, transition = value_of(self.start), value_of(self.transition)
        return bool((start > SMALLEST).all() and (transition > SMALLEST).all())


def hmm_log_likelihood(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    lengths: Integers | None = None,
) -> Array:
    """Return log p(y) of hidden Markov models.

    Differentiable in all three arguments, and twice; the gradient is that of the
    polynomial in the probabilities, with no constraint on their sums.

    Parameters
    ----------
    start : (K,) or (N, K) array
        Probabilities of the first state.
    transition : (K, K), (T-1, K, K) or (N, T-1, K, K) array
        [i, j] is the probability of j after i: rows sum to one.
    log_likelihoods : (N, T, K) or (T, K) array
        log p(y_t | z_t = k); zeros where nothing was observed.
    lengths : (N,) integers in 1..T, optional

    Returns
    -------
    (N,) array, or () for log likelihoods (T, K)

    Raises
    ------
    ValueError
        If an argument is malformed: a negative probability, or a sum that is not one.
    Impossible
        If a sequence has probability zero.

    Examples
    --------
    >>> import numpy as np
    >>> from svae.standard import hmm_log_likelihood
    >>> rain = np.array([0.5, 0.5]), np.array([[0.7, 0.3], [0.3, 0.7]])
    >>> umbrella = np.log([[0.9, 0.2], [0.9, 0.2]])
    >>> float(np.exp(hmm_log_likelihood(*rain, umbrella)).round(4))
    0.3515
    """
    model = as_hmm(start, transition, log_likelihoods, lengths)
    return _alone(model, _total(model))


def hmm_filter(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    lengths: Integers | None = None,
) -> HMMFiltered:
    """Return P(z_t | y_1..y_t).

    Parameters and errors as in `hmm_log_likelihood`.

    Returns
    -------
    HMMFiltered
        With ``probabilities`` (N, T, K) and ``log_likelihood`` (N,).
    """
    return _ahead(as_hmm(start, transition, log_likelihoods, lengths), 0)


def hmm_predict(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    lengths: Integers | None = None,
) -> HMMFiltered:
    """Return P(z_t | y_1..y_{t-1}); the first are those of the start.

    Parameters and errors as in `hmm_log_likelihood`.

    Returns
    -------
    HMMFiltered
        With ``probabilities`` (N, T, K) and ``log_likelihood`` (N,).
    """
    return _ahead(as_hmm(start, transition, log_likelihoods, lengths), 1)


def _ahead(model: HMM, part: int) -> HMMFiltered:
    """Return filtered (0) or predicted (1) probabilities, with the likelihood."""
    parts = _filtered(model.start, model.transition, *model[2:4])
    return HMMFiltered(_alone(model, parts[part]), _alone(model, _total(model)))


def hmm_smoother(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    lengths: Integers | None = None,
    pairs: bool = False,
) -> HMMSmoothed:
    """Return P(z_t | y), expected transitions, and probabilities of pairs if wanted.

    Parameters and errors as in `hmm_log_likelihood`.

    Parameters
    ----------
    start, transition, log_likelihoods, lengths
    pairs : bool
        Whether to return probabilities of all pairs, T-1 matrices for each sequence.

    Returns
    -------
    HMMSmoothed
        With ``probabilities`` (N, T, K), ``transitions`` (K, K), the expected numbers
        of transitions of all sequences, ``log_likelihood`` (N,) and ``pairs``
        (N, T-1, K, K) or None.
    """
    model = as_hmm(start, transition, log_likelihoods, lengths)
    if model.is_positive:
        shape = (*value_of(model.log_likelihoods).shape[:2], len(model.start.T))
        N, T, K = shape
        pair = np.log(model.transition)
        if pairs:
            pair = pair + onp.zeros((N, T - 1, K, K))
        logZ, (_, counts, states) = kernels.markov_chain(
            np.log(model.start), pair, model.log_likelihoods, model.lengths
        )
    else:
        found = _smoothed(model.start, model.transition, *model[2:4], pairs)
        logZ, counts, states = found[0], found[1], found[2]
    total = np.sum(counts, tuple(range(counts.ndim - 2)))
    of_pairs = _alone(model, counts) if pairs else None
    return HMMSmoothed(_alone(model, states), of_pairs, total, _alone(model, logZ))


def hmm_viterbi(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    lengths: Integers | None = None,
) -> tuple[Integers, Array]:
    """Return the most likely path, and the log of its joint probability with y.

    Parameters and errors as in `hmm_log_likelihood`; not differentiable.

    Returns
    -------
    paths : (N, T) int64, -1 past the length; of equally likely states the lowest
    log_probability : (N,)
    """
    model = as_hmm(start, transition, log_likelihoods, lengths)
    paths, score = kernels.viterbi(*_log_potentials(model), model.lengths)
    return _alone(model, paths), _alone(model, score)


def hmm_sample(
    start: Array,
    transition: Array,
    num_steps: int,
    num_samples: int = 1,
    rng: Rng = None,
    uniforms: Array | None = None,
) -> Integers:
    """Return paths (S, T) of the states, drawn from their prior.

    Parameters
    ----------
    start : (K,) array
    transition : (K, K) or (T-1, K, K) array
    num_steps, num_samples : int
        T and S.
    rng : seed or generator
    uniforms : (S, T) array in [0, 1), optional
        In place of ``rng``, as in `svae.kernels.sample_markov_chain`.
    """
    silent = onp.zeros((1, num_steps, len(start)))
    if uniforms is not None:
        uniforms = onp.asarray(uniforms)[None]
    model = as_hmm(start, transition, silent, None)
    return _paths(model, num_samples, rng, uniforms)[0]


def hmm_sample_posterior(
    start: Array,
    transition: Array,
    log_likelihoods: Array,
    num_samples: int = 1,
    lengths: Integers | None = None,
    rng: Rng = None,
    uniforms: Array | None = None,
) -> Integers:
    """Return paths of the states, drawn given the observations, (N, S, T).

    Parameters and errors as in `hmm_log_likelihood`.

    Parameters
    ----------
    start, transition, log_likelihoods, lengths
    num_samples : int
        S.
    rng : seed or generator
    uniforms : (N, S, T) array in [0, 1), optional
        In place of ``rng``, as in `svae.kernels.sample_markov_chain`.

    Returns
    -------
    (N, S, T) int64, -1 past the length; (S, T) for log likelihoods (T, K)
    """
    model = as_hmm(start, transition, log_likelihoods, lengths)
    if uniforms is not None and model.is_single and onp.ndim(uniforms) == 2:
        uniforms = onp.asarray(uniforms)[None]
    return _alone(model, _paths(model, num_samples, rng, uniforms))


def as_hmm(
    start: Array, transition: Array, log_likelihoods: Array, lengths: Any
) -> HMM:
    """Check arguments, and bring them to one shape; see `hmm_log_likelihood`."""
    logs = as_array("log_likelihoods", log_likelihoods)
    is_single = value_of(logs).ndim == 2
    logs = logs[None] if is_single else logs
    require_shape("log_likelihoods", logs, ("N", "T", "K"))
    N, T, K = value_of(logs).shape
    if T < 1 or K < 1:
        raise wrong_shape("log_likelihoods", logs, "a step and a state at least")
    lengths = as_lengths(lengths, N, T)
    steps = onp.arange(T)
    require_finite("log_likelihoods", logs, lengths, steps, log=True)
    start, transition = as_array("start", start), as_array("transition", transition)
    require_shape("start", start, (K,), (N, K))
    leads = [(), (T - 1,), (N, T - 1), (N, 1), (1, T - 1), (1, 1)]
    require_shape("transition", transition, *((*lead, K, K) for lead in leads))
    if value_of(transition).ndim == 3:
        transition = transition[None]
    if value_of(transition).shape[:-2] == (1, 1):
        transition = transition[0, 0]
    live = onp.arange(1, T) < lengths[:, None]
    if not live.all() and value_of(transition).ndim == 4:
        shared = value_of(transition).shape[:2]
        read = live.any(0, keepdims=True) if shared[0] == 1 else live
        read = read.any(1, keepdims=True) if shared[1] == 1 else read
        transition = np.where(read[..., None, None], transition, 1.0 / K)
    _require_probabilities("start", value_of(start))
    if T > 1:
        _require_probabilities("transition", value_of(transition))
    return HMM(start, transition, logs, lengths, is_single)


def _require_probabilities(name: str, p: Array) -> None:
    """Refuse what is negative or no number, and rows whose sum is not one."""
    wrong = ~(p >= 0)
    if wrong.any():
        index = tuple(onp.argwhere(wrong)[0].tolist())
        raise ValueError(f"{name}{list(index)} is {p[index]}, wanted a probability")
    total = p.sum(-1)
    wrong = ~(abs(total - 1) <= UNBALANCED)
    if wrong.any():
        row = tuple(onp.argwhere(wrong)[0].tolist())
        place = f"{name}{list(row)}" if row else name
        hint = "; its columns do: transpose it" if _is_transposed(name, p) else ""
        raise ValueError(f"{place} has the sum {total[row]:.8g}, wanted 1{hint}")


def _is_transposed(name: str, p: Array) -> bool:
    return name == "transition" and bool((abs(p.sum(-2) - 1) <= UNBALANCED).all())


def _alone(model: HMM, x: Any) -> Any:
    return x[0] if model.is_single else x


def _log_potentials(model: HMM) -> tuple[Array, Array, Array]:
    """Return plain log potentials."""
    with onp.errstate(divide="ignore"):
        init, pair = onp.log(value_of(model.start)), onp.log(value_of(model.transition))
    return init, pair, value_of(model.log_likelihoods)


def _plain(arguments: Sequence[Any]) -> tuple[Any, ...]:
    model = HMM._make([*arguments[:4], False])
    return (*_log_potentials(model), model.lengths)


def _paths(model: HMM, num_samples: int, rng: Rng, uniforms: Any) -> Integers:
    N, T, _ = value_of(model.log_likelihoods).shape
    if uniforms is None:
        uniforms = onp.random.default_rng(rng).random((N, num_samples, T))
    potentials = _log_potentials(model)
    return kernels.sample_markov_chain(*potentials, uniforms, model.lengths)


def _total(model: HMM) -> Array:
    """Return the log likelihood (N,)."""
    arguments = model[:4]
    if not model.is_positive:
        return _log_likelihood(*arguments)
    start, transition, logs, lengths = arguments
    return kernels.markov_chain(np.log(start), np.log(transition), logs, lengths)[0]


@primitive
def _log_likelihood(*arguments: Any) -> Array:
    return kernels.markov_chain(*_plain(arguments))[0]


def _log_likelihood_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any
) -> VJP:
    def pull_back(g: Any) -> Sequence[Array]:
        if any(map(isbox, (g, *args[:3]))):
            return by_definition(
                lambda *chosen: _definition(*chosen)[0], argnums, args, g
            )
        bars = _gradient(HMM._make([*args[:4], False]), onp.asarray(g))
        return [bars[argnum] for argnum in argnums]

    return pull_back


defvjp_argnums(_log_likelihood, _log_likelihood_vjp)


def _gradient(model: HMM, g: Array) -> list[Array]:
    """Return the gradient of <g, log likelihood> in the probabilities and logs.

    That in a probability is its expected count over it. Where it is zero, that is the
    product of the messages on both sides, over the likelihood of all.
    """
    init, pair, node = _log_potentials(model)
    lengths = model.lengths
    N, T, K = node.shape
    # counts of every sequence, and of the steps that share a transition
    shared = pair.shape[1] if pair.ndim == 4 else 1
    of_each = onp.broadcast_to(pair, (N, shared, K, K))
    logZ, (starts, counts, node_bar) = kernels.markov_chain(
        onp.broadcast_to(init, (N, K)), of_each, node, lengths
    )
    (past, alpha), _ = kernels.markov_filter(init, pair, node, lengths)
    # messages from the end: those of the chain in reversed time, from no start
    steps = onp.arange(T)
    back = onp.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    turned = onp.take_along_axis(node, back[..., None], 1)
    backward_pair = onp.swapaxes(pair, -1, -2)
    if pair.ndim == 4 and pair.shape[1] > 1:
        between = onp.arange(T - 1)
        flip = lengths[:, None] - 2 - between
        flip = onp.where(flip >= 0, flip, between)
        every = onp.broadcast_to(backward_pair, (N, T - 1, K, K))
        backward_pair = onp.take_along_axis(every, flip[..., None, None], 1)
    (future, beta), _ = kernels.markov_filter(
        onp.zeros(K), backward_pair, turned, lengths
    )
    future = onp.take_along_axis(future, back, 1)
    beta = onp.take_along_axis(beta, back[..., None], 1)
    # products of messages over what they sum to with the probability between
    start, transition = value_of(model.start), value_of(model.transition)
    joint = (start * beta[:, 0]).sum(-1)
    of_start = g * _reciprocal(joint, future[:, 0] - logZ)
    start_bar = of_start[:, None] * beta[:, 0]
    live = steps[1:] < lengths[:, None]
    joint = ((alpha[:, :-1, None] @ transition)[:, :, 0] * beta[:, 1:]).sum(-1)
    ratio = _reciprocal(joint, past[:, :-1] + future[:, 1:] - logZ[:, None])
    weights = onp.where(live, g[:, None] * ratio, 0.0)[..., None]
    left, right = weights * alpha[:, :-1], beta[:, 1:]
    pair_bar = _pair_products(left, right, value_of(model.transition).shape)
    starts, counts = g[:, None] * starts, g[:, None, None, None] * counts
    if start.ndim == 1:
        start_bar, starts = start_bar.sum(0), starts.sum(0)
    if transition.ndim == 2:
        counts = counts.sum((0, 1))
    elif len(transition) == 1:
        counts = counts.sum(0, keepdims=True)
    bars = [
        _over(starts, start, start_bar),
        _over(counts, transition, pair_bar),
        g[:, None, None] * node_bar,
    ]
    if not all(onp.isfinite(bar).all() for bar in bars):
        raise FloatingPointError(
            "a gradient in a probability of zero passes 1.8e308: a path that it "
            "forbids is that much more likely than those that are possible"
        )
    return bars


def _over(counts: Array, p: Array, product: Array) -> Array:
    """Return expected counts over their probabilities, or what that is at zero."""
    is_large = p > SMALLEST
    return onp.where(is_large, counts / onp.where(is_large, p, 1.0), product)


def _reciprocal(x: Array, log: Array) -> Array:
    """Return 1 / x, by its log where x has lost digits."""
    is_large = x > SMALLEST
    with onp.errstate(over="ignore"):
        by_log = onp.exp(onp.where(is_large, 0.0, log))
    return onp.where(is_large, 1.0 / onp.where(is_large, x, 1.0), by_log)


def _pair_products(left: Array, right: Array, shape: tuple[int, ...]) -> Array:
    """Return sums of left_i right_j over the sequences and steps that share them."""
    if len(shape) == 2:
        K = shape[-1]
        return left.reshape(-1, K).T @ right.reshape(-1, K)
    products = left[..., :, None] * right[..., None, :]
    shared = tuple(axis for axis in (0, 1) if shape[axis] == 1)
    return products.sum(shared, keepdims=True) if shared else products


@primitive
def _filtered(*arguments: Any) -> Outputs:
    (_, after), (_, before) = kernels.markov_filter(*_plain(arguments))
    return Outputs.of([after, before])


@primitive
def _smoothed(*arguments: Any) -> Outputs:
    init, pair, node, lengths = _plain(arguments)
    if arguments[-1]:
        N, T, K = node.shape
        pair = onp.broadcast_to(pair, (N, T - 1, K, K))
    logZ, (_, counts, states) = kernels.markov_chain(init, pair, node, lengths)
    return Outputs.of([logZ, counts, states])


def _definition(
    start: Array, transition: Array, logs: Array, lengths: Integers, *_: Any
) -> tuple[Array, ...]:
    """Return log likelihood, filtered, predicted, pairs and states, by definition.

    In probabilities, which messages of a sum of one keep within range, so that no
    derivative has a logarithm of zero.
    """
    N, T, K = value_of(logs).shape
    live = onp.arange(T) < lengths[:, None]
    logs = np.where(live[..., None], logs, 0.0)
    largest = value_of(logs).max(-1, keepdims=True)
    weights = np.exp(logs - largest)
    steps = transition + onp.zeros((1, 1, 1, 1))
    before, after, joints = start + onp.zeros((N, 1)), [], []
    total: Any = 0.0
    predicted = []
    for t in range(T):
        predicted.append(before / np.sum(before, -1, keepdims=True))
        alpha = before * weights[:, t]
        scale = np.sum(alpha, -1, keepdims=True)
        scale = np.where(live[:, t, None], scale, 1.0)
        total = total + np.log(scale)[:, 0] + largest[:, t, 0] * live[:, t]
        after.append(alpha / scale)
        if t + 1 < T:
            A = steps[:, t if steps.shape[1] > 1 else 0]
            before = (after[-1][:, None] @ A)[:, 0]
            joints.append((A, scale))
    beta, states, pairs = onp.ones((N, K)), [after[-1]], []
    for t in reversed(range(T - 1)):
        A, _scale = joints[t]
        on = live[:, t + 1, None]
        gamma = weights[:, t + 1] * beta
        norm = np.sum(predicted[t + 1] * gamma, -1, keepdims=True)
        gamma = gamma / norm
        total_before = np.sum((after[t][:, None] @ A)[:, 0], -1, keepdims=True)
        joint = after[t][..., None] * A * (gamma / total_before)[:, None]
        pairs.append(np.where(on[..., None], joint, 0.0))
        beta = np.where(on, (A @ (gamma / total_before)[..., None])[..., 0], 1.0)
        states.append(after[t] * beta)
    none = onp.zeros((N, 0, K, K))
    stacked = np.stack(pairs[::-1], 1) if pairs else none
    found = (np.stack(after, 1), np.stack(predicted, 1), np.stack(states[::-1], 1))
    after_, predicted_, states_ = (np.where(live[..., None], x, 0.0) for x in found)
    return total, after_, predicted_, stacked, states_


def _outputs_vjp(pick: Any) -> Any:
    """Return the VJP of a primitive with several outputs, by their definition."""

    def vjp(argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any) -> VJP:
        def pull_back(g: Any) -> Sequence[Array]:
            def definition(*chosen: Any) -> Any:
                swapped = dict(zip(argnums, chosen, strict=True))
                every = [swapped.get(k, x) for k, x in enumerate(args)]
                return pick(_definition(*every), args)

            count = len(ans.shapes)
            bars = [g[k] if isbox(g) else g.parts[k] for k in range(count)]
            return trace(definition, [args[k] for k in argnums])[0](*bars)

        return pull_back

    return vjp


def _counts(found: Any, args: Sequence[Any]) -> Any:
    """Return log likelihood, pairs summed like the transitions, and states."""
    pairs, shape = found[3], value_of(args[1]).shape
    if args[-1]:
        return found[0], pairs, found[4]
    if len(shape) == 2:
        return found[0], np.sum(pairs, (0, 1)), found[4]
    shared = tuple(axis for axis in (0, 1) if shape[axis] == 1)
    if shared:
        pairs = np.sum(pairs, shared, keepdims=True)
    return found[0], pairs, found[4]


defvjp_argnums(_filtered, _outputs_vjp(lambda found, _: found[1:3]))
defvjp_argnums(_smoothed, _outputs_vjp(_counts))
