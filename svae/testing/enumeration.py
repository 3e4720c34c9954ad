"""Graphs with evidence by enumeration: a dense Gaussian for every path of the states.

What `svae.models.inference.structured` does by message passing, written out for one
sequence.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from svae.types import Array, Integers, Mask, Potentials

__all__ = ["DenseJoint", "Enumerated", "enumerated", "path_joint", "paths_of"]

Stats = Mapping[str, Any]
"""Parts of a message, or of statistics, by the name of the factor."""


class DenseJoint(NamedTuple):
    """exp(x'J x + h'x + constant) over a whole path x (T D), in float64."""

    J: Any
    """(T D, T D)"""
    h: Any
    """(T D,)"""
    constant: Any

    @property
    def cov(self) -> Array:
        """Covariance (T D, T D) of the Gaussian."""
        return np.linalg.inv(-(self.J + self.J.T))

    @property
    def mean(self) -> Array:
        """Mean (T D,) of the Gaussian."""
        return self.cov @ self.h

    @property
    def half_log_det(self) -> Array:
        """Half the log determinant of the precision."""
        return 0.5 * np.linalg.slogdet(-(self.J + self.J.T))[1]

    def log_integral(self) -> Array:
        """Return the log of the integral over x."""
        size = len(self.h)
        gaussian = 0.5 * self.h @ self.mean - self.half_log_det
        return self.constant + gaussian + 0.5 * size * np.log(2 * np.pi)

    def log_density(self, x: Array) -> Array:
        """Return the exponent at x (T, D)."""
        x = x.ravel()
        return x @ self.J @ x + self.h @ x + self.constant


def path_joint(
    stats: Stats,
    path: Sequence[int],
    dim: int,
    node: Potentials | None = None,
    belief: Any = None,
    observed: Mask | None = None,
) -> DenseJoint:
    """Write out <stats, t(z, x)> of a path z as a function of x, plus <node, x>.

    The terms are those that z selects: components of every step, or the initial factor
    of the first and the dynamics of every other step.

    Parameters
    ----------
    stats : dict
        Statistics, or a message, of one draw of theta.
    path : sequence of T ints
        The states; without states in the statistics it only says how many steps.
    dim : int
        Of x at a step.
    node : (J, h), optional
        J (T, D) or (T, D, D) and h (T, D).
    belief : (J, h, log probabilities), optional
        A Gaussian and a distribution of the first step, in place of initial factors.
    observed : (T,) bool array, optional
        Only the components of these steps count.

    Examples
    --------
    >>> stats = {"components": (-np.eye(2) / 2, np.zeros(2), 0.0, 0.0)}
    >>> float(path_joint(stats, [0, 0, 0], dim=2).log_integral())
    0.0
    """
    T = len(path)
    J, h = np.zeros((T, dim, T, dim)), np.zeros((T, dim))
    constant: Any = 0.0
    if "weights" in stats:
        first = stats["weights"][0] if belief is None else belief[2]
        constant = first[path[0]]
    for t in range(1, T if "transitions" in stats else 0):
        constant = constant + stats["transitions"][0][path[t - 1], path[t]]

    def select(factor: str, t: int) -> Any:
        if "weights" not in stats:
            return stats[factor]
        return [part[path[t]] for part in stats[factor]]

    def add_gaussian(t: int, part: Any) -> None:
        nonlocal constant
        J[t, :, t] += part[0]
        h[t] += part[1]
        constant = constant + part[2] + part[3] - 0.5 * dim * np.log(2 * np.pi)

    if "components" in stats:
        counted = np.arange(T) if observed is None else np.flatnonzero(observed)
        for t in counted.tolist():
            add_gaussian(t, select("components", t))
    else:
        if belief is None:
            add_gaussian(0, select("init", 0))
        else:
            gaussian = DenseJoint(belief[0], belief[1], 0.0)
            add_gaussian(0, (*belief[:2], -gaussian.log_integral(), 0.0))
            constant = constant + 0.5 * dim * np.log(2 * np.pi)
        for t in range(1, T):
            J11, J12, J22, half_log_det = select("dynamics", t)
            J[t - 1, :, t - 1] += J11[:dim, :dim]
            J[t - 1, :, t] += J12[:dim]
            J[t, :, t] += J22
            if len(J11) > dim:  # u = [x; 1]
                h[t - 1] += J11[:dim, dim] + J11[dim, :dim]
                h[t] += J12[dim]
                constant = constant + J11[dim, dim]
            constant = constant + half_log_det - 0.5 * dim * np.log(2 * np.pi)
    if node is not None:
        for t, part in enumerate(node[0]):
            J[t, :, t] += part if part.ndim == 2 else np.diag(part)
        h += node[1]
    size = T * dim
    return DenseJoint(J.reshape(size, size), h.reshape(size), constant)


def paths_of(num_states: int, num_steps: int) -> list[tuple[int, ...]]:
    """List every path of the states."""
    return list(product(range(num_states), repeat=num_steps))


class Enumerated:
    """The law q(x, z) of one sequence, a mixture of Gaussians over all of x.

    Parameters
    ----------
    latent : latent model
    graph : dict
        phi_PGM, like expected statistics.
    node : (J, h)
        (T, D) each, or J (T, D, D).
    stats : dict, optional
        The message, from which a frame without data takes its component, normalised.
    observed : (T,) bool array, optional
    belief : tuple, optional
        J and h of x_1, and log probabilities of z_1.
    """

    def __init__(
        self,
        latent: Any,
        graph: Stats,
        node: Potentials,
        stats: Stats | None = None,
        observed: Mask | None = None,
        belief: Any = None,
    ) -> None:
        self.dim, self.num_steps = latent.latent_dim, len(node[1])
        self.num_states = getattr(latent, "num_states", 1)
        self.belief = belief
        # x_t of a chain is tied to its neighbours' and always there
        self.observed = None if latent.coupled else observed
        self.paths = paths_of(self.num_states, self.num_steps)
        self.node = node
        told = [self.joint(graph, path, node) for path in self.paths]
        self.graph, self.told = graph, told
        joints = [
            self.filled(joint, stats, path)
            for joint, path in zip(told, self.paths, strict=True)
        ]
        self.scores = np.array([joint.log_integral() for joint in joints])
        self.log_normalizer = logsumexp(self.scores)
        probs = np.exp(self.scores - np.max(self.scores))
        self.probs = probs / np.sum(probs)  # of large scores, too, they sum to 1
        self.means = np.array([joint.mean for joint in joints])
        covs = np.array([joint.cov for joint in joints])
        self.seconds = covs + np.einsum("pi,pj->pij", self.means, self.means)

    def joint(
        self, stats: Stats, path: Sequence[int], node: Potentials | None = None
    ) -> DenseJoint:
        """Exponent of the factors of observed steps."""
        return path_joint(stats, path, self.dim, node, self.belief, self.observed)

    def filled(self, joint: DenseJoint, stats: Any, path: Sequence[int]) -> DenseJoint:
        """Add the normalised components of steps without data."""
        if self.observed is None:
            return joint
        T, D = self.num_steps, self.dim
        J, h = joint.J.reshape(T, D, T, D).copy(), joint.h.reshape(T, D).copy()
        constant = joint.constant
        J_of_states, h_of_states, *_ = stats["components"]
        for t in np.flatnonzero(~self.observed).tolist():
            part = DenseJoint(J_of_states[path[t]], h_of_states[path[t]], 0.0)
            J[t, :, t] += part.J
            h[t] += part.h
            constant = constant - part.log_integral()
        return DenseJoint(J.reshape(T * D, T * D), h.ravel(), constant)

    def expectation(self, joints: Sequence[DenseJoint]) -> Array:
        """E_q of one quadratic function of x for each path."""
        parts = [
            np.sum(joint.J * second) + joint.h @ mean + joint.constant
            for joint, second, mean in zip(
                joints, self.seconds, self.means, strict=True
            )
        ]
        return self.probs @ parts

    def expected_log_density(self, stats: Stats) -> Array:
        """E_q E log p(x, z | theta), of what follows a belief."""
        total = self.expectation([self.joint(stats, path) for path in self.paths])
        if self.belief is None:
            return total
        T, D = self.num_steps, self.dim
        J, h, log_probs = self.belief
        first = np.zeros((T * D, T * D)), np.zeros(T * D)
        constant: float | Array = 0.0
        if log_probs is None:
            constant = -DenseJoint(J, h, 0.0).log_integral()
            first[0][:D, :D], first[1][:D] = J, h
        beliefs = [
            DenseJoint(
                *first, constant + (0.0 if log_probs is None else log_probs[path[0]])
            )
            for path in self.paths
        ]
        return total - self.expectation(beliefs)

    @property
    def evidence(self) -> Array:
        """E_q <r, t(x)>."""
        J, h = self.node
        second = np.einsum("ptitj->ptij", self.by_step(self.seconds))
        if J.ndim == 2:
            second = np.einsum("ptii->pti", second)
        axes = tuple(range(1, second.ndim))
        mean = self.means.reshape(len(self.paths), -1)
        return self.probs @ (np.sum(J * second, axes) + mean @ h.ravel())

    def kl(self, stats: Stats) -> Array:
        """KL(q(x, z) || exp E log p(x, z | theta)) of observed steps."""
        return (
            self.evidence
            + self.expected_log_density(self.graph)
            - self.log_normalizer
            - self.expected_log_density(stats)
        )

    def by_step(self, moments: Any) -> Any:
        """Give (paths, T D, T D) an axis for every step and dimension."""
        return moments.reshape((-1, *(self.num_steps, self.dim) * 2))

    @property
    def joint_mean(self) -> Any:
        """E x of the whole sequence, (T D,)."""
        return self.probs @ self.means

    @property
    def joint_second(self) -> Any:
        """E x x' of the whole sequence, (T D, T D)."""
        return np.tensordot(self.probs, self.seconds, 1)

    @property
    def mean(self) -> Array:
        """E x of every step, (T, D)."""
        return self.joint_mean.reshape(self.num_steps, self.dim)

    @property
    def second_moment(self) -> Any:
        """E x x' of every step, (T, D, D)."""
        return np.einsum("titj->tij", self.by_step(self.joint_second)[0])

    @property
    def states(self) -> Any:
        """(T, K), probabilities of z_t."""
        states = np.zeros((self.num_steps, self.num_states))
        for path, prob in zip(self.paths, self.probs, strict=True):
            states[np.arange(self.num_steps), path] += prob
        return states

    @property
    def best_path(self) -> tuple[int, ...]:
        """The most likely path of the states, x integrated out."""
        return self.paths[int(np.argmax(self.scores))]

    def log_density(self, x: Array) -> Array:
        """Log q(x) at the observed steps of x (T, D), z summed out."""
        logs = [joint.log_density(x) for joint in self.told]
        return logsumexp(logs) - self.log_normalizer

    def counted(self, stats: Stats) -> dict[str, Any]:
        """E_q[t(z, x)] of observed steps, slot by slot of the natural parameters."""
        D, T = self.dim, self.num_steps
        counts = {
            name: [np.zeros(np.shape(part)) for part in parts]
            for name, parts in stats.items()
        }
        kept = np.ones(T, dtype=bool) if self.observed is None else self.observed
        moments = self.means.reshape(-1, T, D), self.by_step(self.seconds)
        for path, p, x, xx in zip(self.paths, self.probs, *moments, strict=True):
            if "weights" in stats and self.belief is None:
                counts["weights"][0][path[0]] += p
            if "transitions" in stats:
                np.add.at(counts["transitions"][0], (path[:-1], path[1:]), p)
            for t in np.flatnonzero(kept).tolist() if "components" in stats else ():
                values = xx[t, :, t], x[t], 1.0, 1.0
                for part, value in zip(counts["components"], values, strict=True):
                    part[path[t]] += p * value
            if "init" in stats and self.belief is None:
                for i, value in enumerate((xx[0, :, 0], x[0], 1.0, 1.0)):
                    counts["init"][i] += p * value
            for t in range(1, T) if "dynamics" in stats else ():
                left, cross = xx[t - 1, :, t - 1], xx[t - 1, :, t]
                if len(stats["dynamics"][0]) > D:  # u = [x; 1]
                    left = np.block([[left, x[t - 1][:, None]], [x[t - 1], 1.0]])
                    cross = np.concatenate([cross, x[t][None]])
                values = left, cross, xx[t, :, t], 1.0
                for i, value in enumerate(values):
                    counts["dynamics"][i] += p * value
        return {name: tuple(parts) for name, parts in counts.items()}


def enumerated(
    latent: Any,
    graph: Stats,
    stats: Stats,
    node: Potentials,
    lengths: Integers | None = None,
    observed: Mask | None = None,
    belief: Any = None,
) -> list[Enumerated]:
    """List the `Enumerated` of every sequence of a batch.

    Parameters
    ----------
    latent : latent model
    graph, stats : dict
        phi_PGM, and the message.
    node : (J, h)
        J (N, T, D) or (N, T, D, D) and h (N, T, D).
    lengths : (N,) int array, optional
    observed : (N, T) bool array, optional
    belief : svae.models.Belief, optional
    """
    laws = []
    for n in range(len(node[1])):
        T = node[1].shape[1] if lengths is None else lengths[n]
        given = None
        if belief is not None and belief.given[n]:
            log_probs = None if belief.states is None else belief.states[n]
            given = belief.J[n], belief.h[n], log_probs
        mask = None if observed is None else observed[n, :T]
        own = node[0][n, :T], node[1][n, :T]
        laws.append(Enumerated(latent, graph, own, stats, mask, given))
    return laws
