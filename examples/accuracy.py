"""How exact the Gaussian chain is, beside the same recursions in LAPACK.

    python examples/accuracy.py runs/accuracy

gives both the same problems, whose joint precisions have condition numbers from 10 to
1e10, and compares their answers with the dense joint in 50 digits: log normalizer,
means, second moments, samples, and the adjoints of statistics and samples.  Nearly
deterministic dynamics and nearly exact observations follow.  ``accuracy.csv`` has every
error, ``accuracy.png`` those by condition number.  Needs mpmath and matplotlib.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from svae.testing import accuracy

EPS = np.finfo(float).eps
Row = dict[str, Any]


def main() -> None:
    """Measure all errors; write table, csv and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the csv and the figure")
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--decades", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--seeds", type=int, default=2, help="problems of each kind")
    parser.add_argument("--isa", nargs="+", default=accuracy.instruction_sets())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rows = []
    for D in options.dims:
        for name, draw in accuracy.kinds(D, options.decades).items():
            rows += measured(name, draw, D, options)
            print("\n".join(table(rows[-len(accuracy.QUANTITIES) :])), flush=True)
    with (options.out / "accuracy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    figure(rows, options.isa).savefig(options.out / "accuracy.png", dpi=150)


def measured(name: str, draw: Any, D: int, options: argparse.Namespace) -> list[Row]:
    """Measure the largest errors over the seeds, a row for each quantity."""
    condition, worst = accuracy.worst_errors(draw, range(options.seeds), options.isa)
    return [
        {"problem": name, "dim": D, "condition": condition, "quantity": quantity}
        | {method: errors[quantity] for method, errors in worst.items()}
        for quantity in accuracy.QUANTITIES
    ]


def table(rows: list[Row]) -> list[str]:
    """Lines of a table, under a line that names the problem."""
    first = rows[0]
    methods = list(first)[4:]
    head = f"{first['problem']}, D = {first['dim']}, condition {first['condition']:.1e}"
    lines = ["", head, " " * 22 + "".join(f"{method:>10}" for method in methods)]
    for row in rows:
        cells = "".join(f"{row[method]:10.1e}" for method in methods)
        lines.append(f"{row['quantity']:22}{cells}")
    return lines


def figure(rows: list[Row], isa: list[str]) -> plt.Figure:
    """Error against condition number: a panel a quantity, a marker a dimension."""
    fig, axes = plt.subplots(
        2, 3, figsize=(10, 6), sharex=True, sharey=True, layout="constrained"
    )
    dims = sorted({row["dim"] for row in rows})
    for ax, quantity in zip(axes.flat, accuracy.QUANTITIES, strict=True):
        for method, colour in (("LAPACK", "tab:gray"), (isa[0], "tab:blue")):
            for D, marker in zip(dims, "osD^v", strict=False):
                chosen = [
                    row
                    for row in rows
                    if row["quantity"] == quantity
                    and row["dim"] == D
                    and row["problem"].startswith("condition")
                ]
                ax.loglog(
                    [row["condition"] for row in chosen],
                    [row[method] for row in chosen],
                    marker,
                    color=colour,
                    markersize=5,
                    markerfacecolor="none" if method == "LAPACK" else colour,
                    label=f"{method}, D = {D}",
                )
        line = np.array([1e1, 1e10])
        ax.loglog(line, EPS * line, "k--", linewidth=1, label="eps * condition")
        ax.set_title(quantity, fontsize="medium")
    fig.supxlabel("condition number of the joint precision")
    fig.supylabel("largest relative error")
    axes[0, 0].legend(fontsize="x-small", frameon=False)
    return fig


if __name__ == "__main__":
    main()
