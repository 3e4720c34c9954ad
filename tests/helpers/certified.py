"""Errors of our answers to the certified cases, relative to the largest entry of each.

As a program, prints those of the instruction set of the process as json, or stores the
largest of all sets that this machine has::

    python -m tests.helpers.certified [--store]
"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from svae import kernels
from svae.crosscheck import cases, ours
from svae.testing.accuracy import instruction_sets

STORED = Path(__file__).parents[1] / "crosscheck" / "errors.json"
ROUNDOFF = 2.0**-53


def error(case, quantity, answer):
    """Return the largest error over the largest entry, of integers 0 or 1."""
    truth, answer = case.expected[quantity], np.asarray(answer)
    assert answer.shape == truth.hi.shape, f"{case.name} {quantity}: {answer.shape}"
    if truth.hi.dtype != float:
        given = np.ones(len(answer), bool)
        if "unique" in case.expected:  # of ties any path is right
            given = case.expected["unique"].hi
        return float(not np.array_equal(answer[given], truth.hi[given]))
    scale = np.abs(truth.hi).max(initial=0.0) or 1.0
    return float(np.abs(truth.difference(answer)).max(initial=0.0) / scale)


def errors():
    """Return {case: {quantity: error}} of all that we answer."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in map(cases.load, cases.names()):
            answers = getattr(ours, case.kind)(case.inputs)
            found[case.name] = {
                name: error(case, name, answers[name])
                for name in case.expected
                if name in answers
            }
    return found


def errors_on(isa):
    """Return our errors on an instruction set, found in a process of its own.

    It runs this file, by which nothing of a folder hides the svae that is installed.
    """
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "SVAE_ISA": isa},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ran, found = json.loads(done.stdout)
    assert ran == isa
    return found


def store(found):
    """Write the largest errors, two digits of each."""
    rounded = {
        case: {name: float(f"{x:.2g}") for name, x in of_case.items()}
        for case, of_case in found.items()
    }
    lines = (f" {json.dumps(name)}: {json.dumps(x)}" for name, x in rounded.items())
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    """Print errors, or store them."""
    if "--store" not in sys.argv:
        print(json.dumps([kernels.isa(), errors()]))
        return
    worst = errors()
    for isa in instruction_sets()[1:]:
        for case, of_case in errors_on(isa).items():
            for name, x in of_case.items():
                worst[case][name] = max(worst[case][name], x)
    store(worst)


if __name__ == "__main__":
    main()
