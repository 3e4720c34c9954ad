"""Ask all packages that are installed, and write what comes of it to a page.

Takes some minutes, most of which JAX compiles::

    python -m svae.crosscheck.adapters docs/verdicts.md
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any

from svae.crosscheck import cases
from svae.crosscheck.adapters import NAMES
from svae.crosscheck.adapters.snippets import SNIPPETS
from svae.crosscheck.report import as_json
from svae.crosscheck.run import run

__all__ = ["CLASSES", "page"]

MANY, SOME = "12 digits or more", "6 to 12 digits"
FEW = "fewer"
CLASSES = ("right", MANY, SOME, FEW, "failed", "too slow", "not judged")
"""What a case counts as: right, or by the digits of its worst quantity."""
HEAD = """\
# Other packages beside certified values

`svae crosscheck run NAME` asks a package for the certified cases through an adapter of
some thirty lines (`svae/crosscheck/adapters/`), in double precision and with options
that its documentation offers for the purpose; what a package does not claim to do is
*not judged*. This page is written by `python -m svae.crosscheck.adapters
docs/verdicts.md`, with the versions that it names, and says nothing of others.

A quantity is right if its error is below 30 times the condition number of the answer
times the unit roundoff, which is what a careful algorithm has: a hard line, drawn for
this package as well. What is not right is counted by the digits that it has, where 12
or more are rounding that few applications would notice. A case counts by its worst
quantity.

The cases are hard on purpose, and most problems that people have are not. None of this
is a judgement of a package: all of them do more than is asked here, and each was right
wherever nothing is nearly singular, with the exceptions that the lines below show.

"""


def page(reports: Sequence[dict[str, Any]]) -> str:
    """Return the page of reports, as `svae.crosscheck.report.as_json` has them."""
    rows = [
        f"| package | version | {' | '.join(CLASSES)} |",
        "|---|---|" + "---:|" * len(CLASSES),
    ]
    for report in reports:
        counts = Counter(class_of(case) for case in report["cases"])
        numbers = " | ".join(str(counts[word] or "") for word in CLASSES)
        rows.append(f"| {report['name']} | {report['version']} | {numbers} |")
    parts = [section(report) for report in reports]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(parts)


def class_of(case: dict[str, Any]) -> str:
    """Return what a case counts as."""
    verdict = str(case["verdict"])
    if verdict == "expected failure" and not case["quantities"]:
        return "failed"
    if verdict in ("wrong", "expected failure"):
        digits = digits_of(case)
        return MANY if digits >= 12.0 else SOME if digits >= 6.0 else FEW
    return "right" if verdict == "unexpected pass" else verdict


def digits_of(case: dict[str, Any]) -> float:
    """Return the digits of the worst quantity of a case."""
    return min((x["digits"] for x in case["quantities"].values()), default=0.0)


def section(report: dict[str, Any]) -> str:
    """Return what is said of a package."""
    lines = [f"## {report['name']} {report['version']}", ""]
    judged = [case for case in report["cases"] if case["verdict"] != "not judged"]
    ill = [case for case in judged if class_of(case) != "right"]
    lines.append(f"{len(judged) - len(ill)} of {len(judged)} cases are right.")
    if ill:
        lines += ["", "| case | digits | quantities | what |", "|---|---:|---|---|"]
        lines += [row(case) for case in ill]
    silent = Counter(
        case["reason"]
        for case in report["cases"]
        if case["verdict"] == "not judged" and "has no function" not in case["reason"]
    )
    if silent:
        parts = [f"{number} ({reason})" for reason, number in silent.items()]
        lines += ["", f"Not judged: {'; '.join(parts)}."]
    for one in SNIPPETS.get(report["name"], ()):
        lines += ["", fill(one.says, 88), "", "```text", one.code + "```", ""]
        lines += ["prints", "", "```text", printed(one.code).rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def row(case: dict[str, Any]) -> str:
    """Return a row of a case that is not right."""
    wrong = [name for name, x in case["quantities"].items() if not x["right"]]
    digits = f"{digits_of(case):.1f}" if case["quantities"] else ""
    what = case["guess"] or case["reason"]
    return f"| {case['case']} | {digits} | {', '.join(wrong)} | {what} |"


def ask(name: str, seconds: float) -> dict[str, Any]:
    """Return a report of a package."""
    adapter = import_module(
        "svae.crosscheck.ours" if name == "ours" else f"svae.crosscheck.adapters.{name}"
    )
    every = (cases.load(one) for one in cases.names())
    chosen = [case for case in every if hasattr(adapter, case.kind)]
    return as_json(run(name, chosen, seconds))


def printed(code: str) -> str:
    """Return what lines of Python print in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout or done.stderr.splitlines()[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the packages, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m svae.crosscheck.adapters")
    parser.add_argument("page", metavar="FILE", help="to write, such as verdicts.md")
    about = "of packages; default: all that are installed"
    parser.add_argument("--only", choices=NAMES, action="append", help=about)
    about = "folder of reports, one for each package, which are kept and used again"
    parser.add_argument("--reports", type=Path, metavar="DIR", help=about)
    parser.add_argument("--seconds", type=float, default=300.0, metavar="X")
    options = parser.parse_args(arguments)
    reports = []
    for name in options.only or NAMES:
        kept = None if options.reports is None else options.reports / f"{name}.json"
        if kept is not None and kept.exists():
            report = json.loads(kept.read_text())
        else:
            report = ask(name, options.seconds)
        if not report["version"]:
            continue
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(report, indent=1))
        print(f"{report['name']}: {len(report['cases'])} cases", flush=True)
        reports.append(report)
    Path(options.page).write_text(page(reports), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
