"""Weight decay, apart from the gradient (Loshchilov and Hutter 2019)."""

from typing import Any

import numpy as np

from svae.objective.model import Generative

__all__ = ["decay"]

KEPT = "skip"
"""The part of a network that is a linear map beside it: no decay draws it to zero."""


def decay(model: Generative, part: str, moved: Any, before: Any, amount: float) -> Any:
    """Draw the matrices of a network toward zero.

    Biases stay, and so do the map of a ``skip``, parameters of the likelihood, the
    graph of a structured inference network, and q(gamma), which has a prior.

    Parameters
    ----------
    model : Generative
    part : {"encoder", "decoder"}
    moved, before : tree
        Parameters after and before a step of Adam.
    amount : float
        The share that is taken from each entry.
    """
    if part == "encoder" and model.inference == "sin":
        return moved | {"network": _less(moved["network"], before["network"], amount)}
    if part == "decoder" and model.decoder_posterior != "point":
        return moved
    if part == "decoder" and model.likelihood.scale_from == "parameters":
        return moved | {"network": _less(moved["network"], before["network"], amount)}
    return _less(moved, before, amount)


def _less(moved: Any, before: Any, amount: float) -> Any:
    if isinstance(moved, dict):
        return {
            key: part if key == KEPT else _less(part, before[key], amount)
            for key, part in moved.items()
        }
    if isinstance(moved, (tuple, list)):
        pairs = zip(moved, before, strict=True)
        parts = [_less(part, old, amount) for part, old in pairs]
        named = hasattr(moved, "_fields")
        return type(moved)(*parts) if named else type(moved)(parts)
    return moved - amount * before if np.ndim(moved) >= 2 else moved
