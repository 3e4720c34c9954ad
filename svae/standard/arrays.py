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
from svae.standard.algebra import apply, log_det_of_root, square, transpose
from svae.standard.covariance import DEGENERATE, Moments, observed_noise, observed_part
from svae.standard.steady import EPS, each, has_converged, recursion, runs
from svae.standard.system import System, at_step, singular
from svae.types import Array

__all__ = ["Forward", "filtered", "forward", "inverse", "root", "smoother"]

LOG_2PI = float(np.log(2 * np.pi))


class Forward(NamedTuple):
    """What the filter leaves for the smoother.

    Roots are lists over steps, with an axis of one where all sequences have the same
    covariances; where these have stopped to change, the entries are the same objects.
    """

    log_density: Array
    """(N, T)."""
    mean: Array
    """Predicted, (N, T, D)."""
    xi: Array
    """Filtered mean of the coordinates, (N, T, D)."""
    e: Array
    """Innovations over F^1/2, (N, T, P)."""
    root_R: Array
    """Of what was observed, (N or 1, T or 1, P, P)."""
    S: list[Array]
    Xi: list[Array]
    X: list[Array]
    W: list[Array]
    root_F: list[Array]
    K: list[Array]
    """Gain in coordinates, for innovations over F^1/2."""


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
    """Filter; see the module for the arrays.

    Raises
    ------
    NotPositiveDefinite
        If an observation has no density given the past.
    FloatingPointError
        If a mean or covariance is too large for a float.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out = _forward(system)
    for t, S in enumerate(out.S):
        if t and S is out.S[t - 1]:
            break
        _require_finite(S, t)
    wrong = ~np.isfinite(out.log_density) | ~np.isfinite(out.mean).all(-1)
    if wrong.any():
        raise _overflow(*np.argwhere(wrong)[0])
    return out


def _require_finite(S: Array, t: int) -> None:
    wrong = ~np.isfinite(S).all((-1, -2))
    if wrong.any():
        raise _overflow(int(np.flatnonzero(wrong)[0]), t)


def _overflow(n: int, t: int) -> FloatingPointError:
    return FloatingPointError(
        f"sequence {n}, step {t}: a mean, a covariance or a log density passes "
        "1.8e308. Usual cause: an A that grows, over many steps without observations"
    )


def _forward(system: System) -> Forward:
    N, T, P = system.seen.shape
    D = system.A.shape[-1]
    n = 1 if system.is_alike else N
    root_Q, root_R, live = root(system.Q), root(observed_noise(system)), system.live
    out = Forward(
        np.empty((N, T)),
        np.empty((N, T, D)),
        np.empty((N, T, D)),
        np.empty((N, T, P)),
        root_R,
        *([] for _ in range(6)),
    )
    m = system.m0 + np.zeros((N, D))
    S: Array = np.broadcast_to(root(system.P0), (n, D, D))
    nothing = np.zeros((n, D, D))
    for t in range(T):
        C, v, count = observed_part(system, t, m)
        root_F, K, Xi = _observed(t, C, at_step(root_R, t), S)
        out.S.append(S)
        for column, part in zip(out[6:], (Xi, nothing, Xi, root_F, K), strict=True):
            column.append(part)
        if t + 1 < T and system.is_constant and has_converged(out.S):
            _steady(system, out, t, m, root_Q[:, 0])
            break
        e = _solved(root_F, v)
        half_log_det = log_det_of_root(root_F) + count * LOG_2PI / 2
        out.log_density[:, t] = -(e**2).sum(-1) / 2 - half_log_det
        out.mean[:, t], out.e[:, t], out.xi[:, t] = m, e, apply(K, e)
        if t + 1 == T:
            break
        A, on = at_step(system.A, t), live[:, t + 1]
        after, X, W = _moved(A @ (S @ Xi), at_step(root_Q, t), Xi)
        moved = apply(A, m + apply(S, out.xi[:, t])) + at_step(system.b, t)
        if not on.all():  # what has ended stays where it is
            each = on[:, None, None]
            after, X = np.where(each, after, S), np.where(each, X, 0.0)
            W, moved = np.where(each, W, Xi), np.where(on[:, None], moved, m)
        S, m, out.X[t], out.W[t] = after, moved, X, W
    return out


def _steady(system: System, out: Forward, t: int, m: Array, root_Q: Array) -> None:
    """Filter steps from t on, at which covariances are what they were before."""
    T = system.seen.shape[1]
    S, Xi, root_F, K = out.S[t], out.Xi[t], out.root_F[t], out.K[t]
    A, C = system.A[0, 0], system.C[0, 0]
    _, X, W = _moved(A @ (S @ Xi), root_Q, Xi)
    gain = A @ (S @ K @ inverse(root_F))[0]
    y = system.y[:, t:] - system.d[:, -(T - t) :]
    pushed = apply(gain, y[:, :-1]) + system.b[:, -(T - 1 - t) :]
    mean = recursion(A - gain @ C, pushed, m)
    e = _solved(root_F[:, None], y - apply(C, mean))
    half_log_det = log_det_of_root(root_F)[0] + y.shape[-1] * LOG_2PI / 2
    out.log_density[:, t:] = -(e**2).sum(-1) / 2 - half_log_det
    out.mean[:, t:], out.e[:, t:], out.xi[:, t:] = mean, e, apply(K[:, None], e)
    rest = T - t - 1
    out.X[t:], out.W[t:] = [X] * rest + [out.X[t]], [W] * rest + [Xi]
    for column, part in zip(out[5:7] + out[9:], (S, Xi, root_F, K), strict=True):
        column += [part] * rest


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
    _require_finite(array, t)
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
    N = len(system.seen)
    z, Z = coordinates(past)
    roots = _products(past.S, Z)
    mean = np.empty_like(z)
    for run in runs(past.S):
        S = past.S[run.start][:, None]
        mean[:, run] = past.mean[:, run] + apply(S, z[:, run])
    of_pairs = _products(past.X[:-1], Z[1:])
    of_pairs = _products(past.S[:-1], of_pairs)
    cross = each(lambda a, b: a @ transpose(b), of_pairs, roots[1:])
    return _with_moments(system, past)._replace(
        smoothed_mean=mean,
        smoothed_cov=_over_time(N, each(square, roots)),
        cross_cov=_over_time(N, cross)
        if cross
        else np.zeros((N, 0, *roots[0].shape[1:])),
    )


def coordinates(past: Forward) -> tuple[Array, list[Array]]:
    """Return means (N, T, D) and roots of the coordinates given all observations."""
    T = past.mean.shape[1]
    z, Z = np.empty_like(past.xi), [past.Xi[-1]] * T
    z[:, -1] = past.xi[:, -1]
    end = T - 1
    for run in reversed(runs(past.X, past.W)):
        X, W, found = past.X[run.start], past.W[run.start], [Z[end]]
        if run.stop == T:  # the last step has no next
            continue
        t = run.stop - 1
        while t >= run.start and not (len(X) == 1 and has_converged(found)):
            z[:, t] = past.xi[:, t] + apply(X, z[:, t + 1])
            found.append(triangular(np.concatenate((X @ found[-1], W), -1)))
            Z[t] = found[-1]
            t -= 1
        if t >= run.start:
            rest = slice(run.start, t + 1)
            Z[rest] = [found[-1]] * (t + 1 - run.start)
            pushed = past.xi[:, rest][:, ::-1]
            z[:, rest] = recursion(X[0], pushed, z[:, t + 1])[:, :0:-1]
        end = run.start
    return z, Z


def _products(left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
    return each(np.matmul, left, right)


def _with_moments(system: System, past: Forward) -> Moments:
    """Return what the filter found, in the coordinates of the states."""
    N = len(system.seen)
    mean = np.empty_like(past.mean)
    for run in runs(past.S):
        S = past.S[run.start][:, None]
        mean[:, run] = past.mean[:, run] + apply(S, past.xi[:, run])
    return Moments(
        past.log_density,
        past.mean,
        _over_time(N, each(square, past.S)),
        mean,
        _over_time(N, each(square, _products(past.S, past.Xi))),
    )


def _over_time(N: int, parts: Sequence[Array]) -> Array:
    """Return what there is of every step as one array (N, T, ...)."""
    found = np.empty((N, len(parts), *parts[0].shape[1:]))
    for run in runs(parts):
        found[:, run] = parts[run.start][:, None]
    return found


def inverse(L: Array) -> Array:
    """Return the inverse of lower triangular (..., M, M), by substitution."""
    found = np.zeros(L.shape)
    for i in range(L.shape[-1]):
        if i:
            known = L[..., i : i + 1, :i] @ found[..., :i, :i]
            found[..., i : i + 1, :i] = -known
        found[..., i, i] = 1.0
        found[..., i, : i + 1] /= L[..., i, i, None]
    return found


def _solved(L: Array, v: Array) -> Array:
    """Return L^-1 v for lower triangular L, by substitution."""
    e = np.zeros(np.broadcast_shapes(L.shape[:-1], v.shape))
    for i in range(L.shape[-1]):
        known = (L[..., i, :i] * e[..., :i]).sum(-1)
        e[..., i] = (v[..., i] - known) / L[..., i, i]
    return e
