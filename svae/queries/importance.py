r"""The importance-weighted bound: towards log p(y), with how far it is to be trusted.

.. math:: \log \tfrac1S \sum_s w_s, \qquad
          w_s = \frac{p(y \mid x_s, \gamma)\, p(x_s \mid \theta)}{q(x_s)}, \qquad
          x_s \sim q(x),

of each sequence, with the discrete states summed out of p(x | theta) (Burda et al.
2016).  It grows to log p(y | theta, gamma) with S; with a theta_s ~ q(theta) and a
gamma_s ~ q(gamma) of its own for each sample, to the log of
``E_q(theta) q(gamma) p(y | theta, gamma)``.

Draws are made, and used, a part at a time, so that memory is bounded whatever S is, and
are those that all of them at once would be.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import scipy

from svae.autodiff.trees import tree_map
from svae.families import product
from svae.models.base import LOG_2PI
from svae.networks.decoder_posterior import draw_seeds
from svae.objective.batch import Batch
from svae.objective.local import log_proposal
from svae.objective.model import Generative, Parameters
from svae.queries.posteriors import (
    Inference,
    at_least_one,
    batches,
    frames_with_data,
    inferred,
    log_likelihoods,
)

__all__ = ["ImportanceScore", "importance_score", "importance_scores"]

NUMBERS = 2**22
"""Numbers in the draws that are made at a time, unless a single sample has more."""


class ImportanceScore(NamedTuple):
    """The importance-weighted bound of data, and what it rests on."""

    score: float
    """Nats for each frame with data."""
    effective_samples: np.ndarray
    """(N,), of each sequence ``(sum w)^2 / sum w^2``: as many equal weights would say
    as much.  Of independent rows the smallest of the sequence's; S without data.  Near
    1, one sample says it all, and the score is far below what it tends to."""
    standard_error: float
    """Of the score, over draws, to first order: the standard deviation of the mean of
    the weights, relative to it.  ``inf`` for a single sample, which does not tell."""


Part = tuple[slice, slice]
"""Some of the rows of a chunk, and some of their samples."""


class Weighted(NamedTuple):
    """What the weights of the M sequences or rows of a chunk say."""

    num_frames: int
    """How many have data."""
    scores: np.ndarray
    """(M,)"""
    effective_samples: np.ndarray
    """(M,)"""
    relative: np.ndarray
    """(S,), weights over their mean, summed over sequences: those of a sample may have
    theta and gamma in common, and vary together."""


def importance_score(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    theta: str,
    rng: np.random.Generator,
) -> ImportanceScore:
    """Return the importance-weighted bound of all sequences.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : sequence of (T_n, P) arrays or recordings
    num_samples : int
        S.
    theta : {"mean", "sample"}
        The mean of q(theta) and of q(gamma) for all samples, or draws for each.
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        If there is no frame with data.
    """
    scores: list[float] = []
    sizes: list[float] = []
    num_frames, variance = 0, 0.0
    for chunk in weighted(model, parameters, sequences, num_samples, theta, rng):
        scores += of_sequences(model, chunk)
        sizes += of_sequences(model, chunk, smallest=True)
        num_frames += chunk.num_frames
        if num_samples > 1:
            variance += chunk.relative.var(ddof=1) / num_samples
    at_least_one(num_frames)
    error = float(np.sqrt(variance)) if num_samples > 1 else np.inf
    return ImportanceScore(
        sum(scores) / num_frames, np.array(sizes), error / num_frames
    )


def importance_scores(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    theta: str,
    rng: np.random.Generator,
) -> Iterator[float]:
    """Yield the importance-weighted bound of each sequence, in nats.

    Arguments as in `importance_score`.
    """
    for chunk in weighted(model, parameters, sequences, num_samples, theta, rng):
        yield from of_sequences(model, chunk)


def of_sequences(
    model: Generative, chunk: Weighted, smallest: bool = False
) -> list[float]:
    """Return the score of each sequence of a chunk, or its smallest effective size."""
    if model.latent.independent:  # the rows of one sequence
        if smallest:
            return [float(chunk.effective_samples.min())]
        return [float(chunk.scores.sum())]
    return (chunk.effective_samples if smallest else chunk.scores).tolist()


def weighted(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    theta: str,
    rng: np.random.Generator,
) -> Iterator[Weighted]:
    """Yield what the weights of each chunk of sequences say."""
    message = product.expected_stats(model.latent.family, parameters.natparams)
    for batch, lengths in batches(model, sequences):
        parts = divided(batch, num_samples, model.latent.latent_dim)
        draws = Draws(model, parameters, batch, parts, num_samples, theta, rng)
        scores, effective = np.zeros((2, len(batch.values)))
        relative, logs = np.zeros(num_samples), []
        for rows, samples in parts:
            some, noise, uniforms = (
                rows_of(batch, rows),
                next(draws.noise),
                next(draws.uniforms),
            )
            local = inferred(model, parameters, message, some, noise, uniforms)
            seeds = None if draws.seeds is None else draws.seeds[samples]
            inference = Inference(some, noise, local, lengths[rows], seeds)
            stats = draws.stats(samples)
            logs.append(log_weights(model, parameters, inference, stats))
            if samples.stop < num_samples:
                continue
            scores[rows], effective[rows], share = summary(np.concatenate(logs, axis=1))
            relative += share[some.nonempty].sum(axis=0)
            logs = []
        yield Weighted(frames_with_data(batch), scores, effective, relative)


def summary(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (M,), effective numbers (M,) and weights over their mean (M, S)."""
    number = logs.shape[1]
    totals = scipy.special.logsumexp(logs, axis=1)
    shares = np.exp(logs - totals[:, None])
    return totals - np.log(number), 1.0 / np.sum(shares**2, axis=1), number * shares


def log_weights(
    model: Generative, parameters: Parameters, inference: Inference, stats: list[Any]
) -> np.ndarray:
    """Return log weights (M, S), with t(theta) of each sample; 0 without data."""
    batch, local, latent = inference.batch, inference.local, model.latent
    # a frame without data takes its latent along where nothing else is tied to it
    frames = None if latent.coupled else batch.observed_frames
    log_prior = np.stack(
        [
            latent.log_density(each, local.samples[:, s], batch.lengths, frames)
            for s, each in enumerate(stats)
        ],
        axis=1,
    )
    log_q = (
        log_proposal(model, parameters.encoder, batch, local)
        if model.inference == "sin"
        else log_gaussian(inference, frames)
    )
    log_likelihood = log_likelihoods(model, parameters, inference).sum(axis=-1)
    weights = log_likelihood + log_prior - log_q
    if batch.observed is None:
        return weights
    return np.where(batch.nonempty[:, None], weights, 0.0)


def log_gaussian(inference: Inference, frames: Any) -> np.ndarray:
    """Return log q(x) (M, S) at the samples of a Gaussian q, from their noise."""
    scored = inference.batch.valid
    if frames is not None:
        scored = scored & frames
    squares = np.sum(inference.noise**2 + LOG_2PI, axis=-1)
    exponent = np.sum(np.where(scored[:, None], squares, 0.0), axis=-1)
    return inference.local.half_log_det[:, None] - 0.5 * exponent


class Draws:
    """What M x S samples are drawn from, made a part at a time."""

    def __init__(
        self,
        model: Generative,
        parameters: Parameters,
        batch: Batch,
        parts: Sequence[Part],
        num_samples: int,
        theta: str,
        rng: np.random.Generator,
    ) -> None:
        latent, natparams = model.latent, parameters.natparams
        steps = batch.values.shape[1]
        shapes = [(*map(size, part), steps) for part in parts]
        of_x = [(*shape, latent.latent_dim) for shape in shapes]
        self.noise = in_parts(rng, "standard_normal", of_x)
        # z is drawn with x where q has it
        joint = model.inference == "sin"
        self.uniforms: Iterator[Any] = (
            in_parts(rng, "random", shapes) if joint else iter([None] * len(parts))
        )
        self.family, self.seeds = latent.family, None
        self.each = theta == "sample"
        if self.each:
            kind, decoder = model.decoder_posterior, parameters.decoder
            self.thetas = product.sample(latent.family, natparams, rng, num_samples)
            self.seeds = draw_seeds(kind, decoder, num_samples, rng)
        else:
            self.thetas = product.mean(latent.family, natparams)

    def stats(self, samples: slice) -> list[Any]:
        """Return t(theta) of each of some samples."""
        if not self.each:
            return [product.stats(self.family, self.thetas)] * size(samples)
        some = product.stats(
            self.family, tree_map(lambda part: part[samples], self.thetas)
        )
        return [
            {name: tuple(part[s] for part in some[name]) for name in some}
            for s in range(size(samples))
        ]


def divided(batch: Batch, num_samples: int, dim: int) -> list[Part]:
    """Divide M x S draws so that about `NUMBERS` are made at a time.

    In the order in which all at once would be made: some rows with all of their
    samples, or some samples of one row.
    """
    number, steps, _ = batch.values.shape
    of_sample = steps * dim
    of_row = of_sample * (num_samples + 3 * dim)  # and second moments of pairs
    rows = max(1, NUMBERS // of_row)
    samples = num_samples if rows > 1 else max(1, NUMBERS // of_sample)
    return [
        (rows_of_part, samples_of_part)
        for rows_of_part in stretches(number, rows)
        for samples_of_part in stretches(num_samples, samples)
    ]


def stretches(number: int, length: int) -> list[slice]:
    """Cut a range into stretches of a length; the last has what remains."""
    starts = range(0, number, length)
    return [slice(start, min(start + length, number)) for start in starts]


def size(part: slice) -> int:
    """Count what a stretch selects."""
    return int(part.stop - part.start)


def in_parts(
    rng: np.random.Generator, method: str, shapes: Sequence[tuple[int, ...]]
) -> Iterator[np.ndarray]:
    """Return draws of each shape in turn, and leave ``rng`` where it is after all.

    They are not held at once: a copy of the generator makes them when they are needed.
    """
    if len(shapes) == 1:
        return iter([getattr(rng, method)(shapes[0])])
    again = copy.deepcopy(rng)
    for shape in shapes:
        getattr(rng, method)(shape)
    return (getattr(again, method)(shape) for shape in shapes)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some sequences of a batch."""
    return replace(
        batch,
        values=batch.values[rows],
        lengths=None if batch.lengths is None else batch.lengths[rows],
        observed=None if batch.observed is None else batch.observed[rows],
    )
