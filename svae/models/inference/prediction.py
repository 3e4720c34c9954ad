r"""What a known theta says of steps that follow the last one with data.

Moments of x_t and probabilities of z_t, by recursion: exactly, for given moments of the
last step.  With p_k the probability of state k, and m_k and V_k mean and covariance of
x given it,

.. math::
    p'_k = \sum_j p_j \pi_{jk}, \qquad w_{jk} = p_j \pi_{jk} / p'_k, \qquad
    \bar m_k = \sum_j w_{jk} m_j, \\
    m'_k = A_k \bar m_k + b_k, \qquad
    V'_k = A_k \sum_j w_{jk} (V_j + (m_j - \bar m_k)(m_j - \bar m_k)') A_k' + Q_k .

A model without states has one; where x is not tied to its past, A = 0.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["ByState", "Moments", "after", "laws", "merged", "predicted"]


class ByState(NamedTuple):
    """What is known of z, and of x given it: of N sequences, or of steps of these."""

    probs: np.ndarray
    """(..., K)"""
    means: np.ndarray
    """(..., K, D)"""
    covs: np.ndarray
    """(..., K, D, D)"""


class Moments(NamedTuple):
    """What is known of x and z, at one step or at H steps of N sequences."""

    mean: np.ndarray
    """(N, D) or (N, H, D)"""
    cov: np.ndarray
    """(N, D, D) or (N, H, D, D)"""
    states: np.ndarray | None
    """(N, K) or (N, H, K), probabilities of the states, or None without any."""


def predicted(latent: Any, theta: Any, last: Moments, num_steps: int) -> Moments:
    """Return the moments of the ``num_steps`` steps after the last.

    Parameters
    ----------
    latent : LatentModel
        A chain over time.
    theta : dict
        One theta, as draws of q(theta) are.
    last : Moments
        Of the last step with data; x and z are independent there.
    num_steps : int

    Raises
    ------
    FloatingPointError
        If means grow beyond the range of numbers, naming sequence and step.  Entries of
        covariances are ``inf`` there.
    """
    dynamics = laws(latent, theta)
    num_states = len(dynamics[1])
    transitions = theta.get("transitions", np.ones((1, 1)))
    number = len(last.mean)
    now = ByState(
        np.ones((number, 1)) if last.states is None else last.states,
        np.repeat(last.mean[:, None], num_states, axis=1),
        np.repeat(last.cov[:, None], num_states, axis=1),
    )
    steps = []
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(num_steps):
            now = after(now, transitions, dynamics)
            of_x = merged(now.probs[:, None], now.means, now.covs)
            steps.append((of_x[0][:, 0], of_x[1][:, 0], now.probs))
            check_finite(steps[-1][0], step)
    mean, cov, states = (
        np.stack(column, axis=1) for column in zip(*steps, strict=True)
    )
    cov = np.where(np.isfinite(cov).all(axis=(2, 3), keepdims=True), cov, np.inf)
    return Moments(mean, cov, None if last.states is None else states)


def after(
    now: ByState,
    transitions: np.ndarray,
    dynamics: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> ByState:
    """Return the moments of the next step given its state, of N sequences.

    Parameters
    ----------
    now : ByState
        Of one step, (N, K) and so on in front.
    transitions : (K, K)
    dynamics : (A, b, Q)
        As `laws` returns them.
    """
    A, b, Q = dynamics
    joint = now.probs[:, :, None] * transitions
    probs = joint.sum(axis=1)
    shares = np.divide(
        joint,
        probs[:, None],
        out=np.zeros_like(joint),
        where=probs[:, None] > 0,
    )
    center, within = merged(np.swapaxes(shares, 1, 2), now.means, now.covs)
    means = np.einsum("kij,nkj->nki", A, center) + b
    covs = A @ within @ np.swapaxes(A, 1, 2) + Q
    return ByState(probs, means, covs)


def merged(
    shares: np.ndarray, means: np.ndarray, covs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return moments (N, L, ...) of mixtures with shares (N, L, K) of K Gaussians."""
    mean = shares @ means
    apart = means[:, None] - mean[:, :, None]
    cov = np.einsum("nlk,nkij->nlij", shares, covs)
    return mean, cov + np.einsum("nlk,nlki,nlkj->nlij", shares, apart, apart)


def laws(latent: Any, theta: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A (K, D, D), b (K, D) and Q (K, D, D) of x given the step before it.

    Raises
    ------
    TypeError
        If a latent model has other factors, and no method that tells.
    """
    if hasattr(latent, "transition_laws"):
        A, b, Q = latent.transition_laws(theta)
        return A, b, Q
    name = "dynamics" if latent.coupled else "components"
    if name not in theta:
        raise TypeError(
            f"{type(latent).__name__} cannot tell what follows the last frame with "
            "data: give it a method transition_laws (see svae.LatentModel), or leave "
            "out frames without data at the ends of sequences"
        )
    location, precision = (np.asarray(part, dtype=np.float64) for part in theta[name])
    if precision.ndim == 2:
        location, precision = location[None], precision[None]
    Q, dim = np.linalg.inv(precision), precision.shape[-1]
    if not latent.coupled:
        return np.zeros(Q.shape), location, Q
    if location.shape[-1] == dim:
        return location, np.zeros((len(location), dim)), Q
    return location[..., :dim], location[..., dim], Q


def check_finite(mean: np.ndarray, step: int) -> None:
    """Raise FloatingPointError unless all means (N, D) are numbers."""
    wrong = np.flatnonzero(~np.isfinite(mean).all(axis=1))
    if len(wrong):
        raise FloatingPointError(
            f"x of sequence {wrong[0]} has grown beyond the range of numbers, "
            f"{step + 1} steps after its last frame with data: the dynamics grow from "
            "step to step. Leave out frames without data at the end"
        )
