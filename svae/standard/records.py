"""Parameters and results in the words of state-space models.

The records are plain tuples with names. A derivative is one of an array: make the
record inside of the function that is differentiated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from svae.types import Array

__all__ = [
    "Filtered",
    "HMMFiltered",
    "HMMSmoothed",
    "LinearGaussian",
    "Predicted",
    "Sampled",
    "Smoothed",
    "check_effects",
    "check_record",
]


class LinearGaussian(NamedTuple):
    """A linear-Gaussian state-space model.

    With x_1 ~ N(m0, P0), before the first observation,

        x_{t+1} = A_t x_t + B_t u_t + N(0, Q_t),    y_t = C_t x_t + D_t u_t + N(0, R_t).

    A matrix is constant, or has a leading axis of steps, or axes of sequences and steps
    of which either may be 1. Transitions have T-1 steps: entry t leads from x_t to
    x_{t+1}. Covariances may be singular.
    """

    A: Array
    """(D, D), (T-1, D, D) or (N, T-1, D, D)."""
    Q: Array
    """Covariance of the dynamics' noise, in the shapes of A."""
    C: Array
    """(P, D), (T, P, D) or (N, T, P, D)."""
    R: Array
    """Covariance of the observations' noise, (P, P), (T, P, P) or (N, T, P, P)."""
    m0: Array
    """Mean of x_1, (D,) or (N, D)."""
    P0: Array
    """Covariance of x_1, (D, D) or (N, D, D)."""
    B: Array | None = None
    """Effect of the inputs on the next state, (D, U), (T-1, D, U) or (N, T-1, D, U)."""
    D: Array | None = None
    """Effect of the inputs on the observation, (P, U), (T, P, U) or (N, T, P, U)."""


class Filtered(NamedTuple):
    """x_t given y_1..y_t; without the axis N for y (T, P); zero past a length."""

    mean: Array
    """(N, T, D)."""
    cov: Array
    """(N, T, D, D)."""
    log_likelihood: Array
    """(N,), of all observations."""


class Predicted(NamedTuple):
    """x_t and y_t given y_1..y_{t-1}; without the axis N for y (T, P)."""

    mean: Array
    """Of x_t, (N, T, D)."""
    cov: Array
    """(N, T, D, D)."""
    y_mean: Array
    """Of y_t, (N, T, P), of missing entries too."""
    y_cov: Array
    """(N, T, P, P)."""
    log_density: Array
    """(N, T), of what was observed of y_t; the sum over steps is the log likelihood."""


class Smoothed(NamedTuple):
    """x_t given all observations; without the axis N for y (T, P)."""

    mean: Array
    """(N, T, D)."""
    cov: Array
    """(N, T, D, D)."""
    cross_cov: Array
    """Cov(x_t, x_{t+1}), (N, T-1, D, D): rows for x_t; no second moments."""
    log_likelihood: Array
    """(N,)."""


class Sampled(NamedTuple):
    """Draws of states and observations."""

    x: Array
    """(S, T, D)."""
    y: Array
    """(S, T, P)."""


class HMMFiltered(NamedTuple):
    """Probabilities of z_t given the observations up to t, or those before t."""

    probabilities: Array
    """(N, T, K), without the axis N for log likelihoods (T, K); zero past a length."""
    log_likelihood: Array
    """(N,)."""


class HMMSmoothed(NamedTuple):
    """Probabilities of the states given all observations."""

    probabilities: Array
    """(N, T, K), without the axis N for log likelihoods (T, K); zero past a length."""
    pairs: Array | None
    """P(z_t = i, z_{t+1} = j), (N, T-1, K, K); None unless they were asked for."""
    transitions: Array
    """Expected numbers of transitions (K, K): pairs, summed over all sequences."""
    log_likelihood: Array
    """(N,)."""


def check_record(params: Any) -> None:
    """Raise TypeError if parameters are no `LinearGaussian`."""
    if not isinstance(params, LinearGaussian):
        raise TypeError(f"params is {type(params).__name__}, wanted a LinearGaussian")


def check_effects(params: LinearGaussian, u: Any) -> None:
    """Raise ValueError if inputs have no effects, or effects no inputs."""
    if (u is None) != (params.B is None and params.D is None):
        what = "B or D" if u is None else "u"
        raise ValueError(f"{what} is given without {'u' if u is None else 'B or D'}")
