"""Every statement of the specification has its line of code and its test."""

import re
from pathlib import Path

import pytest

from svae.testing import specification

ROOT = Path(__file__).parents[2]


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", specification.PAGES)
def test_lines_and_tests_are_those_of_the_checkout(name):
    text = page(name)
    stale = "run python -m svae.testing.specification"
    assert specification.numbered(text, ROOT) == text, stale


@pytest.mark.parametrize("name", specification.PAGES)
def test_every_number_is_a_statement_and_there_once(name):
    begun = re.findall(r"^\*\*([SE]\d+)\.\*\*", page(name), flags=re.MULTILINE)
    read = [statement.number for statement in specification.statements(page(name))]
    assert read == begun
    letter = read[0][0]
    assert read == [f"{letter}{number}" for number in range(1, len(read) + 1)]


@pytest.mark.parametrize(
    "change, message",
    [
        (("log_det + onp.shape", "log_det * onp.shape"), "S1: .*gaussian.py"),
        (("test_gaussian_density", "test_no_such"), "S4: .*test_densities.py"),
        (("svae/families/wishart.py", "svae/families/none.py"), "S2: .*none.py"),
    ],
)
def test_what_is_gone_is_named(change, message):
    changed = page("docs/specification.md").replace(*change)
    with pytest.raises(LookupError, match=message):
        specification.numbered(changed, ROOT)
