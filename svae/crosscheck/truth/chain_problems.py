"""Problems of chains in natural parameters."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from svae.crosscheck.truth.chains import GAUSSIAN, MARKOV, Table
from svae.crosscheck.truth.problems import (
    Problem,
    covariance,
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
