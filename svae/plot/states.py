"""Which discrete states of a model a figure shows, and in which order.

A state's rank is its place by what q(theta) has seen of it: ranks have colours.
"""

import itertools
from typing import Any

import numpy as np

from svae import metrics
from svae.data import as_sequences

__all__ = [
    "IN_USE",
    "counts_of",
    "labels_of",
    "name_of",
    "paths_of",
    "probable_states",
    "ranks_of",
    "ranks_of_labels",
    "require_states",
    "used_states",
]

IN_USE = 0.01
"""Share of the frames from which a state is shown."""
PROBABLE = 0.1
"""Probability from which a state is shown."""


def name_of(model: Any) -> str:
    """Return the name of the latent model."""
    return type(model.latent).__name__


def require_states(model: Any, figure: str) -> None:
    """Refuse a model without discrete states."""
    if not hasattr(model.latent, "num_states"):
        raise TypeError(f"{figure}: {name_of(model)} has no discrete states")


def labels_of(posterior: Any) -> np.ndarray:
    """Most probable state (T,) of each row; 0 without states."""
    if posterior.states is None:
        return np.zeros(len(posterior.mean), dtype=np.int64)
    return np.asarray(posterior.states.argmax(axis=-1))


def counts_of(model: Any) -> np.ndarray:
    """Frames (K,) that q(theta) counts for each state: of it beyond the prior."""
    posterior, prior = model.parameters_.natparams, model.latent.prior()
    counts = np.zeros(getattr(model.latent, "num_states", 1))
    for name in ("weights", "transitions"):
        if name in posterior:
            gained = posterior[name][0] - prior[name][0]
            counts += np.atleast_2d(gained).sum(axis=0)  # of transitions, into a state
    return np.maximum(counts, 0.0)


def ranks_of(model: Any) -> dict[int, int]:
    """Rank of each state by what q(theta) has seen of it, in the order of ranks."""
    order = np.argsort(-counts_of(model), kind="stable")
    return {int(state): rank for rank, state in enumerate(order)}


def paths_of(model: Any, sequences: Any) -> list[np.ndarray]:
    """Return the most likely path (T_n,) of each sequence."""
    paths: list[np.ndarray] = model.predict(as_sequences(sequences))
    return paths


def used_states(
    model: Any, sequences: Any, paths: list[np.ndarray] | None = None
) -> list[int]:
    """States that have a share of the frames, the most frequent first; all if none has.

    Of sequences, or of their ``paths``; without either, of what q(theta) counts.
    """
    if paths is None and sequences is not None:
        paths = paths_of(model, sequences)
    if paths is None:
        counts = counts_of(model)
    else:
        num_states = model.latent.num_states
        counts = np.bincount(np.concatenate(paths), minlength=num_states)
    order = np.argsort(-counts, kind="stable")
    return order[counts[order] >= IN_USE * counts.sum()].tolist()


def probable_states(
    probs: np.ndarray, path: np.ndarray, ranks: dict[int, int]
) -> list[int]:
    """States that are probable at a frame or on the path, in the order of ranks."""
    probable = np.flatnonzero(probs.max(axis=0) >= PROBABLE).tolist()
    return [state for state in ranks if state in {*probable, *path.tolist()}]


def ranks_of_labels(
    labels: np.ndarray, path: np.ndarray, ranks: dict[int, int]
) -> dict[int, int]:
    """Rank of each label: that of its state, or one that no state on the path has."""
    found = {
        label: ranks[state]
        for state, label in metrics.align_states(labels, path).items()
    }
    others = sorted(set(labels[labels >= 0].tolist()) - set(found))
    taken = {ranks[state] for state in path.tolist()}
    free = (rank for rank in itertools.count() if rank not in taken)
    return found | dict(zip(others, free, strict=False))
