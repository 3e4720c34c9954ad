"""What is odd about the data, the course or the outcome of a fit, in words.

Each function looks at one kind of evidence and returns messages: what was seen, with
numbers; what that does to the result; and a remedy.  `tell` says them, once in a fit.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from svae import likelihoods
from svae.data import Summary
from svae.likelihoods import Likelihood

__all__ = [
    "of_data",
    "of_inference",
    "of_natural_steps",
    "of_settings",
    "of_states",
    "tell",
]

LARGE = 10.0
"""Mean absolute value of a column that is far from the scale of priors and networks."""
FAST = 0.1
"""Learning rate from which Adam moves weights by as much as they are, every step."""
FROZEN = 0.25
"""Share of the natural step that is left on average if q(theta) hardly moves."""
UNCONVERGED = 0.01
"""Share of sequences whose inference did not converge that is worth a word."""
NEARLY_ALL = 0.97
"""Share of the frames at which a state leaves nothing to the others."""
IN_USE = 0.01
"""Share of the frames from which a state is in use."""
FEW = 5
"""States for each one in use at which most of them are lost."""
ENOUGH = 10
"""Frames for each state from which it is fair to judge states."""
SAME = 1e-3
"""Share of its largest possible variance by which the odds of two states vary."""
SHORT = 100
"""Steps of training after which it is not yet fair to judge states."""
LIKELY = 0.25
"""Probability, relative to the highest, from which a state may be meant at a frame."""
NAMED = 5
"""Numbers of columns or states that a message has."""


def tell(
    messages: Sequence[str],
    category: type[Warning] = UserWarning,
    stacklevel: int = 1,
) -> None:
    """Warn of each; ``stacklevel`` counts from the caller, as `warnings.warn` does."""
    for message in messages:
        warnings.warn(message, category, stacklevel=stacklevel + 1)


def of_data(
    summary: Summary,
    likelihood: str | Likelihood | None = None,
    num_states: int | None = None,
) -> list[str]:
    """Look at data before they are fitted.

    Parameters
    ----------
    summary : svae.data.Summary
    likelihood : {"gaussian", "bernoulli"} or likelihood, optional
        Of the decoder; None if there are no networks.
    num_states : int, optional
        Of the latent model.
    """
    messages = []
    law = None if likelihood is None else likelihoods.named(likelihood)
    is_normal = law is None or isinstance(law, likelihoods.Gaussian)
    count, low, high = summary.num_observed, summary.low, summary.high
    if (names := _columns(count == 0)) is not None:
        effect = (
            "what the decoder says there stays as it began"
            if likelihood
            else "the prior is all that is known there"
        )
        messages.append(
            f"data: {names} never observed (NaN throughout): {effect}; leave such "
            "columns out, as in data[:, ~np.isnan(data).all(axis=0)]"
        )
    constant = (count > 1) & (low == high)
    if _is_spoilt_by_constants(law) and (names := _columns(constant)) is not None:
        effect, remedy = "that raises the bound and teaches nothing", ""
        if likelihood:
            effect = (
                "the decoder's variance shrinks to nothing there, which raises the "
                "bound by several nats for each frame and column and teaches nothing"
            )
            remedy = (
                "let all columns share one variance, "
                "likelihood=svae.likelihoods.Gaussian(variance='shared'), or "
            )
        messages.append(
            f"data: {names} constant: {effect}; {remedy}leave such columns out, as in "
            "data[:, np.nanmin(data, axis=0) < np.nanmax(data, axis=0)]"
        )
    large = summary.magnitude > LARGE
    if is_normal and (names := _columns(large)) is not None:
        effect = (
            "networks start for values about 1 and learn such ones slowly, if at all"
            if likelihood
            else "the priors are for values about 1"
        )
        messages.append(
            f"data: {names} large (mean absolute value up to "
            f"{summary.magnitude.max():.3g}): {effect}; bring columns to mean 0 and "
            "variance 1"
        )
    rows, columns = summary.num_frames, len(count)
    # videos of fewer frames than pixels are usual, but not of fewer than rows of pixels
    of_image = None if likelihood is None else summary.rows_of_image
    if 1 < rows < (of_image or columns):
        messages.append(
            f"data: fewer rows ({rows}) than columns ({columns}), and rows are frames: "
            "if it is the other way round, fit data.T; if not, so few frames hardly "
            "determine so many columns"
        )
    if num_states is not None and num_states > rows:
        messages.append(
            f"num_states: there are more states ({num_states}) than rows with data "
            f"({rows}): most are never used; choose fewer"
        )
    return messages


def _is_spoilt_by_constants(law: Likelihood | None) -> bool:
    """Whether a variance of its own shrinks to nothing in a constant column."""
    if law is None:
        return True
    if not isinstance(law, likelihoods.Gaussian):
        return False
    return law.variance != "shared" and law.floor == 0


def of_settings(
    learning_rate: float, context: int, longest: int, is_cut: bool
) -> list[str]:
    """Look at settings of a fit that are possible, but hardly meant.

    Parameters
    ----------
    learning_rate : float
    context, longest : int
        Frames before a window, and of the longest window.
    is_cut : bool
        Whether a sequence is longer than a window.
    """
    messages = []
    if learning_rate > FAST:
        messages.append(
            f"learning_rate is {learning_rate:g}: Adam moves every weight by about as "
            "much in each step, so that networks saturate and the bound jumps; values "
            "from 1e-4 to 1e-2 are usual"
        )
    if context and not is_cut:
        messages.append(
            f"context is {context}, but no sequence is longer than a window ({longest} "
            "frames), so it changes nothing; choose a shorter window"
        )
    elif context > longest:
        messages.append(
            f"context is {context}, longer than the windows ({longest} frames): most "
            "of the time goes into frames that are not learned from; choose a longer "
            "window or a shorter context"
        )
    return messages


def of_natural_steps(backtracks: np.ndarray, advice: str) -> list[str]:
    """Look at how natural steps were halved in the second half of training.

    Parameters
    ----------
    backtracks : (num_steps,) array
        Halvings of each.
    advice : str
        The remedy.
    """
    last = backtracks[len(backtracks) // 2 :]
    left = np.mean(0.5**last) if len(last) else 1.0
    if len(backtracks) < SHORT or np.mean(last > 0) <= 0.5 or left > FROZEN:
        return []
    return [
        f"natural steps were halved in {100 * np.mean(last > 0):.0f} % of the last "
        f"{len(last)} steps, {np.mean(last):.1f} times on average, to "
        f"{100 * left:.2g} % of their size at the factor or state that was halved "
        f"most: there q(theta) is nearly frozen; {advice}"
    ]


def of_inference(
    unconverged: np.ndarray, num_sequences: int, max_iterations: int
) -> list[str]:
    """Look at the inference in the steps of a fit.

    Parameters
    ----------
    unconverged : (num_steps,) array
        Sequences of each step that were not finished.
    num_sequences : int
        Of a step.
    max_iterations : int
        Of the latent model.
    """
    total = int(unconverged.sum())
    share = total / max(1, num_sequences * len(unconverged))
    if share <= UNCONVERGED:
        return []
    return [
        f"inference or its gradient did not converge for {total} sequences, "
        f"{100 * share:.2g} % of those in {len(unconverged)} steps: their bounds and "
        f"gradients are inexact; raise the latent model's max_iterations (now "
        f"{max_iterations}), or fit with warm_start=True"
    ]


def of_states(states: np.ndarray, is_chain: bool, advice: str) -> list[str]:
    """Look at the probabilities of the discrete states after a fit.

    Parameters
    ----------
    states : (T, K) array
        Probabilities of the states of T observed frames.
    is_chain : bool
        Whether they follow each other; a mixture may well have components to spare.
    advice : str
        The remedy.
    """
    num_frames, num_states = states.shape
    if num_states == 1 or num_frames < ENOUGH * num_states:
        return []
    messages, same = [], _same_states(states)
    if same:
        names = "; ".join(_some(group, "and") for group in same)
        messages.append(
            f"states {names} are the same: they share every frame in one proportion, "
            f"and what else they have in common is the prior; {advice}"
        )
    shares = np.bincount(states.argmax(axis=1), minlength=num_states) / num_frames
    first, used = int(shares.argmax()), int(np.sum(shares >= IN_USE))
    if any(first in group for group in same):  # then chance decides which it is
        return messages
    if shares[first] >= NEARLY_ALL:
        messages.append(
            f"state {first} has {100 * shares[first]:.3g} % of the frames, the other "
            f"{num_states - 1} nearly none: the model does not switch; {advice}"
        )
    elif is_chain and used * FEW <= num_states:
        order = np.argsort(-shares, kind="stable")[:used]
        names = ", ".join(f"{k} ({100 * shares[k]:.0f} %)" for k in order)
        messages.append(
            f"only {used} of {num_states} states are in use: {names}; unless the data "
            f"have no more, the others were lost: {advice}"
        )
    return messages


def _same_states(states: np.ndarray) -> list[list[int]]:
    """Return groups of likely states whose odds are the same at all frames.

    The share that one of two states has of both together, r_t, varies as much as it can
    if it is always 0 or 1; of the same states it does not vary.
    """
    mass = states.mean(axis=0)
    likely = states >= LIKELY * states.max(axis=1, keepdims=True)
    left = np.flatnonzero(likely.mean(axis=0) >= IN_USE).tolist()
    groups = []
    while left:
        first, *others = left
        group = [first]
        for other in others:
            both = states[:, first] + states[:, other]
            share = np.divide(states[:, first], both, where=both > 0, out=0 * both)
            mean = mass[first] / (mass[first] + mass[other])
            variance = both @ (share - mean) ** 2 / both.sum()
            if variance < SAME * mean * (1 - mean):
                group.append(other)
        left = [each for each in others if each not in group]
        if len(group) > 1:
            groups.append(group)
    return groups


def _columns(chosen: np.ndarray) -> str | None:
    """Name columns (P,) that something is true of, with the verb; None without any."""
    (numbers,) = np.nonzero(chosen)
    if len(numbers) == 0:
        return None
    if len(numbers) == 1:
        return f"column {numbers[0]} is"
    some = _some(numbers.tolist(), "and")
    return f"columns {some} ({len(numbers)} of {len(chosen)}) are"


def _some(numbers: list[Any], word: str) -> str:
    """Write some numbers as a list, the first of many."""
    shown = [str(number) for number in numbers[:NAMED]]
    if len(numbers) > NAMED:
        return f"{', '.join(shown)} {word} {len(numbers) - NAMED} more"
    return f" {word} ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
