r"""Kalman filter and smoother in covariances: the definition, differentiable.

Nothing is inverted but the covariance of what was observed, so Q, R and P0 may be
singular. With v the innovation and F its covariance, the filter is in Joseph's form,

.. math:: K = P C' F^{-1},\quad x^f = x + K v,\quad
          P^f = (I - K C) P (I - K C)' + K R K',

and the smoother goes back with :math:`r` and :math:`N` (de Jong 1989), the gradient of
the log likelihood of what follows in the predicted mean and minus its Hessian's mean:

.. math:: r_{t-1} = C' F^{-1} v + (I - K C)' A' r_t,\quad
          N_{t-1} = C' F^{-1} C + (I - K C)' A' N_t A (I - K C).

Where what is predicted is regular, smoothed covariances are sums of squares instead,
with the gain :math:`P^f A' P_{t+1}^{-1}` (Rauch, Tung and Striebel): the difference
:math:`P^f - P^f A' N A P^f` loses digits after a start that is nearly diffuse.

Missing entries are marginalised exactly: their rows of C, and rows and columns of R,
are put to zero, and a one on the diagonal makes F the identity there. Derivatives of
any order are those of autograd; values with more digits come from `arrays`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd.tracer import getval

from svae.autodiff.operations import value_of
from svae.standard.algebra import apply, log_det_of_root, outer, transpose
from svae.standard.system import System, at_step, singular
from svae.types import Array, Mask

__all__ = [
    "DEGENERATE",
    "NOTHING",
    "Moments",
    "observed_noise",
    "observed_part",
    "smoother",
]

DEGENERATE = (
    "the covariance of y given the past is singular, so y has no density. Usual cause: "
    "an R that is singular in a direction in which the past leaves no doubt"
)


NOTHING = onp.zeros(0)
SMALLEST = 1e-12
"""Eigenvalue of correlations below which none is inverted."""


class Moments(NamedTuple):
    """What filter and smoother find, (N, T, ...); numbers past a length say nothing."""

    log_density: Array
    predicted_mean: Array
    predicted_cov: Array
    filtered_mean: Array
    filtered_cov: Array
    smoothed_mean: Array = NOTHING
    smoothed_cov: Array = NOTHING
    cross_cov: Array = NOTHING
    """(N, T-1, D, D)."""


def smoother(system: System, smooth: bool = True) -> Moments:
    """Filter, and smooth if wanted, in operations that autograd differentiates."""
    N, T, _ = system.seen.shape
    D = system.A.shape[-1]
    m, P = system.m0 + onp.zeros((N, D)), system.P0 + onp.zeros((N, D, D))
    eye, live, found = onp.eye(D), system.live, []
    noise = observed_noise(system)
    steps: list[Any] = []
    for t in range(T):
        C, v, count = observed_part(system, t, m)
        R = at_step(noise, t)
        CP = C @ P
        F = CP @ transpose(C) + R
        try:
            L = np.linalg.cholesky(F)
        except np.linalg.LinAlgError:
            raise _degenerate(getval(F), t) from None
        e = np.linalg.solve(L, v[..., None])[..., 0]
        # autograd's solve has no adjoint of a broadcast
        H = np.linalg.solve(L, C + onp.zeros((N, 1, 1)))
        K = transpose(np.linalg.solve(transpose(L), np.linalg.solve(L, CP)))
        log_det = log_det_of_root(L)
        density = -np.sum(e**2, -1) / 2 - log_det - count * np.log(2 * np.pi) / 2
        IKC = eye - K @ C
        mf, Pf = m + apply(K, v), IKC @ P @ transpose(IKC) + K @ R @ transpose(K)
        found.append((density, m, P, mf, Pf))
        if t + 1 == T:
            break
        A, on = at_step(system.A, t), live[:, t + 1]
        steps.append((H, e, IKC, A * on[:, None, None], at_step(system.Q, t)))
        m = np.where(on[:, None], apply(A, mf) + at_step(system.b, t), m)
        after = A @ Pf @ transpose(A) + at_step(system.Q, t)
        P = np.where(on[:, None, None], after, P)
    steps.append((H, e, IKC, None, None))
    back = _backward(steps, found) if smooth else ()
    forward = [_stack(parts) for parts in zip(*found, strict=True)]
    return Moments(*forward, *back)


def _backward(steps: list[Any], found: list[Any]) -> tuple[Array, Array, Array]:
    """Return smoothed means and covariances, and Cov(x_t, x_{t+1})."""
    H, e, IKC, _, _ = steps[-1]
    _, after_mean, after, mean, cov = found[-1]
    r, N = apply(transpose(H), e), transpose(H) @ H
    means, covs, crosses = [mean], [cov], []
    eye = onp.eye(cov.shape[-1])
    for step, past in zip(steps[-2::-1], found[-2::-1], strict=True):
        H, e, IKC, A, Q = step
        _, predicted_mean, P, mf, Pf = past
        g, G, PfAt = apply(transpose(A), r), transpose(A) @ N @ A, Pf @ transpose(A)
        # where x_{t+1} is in doubt in all directions: gain, and sums of squares
        regular = _is_regular(after)[:, None, None]
        gain = transpose(
            np.linalg.solve(np.where(regular, after, eye), transpose(PfAt))
        )
        rest = eye - gain @ A
        by_gain = rest @ Pf @ transpose(rest) + gain @ (Q + cov) @ transpose(gain)
        cross = np.where(regular, gain @ cov, PfAt @ (eye - N @ after))
        moved = mf + apply(gain, mean - after_mean)
        mean = np.where(regular[..., 0], moved, mf + apply(Pf, g))
        cov = np.where(regular, by_gain, Pf - Pf @ G @ Pf)
        means.append(mean)
        covs.append(cov)
        crosses.append(cross)
        r = apply(transpose(H), e) + apply(transpose(IKC), g)
        N = transpose(H) @ H + transpose(IKC) @ G @ IKC
        after_mean, after = predicted_mean, P
    if not crosses:
        return means[0][:, None], covs[0][:, None], onp.zeros((len(r), 0, *eye.shape))
    return _stack(means[::-1]), _stack(covs[::-1]), _stack(crosses[::-1])


def _is_regular(P: Array) -> Mask:
    """Return whether correlations have an inverse with some digits, (N,)."""
    P = value_of(P)
    variances = onp.diagonal(P, axis1=-2, axis2=-1)
    scale = onp.sqrt(onp.where(variances > 0, variances, 1.0))
    smallest = onp.linalg.eigvalsh(P / outer(scale, scale))[:, 0]
    return (variances > 0).all(-1) & (smallest > SMALLEST)


def observed_part(system: System, t: int, m: Array) -> tuple[Array, Array, Array]:
    """Return C of what was observed, the innovation, and how many entries."""
    C, seen = at_step(system.C, t), system.seen[:, t]
    v = system.y[:, t] - apply(C, m) - at_step(system.d, t)
    if seen.all():
        return C, v, seen.sum(-1)
    return C * seen[..., None], v * seen, seen.sum(-1)


def observed_noise(system: System) -> Array:
    """Return R of what was observed, the identity elsewhere, (N or 1, T or 1, P, P)."""
    if system.seen.all():
        return system.R
    seen = system.seen.astype(float)
    of_missing = (1 - seen)[..., None] * onp.eye(seen.shape[-1])
    return system.R * seen[..., None] * seen[..., None, :] + of_missing


def _degenerate(F: Array, t: int) -> Exception:
    """Name the first sequence whose observation has no density."""
    while not isinstance(F, onp.ndarray):
        F = getval(F)
    for n, one in enumerate(F):
        try:
            onp.linalg.cholesky(one)
        except onp.linalg.LinAlgError:
            return singular(n, t, DEGENERATE)
    raise AssertionError("no covariance fails on its own")


def _stack(parts: Any) -> Array:
    return np.stack(parts, axis=1)
