"""Batches of sequences, and the noise that makes a bound deterministic."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.data import Windows
from svae.models import Belief
from svae.networks.decoder_posterior import noise_size
from svae.objective.model import Generative

__all__ = [
    "Batch",
    "Noise",
    "draw_noise",
    "draw_uniforms",
]


@dataclass(frozen=True, eq=False)
class Batch(Windows):
    """M windows, and how a step of training or inference treats them."""

    scale: float = 1.0
    """N / M: how many batches make the data."""
    shown: np.ndarray | None = None
    """(M, T) bool, False at frames that the likelihood scores and the encoder does not
    see; None if it sees all."""
    belief: Belief | None = None
    """What earlier frames say of the first steps."""
    starts: Any = None
    """Probabilities of the states from which inference starts, (M, T, K) each."""

    @classmethod
    def of(cls, windows: Windows, **others: Any) -> "Batch":
        """Return windows as a batch, with its other fields."""
        return cls(windows.values, windows.lengths, windows.observed, **others)

    @property
    def shown_entries(self) -> Any:
        """Mask (M, T, P) of what the encoder sees, or None for everything."""
        if self.shown is None:
            return self.observed
        shown = onp.broadcast_to(self.shown[..., None], self.values.shape)
        return shown if self.observed is None else shown & self.observed


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
