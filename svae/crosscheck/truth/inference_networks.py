r"""Structured inference networks: a graph of their own, summed over exactly.

Lin, Hubacher and Khan (2018), Section 3, and SYSTEMS 2.4:

.. math::
    q(x, z) = \tfrac1Z e^{\langle \phi, t(z, x) \rangle + \langle r, t(x) \rangle},
    \qquad \mathcal{L} = \mathbb{E}_q \big[ \log p(y|x) - \langle r, t(x) \rangle
    - \langle \phi, t \rangle + \mathbb{E} \log p(x, z | \theta) \big] + \log Z ,

phi being laid out as the message m is; each x has a sample for every state z.  The
E log p of a Student-t mixture is that of `svae.crosscheck.truth.meanfield`, a function
of the moments of x given z.

*recursion*: log Z is summed and integrated step by step; statistics are its gradient,
and all gradients autograd's.

*enumeration*: given a path of z, x is one dense Gaussian.  With F(z) what stands in
brackets given a path, and Gamma(z) its gradient through the moments and samples of x,

.. math:: \nabla_\phi \mathcal{L} = \sum_z q(z) \big[ (F(z) - \mathbb{E} F)\,
          \mathbb{E}[t | z] + \Gamma(z) \big], \qquad
          \nabla_m \mathcal{L} = \mathbb{E}_q[t] .
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.crosscheck.cases import sections
from svae.crosscheck.truth.balls import (
    Derivation,
    cholesky,
    exact,
    log_det,
    pull_back,
    solve,
    transpose,
    zeros,
)
from svae.crosscheck.truth.families import log_2pi
from svae.crosscheck.truth.meanfield import Dense, Problem, Recursion, dot
from svae.crosscheck.truth.mixtures import (
    OF_SEQUENCE,
    WAYS,
    Weighted,
    of_node,
    of_rows,
    of_states,
    problem_of,
    sequences,
)
from svae.crosscheck.truth.natural_gradients import (
    likelihood_gradient,
    log_likelihood,
    moved_moments,
    sampling_adjoint,
)

__all__ = ["inference_networks"]

Balls = Any
Arguments = Mapping[str, Any]
PER_SEQUENCE = (
    "log_normalizer",
    "kl",
    "reconstruction",
    "bound",
    "mean",
    "second_moment",
    "states",
)


def inference_networks(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive log normalizers, moments, the bound and its gradients.

    Parameters
    ----------
    inputs : dict of arrays of balls
        ``natural.graph.*`` and ``natural.message.*``, ``natural.node.*``,
        ``natural.noise``, ``natural.decoder.*``, ``natural.y`` and, of a Student-t
        mixture, ``natural.dof``.

    Yields
    ------
    (way, quantities)
    """
    given = sections(inputs, "natural")
    graph, message = sections(given, "graph"), sections(given, "message")
    decoder = sections(given, "decoder")
    nodes = {name: given[name] for name in OF_SEQUENCE}
    if "dof" in given:
        message["dof"] = given["dof"]
    # numbers of a model without states have an axis inside
    graph, message = (
        {name: onp.reshape(x, onp.shape(x) or (1,)) for name, x in factors.items()}
        for factors in (graph, message)
    )
    problem, prior = problem_of(graph | nodes), problem_of(message | nodes)
    for kind, way in WAYS:
        by = by_reverse if kind is Recursion else by_paths
        each = [
            by(problem, prior, a, message, decoder, y, noise)
            for a, y, noise in zip(
                sequences(graph | nodes), given["y"], given["noise"], strict=True
            )
        ]
        found = {}
        for name in each[0]:
            parts = onp.stack([onp.asarray(one[name], dtype=object) for one in each])
            apart = name in PER_SEQUENCE or name.startswith("grad.node.")
            found[name] = parts if apart else parts.sum(0)
        yield (
            way,
            {name: x.reshape(shape_of(name, x, given)) for name, x in found.items()},
        )


def shape_of(name: str, x: Balls, given: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of the input that a gradient belongs to, or its own."""
    of = name.removeprefix("grad.")
    if name.startswith("stats."):
        of = "graph." + name.removeprefix("stats.")
    return onp.shape(given[of]) if of in given else onp.shape(x)


class ByState:
    """x given each state of a mixture, as functions for autograd."""

    def __init__(self, problem: Problem, a: Arguments) -> None:
        rows_J, rows_h, constants = problem.gaussians(a)
        J, h = problem.node(a)
        self.J, self.h = rows_J[None] + J[:, None], rows_h[None] + h[:, None]
        self.constants = constants
        self.P = -(self.J + transpose(self.J))

    def log_normalizers(self) -> Balls:
        """Return log of the integral over x given each state, (T, K)."""
        column = self.h[..., None]
        quadratic = np.sum(column * solve(self.P, column), axis=(-2, -1))
        logs = quadratic - log_det(self.P)[..., 0, 0]
        return 0.5 * (logs + self.h.shape[-1] * log_2pi())

    def moments(self) -> tuple[Balls, Balls]:
        """Return E[x | z] (T, K, D) and E[x x' | z] (T, K, D, D)."""
        dim = self.h.shape[-1]
        identity = exact(onp.eye(dim)) + zeros((*self.h.shape[:2], 1, 1))
        cov = solve(self.P, identity)
        mean = solve(self.P, self.h[..., None])
        return mean[..., 0], cov + mean * transpose(mean)

    def samples(self, noise: Balls) -> Balls:
        """Return samples (S, T, K, D), of the noise (S, T, D) of a step in all."""
        root = transpose(cholesky(self.P))
        draws = np.transpose(noise, (1, 2, 0))[:, None] + zeros(
            (1, root.shape[1], 1, 1)
        )
        mean = solve(self.P, self.h[..., None])
        return np.transpose(mean + solve(root, draws), (3, 0, 1, 2))


class ByReverse:
    """One sequence, by recursions; all derivatives are autograd's."""

    def __init__(
        self, problem: Problem, prior: Problem, noise: Balls, y: Balls
    ) -> None:
        self.problem, self.prior = problem, prior
        self.recursion = Recursion(problem)
        self.noise, self.y = noise, y
        self.one_state = exact(onp.ones((problem.steps, 1)))

    def log_normalizer(self, a: Arguments) -> Balls:
        """Return log Z (1,)."""
        if self.problem.coupled:
            s = self.one_state
            constants = self.problem.constants(a) + zeros(s.shape)
            return self.recursion.log_integral(a, s) + dot(constants, s)
        x = ByState(self.problem, a)
        return self.recursion.log_sum(a, x.log_normalizers() + x.constants)

    def statistics(self, a: Arguments) -> dict[str, Balls]:
        """Return E_q of what the potentials multiply, the gradient of log Z."""
        return pull_back(self.log_normalizer, dict(a))

    def states(self, a: Arguments) -> Balls:
        """Return the probabilities of states (T, K)."""
        if self.problem.coupled:
            return self.one_state
        x = ByState(self.problem, a)
        return self.recursion.probabilities(a, x.log_normalizers() + x.constants)

    def kl(self, a: Arguments, message: Arguments) -> Balls:
        """Return E <phi + r, t> - log Z - E log p (1,).

        The 2 pi of phi and of a conjugate p cancel.
        """
        stats, total = self.statistics(a), -self.log_normalizer(a)
        for name, stat in stats.items():
            total = total + dot(stat, a[name])
            conjugate = not (self.prior.student and name.startswith("components."))
            if name not in OF_SEQUENCE and conjugate:
                total = total - dot(stat, message[name])
        if self.prior.student:
            dim, steps = self.problem.dim, self.problem.steps
            total = total - self.expected_student(a, message)
            total = total - 0.5 * dim * steps * log_2pi()
        return total

    def expected_student(self, a: Arguments, message: Arguments) -> Balls:
        """Return the expectation of E log St(x | z) (1,)."""
        mean, second = ByState(self.problem, a).moments()
        J, h, _ = self.prior.gaussians(message)
        linear = np.sum(J * second, axis=(-2, -1)) + np.sum(h * mean, axis=-1)
        linear = linear + message["components.quadratic"]
        return dot(self.states(a), self.prior.state_potentials(message, linear))

    def reconstruction(self, a: Arguments, decoder: Arguments) -> Balls:
        """Return E log p(y | x) (1,), every state with its samples."""
        if self.problem.coupled:
            samples = self.recursion.samples(a, self.one_state, self.noise)
            return log_likelihood(decoder, samples, self.y)
        states, total = self.states(a), exact([0.0])
        samples = ByState(self.problem, a).samples(self.noise)
        for t in range(self.problem.steps):
            here = slice(t, t + 1)
            for k in range(self.problem.states):
                frames = log_likelihood(decoder, samples[:, here, k], self.y[here])
                total = total + states[t, k : k + 1] * frames
        return total


def by_reverse(
    problem: Problem,
    prior: Problem,
    a: Arguments,
    message: Arguments,
    decoder: Arguments,
    y: Balls,
    noise: Balls,
) -> dict[str, Balls]:
    """Derive one sequence by recursions and autograd."""
    q = ByReverse(problem, prior, noise, y)
    constants = {name: x for name, x in message.items() if name == "dof"}
    boxed = {
        f"{role}.{name}": x
        for role, of in (("graph", a), ("message", message), ("decoder", decoder))
        for name, x in of.items()
        if name not in constants
    }

    def bound(by: Arguments) -> Balls:
        graph, given, weights = (
            sections(by, role) for role in ("graph", "message", "decoder")
        )
        return q.reconstruction(graph, weights) - q.kl(graph, given | constants)

    gradient, stats = pull_back(bound, boxed), q.statistics(a)
    matrices = {"node.J": problem.node(a)[0]}
    kl, reconstruction = q.kl(a, message)[0], q.reconstruction(a, decoder)[0]
    found = {
        "log_normalizer": q.log_normalizer(a)[0],
        "kl": kl,
        "reconstruction": reconstruction,
        "bound": reconstruction - kl,
        "mean": stats["node.h"],
        "second_moment": q.statistics({**a, **matrices})["node.J"],
        "states": q.states(a),
    }
    found |= {f"stats.{n}": x for n, x in stats.items() if n not in OF_SEQUENCE}
    for name, x in gradient.items():
        of = name.removeprefix("graph.")
        found[f"grad.{of if of in OF_SEQUENCE else name}"] = x
    return found


class Path(NamedTuple):
    """What is known of x, a dense Gaussian, given one path of states."""

    states: Balls
    """(T, K), one-hot."""
    score: Balls
    """Log of the path's share of Z."""
    second: Balls
    mean: Balls
    value: Balls
    """E log p - <phi, t> - <r, t>."""
    gain: Balls
    """E[u] of a Student-t, (T, K)."""
    frames: Balls
    """Mean of log p(y | x) over samples."""
    of_J: Balls
    """Gradients of ``value`` and ``frames`` in the potentials of x, explicit ones of
    phi and r left out."""
    of_h: Balls
    of_decoder: dict[str, Balls]


class Paths:
    """Dense Gaussians given every path of states."""

    def __init__(
        self, problem: Problem, prior: Problem, a: Arguments, message: Arguments
    ) -> None:
        self.a = a
        self.message = {**message, **{name: a[name] for name in OF_SEQUENCE}}
        self.dense, self.law = Dense(problem), Dense(prior)
        self.rows = self.dense.rows(a)
        self.prior_rows = self.law.rows(self.message)
        self.evidence = self.dense.evidence(a)

    def given(self, path: Any, decoder: Arguments, y: Balls, noise: Balls) -> Path:
        """Return x given a path, its samples and their gradients."""
        problem, prior = self.dense.problem, self.law.problem
        s = exact(onp.eye(problem.states)[path])
        P, cov, mean = self.dense.gaussian(self.a, s)
        second = cov + onp.outer(mean, mean)
        logZ = 0.5 * (mean @ P @ mean + len(mean) * log_2pi() - log_det(P)[0, 0])
        constants = (s * problem.constants(self.a)).sum()
        constants = constants + chain(problem, self.a, path)

        prior_J, prior_h = self.prior_rows
        linear = ((prior_J * second).sum((1, 2)) + prior_h @ mean).reshape(s.shape)
        if prior.student:
            linear = linear + self.message["components.quadratic"]
        potentials = prior.state_potentials(self.message, linear)
        gain = prior.gain(self.message, linear)
        J = onp.tensordot(s.reshape(-1), self.rows[0], 1) + self.evidence[0]
        h = s.reshape(-1) @ self.rows[1] + self.evidence[1]
        log_q = (J * second).sum() + h @ mean + constants
        log_p = (s * potentials).sum() + chain(prior, self.message, path)

        samples = self.dense.samples(self.a, s, noise)
        of_samples, of_decoder = likelihood_gradient(decoder, samples, y)
        mixed = (s * gain).reshape(-1)
        along = onp.tensordot(mixed, prior_J, 1) - J, mixed @ prior_h - h
        of_J, of_h = moved_moments(cov, mean, *along)
        drawn_J, drawn_h = sampling_adjoint(P, cov, mean, of_samples, noise)
        return Path(
            states=s,
            score=logZ + constants,
            second=second,
            mean=mean,
            value=log_p - log_q,
            gain=gain,
            frames=log_likelihood(decoder, samples, y)[0],
            of_J=of_J + drawn_J,
            of_h=of_h + drawn_h,
            of_decoder=of_decoder,
        )


def by_paths(
    problem: Problem,
    prior: Problem,
    a: Arguments,
    message: Arguments,
    decoder: Arguments,
    y: Balls,
    noise: Balls,
) -> dict[str, Balls]:
    """Derive one sequence by a dense Gaussian for each path of states."""
    all_paths = Paths(problem, prior, a, message)
    dense, law = all_paths.dense, all_paths.law
    paths = [all_paths.given(path, decoder, y, noise) for path in dense.paths]
    weights = onp.exp(onp.array([path.score for path in paths]))
    Z = weights.sum()
    q = weights / Z
    values = onp.array([path.value for path in paths])
    frames = onp.array([path.frames for path in paths])
    centred = q * (values + frames - q @ (values + frames))
    shape = problem.steps, problem.states
    states, moved = ((w @ dense.indicators).reshape(shape) for w in (q, centred))

    def moments(weights: Balls, gain: bool = False) -> list[Weighted]:
        return [
            Weighted(w * x.states * (x.gain if gain else 1), x.second, x.mean, 1)
            for w, x in zip(weights, paths, strict=True)
        ]

    def total(weights: Balls, parts: Any) -> Balls:
        return sum(w * part for w, part in zip(weights, parts, strict=True))

    kl, reconstruction = -(q @ values) - Z.log(), q @ frames
    found = {
        "log_normalizer": Z.log(),
        "kl": kl,
        "reconstruction": reconstruction,
        "bound": reconstruction - kl,
        "states": states,
    }
    second = total(q, [x.second for x in paths])
    mean = total(q, [x.mean for x in paths])
    matrices = {**a, "node.J": problem.node(a)[0]}
    blocks = of_node(dense, matrices, second, mean)
    found |= {"mean": blocks["node.h"], "second_moment": blocks["node.J"]}
    stats = of_states(dense, a, states, q) | of_rows(dense, a, moments(q), states)
    found |= {f"stats.{name}": x for name, x in stats.items()}

    changes = [
        Weighted(w * x.states, x.of_J, x.of_h, 0) for w, x in zip(q, paths, strict=True)
    ]
    of_graph = of_states(dense, a, moved, centred)
    of_graph |= of_rows(dense, a, moments(centred) + changes, moved)
    found |= {f"grad.graph.{name}": x for name, x in of_graph.items()}
    of_x = (
        total(centred, [x.second for x in paths]) + total(q, [x.of_J for x in paths]),
        total(centred, [x.mean for x in paths]) + total(q, [x.of_h for x in paths]),
    )
    found |= {f"grad.{name}": x for name, x in of_node(dense, a, *of_x).items()}

    given = all_paths.message
    of_message = of_states(law, given, states, q)
    of_message |= of_rows(law, given, moments(q, gain=True), states)
    found |= {f"grad.message.{name}": x for name, x in of_message.items()}
    return found | {
        f"grad.decoder.{name}": total(q, [x.of_decoder[name] for x in paths])
        for name in decoder
    }


def chain(problem: Problem, a: Arguments, path: Any) -> Balls:
    """Return the log potentials of a path in the Markov chain."""
    init, pair = problem.markov(a)
    steps = zip(path, path[1:], strict=False)
    return init[path[0]] + sum(pair[i, j] for i, j in steps)
