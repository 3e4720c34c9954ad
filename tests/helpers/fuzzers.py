"""The scripts of `tests/fuzz` as commands: their processes import what they are."""

import re
import subprocess
import sys


def surveyed(script, kind, seed, runs=2000):
    """Run a script on files of a kind; return counts by outcome, and what is wrong."""
    words = ["--kinds", kind, "--runs", str(runs), "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, script.__file__, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    first, *wrong = done.stdout.splitlines() or [""]
    if not first or (done.returncode != 0) != bool(wrong):
        raise RuntimeError(done.stderr)
    found = re.findall(r"  (\w+) (\d+)", first.removeprefix(kind))
    return {outcome: int(count) for outcome, count in found}, wrong
