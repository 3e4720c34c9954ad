"""Networks: architectures, what they say of data, and q(gamma) of a decoder."""

from svae.networks.architectures import (
    ACTIVATIONS,
    MEANS,
    MLP,
    Linear,
    Network,
    Residual,
    tie,
)
from svae.networks.decoder_posterior import DECODER_POSTERIORS
from svae.networks.observation import LIKELIHOODS, log_likelihood, recognize

__all__ = [
    "ACTIVATIONS",
    "DECODER_POSTERIORS",
    "LIKELIHOODS",
    "MEANS",
    "MLP",
    "Linear",
    "Network",
    "Residual",
    "log_likelihood",
    "recognize",
    "tie",
]
