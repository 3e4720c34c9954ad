"""Cells of tables, and their columns."""

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["aligned", "cell", "three_digits"]


def cell(value: Any, form: str) -> str:
    """Write a value in a format, of which # is three digits; a dash for NaN."""
    if isinstance(value, float) and math.isnan(value):
        return "-"
    return three_digits(value) if form == "#" else format(value, form)


def three_digits(x: float) -> str:
    """Write a number with three digits, more only before the point."""
    decimals = max(0, 2 - math.floor(math.log10(abs(x)))) if x else 0
    return f"{x:.{min(decimals, 3)}f}"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: words to the left, numbers to the right."""
    columns = list(zip(headings, *rows, strict=True))
    lines = []
    for row in (headings, *rows):
        cells = []
        for cell, column in zip(row, columns, strict=True):
            width = max(map(len, column))
            words = any(x[:1].isalpha() for x in column[1:])
            cells.append(cell.ljust(width) if words else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
