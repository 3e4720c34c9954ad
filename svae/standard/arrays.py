r"""Kalman filter and smoother in square roots of covariances, by orthogonal arrays.

A covariance is held as a root, P = S S', which has twice its digits, and is updated by
QR factorisations alone (Kailath, Sayed and Hassibi 2000, chapter 12). States are in
coordinates of their prediction, :math:`x_t = \hat x_t + S_t \xi_t` with
:math:`\xi_t \sim N(0, I)` given the past. The array of an observation, with F the
covariance of the innovation, and that of a step,

.. math:: \begin{pmatrix} C S & R^{1/2} \\ I & 0 \end{pmatrix} \to
          \begin{pmatrix} F^{1/2} & 0 \\ \bar K & \Xi \end{pmatrix}, \qquad
          \begin{pmatrix} A S \Xi & Q^{1/2} \\ \Xi & 0 \end{pmatrix} \to
          \begin{pmatrix} S_{t+1} & 0 \\ X & W \end{pmatrix},

say that :math:`\xi_t = \bar K e + X \xi_{t+1} + W \eta` given the observations up to t,
with e the innovation over :math:`F^{1/2}` and :math:`\eta` independent of the future.
So the smoother goes back in these coordinates with sums of squares alone: it inverts
and subtracts nothing, and P0, Q and R may be singular.

A row of an array that is small beside the others keeps its digits in a QR factorisation
if the large ones come first (Cox and Higham 1998), so sources are sorted by size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np

from svae.autodiff.operations import value_of
from svae.standard.algebra import apply, log_det_of_root, square
from svae.standard.covariance import DEGENERATE, Moments, observed_part
from svae.standard.system import System, at_step, singular
from svae.types import Array

__all__ = ["Forward", "filtered", "forward", "inverse", "root", "smoother"]

EPS = float(np.finfo(float).eps)
LOG_2PI = float(np.log(2 * np.pi))


class Forward(NamedTuple):
    """What the filter leaves for the smoother, lists over steps.

    Roots have an axis of one where all sequences have the same covariances.
    """

    log_density: list[Array]
    """(N,)."""
    mean: list[Array]
    """Predicted, (N, D)."""
    S: list[Array]
    xi: list[Array]
    """Filtered mean of the coordinates."""
    Xi: list[Array]
    X: list[Array]
    W: list[Array]
    e: list[Array]
    root_F: list[Array]
    K: list[Array]
    """K in coordinates, for innovations over F^1/2."""


def root(cov: Array) -> Array:
    """Return lower triangular L with L L' = cov, for any covariance (..., D, D).

    A Cholesky factorisation that leaves out the columns of pivots that are nothing but
    rounding.
    """
    smallest = cov.shape[-1] * EPS * value_of(anp.diagonal(cov, axis1=-1, axis2=-2))
    rest, columns = cov, []
    for j, above in enumerate(np.tri(cov.shape[-1], k=-1)):
        pivot = rest[..., j, j]
        keep = value_of(pivot) > smallest[..., j]
        scale = anp.sqrt(anp.where(keep, pivot, 1.0))[..., None]
        below = keep[..., None] & (above == 0)
        column = anp.where(below, rest[..., :, j] / scale, 0.0)
        columns.append(column)
        rest = rest - column[..., :, None] * column[..., None, :]
    return anp.stack(columns, -1)


def triangular(array: Array) -> Array:
    """Return lower triangular L (..., M, M) with L L' = array array'.

    Parameters
    ----------
    array : (..., M, K) array, K at least M

    Returns
    -------
    L : (..., M, M) array, whose diagonal is not negative
    """
    sizes = np.abs(array).max(-2)
    order = np.argsort(-sizes, axis=-1, kind="stable")[..., None, :]
    rows = np.swapaxes(np.take_along_axis(array, order, -1), -1, -2)
    L = np.swapaxes(np.linalg.qr(rows, mode="r"), -1, -2)
    signs = np.where(np.diagonal(L, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return L * signs[..., None, :]


def forward(system: System) -> Forward:
    """Filter; see the module for the arrays."""
    N, T, _ = system.seen.shape
    D = system.A.shape[-1]
    n = 1 if system.is_alike else N
    m = system.m0 + np.zeros((N, D))
    S: Array = np.broadcast_to(root(system.P0), (n, D, D))
    root_Q, root_R, live = root(system.Q), root(system.R), system.live
    out = Forward(*([] for _ in Forward._fields))
    for t in range(T):
        C, R, v, count = observed_part(system, t, m)
        of_R = at_step(root_R, t) if system.seen[:, t].all() else root(R)
        root_F, K, Xi = _observed(t, C, of_R, S)
        e = _solved(root_F, v)
        density = -(e**2).sum(-1) / 2 - log_det_of_root(root_F) - count * LOG_2PI / 2
        xi = apply(K, e)
        X: Array = np.zeros((n, D, D))
        W, here = Xi, (density, m, S, xi, Xi)
        if t + 1 < T:
            A, on = at_step(system.A, t), live[:, t + 1]
            after, X, W = _moved(A @ (S @ Xi), at_step(root_Q, t), Xi)
            mean = apply(A, m + apply(S, xi)) + at_step(system.b, t)
            if not on.all():  # what has ended stays where it is
                each = on[:, None, None]
                after, X = np.where(each, after, S), np.where(each, X, 0.0)
                W, mean = np.where(each, W, Xi), np.where(on[:, None], mean, m)
            S, m = after, mean
        for column, part in zip(out, (*here, X, W, e, root_F, K), strict=True):
            column.append(part)
    return out


def _observed(t: int, C: Array, root_R: Array, S: Array) -> tuple[Array, Array, Array]:
    """Return F^1/2, K and Xi of an observation.

    Raises
    ------
    NotPositiveDefinite
        If F has no inverse.
    """
    n, D, P = len(S), S.shape[-1], C.shape[-2]
    array = np.zeros((n, P + D, D + P))
    array[:, :P, :D] = C @ S
    array[:, :P, D:] = root_R
    array[:, P:, :D] = np.eye(D)
    L = triangular(array)
    root_F = L[:, :P, :P]
    sizes = np.sqrt((array[:, :P] ** 2).sum(-1))
    wrong = ~(np.diagonal(root_F, axis1=-2, axis2=-1) > (P + D) * EPS * sizes)
    if wrong.any():
        raise singular(int(np.argwhere(wrong)[0, 0]), t, DEGENERATE)
    return root_F, L[:, P:, :P], L[:, P:, P:]


def _moved(A_S: Array, root_Q: Array, Xi: Array) -> tuple[Array, Array, Array]:
    """Return S of the next step, X and W."""
    n, D, _ = A_S.shape
    array = np.zeros((n, 2 * D, 2 * D))
    array[:, :D, :D] = A_S
    array[:, :D, D:] = root_Q
    array[:, D:, :D] = Xi
    L = triangular(array)
    return L[:, :D, :D], L[:, D:, :D], L[:, D:, D:]


def filtered(system: System) -> Moments:
    """Filter; values only, and none of the smoother."""
    return _with_moments(system, forward(system))


def smoother(system: System) -> Moments:
    """Filter and smooth; values only."""
    past = forward(system)
    N, T, _ = system.seen.shape
    mean, cov, cross = [], [], []
    z, Z, next_root = past.xi[-1], past.Xi[-1], None
    for t in reversed(range(T)):
        S, X = past.S[t], past.X[t]
        if next_root is not None:
            z, of_next = past.xi[t] + apply(X, z), X @ Z
            cross.append((S @ of_next) @ np.swapaxes(next_root, -1, -2))
            Z = triangular(np.concatenate((of_next, past.W[t]), -1))
        next_root = S @ Z
        mean.append(past.mean[t] + apply(S, z))
        cov.append(square(next_root))
    return _with_moments(system, past)._replace(
        smoothed_mean=_over_time(N, mean[::-1]),
        smoothed_cov=_over_time(N, cov[::-1]),
        cross_cov=_over_time(N, cross[::-1]) if cross else _no_pairs(cov[0], N),
    )


def _with_moments(system: System, past: Forward) -> Moments:
    """Return what the filter found, in the coordinates of the states."""
    N = len(system.seen)
    steps = list(zip(past.mean, past.S, past.xi, past.Xi, strict=True))
    return Moments(
        _over_time(N, past.log_density),
        _over_time(N, past.mean),
        _over_time(N, [square(S) for S in past.S]),
        _over_time(N, [m + apply(S, xi) for m, S, xi, _ in steps]),
        _over_time(N, [square(S @ Xi) for _, S, _, Xi in steps]),
    )


def _over_time(N: int, parts: Sequence[Array]) -> Array:
    stacked = np.stack(parts, 1)
    return np.broadcast_to(stacked, (N, *stacked.shape[1:])).copy()


def _no_pairs(cov: Array, N: int) -> Array:
    return np.zeros((N, 0, *cov.shape[1:]))


def inverse(L: Array) -> Array:
    """Return the inverse of lower triangular (..., M, M), by substitution."""
    M = L.shape[-1]
    columns = [_solved(L, np.eye(M)[:, j] + 0 * L[..., 0]) for j in range(M)]
    return np.stack(columns, -1)


def _solved(L: Array, v: Array) -> Array:
    """Return L^-1 v for lower triangular L, by substitution."""
    e = np.zeros(np.broadcast_shapes(L.shape[:-1], v.shape))
    for i in range(L.shape[-1]):
        known = (L[..., i, :i] * e[..., :i]).sum(-1)
        e[..., i] = (v[..., i] - known) / L[..., i, i]
    return e
