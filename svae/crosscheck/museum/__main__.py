"""Try every mistake on every case, and write what kills it to a page.

The page is written anew by::

    python -m svae.crosscheck.museum [docs/museum.md]

The mutation score is the share of the mistakes that some case kills.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from svae.crosscheck import cases
from svae.crosscheck.cases import Case
from svae.crosscheck.museum import MISTAKES, Mutation, mutations

__all__ = ["page", "small_cases"]

STEPS = 40
"""Up to which cases are tried: the definition is slow, and gains nothing with time."""
HEAD = """\
# A museum of mistakes

Each exhibit is a wrong variant of one function of `svae.reference`, of the families, of
the objective, or of the filters of textbooks, as somebody has written it or may write
it. A certified case *kills* a mistake if it is judged wrong with the mistake in place
and right without. The share of mistakes that are killed is the *mutation score* of the
certified set; a survivor would be a missing case. Mistakes that can be made in the
words of everybody (A, Q, C, R; transition matrices) also serve `svae crosscheck` as
guesses: answers that agree with a mistake, where they differ from the truth, have it.

Whose mistake it was is said as far as published code and issues show it, of the
versions that were read; what was mended since is no mistake of the package any more.

**{killed} of {total} mistakes are killed** by {cases} cases, of up to {steps} steps.
`python -m svae.crosscheck.museum docs/museum.md` writes this page anew, and
`svae.crosscheck.museum.answer(mistake, case)` gives the answers to a case with a
mistake in place.

"""


def small_cases() -> list[Case]:
    """Return the cases that mistakes are tried on."""
    loaded = (cases.load(name) for name in cases.names())
    return [case for case in loaded if case.sizes.get("T", 1) <= STEPS]


def page(found: Iterable[Mutation], number: int) -> str:
    """Return the page of the museum.

    Parameters
    ----------
    found : iterable of Mutation
    number : int
        Cases that were tried.
    """
    found = list(found)
    killed = sum(bool(one.killed_by) for one in found)
    head = HEAD.format(killed=killed, total=len(found), cases=number, steps=STEPS)
    return head + "\n".join(exhibit(one) for one in found)


def exhibit(one: Mutation) -> str:
    """Return what is said of a mistake."""
    about = one.mistake
    where = f"{about.module.__name__}.{about.attribute}"
    killers = ", ".join(about.killed_by)
    others = len(set(one.killed_by) - set(about.killed_by))
    more = f" and {others} more" if others else ""
    verdict = f"Killed by {killers}{more}." if one.killed_by else "**Survives.**"
    return (
        f"### {about.name}\n\nAs if {about.says}.\n\n{about.story}\n\n"
        f"In the place of `{where}`, in cases of kind {', '.join(about.kinds)}. "
        f"{verdict}\n"
    )


def main(arguments: list[str]) -> int:
    """Print the score, write the page, and return 1 if a mistake survives."""
    chosen = small_cases()
    found = mutations(chosen, MISTAKES.values())
    for one in found:
        number = len(one.killed_by)
        word = f"killed by {number}" if number else "SURVIVES"
        missed = sorted(set(one.mistake.killed_by) - set(one.killed_by))
        note = f", but not by {', '.join(missed)}" if missed else ""
        print(f"{one.mistake.name:44} {word}{note}")
    killed = sum(bool(one.killed_by) for one in found)
    print(f"mutation score: {killed} of {len(found)}, by {len(chosen)} cases")
    for name in arguments:
        Path(name).write_text(page(found, len(chosen)), encoding="utf-8")
    return 0 if killed == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
