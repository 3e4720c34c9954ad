r"""What a fitted model says about data: posteriors of the latents and their scores."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.data import sequences as sequences_
from svae.families import product
from svae.models import Local
from svae.models.inference.prediction import Moments
from svae.networks.decoder_posterior import draw_seeds, each_gamma
from svae.objective.batch import Batch, draw_uniforms
from svae.objective.local import (
    expected,
    frame_log_likelihood,
    infer,
    local_factor,
    without_empty,
)
from svae.objective.model import Generative, Parameters, recognition
from svae.queries.forecasts import law_at
from svae.queries.trailing import continued_paths, continued_samples, extended, trimmed
from svae.types import Array

__all__ = [
    "THETAS",
    "Inference",
    "Posterior",
    "Reconstruction",
    "arrange",
    "by_sequence",
    "chunks",
    "covariance",
    "at_least_one",
    "batches",
    "frames_with_data",
    "inferences",
    "inferred",
    "log_likelihoods",
    "mean_bound",
    "most_likely_states",
    "posteriors",
    "reconstructions",
    "state_probabilities",
]

CHUNK = 64
"""Sequences, padded to one length, that inference takes at a time."""

FRAMES = 2**15
"""Frames, counted for each sample of x, that the decoder takes at a time."""

THETAS = ("mean", "sample")
"""What becomes of q(theta): its mean takes its place, or draws from it."""


class Posterior(NamedTuple):
    """What inference knows about the latents of one sequence of T frames.

    Frames without data at its end change nothing before them, and have the moments of
    what is predicted at the mean of q(theta), `svae.families.product.mean`.

    For stacked sequences (N, T, P) every field has N in front; for a list of sequences
    there is a list of posteriors.
    """

    mean: Array | None
    """(T, D), posterior means of x; None from `svae.SVI` where x is the data."""
    cov: Array | None
    """(T, D, D), posterior covariances of x; None as the mean."""
    states: Array | None
    """(T, K), probabilities of the discrete states, or None without any."""
    log_normalizer: float | Array
    r"""Log of the integral of ``exp(E log p(x|theta) + <r(y), t(x)>)``; of a structured
    inference network ``log Z(phi)``, with its own graph in the place of the prior."""
    elbo: float | Array
    """``E log p(y | x, gamma) - KL``, the sequence's share of the bound, in nats: over
    x, and over gamma where it has a Gaussian q(gamma)."""


class Reconstruction(NamedTuple):
    """What the decoder makes of the posterior of one sequence of T frames."""

    mean: Array
    """(T, P), expectation of the decoder's mean."""
    squared_error: Array
    """(T,), expectation of the squared distance of the frame from the decoder's mean,
    a sum over the dimensions that are observed."""


class Inference(NamedTuple):
    """Inference in a chunk of M sequences, or in the M rows of one."""

    batch: Batch
    noise: np.ndarray
    """(M, S, T, D)"""
    local: Local
    lengths: np.ndarray
    """(M,), of the sequences with the frames without data at their ends, before which
    inference stops; see `svae.queries.trailing`."""
    seeds: np.ndarray | None
    """(S,), of the gamma of each sample; None where all have the same."""


def posteriors(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
) -> Iterator[Posterior]:
    """Yield the posterior of each sequence, whole (never cut into windows).

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : sequence of (T_n, P) arrays or recordings
    num_samples : int
        Samples of x that estimate the expected log likelihood in ``elbo``.
    rng : numpy.random.Generator
    """
    for inference in inferences(model, parameters, sequences, num_samples, rng):
        local = inference.local
        cov = covariance(local.mean, local.second_moment)
        per_step = extended(
            model,
            parameters,
            inference.batch,
            inference.lengths,
            Moments(local.mean, cov, local.states),
        )
        totals = local.log_normalizer, bounds(model, parameters, inference)
        for steps, numbers in _cut(model, inference, per_step, totals):
            yield Posterior(*steps, *numbers)


def bounds(
    model: Generative, parameters: Parameters, inference: Inference
) -> np.ndarray:
    """Return the share of each sequence in the bound, (M,)."""
    frames = log_likelihoods(model, parameters, inference)
    elbo: np.ndarray = expected(frames, inference.local.weights) - inference.local.kl
    return elbo


def mean_bound(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int = 10,
    rng: Any = 0,
) -> float:
    """Return the local part of the bound, in nats for each frame with data.

    Arguments as in `posteriors`.

    Raises
    ------
    ValueError
        If there is no frame with data.
    """
    rng = np.random.default_rng(rng)
    total, num_frames = 0.0, 0
    for inference in inferences(model, parameters, sequences, num_samples, rng):
        elbo = bounds(model, parameters, inference)
        for _, (share,) in _cut(model, inference, (), (elbo,)):
            total += share
        num_frames += frames_with_data(inference.batch)
    return float(total / at_least_one(num_frames))


def frames_with_data(batch: Batch) -> int:
    """Count the frames of which a value was observed at least."""
    return int(batch.scored_frames.sum())


def at_least_one(num_frames: int) -> int:
    """Return a number of frames with data that is not 0.

    Raises
    ------
    ValueError
        If it is.
    """
    if num_frames == 0:
        raise ValueError("data has no observed value to score: every entry is NaN")
    return num_frames


def reconstructions(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
) -> Iterator[Reconstruction]:
    """Yield the reconstruction of each sequence; arguments as in `posteriors`."""
    for inference in inferences(model, parameters, sequences, num_samples, rng):
        batch, lengths = inference.batch, inference.lengths
        samples, weights = continued_samples(
            model, parameters, batch, lengths, inference.local, rng
        )
        values, scored = padded(batch, samples.shape[2])
        mean, squared_error = np.zeros(values.shape), np.zeros(values.shape[:2])
        for gamma, some, shares in blocks(
            model, parameters, samples, weights, inference.seeds
        ):
            location = law_at(model, parameters, some, gamma).mean()
            squares = (values[:, None] - location) ** 2
            if scored is not None:
                squares = np.where(scored[:, None], squares, 0.0)
            mean += np.einsum("mst,mstp->mtp", shares, location)
            squared_error += np.einsum("mst,mstp->mt", shares, squares)
        for (steps, errors), _ in _cut(model, inference, (mean, squared_error), ()):
            yield Reconstruction(steps, errors)


def padded(batch: Batch, num_steps: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values and what is scored of them, with steps without data appended."""
    scored, more = batch.scored, num_steps - batch.values.shape[1]
    if more == 0:
        return batch.values, scored
    if scored is None:
        scored = np.ones(batch.values.shape, dtype=bool)
    widths = (0, 0), (0, more), (0, 0)
    return np.pad(batch.values, widths), np.pad(scored, widths)


def most_likely_states(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Yield the most likely path of the discrete states of each sequence, (T,) int64.

    Viterbi's path in the factor q(z), as far as there are data, and then what most
    likely follows it.
    """
    latent: Any = model.latent  # one with discrete states
    stats = product.expected_stats(latent.family, parameters.natparams)
    _, graph = recognition(model, parameters.encoder)
    for inference in inferences(model, parameters, sequences, 1, rng):
        paths = latent.most_likely_states(
            stats if graph is None else graph,
            inference.local.state_potentials,
            inference.batch.lengths,
        )
        if not latent.independent:
            paths = continued_paths(
                model, parameters, inference.batch, inference.lengths, paths
            )
        for (steps,), _ in _cut(model, inference, (paths,), ()):
            yield steps


def state_probabilities(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    windows: np.ndarray,
) -> np.ndarray:
    """Return the probabilities (T, K) of the states of the frames in windows (M, 3).

    Of each that has any data; every window begins as a sequence.
    """
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    size = int((windows[:, 2] - windows[:, 1]).max()) * sequences[0].shape[1]
    step, found = max(1, sequences_.STRETCH // size), []
    for first in range(0, len(windows), step):
        batch = Batch.of(data.batch(sequences, windows[first : first + step]))
        states = infer(model, stats, parameters.encoder, batch).states
        found.append(states[batch.scored_frames])
    return np.concatenate(found)


def inferences(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
    joint: bool = False,
) -> Iterator[Inference]:
    """Run inference in chunks of sequences, or in all rows of each sequence.

    ``joint`` for samples of x that are drawn with z, and have no weights.
    """
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    for batch, lengths in batches(model, sequences):
        shape = (len(batch.values), num_samples, batch.values.shape[1])
        noise = rng.standard_normal((*shape, model.latent.latent_dim))
        uniforms = draw_uniforms(model, shape, rng) if joint else None
        seeds = draw_seeds(
            model.decoder_posterior, parameters.decoder, num_samples, rng
        )
        local = inferred(model, parameters, stats, batch, noise, uniforms)
        yield Inference(batch, noise, local, lengths, seeds)


def batches(
    model: Generative, sequences: Sequence[Any]
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield chunks of sequences as far as they have data, and their full lengths."""
    for chunk, cut in chunks(sequences, model.latent.independent):
        yield trimmed(model, Batch.of(data.batch(chunk, cut)))


def inferred(
    model: Generative,
    parameters: Parameters,
    stats: Any,
    batch: Batch,
    noise: np.ndarray,
    uniforms: np.ndarray | None,
) -> Local:
    """Return the local factor; a sequence without data costs nothing."""
    local = local_factor(
        model,
        stats,
        parameters.encoder,
        batch,
        noise,
        dense=True,
        uniforms=uniforms,
    )
    return without_empty(local, batch)


def log_likelihoods(
    model: Generative, parameters: Parameters, inference: Inference
) -> np.ndarray:
    """Return log p(y_t | x_t, gamma), (M, S, T), at the samples of x and gamma."""
    local = inference.local
    terms = [
        frame_log_likelihood(model, gamma, inference.batch, samples)
        for gamma, samples, _ in blocks(
            model, parameters, local.samples, local.weights, inference.seeds
        )
    ]
    return np.concatenate(terms, axis=1)


def blocks(
    model: Generative,
    parameters: Parameters,
    samples: np.ndarray,
    weights: np.ndarray | None,
    seeds: np.ndarray | None,
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield gamma, its samples (M, S', T, D) and their weights (M, S', T), in parts.

    Hidden layers of all samples at once would fill the memory.
    """
    if weights is None:
        weights = np.full(samples.shape[:-1], 1 / samples.shape[1])
    gammas = each_gamma(
        model.decoder_posterior, parameters.decoder, seeds, samples.shape[1]
    )
    for gamma, some in gammas:
        x, shares = samples[:, some], weights[:, some]
        number = min(-(-x[..., 0].size // FRAMES), x.shape[1])
        parts = (np.array_split(array, number, axis=1) for array in (x, shares))
        for part, share in zip(*parts, strict=True):
            yield gamma, part, share


def chunks(
    sequences: Sequence[Any], independent: bool
) -> Iterator[tuple[Sequence[Any], np.ndarray]]:
    """Yield some sequences and their windows: whole, or the rows of one of them."""
    size = 1 if independent else CHUNK
    for first in range(0, len(sequences), size):
        chunk = sequences[first : first + size]
        longest = max(len(sequence) for sequence in chunk)
        yield chunk, data.windows(chunk, 1 if independent else longest)


def by_sequence(
    independent: bool, lengths: Any, per_step: Sequence[Any], totals: Sequence[Any]
) -> Iterator[tuple[list[Any], list[Any]]]:
    """Cut (M, T, ...) arrays and (M,) numbers of a chunk; its rows are one sequence."""
    if independent:
        steps = [None if array is None else array[:, 0] for array in per_step]
        yield steps, [total.sum() for total in totals]
        return
    for n, length in enumerate(lengths):
        steps = [None if array is None else array[n, :length] for array in per_step]
        yield steps, [total[n] for total in totals]


def _cut(
    model: Generative,
    inference: Inference,
    per_step: Sequence[Any],
    totals: Sequence[Any],
) -> Iterator[tuple[list[Any], list[Any]]]:
    independent = model.latent.independent
    return by_sequence(independent, inference.lengths, per_step, totals)


def covariance(mean: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    """Return covariances (..., D, D) of second moments, or of their diagonals."""
    if second_moment.ndim == mean.ndim:
        return (second_moment - mean**2)[..., None] * np.eye(mean.shape[-1])
    return second_moment - mean[..., :, None] * mean[..., None, :]


def arrange(data: Any, results: list[Any]) -> Any:
    """Arrange the results of the sequences as ``data`` arranges the sequences.

    Parameters
    ----------
    data : (T, P), (N, T, P) or list
    results : list of NamedTuples or of arrays
        One for each sequence.

    Returns
    -------
    NamedTuple, array or list
        The only result, one with stacked fields, or the list.
    """
    ndim = len(getattr(data, "shape", ()))
    if ndim == 2:
        return results[0]
    if ndim != 3:
        return results
    if isinstance(results[0], np.ndarray):
        return np.stack(results)
    columns = zip(*results, strict=True)
    return type(results[0])(
        *(None if column[0] is None else np.stack(column) for column in columns)
    )
