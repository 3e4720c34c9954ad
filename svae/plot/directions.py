"""Principal directions of a latent space, as the decoded frames see them."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Directions", "directions_of"]

ENOUGH = 1000
"""Points that are decoded to find directions."""
NOTHING = 1e-9
"""Share of the largest variance of x below which there is none."""


class Directions(NamedTuple):
    """Coordinates of x in standard deviations along principal directions."""

    center: np.ndarray
    """(D,), the mean of the aggregate posterior."""
    steps: np.ndarray
    """(R, D), one standard deviation along each direction, the first one first."""
    inverse: np.ndarray
    """(D, R), so that coordinates are ``(x - center) @ inverse``."""

    def coordinates(self, latents: np.ndarray) -> np.ndarray:
        """Return the coordinates (..., R) of latents (..., D)."""
        return np.asarray((latents - self.center) @ self.inverse)

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the latents (..., D) at coordinates (..., C) of the first C."""
        steps = self.steps[: coordinates.shape[-1]]
        return np.asarray(self.center + coordinates @ steps)


def directions_of(
    model: Any, latents: np.ndarray, center: np.ndarray | None = None
) -> Directions:
    """Return the principal directions of the aggregate posterior of x.

    With covariance S of x and the regression ``f = B x`` of decoded frames on it, they
    are ``S^(1/2) u`` with u the eigenvectors of ``S^(1/2) B' B S^(1/2)``: the principal
    components of the frames as far as they are linear in x.  Any linear change of the
    coordinates of x leaves them as they are, so they also order the latents of a model
    whose aggregate posterior is white.

    Parameters
    ----------
    model : SVAE
    latents : (T, D) array
        Samples of the aggregate posterior: for each frame, of its posterior.
    center : (D,) array, optional
        Default: their mean.
    """
    mean = latents.mean(axis=0)
    covariance = np.atleast_2d(np.cov(latents.T, ddof=0))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > NOTHING * max(values[-1], np.finfo(float).tiny)
    if not kept.any():  # x is always the same: any directions do
        values, vectors, kept = np.ones_like(values), np.eye(len(values)), values == 0
        kept[:] = True
    scales = np.sqrt(values[kept])
    root, inverse = vectors[:, kept] * scales, vectors[:, kept] / scales
    chosen = np.linspace(0, len(latents) - 1, min(ENOUGH, len(latents)))
    some = latents[chosen.astype(int)]
    frames = model.decode(some)[0]
    white = (some - mean) @ inverse
    slopes = np.linalg.lstsq(white, frames - frames.mean(axis=0), rcond=None)[0]
    rotation = np.linalg.eigh(slopes @ slopes.T)[1][:, ::-1]
    # a sign is arbitrary: most of a frame grows along its direction
    signs = np.where((rotation.T @ slopes).sum(axis=1) < 0, -1.0, 1.0)
    rotation = rotation * signs
    center = mean if center is None else center
    return Directions(center, (root @ rotation).T, inverse @ rotation)
