"""Verdicts as text, as json, and as a page that needs nothing else."""

import html
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from svae.crosscheck.compare import Verdict
from svae.crosscheck.run import Report
from svae.crosscheck.scores import PASSES_BELOW, Score

__all__ = ["as_json", "as_page", "line", "summary", "table"]

SCHEMA = 1
MOST = 8
"""Wrong quantities of a case that are shown, unless all are asked for."""


def table(report: Report, every: bool = False) -> str:
    """Return a line for each case, with lines for what is wrong in it.

    Parameters
    ----------
    report : Report
    every : bool
        Whether to show the digits of all quantities, not of wrong ones alone.
    """
    return "\n".join(line(one, every) for one in report.verdicts)


def line(verdict: Verdict, every: bool = False) -> str:
    """Return the lines of one case."""
    digits = "" if math.isnan(verdict.digits) else f"{verdict.digits:5.1f} digits"
    reason = f"  {verdict.reason}" if verdict.reason else ""
    lines = [f"{verdict.case:34} {verdict.verdict:16} {digits:12}{reason}".rstrip()]
    shown = [one for one in verdict.scores if every or not one.right]
    most = len(shown) if every else MOST
    lines += ["    " + of_quantity(verdict, one) for one in shown[:most]]
    if len(shown) > most:
        lines.append(f"    and {len(shown) - most} more (--verbose)")
    if verdict.guess:
        lines.append(f"    guess: {verdict.guess}")
    return "\n".join(lines)


def of_quantity(verdict: Verdict, one: Score) -> str:
    """Return digits, error and place of a quantity."""
    word = "right" if one.right else "WRONG"
    parts = [f"{one.quantity:22} {word}  {one.digits:4.1f} digits"]
    if one.reason:
        parts.append(one.reason)
    elif one.error:
        times = f"{one.ratio:.2g} x condition x rounding"
        parts.append(f"error {one.error:.1e}, {times}")
    if not one.right and one.quantity in verdict.places:
        parts.append(f"largest at {verdict.places[one.quantity]}")
    return ", ".join(parts)


def summary(report: Report) -> str:
    """Return how many cases had which verdict, in a line."""
    counts = Counter(one.verdict for one in report.verdicts)
    parts = [f"{number} {word}" for word, number in counts.most_common()]
    name = " ".join(filter(None, (report.name, report.version)))
    quantities = sum(len(one.scores) for one in report.verdicts)
    return (
        f"{name}: {', '.join(parts)} of {len(report.verdicts)} cases; "
        f"{quantities} quantities judged in {report.seconds:.1f} s"
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as json has it; an infinite error is null."""
    return {
        "schema": SCHEMA,
        "name": report.name,
        "version": report.version,
        "well": report.well,
        "seconds": round(report.seconds, 3),
        "passes_below": PASSES_BELOW,
        "cases": [
            {
                "case": one.case,
                "kind": one.kind,
                "verdict": one.verdict,
                "well": one.well,
                "reason": one.reason,
                "guess": one.guess,
                "seconds": round(one.seconds, 3),
                "quantities": {
                    score.quantity: {
                        "right": score.right,
                        "digits": round(score.digits, 2),
                        "error": number(score.error),
                        "ratio": number(score.ratio),
                        "place": None if score.place is None else list(score.place),
                        "where": one.places.get(score.quantity, ""),
                        "reason": score.reason,
                    }
                    for score in one.scores
                },
            }
            for one in report.verdicts
        ],
    }


def number(x: float) -> float | None:
    """Return a number that json has."""
    return float(f"{x:.6g}") if math.isfinite(x) else None


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2em auto;
  max-width: 62em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.1em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25em .7em; border-bottom: 1px solid #ddd;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.bar { display: inline-block; height: .7em; background: #7a9; margin-right: .4em; }
.ill .bar { background: #c65; } .word { white-space: nowrap; }
.well .word { color: #275; } .ill .word { color: #a20; font-weight: 600; }
.not .word { color: #777; } .guess { background: #fff6dd; }
details { margin: .2em 0; } summary { cursor: pointer; }
.small { color: #666; font-size: .9em; }
""".strip()


def as_page(report: Report) -> str:
    """Return a page of HTML, complete in itself."""
    name = html.escape(" ".join(filter(None, (report.name, report.version))))
    rows = "\n".join(row(one) for one in report.verdicts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: certified values</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{name} beside certified values</h1>
<p>{html.escape(summary(report))}</p>
<table>
<thead><tr><th>case</th><th>kind</th><th>verdict</th><th>digits</th><th>what</th></tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
<p class="small">Digits are those of the worst quantity of a case: minus the decimal
logarithm of the largest error over the largest entry. A quantity is right if that error
is below {PASSES_BELOW:g} times its condition number times 2<sup>-53</sup>.</p>
</body>
</html>
"""


def row(verdict: Verdict) -> str:
    """Return the row of a case."""
    text = html.escape
    mood = (
        "not" if verdict.verdict == "not judged" else "well" if verdict.well else "ill"
    )
    digits = ""
    if not math.isnan(verdict.digits):
        bar = f'<span class="bar" style="width:{verdict.digits / 4:.2f}em"></span>'
        digits = f"{bar}{verdict.digits:.1f}"
    parts = [f"<div>{text(verdict.reason)}</div>"] if verdict.reason else []
    if verdict.guess:
        parts.append(f'<div class="guess">{text(verdict.guess)}</div>')
    if verdict.scores:
        parts.append(details(verdict, verdict.scores))
    return (
        f'<tr class="{mood}"><td>{text(verdict.case)}</td><td>{text(verdict.kind)}</td>'
        f'<td class="word">{text(verdict.verdict)}</td>'
        f'<td class="number">{digits}</td><td>{"".join(parts)}</td></tr>'
    )


def details(verdict: Verdict, scores: Sequence[Score]) -> str:
    """Return a table of the quantities of a case, open if one of them is wrong."""
    text, rows = html.escape, []
    for one in sorted(scores, key=lambda one: one.right):
        mood = "well" if one.right else "ill"
        where = one.reason or verdict.places.get(one.quantity, "")
        error = f"{one.error:.1e}" if math.isfinite(one.error) else ""
        rows.append(
            f'<tr class="{mood}"><td>{text(one.quantity)}</td>'
            f'<td class="word">{"right" if one.right else "wrong"}</td>'
            f'<td class="number">{one.digits:.1f}</td><td class="number">{error}</td>'
            f"<td>{text(where)}</td></tr>"
        )
    count = sum(not one.right for one in scores)
    about = (
        f"{count} of {len(scores)} quantities wrong"
        if count
        else (f"{len(scores)} quantities")
    )
    head = "<tr><th>quantity</th><th></th><th>digits</th><th>error</th><th>at</th></tr>"
    opened = " open" if count else ""
    return (
        f"<details{opened}><summary>{about}</summary>"
        f"<table>{head}{''.join(rows)}</table></details>"
    )
