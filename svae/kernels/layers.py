r"""The functions that networks are made of, each a single primitive with its VJP.

Written out in elementary operations they would be several nodes of autograd's graph
each, and for the small networks of latent models its bookkeeping costs more than the
arithmetic.  The matrix products are those of BLAS; what stands between them is one
compiled pass over the rows, for `tanh_layer` and for `gaussian_head`, which
`svae.reference` defines.  Further derivatives of these two and of `affine` are those of
their definitions; the other VJPs are made of differentiable operations in turn.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, defvjp_argnums, primitive
from autograd.tracer import isbox

from svae import _core, reference
from svae.autodiff.vjp import trace

__all__ = [
    "affine",
    "bounded_exp",
    "gaussian_head",
    "gaussian_log_density",
    "sigmoid",
    "softplus",
    "tanh_layer",
]

LOG_2PI = onp.log(2.0 * onp.pi)


def _rows(x: Any) -> Any:
    """View (..., D) as a matrix of rows, which is what BLAS takes."""
    return np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _by_columns(x: Any) -> Any:
    """View (..., D), or a copy of it, as contiguous columns (D, R)."""
    return onp.ascontiguousarray(_rows(x).T)


def _product(a: Any, b: Any) -> Any:
    """Multiply matrices, into memory that the last step of training had."""
    return onp.matmul(a, b, out=_core.empty((a.shape[0], b.shape[1])))


def _tall_product(a: Any, b: Any) -> Any:
    """Multiply matrices, the product held column by column.

    BLAS is faster, by up to a quarter, where the longer side is the contiguous one.
    """
    return _product(b.T, a.T).T


def _derivative_by_definition(
    definition: Callable[..., Any], argnums: Sequence[int], args: Sequence[Any], g: Any
) -> list[Any]:
    """Cotangents in some of the arguments, which can be differentiated again."""

    def of_chosen(*chosen: Any) -> tuple[Any]:
        swapped = dict(zip(argnums, chosen, strict=True))
        return (definition(*(swapped.get(k, x) for k, x in enumerate(args))),)

    return trace(of_chosen, [args[k] for k in argnums])[0](g)


@primitive
def affine(inputs: Any, matrix: Any, bias: Any) -> Any:
    """Map (..., M) by a matrix (M, N) and a bias (N,) to (..., N)."""
    outputs = _product(_rows(inputs), matrix)
    outputs += bias
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[1])


def _affine_vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Any:
    inputs, matrix, _ = args

    def definition(inputs: Any, matrix: Any, bias: Any) -> Any:
        return np.dot(inputs, matrix) + bias

    def vjp(g: Any) -> Any:
        if any(map(isbox, (g, *args))):
            return _derivative_by_definition(definition, argnums, args, g)
        cotangents: dict[int, Callable[[], Any]] = {
            0: lambda: _tall_product(_rows(g), matrix.T).reshape(inputs.shape),
            1: lambda: _product(_rows(inputs).T, _rows(g)),
            2: lambda: _rows(g).sum(axis=0),
        }
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(affine, _affine_vjp)


@primitive
def sigmoid(x: Any) -> Any:
    """Logistic function, without overflow for any x."""
    return _core.logistic(onp.asarray(x, float, order="C"))


defvjp(sigmoid, lambda ans, x: lambda g: g * ans * (1.0 - ans))


@primitive
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow for any x."""
    return _core.softplus(onp.asarray(x, float, order="C"))


defvjp(softplus, lambda ans, x: lambda g: g * sigmoid(x))


@primitive
def bounded_exp(x: Any) -> Any:
    """exp(10 tanh(x / 10)): an exponential near zero, confined to exp(+-10)."""
    return onp.exp(10.0 * onp.tanh(0.1 * x))


defvjp(
    bounded_exp,
    lambda ans, x: lambda g: g * ans * (1.0 - np.tanh(0.1 * x) ** 2),
)


@primitive
def gaussian_log_density(x: Any, mean: Any, variance: Any, observed: Any) -> Any:
    """Log N(x; mean, variance), summed over the last axis; constant in x.

    Of a mask ``observed``, unless it is None, only what is True counts.
    """
    terms = (x - mean) ** 2 / variance + onp.log(variance) + LOG_2PI
    return -0.5 * onp.sum(_masked(terms, observed), axis=-1)


def _masked(terms: Any, observed: Any) -> Any:
    return terms if observed is None else np.where(observed, terms, 0.0)


defvjp(
    gaussian_log_density,
    lambda ans, x, mean, variance, observed: (
        lambda g: g[..., None] * _masked((x - mean) / variance, observed)
    ),
    lambda ans, x, mean, variance, observed: (
        lambda g: (
            0.5
            * g[..., None]
            * _masked(((x - mean) ** 2 / variance - 1.0) / variance, observed)
        )
    ),
    argnums=(1, 2),
)


@primitive
def tanh_layer(inputs: Any, matrix: Any, bias: Any) -> Any:
    """Map (..., M) by a matrix (M, N) and a bias (N,) to tanh of that, (..., N)."""
    outputs = _tall_product(_rows(inputs), matrix)
    _core.tanh_layer(outputs.T, bias)
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[1])


def _tanh_layer_vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Any:
    inputs, matrix, _ = args

    def vjp(g: Any) -> Any:
        if any(map(isbox, (g, *args))):
            return _derivative_by_definition(reference.tanh_layer, argnums, args, g)
        by_units, bias_bar = _core.tanh_layer_vjp(_by_columns(ans), _by_columns(g))
        cotangents: dict[int, Callable[[], Any]] = {
            0: lambda: _tall_product(by_units.T, matrix.T).reshape(inputs.shape),
            1: lambda: _product(by_units, _rows(inputs)).T,
            2: lambda: bias_bar,
        }
        return [cotangents[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(tanh_layer, _tanh_layer_vjp)


def gaussian_head(
    features: Any,
    location: tuple[Any, Any],
    scale: tuple[Any, Any],
    data: Any,
    observed: Any = None,
    mean: str = "linear",
    offset: Any = None,
    floor: Any = None,
) -> Any:
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
        Of a mask only what is True counts.
    mean : {"linear", "sigmoid"}
    offset : (N, S, T, P) array, optional
    floor : (P,) array, optional
        Positive; what it is given for is the softplus.

    Returns
    -------
    (N, S, T) array, summed over dimensions.
    """
    data = onp.ascontiguousarray(data, float)
    if observed is not None:
        observed = onp.ascontiguousarray(observed, bool)
    constants = data, observed, mean
    return _gaussian_head([], constants, features, *location, *scale, offset, floor)


@primitive
def _gaussian_head(slopes: list[Any], constants: Any, features: Any, *rest: Any) -> Any:
    """Leave slopes of each frame's density in `slopes`, for the VJP.

    The cotangent of a frame is one number.  So what takes time to compute, slopes in
    all that the heads say of it, can be found in the pass that needs the same
    exponentials, and takes the place of what they say.
    """
    location_matrix, location_bias, scale_matrix, scale_bias, offset, floor = rest
    data, observed, mean = constants
    rows = _rows(features)
    location = _product(rows, location_matrix)
    scale = _product(rows, scale_matrix)
    log_density, variance_slope = _core.gaussian_head(
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
    slopes[:] = location, scale, variance_slope
    return log_density.reshape(features.shape[:-1])


def _gaussian_head_vjp(argnums: Any, ans: Any, args: Any, kwargs: Any) -> Any:
    slopes, constants, *arrays = args
    features, location_matrix, _, scale_matrix, *_, offset, _ = arrays

    def definition(
        slopes: Any,
        constants: Any,
        features: Any,
        *rest: Any,
    ) -> Any:
        data, observed, mean = constants
        *heads, offset, floor = rest
        return reference.gaussian_head(
            features, heads[:2], heads[2:], data, observed, mean, offset, floor
        )

    def vjp(g: Any) -> Any:
        if any(map(isbox, (g, *arrays))):
            return _derivative_by_definition(definition, argnums, args, g)
        of_location, of_scale, of_variance = slopes
        weights = g.reshape(-1)
        # the cotangents of rows scale the features, which are smaller than the slopes;
        # with a feature of one, the product has the bias in its last row
        weighted = _core.empty((features.shape[-1] + 1, weights.size))
        onp.multiply(_rows(features).T, weights, out=weighted[:-1])
        weighted[-1] = weights

        def of_features() -> Any:
            bar = _tall_product(of_location, location_matrix.T)
            bar += _tall_product(of_scale, scale_matrix.T)
            bar *= weights[:, None]
            return bar.reshape(features.shape)

        cotangents: dict[int, Any] = {}
        if 2 in argnums:
            cotangents[2] = of_features()
        if 3 in argnums or 4 in argnums:
            both = _product(weighted, of_location)
            cotangents[3], cotangents[4] = both[:-1], both[-1]
        if 5 in argnums or 6 in argnums:
            both = _product(weighted, of_scale)
            cotangents[5], cotangents[6] = both[:-1], both[-1]
        if 7 in argnums:
            cotangents[7] = (of_location * weights[:, None]).reshape(offset.shape)
        if 8 in argnums:
            cotangents[8] = weights @ of_variance
        return [cotangents[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_gaussian_head, _gaussian_head_vjp)
