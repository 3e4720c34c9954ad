r"""Optimisers as pure functions: state in, state out.

Two kinds of parameter, two kinds of step.  Networks take Adam steps (Kingma and Ba,
2015).  The factor q(theta) takes steps along the natural gradient,

.. math:: \eta \leftarrow \eta + \rho\,\tilde\nabla_\eta \mathcal{L},

where the conjugate part alone is a convex combination of valid parameters and stays
valid for 0 < rho <= 1, but the correction term of Johnson et al. (2016), Eq. (4), can
leave the domain.  The step of a factor, and there of a state, that does is halved until
it does not, and the halvings are counted.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.autodiff.trees import from_vector, leaves, to_vector

__all__ = [
    "AdamState",
    "adam_init",
    "adam_step",
    "adam_step_of_parts",
]


class AdamState(NamedTuple):
    """Moments of Adam over a flat parameter vector of length P."""

    step: int
    mean: np.ndarray
    """(P,), running mean of the gradient."""
    square: np.ndarray
    """(P,), running mean of the squared gradient."""


def adam_init(size: int) -> AdamState:
    """Return the state of Adam before its first step."""
    return AdamState(0, np.zeros(size), np.zeros(size))


def adam_step(
    parameters: Any,
    gradient: Any,
    state: AdamState,
    learning_rate: float,
    decay: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> tuple[Any, AdamState]:
    """Take one ascent step of Adam.

    Parameters
    ----------
    parameters, gradient : trees of arrays, one structure, of P entries altogether
        Parameters and the gradient of the objective to be *maximised*.
    state : AdamState
    learning_rate : float
    decay : pair of floats
        Decay rates of the two moments.
    epsilon : float
        Added to the root of the second moment, as in the paper.

    Returns
    -------
    parameters : tree of views of one vector (P,)
    state : AdamState

    Raises
    ------
    FloatingPointError
        If the gradient is not finite.

    References
    ----------
    Kingma and Ba (2015), Algorithm 1.
    """
    step = state.step + 1
    unbias = np.sqrt(1 - decay[1] ** step)
    rate = learning_rate * unbias / (1 - decay[0] ** step)
    vector, mean, square = kernels.adam(
        leaves(parameters),
        leaves(gradient),
        state.mean,
        state.square,
        rate,
        epsilon * unbias,
        *decay,
    )
    return from_vector(parameters, vector), AdamState(step, mean, square)


def adam_step_of_parts(
    parameters: Sequence[Any],
    gradients: Sequence[Any],
    state: AdamState,
    learning_rates: Sequence[float | None],
) -> tuple[tuple[Any, ...], AdamState]:
    """Take one ascent step of Adam with a learning rate for each part.

    Parameters
    ----------
    parameters, gradients : sequences of trees, one for each part
    state : AdamState
        Of all parts.
    learning_rates : sequence of floats or None
        None for a part that stays as it is, with its moments; its gradient is not
        looked at.

    Returns
    -------
    parameters : tuple of trees
    state : AdamState

    Raises
    ------
    FloatingPointError
        If the gradient of a part is not finite.
    """
    first = learning_rates[0]
    if first is not None and all(rate == first for rate in learning_rates):
        return adam_step(tuple(parameters), tuple(gradients), state, first)
    moved, mean, square, start = [], [], [], 0
    parts = zip(parameters, gradients, learning_rates, strict=True)
    for part, gradient, rate in parts:
        own = slice(start, start := start + to_vector(part).size)
        moments = AdamState(state.step, state.mean[own], state.square[own])
        if rate is not None:
            part, moments = adam_step(part, gradient, moments, rate)
        moved.append(part)
        mean.append(moments.mean)
        square.append(moments.square)
    joined = AdamState(state.step + 1, np.concatenate(mean), np.concatenate(square))
    return tuple(moved), joined
