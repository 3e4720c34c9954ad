"""Columns of a table that count its rows: an index, numbers of frames, times.

They are no observations.  A model that has one spends its states on it, because it is
the column that grows best.
"""

import re

import numpy as np

__all__ = ["counting"]

ROWS = 10  # fewest in which a column that grows evenly is no accident
EVENLY = 0.05  # of a step, the largest distance from a straight line: rounded times
NAME = re.compile(
    r"(unnamed: ?\d+|index|idx|row|t|times?|time ?stamps?|frames?( ?(no|nr|number|"
    r"index|idx|id))?)( ?[(\[].*[)\]]| (m|u|n)?s| sec(onds)?)?",
    re.IGNORECASE,
)


def counting(names: list[str], values: np.ndarray) -> str | None:
    """Say which columns are called as an index or time is, or grow evenly, if any.

    Parameters
    ----------
    names : list of str
        Of the columns; may be empty.  A first one without a name is an index of pandas.
    values : (T, P)
    """
    found = _counters(names, values)
    shown = [
        f"{column} ({names[column]!r})" if column < len(names) else str(column)
        for column in found
    ]
    if not found:
        return None
    return (
        f"column {', '.join(shown)} counts frames or time, and is modelled as if it "
        f"were observed; leave it out: numpy.delete(data.load(path), {found}, axis=1), "
        "or a file without it"
    )


def _counters(names: list[str], values: np.ndarray) -> list[int]:
    called = [
        NAME.fullmatch(re.sub(r"[ _.\-#]+", " ", name).strip()) is not None
        for name in names
    ]
    if any(names) and not names[0]:
        called[0] = True
    called += [False] * (values.shape[1] - len(called))
    return [
        column
        for column in range(values.shape[1])
        if called[column] or _grows_evenly(values[:, column])
    ]


def _grows_evenly(column: np.ndarray) -> bool:
    if len(column) < ROWS or not _is_line(column[:ROWS]):  # which most are not
        return False
    return _is_line(column)


def _is_line(column: np.ndarray) -> bool:
    step = (column[-1] - column[0]) / (len(column) - 1)
    if not (np.isfinite(step) and step > 0):
        return False
    line = column[0] + step * np.arange(len(column))
    return bool(np.all(np.abs(column - line) <= EVENLY * step))
