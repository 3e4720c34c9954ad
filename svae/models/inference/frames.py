r"""What frames say of their states, where x is independent from frame to frame.

Half of the alternation of `svae.models.inference.fixed_point`, compiled: given
probabilities s of the states, x_t is Gaussian with the potentials ``P's + r_t``, and
its features f have the evidence ``P E[f]``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as onp
from autograd.extend import defvjp_argnums, primitive

from svae import kernels
from svae.autodiff.operations import joined
from svae.errors import NotPositiveDefinite
from svae.kernels.arguments import node_input

__all__ = ["evidence", "evidence_of_each", "means"]


@primitive
def evidence(
    states: Any, components: Any, node_J: Any, node_h: Any, lengths: Any, told: Any
) -> Any:
    """Return P E[f], (N, T, K), zeros at frames that are not told of.

    Parameters
    ----------
    states : (N, T, K)
    components : (K, D D + D)
        P.
    node_J, node_h : (N, T, D) or (N, T, D, D); (N, T, D)
    lengths : (N,)
    told : (N, T) bool
        Frames with data, within the lengths.

    Raises
    ------
    NotPositiveDefinite
        If x of a frame has no proper Gaussian.
    """
    return _moments(states, components, node_J, node_h, lengths, told)[0]


def evidence_of_each(components: Any, node_J: Any, node_h: Any) -> onp.ndarray:
    """Log normalizers (N, T, K) of x given each state alone, with its node."""
    shape = node_h.shape[:2]
    logZ, _, _ = _named(shape, components, _as_rows(node_J, node_h), None, None)
    return onp.reshape(logZ, (*shape, -1))


def means(potentials: Any, node_J: Any, node_h: Any) -> onp.ndarray:
    """Means (N, T, D) of x with the same potentials (D D + D,), and its node."""
    component, rows = potentials[None], _as_rows(node_J, node_h)
    one = onp.ones((len(rows[1]), 1))
    mean = _named(node_h.shape[:2], component, rows, None, one)[2]
    return onp.reshape(mean, node_h.shape)


def _moments(
    states: Any, components: Any, node_J: Any, node_h: Any, lengths: Any, told: Any
) -> tuple[Any, Any, Any]:
    """Return evidence (N, T, K), and second moments and means of x as rows."""
    finite = kernels.are_finite([node_J, node_h])
    node_input("node J", node_J, lengths, finite)
    node_input("node h", node_h, lengths, finite)
    rows = _as_rows(node_J, node_h)
    weights = onp.reshape(told, -1).astype(onp.float64)
    flat = onp.reshape(states, (-1, states.shape[-1]))
    of_states, second_moment, mean = _named(told.shape, components, rows, weights, flat)
    return onp.reshape(of_states, states.shape), second_moment, mean


def _as_rows(node_J: Any, node_h: Any) -> tuple[Any, Any]:
    """Node potentials of all frames, one after the other."""
    rows = tuple(onp.reshape(part, (-1, *part.shape[2:])) for part in (node_J, node_h))
    return rows[0], rows[1]


def _named(shape: tuple[int, int], *arguments: Any) -> tuple[Any, Any, Any]:
    """Call the kernel, and name a frame that fails by its sequence and step."""
    try:
        return kernels.mixture_evidence(*arguments)
    except NotPositiveDefinite as error:
        sequence, step = onp.unravel_index(error.sequence, shape)
        raise NotPositiveDefinite(int(sequence), int(step)) from None


def _evidence_vjp(argnums: Sequence[int], ans: Any, args: Any, kwargs: Any) -> Any:
    states, components, node_J, node_h, _, told = args
    number = told.size
    weights = onp.reshape(told, -1).astype(onp.float64)
    flat = onp.reshape(states, (number, -1))

    def pull_back(g: Any) -> Any:
        evidence_bar = onp.reshape(g, (number, -1))
        states_bar, J_bar, h_bar = kernels.mixture_evidence_vjp(
            components, _as_rows(node_J, node_h), weights, flat, evidence_bar
        )

        def components_bar() -> Any:
            # e = P E[f(x)], and P's are potentials of x
            _, second_moment, mean = _moments(*args)
            features = joined(1, second_moment, mean)
            of_x = joined(1, J_bar, h_bar)
            counted = weights[:, None]
            return (counted * evidence_bar).T @ features + (counted * flat).T @ of_x

        def node_J_bar() -> Any:
            bar = J_bar
            if node_J.ndim == 3:
                bar = onp.diagonal(bar, axis1=-1, axis2=-2)
            return bar.reshape(node_J.shape)

        cotangents: dict[int, Callable[[], Any]] = {
            0: lambda: states_bar.reshape(states.shape),
            1: components_bar,
            2: node_J_bar,
            3: lambda: h_bar.reshape(node_h.shape),
        }
        return [cotangents[argnum]() for argnum in argnums]

    return pull_back


defvjp_argnums(evidence, _evidence_vjp)
