r"""Probabilistic principal components: the linear model that data start from.

.. math:: x \sim \mathcal{N}(0, I), \qquad y = W x + \mu + v,\;
          v \sim \mathcal{N}(0, \sigma^2 I),

with its maximum-likelihood solution, ``W = U (L - sigma^2)^(1/2)`` of the leading
eigenvectors U and eigenvalues L of the covariance, and ``sigma^2`` the mean of the
other eigenvalues (Tipping and Bishop 1999, Eqs. 7 and 8).  The evidence of a frame
about x,

.. math:: \log p(y \mid x) = \langle -\tfrac{1}{2\sigma^2} W'W,\ xx' \rangle
          + \langle \tfrac{1}{\sigma^2} W'(y - \mu),\ x \rangle + \text{const},

has a diagonal J, as W'W is diagonal: a recognition network can start as it.

Where entries are missing the solution is found by EM (the same paper, Section 3.3), in
which every dimension of y has a regression on x of its own.
"""

from typing import NamedTuple

import numpy as np
import scipy

from svae.types import Array, Mask

__all__ = ["PrincipalComponents", "principal_components"]

LEAST_NOISE = 1e-3
"""Of sigma^2, in units of the mean variance: there may be nothing beside W x."""
LEAST_SIGNAL = 1e-3
"""Of what a column of W explains, in units of sigma^2."""
MAX_ITERATIONS = 100
TOLERANCE = 1e-5
"""Relative change of sigma^2 at which EM has converged."""


class PrincipalComponents(NamedTuple):
    """Probabilistic principal components of frames with P dimensions."""

    mean: Array
    """(P,), mu."""
    weights: Array
    """(P, D), W; its columns are orthogonal."""
    noise: float
    """sigma^2"""
    residual: Array
    """(P,), mean squares of what the components leave of each dimension."""

    @property
    def precision(self) -> Array:
        """Precision of the evidence about each dimension of x, (D,)."""
        return np.sum(self.weights**2, axis=0) / self.noise

    def log_density(self, frames: Array, observed: Mask | None = None) -> Array:
        """Return log p(y) of frames (M, P), (M,), of what is observed of them."""
        if observed is None:
            observed = np.ones(frames.shape, dtype=bool)
        centered = np.where(observed, frames - self.mean, 0.0)
        projected = centered @ self.weights / self.noise
        precision = _precisions(self.weights, observed, self.noise)
        explained = np.linalg.solve(precision, projected[..., None])[..., 0]
        _, log_det = np.linalg.slogdet(precision)
        squares = np.sum(centered**2, axis=1) / self.noise
        squares -= np.sum(projected * explained, axis=1)
        constants = observed.sum(axis=1) * np.log(2 * np.pi * self.noise) + log_det
        return np.asarray(-0.5 * (squares + constants))


def principal_components(
    frames: Array, latent_dim: int, observed: Mask | None = None
) -> PrincipalComponents:
    """Fit D probabilistic principal components to frames.

    Parameters
    ----------
    frames : (M, P) array
        Finite, also where nothing is observed.
    latent_dim : int
        D.  Components that the data have not, because D is P or more or because there
        are fewer frames, have next to no weight.
    observed : (M, P) bool array, optional
        Which entries count; all by default.

    Returns
    -------
    PrincipalComponents
    """
    if observed is None or observed.all():
        return _complete(frames, latent_dim)
    return _by_em(frames, latent_dim, observed)


def _complete(frames: Array, latent_dim: int) -> PrincipalComponents:
    """Return the solution for frames of which everything is observed."""
    number, obs_dim = frames.shape
    mean = frames.mean(axis=0)
    centered = frames - mean
    total = float(np.sum(centered**2)) / number
    kept = min(latent_dim, obs_dim, number)
    values, vectors = _leading(centered, kept)
    others = max(total - values.sum(), 0.0) / max(obs_dim - kept, 1)
    noise = max(others, LEAST_NOISE * total / obs_dim, np.finfo(float).tiny)
    signal = np.maximum(values - noise, LEAST_SIGNAL * noise)
    weights = np.zeros((obs_dim, latent_dim))
    weights[:, :kept] = vectors * np.sqrt(signal)
    residual = np.mean((centered - centered @ vectors @ vectors.T) ** 2, axis=0)
    return PrincipalComponents(mean, weights, noise, residual)


def _leading(centered: Array, number: int) -> tuple[Array, Array]:
    """Return the largest eigenvalues of the covariance and their vectors, (P, D).

    The largest entry of each vector is positive, so that its sign is certain.
    """
    count, obs_dim = centered.shape
    wide = obs_dim > count
    scatter = (centered @ centered.T if wide else centered.T @ centered) / count
    last = len(scatter) - 1
    values, vectors = scipy.linalg.eigh(
        scatter, subset_by_index=[last + 1 - number, last]
    )
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if wide:  # from those of the frames to those of the dimensions
        vectors = centered.T @ vectors
        norms = np.linalg.norm(vectors, axis=0)
        vectors = vectors / np.where(norms > 0, norms, 1.0)
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.where(largest < 0, -1.0, 1.0)


def _by_em(frames: Array, latent_dim: int, observed: Mask) -> PrincipalComponents:
    """Find the solution where entries are missing, from means in their place."""
    count = np.maximum(observed.sum(axis=0), 1)
    mean = np.where(observed, frames, 0.0).sum(axis=0) / count
    values = np.where(observed, frames, mean)
    found = _complete(values, latent_dim)
    variance = np.sum((values - mean) ** 2) / count.sum()
    for _ in range(MAX_ITERATIONS):
        last, found = found.noise, _em_step(found, values, observed, variance)
        if abs(found.noise - last) <= TOLERANCE * last:
            break
    return _rotated(found)


def _em_step(
    of: PrincipalComponents, values: Array, observed: Mask, variance: float
) -> PrincipalComponents:
    """Regress every dimension on x, where it is observed.

    With ``[x; 1]`` for x, the last column of a regression is the mean.
    """
    dim, mask = of.weights.shape[1], observed.astype(np.float64)
    centered = mask * (values - of.mean)
    cov = np.linalg.inv(_precisions(of.weights, observed, of.noise))
    x = np.einsum("mde,me->md", cov, centered @ of.weights / of.noise)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    second = x[:, :, None] * x[:, None, :]
    second[:, :dim, :dim] += cov
    moments = (mask.T @ second.reshape(len(x), -1)).reshape(-1, dim + 1, dim + 1)
    moments[:, :dim, :dim] += 1e-6 * np.eye(dim)  # of dimensions that are hardly seen
    moments[:, dim, dim] += 1e-6
    cross = centered.T @ x
    regression = np.linalg.solve(moments, cross[..., None])[..., 0]
    squares = np.sum(centered**2, axis=0) - np.sum(regression * cross, axis=1)
    count = mask.sum(axis=0)
    residual = np.maximum(squares, 0.0) / np.maximum(count, 1)
    noise = max(float(residual @ count / count.sum()), LEAST_NOISE * variance)
    return PrincipalComponents(
        of.mean + regression[:, dim], regression[:, :dim], noise, residual
    )


def _rotated(of: PrincipalComponents) -> PrincipalComponents:
    """Return the same model with orthogonal columns of W, the largest first."""
    left, lengths, _ = np.linalg.svd(of.weights, full_matrices=False)
    least = np.sqrt(LEAST_SIGNAL * of.noise)
    weights = np.zeros(of.weights.shape)
    weights[:, : len(lengths)] = left * np.maximum(lengths, least)
    largest = np.take_along_axis(weights, np.abs(weights).argmax(axis=0)[None], axis=0)
    return of._replace(weights=weights * np.where(largest < 0, -1.0, 1.0))


def _precisions(weights: Array, observed: Mask, noise: float) -> Array:
    """Return the posterior precision of x for each frame, (M, D, D)."""
    dim = weights.shape[1]
    if observed.all():
        one = weights.T @ weights / noise + np.eye(dim)
        return np.broadcast_to(one, (len(observed), dim, dim))
    squares = (weights[:, :, None] * weights[:, None, :]).reshape(-1, dim * dim)
    gram = observed.astype(np.float64) @ squares
    return gram.reshape(-1, dim, dim) / noise + np.eye(dim)
