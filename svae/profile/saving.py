"""A report as files."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from svae.profile.report import steps_table, table
from svae.profile.steps import StepReport
from svae.profile.timing import Report
from svae.store import replacing, write_json

__all__ = ["csv_text", "save", "save_steps"]


def save(report: Report, folder: str | Path, name: str = "profile") -> Path:
    """Write a report to a folder, which is made if there is none.

    ``profile.csv`` has a line for each record, ``profile.json`` all that the report
    holds, ``profile.txt`` the table, and ``peers.csv`` the other packages, if there
    were any. Each file replaces an older one when it is complete. Another name takes
    the place of ``profile``.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    texts = {f"{name}.csv": csv_text(report.records), f"{name}.txt": table(report)}
    if report.comparisons:
        texts["peers.csv"] = csv_text(report.comparisons)
    return _write(texts, f"{name}.json", report, folder)


def save_steps(report: StepReport, folder: str | Path) -> Path:
    """Write ``steps.csv``, ``steps.json`` and ``steps.txt``; see `save`."""
    texts = {"steps.csv": csv_text(report.records), "steps.txt": steps_table(report)}
    return _write(texts, "steps.json", report, folder)


def _write(texts: dict[str, str], json: str, report: Any, folder: str | Path) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name, "w") as file:
            file.write(text.rstrip("\n") + "\n")
    write_json(folder / json, _plain(asdict(report)))
    return folder


def _plain(tree: Any) -> Any:
    """Put None for what is not a number, which json has no word for."""
    if isinstance(tree, dict):
        return {key: _plain(branch) for key, branch in tree.items()}
    if isinstance(tree, list):
        return [_plain(branch) for branch in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree


def csv_text(records: Sequence[Any]) -> str:
    """Return records of one kind as csv, a column for each field."""
    text = io.StringIO()
    names = [field.name for field in fields(records[0])]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(record, name) for name in names] for record in records)
    return text.getvalue()
