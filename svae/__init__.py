"""Structured variational autoencoders: graphical models over a network's latent space.

The public face, in the order in which one meets it:

estimators
    `SVAE` has networks, `SVI` has none; `load` reads either back.
latent models
    `Gaussian`, `GMM`, `StudentMixture`, `HMM`, `LDS`, `SLDS`, with `LinearEmission`
    for those without networks.
networks
    `MLP`, `Residual`, `Linear`.
modules
    `likelihoods`, `priors`, `data` and in it `synthetic`, `metrics`, `plot`.
of your own
    `LatentModel`, `Network`, `Likelihood` are the protocols.
underneath
    `families` are the exponential families that everything is made of, `kernels` the
    compiled inference, `reference` its definition in plain NumPy, `standard` the chains
    in the parameters of state-space models and hidden Markov models, `profile` their
    speed; `get_num_threads`, `set_num_threads`.
what goes wrong
    `Impossible`, `NotFitted`, `NotPositiveDefinite`, `ConvergenceWarning`.

A name is imported when it is first asked for. Other modules in this folder are rooms of
the house (ARCHITECTURE.md), whose names may change. Start with `help(svae.SVAE)`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

try:  # at once: it loads nothing else, and reads SVAE_ISA and SVAE_NUM_THREADS
    from svae import _core  # noqa: F401
except ImportError as error:
    if find_spec("svae._core"):
        raise
    raise ImportError(
        "the compiled core of svae is missing: compile it with `pip install .` in a "
        "clone of the repository, and import from outside of the clone"
    ) from error

if TYPE_CHECKING:
    from svae import (
        data,
        families,
        kernels,
        likelihoods,
        metrics,
        plot,
        priors,
        profile,
        reference,
        standard,
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
    "standard",
    "synthetic",
]

_ROOMS = {
    "data": ("synthetic",),
    "errors": ("Impossible", "NotFitted", "NotPositiveDefinite"),
    "estimators": ("SVAE", "SVI", "load"),
    "kernels": ("get_num_threads", "set_num_threads"),
    "likelihoods": ("Likelihood",),
    "models": (
        "GMM",
        "HMM",
        "LDS",
        "SLDS",
        "ConvergenceWarning",
        "Gaussian",
        "LatentModel",
        "LinearEmission",
        "StudentMixture",
    ),
    "networks": ("MLP", "Linear", "Network", "Residual"),
}
"""Public names that are no modules, by the room that has them: the imports above."""

_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:  # a type checker has the imports above, and knows a wrong name

    def __getattr__(name: str) -> object:
        """Import what is asked for the first time: a public name, or a room."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("svae")
        elif name in _ROOM_OF:
            value = getattr(import_module(f"svae.{_ROOM_OF[name]}"), name)
        elif name[:1] != "_" and find_spec(f"svae.{name}"):
            value = import_module(f"svae.{name}")
        else:
            raise AttributeError(f"module 'svae' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
