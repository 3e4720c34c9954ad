r"""The covariance form as functions that autograd differentiates.

Values are those of the square-root arrays (`arrays`). The gradient of the log
likelihood in all arguments is that of Koopman and Shephard (1992), one pass back with

.. math:: r_{t-1} = C' F^{-1} v + L' r_t,\quad N_{t-1} = C' F^{-1} C + L' N_t L,\quad
          \partial_{\hat x} = r,\quad \partial_P = (r r' - N) / 2,

which needs no inverse of P0, Q or R. That of the moments is autograd's, of their
definition in covariances; so are second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import isbox

from svae.autodiff.tuples import Outputs
from svae.autodiff.vjp import by_definition, trace
from svae.standard import arrays, covariance
from svae.standard.algebra import apply, outer, square, transpose
from svae.standard.arrays import Forward
from svae.standard.backward import Backward, backward, look_of, magnitude
from svae.standard.covariance import Moments
from svae.standard.steady import runs
from svae.standard.system import NUM_ARRAYS, Sums, System, at_step
from svae.types import VJP, Array

__all__ = ["log_likelihood", "moments"]


def log_likelihood(system: System) -> Array:
    """Return the log likelihood (N,) of a system, differentiable."""
    arguments = system[:NUM_ARRAYS]
    return _log_likelihood(*arguments, system.seen, system.lengths)


def moments(system: System, smooth: bool) -> Moments:
    """Return the moments of a system, differentiable, the last three if wanted."""
    arguments = system[:NUM_ARRAYS]
    found = _moments(*arguments, system.seen, system.lengths, smooth)
    return Moments(*(found[k] for k in range(_count(smooth))))


def _count(smooth: bool) -> int:
    """Return how many moments there are."""
    return len(Moments._fields) - (0 if smooth else 3)


def _system(arguments: Sequence[Any]) -> System:
    return System._make([*arguments[: NUM_ARRAYS + 2], False])


@primitive
def _log_likelihood(*arguments: Any) -> Array:
    system = _system(arguments)
    density = arrays.forward(system).log_density
    return onp.where(system.live, density, 0.0).sum(1)


def _log_likelihood_by_definition(*arguments: Any) -> Array:
    system = _system(arguments)
    density = covariance.smoother(system, False).log_density
    return np.sum(np.where(system.live, density, 0.0), 1)


def _log_likelihood_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any
) -> VJP:
    def pull_back(g: Any) -> Sequence[Array]:
        if any(map(isbox, (g, *args[:NUM_ARRAYS]))):
            return by_definition(_log_likelihood_by_definition, argnums, args, g)
        bars = score(_system(args), onp.asarray(g))
        return [bars[argnum] for argnum in argnums]

    return pull_back


defvjp_argnums(_log_likelihood, _log_likelihood_vjp)


@primitive
def _moments(*arguments: Any) -> Outputs:
    system, smooth = _system(arguments), arguments[-1]
    found = arrays.smoother(system) if smooth else arrays.filtered(system)
    return Outputs.of(found[: _count(smooth)])


def _moments_vjp(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Any
) -> VJP:
    def pull_back(g: Any) -> Sequence[Array]:
        def definition(*chosen: Any) -> Any:
            swapped = dict(zip(argnums, chosen, strict=True))
            every = [swapped.get(k, x) for k, x in enumerate(args)]
            found = covariance.smoother(_system(every), args[-1])
            return tuple(found[: len(ans.shapes)])

        bars = [g[k] if isbox(g) else g.parts[k] for k in range(len(ans.shapes))]
        return trace(definition, [args[k] for k in argnums])[0](*bars)

    return pull_back


defvjp_argnums(_moments, _moments_vjp)


class _Sums(Sums):
    """Sums over steps, of which some are alike."""

    def add_product(
        self,
        name: str,
        steps: slice,
        weight: Array,
        left: Array,
        right: Array,
        less: Any,
    ) -> None:
        """Add weight (left right' - less), with less (N or 1, ...) the same for steps.

        Parameters
        ----------
        weight : (N,) array
        left, right : (N, steps, ...) arrays
        less : (N or 1, ...) array
        """
        total, count = self.bars[name], left.shape[1]
        less = weight[:, None, None] * less
        left = weight[:, None, None] * left
        if count > 1 and total.shape[:2] == (1, 1):  # of steps that are alike
            sums = onp.tensordot(left, right, ((0, 1), (0, 1)))
            total += sums - count * less.sum(0)
        else:
            self.add(name, steps, outer(left, right) - less[:, None])


def score(system: System, g: Array) -> list[Array]:
    """Return the gradient of <g, log likelihood> in the arrays of a system.

    Parameters
    ----------
    system : System
    g : (N,) array
    """
    past = arrays.forward(system)
    found, total = backward(system, past), _Sums(system)
    T = system.seen.shape[1]
    for run in runs(past.S, past.X, found.N[1:], found.Z):
        _add_look(system, past, found, run, g, total)
        if run.stop == T:
            run = slice(run.start, T - 1)
        if run.stop > run.start:
            _add_move(system, past, found, run, g, total)
    r, first = found.r[:, :1], slice(0, 1)
    total.add("m0", first, g[:, None, None] * r)
    total.add_product("P0", first, g / 2, r, r, found.N[0])
    return [total.bars[name] for name in System._fields[:NUM_ARRAYS]]


def _add_look(
    system: System, past: Forward, found: Backward, run: slice, g: Array, total: _Sums
) -> None:
    """Add what steps say of their observations: of y, D u, R and C."""
    t, T = run.start, past.mean.shape[1]
    inverse, C, _, K, rest = look_of(system, past, t)
    seen = system.seen[:, t].astype(float)
    back, G = found.r[:, run.start + 1 : run.stop + 1], found.N[t + 1]
    if t + 1 < T:
        A = at_step(system.A, t)
        back, G = apply(transpose(A)[:, None], back), transpose(A) @ G @ A
    error = apply(transpose(inverse)[:, None], past.e[:, run])
    error = seen[:, None] * (error - apply(transpose(K)[:, None], back))
    total.add("d", run, g[:, None, None] * error)
    total.add("y", run, -g[:, None, None] * error)
    mask = seen[..., None] * seen[:, None]
    of_R = mask * (square(transpose(inverse)) + transpose(K) @ G @ K)
    total.add_product("R", run, g / 2, error, error, of_R)
    S = past.S[t]
    smoothed = past.mean[:, run] + apply(S[:, None], found.z[:, run])
    of_C = _of_C(system, past, found, t, C, K, G)
    total.add_product("C", run, g, error, smoothed, seen[..., None] * of_C)


def _of_C(
    system: System,
    past: Forward,
    found: Backward,
    t: int,
    C: Array,
    K: Array,
    G: Array,
) -> Array:
    """Return R^-1 C times the smoothed covariance, or what it is without R^-1.

    K' (I - G P) with the filtered P; whichever has the smaller rounding error.
    """
    S = past.S[t]
    P = square(S @ past.Xi[t])
    of_C = transpose(K) @ (onp.eye(S.shape[-1]) - G @ P)
    error = magnitude(K) * magnitude(G) * magnitude(P)
    root_R = at_step(past.root_R, t)
    regular = onp.diagonal(root_R, axis1=-2, axis2=-1).min(-1)[:, None, None] > 0
    inverse = arrays.inverse(onp.where(regular, root_R, onp.eye(root_R.shape[-1])))
    cov = square(S @ found.Z[t])
    bound = magnitude(inverse) ** 2 * magnitude(C) * magnitude(cov)
    use = regular & (bound < error)[:, None, None]
    if not use.any():
        return of_C
    other = transpose(inverse) @ (inverse @ C @ cov)
    return onp.where(use, other, of_C)


def _add_move(
    system: System, past: Forward, found: Backward, run: slice, g: Array, total: _Sums
) -> None:
    """Add what steps say of their transitions: of B u, Q and A."""
    t = run.start
    S, A = past.S[t], at_step(system.A, t)
    after, N = found.r[:, run.start + 1 : run.stop + 1], found.N[t + 1]
    smoothed = past.mean[:, run] + apply(S[:, None], found.z[:, run])
    total.add("b", run, g[:, None, None] * after)
    total.add_product("Q", run, g / 2, after, after, N)
    of_A = N @ A @ square(S @ past.Xi[t])
    inverse = found.S_inverse[t + 1]
    if inverse is not None:  # A P = S_{t+1} X' S' of the filtered P
        doubt = onp.eye(S.shape[-1]) - square(found.Z[t + 1])
        other = transpose(inverse) @ doubt @ transpose(S @ past.X[t])
        of_A = onp.where(onp.isnan(inverse), of_A, other)
    total.add_product("A", run, g, after, smoothed, of_A)
