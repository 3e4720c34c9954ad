"""Every mistake is killed by the cases that it names, and the page shows them all."""

from pathlib import Path

import pytest

from svae.crosscheck import cases
from svae.crosscheck.museum import MISTAKES, gallery, right_answer

PAGE = Path(__file__).parents[2] / "docs" / "museum.md"


@pytest.fixture(scope="module")
def right_of():
    """Return what the right functions get right of a case, found once."""
    known = {}

    def find(case):
        if case.name not in known:
            known[case.name] = gallery.right_quantities(case)
        return known[case.name]

    return find


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_killed_by_the_cases_that_they_name(name, right_of):
    one = MISTAKES[name]
    assert one.killed_by
    for case in map(cases.load, one.killed_by):
        assert case.kind in one.kinds
        assert gallery.kills(case, one, right_of(case)), case.name


@pytest.mark.parametrize("name", ["lds-small", "hmm-small", "gaussian-chain-small"])
def test_without_a_mistake_all_is_right(name, right_of):
    case = cases.load(name)
    answers = gallery.known(case, right_answer(case))
    assert len(answers) > 5 and right_of(case) == set(answers)


def test_right_functions_come_back_after_an_error():
    one = MISTAKES["half-J"]
    right = getattr(one.module, one.attribute)
    with pytest.raises(ZeroDivisionError), gallery.in_place(one):
        assert getattr(one.module, one.attribute) is not right
        raise ZeroDivisionError
    assert getattr(one.module, one.attribute) is right


def test_the_page_shows_every_mistake():
    text = " ".join(PAGE.read_text().split())
    assert f"**{len(MISTAKES)} of {len(MISTAKES)} mistakes are killed**" in text
    for name, one in MISTAKES.items():
        assert f"### {one.name} As if {one.says}. {one.story}" in text, name
        assert f"Killed by {', '.join(one.killed_by)}" in text
