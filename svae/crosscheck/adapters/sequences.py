"""Cases, cut into single sequences, for packages that take one at a time."""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any, NamedTuple

import numpy as np

from svae.types import Array

__all__ = ["Chain", "System", "each_chain", "each_system", "refuse", "version_of"]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]
LONGEST = 5000
"""Steps up to which a package that loops in Python is asked."""


class System(NamedTuple):
    """A linear system, and the data of one sequence."""

    A: Array
    """(D, D), or (T-1, D, D)."""
    push: Array
    """B u of each step but the last, (T-1, D)."""
    Q: Array
    C: Array
    """(P, D), or (T, P, D)."""
    shift: Array
    """D u of each step, (T, P)."""
    R: Array
    m0: Array
    P0: Array
    y: Array
    """(T, P), NaN where nothing is observed."""

    @property
    def constant(self) -> bool:
        """Whether no parameter depends on the step."""
        return all(x.ndim == 2 for x in (self.A, self.Q, self.C, self.R))

    @property
    def has_inputs(self) -> bool:
        """Whether anything moves the state or the data from outside."""
        return bool(self.push.any() or self.shift.any())

    @property
    def partly_observed(self) -> bool:
        """Whether some step has missing entries and others."""
        gaps = np.isnan(self.y)
        return bool((gaps.any(1) & ~gaps.all(1)).any())


class Chain(NamedTuple):
    """A hidden Markov model, and the data of one sequence."""

    start: Array
    transition: Array
    """(K, K), or (T-1, K, K)."""
    log_likelihoods: Array
    """(T, K)"""


def version_of(distribution: str) -> str:
    """Return the installed version of a package, or nothing."""
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return ""


def refuse(applies: Any, why: str) -> None:
    """Say that a case is not the business of a package."""
    if applies:
        raise NotImplementedError(why)


def each_system(
    inputs: Inputs, one: Callable[[System], Answers], longest: int = LONGEST
) -> Answers:
    """Ask for each sequence of a linear system, and line up the answers.

    Parameters
    ----------
    inputs : dict
        Of a case of kind ``lds``.
    one : callable
        Returns, for a `System`, any of the quantities without the axis of sequences.
    longest : int
        Steps up to which it is asked.
    """
    parts = {
        k[9:]: np.asarray(x) for k, x in inputs.items() if k.startswith("standard.")
    }
    y = parts["y"]
    N, T, P = y.shape
    refuse(T > longest, f"{T} steps would take long")
    D = parts["m0"].shape[-1]
    push, shift = np.zeros((N, T, D)), np.zeros((N, T, P))
    if "u" in parts:
        u = np.broadcast_to(parts["u"], (N, T, parts["u"].shape[-1]))[..., None]
        if "B" in parts:
            push[:, :-1] = (parts["B"] @ u[:, :-1])[..., 0]
        if "D" in parts:
            shift = (parts["D"] @ u)[..., 0]
    found = []
    for n, length in enumerate(lengths_of(parts, N, T)):

        def until(name: str, end: int) -> Array:
            x = parts[name]
            return x[:end] if x.ndim == 3 else x

        A, Q = (until(name, length - 1) for name in ("A", "Q"))
        C, R = (until(name, length) for name in ("C", "R"))
        m0, P0 = parts["m0"], parts["P0"]
        m0, P0 = (m0[n] if m0.ndim == 2 else m0), (P0[n] if P0.ndim == 3 else P0)
        moves = push[n, : length - 1], Q, C, shift[n, :length], R, m0, P0
        found.append(one(System(A, *moves, y[n, :length])))
    return lined_up(found, T)


def each_chain(
    inputs: Inputs, one: Callable[[Chain], Answers], longest: int = LONGEST
) -> Answers:
    """Ask for each sequence of a hidden Markov model; see `each_system`."""
    parts = {
        k[9:]: np.asarray(x) for k, x in inputs.items() if k.startswith("standard.")
    }
    node, transition, start = (
        parts[name] for name in ("log_likelihoods", "transition", "start")
    )
    N, T, K = node.shape
    refuse(T > longest, f"{T} steps would take long")
    found = []
    for n, length in enumerate(lengths_of(parts, N, T)):
        A = transition[n % len(transition)] if transition.ndim == 4 else transition
        if A.ndim == 3:
            A = np.broadcast_to(A, (T - 1, K, K))[: length - 1]
        of_first = start[n] if start.ndim == 2 else start
        found.append(one(Chain(of_first, A, node[n, :length])))
    return lined_up(found, T)


def lengths_of(parts: Mapping[str, Array], N: int, T: int) -> list[int]:
    """Return how many steps each sequence has."""
    return [int(n) for n in parts.get("lengths", np.full(N, T))]


def lined_up(found: list[Answers], T: int) -> Answers:
    """Stack answers, with zeros behind the ends; add the pairs up."""
    answers: Answers = {}
    for name in found[0]:
        arrays = [np.asarray(one[name], float) for one in found]
        if name == "pairs":
            answers[name] = sum(arrays)
            continue
        if name != "log_likelihood":
            steps = T - 1 if name == "smoothed.cross_cov" else T
            ends = [np.zeros((steps - len(x), *x.shape[1:])) for x in arrays]
            arrays = [np.concatenate(pair) for pair in zip(arrays, ends, strict=True)]
        answers[name] = np.array(arrays)
    return answers
