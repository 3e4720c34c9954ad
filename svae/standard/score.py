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
from svae.standard.covariance import Moments, observed_part
from svae.standard.system import System, at_step
from svae.types import VJP, Array

__all__ = ["log_likelihood", "moments"]

NUM_ARRAYS = 9  # of a system: those that can be differentiated


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
    density = onp.stack(arrays.forward(system).log_density, 1)
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


class _Sums:
    """Gradients in the shapes of arguments, summed over what they share."""

    def __init__(self, system: System) -> None:
        self.bars = {
            name: onp.zeros(getattr(system, name).shape)
            for name in System._fields[:NUM_ARRAYS]
        }

    def add(self, name: str, t: int | None, bar: Array) -> None:
        """Add what a step says, (N, ...); without steps if t is None."""
        total = self.bars[name]
        if len(total) == 1:
            bar = bar.sum(0, keepdims=True)
        if t is None:
            total += bar
        else:
            total[:, t if total.shape[1] > 1 else 0] += bar


def score(system: System, g: Array) -> list[Array]:
    """Return the gradient of <g, log likelihood> in the arrays of a system.

    Parameters
    ----------
    system : System
    g : (N,) array
    """
    past = arrays.forward(system)
    total = _Sums(system)
    num_sequences, T, P = system.seen.shape
    D = system.A.shape[-1]
    r, N = onp.zeros((num_sequences, D)), onp.zeros((len(past.S[0]), D, D))
    eye, live = onp.eye(D), system.live
    g1, g2 = g[:, None], g[:, None, None]
    for t in reversed(range(T)):
        S, Xi, mean = past.S[t], past.Xi[t], past.mean[t]
        cov, filtered = square(S), square(S @ Xi)
        smoothed = mean + apply(S, past.xi[t])
        if t + 1 < T:
            A, on = at_step(system.A, t), live[:, t + 1]
            if not on.all():  # nothing follows: what comes back says nothing
                r, N = (
                    onp.where(on[:, None], r, 0.0),
                    onp.where(on[:, None, None], N, 0),
                )
            back, G = apply(transpose(A), r), transpose(A) @ N @ A
            smoothed = smoothed + apply(filtered, back)
            total.add("b", t, g1 * r)
            total.add("Q", t, g2 * (outer(r, r) - N) / 2)
            total.add("A", t, g2 * (outer(r, smoothed) - N @ A @ filtered))
        else:
            back, G = onp.zeros((num_sequences, D)), onp.zeros((len(S), D, D))
        C, _, _, _ = observed_part(system, t, mean)
        inverse = arrays.inverse(past.root_F[t])
        e, H = past.e[t], inverse @ C
        K = S @ past.K[t] @ inverse
        rest = eye - K @ C
        error = apply(transpose(inverse), e) - apply(transpose(K), back)
        of_R = square(transpose(inverse)) + transpose(K) @ G @ K
        seen = system.seen[:, t].astype(float) * live[:, t, None]
        mask = seen[..., None] * seen[:, None]
        error = error * seen
        total.add("d", t, g1 * error)
        total.add("y", t, -g1 * error)
        total.add("R", t, g2 * mask * (outer(error, error) - of_R) / 2)
        of_C = (transpose(inverse) @ H - transpose(K) @ G @ rest) @ cov
        of_C = outer(error, smoothed) - seen[..., None] * of_C
        total.add("C", t, g2 * of_C)
        r = apply(transpose(H), e) + apply(transpose(rest), back)
        N = transpose(H) @ H + transpose(rest) @ G @ rest
    total.add("m0", None, g1 * r)
    total.add("P0", None, g2 * (outer(r, r) - N) / 2)
    return [total.bars[name] for name in System._fields[:NUM_ARRAYS]]
