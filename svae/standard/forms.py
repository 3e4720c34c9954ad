"""Which form of a filter and smoother has enough digits for a system.

The information form inverts Q, R and P0 and is compiled; its errors are 2.2e-16 times
the condition number of the joint precision of all states. The covariance form inverts
none of them. `choose` takes the information form where that number, estimated from the
blocks of the precision and of its inverse, is at most `LARGEST_CONDITION`, so that some
twelve digits are right, and every covariance that is inverted has a condition number of
at most `LARGEST_SPREAD`.
"""

from __future__ import annotations

import numpy as np

from svae.autodiff.operations import value_of
from svae.errors import NotPositiveDefinite
from svae.standard import information
from svae.standard.system import System
from svae.types import Array

__all__ = ["FORMS", "LARGEST_CONDITION", "LARGEST_SPREAD", "choose", "condition"]

FORMS = ("auto", "information", "covariance")
LARGEST_CONDITION = 1e4
LARGEST_SPREAD = 1e8
WEIGHT = 100.0


def choose(system: System, form: str, ahead: bool = False) -> str:
    """Return "information" or "covariance": the form that is asked for, or the better.

    ``ahead`` says that states are wanted given the past alone.

    Raises
    ------
    ValueError
        If there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, wanted one of {', '.join(FORMS)}")
    if form != "auto":
        return form
    plain = system._replace(
        **{name: value_of(getattr(system, name)) for name in System._fields[:9]}
    )
    is_good = condition(plain, ahead) <= LARGEST_CONDITION
    return "information" if is_good else "covariance"


def condition(system: System, ahead: bool = False) -> float:
    """Return about the condition number of the joint precision; inf if there is none.

    The largest block of the precision times the largest covariance of a state given
    all observations, or ``ahead`` given the past; and, if that is larger, `WEIGHT`
    times the squares for each entry of y that cancel in the log likelihood, which are
    those of distances from zero.
    """
    covariances = [system.P0, system.R]
    if system.seen.shape[1] > 1:
        covariances.append(system.Q)
    if any(_spread(cov) > LARGEST_SPREAD for cov in covariances):
        return np.inf
    try:
        natural = information.potentials(system)
        if ahead:
            cov = information.predicted_covariances(natural, system)
        else:
            cov, _ = information.central_moments(natural, system)
    except (ValueError, NotPositiveDefinite, FloatingPointError):
        return np.inf
    pair = natural.pair if system.seen.shape[1] > 1 else ()
    blocks = sum(_largest(J) for J in (natural.init[0], *pair[::2], natural.node[0]))
    squares = np.abs(natural.constant).max(initial=0.0)
    known = max(float(system.seen.sum()), 1.0)
    return max(2 * blocks * _largest(cov), WEIGHT * squares / known)


def _spread(cov: Array) -> float:
    """Return the largest condition number of covariances (..., D, D)."""
    values = np.linalg.eigvalsh(cov)
    smallest, largest = values[..., 0], values[..., -1]
    if not (smallest > 0).all():
        return np.inf
    return float((largest / smallest).max(initial=1.0))


def _largest(J: Array) -> float:
    return float(np.abs(J).sum(-1).max(initial=0.0))
