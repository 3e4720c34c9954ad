"""Structured variational autoencoders: graphical models over a network's latent space.

Everything is an exponential family (Johnson et al. 2016; Lin et al. 2018): the chains
of `kernels` are the compiled inference, `reference` is their definition in plain NumPy.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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
    priors,
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

if TYPE_CHECKING:
    from svae import plot, profile

    __version__: str

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

LAZY = frozenset({"plot", "profile"})
"""Public modules that nothing else needs."""


def __getattr__(name: str) -> Any:
    """Return what is public and takes long to load, when it is first asked for."""
    if name in LAZY:
        return import_module(f"svae.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("svae")
    raise AttributeError(f"module 'svae' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
