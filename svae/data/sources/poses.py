"""Tables of positions of body parts, as DeepLabCut and its relatives write them.

Above the numbers are lines of names: ``scorer``, (``individuals``,) ``bodyparts`` and
``coords``, of which the last has x, y (and z) and mostly ``likelihood`` for each part.
The likelihood says how sure the tracker is, and is no position.
"""

import numpy as np

__all__ = ["positions"]

AXES = ("x", "y", "z")
LIKELIHOOD = "likelihood"


def positions(coords: list[str], values: np.ndarray, cutoff: float) -> np.ndarray:
    """Return the columns of positions, NaN where the likelihood is below a cutoff.

    Parameters
    ----------
    coords : list of str
        What is in each column; a likelihood follows the positions that it is of.
    values : (T, columns)
    cutoff : float

    Raises
    ------
    ValueError
        If a column is neither a position nor a likelihood, or there is no position.
    """
    kept: list[int] = []
    pending: list[int] = []  # positions whose likelihood is still to come
    kinds = [kind.lower() for kind in coords]
    for column, kind in enumerate(kinds):
        if kind in AXES:
            if kind in (kinds[each] for each in pending):  # those had no likelihood
                pending = []
            kept.append(column)
            pending.append(column)
        elif kind == LIKELIHOOD:
            doubtful = values[:, column] < cutoff
            for each in pending:
                values[doubtful, each] = np.nan
            pending = []
        else:
            raise ValueError(
                f"a column of {coords[column]!r} in a table of DeepLabCut, expected x, "
                "y, z or likelihood; save the coordinates without lines of names"
            )
    if not kept:
        raise ValueError("the table of DeepLabCut has no coordinates x, y")
    return values[:, kept]
