"""A problem as a package wants to have it, before the clock starts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "HIDDEN_MARKOV",
    "LINEAR_SYSTEM",
    "Answers",
    "Model",
    "Prepared",
    "one_by_one",
    "weights",
]

LINEAR_SYSTEM = ("m1", "V1", "A", "Q", "y", "R")
HIDDEN_MARKOV = ("start", "transition", "log_likelihoods")

Model = dict[str, np.ndarray]
Answers = tuple[np.ndarray, ...]
"""Log likelihoods (N,) with means and variances (N, T, D) or probabilities (N, T, K);
of a gradient, that in the data (N, T, D) or the log likelihoods of states (N, T, K)."""


class Prepared(NamedTuple):
    """A call to be timed, and what makes answers of its result."""

    call: Callable[[], Any]
    answers: Callable[[Any], Answers]


def one_by_one(one: Callable[[Any], Any], sequences: Any) -> Prepared:
    """Take one sequence after the other."""
    return Prepared(
        lambda: [one(sequence) for sequence in sequences],
        lambda results: tuple(map(np.array, zip(*results, strict=True))),
    )


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Draw what gradients weigh means and variances with."""
    return np.random.default_rng(1).standard_normal((2, *shape))
