"""The figures of a report that was saved, read as another run's are: with suspicion."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from svae.profile.machine import ENVIRONMENT

__all__ = ["Figures", "read"]


class _Kind(NamedTuple):
    """Records of one kind: what says which they are, and what was measured."""

    where: tuple[str, ...]
    figures: dict[str, str]
    """Field and its unit."""


CHAINS = _Kind(
    (
        *("kernel", "size", "variant"),
        *("num_sequences", "num_timesteps", "num_samples", "num_threads"),
    ),
    {
        "forward_ns": "ns/step",
        "compiled_ns": "compiled ns/step",
        "adjoint_ns": "adjoint ns/step",
        "memory_ratio": "memory",
        "adjoint_memory_ratio": "adjoint memory",
        "reference_ratio": "reference/this",
    },
)
STEPS = _Kind(
    ("workload", "batch", "num_threads"),
    {"step_ms": "ms", "products_ms": "products ms", "matmul_ms": "matmul ms"},
)
PEERS = _Kind(
    ("peer", "task", "size", "num_sequences", "num_timesteps"),
    {"svae_ns": "svae ns/step", "peer_ns": "ns/step"},
)
ROOFS = {"fma": "GFLOP/s of FMA", "dgemm": "GFLOP/s of DGEMM", "bandwidth": "GB/s"}
LETTERS = {
    "num_sequences": "N",
    "num_timesteps": "T",
    "num_samples": "S",
    "num_threads": "threads",
}
MOST_BYTES = 2**24
"""Of a file; a report of everything has a hundredth of that."""
WRONG = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What another file may make of our reading."""


@dataclass(frozen=True)
class Figures:
    """What a file holds."""

    path: Path
    environment: dict[str, str]
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    """By what was measured, and how."""


def read(path: str | Path) -> Figures:
    """Read a file that `save` or `save_steps` wrote, of any machine.

    Times, peaks of memory and roofs are read; what follows from them is not. A figure
    that was not measured is not there.

    Raises
    ------
    ValueError
        If the file is none of these, or not whole; it is named.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        content = _content(path)
        roofs = content.get("roofs", {})
        figures = Figures(path, _environment(content["environment"], roofs))
        for name, unit in ROOFS.items():
            _add(figures, "one core", unit, roofs.get(name))
        for record in content["records"]:
            _add_record(figures, STEPS if "workload" in record else CHAINS, record)
        for record in content.get("comparisons", []):
            _add_record(figures, PEERS, record)
    except WRONG as error:
        reason = f"{type(error).__name__}: {error}"[:100]
        raise ValueError(f"{path}: no report of svae profile ({reason})") from error
    if not figures.values:
        raise ValueError(f"{path}: a report of svae profile without any figure")
    return figures


def _content(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    content: dict[str, Any] = json.loads(text, parse_constant=_refuse)
    return content


def _environment(found: dict[str, Any], roofs: dict[str, Any]) -> dict[str, str]:
    """Return what is said of the machine; of BLAS, older files say it elsewhere."""
    if "blas" in roofs:
        found = {"blas": roofs["blas"], **found}
    if not found.keys() >= {"cpu", "instructions", "svae"}:
        raise KeyError("environment")
    return {name: _printable(found[name]) for name in ENVIRONMENT if name in found}


def _add_record(figures: Figures, kind: _Kind, record: dict[str, Any]) -> None:
    of_lds = str(record.get("kernel", record.get("task"))).startswith("lds")
    letters = LETTERS | {"size": "D" if of_lds else "K"}
    words = [_word(letters.get(x, x), record[x]) for x in kind.where]
    name = " ".join(filter(None, words))
    if kind is PEERS:
        name = f"beside {name}"
    for figure, unit in kind.figures.items():
        _add(figures, name, unit, record.get(figure))


def _word(letter: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{letter}={value}"
    text = _printable(value)
    # of a package without its version, which may differ
    return text.partition(" ")[0] if letter == "peer" else text


def _printable(text: Any) -> str:
    """Return a text without what a terminal would take for a command."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no text")
    return "".join(x if x.isprintable() else "?" for x in text)


def _add(figures: Figures, name: str, unit: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{unit} of {name} is {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{unit} of {name} is {value}")
    if (name, unit) in figures.values:
        raise ValueError(f"{unit} of {name} stands there twice")
    figures.values[name, unit] = float(value)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no figure")
