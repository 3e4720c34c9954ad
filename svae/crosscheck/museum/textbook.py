r"""The filters and smoothers of textbooks, one small function for each line.

They are a third derivation beside the kernels and the certified values, and the wall on
which mistakes are hung: a mistake replaces one function here.  The linear system is

    x_1 ~ N(m0, P0),
    x_{t+1} = A x_t + B u_t + N(0, Q),   y_t = C x_t + D u_t + N(0, R),

filtered by Kalman's recursion in covariances and smoothed by that of Rauch, Tung and
Striebel; the hidden Markov model goes forward and backward as Rabiner (1989) has it, in
logarithms.  Where covariances are nearly singular a textbook loses digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd import grad
from scipy.special import logsumexp as stable_logsumexp

from svae.types import Array

__all__ = ["hmm", "lds"]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]
Gaussian = tuple[Array, Array]

DIFFERENTIABLE = ("A", "B", "Q", "C", "D", "R", "m0", "P0", "y", "u")
SYMMETRIC = ("Q", "R", "P0")


class Step(NamedTuple):
    """What a step of a sequence has to do with its system."""

    A: Array
    push: Array
    """B u, what moves the state beside A."""
    Q: Array
    C: Array
    shift: Array
    """D u, what the observation has beside C x."""
    R: Array
    y: Array
    """NaN where nothing is observed."""


# --- the linear system


def lds(inputs: Inputs, slopes: bool = True) -> Answers:
    """Answer a case of kind ``lds``, with gradients of its log likelihood if asked."""
    system = parameters(inputs)
    lengths = lengths_of(inputs, "standard.y")
    answers = passes(system, lengths)
    answers["log_likelihood"] = onp.array(answers["log_likelihood"])
    if not slopes:
        return answers
    known = {k: v for k, v in system.items() if k in DIFFERENTIABLE}

    def total(changed: Mapping[str, Any]) -> Any:
        parts = system | {name: changed[name] for name in known}
        return sum(passes(parts, lengths, smooth=False)["log_likelihood"])

    for name, slope in gradient_of(total, known).items():
        slope = symmetric(slope) if name in SYMMETRIC else slope
        answers[f"grad.{name}"] = onp.where(onp.isnan(system[name]), 0.0, slope)
    return answers


def gradient_of(total: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the gradient of a sum of log likelihoods."""
    gradient: dict[str, Any] = grad(total)(arguments)
    return gradient


def symmetric(slope: Array) -> Array:
    """Return the gradient in a symmetric matrix, both of whose halves are one."""
    return (slope + onp.swapaxes(slope, -1, -2)) / 2


def parameters(inputs: Inputs) -> dict[str, Any]:
    """Return the standard parameters of a case that it has, by name."""
    return {
        name.removeprefix("standard."): np.asarray(x, float)
        for name, x in inputs.items()
        if name.startswith("standard.") and name != "standard.lengths"
    }


def lengths_of(inputs: Inputs, data: str) -> list[int]:
    """Return how many steps each sequence has."""
    N, T = onp.shape(inputs[data])[:2]
    for name in ("standard.lengths", "lengths", "natural.lengths"):
        if inputs.get(name) is not None:
            return [int(n) for n in onp.asarray(inputs[name])]
    return [T] * N


def passes(system: dict[str, Any], lengths: list[int], smooth: bool = True) -> Answers:
    """Filter every sequence, and smooth it, and line up what comes out."""
    T = system["y"].shape[1]
    found: dict[str, list[Any]] = {}
    for n, length in enumerate(lengths):
        for name, x in one_sequence(system, n, length, smooth).items():
            steps = T - 1 if name == "smoothed.cross_cov" else T
            x = x if name == "log_likelihood" else padded(x, steps)
            found.setdefault(name, []).append(x)
    return {
        name: x if name == "log_likelihood" else onp.array(x)
        for name, x in found.items()
    }


def padded(x: Array, steps: int) -> Array:
    """Put zeros where a sequence has ended."""
    return onp.concatenate([x, onp.zeros((steps - len(x), *x.shape[1:]))])


def one_sequence(system: dict[str, Any], n: int, length: int, smooth: bool) -> Answers:
    """Filter and smooth one sequence."""
    steps = [step_of(system, n, t, t == length - 1) for t in range(length)]
    predicted, filtered, log_likelihood = run_filter(start_of(system, n), steps)
    answers: Answers = {"log_likelihood": log_likelihood}
    if not smooth:
        return answers
    smoothed, cross = run_smoother(steps, filtered, predicted)
    moments = ("predicted", predicted), ("filtered", filtered), ("smoothed", smoothed)
    for name, gaussians in moments:
        means, covs = zip(*gaussians, strict=True)
        answers[f"{name}.mean"], answers[f"{name}.cov"] = report(means, covs)
    D = len(filtered[0][0])
    answers["smoothed.cross_cov"] = report_cross(
        onp.reshape(onp.array(cross), (length - 1, D, D)), answers["smoothed.mean"]
    )
    return answers


def report(means: Any, covs: Any) -> tuple[Array, Array]:
    """Return means and covariances of all steps as arrays."""
    return onp.array(means), onp.array(covs)


def report_cross(cross: Array, means: Array) -> Array:
    """Return Cov(x_t, x_{t+1}) of all steps."""
    return cross


def start_of(system: dict[str, Any], n: int) -> Gaussian:
    """Return the law of x_1 before y_1."""
    m0, P0 = system["m0"], system["P0"]
    return (m0[n] if m0.ndim == 2 else m0), (P0[n] if P0.ndim == 3 else P0)


def step_of(system: dict[str, Any], n: int, t: int, last: bool) -> Step:
    """Return what step t of sequence n takes from the system."""

    def at(name: str) -> Array:
        x = system[name]
        if x.ndim < 3:
            return x
        if name in ("A", "B", "Q") and last:  # there is no step after it
            return x[-1] if len(x) else np.zeros(x.shape[1:])
        return x[t]

    A, C, y = at("A"), at("C"), system["y"][n, t]
    push, shift = np.zeros(len(A)), np.zeros(len(C))
    u = system.get("u")
    if u is not None:
        u = u[n, t] if u.ndim == 3 else u[t]
        push = at("B") @ u if "B" in system else push
        shift = at("D") @ u if "D" in system else shift
    return Step(A, push, at("Q"), C, shift, at("R"), y)


def run_filter(
    start: Gaussian, steps: list[Step]
) -> tuple[list[Gaussian], list[Gaussian], Any]:
    """Return what is known of each step before and after its y, and log p(y)."""
    predicted, filtered, total = [], [], 0.0
    law = start
    for step in steps:
        predicted.append(law)
        law, log_density = update(law, step)
        filtered.append(law)
        total = total + log_density
        law = predict(law, step)
    return predicted, filtered, total


def predict(law: Gaussian, step: Step) -> Gaussian:
    """Return the law of x_{t+1} given that of x_t."""
    m, P = law
    return step.A @ m + step.push, step.A @ P @ step.A.T + step.Q


def update(law: Gaussian, step: Step) -> tuple[Gaussian, Any]:
    """Return the law of x_t given y_t too, and the log density of y_t."""
    m, P = law
    C, R, error = observed_part(step, m)
    if not len(error):
        return law, 0.0
    S = C @ P @ C.T + R
    gain = solve(S, C @ P).T
    return (m + gain @ error, P - gain @ S @ gain.T), log_density(error, S)


def observed_part(step: Step, m: Array) -> tuple[Array, Array, Array]:
    """Return C, R and the error of the prediction of what is observed."""
    seen = onp.flatnonzero(~onp.isnan(value_of(step.y)))
    C, R = step.C[seen], step.R[seen][:, seen]
    return C, R, step.y[seen] - C @ m - step.shift[seen]


def value_of(x: Any) -> Array:
    """Return what is in autograd's boxes."""
    while hasattr(x, "_value"):
        x = x._value
    return onp.asarray(x)


def log_density(error: Array, S: Array) -> Any:
    """Return log N(error; 0, S)."""
    squared = error @ np.linalg.solve(S, error)
    return -0.5 * (squared + np.linalg.slogdet(S)[1] + log_constant(len(error)))


def log_constant(size: int) -> float:
    """Return what a normal density of some numbers has beside its exponent, twice."""
    return size * float(onp.log(2 * onp.pi))


def solve(S: Array, b: Array) -> Array:
    """Solve the positive definite system of a gain."""
    return np.linalg.solve(S, b)


def run_smoother(
    steps: list[Step], filtered: list[Gaussian], predicted: list[Gaussian]
) -> tuple[list[Gaussian], list[Array]]:
    """Return the laws given all y, and the covariances of neighbours."""
    smoothed, cross = [filtered[-1]], []
    for t in reversed(range(len(steps) - 1)):
        law, cov = smooth(filtered[t], predicted[t + 1], smoothed[-1], steps[t])
        smoothed.append(law)
        cross.append(cov)
    return smoothed[::-1], cross[::-1]


def smooth(
    filtered: Gaussian, predicted: Gaussian, after: Gaussian, step: Step
) -> tuple[Gaussian, Array]:
    """Return the law of x_t given all y, and Cov(x_t, x_{t+1})."""
    gain = smoother_gain(filtered[1], predicted[1], step)
    mean = filtered[0] + gain @ (after[0] - predicted[0])
    cov = filtered[1] + gain @ (after[1] - predicted[1]) @ gain.T
    return (mean, cov), gain @ after[1]


def smoother_gain(cov: Array, predicted: Array, step: Step) -> Array:
    """Return Cov(x_t, x_{t+1}) Cov(x_{t+1})^-1 given the past."""
    return solve(predicted, step.A @ cov).T


# --- the hidden Markov model


def hmm(inputs: Inputs, slopes: bool = True) -> Answers:
    """Answer a case of kind ``hmm``, with gradients of its log likelihood if asked."""
    model = parameters(inputs)
    lengths = lengths_of(inputs, "standard.log_likelihoods")
    T = model["log_likelihoods"].shape[1]
    found: dict[str, list[Any]] = {}
    for n, length in enumerate(lengths):
        for name, x in one_chain(model, n, length).items():
            alone = name in ("log_likelihood", "pairs")
            found.setdefault(name, []).append(x if alone else padded(x, T))
    answers: Answers = {name: onp.array(x) for name, x in found.items()}
    answers["pairs"] = total_of_pairs(answers["pairs"], lengths)
    if slopes:
        answers |= slopes_of_hmm(model, lengths)
    return answers


def one_chain(model: dict[str, Any], n: int, length: int) -> Answers:
    """Go forward and backward through one sequence."""
    start, transitions, node = chain_of(model, n, length)
    alpha, before = forward(log_of(start), map_log(transitions), node)
    beta = backward(map_log(transitions), node)
    total = log_sum_exp(alpha[-1], 0)
    smoothed = [normalised(a + b) for a, b in zip(alpha, beta, strict=True)]
    K = len(start)
    pairs = onp.zeros((K, K))
    for t in range(length - 1):
        joint = alpha[t][:, None] + log_of(transitions[t]) + node[t + 1] + beta[t + 1]
        pairs = pairs + onp.exp(joint - total)
    return {
        "log_likelihood": total,
        "filtered": onp.array([normalised(a) for a in alpha]),
        "predicted": onp.array([normalised(a) for a in before]),
        "smoothed": onp.array(smoothed),
        "pairs": pairs,
    }


def total_of_pairs(pairs: Array, lengths: list[int]) -> Array:
    """Return the expected numbers of transitions in all sequences together."""
    return onp.sum(pairs, 0)


def chain_of(model: dict[str, Any], n: int, length: int) -> tuple[Any, Any, Any]:
    """Return start, transitions of each step and log likelihoods of sequence n."""
    start, transition = model["start"], model["transition"]
    start = start[n] if start.ndim == 2 else start
    if transition.ndim == 4:
        transition = transition[n if len(transition) > 1 else 0]
    if transition.ndim == 2:
        transition = transition[None]
    several = [
        transition[t if len(transition) > 1 else 0] for t in range(max(length - 1, 0))
    ]
    return start, several, model["log_likelihoods"][n, :length]


def forward(
    log_start: Array, log_transitions: list[Array], node: Array
) -> tuple[list[Array], list[Array]]:
    """Return log p(z_t, y_1..y_t) of every step, and the same without y_t."""
    before, alpha = [log_start], [log_start + node[0]]
    for t, log_transition in enumerate(log_transitions):
        before.append(log_sum_exp(alpha[-1][:, None] + log_transition, 0))
        alpha.append(before[-1] + node[t + 1])
    return alpha, before


def backward(log_transitions: list[Array], node: Array) -> list[Array]:
    """Return log p(y_{t+1}..y_T given z_t) of every step."""
    beta: list[Array] = [onp.zeros(node.shape[1])]
    for t in reversed(range(len(log_transitions))):
        beta.append(log_sum_exp(log_transitions[t] + node[t + 1] + beta[-1], 1))
    return beta[::-1]


def slopes_of_hmm(model: dict[str, Any], lengths: list[int]) -> Answers:
    """Return the gradient of the summed log likelihood in all three arguments.

    The likelihood is linear in every single probability, so that its slope is what
    comes before times what follows over the whole (Baum and Petrie 1966).
    """
    start_bar = onp.zeros(model["start"].shape)
    transition_bar = onp.zeros(model["transition"].shape)
    node_bar = onp.zeros(model["log_likelihoods"].shape)
    for n, length in enumerate(lengths):
        start, transitions, node = chain_of(model, n, length)
        alpha, _ = forward(log_of(start), map_log(transitions), node)
        beta = backward(map_log(transitions), node)
        total = log_sum_exp(alpha[-1], 0)
        of_start = onp.exp(node[0] + beta[0] - total)
        start_bar[n if start_bar.ndim == 2 else ...] += of_start
        for t in range(length):
            node_bar[n, t] = onp.exp(alpha[t] + beta[t] - total)
        for t in range(length - 1):
            step = alpha[t][:, None] + node[t + 1] + beta[t + 1] - total
            lead: Any = ()
            if transition_bar.ndim == 3:
                lead = (t if len(transition_bar) > 1 else 0,)
            elif transition_bar.ndim == 4:
                a, b = transition_bar.shape[:2]
                lead = (n if a > 1 else 0, t if b > 1 else 0)
            transition_bar[lead] += onp.exp(step)
    slopes = start_bar, transition_bar, node_bar
    names = "grad.start", "grad.transition", "grad.log_likelihoods"
    return dict(zip(names, slopes, strict=True))


def map_log(transitions: list[Array]) -> list[Array]:
    """Return the logarithms of the transitions of every step."""
    return [log_of(transition) for transition in transitions]


def log_of(probability: Array) -> Array:
    """Return the logarithm, -inf of zero."""
    with onp.errstate(divide="ignore"):
        return onp.log(probability)


def normalised(log_weights: Array) -> Array:
    """Return probabilities in the proportion of exponentials."""
    return onp.exp(log_weights - log_sum_exp(log_weights, 0))


def log_sum_exp(x: Array, axis: int) -> Array:
    """Return the logarithm of a sum of exponentials."""
    with onp.errstate(divide="ignore"):
        return onp.asarray(stable_logsumexp(x, axis))
