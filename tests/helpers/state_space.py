"""Structural time series: covariances of less than full rank."""

import autograd.numpy as np

from svae.standard import LinearGaussian


def season(level, seasonal, noise, diffuse=1.0):
    """Return a local level with a season of four steps: four states, two noises."""
    A = np.array(
        [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, -1.0, -1.0, -1.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ]
    )
    of_level, of_season = np.diag([1.0, 0, 0, 0]), np.diag([0, 1.0, 0, 0])
    return LinearGaussian(
        A=A,
        Q=level * of_level + seasonal * of_season,
        C=np.array([[1.0, 1.0, 0.0, 0.0]]),
        R=noise * np.eye(1),
        m0=np.zeros(4),
        P0=diffuse * np.eye(4),
    )
