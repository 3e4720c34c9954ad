"""How long ``import svae`` takes beside the packages that it needs.

Fresh processes take turns, so that a machine that is busy for a while is busy for all::

    python -m svae.testing.import_time
"""

import os
import subprocess
import sys
import time
from statistics import median
from tempfile import TemporaryDirectory

__all__ = ["STATEMENTS", "measure"]

STATEMENTS = {
    "nothing": "pass",
    "numpy, scipy, autograd": "import numpy, scipy, autograd",
    "with scipy.linalg and scipy.special": (
        "import numpy, scipy.linalg, scipy.special, autograd"
    ),
    "svae": "import svae",
    "svae, all of it": "from svae import *",
    "svae.SVAE": "from svae import SVAE",
}
"""What is timed.  ``import svae`` loads nothing that it can load at the first use; an
estimator is one.  SciPy alone loads none of its parts; a first chain loads the two."""


def measure(repeats: int = 15) -> dict[str, float]:
    """Return the median time of each statement in a process of its own, in s.

    A first round, not counted, leaves bytecode for the others, as an installation does.
    """
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for _ in range(repeats + 1):
            for name, statement in STATEMENTS.items():
                begin = time.perf_counter()
                command = [sys.executable, "-c", statement]
                subprocess.run(command, check=True, env=environment)
                times[name].append(time.perf_counter() - begin)
    return {name: median(took[1:]) for name, took in times.items()}


if __name__ == "__main__":
    seconds = measure()
    needed = seconds["numpy, scipy, autograd"]
    for name, took in seconds.items():
        ratio = took / needed
        print(f"{name:36} {1e3 * took:6.0f} ms, {ratio:.2f} x numpy, scipy, autograd")
