"""Mistakes in everyday parameters, each in the place of one function of `textbook`."""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.crosscheck.museum import textbook
from svae.crosscheck.museum.gallery import mistake
from svae.types import Array

Function = Callable[..., Any]
LDS, HMM = ("lds",), ("hmm",)


@mistake(
    "transposed-dynamics",
    "the dynamics A are transposed",
    LDS,
    (textbook, "step_of"),
    ("lds-small",),
)
def _transposed_dynamics(right: Function) -> Function:
    """Nobody in particular; row vectors and column vectors.

    Code that keeps states as rows has x A' where papers have A x, and a matrix that is
    handed from one to the other arrives transposed.
    """

    def wrong(*arguments: Any) -> Any:
        step = right(*arguments)
        return step._replace(A=step.A.T)

    return wrong


@mistake(
    "diagonal-boost",
    "1e-9 is added to the diagonal of the matrix that every gain is solved with",
    LDS,
    (textbook, "solve"),
    ("lds-small",),
)
def _diagonal_boost(right: Function) -> Function:
    """A hidden argument of dynamax's psd_solve.

    Its ``diagonal_boost=1e-9`` is in every gain of its filters and smoothers; issue 334
    of that package asks about it.
    """

    def wrong(S: Array, b: Array) -> Array:
        return right(S + 1e-9 * np.eye(len(S)), b)

    return wrong


@mistake(
    "second-moment-as-covariance-of-neighbours",
    "E[x_t x_{t+1}'] is returned as the covariance of neighbours",
    LDS,
    (textbook, "report_cross"),
    ("lds-small",),
)
def _cross_second_moment(right: Function) -> Function:
    """A second moment by the name of a covariance.

    The field smoothed_cross_covariances of dynamax holds E[x_t x_{t+1}'], as its
    documentation says: what EM needs, and a mistake for who reads the name alone.
    """

    def wrong(cross: Array, means: Array) -> Array:
        return right(cross, means) + means[:-1, :, None] * means[1:, None, :]

    return wrong


@mistake(
    "second-moment-as-covariance",
    "E[x x'] is returned as the covariance",
    LDS,
    (textbook, "report"),
    ("lds-small",),
)
def _second_moment(right: Function) -> Function:
    """Nobody in particular; the second moment is what statistics are made of."""

    def wrong(means: Any, covs: Any) -> Any:
        means, covs = right(means, covs)
        return means, covs + means[:, :, None] * means[:, None, :]

    return wrong


@mistake(
    "predicted-before-the-first-update",
    "the first state is predicted once before its data are seen",
    LDS,
    (textbook, "run_filter"),
    ("lds-small",),
)
def _predicted_first(right: Function) -> Function:
    """Packages of which the first state is that before any data.

    There it is a convention (of filterpy's loop, of control theory), which is a mistake
    for who hands them the law of x_1.
    """

    def wrong(start: Any, steps: Any) -> Any:
        return right(textbook.predict(start, steps[0]), steps)

    return wrong


@mistake(
    "inputs-ignored",
    "the inputs do not move the state",
    LDS,
    (textbook, "predict"),
    ("lds-inputs",),
)
def _inputs_ignored(right: Function) -> Function:
    """A revisit of structured variational autoencoders, with parallel scans, has it.

    There the bias of the dynamics is in the prior and in the likelihood, and is
    forgotten by the parallel filter, smoother and sampler.
    """

    def wrong(law: Any, step: Any) -> Any:
        return right(law, step._replace(push=0.0 * step.push))

    return wrong


@mistake(
    "inputs-one-step-late",
    "the state is moved by the input of the step that it goes to",
    LDS,
    (textbook, "run_filter"),
    ("lds-inputs",),
)
def _inputs_late(right: Function) -> Function:
    """Nobody in particular; x_t = A x_{t-1} + B u_t is as common as B u_{t-1}."""

    def wrong(start: Any, steps: Any) -> Any:
        after = [*steps[1:], steps[-1]]
        pairs = zip(steps, after, strict=True)
        return right(start, [s._replace(push=a.push) for s, a in pairs])

    return wrong


@mistake(
    "direct-input-ignored",
    "the inputs do not reach the observations",
    LDS,
    (textbook, "observed_part"),
    ("lds-inputs",),
)
def _direct_input_ignored(right: Function) -> Function:
    """Nobody in particular; D is zero in most examples."""

    def wrong(step: Any, m: Any) -> Any:
        return right(step._replace(shift=0.0 * step.shift), m)

    return wrong


@mistake(
    "missing-as-zero",
    "missing entries of y are taken for zeros",
    LDS,
    (textbook, "observed_part"),
    ("lds-partial-masks",),
)
def _missing_as_zero(right: Function) -> Function:
    """A call of nan_to_num at the door.

    The script of the 2016 code that shows prediction puts zeros where frames are
    hidden.
    """

    def wrong(step: Any, m: Any) -> Any:
        seen = ~onp.isnan(textbook.value_of(step.y))
        return right(step._replace(y=np.where(seen, step.y, 0.0)), m)

    return wrong


@mistake(
    "partial-frame-dropped",
    "a step with some entries missing counts as missing altogether",
    LDS,
    (textbook, "observed_part"),
    ("lds-partial-masks",),
)
def _partial_frame_dropped(right: Function) -> Function:
    """Filters with one flag for each step have it, pykalman's among them.

    The mask of an observation is asked whether any of its entries is hidden.
    """

    def wrong(step: Any, m: Any) -> Any:
        hidden = onp.isnan(textbook.value_of(step.y)).any()
        return right(step._replace(y=step.y + (onp.nan if hidden else 0.0)), m)

    return wrong


@mistake(
    "diagonal-of-R",
    "the covariances of the observations' noise are dropped, its variances kept",
    LDS,
    (textbook, "observed_part"),
    ("lds-partial-masks",),
)
def _diagonal_of_noise(right: Function) -> Function:
    """Filters that take one entry of y after the other have it unless R is diagonal.

    Two of the earlier codes of structured variational autoencoders take diagonal
    precisions alone.
    """

    def wrong(step: Any, m: Any) -> Any:
        return right(step._replace(R=step.R * np.eye(len(step.R))), m)

    return wrong


@mistake(
    "constant-of-missing-entries",
    "the likelihood counts log 2 pi for missing entries of y",
    LDS,
    (textbook, "update"),
    ("lds-partial-masks",),
)
def _constant_of_missing(right: Function) -> Function:
    """The constant (T P/2) log 2 pi, subtracted once at the end."""

    def wrong(law: Any, step: Any) -> Any:
        law, log_density = right(law, step)
        hidden = int(onp.isnan(textbook.value_of(step.y)).sum())
        return law, log_density - 0.5 * hidden * onp.log(2 * onp.pi)

    return wrong


@mistake(
    "constant-missing",
    "the likelihood lacks the constants log 2 pi",
    LDS,
    (textbook, "log_constant"),
    ("lds-small",),
)
def _constant_missing(right: Function) -> Function:
    """Wherever only differences of likelihoods matter.

    The log likelihoods of simdkalman are without the constant, which is a convention
    for who knows it.
    """

    def wrong(size: int) -> float:
        return 0.0

    return wrong


@mistake(
    "smoothed-without-gain-of-covariance",
    "the smoother leaves the filtered covariances as they are",
    LDS,
    (textbook, "smooth"),
    ("lds-small",),
)
def _covariance_not_smoothed(right: Function) -> Function:
    """A smoother of means alone."""

    def wrong(filtered: Any, predicted: Any, after: Any, step: Any) -> Any:
        (mean, _), cross = right(filtered, predicted, after, step)
        return (mean, filtered[1]), cross

    return wrong


@mistake(
    "smoother-gain-without-noise",
    "the smoother's gain lacks Q, with A P A' for the covariance of x_{t+1}",
    LDS,
    (textbook, "smoother_gain"),
    ("lds-small",),
)
def _wrong_smoother_gain(right: Function) -> Function:
    """A term forgotten where the recursion of Rauch, Tung and Striebel is typed in."""

    def wrong(cov: Array, predicted: Array, step: Any) -> Array:
        return right(cov, step.A @ cov @ step.A.T, step)

    return wrong


@mistake(
    "one-triangle",
    "gradients in symmetric matrices are those of one triangle",
    LDS,
    (textbook, "symmetric"),
    ("lds-small",),
)
def _one_triangle(right: Function) -> Function:
    """A gradient through a Cholesky factor that reads one triangle.

    The entries on the other side are zero and those on this side doubled; as an inner
    product with a symmetric change it is right, as a matrix it is another one.
    """

    def wrong(slope: Array) -> Array:
        slope = right(slope)
        return 2 * onp.tril(slope) - slope * onp.eye(slope.shape[-1])

    return wrong


@mistake(
    "steps-behind-the-end",
    "short sequences have the steps behind their ends too",
    LDS + HMM,
    (textbook, "lengths_of"),
    ("lds-ragged", "hmm-ragged"),
)
def _steps_behind(right: Function) -> Function:
    """Padded batches without a mask; see lengths-ignored."""

    def wrong(inputs: Any, data: str) -> list[int]:
        N, T = onp.shape(inputs[data])[:2]
        return [T] * N

    return wrong


@mistake(
    "transposed-transition",
    "the transition matrix is transposed",
    HMM,
    (textbook, "chain_of"),
    ("hmm-small",),
)
def _transposed_transition(right: Function) -> Function:
    """Nobody in particular; in half of the literature columns sum to one."""

    def wrong(*arguments: Any) -> Any:
        start, transitions, node = right(*arguments)
        return start, [onp.swapaxes(A, -1, -2) for A in transitions], node

    return wrong


@mistake(
    "probability-floor",
    "probabilities are kept above 1e-15",
    HMM,
    (textbook, "forward"),
    ("hmm-very-sticky",),
)
def _probability_floor(right: Function) -> Function:
    """The normalisation of dynamax's hidden Markov models has it.

    Positive numbers below 1e-15 become 1e-15 at each step of the filter: harmless where
    the data speak, and not where a long sticky chain is sure of its state.
    """

    def wrong(log_start: Any, log_transitions: Any, node: Any) -> Any:
        def floored(log_weights: Any) -> tuple[Any, float]:
            largest = onp.max(log_weights)
            weights = onp.exp(log_weights - largest)
            weights = onp.where((weights > 0) & (weights < 1e-15), 1e-15, weights)
            total = weights.sum()
            return weights / total, float(onp.log(total) + largest)

        before, alpha, probs, scale = [log_start], [], None, 0.0
        for t in range(len(node)):
            if t:
                predicted = probs @ onp.exp(log_transitions[t - 1])
                before.append(textbook.log_of(predicted) + scale)
            shift = onp.max(node[t])
            weights = onp.exp(before[-1] - scale) * onp.exp(node[t] - shift)
            probs, log_norm = floored(textbook.log_of(weights))
            scale = scale + log_norm + shift
            alpha.append(textbook.log_of(probs) + scale)
        return alpha, before

    return wrong


@mistake(
    "small-predictions-are-zero",
    "the smoother drops states whose predicted probability is below 1e-8",
    HMM,
    (textbook, "one_chain"),
    ("hmm-sticky",),
)
def _small_predictions(right: Function) -> Function:
    """A guard against 0/0 in the smoother of dynamax.

    It asks whether a predicted probability is close to zero, with the tolerance 1e-8 of
    isclose; the smoother by two filters of that package is without it.
    """

    def wrong(model: Any, n: int, length: int) -> Any:
        answers = right(model, n, length)
        _, transitions, _ = textbook.chain_of(model, n, length)
        filtered, predicted = answers["filtered"], answers["predicted"]
        smoothed, pairs = [filtered[-1]], onp.zeros((len(filtered[0]),) * 2)
        for t in reversed(range(length - 1)):
            small = onp.isclose(predicted[t + 1], 0.0)
            relative = onp.where(small, 0.0, smoothed[-1] / predicted[t + 1])
            probs = filtered[t] * (transitions[t] @ relative)
            pairs = pairs + filtered[t][:, None] * transitions[t] * relative
            smoothed.append(probs / probs.sum())
        return answers | {"smoothed": onp.array(smoothed[::-1]), "pairs": pairs}

    return wrong


@mistake(
    "transition-before-the-first-step",
    "the start is the law before the first state: one transition too many",
    HMM,
    (textbook, "chain_of"),
    ("hmm-small",),
)
def _transition_first(right: Function) -> Function:
    """Codes of which the state 0 has no data; a convention, misunderstood."""

    def wrong(model: Any, n: int, length: int) -> Any:
        start, transitions, node = right(model, n, length)
        if transitions:
            start = start @ transitions[0]
        return start, transitions, node

    return wrong


@mistake(
    "uniform-start",
    "the first state is drawn from all states alike",
    HMM,
    (textbook, "chain_of"),
    ("hmm-small",),
)
def _uniform_start(right: Function) -> Function:
    """A start that is kept and never used."""

    def wrong(*arguments: Any) -> Any:
        start, transitions, node = right(*arguments)
        return onp.full(len(start), 1 / len(start)), transitions, node

    return wrong


@mistake(
    "filtered-as-smoothed",
    "what is given as smoothed is filtered",
    HMM,
    (textbook, "backward"),
    ("hmm-small",),
)
def _no_backward(right: Function) -> Function:
    """A filter called a smoother; transitions and gradients are then filtered too."""

    def wrong(log_transitions: Any, node: Any) -> Any:
        return [onp.zeros(node.shape[1]) for _ in node]

    return wrong


@mistake(
    "sum-without-maximum",
    "exponentials are summed without the largest taken out",
    HMM,
    (textbook, "log_sum_exp"),
    ("hmm-spread-1000",),
)
def _sum_without_maximum(right: Function) -> Function:
    """As it is written in papers; see log-sum-exp-without-maximum."""

    def wrong(x: Array, axis: int) -> Array:
        return onp.log(onp.sum(onp.exp(x), axis))

    return wrong


@mistake(
    "pairs-averaged",
    "expected transitions are a mean over sequences, not a sum",
    HMM,
    (textbook, "total_of_pairs"),
    ("hmm-small",),
)
def _pairs_averaged(right: Function) -> Function:
    """A mean over the batch where the sum belongs."""

    def wrong(pairs: Array, lengths: list[int]) -> Array:
        return right(pairs, lengths) / len(lengths)

    return wrong
