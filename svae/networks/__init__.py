"""Networks, what they say of data under a likelihood, and q(gamma) of a decoder."""

from svae.networks.architectures import ACTIVATIONS, MEANS, MLP, Linear, Residual, tie
from svae.networks.decoder_posterior import DECODER_POSTERIORS
from svae.networks.observation import log_likelihood, outputs, recognize
from svae.networks.protocol import Network

__all__ = [
    "ACTIVATIONS",
    "DECODER_POSTERIORS",
    "MEANS",
    "MLP",
    "Linear",
    "Network",
    "Residual",
    "log_likelihood",
    "outputs",
    "recognize",
    "tie",
]
