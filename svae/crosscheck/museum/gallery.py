"""How a mistake is hung, put in place, and killed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

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
    "killers",
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


def killers(one: Mistake, cases: Iterable[Case]) -> Mutation:
    """Return which cases kill a mistake, and which let it pass.

    Parameters
    ----------
    one : Mistake
    cases : iterable of Case
        Those that are not of its kinds, and those that the right functions do not get
        right, are passed over.
    """
    killed: list[str] = []
    passed: list[str] = []
    for case in cases:
        if case.kind in one.kinds and case.kind in RIGHT:
            (killed if kills(case, one) else passed).append(case.name)
    return Mutation(one, tuple(killed), tuple(passed))


def kills(case: Case, one: Mistake) -> bool:
    """Whether a case is judged wrong with a mistake in place, and right without."""
    right = {
        score.quantity
        for score in judge(case, known(case, right_answer(case))).scores
        if score.right
    }
    if not right:
        return False
    try:
        wrong = known(case, answer(one, case))
    except FAILURES:
        return True
    scores = judge(case, wrong).scores
    return any(s.quantity in right and not s.right for s in scores)


def known(case: Case, answers: Answers) -> Answers:
    """Return those answers to which the case knows the truth."""
    return {name: x for name, x in answers.items() if name in case.expected}


def mutations(cases: Iterable[Case]) -> list[Mutation]:
    """Return what each mistake does to the cases."""
    cases = list(cases)
    return [killers(one, cases) for one in MISTAKES.values()]
