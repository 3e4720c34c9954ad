"""How a mistake is hung, put in place, and killed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from svae.crosscheck import our_models
from svae.crosscheck.cases import Case
from svae.crosscheck.compare import judge
from svae.crosscheck.museum import definition, textbook
from svae.errors import Impossible

__all__ = [
    "MISTAKES",
    "RIGHT",
    "Mistake",
    "Mutation",
    "answer",
    "in_place",
    "mistake",
    "mutations",
    "right_answer",
]

Function = Callable[..., Any]
Answers = dict[str, Any]

RIGHT: dict[str, Callable[[Mapping[str, Any], bool], Answers]] = {
    "gaussian_chain": definition.gaussian_chain,
    "markov_chain": definition.markov_chain,
    "viterbi": definition.viterbi,
    "lds": textbook.lds,
    "hmm": textbook.hmm,
    "family": lambda inputs, slopes: our_models.family(inputs),
    "mixture_bound": lambda inputs, slopes: our_models.mixture_bound(inputs),
    "switching_bound": lambda inputs, slopes: our_models.switching_bound(inputs),
    "natural_gradient": lambda inputs, slopes: our_models.natural_gradient(inputs),
    "inference_network": lambda inputs, slopes: our_models.inference_network(inputs),
}
"""What answers the inputs of each kind, rightly unless a mistake is in place.

The second argument says whether gradients are wanted too.
"""

FAILURES = (ArithmeticError, ValueError, IndexError, np.linalg.LinAlgError, Impossible)
"""What a wrong function may raise where its mistake makes a problem impossible."""


class Mistake(NamedTuple):
    """A wrong function that somebody has written."""

    name: str
    says: str
    """What an answer with it is, as the end of "it is as though"."""
    kinds: tuple[str, ...]
    """Of cases that it can show in."""
    module: ModuleType
    attribute: str
    """The name of the right function in the module."""
    make: Callable[[Function], Function]
    """Makes the wrong function of the right one."""
    killed_by: tuple[str, ...]
    """Cases that must be judged wrong."""

    @property
    def story(self) -> str:
        """Who made the mistake, or where it is made."""
        return " ".join((self.make.__doc__ or "").split())


MISTAKES: dict[str, Mistake] = {}


def mistake(
    name: str,
    says: str,
    kinds: Iterable[str],
    replaces: tuple[ModuleType, str],
    killed_by: Iterable[str],
) -> Callable[[Callable[[Function], Function]], Callable[[Function], Function]]:
    """Hang what makes a wrong function of a right one; its docstring tells the story.

    Parameters
    ----------
    name : str
        Words with hyphens.
    says : str
        What an answer with the mistake is: "the transition matrix is transposed".
    kinds : iterable of str
        Of cases that it can show in.
    replaces : (module, str)
        Where the right function is looked up when it is called.
    killed_by : iterable of str
        Names of cases that must be judged wrong.
    """

    def hang(make: Callable[[Function], Function]) -> Callable[[Function], Function]:
        if name in MISTAKES:
            raise ValueError(f"two mistakes are named {name!r}")
        parts = tuple(kinds), *replaces, make, tuple(killed_by)
        MISTAKES[name] = Mistake(name, says, *parts)
        return make

    return hang


@contextmanager
def in_place(one: Mistake) -> Iterator[None]:
    """Put the wrong function in the place of the right one for a while."""
    wrong = one.make(getattr(one.module, one.attribute))
    with mock.patch.object(one.module, one.attribute, wrong):
        yield


def right_answer(case: Case, slopes: bool = True) -> Answers:
    """Answer a case by the definition or the textbook."""
    return RIGHT[case.kind](case.inputs, slopes)


def answer(one: Mistake, case: Case, slopes: bool = True) -> Answers:
    """Answer a case with a mistake in place.

    Raises
    ------
    ArithmeticError, ValueError, IndexError
        If the mistake makes the problem one without an answer.
    """
    with in_place(one), np.errstate(all="ignore"):
        return right_answer(case, slopes)


class Mutation(NamedTuple):
    """What a mistake does to the cases that it can show in."""

    mistake: Mistake
    killed_by: tuple[str, ...]
    """Cases that are judged wrong, or have no answer any more."""
    passed: tuple[str, ...]


def mutations(
    cases: Iterable[Case], mistakes: Iterable[Mistake] | None = None
) -> list[Mutation]:
    """Return what mistakes do to the cases.

    Parameters
    ----------
    cases : iterable of Case
        Each is tried with the mistakes that can show in its kind; what the right
        functions get wrong of it does not count.
    mistakes : iterable of Mistake, optional
        By default all.
    """
    mistakes = list(MISTAKES.values() if mistakes is None else mistakes)
    killed: dict[str, list[str]] = {one.name: [] for one in mistakes}
    passed: dict[str, list[str]] = {one.name: [] for one in mistakes}
    for case in cases:
        chosen = [one for one in mistakes if case.kind in one.kinds]
        right = right_quantities(case) if chosen else set()
        for one in chosen:
            (killed if right and kills(case, one, right) else passed)[one.name].append(
                case.name
            )
    return [
        Mutation(one, tuple(killed[one.name]), tuple(passed[one.name]))
        for one in mistakes
    ]


def right_quantities(case: Case) -> set[str]:
    """Return what the right functions get right of a case."""
    if case.kind not in RIGHT:
        return set()
    try:
        with np.errstate(all="ignore"):
            answers = right_answer(case)
    except FAILURES:
        return set()
    scores = judge(case, known(case, answers)).scores
    return {score.quantity for score in scores if score.right}


def kills(case: Case, one: Mistake, right: set[str]) -> bool:
    """Whether a quantity that is right without a mistake is wrong with it."""
    try:
        wrong = known(case, answer(one, case))
    except FAILURES:
        return True
    scores = judge(case, wrong).scores
    return any(s.quantity in right and not s.right for s in scores)


def known(case: Case, answers: Answers) -> Answers:
    """Return those answers to which the case knows the truth."""
    return {name: x for name, x in answers.items() if name in case.expected}
