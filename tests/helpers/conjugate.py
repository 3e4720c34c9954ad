"""Data of known structure, and small conjugate problems."""

from dataclasses import replace

import numpy as np

import svae
from svae import data
from svae.conjugate.exact_models import Emitted, observed_model

LOG_2PI = np.log(2 * np.pi)


def whole(*sequences):
    """All data as one batch."""
    sequences = data.as_sequences(list(sequences))
    return data.batch(sequences, data.windows(sequences, max(map(len, sequences))))


def rows(frames):
    """Rows of a mixture as one batch."""
    return data.batch([frames], data.windows([frames], 1))


def blobs(rng, number=60, distance=2.0):
    """Points of three clusters in the plane, and their labels."""
    labels = rng.integers(3, size=number)
    centres = distance * np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]])
    return centres[labels] + rng.standard_normal((number, 2)), labels


def rotation(radius, angle):
    c, s = np.cos(angle), np.sin(angle)
    return radius * np.array([[c, -s], [s, c]])


def linear_frames(rng, num_steps, A, C, noise=0.3):
    """Frames of a linear dynamical system with unit noise in its dynamics."""
    x, frames = rng.standard_normal(len(A)), np.zeros((num_steps, len(C)))
    for t in range(num_steps):
        frames[t] = C @ x + noise * rng.standard_normal(len(C))
        x = A @ x + rng.standard_normal(len(A))
    return frames


def ragged_frames(rng):
    """Three sequences of an oscillator; frames are missing inside and at an end."""
    A, C = rotation(0.9, 0.5), rng.standard_normal((3, 2))
    sequences = [linear_frames(rng, T, A, C) for T in (12, 7, 1)]
    sequences[0][[4, 5, 11]] = np.nan
    return sequences


def problem(name, rng):
    """Return a model, a batch, and natural parameters away from any optimum."""
    if name == "gmm":
        latent = svae.GMM(3, 2, initial_spread=1.0)
        frames = blobs(rng)[0]
        frames[7] = np.nan
        points = rows(frames)
    elif name == "hmm":
        latent = svae.HMM(3, 2, initial_spread=1.0, sticky=0.5)
        points = whole(*ragged_frames(rng)[:2])
        points = replace(points, values=points.values[..., :2])
    elif name == "slds":
        latent = svae.SLDS(2, 2, affine=True)
        points = whole(*(blobs(rng, T)[0] for T in (30, 20)))
    else:
        latent = svae.LDS(2, affine=name == "affine")
        points = whole(*ragged_frames(rng))
    model = observed_model(latent, None)
    prior = model.prior(points.values.shape[-1])
    if isinstance(model, Emitted):
        return model, points, prior, model.start(prior, points, rng, 1)
    return model, points, prior, latent.initial_posterior(rng)
