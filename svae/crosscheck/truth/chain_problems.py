"""Problems of chains in natural parameters."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from svae.crosscheck.cases import GENERATORS
from svae.crosscheck.truth.chains import GAUSSIAN, MARKOV, Table
from svae.crosscheck.truth.problems import (
    Problem,
    covariance,
    dyadic,
    generator_of,
    random_like,
    stable,
)

__all__ = ["problems"]

INF = np.inf
JUNK = 7.0
"""What stands past the length of a sequence, where nobody should read it."""


def problems() -> Iterator[Problem]:
    """Yield all problems of this module."""
    yield from gaussian_problems()
    yield from markov_problems()
    yield from viterbi_problems()


# Gaussian chains.


def dynamics(A: Any, Q_inverse: Any) -> dict[str, Any]:
    """Return the pair potentials of x' = A x + noise, symmetric to the last bit."""
    At = np.swapaxes(A, -1, -2)
    J11 = At @ Q_inverse @ A
    J11 = (J11 + np.swapaxes(J11, -1, -2)) / 4
    return {"pair.J11": -J11, "pair.J12": At @ Q_inverse, "pair.J22": -Q_inverse / 2}


def gaussian(rng: np.random.Generator, N: int, T: int, D: int, S: int = 1) -> Any:
    """Return potentials of order one, the pair's shared, nodes diagonal."""
    return {
        "init.J": -covariance(rng, D) / 2,
        "init.h": rng.standard_normal(D),
        **dynamics(stable(rng, D), covariance(rng, D)),
        "node.J": -rng.uniform(0.25, 1.0, (N, T, D)),
        "node.h": rng.standard_normal((N, T, D)),
        "noise": rng.standard_normal((N, S, T, D)),
    }


def gaussian_case(name: str, potentials: Any, origin: str, *catches: str) -> Problem:
    """Return a problem with cotangents of everything and a direction."""
    return _case("gaussian_chain", GAUSSIAN, name, potentials, origin, catches)


def _case(
    kind: str, table: Table, name: str, potentials: Any, origin: str, catches: Any
) -> Problem:
    rng = generator_of(name + " cotangents")
    node = potentials["node.h" if kind == "gaussian_chain" else "node"]
    stats = {table[k][0]: x for k, x in potentials.items() if k in table}
    outputs: dict[str, Any] = {"logZ": np.zeros(len(node)), **stats}
    if "noise" in potentials:
        outputs["samples"] = potentials["noise"]
    moved = {k: x for k, x in potentials.items() if k in table}
    inputs = {f"natural.{k}": np.asarray(x) for k, x in potentials.items()}
    inputs |= random_like(rng, outputs, "cotangent")
    direction = random_like(rng, moved, "direction")
    for key, x in direction.items():
        if key.removeprefix("direction.") in ("init.J", "pair.J11", "pair.J22"):
            direction[key] = (x + np.swapaxes(x, -1, -2)) / 2
    return Problem(name, kind, inputs | direction, origin, tuple(catches))


def gaussian_problems() -> Iterator[Problem]:
    """Yield Gaussian chains."""
    name = "gaussian-chain-small"
    rng = generator_of(name)
    yield gaussian_case(
        name,
        gaussian(rng, 2, 4, 2),
        "A stable linear dynamical system with diagonal evidence, all of order one.",
        "dropped-pairwise-gradient",
        "missing-two-pi",
        "transposed-pair",
        "precision-for-J",
    )
    name = "gaussian-chain-dense-nodes"
    rng = generator_of(name)
    N, T, D = 2, 4, 3
    each = {
        "init.J": -covariance(rng, N, D) / 2,
        "init.h": rng.standard_normal((N, D)),
        **dynamics(stable(rng, N, T - 1, D), covariance(rng, N, T - 1, D)),
        "node.J": -covariance(rng, N, T, D) / 2,
    }
    yield gaussian_case(
        name,
        gaussian(rng, N, T, D) | each,
        "Evidence with full precisions, dynamics of each sequence and step.",
        "diagonal-of-dense-node",
        "pair-of-wrong-step",
        "shared-statistics",
    )
    name = "gaussian-chain-ragged"
    rng = generator_of(name)
    lengths = np.array([5, 2, 1])
    ragged = gaussian(rng, 3, 5, 2, S=2)
    ragged["pair.J12"] = ragged["pair.J12"] * rng.uniform(0.5, 1, (3, 4, 1, 1))
    past = np.arange(5) >= lengths[:, None]
    ragged["node.J"][past] = -JUNK
    ragged["node.h"][past] = JUNK
    ragged["pair.J12"][past[:, 1:]] = JUNK
    yield gaussian_case(
        name,
        ragged | {"lengths": lengths},
        "Sequences of 5, 2 and 1 steps; what stands past their ends is not theirs. The "
        "couplings are given per sequence and step, the other pair potentials shared.",
        "reads-past-length",
        "pairs-past-length",
        "two-pi-of-padding",
    )
    name = "gaussian-chain-one-step"
    rng = generator_of(name)
    yield gaussian_case(
        name,
        gaussian(rng, 2, 1, 3),
        "One step has no pair: its potentials have zero statistics and gradients.",
        "extra-predict-step",
        "pair-without-partner",
    )
    name = "gaussian-chain-one-dimension"
    rng = generator_of(name)
    yield gaussian_case(
        name,
        gaussian(rng, 1, 12, 1),
        "Scalars, where a matrix of one row meets broadcasting.",
        "broadcast-of-one",
    )
    name = "gaussian-chain-unobserved"
    rng = generator_of(name)
    nothing = gaussian(rng, 2, 5, 2)
    nothing["node.J"][0] = nothing["node.h"][0] = 0.0
    nothing["node.J"][1, 1:3] = nothing["node.h"][1, 1:3] = 0.0
    yield gaussian_case(
        name,
        nothing,
        "No evidence at all for the first sequence, none for two steps of the second.",
        "floor-under-precision",
        "hidden-diagonal-boost",
    )
    name = "gaussian-chain-units"
    rng = generator_of(name)
    units = gaussian(rng, 1, 4, 2)
    scale = np.array([1e-6, 1e6])
    for key in ("init.J", "pair.J11", "pair.J12", "pair.J22"):
        units[key] = units[key] * scale[:, None] * scale
    units["node.J"] = units["node.J"] * scale**2
    units["init.h"], units["node.h"] = units["init.h"] * scale, units["node.h"] * scale
    yield gaussian_case(
        name,
        units,
        "One coordinate in units of 1e-6, the other in units of 1e6.",
        "hidden-diagonal-boost",
        "floor-under-precision",
        "absolute-tolerance",
    )
    for variance in (1e-8, 1e-12):
        name = f"gaussian-chain-noise-{variance:.0e}"
        rng = generator_of(name)
        quiet = gaussian(rng, 1, 6, 2)
        precision = np.eye(2) / variance
        yield gaussian_case(
            name,
            quiet | dynamics(stable(rng, 2, radius=1.0), precision),
            f"Rotations with noise of variance {variance:.0e}, observed through noise "
            "of order one: the joint precision is nearly singular.",
            "hidden-diagonal-boost",
            "unsymmetric-update",
        )
    name = "gaussian-chain-precise-evidence"
    rng = generator_of(name)
    precise = gaussian(rng, 1, 6, 2)
    precise["node.J"], precise["node.h"] = (
        precise["node.J"] * 1e12,
        precise["node.h"] * 1e12,
    )
    yield gaussian_case(
        name,
        precise,
        "Evidence of precision 1e12 about dynamics of order one.",
        "psd-jitter",
        "subtracted-covariances",
    )
    name = "gaussian-chain-diffuse"
    rng = generator_of(name)
    diffuse = gaussian(rng, 1, 6, 2)
    diffuse["init.J"] = -np.eye(2) * 2.0**-34
    diffuse["init.h"] = np.zeros(2)
    diffuse["node.J"][:, :2] = diffuse["node.h"][:, :2] = 0.0
    yield gaussian_case(
        name,
        diffuse,
        "Hardly anything is known before the third step: an initial variance of 1e10.",
        "hidden-diagonal-boost",
        "subtracted-covariances",
    )
    name = "gaussian-chain-far-mean"
    rng = generator_of(name)
    far = gaussian(rng, 1, 6, 2)
    far["init.h"] = -2 * far["init.J"] @ np.array([100.0, -100.0])
    yield gaussian_case(
        name,
        far,
        "An initial mean of 100, far from what the evidence says.",
        "initial-mean-lost",
        "second-moment-for-covariance",
    )
    name = "gaussian-chain-improper-factors"
    rng = generator_of(name)
    improper = gaussian(rng, 2, 4, 2)
    improper["node.J"] -= 1.0
    improper["node.J"][:, 1, 0] = 0.25
    improper["pair.J22"] = improper["pair.J22"] * 0.75
    improper["init.J"] = np.zeros((2, 2))
    yield gaussian_case(
        name,
        improper,
        "A flat initial factor and evidence of negative precision: only the joint is a "
        "Gaussian, as messages from recognition networks may make it.",
        "factor-by-factor-cholesky",
        "floor-under-precision",
    )
    name = "gaussian-chain-ill-conditioned"
    rng = generator_of(name)
    yield gaussian_case(
        name,
        _ill_conditioned(rng, 1, 4, 2),
        "A joint precision of condition number about 1e10, moved there along the "
        "identity.",
        "hidden-diagonal-boost",
        "inverse-by-normal-equations",
    )
    name = "gaussian-chain-80-steps"
    rng = generator_of(name)
    long = gaussian(rng, 1, 80, 2)
    del long["noise"]
    yield gaussian_case(
        name,
        long,
        "Eighty steps, past the reach of dense matrices in many packages.",
        "drift-over-time",
        "t-minus-2-pairs",
    )
    name = "gaussian-chain-1e6-steps"
    rule: dict[str, Any] = {
        "name": "long_evidence",
        "arguments": {"T": 10**6, "seed": 5, "bits": 15},
    }
    yield Problem(
        name,
        "gaussian_chain",
        {
            "natural.init.J": np.array([[-0.5]]),
            "natural.init.h": np.array([1.0]),
            "natural.pair.J11": np.array([[-0.28125]]),
            "natural.pair.J12": np.array([[0.75]]),
            "natural.pair.J22": np.array([[-0.5]]),
            **GENERATORS["long_evidence"](**rule["arguments"]),
        },
        "A million steps of a scalar; the evidence is made by integers. A digest: the "
        "statistics of single steps are left out.",
        ("drift-over-time", "recursion-limit"),
        ("digest",),
        generator=rule,
    )


def _ill_conditioned(rng: np.random.Generator, N: int, T: int, D: int) -> Any:
    """Return a chain whose joint precision is close to singular."""
    found = gaussian(rng, N, T, D)
    P = np.zeros((T * D, T * D))
    for t in range(T):
        own = slice(t * D, (t + 1) * D)
        after = slice((t + 1) * D, (t + 2) * D)
        P[own, own] -= 2 * np.diag(found["node.J"][0, t])
        if t == 0:
            P[own, own] -= 2 * found["init.J"]
        if t + 1 < T:
            P[own, own] -= 2 * found["pair.J11"]
            P[after, after] -= 2 * found["pair.J22"]
            P[own, after] -= found["pair.J12"]
            P[after, own] -= found["pair.J12"].T
    smallest = np.linalg.eigvalsh(P)[0]
    found["node.J"] = found["node.J"] + (smallest - 1e-9) / 2
    found["node.h"] = (P @ rng.standard_normal(T * D)).reshape(N, T, D)
    return found


def markov(rng: np.random.Generator, N: int, T: int, K: int, scale: float = 1) -> Any:
    """Return normal log potentials, those of transitions shared."""
    return {
        "init": scale * rng.standard_normal(K),
        "pair": scale * rng.standard_normal((K, K)),
        "node": scale * rng.standard_normal((N, T, K)),
    }


def markov_case(name: str, potentials: Any, origin: str, *catches: str) -> Problem:
    """Return a problem with cotangents of everything and a direction."""
    return _case("markov_chain", MARKOV, name, potentials, origin, catches)


def markov_problems() -> Iterator[Problem]:
    """Yield Markov chains."""
    name = "markov-chain-small"
    yield markov_case(
        name,
        markov(generator_of(name), 2, 4, 3),
        "Normal log potentials that are no probabilities, transitions not symmetric.",
        "transposed-transitions",
        "normalised-transitions",
        "dropped-pairwise-gradient",
    )
    name = "markov-chain-per-step"
    rng = generator_of(name)
    each = {
        "init": rng.standard_normal((2, 3)),
        "pair": rng.standard_normal((2, 4, 3, 3)),
    }
    yield markov_case(
        name,
        markov(rng, 2, 5, 3) | each,
        "Initial potentials of each sequence, transitions of each sequence and step.",
        "pair-of-wrong-step",
        "shared-statistics",
    )
    name = "markov-chain-ragged"
    rng = generator_of(name)
    lengths = np.array([6, 1, 3])
    ragged = markov(rng, 3, 6, 2)
    ragged["node"][np.arange(6) >= lengths[:, None]] = JUNK
    yield markov_case(
        name,
        ragged | {"lengths": lengths},
        "Sequences of 6, 1 and 3 steps; what stands past their ends is not theirs.",
        "reads-past-length",
        "pairs-past-length",
    )
    name = "markov-chain-one-step"
    yield markov_case(
        name,
        markov(generator_of(name), 2, 1, 4),
        "One step has no transition.",
        "extra-predict-step",
        "pair-without-partner",
    )
    name = "markov-chain-one-state"
    yield markov_case(
        name,
        markov(generator_of(name), 2, 5, 1),
        "One state: log Z is a sum, every probability one and every covariance zero.",
        "broadcast-of-one",
        "normalised-transitions",
    )
    name = "markov-chain-no-evidence"
    rng = generator_of(name)
    nothing = markov(rng, 1, 6, 3)
    nothing["node"] *= 0
    yield markov_case(
        name,
        nothing,
        "All node potentials are zero.",
        "normalised-transitions",
        "extra-predict-step",
    )
    name = "markov-chain-spread-1000"
    rng = generator_of(name)
    wide = markov(rng, 2, 5, 4)
    wide["node"] = rng.uniform(-500, 500, (2, 5, 4))
    wide["pair"][rng.uniform(size=(4, 4)) < 0.4] = -INF
    wide["pair"][np.arange(4), (np.arange(4) + 1) % 4] = rng.standard_normal(4)
    wide["init"][:2] = -INF
    _contested(wide)
    yield markov_case(
        name,
        wide,
        "Log potentials of spread 1000 and forbidden transitions: the likeliest state "
        "at a step may be one that no path reaches, so scaled sums underflow to "
        "nothing. Two paths are nearly equally likely.",
        "scaled-sums-underflow",
        "floor-of-1e-15",
        "nan-from-minus-infinity",
    )
    name = "markov-chain-late-surprise"
    rng = generator_of(name)
    T = 8
    late = {
        "init": np.array([0.0, -INF]),
        "pair": np.array([[0.0, -8000.0], [-INF, 0.0]]),
        "node": np.zeros((1, T, 2)),
    }
    late["node"][0, -1] = [-INF, 0.0]
    late["node"][0, :4, 1] = np.array([0.5, 0.25, -0.125, 1.0])
    yield markov_case(
        name,
        late,
        "The last step forbids the state that was almost certain before it: what "
        "counts was e^-8000 of the sum at every step.",
        "scaled-sums-underflow",
        "floor-of-1e-15",
    )
    name = "markov-chain-sticky"
    rng = generator_of(name)
    leave = 1e-10
    sticky = markov(rng, 1, 12, 2)
    sticky["init"] = np.log([0.5, 0.5])
    sticky["pair"] = np.log([[1 - leave, leave], [leave, 1 - leave]])
    sticky["node"] = rng.normal(0, 4, (1, 12, 2))
    yield markov_case(
        name,
        sticky,
        "States that are left with probability 1e-10.",
        "floor-of-1e-15",
        "expected-transitions-by-subtraction",
    )
    name = "markov-chain-shifted"
    rng = generator_of(name)
    shifted = markov(rng, 1, 6, 3)
    shifted["node"] = (
        shifted["node"] + np.array([1e4, -1e4, 1e5, 0, -3e4, 1e4])[:, None]
    )
    yield markov_case(
        name,
        shifted,
        "Evidence shifted by up to 1e5 at a step, as densities of many dimensions are.",
        "overflow-of-exp",
        "underflow-of-exp",
    )
    name = "markov-chain-left-right"
    rng = generator_of(name)
    K, T = 4, 6
    ordered = markov(rng, 1, T, K)
    ordered["init"][1:] = -INF
    ordered["pair"][np.tril_indices(K, -1)] = -INF
    ordered["pair"][np.triu_indices(K, 2)] = -INF
    yield markov_case(
        name,
        ordered,
        "States in order: from each one stays or goes to the next.",
        "transposed-transitions",
        "nan-from-minus-infinity",
    )
    name = "markov-chain-one-path"
    K, T = 3, 7
    cycle = np.full((K, K), -INF)
    cycle[np.arange(K), (np.arange(K) + 1) % K] = [0.5, -0.25, 1.0]
    yield markov_case(
        name,
        {
            "init": np.array([0.25, -INF, -INF]),
            "pair": cycle,
            "node": generator_of(name).normal(0, 100, (1, T, K)),
        },
        "A cycle: one path is possible, and all derivatives of statistics are zero.",
        "transposed-transitions",
        "nan-from-minus-infinity",
    )
    name = "markov-chain-300-steps"
    rng = generator_of(name)
    yield markov_case(
        name,
        markov(rng, 1, 300, 3, scale=2),
        "Three hundred steps with log potentials of standard deviation 2.",
        "underflow-over-time",
        "t-minus-2-pairs",
    )
    name = "markov-chain-1e6-steps"
    rule: dict[str, Any] = {
        "name": "long_nodes",
        "arguments": {"T": 10**6, "K": 2, "seed": 3, "bits": 13},
    }
    yield Problem(
        name,
        "markov_chain",
        {
            "natural.init": np.array([0.25, -0.5]),
            "natural.pair": np.array([[0.0, -3.0], [-2.0, 0.125]]),
            **GENERATORS["long_nodes"](**rule["arguments"]),
        },
        "A million steps of two states; the evidence is made by integers. A digest: "
        "the statistics of single steps are left out.",
        ("underflow-over-time", "recursion-limit"),
        ("digest",),
        generator=rule,
    )


def _contested(potentials: dict[str, Any]) -> None:
    """Raise the evidence for another state until it is as good as the best path's."""
    init, pair, node = (potentials[k] for k in ("init", "pair", "node"))
    N, T, K = node.shape
    paths = np.array(list(product(range(K), repeat=T)))
    t = np.arange(T)
    for n in range(N):
        score = init[paths[:, 0]] + pair[paths[:, :-1], paths[:, 1:]].sum(1)
        score += node[n, t, paths].sum(1)
        best = paths[np.argmax(score)]
        others = np.where(paths[:, T // 2] != best[T // 2], score, -INF)
        rival = paths[np.argmax(others)]
        gap = dyadic(score.max() - others.max() - 0.5, 20)
        node[n, T // 2, rival[T // 2]] += gap


def viterbi_case(name: str, potentials: Any, origin: str, *catches: str) -> Problem:
    """Return a problem of decoding."""
    inputs = {f"natural.{k}": np.asarray(x) for k, x in potentials.items()}
    return Problem(name, "viterbi", inputs, origin, tuple(catches))


def viterbi_problems() -> Iterator[Problem]:
    """Yield problems of decoding."""
    name = "viterbi-small"
    yield viterbi_case(
        name,
        markov(generator_of(name), 3, 6, 3),
        "Normal log potentials; one path is the best.",
        "most-likely-states-one-by-one",
        "transposed-transitions",
    )
    name = "viterbi-all-ties"
    yield viterbi_case(
        name,
        {"init": np.zeros(3), "pair": np.zeros((3, 3)), "node": np.zeros((1, 5, 3))},
        "All paths are equally good.",
        "inconsistent-ties",
    )
    name = "viterbi-ties"
    rng = generator_of(name)
    yield viterbi_case(
        name,
        {
            "init": np.round(rng.standard_normal(3)),
            "pair": np.round(rng.standard_normal((3, 3))),
            "node": np.round(2 * rng.standard_normal((6, 6, 3))) / 2,
        },
        "Small integers and halves: of some sequences several paths are the best, and "
        "a path pieced together from two of them is not.",
        "inconsistent-ties",
    )
    name = "viterbi-forbidden"
    rng = generator_of(name)
    forbidden = markov(rng, 2, 6, 3, scale=3)
    forbidden["pair"][0, 1] = forbidden["pair"][1, 2] = forbidden["pair"][2, 2] = -INF
    forbidden["init"][0] = -INF
    yield viterbi_case(
        name,
        forbidden,
        "Forbidden transitions and a forbidden start: the states that are likeliest "
        "one by one may make no possible path.",
        "most-likely-states-one-by-one",
        "nan-from-minus-infinity",
    )
    name = "viterbi-ragged"
    rng = generator_of(name)
    lengths = np.array([5, 1, 3])
    ragged = markov(rng, 3, 5, 3)
    ragged["node"][np.arange(5) >= lengths[:, None]] = JUNK * np.array([1, 2, 3])
    yield viterbi_case(
        name,
        ragged | {"lengths": lengths},
        "Sequences of 5, 1 and 3 steps; the states of no step are -1.",
        "reads-past-length",
    )
    name = "viterbi-spread-1000"
    rng = generator_of(name)
    wide = markov(rng, 1, 7, 3)
    wide["node"] = rng.uniform(-500, 500, (1, 7, 3))
    yield viterbi_case(
        name,
        wide,
        "Log potentials of spread 1000: products of probabilities are all zero.",
        "underflow-of-exp",
    )
    name = "viterbi-garden-path"
    yield viterbi_case(
        name,
        {
            "init": np.array([0.0, -1.0]),
            "pair": np.array([[0.0, -8.0], [-8.0, 0.0]]),
            "node": np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.0, 7.0]]]),
        },
        "The first steps speak for a state that the last ones rule out.",
        "greedy-decoding",
    )
    name = "viterbi-300-steps"
    yield viterbi_case(
        name,
        markov(generator_of(name), 1, 300, 4),
        "Three hundred steps.",
        "drift-over-time",
    )
