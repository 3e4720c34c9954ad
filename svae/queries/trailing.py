r"""Frames without data at the end of a sequence: inference ends before them.

Of them the data say nothing, and p(y) does not know how many there are.  The message
m = E_q(theta)[t(theta)] does: ``exp E log p(x' | x, theta)`` integrates to less than
one over x', by a factor that depends on x, so each such frame in the chain of inference
would cost the bound something and move the posterior of those before it.  So a sequence
ends with its last frame with data, and what follows is predicted, at the mean of
q(theta).

A sequence of which nothing was observed is one step, and costs nothing.  Frames without
data at the beginning, or between others, stay in the chain.
"""

from dataclasses import replace

import numpy as np

from svae import kernels
from svae.autodiff.trees import tree_map
from svae.families import product
from svae.models import Belief, Local, belief_after
from svae.models.base import check_range
from svae.models.inference.prediction import Moments, predicted
from svae.objective.batch import Batch
from svae.objective.model import Generative, Parameters

__all__ = ["continued_paths", "continued_samples", "extended", "trimmed"]


def trimmed(model: Generative, batch: Batch) -> tuple[Batch, np.ndarray]:
    """End sequences with their last frame with data; return full lengths (M,) too.

    The rows of independent models have one step each, and stay.
    """
    lengths = batch.num_steps
    if model.latent.independent or batch.observed is None:
        return batch, lengths
    frames = batch.observed.any(axis=-1)
    steps = np.arange(1, frames.shape[1] + 1)
    ends = np.maximum(np.max(np.where(frames, steps, 0), axis=1), 1)
    if np.array_equal(ends, lengths):
        return batch, lengths
    longest = ends.max()
    observed = batch.observed[:, :longest]
    return replace(
        batch,
        values=batch.values[:, :longest],
        observed=None if observed.all() else observed,
        lengths=ends if np.any(ends < longest) else None,
    ), lengths


def extended(
    model: Generative,
    parameters: Parameters,
    batch: Batch,
    lengths: np.ndarray,
    moments: Moments,
) -> Moments:
    """Continue the moments (M, T', ...) of trimmed sequences to their full lengths."""
    tails = Tails(batch, lengths)
    if not tails.exist:
        return moments
    mean, cov, states = moments
    theta = product.mean(model.latent.family, parameters.natparams)
    last = Moments(
        tails.last(mean),
        tails.last(cov),
        None if states is None else tails.last(states),
    )
    after = predicted(model.latent, theta, last, tails.longest)
    return Moments(
        tails.put(mean, after.mean),
        tails.put(cov, after.cov),
        None
        if states is None or after.states is None
        else tails.put(states, after.states),
    )


def continued_samples(
    model: Generative,
    parameters: Parameters,
    batch: Batch,
    lengths: np.ndarray,
    local: Local,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Continue samples (M, S, T', D) and their weights to the full lengths.

    What follows the last frame with data are paths from there, as of a forecast.
    """
    samples, weights = local.samples, local.weights
    tails = Tails(batch, lengths)
    if not tails.exist:
        return samples, weights
    number = samples.shape[1]
    belief = belief_after(local, batch.lengths)
    repeated: Belief = tree_map(
        lambda part: np.repeat(part[tails.rows], number, axis=0), belief
    )
    theta = product.mean(model.latent.family, parameters.natparams)
    shape = (len(tails.rows) * number, tails.longest + 1)  # the last frame again
    drawn = model.latent.draw(
        product.stats(model.latent.family, theta),
        rng.random(shape),
        rng.standard_normal((*shape, model.latent.latent_dim)),
        repeated,
    )
    check_range(drawn.latents)
    paths = drawn.latents[:, 1:].reshape(len(tails.rows), number, tails.longest, -1)
    samples = tails.put(samples.swapaxes(1, 2), paths.swapaxes(1, 2)).swapaxes(1, 2)
    if weights is not None:
        equal = np.full((len(tails.rows), tails.longest, number), 1.0 / number)
        weights = tails.put(weights.swapaxes(1, 2), equal).swapaxes(1, 2)
    return samples, weights


def continued_paths(
    model: Generative,
    parameters: Parameters,
    batch: Batch,
    lengths: np.ndarray,
    paths: np.ndarray,
) -> np.ndarray:
    """Continue the most likely paths (M, T') of states by what most likely follows."""
    tails = Tails(batch, lengths)
    if not tails.exist:
        return paths
    theta = product.mean(model.latent.family, parameters.natparams)
    with np.errstate(divide="ignore"):
        pair = np.log(theta["transitions"])
        init = np.log(np.eye(len(pair)))[tails.last(paths)]
    silent = np.zeros((len(init), tails.longest + 1, len(pair)))
    return tails.put(paths, kernels.viterbi(init, pair, silent)[0][:, 1:])


class Tails:
    """Where the frames without data at the end of each sequence are."""

    def __init__(self, batch: Batch, lengths: np.ndarray) -> None:
        self.ends = batch.num_steps
        self.lengths = lengths
        self.rows = np.flatnonzero(lengths > self.ends)
        self.exist = len(self.rows) > 0
        self.longest = int(np.max(lengths - self.ends))

    def last(self, steps: np.ndarray) -> np.ndarray:
        """Return what is known at the last step with data of those that have a tail."""
        return np.asarray(steps[self.rows, self.ends[self.rows] - 1])

    def put(self, steps: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Append to steps (M, T', ...) what follows, (R, H, ...) of those rows."""
        full = np.zeros((len(steps), self.lengths.max(), *steps.shape[2:]), steps.dtype)
        common = min(steps.shape[1], full.shape[1])
        full[:, :common] = steps[:, :common]
        for row, more in zip(self.rows, after, strict=True):
            end, length = self.ends[row], self.lengths[row]
            full[row, end:length] = more[: length - end]
        return full
