"""Batches of sequences, and the noise that makes a bound deterministic."""

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.models import Belief
from svae.models.base import live_steps
from svae.networks.decoder_posterior import noise_size
from svae.objective.model import Generative

__all__ = [
    "Batch",
    "Noise",
    "draw_noise",
    "draw_uniforms",
]


class Batch(NamedTuple):
    """M sequences, padded to one length."""

    values: np.ndarray
    """(M, T, P), finite; what it is where nothing was observed has no influence."""
    lengths: np.ndarray | None
    """(M,), or None when all have length T."""
    scale: float
    """N / M: how many batches make the data."""
    observed: np.ndarray | None = None
    """(M, T, P) bool, False where entries are missing; None when none is, or only what
    lies past the lengths."""
    hidden: np.ndarray | None = None
    """(M, T) bool, frames that the likelihood scores and the encoder does not see."""
    belief: Belief | None = None
    """What earlier frames say of the first steps."""
    starts: Any = None
    """Probabilities of the states from which inference starts, (M, T, K) each."""

    def counted(self) -> Any:
        """Mask (M, T, P) of what the likelihood scores, or None for everything."""
        if self.lengths is None:
            return self.observed
        live = live_steps(self.lengths, self.values)[..., None]
        if self.observed is None:
            return onp.broadcast_to(live, self.values.shape)
        return live & self.observed

    def frames(self) -> Any:
        """Mask (M, T) of the frames of which there are data, or None for all."""
        return None if self.observed is None else self.observed.any(axis=-1)

    def seen(self) -> Any:
        """Mask (M, T, P) of what the encoder sees, or None for everything."""
        if self.hidden is None:
            return self.observed
        seen = onp.broadcast_to(~self.hidden[..., None], self.values.shape)
        return seen if self.observed is None else seen & self.observed


class Noise(NamedTuple):
    """Standard normal draws that make the bound a deterministic function."""

    latents: np.ndarray
    """(M, S, T, D)."""
    decoder: np.ndarray
    """(W,) for a Gaussian q(gamma) of W weights, else (0,)."""


def draw_noise(
    model: Generative,
    decoder: Any,
    shape: tuple[int, int],
    num_samples: int,
    rng: onp.random.Generator,
) -> Noise:
    """Draw the noise for a batch of ``shape`` = (M, T)."""
    size = noise_size(model.decoder_posterior, decoder)
    sequences, steps = shape
    latents = (sequences, num_samples, steps, model.latent.latent_dim)
    return Noise(rng.standard_normal(latents), rng.standard_normal(size))


def draw_uniforms(
    model: Generative, shape: tuple[int, ...], rng: onp.random.Generator
) -> onp.ndarray | None:
    """Draw what makes a structured inference network draw z with x, (M, S, T).

    None for a structured autoencoder, whose q(x) has no z.
    """
    return rng.random(shape) if model.inference == "sin" else None
