"""Tables of numbers as text, ``.csv``.

What programs write under this name differs: columns are separated by commas, by
semicolons (where the comma is the decimal sign) or by tabs; missing values are empty,
NaN or NA; lines of names come first, or none.  What can be understood in one way only
is read, and all else is refused with its line.
"""

import csv
import io
from array import array
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from svae.data.sources.reference import MEMORY

__all__ = ["Table", "read_table"]

MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none"}
SAMPLE = 2**16  # bytes in which the separator is looked for
LONGEST = 2**25  # characters of a line
POSE_HEADER = 6  # lines at most, before the data of a table of poses
REMEDY = (
    "columns are separated by commas, semicolons or tabs, decimals by points (with "
    "semicolons or tabs also by commas); missing values are empty or NaN; columns of "
    "text or dates need to be left out"
)


class Table(NamedTuple):
    """The numbers of a table, with the lines of names above them."""

    names: list[list[str]]
    """One list for each line, with a name for each column of ``values``."""
    values: np.ndarray
    """(rows, columns) float64, NaN where a value is missing."""
    poses: bool
    """Whether it is a table of DeepLabCut, of which columns of an index were left out.
    The last line of names says what is in a column: x, y, likelihood."""


def read_table(file: BinaryIO) -> Table:
    """Read a table, with little more in memory than its numbers.

    Parameters
    ----------
    file : binary file
        Text in UTF-8, with a byte order mark or without.

    Raises
    ------
    ValueError
        If it is no such table, or has more than 2^26 numbers; the message names the
        line and the remedy.
    """
    sample = file.read(SAMPLE).decode("utf-8-sig", "replace").splitlines()
    separator = _separator([line for line in sample if line.strip()])
    file.seek(0)
    lines = _Lines(io.TextIOWrapper(file, "utf-8-sig", newline=""), separator)
    try:
        rows = csv.reader(lines, delimiter=separator)
        return _parse(lines, (row for row in rows if "".join(row).strip() or row[1:]))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(f"line {lines.number}: {error}") from error
    finally:
        lines.file.detach()


class _Lines:
    """The lines of a text file, one at a time; the number of the last one."""

    def __init__(self, file: io.TextIOWrapper, separator: str) -> None:
        self.file, self.separator = file, separator
        self.number, self.text = 0, ""
        self._signs: dict[str, int] = {}  # decimal sign -> its first line of data

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.text = self.file.readline(LONGEST)
        if not self.text:
            raise StopIteration
        self.number += 1
        if len(self.text) == LONGEST:
            raise ValueError(f"line {self.number} is too long for a line of a table")
        return self.text

    def decimal_commas(self) -> bool:
        """Whether the last line has commas as decimal signs.

        Raises
        ------
        ValueError
            If the data also have points, so that one of them may group thousands.
        """
        if self.separator == ",":
            return False
        for sign in ",.":
            if sign in self.text:
                self._signs.setdefault(sign, self.number)
        if len(self._signs) > 1:
            raise ValueError(
                f"numbers have commas (line {self._signs[',']}) and points (line "
                f"{self._signs['.']}), and one of these may group thousands; save them "
                "with decimal points and without groups"
            )
        return "," in self._signs


def _separator(lines: list[str]) -> str:
    """Return the separator; names, which may have any sign, say nothing about it."""
    line = lines[min(1, len(lines) - 1)] if lines else ""
    return next((sign for sign in ";\t" if sign in line), ",")


def _parse(lines: _Lines, rows: Iterator[list[str]]) -> Table:
    first = next(rows, None)
    if first is None:
        raise ValueError("there are no numbers in the file")
    if first[0].strip().lower() == "scorer":
        return _parse_poses(lines, first, rows)
    names: list[list[str]] = []
    if _is_header(first, lines.separator):
        names, first = [[name.strip() for name in first]], next(rows, None)
        if first is None:
            raise ValueError("there are no numbers in the file")
    # a single cell above several columns is a title
    width = len(names[0]) if names and len(names[0]) > 1 else len(first)
    values = array("d")
    _append(values, lines, first, width, None)
    for row in rows:
        _append(values, lines, row, width, None)
    return Table(names, _as_rows(values, width), False)


def _parse_poses(lines: _Lines, first: list[str], rows: Iterator[list[str]]) -> Table:
    """Parse a table that DeepLabCut wrote: without the columns of its index."""
    header = [first]
    while header[-1][0].strip().lower() != "coords":
        row = next(rows, None)
        if row is None or len(header) == POSE_HEADER:
            raise ValueError(
                "it begins with 'scorer', as tables of DeepLabCut do, and has no line "
                "of 'coords' below; save the coordinates without lines of names"
            )
        header.append(row)
    kinds = [kind.strip().lower() for kind in header[-1]]
    if any(len(row) != len(kinds) for row in header):
        raise ValueError(f"lines 1 to {lines.number} name different numbers of columns")
    chosen = [i for i, kind in enumerate(kinds) if kind not in ("coords", "")]
    names = [[row[i].strip() for i in chosen] for row in header]
    values = array("d")
    for row in rows:
        _append(values, lines, row, len(kinds), chosen)
    if not values:
        raise ValueError("there are no numbers in the file")
    return Table(names, _as_rows(values, len(chosen)), True)


def _is_header(row: list[str], separator: str) -> bool:
    """Whether a line has names: no number, and not only missing values.

    Or what pandas writes above a table without names: nothing, 0, 1, 2, ...
    """
    if len(row) > 2 and not row[0].strip():
        if [cell.strip() for cell in row[1:]] == list(map(str, range(len(row) - 1))):
            return True
    cells = row if separator == "," else [cell.replace(",", ".") for cell in row]
    return not any(map(_is_number, cells)) and not all(map(_is_missing, cells))


def _append(
    values: "array[float]",
    lines: _Lines,
    row: list[str],
    width: int,
    chosen: list[int] | None,
) -> None:
    """Append the numbers of a row, of the chosen columns if there is a choice."""
    if len(row) != width:
        raise ValueError(
            f"line {lines.number} has {len(row)} columns, expected {width}; {REMEDY}"
        )
    if len(values) + width > MEMORY:
        raise ValueError(
            f"the table has more than {MEMORY} numbers, and text is read whole; save "
            "it as .npy or HDF5, of which parts are read as they are needed"
        )
    cells = row if chosen is None else [row[i] for i in chosen]
    if lines.decimal_commas():
        cells = [cell.replace(",", ".") for cell in cells]
    before = len(values)
    if "_" not in lines.text:  # which Python allows between digits
        try:
            return values.extend(map(float, cells))
        except ValueError:
            del values[before:]
    for index, cell in enumerate(cells):
        if _is_missing(cell):
            values.append(np.nan)
        elif _is_number(cell):
            values.append(float(cell))
        else:
            shown = row[index if chosen is None else chosen[index]]
            raise ValueError(
                f"line {lines.number}: {shown[:50]!r} is not a number; {REMEDY}"
            )


def _as_rows(values: "array[float]", width: int) -> np.ndarray:
    return np.frombuffer(values, np.float64).reshape(-1, width)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_number(cell: str) -> bool:
    if "_" in cell or _is_missing(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True
