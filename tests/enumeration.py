"""Graphs with evidence by enumeration: a dense Gaussian for every path of the states.

What `svae.models.inference.structured` does by message passing, written out for one
sequence.
"""

import numpy as np
from oracles import DenseJoint, path_joint, paths_of
from scipy.special import logsumexp

from svae.models import Belief


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
        What a frame without data takes its component from, normalised.
    observed : (T,) bool array, optional
    belief : tuple, optional
        J and h of x_1, and log probabilities of z_1.
    """

    def __init__(self, latent, graph, node, stats=None, observed=None, belief=None):
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

    def joint(self, stats, path, node=None):
        """Exponent of the factors of observed steps."""
        return path_joint(stats, path, self.dim, node, self.belief, self.observed)

    def filled(self, joint, stats, path):
        """Add the normalised components of steps without data."""
        if self.observed is None:
            return joint
        T, D = self.num_steps, self.dim
        J, h = joint.J.reshape(T, D, T, D).copy(), joint.h.reshape(T, D).copy()
        constant = joint.constant
        for t in np.flatnonzero(~self.observed):
            part = DenseJoint(*(x[path[t]] for x in stats["components"][:2]), 0.0)
            J[t, :, t] += part.J
            h[t] += part.h
            constant = constant - part.log_integral()
        return DenseJoint(J.reshape(T * D, T * D), h.ravel(), constant)

    def expectation(self, joints):
        """E_q of one quadratic function of x for each path."""
        parts = [
            np.sum(joint.J * second) + joint.h @ mean + joint.constant
            for joint, second, mean in zip(
                joints, self.seconds, self.means, strict=True
            )
        ]
        return self.probs @ parts

    def expected_log_density(self, stats):
        """E_q E log p(x, z | theta), of what follows a belief."""
        total = self.expectation([self.joint(stats, path) for path in self.paths])
        if self.belief is None:
            return total
        T, D = self.num_steps, self.dim
        J, h, log_probs = self.belief
        first = np.zeros((T * D, T * D)), np.zeros(T * D)
        constant = 0.0
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
    def evidence(self):
        """E_q <r, t(x)>."""
        J, h = self.node
        second = np.einsum("ptitj->ptij", self.by_step(self.seconds))
        if J.ndim == 2:
            second = np.einsum("ptii->pti", second)
        axes = tuple(range(1, second.ndim))
        mean = self.means.reshape(len(self.paths), -1)
        return self.probs @ (np.sum(J * second, axes) + mean @ h.ravel())

    def kl(self, stats):
        """KL(q(x, z) || exp E log p(x, z | theta)) of observed steps."""
        return (
            self.evidence
            + self.expected_log_density(self.graph)
            - self.log_normalizer
            - self.expected_log_density(stats)
        )

    def by_step(self, moments):
        """Give (paths, T D, T D) an axis for every step and dimension."""
        return moments.reshape((-1, *(self.num_steps, self.dim) * 2))

    @property
    def joint_mean(self):
        """E x of the whole sequence, (T D,)."""
        return self.probs @ self.means

    @property
    def joint_second(self):
        """E x x' of the whole sequence, (T D, T D)."""
        return np.tensordot(self.probs, self.seconds, 1)

    @property
    def mean(self):
        """(T, D)"""
        return self.joint_mean.reshape(self.num_steps, self.dim)

    @property
    def second_moment(self):
        """(T, D, D)"""
        return np.einsum("titj->tij", self.by_step(self.joint_second)[0])

    @property
    def states(self):
        """(T, K), probabilities of z_t."""
        states = np.zeros((self.num_steps, self.num_states))
        for path, prob in zip(self.paths, self.probs, strict=True):
            states[np.arange(self.num_steps), path] += prob
        return states

    @property
    def best_path(self):
        """The most likely path of the states, x integrated out."""
        return self.paths[int(np.argmax(self.scores))]

    def log_density(self, x):
        """Log q(x) at the observed steps of x (T, D), z summed out."""
        logs = [joint.log_density(x) for joint in self.told]
        return logsumexp(logs) - self.log_normalizer

    def counted(self, stats):
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
            for t in np.flatnonzero(kept) if "components" in stats else ():
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


def enumerated(latent, graph, stats, node, lengths=None, observed=None, belief=None):
    """List the `Enumerated` of every sequence of a batch; arguments as in `infer`."""
    laws = []
    for n in range(len(node[1])):
        T = node[1].shape[1] if lengths is None else lengths[n]
        given = None
        if belief is not None and belief.given[n]:
            log_probs = None if belief.states is None else belief.states[n]
            given = belief.J[n], belief.h[n], log_probs
        mask = None if observed is None else observed[n, :T]
        own = tuple(part[n, :T] for part in node)
        laws.append(Enumerated(latent, graph, own, stats, mask, given))
    return laws


def random_belief(rng, given, dim, num_states=None):
    """Draw a belief about the first steps of sequences of which ``given`` have one."""
    given = np.array(given)
    root = rng.standard_normal((len(given), dim, dim))
    J = -0.5 * (root @ np.swapaxes(root, -1, -2) + np.eye(dim))
    states = None
    if num_states is not None:
        states = np.log(rng.dirichlet(np.ones(num_states), len(given)))
    return Belief(given, J, rng.standard_normal((len(given), dim)), states)


def quadrature_by_step(number, steps):
    """Noise (M, 4, T, 2) with exact first and second moments at every step."""
    points = np.sqrt(2) * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    return np.tile(points[None, :, None], (number, 1, steps, 1))
