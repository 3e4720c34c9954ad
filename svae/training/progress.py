"""Progress bars, shown with tqdm where they are wanted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from svae.errors import needing

__all__ = ["PURPOSE", "Show", "progress_bars"]

SHOWN = {
    "bound": "objective",
    "rec": "reconstruction",
    "local": "local",
    "kl": "local_kl",
    "global": "global_kl",
}
"""Words of the bar, and what of a step's record they show."""

PURPOSE = "progress bars (progress=False goes without)"

Show = Callable[[str | None, int, int, dict[str, float]], None]


@contextmanager
def progress_bars(num_frames: int, show: bool) -> Iterator[Show]:
    """Yield a function that shows a step: one bar after another, for each stage.

    Called as ``update(stage, num_steps, step, record)``, step counting from 1; numbers
    are shown in nats for each frame.

    Raises
    ------
    ImportError
        If bars are wanted and tqdm is not installed.
    """
    if not show:
        yield lambda *step: None
        return
    with needing("tqdm", PURPOSE):
        from tqdm import tqdm

    bars: list[Any] = []
    stages: list[str | None] = []

    def update(
        stage: str | None, num_steps: int, step: int, record: dict[str, float]
    ) -> None:
        if stages[-1:] != [stage]:
            for bar in bars:
                bar.close()
            stages.append(stage)
            bar = tqdm(total=num_steps, initial=step - 1, unit="step", desc=stage)
            bars.append(bar)
        parts = {
            word: f"{record[name] / num_frames:.3f}"
            for word, name in SHOWN.items()
            if name in record
        }
        bars[-1].set_postfix(parts, refresh=False)
        bars[-1].update()

    try:
        yield update
    finally:
        for bar in bars:
            bar.close()
