"""A progress bar over what is measured, shown with tqdm where it is wanted."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from svae.errors import needing
from svae.training.progress import PURPOSE

__all__ = ["steps_of"]

Item = TypeVar("Item")


def steps_of(items: Sequence[Item], show: bool, unit: str) -> Iterable[Item]:
    """Return items to go through, with a bar if it is wanted.

    Raises
    ------
    ImportError
        If the bar is wanted and tqdm is not installed.
    """
    if not show:
        return items
    with needing("tqdm", PURPOSE):
        from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, unit=unit)
    return bar
