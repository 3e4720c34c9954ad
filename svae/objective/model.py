"""What a model is: a latent model between two networks, and what is learned of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.autodiff.trees import check_alike
from svae.families import product
from svae.likelihoods import Likelihood, label
from svae.models import LatentModel
from svae.networks import DECODER_POSTERIORS, Network
from svae.networks.architectures import template
from svae.networks.decoder_posterior import initial_posterior
from svae.networks.observation import decoder_template
from svae.networks.units import NONE, Units

__all__ = [
    "INFERENCES",
    "Generative",
    "Parameters",
    "check_data",
    "check_model",
    "check_natparams",
    "check_parameters",
    "in_units",
    "initial_encoder",
    "recognition",
]

INFERENCES = ("svae", "sin")


class Generative(NamedTuple):
    """What is fixed about a model: its latent model, networks and likelihood."""

    latent: LatentModel
    encoder: Network
    decoder: Network
    likelihood: Likelihood
    decoder_posterior: str
    """``"point"``, or ``"gaussian"`` for a mean-field Gaussian q(gamma)."""
    fill: Any = 0.0
    """(P,) or a number: what the encoder gets for a missing entry of a frame."""
    sees_mask: bool = False
    """Whether the encoder also gets a mask of the missing entries."""
    inference: str = "svae"
    """``"svae"``: the graph of inference is the prior's message m (Johnson et al.
    2016); ``"sin"``: it has parameters of its own (Lin et al. 2018)."""
    units: Units = NONE
    """In which the networks see data and speak of x."""
    control_variate: bool = False
    """Whether the expected log likelihood is estimated with one, in training; see
    `svae.objective.control_variate`."""

    def num_inputs(self, obs_dim: int) -> int:
        """Count the inputs of the encoder for frames of ``obs_dim`` dimensions."""
        return 2 * obs_dim if self.sees_mask else obs_dim


def check_model(model: Generative) -> None:
    """Raise ValueError or TypeError, naming the part of a model that is malformed."""
    for role, method, example in (
        ("latent", "infer", "a latent model like svae.LDS()"),
        ("encoder", "apply", "a network like svae.MLP()"),
        ("decoder", "apply", "a network like svae.MLP()"),
    ):
        part = getattr(model, role)
        if isinstance(part, type) or not hasattr(part, method):
            raise TypeError(f"{role} must be {example}, got {part!r}")
    if model.inference not in INFERENCES:
        raise ValueError(
            f"inference must be one of {INFERENCES}, got {model.inference!r}"
        )
    if model.inference == "sin" and not hasattr(model.latent, "expected_log_density"):
        raise ValueError(
            f"inference 'sin': {type(model.latent).__name__} has no graph that could "
            "be summed over exactly; GMM, StudentMixture, HMM and LDS have"
        )
    if model.decoder_posterior not in DECODER_POSTERIORS:
        raise ValueError(
            f"decoder_posterior must be one of {DECODER_POSTERIORS}, "
            f"got {model.decoder_posterior!r}"
        )
    decoder_mean = getattr(model.decoder, "mean", "linear")
    location = getattr(model.likelihood, "location", "mean")
    if location != "mean" and decoder_mean != "linear":
        raise ValueError(
            f"likelihood {label(model.likelihood)} takes {location} from the decoder: "
            f"its mean must be 'linear', got {decoder_mean!r}"
        )


def check_data(model: Generative, sequences: Sequence[np.ndarray]) -> None:
    """Raise ValueError, naming the place of a value that the likelihood cannot have."""
    likelihood = model.likelihood
    if likelihood.support is None:
        return
    for index, start, frames in data.stretches(sequences):
        wrong = np.argwhere(~likelihood.check(frames) & ~np.isnan(frames))
        if len(wrong):
            step, dimension = wrong[0]
            raise ValueError(
                f"likelihood {label(likelihood)} needs {likelihood.support}, got "
                f"{frames[step, dimension]} at sequence {index}, step {start + step}, "
                f"dimension {dimension}"
            )


class Parameters(NamedTuple):
    """What is learned: eta, phi, and gamma or the parameters of q(gamma)."""

    natparams: Any
    encoder: Any
    """Weights; of a structured inference network a dict of those of the ``network``
    and of the free coordinates of its ``graph``."""
    decoder: Any
    """Weights; for a Gaussian q(gamma) a dict of ``mean`` and ``log_std`` weights."""


def initial_encoder(model: Generative, natparams: Any, weights: Any) -> Any:
    """Return phi with the network's ``weights`` and, if it has one, a graph.

    The graph starts as the message of q(theta).
    """
    if model.inference == "svae":
        return weights
    latent: Any = model.latent
    message = product.expected_stats(latent.family, natparams)
    return {
        "network": weights,
        "graph": product.to_free(latent.graph.family, message),
    }


def recognition(model: Generative, encoder: Any) -> tuple[Any, Any]:
    """Return the network's weights, and the message of the graph or None."""
    if model.inference == "svae":
        return encoder, None
    latent: Any = model.latent
    graph = product.from_free(latent.graph.family, encoder["graph"])
    return encoder["network"], graph


def in_units(model: Generative, units: Units) -> Generative:
    """Return a model whose networks see data in units; its likelihood knows of them."""
    likelihood: Any = model.likelihood
    law = likelihood.relative_to(units.scale**2)
    return model._replace(units=units, likelihood=law)


def check_parameters(model: Generative, parameters: Any, obs_dim: int) -> Parameters:
    """Return parameters that were read back, of frames of ``obs_dim`` dimensions.

    Raises
    ------
    ValueError
        If they are not those of this model, not finite, or q(theta) is improper.
    """
    prior = model.latent.prior()
    latent_dim, num_inputs = model.latent.latent_dim, model.num_inputs(obs_dim)
    network = template(model.encoder, num_inputs, latent_dim)
    weights = decoder_template(model.decoder, model.likelihood, latent_dim, obs_dim)
    expected = Parameters(
        prior,
        initial_encoder(model, prior, network),
        initial_posterior(model.decoder_posterior, weights),
    )
    for name, tree, like in zip(Parameters._fields, parameters, expected, strict=True):
        check_alike(tree, like, name)
    found = Parameters(*parameters)
    check_natparams(model.latent, found.natparams, "natparams")
    return found


def check_natparams(latent: LatentModel, natparams: Any, name: str) -> Any:
    """Return natural parameters of theta that were read back; see `check_parameters`.

    Raises
    ------
    ValueError
        If they are not those of this model or improper, by their ``name``.
    """
    check_alike(natparams, latent.prior(), name)
    if not product.in_domain(latent.family, natparams):
        raise ValueError(f"{name} are of no distribution")
    return natparams
