"""A report as a figure."""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from svae.plot.drawing import COLORS, MARKERS, new_figure
from svae.profile.timing import Record, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(report: Report) -> "Figure":
    """Draw the kernels under the roofs of the machine (Williams et al. 2009).

    Stated operations per second over stated operations per byte of inputs and outputs:
    what a call can reach if it reads and writes each of these once. Workspace that
    leaves the caches costs more traffic than that.

    Returns
    -------
    matplotlib.figure.Figure
        Of one axes.
    """
    figure = new_figure(8.0, 5.5)
    ax = figure.subplots()
    records = [record for record in report.records if record.num_threads == 1]
    _roofs(ax, report, records)
    kinds = dict.fromkeys(record.kernel for record in records)
    for kind, color, marker in zip(kinds, COLORS, cycle(MARKERS), strict=False):
        _points(ax, [r for r in records if r.kernel == kind], color, marker)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="stated flops per byte of inputs and outputs",
        ylabel="GFLOP/s, one core",
        title=f"{report.environment['cpu']}, {report.environment['instructions']}",
    )
    ax.grid(alpha=0.25, which="major")
    ax.legend(
        loc="lower right", title="hollow: variants, small batches", title_fontsize=8
    )
    return figure


def _roofs(ax: "Axes", report: Report, records: Sequence[Record]) -> None:
    fma, dgemm, bandwidth = (
        getattr(report.roofs, name) for name in ("fma", "dgemm", "bandwidth")
    )
    intensities = [record.flops_per_byte for record in records]
    left, right = min(intensities) / 2, max(4 * max(intensities), 4 * fma / bandwidth)
    ax.plot(
        [left, fma / bandwidth, right],
        [bandwidth * left, fma, fma],
        color="black",
        linewidth=1.4,
    )
    ax.axhline(dgemm, color="gray", linewidth=1.0, linestyle="--")
    lowest = min(bandwidth * left, *(record.gflops for record in records))
    ax.set(xlim=(left, right), ylim=(lowest / 2, 2 * fma))
    end = dict[str, Any](ha="right", fontsize=8)
    ax.text(right / 1.05, 1.05 * fma, f"FMA {fma:.0f} GFLOP/s", **end)
    ax.text(right / 1.05, dgemm / 1.05, f"DGEMM {dgemm:.0f} GFLOP/s", va="top", **end)
    x, y = 1.3 * left, 1.15 * 1.3 * left * bandwidth
    ax.text(
        x,
        y,
        f"memory {bandwidth:.0f} GB/s",
        fontsize=8,
        rotation=math.degrees(math.atan2(y, x)),  # along the roof, in data space
        rotation_mode="anchor",
        transform_rotates_text=True,
    )


# Where the labels of a kernel go, so that those of two kernels do not meet.
SIDES: dict[str, dict[str, Any]] = {
    "lds": {"xytext": (6, 0), "va": "center"},
    "hmm": {"xytext": (-6, 0), "va": "center", "ha": "right"},
    "lds filter": {"xytext": (6, -4), "va": "top"},
    "hmm filter": {"xytext": (-6, 4), "va": "bottom", "ha": "right"},
    "viterbi": {"xytext": (0, 5), "va": "bottom", "ha": "center"},
    "sampling": {"xytext": (0, -5), "va": "top", "ha": "center"},
}


def _points(ax: "Axes", records: Sequence[Record], color: str, marker: str) -> None:
    for k, record in enumerate(records):
        usual = record.num_sequences > 2 and not record.variant
        point = record.flops_per_byte, record.gflops
        ax.plot(
            *point,
            marker,
            color=color,
            markerfacecolor=color if usual else "white",
            label=None if k else f"{record.kernel} ({record.case.letter})",
        )
        few = f"N={record.num_sequences}" if record.num_sequences <= 2 else ""
        text = " ".join(filter(None, [str(record.size), record.variant, few]))
        side = SIDES[record.kernel]
        ax.annotate(text, point, textcoords="offset points", fontsize=8, **side)
