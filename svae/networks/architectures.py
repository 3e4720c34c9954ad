r"""Architectures: the networks that the package has.

A network maps ``(..., in_dim)`` to a *location* and a positive *scale*, each
``(..., out_dim)``.  As a recognition network these are the node potentials of the
latent model (Johnson et al. 2016, Section 4): ``h`` = location and
``J`` = -scale / 2, so the evidence has precision ``scale``.  As a decoder they are the
mean and the variance of the observations, Eq. (1), or what another likelihood makes of
them.

A network object holds only its architecture; weights are trees passed in.  Those of a
decoder whose scale nobody asks for have no part for it.  `svae.Network` is the
protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.kernels.layers import (
    affine,
    bounded_exp,
    gaussian_head,
    sigmoid,
    softplus,
    tanh_layer,
)
from svae.networks.protocol import Weights, accepts

__all__ = [
    "Linear",
    "MLP",
    "Residual",
    "draw_weights",
    "starts_affine",
    "template",
    "tie",
]


def relu_layer(inputs: Any, matrix: Any, bias: Any) -> Any:
    """Map (..., M) to the positive part of an affine map, (..., N)."""
    return np.maximum(affine(inputs, matrix, bias), 0.0)


ACTIVATIONS = {"tanh": tanh_layer, "relu": relu_layer}
MEANS = {"linear": lambda x: x, "sigmoid": sigmoid}


def _hidden_layers(weights: Any, inputs: Any, activation: str) -> Any:
    for layer in weights:
        inputs = ACTIVATIONS[activation](inputs, *layer)
    return inputs


def _init_layers(
    rng: onp.random.Generator, sizes: Sequence[int], weight_scale: float | None
) -> Any:
    """Draw layers; ``weight_scale`` None means 1 / sqrt(fan in) and zero biases."""
    if weight_scale is None:
        return [
            (rng.standard_normal((m, n)) / onp.sqrt(m), onp.zeros(n))
            for m, n in zip(sizes[:-1], sizes[1:], strict=True)
        ]
    return [
        (
            weight_scale * rng.standard_normal((m, n)),
            weight_scale * rng.standard_normal(n),
        )
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def _check(network: Any) -> Any:
    if not isinstance(network.hidden, (tuple, list)):
        raise ValueError(
            "hidden must be a tuple of widths, one for each layer, like (50,) or "
            f"(200, 200), got {network.hidden!r}"
        )
    if not all(isinstance(n, int) and n > 0 for n in network.hidden):
        raise ValueError(f"hidden must be positive integers, got {network.hidden}")
    if network.activation not in ACTIVATIONS:
        names = sorted(ACTIVATIONS)
        raise ValueError(f"activation must be one of {names}: {network.activation!r}")
    if network.mean not in MEANS:
        raise ValueError(f"mean must be one of {sorted(MEANS)}: {network.mean!r}")


@dataclass(frozen=True)
class MLP:
    r"""Multilayer perceptron with two linear heads.

    The scale is ``exp(10 tanh(s / 10))`` of the second head's output ``s``: an
    exponential near zero, confined to ``exp(+-10)``, as in the code of Johnson et al.
    (2016) for their LDS.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : {"tanh", "relu"}
    mean : {"linear", "sigmoid"}
        Output function of the location.
    weight_scale : float or None
        Standard deviation of initial weights and biases; None draws weights with
        standard deviation ``1 / sqrt(fan_in)`` and sets biases to zero.
    """

    hidden: tuple[int, ...] = (200, 200)
    activation: str = "tanh"
    mean: str = "linear"
    weight_scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse unknown words and sizes at once."""
        _check(self)

    def init(
        self,
        rng: onp.random.Generator,
        in_dim: int,
        out_dim: int,
        scale: bool = True,
    ) -> Any:
        """Draw initial weights.

        Returns
        -------
        dict with ``hidden``, ``location`` and ``scale`` layers, (matrix, bias) each.
        """
        sizes = (in_dim, *self.hidden)
        heads = (sizes[-1], out_dim)
        weights = {
            "hidden": _init_layers(rng, sizes, self.weight_scale),
            "location": _init_layers(rng, heads, self.weight_scale)[0],
        }
        if scale:
            weights["scale"] = _init_layers(rng, heads, self.weight_scale)[0]
        return weights

    def apply(self, weights: Any, inputs: Any) -> Any:
        """Map inputs (..., in_dim) to location and scale, (..., out_dim) each."""
        features = _hidden_layers(weights["hidden"], inputs, self.activation)
        location = MEANS[self.mean](affine(features, *weights["location"]))
        if "scale" not in weights:
            return location, None
        return location, bounded_exp(affine(features, *weights["scale"]))

    def log_density(self, weights: Any, inputs: Any, data: Any, observed: Any) -> Any:
        """Log N(data; *apply(weights, inputs)), the heads and the density in one."""
        features = _hidden_layers(weights["hidden"], inputs, self.activation)
        heads = weights["location"], weights["scale"]
        return gaussian_head(features, *heads, data, observed, self.mean)


@dataclass(frozen=True)
class Residual:
    r"""Perceptron beside a linear map: the networks of the warped mixtures.

    The location is ``mlp(x) + x W + b`` where W starts as a partial isometry, the
    scale is ``softplus(mlp(x)) + softplus(c)``; both perceptrons share their hidden
    layers.  With small perceptron weights the network starts as a linear map
    (Johnson et al. 2016, Fig. 1d and its code).

    Parameters
    ----------
    hidden, activation, mean
        As in `MLP`.
    weight_scale : float or None
        Standard deviation of the perceptron's initial weights and biases; None as in
        `MLP`.
    """

    hidden: tuple[int, ...] = (40, 40)
    activation: str = "tanh"
    mean: str = "linear"
    weight_scale: float | None = 1e-2

    def __post_init__(self) -> None:
        """Refuse unknown words and sizes at once."""
        _check(self)

    def init(
        self,
        rng: onp.random.Generator,
        in_dim: int,
        out_dim: int,
        scale: bool = True,
    ) -> Any:
        """Draw initial weights: those of `MLP`, ``skip`` and ``floor``."""
        weights = MLP(self.hidden, weight_scale=self.weight_scale).init(
            rng, in_dim, out_dim, scale
        )
        size = max(in_dim, out_dim)
        rotation = onp.linalg.qr(rng.standard_normal((size, size)))[0]
        weights["skip"] = (rotation[:in_dim, :out_dim].copy(), onp.zeros(out_dim))
        if scale:
            spread = 0.0 if self.weight_scale is None else self.weight_scale
            weights["floor"] = spread * rng.standard_normal(out_dim)
        return weights

    def init_affine(
        self,
        rng: onp.random.Generator,
        matrix: onp.ndarray,
        bias: onp.ndarray,
        scale: onp.ndarray | None = None,
    ) -> Any:
        """Draw weights with which the network is ``x @ matrix + bias``, and ``scale``.

        The hidden layers are there, drawn as those of an `MLP`, but their outputs have
        weights of zero: they have no effect at first, and gradients at once.
        """
        in_dim, out_dim = matrix.shape
        weights = MLP(self.hidden).init(rng, in_dim, out_dim, scale is not None)
        weights["location"] = _zeros_like(weights["location"])
        weights["skip"] = matrix.copy(), bias.copy()
        if scale is not None:
            half = softplus_inverse(0.5 * scale)  # each of the two has a share
            weights["scale"] = onp.zeros(weights["scale"][0].shape), half
            weights["floor"] = half.copy()
        return weights

    def apply(self, weights: Any, inputs: Any) -> Any:
        """Map inputs (..., in_dim) to location and scale, (..., out_dim) each."""
        features = _hidden_layers(weights["hidden"], inputs, self.activation)
        skip = affine(inputs, *weights["skip"])
        location = MEANS[self.mean](affine(features, *weights["location"]) + skip)
        if "scale" not in weights:
            return location, None
        scale = softplus(affine(features, *weights["scale"]))
        return location, scale + softplus(weights["floor"])

    def log_density(self, weights: Any, inputs: Any, data: Any, observed: Any) -> Any:
        """Log N(data; *apply(weights, inputs)), the heads and the density in one."""
        features = _hidden_layers(weights["hidden"], inputs, self.activation)
        heads = weights["location"], weights["scale"]
        skip, floor = affine(inputs, *weights["skip"]), softplus(weights["floor"])
        return gaussian_head(features, *heads, data, observed, self.mean, skip, floor)


@dataclass(frozen=True)
class Linear:
    r"""Affine location and a scale that does not depend on the input.

    With this decoder every latent model is linear-Gaussian, which is what makes it
    useful: bounds can be checked against exact evidences.
    """

    def init(
        self,
        rng: onp.random.Generator,
        in_dim: int,
        out_dim: int,
        scale: bool = True,
    ) -> Any:
        """Draw initial weights: an affine ``location`` and the ``log_scale``."""
        weights = {"location": _init_layers(rng, (in_dim, out_dim), None)[0]}
        return weights | {"log_scale": onp.zeros(out_dim)} if scale else weights

    def init_affine(
        self,
        rng: onp.random.Generator,
        matrix: onp.ndarray,
        bias: onp.ndarray,
        scale: onp.ndarray | None = None,
    ) -> Any:
        """Return the weights of ``x @ matrix + bias``, and of ``scale``."""
        weights: Any = {"location": (matrix.copy(), bias.copy())}
        return weights if scale is None else weights | {"log_scale": onp.log(scale)}

    def apply(self, weights: Any, inputs: Any) -> Any:
        """Map inputs (..., in_dim) to location and scale, (..., out_dim) each."""
        location = affine(inputs, *weights["location"])
        if "log_scale" not in weights:
            return location, None
        return location, np.exp(weights["log_scale"]) * np.ones(location.shape)


def _zeros_like(layer: Any) -> Any:
    return tuple(onp.zeros(part.shape) for part in layer)


def softplus_inverse(positive: onp.ndarray) -> onp.ndarray:
    """Return s of ``softplus(s) = positive``."""
    return positive + onp.log(-onp.expm1(-positive))


def starts_affine(network: Any) -> bool:
    """Whether a network can start as an affine map; see `svae.Network`."""
    return hasattr(network, "init_affine") and getattr(network, "mean", "") in (
        "",
        "linear",
    )


def tie(encoder: Weights, decoder: Weights) -> Weights:
    """Return initial weights of a decoder that undoes what the encoder starts with.

    Of two `Residual` networks the decoder's isometry becomes the transpose of the
    encoder's. Two independent ones would differ by a rotation, which training has to
    learn, or by a reflection, to which no path of isometries leads.
    """
    if "skip" not in encoder or "skip" not in decoder:
        return decoder
    matrix, bias = decoder["skip"]
    # the encoder may have more inputs: a mask
    inverse = encoder["skip"][0][: matrix.shape[1]].T.copy()
    return decoder | {"skip": (inverse, bias)}


class _NoNumbers:
    """In the place of a generator: initial weights that are only shapes."""

    def standard_normal(self, shape: Any) -> onp.ndarray:
        return onp.broadcast_to(0.0, shape)


def draw_weights(
    network: Any, rng: onp.random.Generator, in_dim: int, out_dim: int, scale: bool
) -> Weights:
    """Draw initial weights; without a ``scale``, if the network can do without."""
    if accepts(network, "init", "scale"):
        return network.init(rng, in_dim, out_dim, scale=scale)
    return network.init(rng, in_dim, out_dim)


def template(network: Any, in_dim: int, out_dim: int, scale: bool = True) -> Weights:
    """Return a tree that is nested and shaped like the weights of a network.

    Where the package knows the network nothing is drawn for it: that of a `Residual`
    network would take a factorisation of the size of a frame.
    """
    nothing: Any = _NoNumbers()
    if type(network) in (MLP, Linear):
        return network.init(nothing, in_dim, out_dim, scale)
    if type(network) is Residual:
        skip = onp.broadcast_to(0.0, (in_dim, out_dim)), onp.zeros(out_dim)
        weights = MLP(network.hidden).init(nothing, in_dim, out_dim, scale)
        floor = {"floor": onp.zeros(out_dim)} if scale else {}
        return weights | {"skip": skip} | floor
    return draw_weights(network, onp.random.default_rng(0), in_dim, out_dim, scale)
