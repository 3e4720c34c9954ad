"""What the windows of a minibatch contribute to the bound and to its gradients.

`evaluate` reads the windows and differentiates here; `svae.training.workers` has the
same done by other processes, part by part, and `total` adds the parts.
"""

import warnings
from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from svae.autodiff.trees import tree_map
from svae.models import ConvergenceWarning, Diagnostics
from svae.objective.bound import Contribution, contribution
from svae.objective.model import Generative
from svae.training.batches import Minibatch, assemble, padded
from svae.types import Message

__all__ = ["Evaluate", "Outcome", "evaluate", "total"]

Outcome: TypeAlias = tuple[Contribution, int]
"""What the windows contribute, and how many of their contexts did not converge."""


class Evaluate(Protocol):
    """A function that evaluates a minibatch, wherever its windows are read."""

    def __call__(
        self,
        model: Generative,
        message: Message,
        encoder: Any,
        decoder: Any,
        minibatch: Minibatch,
        natural_gradient: str = "full",
        frozen: Collection[str] = (),
    ) -> Outcome:
        """Return what the windows contribute; see `evaluate`."""
        ...


def evaluate(
    sequences: Any,
    model: Generative,
    message: Message,
    encoder: Any,
    decoder: Any,
    minibatch: Minibatch,
    natural_gradient: str = "full",
    frozen: Collection[str] = (),
) -> Outcome:
    """Read the windows of a minibatch and evaluate them.

    Parameters
    ----------
    sequences : list of (T_n, P) arrays or recordings
        Or anything that has the stretches of them which are read.
    model : Generative
    message : tree
        m, the expected statistics of q(theta).
    encoder, decoder : trees
        phi, and gamma or the parameters of q(gamma).
    minibatch : Minibatch
    natural_gradient : {"full", "conjugate", "none"}
    frozen : collection of str
        See `svae.objective.bound.contribution`.

    Raises
    ------
    NotPositiveDefinite
        If the recognition network's potentials leave a chain without a Gaussian.
    """
    with warnings.catch_warnings():
        # counted instead, from the diagnostics
        warnings.simplefilter("ignore", ConvergenceWarning)
        batch, unconverged = assemble(model, message, encoder, sequences, minibatch)
        inputs = message, encoder, decoder, batch, minibatch.noise
        return contribution(model, *inputs, natural_gradient, frozen), unconverged


def total(outcomes: Sequence[Outcome], rows: Sequence[np.ndarray]) -> Outcome:
    """Add what the parts of a minibatch contribute, in the order of the parts.

    Parameters
    ----------
    outcomes : list of Outcome
    rows : list of (M_p,) integer arrays
        The windows of each part, as rows of the minibatch: what there is for each
        window returns to its row.
    """
    parts = [part for part, _ in outcomes]
    order = np.argsort(np.concatenate(rows))

    def arrange(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(arrays)[order]

    def diagnostics(of_parts: Sequence[Diagnostics]) -> Diagnostics:
        return Diagnostics(*map(arrange, zip(*of_parts, strict=True)))

    def add(*arrays: Any) -> Any:
        return sum(arrays[1:], arrays[0])

    states = None
    if parts[0].states is not None:
        windows = [window for part in parts for window in part.states]
        longest = max(len(window) for window in windows)
        states = padded(windows, longest)[order]
    summed = Contribution(
        sum(part.reconstruction for part in parts),
        sum(part.local_kl for part in parts),
        tree_map(add, *(part.message for part in parts)),
        tree_map(add, *(part.encoder for part in parts)),
        tree_map(add, *(part.decoder for part in parts)),
        diagnostics([part.inference for part in parts]),
        diagnostics([part.gradient_solve for part in parts]),
        states,
    )
    return summed, sum(unconverged for _, unconverged in outcomes)
