r"""State-space models as Gaussian chains: the information form, compiled.

A linear-Gaussian model has the natural parameters

.. math:: J_0 = -P_0^{-1}/2,\quad h_0 = P_0^{-1} m_0,\quad
          J_{11} = -A' Q^{-1} A / 2,\quad J_{12} = A' Q^{-1},\quad J_{22} = -Q^{-1}/2,

node potentials :math:`J_t = -C' R^{-1} C / 2` and
:math:`h_t = C' R^{-1} (y_t - D u_t)`, to which inputs add :math:`-A' Q^{-1} B u_t` at t
and :math:`Q^{-1} B u_t` at t+1, and log p(y) = logZ + constant with

.. math:: -\tfrac12 \Big[ m_0' P_0^{-1} m_0 + \sum_t (B u_t)' Q^{-1} B u_t +
          \sum_t (y_t - D u_t)' R^{-1} (y_t - D u_t) + \log |2 \pi P_0| +
          \sum_t \log |2 \pi Q_t| + \sum_t \log |2 \pi R_t| \Big].

Of R and y there are the rows that were observed. The sums are over steps within the
length, T-1 of them for transitions. Q, R and P0 must have inverses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd.tracer import isbox

from svae import kernels, reference
from svae.autodiff.operations import value_of
from svae.standard.algebra import apply, transpose
from svae.standard.covariance import NOTHING, Moments
from svae.standard.system import System, at_step
from svae.types import Array, Integers

__all__ = ["Natural", "filtered", "log_likelihood", "potentials", "smoother"]

LOG_2PI = float(onp.log(2 * onp.pi))


class Natural(NamedTuple):
    """A state-space model and its data as potentials of `svae.kernels.gaussian_chain`.

    ``gaussian_chain(init, pair, node, lengths=lengths)[0] + constant`` is the log
    likelihood.
    """

    init: tuple[Array, Array]
    """J (D, D) or (N, D, D), h (D,) or (N, D)."""
    pair: tuple[Array, Array, Array]
    """J11, J12, J22, (D, D) or (N or 1, T-1 or 1, D, D) each."""
    node: tuple[Array, Array]
    """J (N, T, D, D), h (N, T, D)."""
    constant: Array
    """log p(y) - logZ, (N,)."""
    lengths: Integers
    """(N,)."""


def potentials(system: System) -> Natural:
    """Return the natural parameters of a system.

    Raises
    ------
    ValueError
        If Q, R or P0 has no inverse.
    """
    N, T, P = system.seen.shape
    A, C, b = system.A, system.C, system.b
    live = system.live
    P0_inv, P0_det = inverse_of("P0", system.P0)
    R_inv, R_det = observed_inverse(system)
    residual = np.where(system.seen, system.y - system.d, 0.0)
    of_y = apply(R_inv, residual)
    h = apply(transpose(C), of_y)
    J = -transpose(C) @ R_inv @ C / 2 + onp.zeros((N, T, 1, 1))
    h0 = apply(P0_inv, system.m0)
    quadratic = np.sum(residual * of_y, (1, 2)) + np.sum(system.m0 * h0, -1)
    log_det = R_det + P0_det
    if T > 1:
        Q_inv, Q_det = inverse_of("Q", system.Q)
        of_b, between = apply(Q_inv, b), live[:, 1:]
        pair = -transpose(A) @ Q_inv @ A / 2, transpose(A) @ Q_inv, -Q_inv / 2
        log_det = log_det + np.sum(between * Q_det, 1)
        if isbox(b) or b.any():
            quadratic = quadratic + np.sum(between * np.sum(b * of_b, -1), 1)
            of_b, none = between[..., None] * of_b, onp.zeros((N, 1, C.shape[-1]))
            h = h + np.concatenate((none, of_b), 1)
            h = h - np.concatenate((apply(transpose(A), of_b), none), 1)
    else:
        pair = (onp.zeros((1, 1, *A.shape[2:])),) * 3
    constant = -(quadratic + log_det) / 2
    init = _shared(-P0_inv / 2, 1), _shared(h0 + onp.zeros((len(P0_inv), 1)), 1)
    J11, J12, J22 = (_shared(x, 2) for x in pair)
    return Natural(init, (J11, J12, J22), (J, h), constant, system.lengths)


def _shared(x: Array, leads: int) -> Array:
    """Return what all sequences and steps share without these axes."""
    return x[(0,) * leads] if set(x.shape[:leads]) == {1} else x


def log_likelihood(system: System) -> Array:
    """Return the log likelihood (N,)."""
    init, pair, node, constant, lengths = potentials(system)
    return kernels.gaussian_chain(init, pair, node, lengths=lengths)[0] + constant


def smoother(system: System) -> tuple[Array, Array, Array, Array]:
    """Return smoothed means, covariances, Cov(x_t, x_{t+1}), and the log likelihood.

    Covariances are the second moments of the chain without h, so that nothing is
    subtracted from them.
    """
    natural = potentials(system)
    init, pair, node, constant, lengths = natural
    chain = kernels.gaussian_chain(init, pair, node, lengths=lengths)
    logZ, (_, _, (_, mean)), _ = chain
    cov, cross = central_moments(natural, system)
    if len(cov) < len(mean):
        each = onp.zeros((len(mean), 1, 1, 1))
        cov, cross = cov + each, cross + each
    return mean, cov, cross, logZ + constant


def central_moments(natural: Natural, system: System) -> tuple[Array, Array]:
    """Return smoothed covariances and Cov(x_t, x_{t+1}); one for all that are alike."""
    (J0, _), (J11, J12, J22), (J, h), _, lengths = natural
    _, T, D = h.shape
    n = 1 if system.is_alike else len(h)
    J12 = J12 + onp.zeros((n, T - 1, D, D))
    init, node = (J0, onp.zeros(D)), (J[:n], onp.zeros((n, T, D)))
    chain = kernels.gaussian_chain(init, (J11, J12, J22), node, lengths=lengths[:n])
    _, (_, (_, cross, _), (cov, _)), _ = chain
    return cov, cross


def predicted_covariances(natural: Natural, system: System) -> Array:
    """Return covariances given the past; one for all that are alike. Plain arrays."""
    (J0, _), pair, (J, h), _, lengths = natural
    n, D = 1 if system.is_alike else len(h), h.shape[-1]
    node = J[:n], onp.zeros((n, *h.shape[1:]))
    init = J0, onp.zeros(D)
    _, before = kernels.gaussian_filter(init, pair, node, lengths=lengths[:n])
    return before[2]


def filtered(system: System) -> tuple[Moments, Array]:
    """Return moments of the filter, without densities, and the log likelihood.

    What inputs add to a pair is no matter of its first node alone, as filters have it,
    so the states are those without inputs, and what inputs make of m0 is added.
    """
    system, course = _without_inputs(system)
    init, pair, node, constant, lengths = potentials(system)
    is_traced = any(map(isbox, (*init, *pair, *node)))
    chains: Any = reference if is_traced else kernels
    after, before = chains.gaussian_filter(init, pair, node, lengths=lengths)
    logZ = kernels.gaussian_chain(init, pair, node, lengths=lengths)[0]
    predicted, mean = before[1] + course, after[1] + course
    found = Moments(NOTHING, predicted, before[2], mean, after[2])
    return found, logZ + constant


def _without_inputs(system: System) -> tuple[System, Any]:
    """Return a system of x_t less their means if Q and P0 were zero, and these means.

    Both as they are if nothing is added to the states.
    """
    if not (isbox(system.b) or system.b.any()):
        return system, 0.0
    (N, T, _), b = system.seen.shape, system.b
    means, live = [system.m0 + onp.zeros((N, 1))], system.live
    for t in range(T - 1):
        moved = apply(at_step(system.A, t), means[-1]) + at_step(b, t)
        means.append(np.where(live[:, t + 1, None], moved, means[-1]))
    course = np.stack(means, 1)
    y = system.y - apply(system.C, course)
    m0 = onp.zeros((1, course.shape[-1]))
    return system._replace(y=y, b=onp.zeros((1, 1, m0.size)), m0=m0), course


def inverse_of(name: str, cov: Array) -> tuple[Array, Array]:
    """Return the inverse and the log determinant of 2 pi times a covariance."""
    try:
        onp.linalg.cholesky(value_of(cov))
    except onp.linalg.LinAlgError:
        raise no_inverse(name) from None
    size = value_of(cov).shape[-1]
    inverse = np.linalg.inv(cov)
    inverse = (inverse + transpose(inverse)) / 2
    return inverse, np.linalg.slogdet(cov)[1] + size * LOG_2PI


def no_inverse(name: str) -> ValueError:
    """Return the error of a covariance that is not for the information form."""
    return ValueError(
        f"{name} is singular, and form='information' needs its inverse: pass "
        "form='covariance', or leave form at 'auto'"
    )


def observed_inverse(system: System) -> tuple[Array, Array]:
    """Return R^-1 of what was observed, zero elsewhere, and sums of log |2 pi R|."""
    N, T, P = system.seen.shape
    if system.seen.all():
        inverse, log_det = inverse_of("R", system.R)
        return inverse, np.sum(log_det + onp.zeros((N, T)), 1)
    seen = system.seen.astype(float)
    mask = seen[..., None] * seen[..., None, :]
    of_missing = (1 - seen)[..., None] * onp.eye(P)
    inverse, log_det = inverse_of("R", system.R * mask + of_missing)
    log_det = np.sum(log_det, 1) + (seen.sum((1, 2)) - T * P) * LOG_2PI
    return inverse * mask, log_det
