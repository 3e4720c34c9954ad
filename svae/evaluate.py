"""What a fitted model says about data: posteriors of the latents and their bounds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.families import product
from svae.generative import Generative, Parameters
from svae.objective import Batch, local_terms
from svae.weights import mean_weights

__all__ = ["Posterior", "arrange", "posteriors"]

CHUNK = 64
"""Sequences, padded to one length, that inference takes at a time."""


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
    r"""Log of the integral of ``exp(E log p(x|theta) + <r(y), t(x)>)``."""
    elbo: Any
    """``E log p(y | x) - KL``, the sequence's share of the bound, in nats."""


def posteriors(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[np.ndarray],
    num_samples: int,
    rng: np.random.Generator,
) -> Iterator[Posterior]:
    """Yield the posterior of each sequence, whole (never cut into windows).

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : sequence of (T_n, P) arrays
    num_samples : int
        Samples of x that estimate the expected log likelihood in ``elbo``.
    rng : numpy.random.Generator
    """
    if model.latent.independent:
        for sequence in sequences:
            batch = Batch(np.asarray(sequence)[:, None], None, 1.0)
            rows = _of_batch(model, parameters, batch, num_samples, rng)
            mean, cov, states = (
                None if field is None else field[:, 0] for field in rows[:3]
            )
            yield Posterior(mean, cov, states, rows[3].sum(), rows[4].sum())
        return
    for first in range(0, len(sequences), CHUNK):
        chunk = sequences[first : first + CHUNK]
        whole = data.windows(chunk, max(len(sequence) for sequence in chunk))
        values, _, lengths = data.batch(chunk, whole)
        batch = Batch(values, lengths, 1.0)
        padded = _of_batch(model, parameters, batch, num_samples, rng)
        for n, length in enumerate(map(len, chunk)):
            mean, cov, states = (
                None if field is None else field[n, :length] for field in padded[:3]
            )
            yield Posterior(mean, cov, states, padded[3][n], padded[4][n])


def _of_batch(
    model: Generative,
    parameters: Parameters,
    batch: Batch,
    num_samples: int,
    rng: np.random.Generator,
) -> Posterior:
    """Posterior with all fields over the padded batch, (N, T, ...) and (N,)."""
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    weights = mean_weights(model.decoder_posterior, parameters.decoder)
    num_sequences, num_steps = batch.values.shape[:2]
    latent_dim = model.latent.latent_dim
    noise = rng.standard_normal((num_sequences, num_samples, num_steps, latent_dim))
    reconstruction, local = local_terms(
        model, stats, parameters.encoder, weights, batch, noise, dense=True
    )
    cov = _covariance(local.mean, local.second_moment)
    elbo = reconstruction - local.kl
    return Posterior(local.mean, cov, local.states, local.log_normalizer, elbo)


def _covariance(mean: np.ndarray, second_moment: np.ndarray) -> np.ndarray:
    if second_moment.ndim == mean.ndim:
        return (second_moment - mean**2)[..., None] * np.eye(mean.shape[-1])
    return second_moment - mean[..., :, None] * mean[..., None, :]


def arrange(data: Any, results: list[Any]) -> Any:
    """Arrange the results of the sequences as ``data`` arranges the sequences.

    Parameters
    ----------
    data : (T, P), (N, T, P) or list
    results : list of NamedTuples
        One for each sequence.

    Returns
    -------
    NamedTuple or list
        The only result, one with stacked fields, or the list.
    """
    ndim = len(getattr(data, "shape", ()))
    if ndim == 2:
        return results[0]
    if ndim != 3:
        return results
    columns = zip(*results, strict=True)
    return type(results[0])(
        *(None if column[0] is None else np.stack(column) for column in columns)
    )
