"""What a network is to the package: an architecture whose weights are passed in."""

import inspect
from functools import lru_cache
from typing import Any, Protocol

import numpy as onp

__all__ = ["Network", "Weights", "accepts"]

Weights = Any
"""Dicts, tuples or lists of arrays, nested as the network likes."""


class Network(Protocol):
    """A map from frames to a location and a positive scale for each of them.

    As an *encoder* it maps frames, or frames and the mask of their missing entries, to
    node potentials of x: evidence with precision ``scale`` and linear term
    ``location``.  As a *decoder* it maps x to what the likelihood takes: for the
    Gaussian a mean and a variance.

    A class that has the two methods is a network; it need not inherit.  The object
    holds the architecture alone and is never changed: weights are made by `init`, and
    come back as an argument.  To be saved with a model it is a dataclass of numbers,
    strings or tuples of these (`svae.SVAE.save`).

    Four things are optional.  The signatures are looked at once for each class.

    ``apply(weights, inputs, valid)``
        An encoder that looks along time, such as a convolution, names an argument
        ``valid``: a bool array (N, T), False for the padding behind the end of a
        sequence.  What it says of padding is not used, but what it says of other frames
        must not depend on padding, or results depend on which sequences share a batch.
        Decoders are not given it.
    ``init(rng, in_dim, out_dim, scale)``
        A network that can do without the weights of its scale names an argument
        ``scale``.  It is False for the decoder of a likelihood that takes no scale from
        it; of such weights `apply` returns None in the place of the scale.
    ``log_density(weights, inputs, data, observed)``
        The log density (N, S, T) of data (N, T, P) under the Gaussian that `apply`
        describes at inputs (N, S, T, in_dim), if there is a faster way to it;
        ``observed`` is a bool array (N, T, P) of the entries that count, or None.
    ``init_affine(rng, matrix, bias, scale)``
        Initial weights with which `apply` is ``inputs @ matrix + bias``, and ``scale``
        (out_dim,) whatever the inputs, or None without one: a network with this method
        can start as the linear model of the data, ``fit(start="linear")``.
    """

    def init(self, rng: onp.random.Generator, in_dim: int, out_dim: int) -> Weights:
        """Draw initial weights: dicts, tuples or lists of float arrays, nested."""

    def apply(self, weights: Weights, inputs: Any) -> tuple[Any, Any]:
        """Return location and scale, (..., out_dim) each.

        It must be written in autograd's NumPy: gradients are taken in the weights and,
        for a decoder, in the inputs.

        Parameters
        ----------
        weights : tree
            As `init` makes them.
        inputs : (..., in_dim) array
            Of an encoder (N, T, P), or (N, T, 2 P) where the training data had frames
            that were partly observed: then the second half is 1 where an entry is
            missing.  Where the rows of the data are independent T is 1.  Of a decoder
            (N, S, T, D), S samples of x, or any other axes before D.
        """


def accepts(network: Any, method: str, argument: str) -> bool:
    """Whether a method of a network names an argument."""
    function = getattr(type(network), method, None)
    if function is None:  # an attribute of the object alone
        return argument in inspect.signature(getattr(network, method)).parameters
    return argument in _arguments(function)


@lru_cache(maxsize=256)
def _arguments(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
