"""Latent graphical models, one file each, with the same methods in each."""

from svae.models.base import (
    Diagnostics,
    Draw,
    Exact,
    LatentModel,
    Local,
    belief_after,
    exact_local,
    half_log_det,
)
from svae.models.emission import LinearEmission
from svae.models.evidence import Belief, Evidence, where_given
from svae.models.gaussian import Gaussian
from svae.models.gmm import GMM
from svae.models.hmm import HMM
from svae.models.inference.fixed_point import ConvergenceWarning
from svae.models.lds import LDS
from svae.models.slds import SLDS
from svae.models.student import StudentMixture

__all__ = [
    "GMM",
    "HMM",
    "LDS",
    "SLDS",
    "Belief",
    "ConvergenceWarning",
    "Diagnostics",
    "Draw",
    "Evidence",
    "Exact",
    "Gaussian",
    "LatentModel",
    "LinearEmission",
    "Local",
    "StudentMixture",
    "belief_after",
    "exact_local",
    "half_log_det",
    "where_given",
]
