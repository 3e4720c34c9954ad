"""What commands print and draw, as far as the packages for it are installed."""

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from svae.store import replacing

__all__ = [
    "can_draw",
    "save_figures",
    "say_warning",
    "shows_progress",
    "speaker",
]

Say = Callable[[str], None]


def speaker(options: argparse.Namespace) -> Say:
    """Return what prints a line of text, or nothing with ``--quiet``."""
    return (lambda text: None) if options.quiet else print


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to show progress bars: unless ``--quiet``, or if tqdm is missing."""
    return not options.quiet and find_spec("tqdm") is not None


def say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as a line, without the place in the code that gave it."""
    print(f"svae: warning: {' '.join(str(message).split())}", file=sys.stderr)


def can_draw(say: Say) -> bool:
    """Whether figures can be made; say so if not."""
    if find_spec("matplotlib") is None:
        say("no figures: they need matplotlib (pip install matplotlib)")
        return False
    return True


def save_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Write figures as PNG files into a run's folder."""
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in figures.items():
        with replacing(folder / "figures" / f"{name}.png") as file:
            figure.savefig(file, format="png")
