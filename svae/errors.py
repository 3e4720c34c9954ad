"""Errors: of inference, naming sequence and step; of packages that are not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = [
    "Impossible",
    "NotFitted",
    "NotPositiveDefinite",
    "Unavailable",
    "needing",
    "not_fitted",
    "overflow",
]


class _AtStep(Exception):
    """An error at a place: ``sequence`` and ``step``; `reason` says what and why."""

    reason: str

    def __init__(self, sequence: int, step: int) -> None:
        super().__init__(sequence, step)
        self.sequence = sequence
        self.step = step

    def __str__(self) -> str:
        """Name the place and what usually causes the error."""
        return f"sequence {self.sequence}, step {self.step}: {self.reason}"


class NotPositiveDefinite(_AtStep, np.linalg.LinAlgError):
    """The joint precision of a Gaussian chain is not positive definite.

    Parameters
    ----------
    sequence : int
        The first sequence of the batch whose precision is not positive definite.
    step : int
        The first step whose precision given the steps before it is not.
    """

    reason = (
        "the precision of this step, given the steps before it, is not positive "
        "definite. Usual causes: a J of the wrong sign (J is minus half a precision), "
        "node potentials without bounds, noise so small that the precision blocks "
        "cancel in float64, or a step size that left the domain of the natural "
        "parameters"
    )


class Impossible(_AtStep, ValueError):
    """A Markov chain has no path of positive probability.

    Parameters
    ----------
    sequence : int
        The first sequence of the batch without such a path.
    step : int
        The first step that no such path reaches.
    """

    reason = (
        "no path up to this step has positive probability. Usual causes: log "
        "potentials of -inf that forbid every transition into the states this step "
        "allows, or every initial state"
    )


class NotFitted(ValueError, AttributeError):
    """A method that needs a fitted model was called before its ``fit``."""


def not_fitted(message: str) -> NotFitted:
    """Return a `NotFitted`, which is scikit-learn's error too where that is loaded.

    Its callers catch ``sklearn.exceptions.NotFittedError``, which has the same bases.
    """
    exceptions = sys.modules.get("sklearn.exceptions")
    if exceptions is None:
        return NotFitted(message)
    both = (NotFitted, exceptions.NotFittedError)
    # a class made on the way has no name that pickle finds, so it is made again
    again = {"__reduce__": lambda error: (not_fitted, error.args)}
    kind = type("NotFitted", both, {"__module__": __name__, **again})
    error: NotFitted = kind(message)
    return error


class Unavailable(TypeError, AttributeError):
    """A method has no meaning for the latent model; `hasattr` denies it."""


def overflow(name: str, index: int) -> FloatingPointError:
    """Return the error that names what has a result without a number.

    Parameters
    ----------
    name : str
        What that is, such as a sequence.
    index : int
        Which of them.
    """
    return FloatingPointError(
        f"{name} {index}: its log normalizer, a statistic or a sample, or the sum of "
        "such, passes 1.8e308. Scale the data that the potentials come from"
    )


@contextmanager
def needing(package: str, purpose: str) -> Iterator[None]:
    """Import an optional package inside, or say what wants it and how to get it.

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose}: this needs {package}, which is not installed "
            f"(pip install {package})",
            name=package,
        ) from error
