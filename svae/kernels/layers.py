r"""The functions that networks are made of, each a single primitive with its VJP.

Written out in elementary operations they would be several nodes of autograd's graph
each, and for the small networks of latent models its bookkeeping costs more than the
arithmetic.  The matrix products are those of BLAS; what stands between them is one
compiled pass over the rows, for `tanh_layer` and for `gaussian_head`.  Further
derivatives of these two and of `affine` are those of their definitions in
`svae.reference`; the other VJPs are made of differentiable operations in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, defvjp_argnums
from autograd.tracer import isbox

from svae import reference
from svae.autodiff.operations import value_of
from svae.autodiff.primitive import primitive
from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import by_definition
from svae.kernels import passes
from svae.kernels.arguments import as_array, packed
from svae.types import VJP, Array, Mask

__all__ = [
    "affine",
    "bounded_exp",
    "exp",
    "gaussian_head",
    "gaussian_log_density",
    "log",
    "logistic",
    "sigmoid",
    "softplus",
    "tanh",
    "tanh_layer",
]

LOG_2PI = onp.log(2.0 * onp.pi)
SMALL = 2**13
"""Numbers of an array whose memory the core does not keep; see csrc/threads."""


def _rows(x: Array) -> Array:
    """View (..., D) as a matrix of rows, which is what BLAS takes."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _by_columns(x: Array) -> Array:
    """View (..., D), or a copy of it, as contiguous columns (D, R)."""
    return onp.ascontiguousarray(_rows(x).T)


def _product(a: Array, b: Array) -> Array:
    """Multiply matrices, large ones into memory that the last step of training had."""
    shape = a.shape[0], b.shape[1]
    if math.prod(shape) < SMALL:
        return onp.matmul(a, b)
    return onp.matmul(a, b, out=passes.empty(shape))


def _tall_product(a: Array, b: Array) -> Array:
    """Multiply matrices, the product held column by column.

    BLAS is faster, by up to a quarter, where the longer side is the contiguous one.
    """
    return _product(b.T, a.T).T


# Functions of every entry, each of an array of any shape, without overflow for any x


def _entries(x: Array) -> Array:
    """Array as the passes take it."""
    return packed(as_array("x", x))


@primitive
def exp(x: Array) -> Array:
    """Exponential."""
    return passes.exp(_entries(x))


@primitive
def log(x: Array) -> Array:
    """Natural logarithm; a negative number is refused with a ValueError."""
    return passes.log(_entries(x))


@primitive
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return passes.tanh(_entries(x))


@primitive
def logistic(x: Array) -> Array:
    """Logistic function 1 / (1 + exp(-x))."""
    return passes.logistic(_entries(x))


@primitive
def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return passes.softplus(_entries(x))


@primitive
def bounded_exp(x: Array) -> Array:
    """exp(10 tanh(x / 10)): an exponential near zero, confined to exp(+-10)."""
    return onp.exp(10.0 * onp.tanh(0.1 * x))


sigmoid = logistic

defvjp(exp, lambda ans, x: lambda g: g * ans)
defvjp(log, lambda ans, x: lambda g: g / x)
defvjp(tanh, lambda ans, x: lambda g: g * (1.0 - ans**2))
defvjp(logistic, lambda ans, x: lambda g: g * ans * (1.0 - ans))
defvjp(softplus, lambda ans, x: lambda g: g * logistic(x))
defvjp(
    bounded_exp,
    lambda ans, x: lambda g: g * ans * (1.0 - np.tanh(0.1 * x) ** 2),
)


@primitive
def affine(inputs: Array, matrix: Array, bias: Array) -> Array:
    """Map inputs by a matrix and a bias.

    Parameters
    ----------
    inputs : (..., M)
    matrix : (M, N)
    bias : (N,)

    Returns
    -------
    (..., N) array
    """
    outputs = _product(_rows(inputs), matrix)
    outputs += bias
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[1])


def _affine_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> VJP:
    inputs, matrix, _ = args

    def vjp(g: Array) -> list[Array]:
        if any(map(isbox, (g, *args))):
            return by_definition(reference.affine, argnums, args, g)
        cotangents: dict[int, Callable[[], Array]] = {
            0: lambda: _tall_product(_rows(g), matrix.T).reshape(inputs.shape),
            1: lambda: _product(_rows(inputs).T, _rows(g)),
            2: lambda: _rows(g).sum(axis=0),
        }
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(affine, _affine_vjp)


@primitive
def tanh_layer(inputs: Array, matrix: Array, bias: Array) -> Array:
    """Map inputs by a matrix and a bias, and take the hyperbolic tangent.

    Parameters
    ----------
    inputs : (..., M)
    matrix : (M, N)
    bias : (N,)

    Returns
    -------
    (..., N) array
    """
    outputs = _tall_product(_rows(inputs), matrix)
    passes.tanh_layer(outputs.T, bias)
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[1])


def _tanh_layer_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> VJP:
    inputs, matrix, _ = args

    def vjp(g: Array) -> list[Array]:
        if any(map(isbox, (g, *args))):
            return by_definition(reference.tanh_layer, argnums, args, g)
        by_units, bias_bar = passes.tanh_layer_vjp(_by_columns(ans), _by_columns(g))
        cotangents: dict[int, Callable[[], Array]] = {
            0: lambda: _tall_product(by_units.T, matrix.T).reshape(inputs.shape),
            1: lambda: _product(by_units, _rows(inputs)).T,
            2: lambda: bias_bar,
        }
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(tanh_layer, _tanh_layer_vjp)


@primitive
def gaussian_log_density(
    x: Array, mean: Array, variance: Array, observed: Mask | None = None
) -> Array:
    """Return log N(x; mean, variance), summed over the last axis.

    Parameters
    ----------
    x : (..., P)
        The data, a constant: it has no derivative.
    mean, variance : (..., P)
    observed : (..., P) bool, optional
        Which entries count; by default all.

    Returns
    -------
    (...) array
    """
    terms = (x - mean) ** 2 / variance + onp.log(variance) + LOG_2PI
    return -0.5 * onp.sum(_masked(terms, observed), axis=-1)


def _masked(terms: Array, observed: Mask | None) -> Array:
    return terms if observed is None else np.where(observed, terms, 0.0)


defvjp(
    gaussian_log_density,
    lambda ans, x, mean, variance, observed=None: (
        lambda g: g[..., None] * _masked((x - mean) / variance, observed)
    ),
    lambda ans, x, mean, variance, observed=None: (
        lambda g: (
            0.5
            * g[..., None]
            * _masked(((x - mean) ** 2 / variance - 1.0) / variance, observed)
        )
    ),
    argnums=(1, 2),
)


def gaussian_head(
    features: Array,
    location: tuple[Array, Array],
    scale: tuple[Array, Array],
    data: Array,
    observed: Mask | None = None,
    mean: str = "linear",
    offset: Array | None = None,
    floor: Array | None = None,
) -> Array:
    r"""Log density of data under the Gaussian that the two heads of a network describe.

    The mean is ``location(features) + offset``, or the logistic function of that, and
    the variance ``exp(10 tanh(s / 10))`` of ``s = scale(features)``, or
    ``softplus(s) + floor``.

    Parameters
    ----------
    features : (N, S, T, M) array
    location, scale : (matrix (M, P), bias (P,))
    data : (N, T, P) array
        Constant, finite.
    observed : (N, T, P) bool array, optional
        Which entries of the data count; by default all.
    mean : {"linear", "sigmoid"}
    offset : (N, S, T, P) array, optional
    floor : (P,) array, optional
        Positive; with it the variance is the softplus.

    Returns
    -------
    (N, S, T) array, summed over dimensions.
    """
    data = onp.ascontiguousarray(value_of(data), float)
    if observed is not None:
        observed = onp.ascontiguousarray(observed, bool)
    constants = data, observed, mean
    return _gaussian_head(constants, features, *location, *scale, offset, floor)[0]


@primitive
def _gaussian_head(constants: Any, features: Array, *rest: Any) -> Outputs:
    """Return the log density, and its slopes for the VJP as further outputs.

    The cotangent of a frame is one number.  So what takes time to compute, slopes in
    all that the heads say of it, can be found in the pass that needs the same
    exponentials; the pass writes them over what the heads say.

    Returns
    -------
    Outputs
        Log density (N, S, T); its slopes in the mean before the logistic function and
        in s, (N S T, P) each; and with a floor those in the variance, (N S T, P).
    """
    location_matrix, location_bias, scale_matrix, scale_bias, offset, floor = rest
    data, observed, mean = constants
    rows = _rows(features)
    location = _product(rows, location_matrix)
    scale = _product(rows, scale_matrix)
    log_density, variance_slope = passes.gaussian_head(
        location,
        scale,
        location_bias,
        scale_bias,
        data,
        observed,
        features.shape[1],
        mean == "sigmoid",
        None if offset is None else onp.ascontiguousarray(_rows(offset)),
        floor,
    )
    outputs = log_density.reshape(features.shape[:-1]), location, scale
    return Outputs.of(outputs if variance_slope is None else (*outputs, variance_slope))


def _gaussian_head_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> VJP:
    features, location_matrix, _, scale_matrix, *_, offset, _ = args[1:]

    def definition(constants: Any, features: Array, *rest: Any) -> Array:
        data, observed, mean = constants
        *heads, offset, floor = rest
        return reference.gaussian_head(
            features, heads[:2], heads[2:], data, observed, mean, offset, floor
        )

    def vjp(outputs_bar: Outputs) -> list[Array]:
        g = outputs_bar[0]
        if any(map(isbox, (g, *args[1:]))):
            return by_definition(definition, argnums, args, g)
        _, location_slope, scale_slope, *variance_slope = ans.parts
        weights = g.reshape(-1)
        # the cotangents of rows scale the features, which are smaller than the slopes;
        # with a feature of one, the product has the bias in its last row
        weighted = passes.empty((features.shape[-1] + 1, weights.size))
        onp.multiply(_rows(features).T, weights, out=weighted[:-1])
        weighted[-1] = weights

        def features_bar() -> Array:
            bar = _tall_product(location_slope, location_matrix.T)
            bar += _tall_product(scale_slope, scale_matrix.T)
            bar *= weights[:, None]
            return bar.reshape(features.shape)

        cotangents: dict[int, Array] = {}
        if 1 in argnums:
            cotangents[1] = features_bar()
        if 2 in argnums or 3 in argnums:
            both = _product(weighted, location_slope)
            cotangents[2], cotangents[3] = both[:-1], both[-1]
        if 4 in argnums or 5 in argnums:
            both = _product(weighted, scale_slope)
            cotangents[4], cotangents[5] = both[:-1], both[-1]
        if 6 in argnums:
            cotangents[6] = (location_slope * weights[:, None]).reshape(offset.shape)
        if 7 in argnums:
            cotangents[7] = weights @ variance_slope[0]
        return [cotangents[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_gaussian_head, _gaussian_head_vjp)
