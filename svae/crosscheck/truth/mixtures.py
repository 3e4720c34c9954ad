r"""Bounds of mean-field inference: mixtures, hidden Markov and switching models.

The local objective of Johnson et al. (2016), Section 4.2, with the message m in the
place of the parameters and node potentials r in the place of the likelihood,

.. math:: \hat L(q) = \mathbb{E}_{q(x) q(z)}[\log p(x, z) + \langle r, t(x) \rangle]
          - \mathbb{E} \log q(x) - \mathbb{E} \log q(z)
          \le \log \sum_z \int p(x, z)\, e^{\langle r, t(x) \rangle} dx ,

at given states, after one sweep of coordinate ascent, and at its fixed point.  There
q is stationary, so the gradient of the bound in m and r is E_q of what they multiply.
`svae.crosscheck.truth.meanfield` has the equations of the two derivations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as onp

from svae.crosscheck.cases import sections
from svae.crosscheck.truth.balls import Derivation, exact, pull_back, zeros
from svae.crosscheck.truth.meanfield import (
    Dense,
    Problem,
    Recursion,
    enclosed_fixed_point,
    log_evidence,
)

__all__ = ["bounds", "model_of", "sequences", "statistics"]

Balls = Any
Arguments = Mapping[str, Any]
OF_SEQUENCE = ("node.J", "node.h")
WAYS = (
    (Dense, "the dense joint of x and all paths of z, derivatives as covariances"),
    (Recursion, "recursions over steps, derivatives by reverse differentiation"),
)


def model_of(potentials: Mapping[str, Any]) -> str:
    """Return the name of the latent model whose potentials these are."""
    names = set(potentials)
    if "dynamics.J22" in names:
        return "slds" if "transitions" in names else "lds"
    if "components.J" not in names:
        return "gaussian"
    if "dof" in names:
        return "student"
    return "hmm" if "transitions" in names else "gmm"


def problem_of(potentials: Mapping[str, Any]) -> Problem:
    """Return the model and sizes of one of the sequences."""
    model = model_of(potentials)
    _, T, D = potentials["node.h"].shape
    K = potentials["weights"].shape[0] if "weights" in potentials else 1
    return Problem(model, T, D, K)


def sequences(potentials: Mapping[str, Any]) -> Iterator[Arguments]:
    """Yield the potentials of one sequence after the other."""
    for n in range(len(potentials["node.h"])):
        yield {
            name: x[n] if name in OF_SEQUENCE else x for name, x in potentials.items()
        }


def bounds(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive the bounds of a model, as given and at the fixed point.

    Parameters
    ----------
    inputs : dict of arrays of balls
        ``natural.*``: the message, ``natural.node.*`` and ``natural.states``, from
        which the ascent starts.

    Yields
    ------
    (way, quantities)
    """
    potentials = sections(inputs, "natural")
    starts = potentials.pop("states")
    problem = problem_of(potentials)
    for kind, way in WAYS:
        derivation = kind(problem)
        each = [
            of_sequence(derivation, a, start)
            for a, start in zip(sequences(potentials), starts, strict=True)
        ]
        yield way, gathered(each, potentials)


def of_sequence(derivation: Any, a: Arguments, start: Balls) -> dict[str, Balls]:
    """Return the quantities of one sequence, and the gradients of its bound."""
    fixed = enclosed_fixed_point(derivation, a, start)
    found = at_states(derivation, a, start, "given")
    found |= at_states(derivation, a, fixed, "fixed")
    if not derivation.problem.student:
        found["log_evidence"] = log_evidence(derivation, a)[0]
    gradient = statistics(derivation, a, fixed)
    return found | {f"grad.{name}": g for name, g in gradient.items()}


def at_states(derivation: Any, a: Arguments, s: Balls, prefix: str) -> dict[str, Balls]:
    """Return what a sweep from s finds: q(x) given s, then q(z) given q(x)."""
    problem = derivation.problem
    linear = derivation.linear(a, s)
    u = problem.state_potentials(a, linear)
    gain = problem.gain(a, linear)
    mean, second = derivation.moments(a, s)
    bound = derivation.bound(a, s)[0]
    J, h = problem.node(a)
    evidence = (J * second).sum() + (h * mean).sum()
    return {
        f"{prefix}.bound": bound,
        f"{prefix}.expected_evidence": evidence,
        f"{prefix}.kl": evidence - bound,
        f"{prefix}.mean": mean,
        f"{prefix}.second_moment": second,
        f"{prefix}.state_potentials": u,
        f"{prefix}.states": derivation.update(a, s) / gain,
    }


def statistics(derivation: Any, a: Arguments, s: Balls) -> dict[str, Balls]:
    """Return the gradient of the bound at its fixed point s, in every argument."""
    names = [name for name in a if name != "dof"]
    if isinstance(derivation, Recursion):
        gradient = pull_back(
            lambda by: derivation.bound({**a, **by}, s), {n: a[n] for n in names}
        )
        return {name: gradient[name] for name in names}
    return expected_statistics(derivation, a, s)


@dataclass(frozen=True)
class Weighted:
    """Weights of rows (T, K), times what rows multiply: moments, or changes of them."""

    weights: Balls
    second: Balls
    """(T D, T D)"""
    mean: Balls
    """(T D,)"""
    one: int
    """What multiplies the constants: 1, or 0 of a change."""


def expected_statistics(dense: Dense, a: Arguments, s: Balls) -> dict[str, Balls]:
    """Return E_q[t(z, x)] at a fixed point s, by the names of what they multiply."""
    of = dense.problem
    _, cov, mean = dense.gaussian(a, s)
    second = cov + onp.outer(mean, mean)
    _, p = dense.path_weights(a, of.state_potentials(a, dense.linear(a, s)))
    states = (p @ dense.indicators).reshape(s.shape)
    found = of_states(dense, a, states, p)
    found |= of_rows(dense, a, [Weighted(s, second, mean, 1)], states)
    return found | of_node(dense, a, second, mean)


def of_states(
    dense: Dense, a: Arguments, states: Balls, paths: Balls
) -> dict[str, Balls]:
    """Return what multiplies the potentials of z: sums over weighted paths (R,)."""
    K, found = dense.problem.states, {}
    if "weights" in a:
        found["weights"] = states[0]
    if "transitions" in a:
        found["transitions"] = zeros((K, K))
        for path, weight in zip(dense.paths, paths, strict=True):
            for i, j in zip(path, path[1:], strict=False):
                found["transitions"][i, j] += weight
    return found


def of_rows(
    dense: Dense, a: Arguments, terms: Sequence[Weighted], counts: Balls
) -> dict[str, Balls]:
    """Return what multiplies the statistics of nodes, or of x_1 and of pairs.

    Sums of terms; ``counts`` (T, K) are those of the log determinants.
    """
    of = dense.problem
    factor = "init" if of.coupled else "components"
    found: dict[str, Balls] = {}
    if f"{factor}.J" in a:
        steps = range(1 if of.coupled else of.steps)
        sums = zeros((of.states, of.dim, of.dim)), zeros((of.states, of.dim))
        constant = zeros((of.states,))
        for term in terms:
            for t in steps:
                here, w = dense.place(t), term.weights[t]
                sums[0][...] += w[:, None, None] * term.second[here, here]
                sums[1][...] += w[:, None] * term.mean[here]
                constant += term.one * w
        found = {f"{factor}.J": sums[0], f"{factor}.h": sums[1]}
        found[f"{factor}.quadratic"] = constant
        found[f"{factor}.half_log_det"] = zeros((of.states,)) + counts[steps].sum(0)
    if of.coupled:
        found |= of_pairs(dense, a, terms)
        found["dynamics.half_log_det"] = zeros((of.states,)) + counts[1:].sum(0)
    return {name: stat.reshape(onp.shape(a[name])) for name, stat in found.items()}


def of_pairs(dense: Dense, a: Arguments, terms: Sequence[Weighted]) -> dict[str, Balls]:
    """Return what multiplies J11, J12 and J22; of [x; 1] if dynamics are affine."""
    of = dense.problem
    size = onp.shape(a["dynamics.J11"])[-1]
    shapes = (size, size), (size, of.dim), (of.dim, of.dim)
    stats = [zeros((of.states, *shape)) for shape in shapes]
    for term, t in product(terms, range(1, of.steps)):
        before, now = dense.place(t - 1), dense.place(t)
        left, cross = term.second[before, before], term.second[before, now]
        if size > of.dim:
            column = term.mean[before][:, None]
            last = onp.concatenate([column.T, exact([[float(term.one)]])], axis=1)
            left = onp.concatenate([onp.concatenate([left, column], 1), last])
            cross = onp.concatenate([cross, term.mean[now][None]])
        for stat, block in zip(
            stats, (left, cross, term.second[now, now]), strict=True
        ):
            stat += term.weights[t][:, None, None] * block
    names = ("dynamics.J11", "dynamics.J12", "dynamics.J22")
    return dict(zip(names, stats, strict=True))


def of_node(dense: Dense, a: Arguments, second: Balls, mean: Balls) -> dict[str, Balls]:
    """Return the blocks (T, ...) of moments, of a diagonal J the diagonals."""
    here = [dense.place(t) for t in range(dense.problem.steps)]
    own = [second[place, place] for place in here]
    if a["node.J"].ndim == 2:
        own = [onp.diagonal(block) for block in own]
    return {"node.J": onp.stack(own), "node.h": mean.reshape(len(here), -1)}


def gathered(
    each: list[dict[str, Balls]], potentials: Mapping[str, Any]
) -> dict[str, Balls]:
    """Join the sequences; gradients of what they share are summed."""
    found = {}
    for name in each[0]:
        parts = onp.stack([onp.asarray(one[name], dtype=object) for one in each])
        word = name.removeprefix("grad.")
        shared = name.startswith("grad.") and word not in OF_SEQUENCE
        found[name] = parts.sum(0) if shared else parts
    return found
