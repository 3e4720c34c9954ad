"""Annotations that say something: how many there are, and that results have them."""

import ast
from typing import Any, get_type_hints

import pytest

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


@pytest.mark.parametrize(
    "record", [Posterior, Reconstruction, Forecast, ImportanceScore]
)
def test_every_field_of_a_result_has_a_type(record):
    assert Any not in get_type_hints(record).values()
