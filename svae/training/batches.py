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

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.models import Belief, belief_after
from svae.objective.batch import Batch, Noise, draw_noise
from svae.objective.local import infer
from svae.objective.model import Generative
from svae.types import Message

__all__ = [
    "Minibatch",
    "assemble",
    "context_belief",
    "default_window",
    "draw",
    "excerpt",
    "hidden_stretches",
    "padded",
    "shuffled",
    "spread",
    "take",
    "window_length",
]


EXCERPT = 2**12
"""Frames that show what states are like."""


LONG = 1000
"""Frames of a sequence that a step takes whole by default, if none is longer."""
WINDOW = 200
"""Frames of the windows that sequences are cut into if one is."""


def default_window(model: Generative, sequences: Sequence[Any]) -> int | None:
    """Return the length of the windows of a fit that is told none; None: not cut.

    A step of a few windows learns as much as one of all frames of a long recording, and
    takes a fraction of the time.
    """
    if model.latent.independent or max(map(len, sequences)) <= LONG:
        return None
    return WINDOW


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


def excerpt(sequences: Sequence[Any], windows: np.ndarray) -> np.ndarray:
    """Return windows evenly spread over the data that show what states are like.

    Long ones are cut: a whole sequence may be more than what has to be looked at.
    """
    if int((windows[:, 2] - windows[:, 1]).max()) > EXCERPT // 8:
        windows = data.windows(sequences, EXCERPT // 8)
    return spread(windows, EXCERPT)


def take(
    queue: np.ndarray, count: int, batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take the next windows of an epoch, of a new one if none is left.

    Parameters
    ----------
    queue : (R,) array
        Windows that this epoch has not seen.
    count : int
        Number of all windows; each is used once in an epoch, in random order.
    batch_size : int
    rng : numpy.random.Generator

    Returns
    -------
    chosen : (M,) array
    queue : (R - M,) array
    """
    if not len(queue):
        queue = rng.permutation(count)
    return queue[:batch_size], queue[batch_size:]


def shuffled(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield indices of windows for ever, as `take` does."""
    queue = np.zeros(0, dtype=np.int64)
    while True:
        chosen, queue = take(queue, count, batch_size, rng)
        yield chosen


class Minibatch(NamedTuple):
    """The M windows of a step, and all that is random in it.

    With it the step is a deterministic function, also where its windows are read by
    several processes.
    """

    cut: np.ndarray
    """(M, 3) int64: sequence, start and stop of each window."""
    scale: float
    """N / M: how many such batches make the data."""
    noise: Noise
    context: int = 0
    """Frames before a window that tell how it begins; 0 restarts the prior there."""
    shown: np.ndarray | None = None
    """(M, T) bool, False at frames that the encoder does not see; None if all are."""
    starts: list[np.ndarray] | None = None
    """Probabilities of the states from which inference starts, (T_m, K) each."""

    def carried(self) -> np.ndarray:
        """Mask (M,) of the windows that begin with a belief about the frame before."""
        return (self.cut[:, 1] > 0) & (self.context > 0)

    def with_past(self) -> np.ndarray:
        """Return the windows (M, 3), with the frame before those that are carried."""
        if not self.context:
            return self.cut
        carried = self.carried()
        return self.cut - np.stack([0 * carried, carried, 0 * carried], axis=1)

    def part(self, rows: np.ndarray) -> "Minibatch":
        """Return the minibatch of some of the windows."""
        cut = self.with_past()[rows]
        num_steps = (cut[:, 2] - cut[:, 1]).max()
        latents, of_decoder = self.noise
        return Minibatch(
            self.cut[rows],
            self.scale,
            Noise(latents[rows, :, :num_steps], of_decoder),
            self.context,
            None if self.shown is None else self.shown[rows, :num_steps],
            None if self.starts is None else [self.starts[row] for row in rows],
        )


def draw(
    model: Generative,
    decoder: Any,
    cut: np.ndarray,
    scale: float,
    rng: np.random.Generator,
    num_samples: int = 1,
    context: int = 0,
    hide: int = 0,
    starts: list[np.ndarray] | None = None,
) -> Minibatch:
    """Draw what is random in a step on windows ``cut`` (M, 3).

    ``hide`` is the length of a random stretch of each window that the encoder does not
    see; for the other arguments see `Minibatch`.
    """
    nothing = Noise(np.zeros(0), np.zeros(0))
    windows = Minibatch(cut, scale, nothing, context, None, starts)
    _, start, stop = windows.with_past().T
    lengths = stop - start
    shape, shown = (len(cut), int(lengths.max())), None
    if hide:
        skip = windows.carried().astype(np.int64)
        shown = ~hidden_stretches(shape, lengths, hide, rng, skip)
    noise = draw_noise(model, decoder, shape, num_samples, rng)
    return windows._replace(noise=noise, shown=shown)


def assemble(
    model: Generative,
    message: Message,
    encoder: Any,
    sequences: Any,
    minibatch: Minibatch,
) -> tuple[Batch, int]:
    """Read windows, with what their contexts say of their first steps.

    Parameters
    ----------
    model : Generative
    message, encoder : trees
        m and phi, from which come beliefs.
    sequences : list of (T_n, P) arrays or recordings
        Or anything that has these stretches of them.
    minibatch : Minibatch

    Returns
    -------
    batch : Batch
        Windows with a context have the frame before them in front, unobserved.
    unconverged : int
        Contexts of which inference did not converge.
    """
    carried = minibatch.carried()
    belief, unconverged = None, 0
    if np.any(carried):
        belief, unconverged = context_belief(
            model,
            message,
            encoder,
            sequences,
            minibatch.cut,
            carried,
            minibatch.context,
        )
    # the frame before the window, of which the belief knows all there is to know
    windows = data.batch(sequences, minibatch.with_past())
    if belief is not None:
        observed = np.ones(windows.values.shape, dtype=bool)
        if windows.observed is not None:
            observed &= windows.observed
        observed[carried, 0] = False
        windows = replace(windows, observed=observed)
    starts = None
    if minibatch.starts is not None:
        starts = [padded(minibatch.starts, windows.values.shape[1])]
    batch = Batch.of(
        windows,
        scale=minibatch.scale,
        shown=minibatch.shown,
        belief=belief,
        starts=starts,
    )
    return batch, unconverged


def context_belief(
    model: Generative,
    message: Message,
    encoder: Any,
    sequences: Any,
    cut: np.ndarray,
    carried: np.ndarray,
    context: int,
) -> tuple[Belief, int]:
    """Return the belief about the frame before each carried window.

    Returns also how many of the contexts did not converge.
    """
    index, start = cut[carried, 0], cut[carried, 1]
    before = np.stack([index, np.maximum(start - context, 0), start], axis=1)
    batch = Batch.of(data.batch(sequences, before))
    local = infer(model, message, encoder, batch, dense=True)
    tolerance = getattr(model.latent, "tolerance", np.inf)
    belief = belief_after(local, batch.lengths)
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
    lengths: np.ndarray,
    size: int,
    rng: np.random.Generator,
    skip: Any = 0,
) -> np.ndarray:
    """Mask (M, T) of a random stretch of ``size`` frames in each window.

    Of a window that is not longer than ``size``, all frames but the first are hidden.
    A window begins after ``skip`` (M,) steps.
    """
    lengths = lengths - skip
    sizes = np.minimum(size, lengths - 1)
    first = rng.integers(0, lengths - sizes + 1)
    first = (skip + np.where(sizes < size, 1, first))[:, None]
    times = np.arange(shape[1])
    return (times >= first) & (times < first + sizes[:, None])


def padded(arrays: Sequence[np.ndarray], num_steps: int) -> np.ndarray:
    """Stack (T_n, K) arrays to (M, T, K), zeros behind the shorter ones."""
    stacked = np.zeros((len(arrays), num_steps, arrays[0].shape[1]))
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked
