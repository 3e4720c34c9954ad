r"""Looking forward: frames from latent states, samples and forecasts.

A forecast is inference with zero node potentials: frames that were not observed say
nothing, so the factor q(x) past the data is the predictive distribution of the latent
model given E_q(theta)[t(theta)], exactly (Johnson et al. 2016, Fig. 4).
"""

from typing import NamedTuple

import numpy as np

from svae.families import product
from svae.generative import Generative, Parameters
from svae.layers import sigmoid
from svae.networks import recognize
from svae.weights import mean_weights

__all__ = ["Forecast", "decode", "forecast", "draw_frames"]


class Forecast(NamedTuple):
    """Predictive distribution of the H frames that follow a sequence."""

    mean: np.ndarray
    """(H, P), mean of the frames over sampled paths of x."""
    variance: np.ndarray
    """(H, P), their variance: spread of the paths plus observation noise."""
    samples: np.ndarray
    """(S, H, P), frames drawn with observation noise."""
    latent_mean: np.ndarray
    """(H, D), exact mean of x."""
    latent_cov: np.ndarray
    """(H, D, D), exact covariance of x."""
    latents: np.ndarray
    """(S, H, D), sampled paths of x."""


def decode(
    model: Generative, parameters: Parameters, latents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of frames, (..., P) each, given latents (..., D)."""
    weights = mean_weights(model.decoder_posterior, parameters.decoder)
    location, scale = model.decoder.apply(weights, latents)
    if model.likelihood == "gaussian":
        return location, scale
    probability = sigmoid(location)
    return probability, probability * (1 - probability)


def draw_frames(
    likelihood: str, mean: np.ndarray, variance: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw frames (..., P) of the mean and variance that `decode` returns."""
    if likelihood == "gaussian":
        return mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    return (rng.random(mean.shape) < mean).astype(np.float64)


def forecast(
    model: Generative,
    parameters: Parameters,
    sequence: np.ndarray,
    horizon: int,
    num_samples: int,
    rng: np.random.Generator,
) -> Forecast:
    """Predict the frames after ``sequence`` (T, P); see `Forecast`.

    Parameters
    ----------
    model : Generative
        Its latent model must be a chain over time.
    parameters : Parameters
    sequence : (T, P) array
    horizon : int
        H, the number of frames to predict.
    num_samples : int
        S, the number of paths that represent the frames' distribution.
    rng : numpy.random.Generator

    Returns
    -------
    Forecast
    """
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    frames = np.asarray(sequence)[None]
    node_J, node_h = recognize(model.encoder, parameters.encoder, frames)
    dim = model.latent.latent_dim
    # dense potentials, so that inference returns full covariances
    dense_J = node_J[..., None] * np.eye(dim)
    node = (
        np.concatenate([dense_J, np.zeros((1, horizon, dim, dim))], axis=1),
        np.concatenate([node_h, np.zeros((1, horizon, dim))], axis=1),
    )
    noise = rng.standard_normal((1, num_samples, len(sequence) + horizon, dim))
    local = model.latent.infer(stats, node, noise)
    latents = local.samples[0, :, len(sequence) :]
    mean, variance = decode(model, parameters, latents)
    latent_mean = local.mean[0, len(sequence) :]
    second_moment = local.second_moment[0, len(sequence) :]
    return Forecast(
        mean.mean(axis=0),
        variance.mean(axis=0) + mean.var(axis=0),
        draw_frames(model.likelihood, mean, variance, rng),
        latent_mean,
        second_moment - latent_mean[:, :, None] * latent_mean[:, None, :],
        latents,
    )
