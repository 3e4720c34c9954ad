r"""Looking forward and filling in: samples, forecasts and imputed values.

A forecast starts from what q says of the last frame, and draws the latent model from
there, step by step: at the mean of q(theta), or with a theta ~ q(theta) for each path.
For switching models state paths are drawn, and x given a path is exact.

At a point theta that is inference in a sequence with further frames that say nothing
(Johnson et al. 2016, Fig. 4).  Under the message of inference, E_q(theta)[t(theta)], it
would not be: of x' given x the message has ``-E[A'Q^-1 A] / 2``, which is more than
``-E[A]'E[Q^-1] E[A] / 2``, so that every frame to come would draw those before it to
zero, and the law of a frame would depend on how far the forecast goes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.autodiff.trees import tree_map
from svae.families import product
from svae.likelihoods import Likelihood
from svae.models import belief_after
from svae.models.base import check_range, draw_latents
from svae.networks import outputs
from svae.networks.decoder_posterior import draw_seeds, each_gamma, mean_weights
from svae.objective.batch import Batch, draw_uniforms
from svae.objective.local import infer
from svae.objective.model import Generative, Parameters
from svae.queries.trailing import continued_samples, trimmed

__all__ = [
    "Forecast",
    "FrameLaw",
    "forecast",
    "frame_law",
    "impute",
    "law_at",
    "sample",
]


class Forecast(NamedTuple):
    """Predictive distribution of the H frames that follow a sequence.

    Where dynamics grow so far that squares leave the range of float64, variances and
    all entries of covariances are ``inf``.
    """

    mean: np.ndarray
    """(H, P), mean of the frames over sampled paths of x."""
    variance: np.ndarray
    """(H, P), their variance: spread of the paths plus observation noise."""
    samples: np.ndarray
    """(S, H, P), frames drawn with observation noise."""
    latent_mean: np.ndarray
    """(H, D), mean of x; exact given the paths of states."""
    latent_cov: np.ndarray
    """(H, D, D), covariance of x; exact given the paths of states."""
    latents: np.ndarray
    """(S, H, D), sampled paths of x."""
    path_means: np.ndarray
    """(S, H, P), mean of the frames on each path of x."""
    states: np.ndarray | None
    """(S, H) int64, sampled paths of discrete states, or None."""

    @property
    def cov(self) -> np.ndarray:
        """(H, P, P), covariance of the frames."""
        with np.errstate(over="ignore", invalid="ignore"):
            observation = self.variance - self.path_means.var(axis=-3)
            diagonal = observation[..., None] * np.eye(self.mean.shape[-1])
            return in_range(spread(self.path_means) + diagonal)


class FrameLaw(NamedTuple):
    """The law p(y | x, gamma) of frames, at some x and gamma."""

    likelihood: Likelihood
    location: np.ndarray
    """(..., P)"""
    scale: Any
    """(..., P), or None."""

    def mean(self) -> np.ndarray:
        """Return means of frames, (..., P)."""
        return self.likelihood.mean(self.location, self.scale)

    def var(self) -> np.ndarray:
        """Return variances of frames, (..., P)."""
        return self.likelihood.var(self.location, self.scale)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw frames, (..., P)."""
        return self.likelihood.sample(self.location, self.scale, rng)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "FrameLaw":
        """Return the laws that a function selects or arranges."""
        scale = None if self.scale is None else function(self.scale)
        return self._replace(location=function(self.location), scale=scale)


def law_at(
    model: Generative, parameters: Parameters, latents: np.ndarray, weights: Any = None
) -> FrameLaw:
    """Return the law of frames (..., P) given latents (..., D) and one gamma.

    ``weights`` are gamma, by default the point estimate or the mean of q(gamma).
    """
    if weights is None:
        weights = mean_weights(model.decoder_posterior, parameters.decoder)
    law = outputs(model.likelihood, model.decoder, weights, latents, model.units)
    return FrameLaw(model.likelihood, *law)


def frame_law(
    model: Generative,
    parameters: Parameters,
    latents: np.ndarray,
    seeds: np.ndarray | None,
) -> FrameLaw:
    """Return the law of frames (M, S, ..., P) given latents (M, S, ..., D).

    Each sample has the gamma of its seed; see `svae.networks.decoder_posterior`.
    """
    gammas = each_gamma(
        model.decoder_posterior, parameters.decoder, seeds, latents.shape[1]
    )
    locations, scales = [], []
    for weights, samples in gammas:
        location, scale = outputs(
            model.likelihood,
            model.decoder,
            weights,
            latents[:, samples],
            model.units,
        )
        locations.append(location)
        if scale is not None:
            scales.append(np.broadcast_to(scale, location.shape))
    return FrameLaw(model.likelihood, _joined(locations), _joined(scales))


def _joined(parts: list[np.ndarray]) -> Any:
    """Concatenate parts along the axis of samples; None of none."""
    if len(parts) > 1:
        return np.concatenate(parts, axis=1)
    return parts[0] if parts else None


def sample(
    model: Generative,
    parameters: Parameters,
    num_steps: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Draw theta from q(theta) and gamma from q(gamma), then frames from the model.

    Returns
    -------
    frames : (T, P)
    latents : (T, D)
    states : (T,) int64, or None
    """
    latent = model.latent
    theta = product.sample(latent.family, parameters.natparams, rng)
    drawn = draw_latents(latent, theta, num_steps, rng)
    latents = drawn.latents.reshape(num_steps, -1)
    seeds = draw_seeds(model.decoder_posterior, parameters.decoder, 1, rng)
    law = frame_law(model, parameters, latents[None, None], seeds)
    frames = law.mapped(lambda part: part[0, 0]).sample(rng)
    return frames, latents, None if drawn.states is None else drawn.states.ravel()


def forecast(
    model: Generative,
    parameters: Parameters,
    sequence: Any,
    horizon: int,
    num_samples: int,
    theta: str,
    rng: np.random.Generator,
) -> Forecast:
    """Predict the frames after ``sequence`` (T, P); see `Forecast`.

    Parameters
    ----------
    model : Generative
        Its latent model must be a chain over time.
    parameters : Parameters
    sequence : (T, P) array or recording
    horizon : int
        H, the number of frames to predict.
    num_samples : int
        S, the number of paths that represent the frames' distribution.
    theta : {"mean", "sample"}
        Whether all paths follow the means of q(theta), `svae.families.product.mean`,
        and of q(gamma), or each a theta and a gamma of its own, drawn from these.
    rng : numpy.random.Generator

    Returns
    -------
    Forecast
        Of a longer horizon the first frames are the same, draw by draw.

    Raises
    ------
    FloatingPointError
        If dynamics grow beyond what can be decoded, naming path and step.
    """
    latent = model.latent
    message = product.expected_stats(latent.family, parameters.natparams)
    batch, lengths = trimmed(model, _one_sequence(sequence))
    skipped = int(lengths[0]) - batch.values.shape[1]  # frames without data at the end
    local = infer(model, message, parameters.encoder, batch, dense=True)
    belief = tree_map(
        lambda part: np.repeat(part, num_samples, axis=0),
        belief_after(local, batch.lengths),
    )
    if theta == "sample":
        thetas = product.sample(latent.family, parameters.natparams, rng, num_samples)
    else:
        thetas = product.mean(latent.family, parameters.natparams)
    of_states, of_latents, of_frames = streams(rng, 3)
    # the first step is the last frame with data again
    shape = (1 + skipped + horizon, num_samples)
    drawn = latent.draw(
        product.stats(latent.family, thetas),
        of_states.random(shape).T,
        of_latents.standard_normal((*shape, latent.latent_dim)).swapaxes(0, 1),
        belief,
    )
    latents, means, covs = (part[:, 1 + skipped :] for part in drawn[1:])
    check_range(latents, means)
    states = None if drawn.states is None else drawn.states[:, 1 + skipped :]
    seeds = None
    if theta == "sample":
        kind, decoder = model.decoder_posterior, parameters.decoder
        seeds = draw_seeds(kind, decoder, num_samples, rng)
    law = frame_law(model, parameters, latents[None], seeds)
    law = law.mapped(lambda part: part[0])
    mean, variance = law.mean(), law.var()
    by_step = law.mapped(lambda part: part.swapaxes(0, 1))
    samples = by_step.sample(of_frames).swapaxes(0, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return Forecast(
            mean.mean(axis=0),
            variance.mean(axis=0) + mean.var(axis=0),
            samples,
            means.mean(axis=0),
            in_range(covs.mean(axis=0) + spread(means)),
            latents,
            mean,
            states,
        )


def spread(means: np.ndarray) -> np.ndarray:
    """Return covariances (..., H, P, P) of points (..., S, H, P) around their mean."""
    centered = means - means.mean(axis=-3, keepdims=True)
    products = np.einsum("...shp,...shq->...hpq", centered, centered)
    return products / means.shape[-3]


def in_range(covs: np.ndarray) -> np.ndarray:
    """Return covariances (..., P, P), ``inf`` throughout if an entry is no number.

    Squares of numbers leave the range of float64, and sums of them, ``inf - inf``, say
    nothing.
    """
    finite = np.isfinite(covs).all(axis=(-2, -1), keepdims=True)
    return np.where(finite, covs, np.inf)


def streams(rng: np.random.Generator, number: int) -> list[np.random.Generator]:
    """Seed generators from one, each of which may be asked for any number of draws.

    What one has drawn for a horizon then begins what it draws for a longer one.
    """
    return [np.random.default_rng(seed) for seed in rng.integers(2**63, size=number)]


def impute(
    model: Generative,
    parameters: Parameters,
    sequence: Any,
    num_samples: int,
    num_passes: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return ``sequence`` (T, P) with missing values replaced by their expectations.

    The expectation is over q(x) given what was observed, and over q(gamma).  In each
    further pass the encoder gets the frames that were partly observed as the last pass
    completed them, with fresh noise (the Markov chain of Rezende et al. 2014, Appendix
    F).  Frames after the last one with data are forecasts.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequence : (T, P) array or recording
        NaN where values are missing.
    num_samples : int
        Samples of x in the expectation.
    num_passes : int
    rng : numpy.random.Generator
    """
    frames = np.array(sequence, dtype=np.float64)
    missing = np.isnan(frames)
    if not missing.any():
        return frames
    latent = model.latent
    stats = product.expected_stats(latent.family, parameters.natparams)
    partly = missing & ~missing.all(axis=1, keepdims=True)
    batch, lengths = _sequence_or_points(model, frames)
    for last in (False,) * (num_passes - 1) + (True,):
        shape = (len(batch.values), num_samples, batch.values.shape[1])
        noise = rng.standard_normal((*shape, latent.latent_dim))
        # x of the frames that the encoder gets next is drawn with z
        uniforms = None if last else draw_uniforms(model, shape, rng)
        seeds = draw_seeds(
            model.decoder_posterior, parameters.decoder, num_samples, rng
        )
        local = infer(
            model,
            stats,
            parameters.encoder,
            batch,
            noise,
            dense=lengths.max() > shape[2],  # what follows starts from a covariance
            uniforms=uniforms,
        )
        samples, weights = continued_samples(
            model, parameters, batch, lengths, local, rng
        )
        law = frame_law(model, parameters, samples, seeds)
        if last:
            frames[missing] = averaged(law.mean(), weights).reshape(frames.shape)[
                missing
            ]
            break
        draw = law.mapped(lambda part: part[:, 0]).sample(rng)
        completed = np.array(sequence, dtype=np.float64)
        completed[partly] = draw.reshape(frames.shape)[partly]
        batch, lengths = _sequence_or_points(model, completed)
    return frames


def averaged(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Average values (M, S, T, ...) at samples, which may have weights: (M, T, ...)."""
    if weights is None:
        return values.mean(axis=1)
    return np.einsum("mst,mst...->mt...", weights, values)


def _one_sequence(sequence: Any) -> Batch:
    return Batch.of(data.batch([sequence], [(0, 0, len(sequence))]))


def _sequence_or_points(model: Generative, sequence: Any) -> tuple[Batch, np.ndarray]:
    """Return a sequence up to its last data, or its points, and the full lengths."""
    if not model.latent.independent:
        return trimmed(model, _one_sequence(sequence))
    points = data.batch([sequence], data.windows([sequence], 1))
    return trimmed(model, Batch.of(points))
