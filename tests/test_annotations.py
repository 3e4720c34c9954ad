"""Annotations that say something: how many there are, and that results have them."""

import ast
import sys
import typing
from typing import Any, get_type_hints

import pytest

import svae
from svae.queries.forecasts import Forecast
from svae.queries.importance import ImportanceScore
from svae.queries.posteriors import Posterior, Reconstruction
from svae.testing.annotations import (
    annotations,
    functions,
    length,
    report,
    share_of_any,
)
from svae.types import Array, Integers

SOURCE = '''
from typing import Any

Box = Any


def long(x: Any, y: int, *rest: Box) -> list[Any]:
    """Return the

    same.
    """
    z: Any = x
    return [z]


def short(x) -> Any: return x
'''


def test_annotations_that_are_any_are_counted(tmp_path):
    (tmp_path / "module.py").write_text(SOURCE)
    assert len(list(annotations(ast.parse(SOURCE)))) == 6
    assert share_of_any(tmp_path) == (4, 6)


def test_lines_are_counted_without_docstrings(tmp_path):
    (tmp_path / "module.py").write_text(SOURCE)
    assert [found[:2] for found in functions(tmp_path)] == [(3, "long"), (1, "short")]
    (node, _) = (n for n in ast.parse(SOURCE).body if isinstance(n, ast.FunctionDef))
    assert length(node) == 3


def test_the_report_has_the_share_and_five_functions():
    first, *rest = report().splitlines()
    assert "annotations are Any" in first
    assert len(rest) == 5


def test_any_is_the_exception():
    empty, total = share_of_any()
    assert empty < 0.3 * total


QUESTIONS = [
    (svae.SVAE.infer, Posterior),
    (svae.SVAE.transform, Array),
    (svae.SVAE.reconstruct, Reconstruction),
    (svae.SVAE.predict, Integers),
    (svae.SVAE.forecast, Forecast),
    (svae.SVAE.impute, Array),
    (svae.SVI.infer, Posterior),
    (svae.SVI.transform, Array),
    (svae.SVI.predict, Integers),
]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="overloads are not kept")
@pytest.mark.parametrize(
    "question, answer", QUESTIONS, ids=lambda each: getattr(each, "__qualname__", "")
)
def test_an_array_has_one_answer_and_a_list_has_one_for_each(question, answer):
    kinds = [get_type_hints(each)["return"] for each in typing.get_overloads(question)]
    assert kinds == [answer, list[answer], answer | list[answer]]


def test_what_is_read_back_is_an_estimator():
    assert get_type_hints(svae.load)["return"] == svae.SVAE | svae.SVI


@pytest.mark.parametrize(
    "record", [Posterior, Reconstruction, Forecast, ImportanceScore]
)
def test_every_field_of_a_result_has_a_type(record):
    assert Any not in get_type_hints(record).values()
