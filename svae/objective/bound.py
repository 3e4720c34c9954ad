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

All this holds for either inference.  A structured autoencoder finds q(x) from m; then
the gradient is the conjugate part E_q[t(z, x)] and the correction.  A structured
inference network has a q(x) without m; the gradient is E_q[t(z, x)] alone, or, of
factors that are not conjugate, the gradient in mean parameters of their expectation:
variational message passing (Lin et al. 2018, Section 4; Khan and Lin 2017).
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.autodiff.trees import leaves, rebuild, tree_map
from svae.autodiff.vjp import Cotangents, trace
from svae.families import product
from svae.models import Diagnostics, Local
from svae.networks.decoder_posterior import kl_from_prior, sample_weights
from svae.objective.batch import Batch, Noise
from svae.objective.local import local_terms
from svae.objective.model import Generative, Parameters
from svae.types import Message

__all__ = [
    "Bound",
    "Contribution",
    "Gradients",
    "NATURAL_GRADIENTS",
    "PARTS",
    "Step",
    "bound",
    "bound_and_gradients",
    "complete",
    "contribution",
    "plain_gradient",
]


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
    """Ascent directions, for the whole data; None for what is frozen."""

    natparams: Any
    """Natural gradient in eta, Eq. (4), or what was asked for in its place."""
    encoder: Any
    decoder: Any


class Contribution(NamedTuple):
    """What sequences add to the bound and to its gradients.

    Gradients have the batch's ``scale`` in them, the other numbers are plain sums.
    """

    reconstruction: float
    local_kl: float
    message: Any
    """Gradient in m, like m."""
    encoder: Any
    decoder: Any
    inference: Diagnostics
    gradient_solve: Diagnostics
    states: Any


class Step(NamedTuple):
    """What one batch says about the objective."""

    bound: Bound
    gradients: Gradients
    inference: Diagnostics
    gradient_solve: Diagnostics
    """Of the linear system in the gradient through a mean-field factor."""
    states: Any
    """(M, T, K), probabilities of the discrete states, or None."""


PARTS = ("latent", "encoder", "decoder")
"""What is learned, by the arguments of the model: q(theta), phi, and gamma."""
NATURAL_GRADIENTS = ("full", "conjugate", "none")


def bound(
    model: Generative,
    parameters: Parameters,
    prior: Message,
    batch: Batch,
    noise: Noise,
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
    log_likelihoods, local = local_terms(
        model,
        stats,
        parameters.encoder,
        sample_weights(kind, decoder, noise.decoder),
        batch,
        noise.latents,
    )
    decoder_kl = kl_from_prior(kind, decoder)
    terms = np.sum(log_likelihoods), np.sum(local.kl), decoder_kl
    return _assemble(model, parameters, stats, prior, batch.scale, *terms)


def bound_and_gradients(
    model: Generative,
    parameters: Parameters,
    prior: Message,
    batch: Batch,
    noise: Noise,
    natural_gradient: str = "full",
) -> Step:
    """Estimate the objective and all its ascent directions from one batch.

    Parameters
    ----------
    model, parameters, prior, batch, noise
        As in `bound`.
    natural_gradient : {"full", "conjugate", "none"}
        What direction for eta: Eq. (4) in full; its conjugate part alone, the expected
        statistics of the local factor, as the authors' code has it; or the plain
        gradient in eta.

    Returns
    -------
    Step
    """
    message = product.expected_stats(model.latent.family, parameters.natparams)
    local = contribution(
        model,
        message,
        parameters.encoder,
        parameters.decoder,
        batch,
        noise,
        natural_gradient,
    )
    return complete(
        model, parameters, message, prior, batch.scale, local, natural_gradient
    )


def contribution(
    model: Generative,
    message: Message,
    encoder: Any,
    decoder: Any,
    batch: Batch,
    noise: Noise,
    natural_gradient: str = "full",
    frozen: Collection[str] = (),
) -> Contribution:
    """Return what the sequences of a batch, or of a part of one, say.

    All that is local, given m = ``message``; contributions of the parts of a batch add
    up to that of the whole.  For what is ``frozen``, of `PARTS`, there is no gradient,
    but None.
    """
    given = message, encoder, decoder
    parts = zip(PARTS, given, strict=True)
    inputs = tuple(None if name in frozen else part for name, part in parts)

    def of_leaves(*boxes: Any) -> tuple[Any, ...]:
        boxed = zip(given, rebuild(inputs, boxes), strict=True)
        stats, encoder, decoder = (old if new is None else new for old, new in boxed)
        weights = sample_weights(model.decoder_posterior, decoder, noise.decoder)
        terms, local = local_terms(model, stats, encoder, weights, batch, noise.latents)
        differentiated = terms, local.kl, conjugate_part(model, local)
        return *differentiated, *local.diagnostics, local.states

    pull_back, values = trace(of_leaves, leaves(inputs))
    terms, kl, _, iterations, residual, states = values
    scale = onp.full(len(kl), batch.scale)  # of every sequence in the objective
    gradient = pull_back(scale, -scale)
    of_message, of_encoder, of_decoder = rebuild(inputs, gradient)
    if natural_gradient == "conjugate" and of_message is not None:
        # statistics are the gradient of log Z: those of the surrogate's optimum
        of_message = rebuild(inputs, pull_back(None, None, scale))[0]
    return Contribution(
        float(onp.sum(terms)),
        float(onp.sum(kl)),
        of_message,
        of_encoder,
        of_decoder,
        Diagnostics(iterations, residual),
        diagnostics_of(gradient, len(kl)),
        states,
    )


def diagnostics_of(gradient: Cotangents, num_sequences: int) -> Diagnostics:
    """Return how the solve in a gradient ended, zeros where inference is exact."""
    if not gradient.diagnostics:
        return Diagnostics(onp.zeros(num_sequences), onp.zeros(num_sequences))
    (diagnostics,) = gradient.diagnostics
    return diagnostics


def complete(
    model: Generative,
    parameters: Parameters,
    message: Message,
    prior: Message,
    scale: float,
    local: Contribution,
    natural_gradient: str = "full",
) -> Step:
    """Add what is global, the priors of theta and gamma, to what a batch says.

    ``message`` is m, and ``scale`` is N / M of the batch.
    """
    kind = model.decoder_posterior
    natural = None
    if local.message is not None:
        natural = tree_map(
            lambda eta0, eta, of_message: eta0 - eta + of_message,
            prior,
            parameters.natparams,
            local.message,
        )
        if natural_gradient == "none":
            family = model.latent.family
            natural = plain_gradient(family, parameters.natparams, natural)
    decoder_kl, of_prior = kl_and_gradient(kind, parameters.decoder)
    of_decoder = local.decoder
    if of_prior is not None and of_decoder is not None:
        of_decoder = tree_map(onp.subtract, of_decoder, of_prior)
    terms = local.reconstruction, local.local_kl, decoder_kl
    return Step(
        _assemble(model, parameters, message, prior, scale, *terms),
        Gradients(natural, local.encoder, of_decoder),
        local.inference,
        local.gradient_solve,
        local.states,
    )


def _assemble(
    model: Generative,
    parameters: Parameters,
    message: Message,
    prior: Message,
    scale: float,
    reconstruction: Any,
    local_kl: Any,
    decoder_kl: Any,
) -> Bound:
    of_decoder = float(decoder_kl)
    natparams = parameters.natparams
    of_theta = float(product.kl(model.latent.family, natparams, prior, message))
    reconstruction = float(scale * reconstruction)
    local_kl = float(scale * local_kl)
    global_kl = of_theta + of_decoder
    objective = reconstruction - local_kl - global_kl
    return Bound(objective, reconstruction, local_kl, global_kl, of_decoder)


def kl_and_gradient(kind: str, decoder: Any) -> tuple[float, Any]:
    """Return the KL divergence of q(gamma) and its gradient, None of a point."""
    if kind == "point":
        return 0.0, None
    pull_back, (divergence,) = trace(
        lambda *boxes: (kl_from_prior(kind, rebuild(decoder, boxes)),), leaves(decoder)
    )
    return float(divergence), rebuild(decoder, pull_back(1.0))


def conjugate_part(model: Generative, local: Local) -> Any:
    """Return what has E[t(z, x)] of each sequence for its gradient in m.

    Of a structured autoencoder the optimum of its surrogate; of a structured inference
    network, where q does not depend on m, the bound itself.
    """
    return local.log_normalizer if model.inference == "svae" else -local.kl


def plain_gradient(family: Any, natparams: Any, natural: Message) -> Any:
    """Turn a natural gradient into the gradient in eta.

    They differ by the Fisher matrix, the Jacobian of the expected statistics, which is
    symmetric.
    """
    if not family:
        return natural
    arrays = leaves(natparams)

    def pairing(*boxes: Any) -> tuple[Any]:
        stats = leaves(product.expected_stats(family, rebuild(natparams, boxes)))
        pairs = zip(stats, leaves(natural), strict=True)
        return (sum(np.sum(stat * direction) for stat, direction in pairs),)

    pull_back, _ = trace(pairing, arrays)
    return rebuild(natparams, pull_back(1.0))
