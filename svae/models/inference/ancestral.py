r"""Ancestral draws: the steps of a path one after the other, as the model makes them.

.. math:: z_{t+1} \sim \pi_{z_t}, \qquad
          x_{t+1} = A x_t + b + Q^{1/2} \epsilon_{t+1}, \quad
          (A, b, Q) \text{ those of } z_{t+1}.

Nothing is solved backwards in time, so that dynamics may grow; and the law of a step
does not depend on how many follow it.

A growing path leaves the range of float64 in the end, and its covariance in half that
time.  What does is ``inf``, with its sign, and comes back if the dynamics bring it
back: the recursions run on numbers with an exponent of their own (`Scaled`), without
which ``inf - inf`` would be NaN.  That of covariances runs on their roots, which are as
exact as x; differences of squares are not, where dynamics shrink what grew before.
"""

from typing import Any, NamedTuple

import numpy as np

from svae.families import categorical
from svae.families.arrays import inverse_root, matvec, symmetric, transpose

__all__ = [
    "Law",
    "Transition",
    "gaussian_law",
    "gaussian_path",
    "of_path",
    "state_path",
    "transition",
]


class Law(NamedTuple):
    """A Gaussian, N(mean, root root')."""

    mean: np.ndarray
    """(..., D)"""
    root: np.ndarray
    """(..., D, D), the lower Cholesky factor of the covariance."""


class Transition(NamedTuple):
    """The law of a step given the one before it, ``A x + b`` plus ``root`` noise."""

    dynamics: np.ndarray
    """A, (..., D, D)"""
    bias: np.ndarray
    """b, (..., D)"""
    root: np.ndarray
    """(..., D, D), the lower Cholesky factor of Q."""


class Scaled(NamedTuple):
    """``value`` times 2 to the power of ``exponent``.

    Powers of two round nothing, so that within the range of float64 a recursion on
    these is that on plain numbers, to the last bit.
    """

    value: np.ndarray
    """(S, ...), largest below 1 if its exponent is not 0."""
    exponent: np.ndarray
    """(S,) integers, not negative."""

    @classmethod
    def of(cls, value: np.ndarray, exponent: Any = 0) -> "Scaled":
        """Scale an array (S, ...) to have entries below 1, unless all are."""
        axes = tuple(range(1, value.ndim))
        own = np.frexp(np.max(np.abs(value), axis=axes))[1]
        shift = np.maximum(own, -exponent)
        return cls(times_power(value, -shift), exponent + shift)

    def mapped(self, matrix: np.ndarray, added: np.ndarray) -> "Scaled":
        """Multiply a vector by a matrix and add to it."""
        added = times_power(added, -self.exponent)
        return Scaled.of(matvec(matrix, self.value) + added, self.exponent)

    def mapped_root(self, matrix: np.ndarray, added: np.ndarray) -> "Scaled":
        """Multiply a covariance RR' by a matrix from both sides and add to it, by R.

        ``ARR'A' + QQ' = [AR Q][AR Q]'``, of which a triangular root is left.
        """
        added = times_power(added, -self.exponent)
        both = np.concatenate([matrix @ self.value, added], axis=-1)
        triangle: Any = np.linalg.qr(transpose(both), mode="r")
        return Scaled.of(transpose(triangle), self.exponent)

    def plain(self) -> np.ndarray:
        """Return the numbers, ``inf`` or ``-inf`` beyond the range of float64."""
        return times_power(self.value, self.exponent)

    def squared(self) -> np.ndarray:
        """Return RR' of roots, as `plain` does."""
        return times_power(square(self.value), 2 * self.exponent)


def times_power(array: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Multiply an array (S, ...) by powers of two (S,): to ``inf`` or 0 if need be."""
    powers = exponents.reshape(-1, *(1,) * (array.ndim - 1))
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(array, powers)


def gaussian_law(J: np.ndarray, h: np.ndarray) -> Law:
    """Return the Gaussian with natural parameters J (..., D, D) and h (..., D)."""
    root = inverse_root(-(J + transpose(J)))
    return Law(matvec(root, matvec(transpose(root), h)), root)


def transition(pair: Any, shifts: Any) -> Transition:
    """Return the law of x' given x that pair potentials have.

    Parameters
    ----------
    pair : (J11, J12, J22)
        (..., D, D) each, ``A'Q^-1`` and ``-Q^-1 / 2`` the second and third.  The first
        only weighs x: with that of a theta, ``-A'Q^-1 A / 2``, the law of x' given x
        integrates to one for any x; with that of an expectation E[t(theta)] it does
        not, and steps to come would say something of x.
    shifts : (h1, h2) or None
        Linear terms (..., D) of x and x', of which the second is ``Q^-1 b``.
    """
    _, J12, J22 = pair
    root = inverse_root(-(J22 + transpose(J22)))
    dynamics = root @ (transpose(root) @ transpose(J12))
    if shifts is None:
        return Transition(dynamics, np.zeros(dynamics.shape[:-1]), root)
    return Transition(dynamics, matvec(root, matvec(transpose(root), shifts[1])), root)


def state_path(init: Any, pair: Any, uniforms: np.ndarray) -> np.ndarray:
    """Draw paths of states (S, H) int64, by inverse distribution functions.

    Parameters
    ----------
    init : (K,) or (S, K)
        Log potentials of the first state; they and rows of ``pair`` need not be
        normalised.
    pair : (K, K) or (S, K, K)
        Log potentials of transitions, shared or of each path.
    uniforms : (S, H)
        In [0, 1).
    """
    states = np.empty(uniforms.shape, dtype=np.int64)
    law = np.broadcast_to(init, (len(uniforms), init.shape[-1]))
    for step, of_step in enumerate(uniforms.T):
        states[:, step] = categorical.quantile((law,), of_step)
        law = of_path(pair, states[:, step])
    return states


def gaussian_path(
    first: Law, transitions: Transition, states: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw x on paths of states (S, H).

    Parameters
    ----------
    first : Law
        Of the first step of each path, S in front.
    transitions : Transition
        Of each of K states, shared or of each path: K or (S, K) in front.
    states : (S, H) int array
        Those of later steps select transitions.
    noise : (S, H, D)
        Standard normal draws.

    Returns
    -------
    samples, mean : (S, H, D)
    cov : (S, H, D, D)
        Of each step.  Numbers beyond the range of float64 are ``inf`` or ``-inf``.
    """
    x = Scaled.of(first.mean + matvec(first.root, noise[:, 0]))
    mean, root = (Scaled.of(part) for part in first)
    steps = [(x, mean, root)]
    for step in range(1, states.shape[1]):
        A, b, of_noise = (
            of_path(part, states[:, step], axes)
            for part, axes in zip(transitions, (2, 1, 2), strict=True)
        )
        x = x.mapped(A, b + matvec(of_noise, noise[:, step]))
        mean, root = mean.mapped(A, b), root.mapped_root(A, of_noise)
        steps.append((x, mean, root))
    return (
        np.stack([x.plain() for x, _, _ in steps], axis=1),
        np.stack([mean.plain() for _, mean, _ in steps], axis=1),
        np.stack([root.squared() for _, _, root in steps], axis=1),
    )


def square(root: np.ndarray) -> np.ndarray:
    """Return the symmetric matrices ``root root'``, (..., D, D)."""
    return symmetric(root @ transpose(root))


def of_path(rows: np.ndarray, states: np.ndarray, axes: int = 1) -> np.ndarray:
    """Select rows by the states (S, ...) of paths.

    Rows are (K, *row), or (S, K, *row) with a set for each path; ``axes`` is the number
    of those of a row.
    """
    if rows.ndim == 1 + axes:
        return rows[states]
    paths = np.arange(len(states)).reshape((-1,) + (1,) * (states.ndim - 1))
    return rows[paths, states]
