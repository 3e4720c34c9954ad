"""A report as text and as files."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from svae.profile.cases import FLOPS
from svae.profile.memory import Peak
from svae.profile.peers import AGREE, Comparison
from svae.profile.steps import StepReport
from svae.profile.timing import Record, Report
from svae.store import replacing, write_json

__all__ = [
    "aligned",
    "csv_text",
    "memory_table",
    "save",
    "save_steps",
    "steps_table",
    "table",
]

COLUMNS: dict[str, tuple[str, str]] = {
    "kernel": ("kernel", ""),
    "size": ("size", ""),
    "variant": ("variant", ""),
    "num_sequences": ("N", ""),
    "num_timesteps": ("T", ""),
    "forward_ns": ("ns/step", "#"),
    "gflops": ("GFLOP/s", "#"),
    "percent_dgemm": ("%DGEMM", "#"),
    "percent_fma": ("%FMA", "#"),
    "compiled_ns": ("compiled", "#"),
    "adjoint_ns": ("adjoint", "#"),
    "adjoint_ratio": ("adj/comp", ".2f"),
    "memory_ratio": ("memory", ".2f"),
    "adjoint_memory_ratio": ("adj.mem", ".2f"),
    "reference_ratio": ("ref/this", "#"),
    "reference_error": ("error", ".0e"),
}
"""Heading and format of what `table` shows of a record; # is three digits."""


def table(report: Report) -> str:
    """Return a report as aligned text: machine, kernels, threads, other packages."""
    parts = [_machine(report), _kernels(report.records)]
    if any(record.num_threads > 1 for record in report.records):
        parts.append(_threads(report.records))
    if report.comparisons:
        parts.append(_peers(report.comparisons))
    parts += [f"{name}: not installed" for name in report.missing]
    return "\n\n".join(parts)


def memory_table(peaks: Sequence[Peak]) -> str:
    """Return peaks of memory as aligned text, in MB (1e6 bytes)."""
    headings = [
        "call",
        "size",
        "N",
        "T",
        "inputs",
        "outputs",
        "added",
        "peak/in+out",
        "",
    ]
    rows = []
    for peak in peaks:
        sizes = (peak.inputs, peak.outputs, peak.added)
        rows.append(
            [
                peak.kernel + (" adjoint" if peak.adjoint else ""),
                *map(str, (peak.size, peak.num_sequences, peak.num_timesteps)),
                *(f"{size / 1e6:.1f}" for size in sizes),
                _cell(peak.ratio, ".2f"),
                peak.note,
            ]
        )
    return (
        aligned(headings, rows)
        + "\n\nMB; added: resident at most during the call, less what was before it;\n"
        "peak/in+out: inputs and what was added, over inputs and outputs"
    )


def steps_table(report: StepReport) -> str:
    """Return times of training steps as aligned text."""
    headings = ["step", "batch", "threads", "ms", "products", "ratio"]
    headings += ["matmul", "ratio", "GFLOP/s", "iterations"]
    rows = [
        [
            record.workload,
            record.batch,
            str(record.num_threads),
            *map(three_digits, (record.step_ms, record.products_ms, record.ratio)),
            *map(three_digits, (record.matmul_ms, record.matmul_ratio)),
            three_digits(record.products_gflops),
            f"{record.iterations:.1f}, {record.gradient_iterations:.1f}",
        ]
        for record in report.records
    ]
    return "\n".join(
        [
            *_surroundings(report.environment),
            "",
            aligned(headings, rows),
            "",
            "ms: of a whole training step; batch: sequences x steps x dimensions; "
            "threads: of the core and\nof BLAS; products: the networks' matrix "
            "products alone, forward and backward, as such or as\ntransposes, which is "
            "faster, in ms and GFLOP/s; matmul: as such; ratio: step over either;\n"
            "iterations: of inference, of its gradient",
        ]
    )


def save_steps(report: StepReport, folder: str | Path) -> Path:
    """Write ``steps.csv``, ``steps.json`` and ``steps.txt``; see `save`."""
    texts = {"steps.csv": csv_text(report.records), "steps.txt": steps_table(report)}
    return _write(texts, "steps.json", report, folder)


def _machine(report: Report) -> str:
    roofs = report.roofs
    return "\n".join(
        [
            *_surroundings(report.environment),
            f"one core: DGEMM n=1000 {roofs.dgemm:.1f} GFLOP/s ({roofs.blas}), "
            f"FMA {roofs.fma:.1f} GFLOP/s, memory {roofs.bandwidth:.1f} GB/s",
        ]
    )


def _surroundings(env: dict[str, str]) -> list[str]:
    packages = ", ".join(f"{x} {env[x]}" for x in ("svae", "numpy", "scipy", "python"))
    return [
        f"{env['cpu']}, {env['cpus']} CPUs, {env['instructions']}; "
        f"load before: {env['load']}",
        packages,
    ]


def _kernels(records: Sequence[Record]) -> str:
    shown = [record for record in records if record.num_threads == 1]
    rows = [
        [_cell(getattr(record, name), form) for name, (_, form) in COLUMNS.items()]
        for record in shown
    ]
    formulas = ", ".join(
        f"{name} {FLOPS[name][0]}" for name in dict.fromkeys(r.kernel for r in shown)
    )
    return (
        aligned([heading for heading, _ in COLUMNS.values()], rows)
        + f"\n\nstated flops of a step: {formulas}\n"
        "ns/step: per step of one sequence, one thread, as compiled and adjoint; "
        "compiled: without checks\nof arguments; memory: peak of the call with its "
        "inputs, over inputs and outputs; ref/this: time\nof svae.reference over this; "
        "error: largest, relative (svae.profile says more)"
    )


def _threads(records: Sequence[Record]) -> str:
    numbers = sorted({record.num_threads for record in records} - {1})
    speedups: dict[str, list[str]] = {}
    for record in records:
        if record.num_threads > 1:
            row = speedups.setdefault(record.case.name, [])
            row += [_cell(record.speedup, ".2f"), _cell(record.adjoint_speedup, ".2f")]
    headings = [text for n in numbers for text in (f"{n} threads", "adjoint")]
    rows = [[name, *cells] for name, cells in speedups.items()]
    return aligned(["speed-up", *headings], rows)


def _peers(comparisons: Sequence[Comparison]) -> str:
    headings = [
        "task",
        "size",
        "N",
        "T",
        "svae ns",
        "ns",
        "ratio",
        "error",
        "package",
        "",
    ]
    rows = [
        [
            comparison.task,
            str(comparison.size),
            str(comparison.num_sequences),
            str(comparison.num_timesteps),
            _cell(comparison.svae_ns, "#"),
            _cell(comparison.peer_ns, "#"),
            _cell(comparison.ratio, "#"),
            _cell(comparison.largest_error, ".0e"),
            comparison.peer,
            comparison.note,
        ]
        for comparison in comparisons
    ]
    return aligned(headings, rows) + (
        "\n\nns: per step of one sequence, one core; ratio: over svae\n"
        "error: largest of the log likelihood, means and variances, or of the "
        "probabilities, or of\nthe gradient, relative; above "
        f"{AGREE:.0e} there is no ratio"
    )


def _cell(value: Any, form: str) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "-"
    return three_digits(value) if form == "#" else format(value, form)


def three_digits(x: float) -> str:
    """Write a number with three digits, more only before the point."""
    decimals = max(0, 2 - math.floor(math.log10(abs(x)))) if x else 0
    return f"{x:.{min(decimals, 3)}f}"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: words to the left, numbers to the right."""
    columns = list(zip(headings, *rows, strict=True))
    lines = []
    for row in (headings, *rows):
        cells = []
        for cell, column in zip(row, columns, strict=True):
            width = max(map(len, column))
            words = any(x[:1].isalpha() for x in column[1:])
            cells.append(cell.ljust(width) if words else cell.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def csv_text(records: Sequence[Any]) -> str:
    """Return records of one kind as csv, a column for each field."""
    text = io.StringIO()
    names = [field.name for field in fields(records[0])]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(record, name) for name in names] for record in records)
    return text.getvalue()


def save(report: Report, folder: str | Path) -> Path:
    """Write a report to a folder, which is made if there is none.

    ``profile.csv`` has a line for each record, ``profile.json`` all that the report
    holds, ``profile.txt`` the table, and ``peers.csv`` the other packages, if there
    were any. Each file replaces an older one when it is complete.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    texts = {"profile.csv": csv_text(report.records), "profile.txt": table(report)}
    if report.comparisons:
        texts["peers.csv"] = csv_text(report.comparisons)
    return _write(texts, "profile.json", report, folder)


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
