"""What networks say of data: potentials of x, and the law of frames given x."""

from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.likelihoods import Gaussian, Likelihood
from svae.networks.architectures import draw_weights, template, tie
from svae.networks.protocol import Network, Weights, accepts
from svae.networks.units import NONE, Units
from svae.types import Array, Mask

__all__ = [
    "decoder_template",
    "init_decoder",
    "log_likelihood",
    "outputs",
    "recognize",
]

FUSED = Gaussian()
"""The likelihood of the method ``log_density`` that a network may have."""


def recognize(
    network: Network,
    weights: Weights,
    data: Array,
    shown: Mask | None = None,
    fill: Any = 0.0,
    sees_mask: bool = False,
    valid: Mask | None = None,
    units: Units = NONE,
) -> Any:
    r"""Return the node potentials of the recognition network, r(y; phi).

    Parameters
    ----------
    network : Network
    weights : tree
        Its weights, phi.
    data : (N, T, P) array
    shown : (N, T, P) bool array, optional
        Which entries the network is shown; a frame without any has potentials of zero.
    fill : float or (P,) array
        What the network gets in the place of entries that it is not shown.
    sees_mask : bool
        Whether the network gets 2 P inputs: the data, and 1 where it is not shown.
    valid : (N, T) bool array, optional
        Which frames are no padding, all by default; for networks that ask for it.
    units : Units
        Of the data and of the potentials.

    Returns
    -------
    J : (N, T, D) array
        Diagonal of the quadratic potential, negative.
    h : (N, T, D) array
    """
    inputs = data if shown is None else np.where(shown, data, fill)
    if not units.are_trivial:
        inputs = units.standardize(inputs)
    if sees_mask:
        mask = onp.zeros(data.shape) if shown is None else 1.0 - shown
        inputs = np.concatenate([inputs, mask], axis=-1)
    if accepts(network, "apply", "valid"):
        valid = onp.ones(data.shape[:2], dtype=bool) if valid is None else valid
        location, scale = _apply(network, weights, inputs, valid=valid)
    else:
        location, scale = _apply(network, weights, inputs)
    if not units.are_trivial:
        location, scale = units.precision * location, units.precision * scale
    J, h = -0.5 * scale, location
    if shown is not None:
        speaks = onp.any(shown, axis=-1, keepdims=True)
        J, h = np.where(speaks, J, 0.0), np.where(speaks, h, 0.0)
    return J, h


def _apply(network: Any, weights: Weights, inputs: Array, **valid: Any) -> Any:
    return network.apply(weights, inputs, **valid)


def init_decoder(
    network: Network,
    likelihood: Likelihood,
    encoder: Weights,
    rng: onp.random.Generator,
    latent_dim: int,
    obs_dim: int,
) -> Weights:
    """Draw initial weights gamma of a decoder, tied to those of the ``encoder``.

    With parameters of the likelihood's own it is a dict of both: ``network`` and
    ``likelihood``.
    """
    takes_scale = likelihood.scale_from == "network"
    weights = draw_weights(network, rng, latent_dim, obs_dim, takes_scale)
    return _with_own(likelihood, tie(encoder, weights), obs_dim)


def decoder_template(
    network: Network, likelihood: Likelihood, latent_dim: int, obs_dim: int
) -> Weights:
    """Return a tree that is nested and shaped like what `init_decoder` returns."""
    takes_scale = likelihood.scale_from == "network"
    weights = template(network, latent_dim, obs_dim, takes_scale)
    return _with_own(likelihood, weights, obs_dim)


def _with_own(likelihood: Any, weights: Weights, obs_dim: int) -> Weights:
    if likelihood.scale_from != "parameters":
        return weights
    return {"network": weights, "likelihood": likelihood.init(obs_dim)}


def outputs(
    likelihood: Any,
    network: Network,
    weights: Weights,
    latents: Array,
    units: Units = NONE,
) -> tuple[Any, Any]:
    """Return the location (..., P) and the scale that the likelihood takes.

    In the units of the data.

    Parameters
    ----------
    likelihood : Likelihood
    network, weights
        The decoder and gamma, as `init_decoder` makes it.
    latents : (..., D) array
    units : Units
        In which the network and the likelihood's own parameters are.

    Returns
    -------
    location : (..., P) array
    scale : array that broadcasts to it, or None
    """
    location, scale = _standardized_outputs(likelihood, network, weights, latents)
    if units.are_trivial:
        return location, scale
    return units.restore(location, scale)


def _standardized_outputs(
    likelihood: Any, network: Network, weights: Weights, latents: Any
) -> tuple[Any, Any]:
    """Return location and scale in the units of the networks."""
    if likelihood.scale_from == "parameters":
        location, _ = network.apply(weights["network"], latents)
        return location, likelihood.scale(weights["likelihood"])
    location, scale = network.apply(weights, latents)
    return location, scale if likelihood.scale_from == "network" else None


def log_likelihood(
    likelihood: Likelihood,
    network: Network,
    weights: Weights,
    latents: Array,
    data: Array,
    observed: Mask | None = None,
    units: Units = NONE,
) -> Array:
    r"""Return log p(y_t | x_t, gamma) of each frame and each sample of x.

    Parameters
    ----------
    likelihood : Likelihood
    network, weights
        The decoder and gamma.
    latents : (N, S, T, D) array
        Samples of x.
    data : (N, T, P) array
    observed : (N, T, P) bool array, optional
        Which entries count; all by default.
    units : Units
        In which the network and the likelihood's own parameters are.

    Returns
    -------
    (N, S, T) array, summed over dimensions.
    """
    if not units.are_trivial:
        # frames are constants: it is cheaper to have them in the networks' units
        law: Any = likelihood
        likelihood = law.rescaled(1.0 / units.scale)
        data = units.standardize(data)
    densities = _log_densities(likelihood, network, weights, latents, data, observed)
    if units.are_trivial:
        return densities
    expanded = None if observed is None else observed[:, None]
    return densities + units.log_jacobian(expanded, data.shape[-1])


def _log_densities(
    likelihood: Any,
    network: Network,
    weights: Weights,
    latents: Any,
    data: Any,
    observed: Any,
) -> Any:
    if likelihood == FUSED and hasattr(network, "log_density"):
        return network.log_density(weights, latents, data, observed)
    location, scale = _standardized_outputs(likelihood, network, weights, latents)
    observed = None if observed is None else observed[:, None]
    return likelihood.log_density(data[:, None], location, scale, observed)
