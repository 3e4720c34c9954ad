r"""What a fitted model says about data: posteriors of the latents and their scores."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from svae import data
from svae.families import product
from svae.generate import decode
from svae.generative import Generative, Parameters, recognition
from svae.models import Local
from svae.models.base import LOG_2PI, live_steps
from svae.objective import (
    Batch,
    draw_uniforms,
    expected,
    frame_log_likelihood,
    local_factor,
    log_proposal,
)
from svae.weights import mean_weights

__all__ = [
    "THETAS",
    "Posterior",
    "Reconstruction",
    "arrange",
    "by_sequence",
    "chunks",
    "importance_scores",
    "mean_bound",
    "most_likely_states",
    "posteriors",
    "reconstructions",
]

CHUNK = 64
"""Sequences, padded to one length, that inference takes at a time."""

FRAMES = 2**15
"""Frames, counted for each sample of x, that the decoder takes at a time."""

THETAS = ("mean", "sample")
"""What becomes of q(theta): its mean takes its place, or draws from it."""


class Posterior(NamedTuple):
    """What inference knows about the latents of one sequence of T frames.

    For stacked sequences (N, T, P) every field has N in front; for a list of sequences
    there is a list of posteriors.
    """

    mean: Any
    """(T, D), posterior means of x."""
    cov: Any
    """(T, D, D), posterior covariances of x."""
    states: Any
    """(T, K), probabilities of the discrete states, or None without any."""
    log_normalizer: Any
    r"""Log of the integral of ``exp(E log p(x|theta) + <r(y), t(x)>)``; of a structured
    inference network ``log Z(phi)``, with its own graph in the place of the prior."""
    elbo: Any
    """``E log p(y | x) - KL``, the sequence's share of the bound, in nats."""


class Reconstruction(NamedTuple):
    """What the decoder makes of the posterior of one sequence of T frames."""

    mean: Any
    """(T, P), expectation of the decoder's mean."""
    squared_error: Any
    """(T,), expectation of the squared distance of the frame from the decoder's mean,
    a sum over the dimensions that are observed."""


class Inference(NamedTuple):
    """Inference in a chunk of M sequences, or in the M rows of one."""

    batch: Batch
    noise: np.ndarray
    """(M, S, T, D)"""
    local: Local


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
        cov = _covariance(local.mean, local.second_moment)
        frames = log_likelihoods(model, parameters, inference)
        elbo = expected(frames, local.weights) - local.kl
        per_step = local.mean, cov, local.states
        yield from (
            Posterior(*steps, *totals)
            for steps, totals in _cut(
                model, inference.batch, per_step, (local.log_normalizer, elbo)
            )
        )


def mean_bound(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int = 10,
    rng: Any = 0,
) -> float:
    """Return the local part of the bound, in nats for each frame; see `posteriors`."""
    rng = np.random.default_rng(rng)
    total = num_frames = 0.0
    for posterior in posteriors(model, parameters, sequences, num_samples, rng):
        total += posterior.elbo
        num_frames += len(posterior.mean)
    return float(total / num_frames)


def reconstructions(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
) -> Iterator[Reconstruction]:
    """Yield the reconstruction of each sequence; arguments as in `posteriors`."""
    for inference in inferences(model, parameters, sequences, num_samples, rng):
        batch = inference.batch
        counted = batch.counted()
        mean, squared_error = np.zeros(batch.values.shape), 0.0
        for samples, weights in blocks(inference):
            location, _ = decode(model, parameters, samples)
            squares = (batch.values[:, None] - location) ** 2
            if counted is not None:
                squares = np.where(counted[:, None], squares, 0.0)
            mean += np.einsum("mst,mstp->mtp", weights, location)
            squared_error += np.einsum("mst,mstp->mt", weights, squares)
        for (steps, errors), _ in _cut(model, batch, (mean, squared_error), ()):
            yield Reconstruction(steps, errors)


def most_likely_states(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Yield the most likely path of the discrete states of each sequence, (T,) int64.

    Viterbi's path in the factor q(z).
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
        for (steps,), _ in _cut(model, inference.batch, (paths,), ()):
            yield steps


def importance_scores(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    theta: str,
    rng: np.random.Generator,
) -> Iterator[float]:
    r"""Yield the importance-weighted bound of each sequence, in nats.

    .. math:: \log \tfrac1S \sum_s
              \frac{p(y \mid x_s)\, p(x_s \mid \theta)}{q(x_s)}, \qquad x_s \sim q(x),

    with the discrete states summed out of p(x | theta) (Burda et al. 2016).  It grows
    to log p(y | theta) with S; with a theta_s ~ q(theta) of its own for each sample, to
    the log of ``E_q(theta) p(y | theta)``.
    """
    latent, natparams = model.latent, parameters.natparams
    for inference in inferences(
        model, parameters, sequences, num_samples, rng, joint=True
    ):
        batch, local = inference.batch, inference.local
        # a frame without data takes its latent along where nothing else is tied to it
        frames = None if latent.coupled else batch.frames()
        if theta == "mean":
            point = product.mean(latent.family, natparams)
            thetas = [product.stats(latent.family, point)] * num_samples
        else:
            draws = product.sample(latent.family, natparams, rng, num_samples)
            every = product.stats(latent.family, draws)
            thetas = [
                {name: tuple(part[s] for part in every[name]) for name in every}
                for s in range(num_samples)
            ]
        log_prior = np.stack(
            [
                latent.log_density(stats, local.samples[:, s], batch.lengths, frames)
                for s, stats in enumerate(thetas)
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
        if latent.independent and frames is not None:
            weights = np.where(frames, weights, 0.0)
        scores = logsumexp(weights, axis=1) - np.log(num_samples)
        for _, (score,) in _cut(model, batch, (), (scores,)):
            yield float(score)


def log_gaussian(inference: Inference, frames: Any) -> np.ndarray:
    """Return log q(x) (M, S) at the samples of a Gaussian q, from their noise."""
    counted = live_steps(inference.batch.lengths, inference.batch.values)
    if frames is not None:
        counted = counted & frames
    squares = np.sum(inference.noise**2 + LOG_2PI, axis=-1)
    exponent = np.sum(np.where(counted[:, None], squares, 0.0), axis=-1)
    return inference.local.half_log_det[:, None] - 0.5 * exponent


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
    for chunk, cut in chunks(sequences, model.latent.independent):
        values, observed, lengths = data.batch(chunk, cut)
        batch = Batch(values, lengths, 1.0, observed)
        shape = (len(values), num_samples, values.shape[1], model.latent.latent_dim)
        noise = rng.standard_normal(shape)
        uniforms = draw_uniforms(model, shape[:-1], rng) if joint else None
        local = local_factor(
            model,
            stats,
            parameters.encoder,
            batch,
            noise,
            dense=True,
            uniforms=uniforms,
        )
        yield Inference(batch, noise, local)


def log_likelihoods(
    model: Generative, parameters: Parameters, inference: Inference
) -> np.ndarray:
    """Return log p(y_t | x_t), (M, S, T), at the samples of x."""
    weights = mean_weights(model.decoder_posterior, parameters.decoder)
    terms = [
        frame_log_likelihood(model, weights, inference.batch, samples)
        for samples, _ in blocks(inference)
    ]
    return np.concatenate(terms, axis=1)


def blocks(inference: Inference) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield samples (M, S', T, D) with their weights (M, S', T), a part at a time.

    Hidden layers of all samples at once would fill the memory.
    """
    samples, weights = inference.local.samples, inference.local.weights
    if weights is None:
        weights = np.full(samples.shape[:-1], 1 / samples.shape[1])
    number = min(-(-samples[..., 0].size // FRAMES), samples.shape[1])
    parts = (np.array_split(array, number, axis=1) for array in (samples, weights))
    yield from zip(*parts, strict=True)


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
    model: Generative, batch: Batch, per_step: Sequence[Any], totals: Sequence[Any]
) -> Iterator[tuple[list[Any], list[Any]]]:
    lengths = live_steps(batch.lengths, batch.values).sum(axis=1)
    return by_sequence(model.latent.independent, lengths, per_step, totals)


def _covariance(mean: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
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
