"""Structured variational autoencoders: graphical models over a network's latent space.

Everything is an exponential family (Johnson et al. 2016; Lin et al. 2018): the chains
of `kernels` are the compiled inference, `reference` is their definition in plain NumPy.
"""

from importlib.metadata import version
from importlib.util import find_spec

try:
    from svae import kernels
except ImportError as error:
    if find_spec("svae._core") and find_spec("svae._lapack"):
        raise
    raise ImportError(
        "the compiled core of svae is missing: compile it with `pip install .` in a "
        "clone of the repository, and import from outside of the clone"
    ) from error

from svae import (
    data,
    families,
    likelihoods,
    metrics,
    plot,
    priors,
    profile,
    reference,
)
from svae.data import synthetic
from svae.errors import Impossible, NotFitted, NotPositiveDefinite
from svae.estimators import SVAE, SVI, load
from svae.kernels import get_num_threads, set_num_threads
from svae.likelihoods import Likelihood
from svae.models import (
    GMM,
    HMM,
    LDS,
    SLDS,
    ConvergenceWarning,
    Gaussian,
    LatentModel,
    LinearEmission,
    StudentMixture,
)
from svae.networks import MLP, Linear, Network, Residual

__version__ = version("svae")
__all__ = [
    "GMM",
    "HMM",
    "LDS",
    "MLP",
    "SLDS",
    "SVAE",
    "SVI",
    "ConvergenceWarning",
    "Gaussian",
    "Impossible",
    "LatentModel",
    "Likelihood",
    "Linear",
    "LinearEmission",
    "Network",
    "NotFitted",
    "NotPositiveDefinite",
    "Residual",
    "StudentMixture",
    "__version__",
    "data",
    "families",
    "get_num_threads",
    "kernels",
    "likelihoods",
    "load",
    "metrics",
    "plot",
    "priors",
    "profile",
    "reference",
    "set_num_threads",
    "synthetic",
]
