r"""The bound of the structured variational autoencoder and its gradients.

For a batch of M out of N sequences the objective (Johnson et al. 2016, Eq. 3 and
Section 4.2) is

.. math::
    \mathcal{L} = \tfrac{N}{M} \sum_n \left( \mathbb{E}_{q(x)q(\gamma)}
        \log p(y_n | x_n, \gamma) - \mathrm{KL}_n \right)
        - \mathrm{KL}(q(\theta) \| p(\theta)) - \mathrm{KL}(q(\gamma) \| p(\gamma)) .

Everything local depends on q(theta) only through the message
:math:`m = \mathbb{E}_{q(\theta)}[t(\theta)]`, and the Fisher matrix is the Jacobian of
m in eta.  The natural gradient, every term of Eq. (4), is therefore an *ordinary*
gradient in m, taken through inference:

.. math::
    \tilde\nabla_\eta \mathcal{L} = \eta^0 - \eta
        + \tfrac{N}{M} \sum_n \nabla_m \left( \mathbb{E} \log p(y_n|x_n, \gamma)
        - \mathrm{KL}_n \right).

(Algorithm 1 as printed uses the gradient of log p(y | x) alone for the correction;
Eq. (4) has that of log p(y | x) - psi, and so has this file.)
"""

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.families import product
from svae.generative import Generative, Parameters
from svae.models import Diagnostics, Local
from svae.networks import log_likelihood, recognize
from svae.trees import leaves, rebuild, tree_map
from svae.vjp import trace
from svae.weights import kl_from_prior, noise_size, sample_weights

__all__ = [
    "Batch",
    "Bound",
    "Gradients",
    "Noise",
    "bound",
    "bound_and_gradients",
    "draw_noise",
    "infer",
    "local_terms",
]


class Batch(NamedTuple):
    """M sequences, padded to one length."""

    values: np.ndarray
    """(M, T, P)."""
    lengths: np.ndarray | None
    """(M,), or None when all have length T."""
    scale: float
    """N / M: how many batches make the data."""


class Noise(NamedTuple):
    """Standard normal draws that make the bound a deterministic function."""

    latents: np.ndarray
    """(M, S, T, D)."""
    decoder: np.ndarray
    """(W,) for a Gaussian q(gamma) of W weights, else (0,)."""


class Bound(NamedTuple):
    """The objective and its parts, for the whole data.

    ``objective = reconstruction - local_kl - global_kl``.
    """

    objective: float
    reconstruction: float
    local_kl: float
    global_kl: float
    """KL of q(theta) plus KL of q(gamma)."""
    decoder_kl: float
    """The part of ``global_kl`` that belongs to q(gamma); 0 for a point estimate."""


class Gradients(NamedTuple):
    """Ascent directions, for the whole data."""

    natparams: Any
    """Natural gradient in eta, Eq. (4)."""
    encoder: Any
    decoder: Any


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


def infer(
    model: Generative,
    stats: Any,
    encoder: Any,
    values: onp.ndarray,
    lengths: onp.ndarray | None = None,
    noise: onp.ndarray | None = None,
    dense: bool = False,
) -> Local:
    """Return the local factor: recognition network, then message passing.

    Parameters
    ----------
    model : Generative
    stats : dict
        Expected statistics of q(theta), the message m.
    encoder : tree
        Weights of the recognition network, phi.
    values : (N, T, P) array
    lengths : (N,) int array or None
    noise : (N, S, T, D) array or None
    dense : bool
        For a chain, return second moments of x as (N, T, D, D), not their diagonals.

    Returns
    -------
    Local
    """
    J, h = recognize(model.encoder, encoder, values)
    if dense and not model.latent.independent:
        J = J[..., None] * onp.eye(model.latent.latent_dim)
    return model.latent.infer(stats, (J, h), noise, lengths)


def local_terms(
    model: Generative,
    stats: Any,
    encoder: Any,
    weights: Any,
    batch: Batch,
    noise: onp.ndarray,
    dense: bool = False,
) -> tuple[Any, Local]:
    """Return E log p(y | x, gamma), (M,), and the local factor with its KL, (M,)."""
    local = infer(model, stats, encoder, batch.values, batch.lengths, noise, dense)
    reconstruction = log_likelihood(
        model.likelihood,
        model.decoder,
        weights,
        local.samples,
        batch.values,
        _mask(batch),
    )
    return reconstruction, local


def _mask(batch: Batch) -> onp.ndarray | None:
    if batch.lengths is None:
        return None
    return onp.arange(batch.values.shape[1]) < batch.lengths[:, None]


def bound(
    model: Generative, parameters: Parameters, prior: Any, batch: Batch, noise: Noise
) -> Bound:
    """Estimate the objective from one batch.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    prior : dict
        Natural parameters of p(theta).
    batch : Batch
    noise : Noise

    Returns
    -------
    Bound
    """
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    kind, decoder = model.decoder_posterior, parameters.decoder
    reconstruction, local = local_terms(
        model,
        stats,
        parameters.encoder,
        sample_weights(kind, decoder, noise.decoder),
        batch,
        noise.latents,
    )
    terms = np.sum(reconstruction), np.sum(local.kl), kl_from_prior(kind, decoder)
    return _assemble(model, parameters, prior, batch, *terms)


def _assemble(
    model: Any,
    parameters: Any,
    prior: Any,
    batch: Batch,
    reconstruction: Any,
    local_kl: Any,
    decoder_kl: Any,
) -> Bound:
    of_decoder = float(decoder_kl)
    of_theta = float(product.kl(model.latent.family, parameters.natparams, prior))
    reconstruction = float(batch.scale * reconstruction)
    local_kl = float(batch.scale * local_kl)
    global_kl = of_theta + of_decoder
    objective = reconstruction - local_kl - global_kl
    return Bound(objective, reconstruction, local_kl, global_kl, of_decoder)


def bound_and_gradients(
    model: Generative, parameters: Parameters, prior: Any, batch: Batch, noise: Noise
) -> tuple[Bound, Gradients, Diagnostics]:
    """Estimate the objective and all its ascent directions from one batch.

    Parameters
    ----------
    model, parameters, prior, batch, noise
        As in `bound`.

    Returns
    -------
    bound : Bound
    gradients : Gradients
    diagnostics : Diagnostics
        Of inference.
    """
    message = product.expected_stats(model.latent.family, parameters.natparams)
    inputs = (message, parameters.encoder, parameters.decoder)
    kind = model.decoder_posterior

    def of_leaves(*boxes: Any) -> tuple[Any, ...]:
        stats, encoder, decoder = rebuild(inputs, boxes)
        weights = sample_weights(kind, decoder, noise.decoder)
        terms, local = local_terms(model, stats, encoder, weights, batch, noise.latents)
        reconstruction, local_kl = np.sum(terms), np.sum(local.kl)
        decoder_kl = kl_from_prior(kind, decoder)
        objective = batch.scale * (reconstruction - local_kl) - decoder_kl
        return objective, reconstruction, local_kl, decoder_kl, *local.diagnostics

    pull_back, values = trace(of_leaves, leaves(inputs))
    diagnostics = Diagnostics(*values[4:])
    gradients = pull_back(1.0)
    of_message, of_encoder, of_decoder = rebuild(inputs, gradients)
    natural = tree_map(
        lambda eta0, eta, local: eta0 - eta + local,
        prior,
        parameters.natparams,
        of_message,
    )
    terms = _assemble(model, parameters, prior, batch, *values[1:4])
    return terms, Gradients(natural, of_encoder, of_decoder), diagnostics
