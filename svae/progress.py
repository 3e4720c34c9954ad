"""Progress bars, shown with tqdm where they are wanted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["progress_bar", "steps_of"]

Item = TypeVar("Item")

SHOWN = {
    "bound": "objective",
    "rec": "reconstruction",
    "local": "local",
    "kl": "local_kl",
    "global": "global_kl",
}
"""Words of the bar, and what of a step's record they show."""


@contextmanager
def progress_bar(
    num_steps: int, num_frames: int, show: bool, name: str | None = None
) -> Iterator[Callable[[dict[str, float]], None]]:
    """Yield a function that shows a step's record, in nats for each frame.

    Raises
    ------
    ImportError
        If the bar is wanted and tqdm is not installed.
    """
    if not show:
        yield lambda record: None
        return
    from tqdm import tqdm

    with tqdm(total=num_steps, unit="step", desc=name) as bar:

        def update(record: dict[str, float]) -> None:
            parts = {
                word: f"{record[name] / num_frames:.3f}"
                for word, name in SHOWN.items()
                if name in record
            }
            bar.set_postfix(parts, refresh=False)
            bar.update()

        yield update


def steps_of(items: Sequence[Item], show: bool, unit: str) -> Iterable[Item]:
    """Return items to go through, with a bar if it is wanted.

    Raises
    ------
    ImportError
        If the bar is wanted and tqdm is not installed.
    """
    if not show:
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, unit=unit)
    return bar
