r"""The functions that networks are made of, each a single primitive with its VJP.

Written out in elementary operations they would be several nodes of autograd's graph
each, and for the small networks of latent models its bookkeeping costs more than the
arithmetic.  The VJPs are made of differentiable operations in turn.
"""

from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, primitive

__all__ = [
    "affine",
    "bounded_exp",
    "gaussian_log_density",
    "sigmoid",
    "softplus",
]

LOG_2PI = onp.log(2.0 * onp.pi)


def _rows(x: Any) -> Any:
    """View (..., D) as a matrix of rows, which is what BLAS takes."""
    return np.reshape(x, (-1, x.shape[-1]))


@primitive
def affine(inputs: Any, matrix: Any, bias: Any) -> Any:
    """Map (..., M) by a matrix (M, N) and a bias (N,) to (..., N)."""
    outputs = inputs.reshape(-1, inputs.shape[-1]) @ matrix
    outputs += bias
    return outputs.reshape(*inputs.shape[:-1], matrix.shape[1])


defvjp(
    affine,
    lambda ans, inputs, matrix, bias: (
        lambda g: np.reshape(np.dot(_rows(g), matrix.T), inputs.shape)
    ),
    lambda ans, inputs, matrix, bias: lambda g: np.dot(_rows(inputs).T, _rows(g)),
    lambda ans, inputs, matrix, bias: lambda g: np.sum(_rows(g), axis=0),
)


@primitive
def sigmoid(x: Any) -> Any:
    """Logistic function, without overflow for any x."""
    return 0.5 * (onp.tanh(0.5 * x) + 1.0)


defvjp(sigmoid, lambda ans, x: lambda g: g * ans * (1.0 - ans))


@primitive
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow for any x."""
    return onp.logaddexp(x, 0.0)


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
