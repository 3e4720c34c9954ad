"""How much the annotations of the package say, and its longest functions.

An annotation says nothing where it is ``Any``: a reader and an editor learn nothing
from it, and a type checker checks nothing::

    python -m svae.testing.annotations
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from svae.testing.rooms import PACKAGE

__all__ = ["Function", "annotations", "functions", "report", "share_of_any"]


class Function(NamedTuple):
    """A function of the package, and where it is."""

    lines: int
    """Without its docstring."""
    name: str
    module: str
    """Path relative to the package."""


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the annotations of parameters, returned values, fields and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def share_of_any(package: Path = PACKAGE) -> tuple[int, int]:
    """Return how many annotations are ``Any`` and nothing else, and how many there are.

    A name that a module gives to ``Any`` counts as ``Any``.
    """
    empty = total = 0
    for tree, _ in trees(package):
        names = {"Any"} | {
            target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and is_any(node.value, {"Any"})
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        said = [is_any(annotation, names) for annotation in annotations(tree)]
        empty, total = empty + sum(said), total + len(said)
    return empty, total


def functions(package: Path = PACKAGE) -> list[Function]:
    """Return all functions, the longest first."""
    found = []
    for tree, module in trees(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                found.append(Function(length(node), node.name, module))
    return sorted(found, reverse=True)


def length(function: ast.FunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    first, last = function.lineno, function.end_lineno or function.lineno
    lines = last - first + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def is_any(node: ast.expr, names: set[str]) -> bool:
    """Whether an annotation is one of some names."""
    return isinstance(node, ast.Name) and node.id in names


def trees(package: Path) -> Iterator[tuple[ast.Module, str]]:
    """Yield every module of the package, parsed, and its path in it."""
    for path in sorted(package.rglob("*.py")):
        yield ast.parse(path.read_text()), path.relative_to(package).as_posix()


def report(package: Path = PACKAGE) -> str:
    """Return the share of annotations that are ``Any`` and the five longest functions.

    Lines of functions are counted without docstrings.
    """
    empty, total = share_of_any(package)
    lines = [f"{empty} of {total} annotations are Any ({empty / total:.0%})"]
    for function in functions(package)[:5]:
        lines.append(f"{function.lines:4} lines: {function.name} in {function.module}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
