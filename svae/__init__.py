"""Structured variational autoencoders: graphical models over a network's latent space.

Everything is an exponential family (Johnson et al. 2016; Lin et al. 2018): the chains of
`kernels` are the compiled inference, `reference` is their definition in plain NumPy.
"""

from importlib.metadata import version

try:
    from svae import _core  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "the compiled core of svae is missing: compile it with `pip install .` in a "
        "clone of the repository, and import from outside of the clone"
    ) from error

from svae import kernels, reference
from svae._core import get_num_threads, set_num_threads
from svae.errors import Impossible, NotPositiveDefinite

__version__ = version("svae")
__all__ = [
    "Impossible",
    "NotPositiveDefinite",
    "__version__",
    "get_num_threads",
    "kernels",
    "reference",
    "set_num_threads",
]
