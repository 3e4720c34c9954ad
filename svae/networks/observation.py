"""What networks say of data: potentials of x, and the log likelihood of frames."""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.kernels.layers import gaussian_log_density, softplus
from svae.networks.architectures import Network, Weights

__all__ = [
    "log_likelihood",
    "recognize",
]


LIKELIHOODS = ("gaussian", "bernoulli")


def recognize(
    network: Network,
    weights: Weights,
    data: Any,
    observed: Any = None,
    fill: Any = 0.0,
    sees_mask: bool = False,
) -> Any:
    r"""Return the node potentials of the recognition network, r(y; phi).

    Parameters
    ----------
    network : Network
    weights : tree
        Its weights, phi.
    data : (N, T, P) array
    observed : (N, T, P) bool array, optional
        Which entries the network sees; a frame without any has potentials of zero.
    fill : float or (P,) array
        What the network gets in the place of entries that it does not see.
    sees_mask : bool
        Whether the network gets 2 P inputs: the data, and 1 where it is not seen.

    Returns
    -------
    J : (N, T, D) array
        Diagonal of the quadratic potential, negative.
    h : (N, T, D) array
    """
    inputs = data if observed is None else np.where(observed, data, fill)
    if sees_mask:
        hidden = onp.zeros(data.shape) if observed is None else 1.0 - observed
        inputs = np.concatenate([inputs, hidden], axis=-1)
    location, scale = network.apply(weights, inputs)
    J, h = -0.5 * scale, location
    if observed is not None:
        seen = onp.any(observed, axis=-1, keepdims=True)
        J, h = np.where(seen, J, 0.0), np.where(seen, h, 0.0)
    return J, h


def log_likelihood(
    kind: str,
    network: Network,
    weights: Weights,
    latents: Any,
    data: Any,
    observed: Any = None,
) -> Any:
    r"""Return log p(y_t | x_t, gamma) of each frame and each sample of x.

    Parameters
    ----------
    kind : {"gaussian", "bernoulli"}
        Gaussian with the network's mean and variance for each dimension, or Bernoulli
        with the location as log odds.
    network, weights
        The decoder and its weights, gamma.
    latents : (N, S, T, D) array
        Samples of x.
    data : (N, T, P) array
    observed : (N, T, P) bool array, optional
        Which entries count; all by default.

    Returns
    -------
    (N, S, T) array, summed over dimensions.
    """
    if kind == "gaussian" and hasattr(network, "log_density"):
        return network.log_density(weights, latents, data, observed)
    location, scale = network.apply(weights, latents)
    data = data[:, None]
    observed = None if observed is None else observed[:, None]
    if kind == "gaussian":
        return gaussian_log_density(data, location, scale, observed)
    terms = data * location - softplus(location)
    if observed is not None:
        terms = np.where(observed, terms, 0.0)
    return np.sum(terms, axis=-1)
