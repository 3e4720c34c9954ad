"""q(gamma): the weights of the decoder, a point estimate or a mean-field Gaussian.

The functions are those of either kind of `DECODER_POSTERIORS`.  A point estimate is the
tree of weights itself; the Gaussian is a dict of two such trees, ``mean`` and
``log_std``, and its prior is N(0, I) (Johnson et al. 2016, Algorithm 1).

Beside training, whatever is an expectation over the posterior has a gamma ~ q(gamma) of
its own for each sample.  A sample's gamma is made from a seed when it is needed: there
may be too many samples to hold the weights of all.
"""

from collections.abc import Iterator
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.autodiff.trees import from_vector, leaves, to_vector, tree_map

__all__ = [
    "DECODER_POSTERIORS",
    "draw_seeds",
    "each_gamma",
    "initial_posterior",
    "kl_from_prior",
    "mean_weights",
    "noise_size",
    "sample_weights",
]

DECODER_POSTERIORS = ("point", "gaussian")
INITIAL_LOG_STD = -4.0


def initial_posterior(kind: str, weights: Any) -> Any:
    """Return the parameters of a narrow q(gamma) around initial weights."""
    if kind == "point":
        return weights
    log_std = tree_map(lambda w: onp.full(onp.shape(w), INITIAL_LOG_STD), weights)
    return {"mean": weights, "log_std": log_std}


def mean_weights(kind: str, decoder: Any) -> Any:
    """Return the mean of q(gamma)."""
    return decoder if kind == "point" else decoder["mean"]


def noise_size(kind: str, decoder: Any) -> int:
    """Count the standard normal draws that `sample_weights` takes."""
    return 0 if kind == "point" else to_vector(decoder["mean"]).size


def sample_weights(kind: str, decoder: Any, noise: onp.ndarray) -> Any:
    """Return gamma: the point estimate, or mean + std * noise."""
    if kind == "point":
        return decoder
    return tree_map(
        lambda mean, log_std, draw: mean + np.exp(log_std) * draw,
        decoder["mean"],
        decoder["log_std"],
        from_vector(decoder["mean"], noise),
    )


def draw_seeds(
    kind: str, decoder: Any, number: int, rng: onp.random.Generator
) -> onp.ndarray | None:
    """Draw seeds of the gammas of ``number`` samples; None, and no draw, of a point."""
    if noise_size(kind, decoder) == 0:
        return None
    return rng.integers(2**63, size=number)


def each_gamma(
    kind: str, decoder: Any, seeds: onp.ndarray | None, number: int
) -> Iterator[tuple[Any, slice]]:
    """Yield every gamma with the samples, of ``number``, that it belongs to.

    Without seeds all have the point estimate, or the mean of q(gamma).  Where samples
    stand for all values of z there are several for each seed, one after the other.
    """
    if seeds is None:
        yield mean_weights(kind, decoder), slice(0, number)
        return
    size, each = noise_size(kind, decoder), number // len(seeds)
    for index, seed in enumerate(seeds):
        noise = onp.random.default_rng(seed).standard_normal(size)
        samples = slice(index * each, (index + 1) * each)
        yield sample_weights(kind, decoder, noise), samples


def kl_from_prior(kind: str, decoder: Any) -> Any:
    """KL(q(gamma) || N(0, I)); 0 for a point estimate.

    In the logarithms of the standard deviations, so that nothing is divided by a small
    one: KL(N(m, s^2) || N(0, 1)) = (s^2 + m^2 - 1) / 2 - log s.
    """
    if kind == "point":
        return 0.0
    pairs = zip(leaves(decoder["mean"]), leaves(decoder["log_std"]), strict=True)
    return sum(
        np.sum(0.5 * (np.exp(2.0 * log_std) + mean**2 - 1.0) - log_std)
        for mean, log_std in pairs
    )
