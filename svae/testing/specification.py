"""The specification, statement by statement, and the code and tests behind it.

A statement of ``docs/specification.md`` or of ``docs/errata.md`` begins with its number
in bold and ends with two indented lines: a line of code, as ``file:number  code``, and
the test that shows it.  Code is found by its text, so that its number can be written
anew::

    python -m svae.testing.specification

It fails, and names the statement, where code or a test is gone.  It is run in a
checkout: an installed package has neither the pages nor the tests.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGES", "Statement", "numbered", "statements"]

PAGES = ("docs/specification.md", "docs/errata.md")
STATEMENT = re.compile(
    r"^\*\*(?P<number>[SE]\d+)\.\*\*(?P<text>.*?)\n\n"
    r"    (?P<file>\S+):(?P<line>\d+)  (?P<code>[^\n]+)\n    (?P<test>[^\n]+)\n",
    flags=re.DOTALL | re.MULTILINE,
)


class Statement(NamedTuple):
    """A numbered statement and what stands behind it."""

    number: str
    text: str
    file: str
    line: int
    code: str
    test: str


def statements(page: str) -> list[Statement]:
    """Return the statements of a page, in their order."""
    return [
        Statement(
            *(found["number"], found["text"], found["file"], int(found["line"])),
            *(found["code"], found["test"]),
        )
        for found in STATEMENT.finditer(page)
    ]


def line_of(path: Path, code: str) -> int:
    """Return the number of the only line of a file with this code.

    Raises
    ------
    LookupError
        If no line, or more than one, has it.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, 1) if code in line]
    if len(found) != 1:
        raise LookupError(f"{path} has {len(found)} lines with {code!r}")
    return found[0]


def numbered(page: str, root: Path = Path()) -> str:
    """Return a page with the numbers of lines as they are now in a checkout.

    Raises
    ------
    LookupError
        If code or a test is gone; names the statement.
    """

    def renewed(found: re.Match[str]) -> str:
        file, code = found["file"], found["code"]
        path, _, test = found["test"].partition("::")
        try:
            line = line_of(root / file, code)
            line_of(root / path, f"def {test}(")
        except (LookupError, FileNotFoundError) as error:
            raise LookupError(f"{found['number']}: {error}") from None
        return found[0].replace(f"{file}:{found['line']}  ", f"{file}:{line}  ")

    return STATEMENT.sub(renewed, page)


def main() -> None:
    """Write the numbers of lines on both pages anew."""
    for name in PAGES:
        path = Path(name)
        path.write_text(numbered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except LookupError as error:
        sys.exit(str(error))
