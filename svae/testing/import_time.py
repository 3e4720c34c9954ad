"""How long ``import svae`` takes beside the packages that it needs.

Fresh processes take turns, so that a machine that is busy for a while is busy for all::

    python -m svae.testing.import_time
"""

import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

__all__ = ["STATEMENTS", "measure"]

STATEMENTS = {
    "nothing": "pass",
    "numpy, scipy, autograd": "import numpy, scipy, autograd",
    "with scipy.linalg and scipy.special": (
        "import numpy, scipy.linalg, scipy.special, autograd"
    ),
    "svae": "import svae",
}
"""What is timed.  SciPy alone loads none of its parts; a first chain loads the two."""


def measure(repeats: int = 11) -> dict[str, float]:
    """Return the shortest time of each statement in a process of its own, in s.

    A first round, not counted, leaves bytecode for the others, as an installation does.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    best = dict.fromkeys(STATEMENTS, float("inf"))
    with TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for turn in range(repeats + 1):
            for name, statement in STATEMENTS.items():
                begin = time.perf_counter()
                command = [sys.executable, "-c", statement]
                subprocess.run(command, check=True, env=environment)
                took = time.perf_counter() - begin
                best[name] = min(best[name], took) if turn else float("inf")
    return best


if __name__ == "__main__":
    seconds = measure()
    for name, took in seconds.items():
        ratio = seconds["svae"] / took
        print(f"{name:36} {1e3 * took:6.0f} ms, import svae: {ratio:.2f} times that")
