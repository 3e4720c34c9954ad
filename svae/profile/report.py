"""A report as text."""

import math
from collections.abc import Sequence

from svae.profile import goals
from svae.profile.cases import FLOPS, KERNELS, Case
from svae.profile.cells import aligned, cell, three_digits
from svae.profile.lengths import lengths_table, with_lengths
from svae.profile.machine import environment_lines
from svae.profile.peers import AGREE, Comparison
from svae.profile.steps import StepReport
from svae.profile.timing import Record, Report

__all__ = ["steps_table", "table"]

COLUMNS: dict[str, tuple[str, str]] = {
    "kernel": ("kernel", ""),
    "size": ("size", ""),
    "variant": ("variant", ""),
    "num_sequences": ("N", ""),
    "num_timesteps": ("T", ""),
    "forward_ns": ("ns/step", "#"),
    "forward_goal": ("goal", ""),
    "gflops": ("GFLOP/s", "#"),
    "percent_dgemm": ("%DGEMM", "#"),
    "percent_fma": ("%FMA", "#"),
    "compiled_ns": ("compiled", "#"),
    "adjoint_ns": ("adjoint", "#"),
    "adjoint_ratio": ("adj/comp", ".2f"),
    "adjoint_goal": ("goal", ""),
    "memory_ratio": ("memory", ".2f"),
    "adjoint_memory_ratio": ("adj.mem", ".2f"),
    "reference_ratio": ("ref/this", "#"),
    "reference_error": ("error", ".0e"),
}
"""Heading and format of what `table` shows of a record; # is three digits."""
GOALS = {"forward_goal": goals.forward_ns, "adjoint_goal": goals.adjoint_ratio}


def table(report: Report) -> str:
    """Return a report as aligned text: machine, kernels, threads, other packages."""
    parts = [_machine(report), _kernels(report.records)]
    if with_lengths(report.records):
        parts.append(lengths_table(report.records))
    elif any(record.num_threads > 1 for record in report.records):
        parts.append(_threads(report.records))
    if report.comparisons:
        parts.append(_peers(report.comparisons))
    parts += [f"{name}: not installed" for name in report.missing]
    return "\n\n".join(parts)


def steps_table(report: StepReport) -> str:
    """Return times of training steps as aligned text."""
    headings = ["step", "batch", "threads", "ms", "goal", "products", "ratio", "goal"]
    headings += ["matmul", "ratio", "GFLOP/s", "iterations"]
    rows = [
        [
            record.workload,
            record.batch,
            str(record.num_threads),
            three_digits(record.step_ms),
            goals.at_most(goals.step_ms(record.workload, record.num_threads)),
            *map(three_digits, (record.products_ms, record.ratio)),
            goals.at_most(goals.step_ratio(record.workload)),
            *map(three_digits, (record.matmul_ms, record.matmul_ratio)),
            three_digits(record.products_gflops),
            f"{record.iterations:.1f}, {record.gradient_iterations:.1f}",
        ]
        for record in report.records
    ]
    return "\n".join(
        [
            *environment_lines(report.environment),
            "",
            aligned(headings, rows),
            "",
            "ms: of a whole training step; batch: sequences x steps x dimensions; "
            "threads: of the core and\nof BLAS; products: the networks' matrix "
            "products alone, forward and backward, as such or as\ntransposes, which is "
            "faster, in ms and GFLOP/s; matmul: as such; ratio: step over either;\n"
            "iterations: of inference, of its gradient\n" + goals.ABOUT,
        ]
    )


def _machine(report: Report) -> str:
    roofs = report.roofs
    return "\n".join(
        [
            *environment_lines(report.environment),
            f"one core: DGEMM n=1000 {roofs.dgemm:.1f} GFLOP/s, "
            f"FMA {roofs.fma:.1f} GFLOP/s, memory {roofs.bandwidth:.1f} GB/s",
        ]
    )


def _kernels(records: Sequence[Record]) -> str:
    shown = [record for record in records if record.num_threads == 1]
    rows = [
        [_shown(record, name, form) for name, (_, form) in COLUMNS.items()]
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
        "error: largest, relative (svae.profile says more)\n" + goals.ABOUT
    )


def _shown(record: Record, name: str, form: str) -> str:
    if name in GOALS:
        return goals.at_most(GOALS[name](record.case))
    return cell(getattr(record, name), form)


def _threads(records: Sequence[Record]) -> str:
    numbers = sorted({record.num_threads for record in records} - {1})
    speedups: dict[str, list[str]] = {}
    for record in records:
        if record.num_threads > 1:
            row = speedups.setdefault(record.case.name, [])
            row += [cell(record.speedup, ".2f"), cell(record.adjoint_speedup, ".2f")]
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
        "goal",
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
            cell(comparison.svae_ns, "#"),
            goals.at_most(_goal_of_peers(comparison)),
            cell(comparison.peer_ns, "#"),
            cell(comparison.ratio, "#"),
            cell(comparison.largest_error, ".0e"),
            comparison.peer,
            comparison.note,
        ]
        for comparison in comparisons
    ]
    return aligned(headings, rows) + (
        f"\n\n{goals.ABOUT}\nns: per step of one sequence, one core; ratio: over svae\n"
        "error: largest of the log likelihood, means and variances, or of the "
        "probabilities, or of\nthe gradient, relative; above "
        f"{AGREE:.0e} there is no ratio"
    )


def _goal_of_peers(comparison: Comparison) -> float:
    """Return the goal of our own time: that of the chain, but for its one sample."""
    if comparison.task not in KERNELS["all"]:
        return math.nan
    N, T = comparison.num_sequences, comparison.num_timesteps
    return goals.forward_ns(Case(comparison.task, comparison.size, N, T))
