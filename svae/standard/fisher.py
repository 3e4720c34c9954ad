r"""The gradient of the log likelihood in the information form, by Fisher's identity.

The gradient is the expectation, given the data, of that of the joint log density. With
residuals :math:`w_t = x_{t+1} - A x_t - B u_t` and :math:`e_t = y_t - C x_t - D u_t`,

.. math:: \partial_A = Q^{-1} E[w_t x_t'],\quad
          \partial_Q = (Q^{-1} E[w_t w_t'] Q^{-1} - Q^{-1}) / 2,

and alike for C and R, m0 and P0. Expectations are those of means, plus covariances of
the chain without h: data far from zero cost no digits, as they do in second moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

from svae.autodiff.vjp import by_definition
from svae.standard import information
from svae.standard.algebra import apply, outer, transpose
from svae.standard.system import NUM_ARRAYS, Sums, System
from svae.types import VJP, Array

__all__ = ["gradient", "log_likelihood"]


def log_likelihood(system: System) -> Array:
    """Return the log likelihood (N,), differentiable."""
    return _log_likelihood(*system[: NUM_ARRAYS + 2])


def _of_arguments(*arguments: Any) -> Array:
    return information.log_likelihood(System._make([*arguments, False]))


_log_likelihood = primitive(_of_arguments)


def _vjp(argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any) -> VJP:
    def pull_back(g: Any) -> Sequence[Array]:
        if any(map(isbox, (g, *args[:NUM_ARRAYS]))):
            return by_definition(_of_arguments, argnums, args, g)
        bars = gradient(System._make([*args, False]), onp.asarray(g))
        return [bars[argnum] for argnum in argnums]

    return pull_back


defvjp_argnums(_log_likelihood, _vjp)


def gradient(system: System, g: Array) -> list[Array]:
    """Return the gradient of <g, log likelihood> in the arrays of a system.

    Parameters
    ----------
    system : System
    g : (N,) array
    """
    mean, cov, cross, _ = information.smoother(system)
    A, Q, C, _, m0, P0, b, d, y, seen, _, _ = system
    N, T, _ = seen.shape
    total, every = Sums(system), slice(0, T)
    g1, g2 = g[:, None, None], g[:, None, None, None]

    def of_covariance(inverse: Array, residual: Array, doubt: Array) -> Array:
        squares = inverse @ (outer(residual, residual) + doubt) @ inverse
        return g2 * (squares - inverse) / 2

    inverse, _ = information.inverse_of("P0", P0)
    inverse, start = inverse[:, None], mean[:, :1] - m0[:, None]
    total.add("m0", every, g1 * apply(inverse, start))
    total.add("P0", every, of_covariance(inverse, start, cov[:, :1]))

    inverse, _ = information.observed_inverse(system)
    error = onp.where(seen, y - apply(C, mean) - d, 0.0)
    slope = apply(inverse, error)
    total.add("d", every, g1 * slope)
    total.add("y", every, -g1 * slope)
    total.add("R", every, of_covariance(inverse, error, C @ cov @ transpose(C)))
    total.add("C", every, g2 * (outer(slope, mean) - inverse @ C @ cov))

    if T > 1:
        inverse, _ = information.inverse_of("Q", Q)
        live = system.live[:, 1:, None]
        before, after = mean[:, :-1], mean[:, 1:]
        error = onp.where(live, after - apply(A, before) - b, 0.0)
        slope, moved = apply(inverse, error), A @ cross
        spread = A @ cov[:, :-1] @ transpose(A)
        doubt = cov[:, 1:] - moved - transpose(moved) + spread
        of_Q = of_covariance(inverse, error, doubt)
        of_A = outer(slope, before) + inverse @ (transpose(cross) - A @ cov[:, :-1])
        total.add("b", every, g1 * slope)
        total.add("Q", every, onp.where(live[..., None], of_Q, 0.0))
        total.add("A", every, onp.where(live[..., None], g2 * of_A, 0.0))
    return [total.bars[name] for name in System._fields[:NUM_ARRAYS]]
