r"""Schedules: by what a rate is multiplied in each step of training.

=====================  =================================================================
``constant``           1
``cosine``             :math:`\tfrac12 (1 + \cos(\pi t / N))` of N steps of training,
``cosine:N``           or of N steps and 0 afterwards (Loshchilov and Hutter 2017), as
                       in the code of Bendekgey et al. (2023)
``exponential:R:N``    :math:`R^{t/N}`: by R in N steps.  Lin et al. (2018) let the
                       natural step fall by 0.95 in 1000
=====================  =================================================================

The first step has t = 0.  A schedule is a word, so that it can be kept in a file.
"""

import math
from functools import lru_cache
from typing import Any

__all__ = ["factor", "resolve"]

NUMBERS: dict[str, tuple[Any, ...]] = {
    "constant": (),
    "cosine": (int,),
    "exponential": (float, int),
}
"""What is behind the word of each kind."""
KINDS = "'constant', 'cosine', 'cosine:N' or 'exponential:R:N'"


def resolve(name: str, schedule: str, num_steps: int) -> str:
    """Return a schedule that says how many steps it is for.

    Parameters
    ----------
    name : str
        What an error calls it.
    schedule : str
    num_steps : int
        Of training.

    Raises
    ------
    ValueError
        If it is no schedule.
    """
    if schedule == "cosine":
        return f"cosine:{num_steps}"
    try:
        kind, numbers = _parsed(schedule)
        valid = kind == "constant" or numbers[-1] >= 1
        valid = valid and (kind != "exponential" or 0 < numbers[0] <= 1)
    except (AttributeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"{name} must be {KINDS}, with a number of steps N from 1 on and a rate R "
            f"in (0, 1], got {schedule!r}"
        )
    return schedule


def factor(schedule: str, step: int) -> float:
    """Return by what a rate is multiplied in a step, counted from 0."""
    kind, numbers = _parsed(schedule)
    if kind == "constant":
        return 1.0
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(step / numbers[0], 1.0)))
    return float(numbers[0] ** (step / numbers[1]))


@lru_cache
def _parsed(schedule: str) -> tuple[str, list[float]]:
    """Return kind and numbers; raise KeyError or ValueError if there are no such."""
    kind, *rest = schedule.split(":")
    return kind, [read(text) for read, text in zip(NUMBERS[kind], rest, strict=True)]
