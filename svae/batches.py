r"""From sequences to batches: windows, and what is known of how they begin.

Windows are cut from longer sequences.  Without context each counts as a sequence of
its own and starts anew from the initial factor: the estimator is unbiased for the bound
of the data so cut, in which the initial factor answers for every edge.  With a context
of C frames a window that is not the first of its sequence starts from what q says of
the frame before it, given the C frames that end there:

.. math:: \sum_w \mathbb{E} \log p(y_w | x_w)
          - \mathrm{KL}(q(x_w) \| p(x_w | \hat q(x_{a-1}))) .

That is an estimate of the evidence as a product of predictions,
``log p(y_1) + sum_w log p(y_w | y_{<w})``, and no longer a bound: the belief forgets
what is more than C frames back, is a constant to the gradient, and frames after a
window have no say in it.  Every pair of frames counts once, and only true beginnings
inform the initial factor.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from svae import data
from svae.families import product
from svae.generative import Generative, Parameters
from svae.models import Belief, ConvergenceWarning, belief_after
from svae.models.base import live_steps
from svae.objective import Batch, infer

__all__ = [
    "assemble",
    "context_belief",
    "hidden_stretches",
    "padded",
    "shuffled",
    "spread",
    "window_length",
]


def window_length(
    model: Generative, sequences: Sequence[Any], window: int | None
) -> int:
    """Return the length of the windows that sequences are cut into."""
    if model.latent.independent:
        return 1
    return window or max(len(sequence) for sequence in sequences)


def spread(windows: np.ndarray, max_frames: int) -> np.ndarray:
    """Return windows evenly spread over (M, 3), of ``max_frames`` frames together."""
    longest = int((windows[:, 2] - windows[:, 1]).max())
    number = max(1, max_frames // longest)
    if number >= len(windows):
        return windows
    return windows[np.linspace(0, len(windows) - 1, number).astype(int)]


def shuffled(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield indices of windows for ever, each epoch in a new random order.

    Every window is used once in each epoch.
    """
    while True:
        order = rng.permutation(count)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def assemble(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    cut: np.ndarray,
    scale: float,
    rng: np.random.Generator,
    context: int = 0,
    hide: int = 0,
    remembered: Sequence[np.ndarray] | None = None,
) -> tuple[Batch, int]:
    """Read windows, with what their contexts say of their first steps.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : list of (T_n, P) arrays or recordings
    cut : (M, 3) int64 array
        Sequence, start and stop of each window.
    scale : float
        How many such batches make the data.
    rng : numpy.random.Generator
    context : int
        Frames before a window that tell how it begins; 0 restarts the prior there.
    hide : int
        Length of a random stretch of each window that the encoder does not see.
    remembered : list of M (T, K) arrays, optional
        Probabilities of the states from which inference starts.

    Returns
    -------
    batch : Batch
        Windows with a context have the frame before them in front, unobserved.
    unconverged : int
        Contexts of which inference did not converge.
    """
    carried = (cut[:, 1] > 0) & (context > 0)
    belief, unconverged = None, 0
    if np.any(carried):
        belief, unconverged = context_belief(
            model, parameters, sequences, cut, carried, context
        )
        # the frame before the window, of which the belief knows all there is to know
        cut = cut - np.stack([0 * carried, carried, 0 * carried], axis=1)
    values, observed, lengths = data.batch(sequences, cut)
    if belief is not None:
        live = live_steps(lengths, values)[..., None]
        observed = np.where(live, True if observed is None else observed, False)
        observed = np.broadcast_to(observed, values.shape).copy()
        observed[carried, 0] = False
    hidden = None
    if hide:
        skip = carried.astype(np.int64)
        hidden = hidden_stretches(values.shape[:2], lengths, hide, rng, skip)
    starts = None
    if remembered is not None:
        starts = [padded(remembered, values.shape[1])]
    return Batch(values, lengths, scale, observed, hidden, belief, starts), unconverged


def context_belief(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    cut: np.ndarray,
    carried: np.ndarray,
    context: int,
) -> tuple[Belief, int]:
    """Return the belief about the frame before each carried window.

    Returns also how many of the contexts did not converge.
    """
    index, start = cut[carried, 0], cut[carried, 1]
    before = np.stack([index, np.maximum(start - context, 0), start], axis=1)
    values, observed, lengths = data.batch(sequences, before)
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    batch = Batch(values, lengths, 1.0, observed)
    with warnings.catch_warnings():
        # counted instead
        warnings.simplefilter("ignore", ConvergenceWarning)
        local = infer(model, stats, parameters.encoder, batch, dense=True)
    tolerance = getattr(model.latent, "tolerance", np.inf)
    belief = belief_after(local, lengths)
    number, dim = len(cut), model.latent.latent_dim
    J, h = np.tile(-0.5 * np.eye(dim), (number, 1, 1)), np.zeros((number, dim))
    J[carried], h[carried] = belief.J, belief.h
    states = None
    if belief.states is not None:
        states = np.zeros((number, belief.states.shape[1]))
        states[carried] = belief.states
    unconverged = int(np.sum(local.diagnostics.residual > tolerance))
    return Belief(carried, J, h, states), unconverged


def hidden_stretches(
    shape: tuple[int, int],
    lengths: Any,
    size: int,
    rng: np.random.Generator,
    skip: Any = 0,
) -> np.ndarray:
    """Mask (M, T) of a random stretch of ``size`` frames in each window.

    Of a window that is not longer than ``size``, all frames but the first are hidden.
    A window begins after ``skip`` (M,) steps.
    """
    number, steps = shape
    lengths = (np.full(number, steps) if lengths is None else lengths) - skip
    sizes = np.minimum(size, lengths - 1)
    first = rng.integers(0, lengths - sizes + 1)
    first = (skip + np.where(sizes < size, 1, first))[:, None]
    times = np.arange(steps)
    return (times >= first) & (times < first + sizes[:, None])


def padded(arrays: Sequence[np.ndarray], num_steps: int) -> np.ndarray:
    """Stack (T_n, K) arrays to (M, T, K), zeros behind the shorter ones."""
    stacked = np.zeros((len(arrays), num_steps, arrays[0].shape[1]))
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked
