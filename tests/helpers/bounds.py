"""Bounds, and evidences that are known."""

import numpy as np

from svae.objective.batch import Noise

LATENT_WITH_THETA = ("gmm", "hmm", "lds", "affine-lds", "slds", "affine-slds")


NAMES = ("gaussian", *LATENT_WITH_THETA)


NETWORKS = ("sin-gmm", "sin-hmm", "sin-lds", "sin-affine-lds")


def quadrature_noise(num_sequences, num_steps, latent_dim):
    """Noise whose sample mean is exact for quadratic functions of the whole path."""
    size = num_steps * latent_dim
    points = np.sqrt(size) * np.concatenate([np.eye(size), -np.eye(size)])
    points = points.reshape(2 * size, num_steps, latent_dim)
    return Noise(np.tile(points, (num_sequences, 1, 1, 1)), np.zeros(0))
