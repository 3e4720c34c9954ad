"""Two saved reports side by side: of two machines, two BLAS libraries, two versions."""

from pathlib import Path

from svae.profile.cells import aligned, three_digits
from svae.profile.machine import ENVIRONMENT
from svae.profile.saved import Figures, read

__all__ = ["compare"]


def compare(first: str | Path, second: str | Path) -> str:
    """Return the figures of two saved reports, and their ratios, as aligned text.

    Parameters
    ----------
    first, second : str or pathlib.Path
        Files ``profile.json``, ``long.json`` or ``steps.json`` of `svae.profile.save`
        and `svae.profile.save_steps`.

    Returns
    -------
    str
        What the figures depend on; then each figure that both files have, and the ratio
        of the second to the first; then what one of them has alone.

    Raises
    ------
    ValueError
        If a file is no such report; it is named.
    OSError
        If a file cannot be read.
    """
    a, b = read(first), read(second)
    parts = [f"A: {a.path}\nB: {b.path}", _machines(a, b), _ratios(a, b)]
    parts += [_alone("A", a, b), _alone("B", b, a)]
    return "\n\n".join(filter(None, parts))


def _machines(a: Figures, b: Figures) -> str:
    rows = []
    for name in ENVIRONMENT:
        left, right = (x.environment.get(name, "not said") for x in (a, b))
        rows.append([name, left, right, "" if left == right else "differ"])
    return aligned(["machine", "A", "B", ""], rows)


def _ratios(a: Figures, b: Figures) -> str:
    rows = [
        [*key, three_digits(x), three_digits(b.values[key]), _ratio(x, b.values[key])]
        for key, x in a.values.items()
        if key in b.values
    ]
    if not rows:
        return "A and B have no figure in common"
    return aligned(["what", "figure", "A", "B", "B/A"], rows)


def _ratio(a: float, b: float) -> str:
    return three_digits(b / a) if a else "-"


def _alone(letter: str, figures: Figures, others: Figures) -> str:
    """List what the other file does not have, a line for each thing measured."""
    found: dict[str, list[str]] = {}
    for name, unit in figures.values:
        if (name, unit) not in others.values:
            found.setdefault(name, []).append(unit)
    lines = [f"  {name}: {', '.join(units)}" for name, units in found.items()]
    return "\n".join([f"only in {letter}:", *lines]) if lines else ""
