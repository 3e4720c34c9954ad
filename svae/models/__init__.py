"""Latent graphical models, one file each, with the same methods in each."""

from svae.models.base import Diagnostics, LatentModel, Local
from svae.models.gaussian import Gaussian
from svae.models.gmm import GMM
from svae.models.lds import LDS
from svae.models.meanfield import ConvergenceWarning

__all__ = [
    "GMM",
    "LDS",
    "ConvergenceWarning",
    "Diagnostics",
    "Gaussian",
    "LatentModel",
    "Local",
]
