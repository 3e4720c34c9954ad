r"""What later observations say of a prediction: r and N, with their digits.

The gradient of the log likelihood in the predicted mean of x_t is :math:`r_t`, and that
in its covariance :math:`(r_t r_t' - N_t) / 2` (de Jong 1989). There are two ways to
them. The recursion

.. math:: r_t = C' F^{-1} v + (I - K C)' A' r_{t+1},\quad
          N_t = C' F^{-1} C + (I - K C)' A' N_{t+1} A (I - K C)

inverts nothing, but loses digits where the gain cancels what is large, after a start
that is nearly diffuse. The smoother's coordinates have

.. math:: r_t = S_t^{-T} z_t,\quad N_t = S_t^{-T} (I - Z_t Z_t') S_t^{-1},

which is exact there, and has no meaning where the prediction is singular. Rounding
errors of both are estimated, and the smaller one decides, for every sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from svae.standard import arrays
from svae.standard.algebra import apply, square, transpose
from svae.standard.arrays import Forward
from svae.standard.steady import EPS, has_converged, recursion, runs
from svae.standard.system import System, at_step
from svae.types import Array

__all__ = ["Backward", "Look", "backward", "look_of", "magnitude"]


class Look(NamedTuple):
    """The matrices of an observation, (N or 1, ...)."""

    inverse: Array
    """F^-1/2."""
    C: Array
    """With zeros for what was not observed."""
    H: Array
    """F^-1/2 C."""
    K: Array
    """Gain: the filtered mean less the predicted one, for the innovation."""
    rest: Array
    """I - K C."""


class Backward(NamedTuple):
    """r and N of all steps, and what the smoother knows."""

    z: Array
    """(N, T, D)."""
    Z: list[Array]
    r: Array
    """(N, T + 1, D), the last is zero: nothing follows the end."""
    N: list[Array]
    """T + 1 of (N or 1, D, D)."""
    S_inverse: list[Array | None]
    """T + 1, for the steps and sequences whose N came from coordinates, NaN for
    others."""


class _State(NamedTuple):
    """r and N of a step with their errors, (N,) and (N or 1,)."""

    r: Array
    N: Array
    r_error: Array
    N_error: Array
    S_inverse: Array | None = None


def look_of(system: System, past: Forward, t: int) -> Look:
    """Return the matrices of the observation of a step."""
    C, seen = at_step(system.C, t), system.seen[:, t]
    C = C if seen.all() else C * seen[..., None]
    inverse = arrays.inverse(past.root_F[t])
    K = past.S[t] @ past.K[t] @ inverse
    return Look(inverse, C, inverse @ C, K, np.eye(K.shape[-2]) - K @ C)


def magnitude(x: Array) -> Array:
    """Return the largest entry of each sequence, (N,)."""
    return np.abs(x).reshape(len(x), -1).max(-1, initial=0.0)


def backward(system: System, past: Forward) -> Backward:
    """Go back through all steps."""
    z, Z = arrays.coordinates(past)
    num_sequences, T, D = z.shape
    n = len(past.S[0])
    out = Backward(
        z,
        Z,
        np.zeros((num_sequences, T + 1, D)),
        [np.zeros((n, D, D))] * (T + 1),
        [None] * (T + 1),
    )
    state = _State(out.r[:, T], out.N[T], np.zeros(num_sequences), np.zeros(n))
    for run in reversed(runs(past.S, past.X, Z)):
        t, found = run.stop - 1, [state.N]
        while t >= run.start and not (system.is_constant and has_converged(found)):
            state = _step(system, past, out, t, state)
            out.r[:, t], out.N[t], out.S_inverse[t] = state.r, state.N, state.S_inverse
            found.append(state.N)
            t -= 1
        if t >= run.start:  # N stays what it is
            rest, look = slice(run.start, t + 1), look_of(system, past, t)
            M = transpose(system.A[0, 0] @ look.rest[0])
            pushed = apply(transpose(look.H)[:, None], past.e[:, rest])[:, ::-1]
            out.r[:, rest] = recursion(M, pushed, state.r)[:, :0:-1]
            out.N[rest] = [state.N] * (t + 1 - run.start)
            out.S_inverse[rest] = [state.S_inverse] * (t + 1 - run.start)
            state = state._replace(r=out.r[:, run.start])
    return out


def _step(
    system: System, past: Forward, out: Backward, t: int, state: _State
) -> _State:
    """Return r and N of a step, given those of the next."""
    _, C, H, K, rest = look_of(system, past, t)
    e, S = past.e[:, t], past.S[t]
    moves = rest
    back, G = state.r, state.N
    if t + 1 < past.mean.shape[1]:
        A = at_step(system.A, t)
        back, G = apply(transpose(A), back), transpose(A) @ G @ A
        moves = A @ rest
    r = apply(transpose(H), e) + apply(transpose(rest), back)
    N = square(transpose(H)) + transpose(rest) @ G @ rest
    of_rest = 1 + magnitude(K) * magnitude(C)
    shrink = np.minimum(magnitude(moves), 1.0)
    r_error = EPS * (magnitude(H) * magnitude(e) + of_rest * magnitude(back))
    r_error = r_error + shrink * state.r_error
    N_error = magnitude(H) ** 2 + of_rest * magnitude(G) * magnitude(rest)
    N_error = EPS * N_error + shrink**2 * state.N_error
    pivots = np.abs(np.diagonal(S, axis1=-2, axis2=-1)).min(-1)
    regular = (pivots > 0)[:, None, None]
    inverse = arrays.inverse(np.where(regular, S, np.eye(S.shape[-1])))
    size = magnitude(inverse)
    r_bound = EPS * np.where(regular[:, 0, 0], size * magnitude(out.z[:, t]), np.inf)
    N_bound = EPS * np.where(regular[:, 0, 0], size**2, np.inf)
    use_r, use_N = r_bound < r_error, N_bound < N_error
    if use_r.any():
        other = apply(transpose(inverse), out.z[:, t])
        r = np.where(use_r[:, None], other, r)
    if not use_N.any():
        return _State(r, N, np.minimum(r_bound, r_error), N_error)
    each = use_N[:, None, None]
    eye = np.eye(S.shape[-1])
    N = np.where(each, transpose(inverse) @ (eye - square(out.Z[t])) @ inverse, N)
    errors = np.minimum(r_bound, r_error), np.minimum(N_bound, N_error)
    return _State(r, N, *errors, np.where(each, inverse, np.nan))
