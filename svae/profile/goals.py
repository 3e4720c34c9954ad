"""What figures are meant to be: goals, stated for one machine.

They stand beside the figures in tables. On another machine they are a scale, and
figures that nothing was stated for have none.
"""

import math

from svae.profile.cases import Case
from svae.profile.cells import three_digits

__all__ = [
    "ABOUT",
    "adjoint_ratio",
    "at_least",
    "at_most",
    "forward_ns",
    "growth",
    "speedup",
    "step_ms",
    "step_ratio",
]

MACHINE = "a Zen 5 with AVX-512 and 133 GFLOP/s of multiply-adds on a core"
ABOUT = f"goal: stated for {MACHINE}"

NUM_TIMESTEPS = 1000
"""Of the sequences that times per step and ratios were stated for."""
FORWARD_NS: dict[tuple[str, int, str, int], float] = {
    ("lds", 4, "", 64): 20,
    ("lds", 10, "", 64): 150,
    ("lds", 20, "", 64): 1100,
    ("lds", 32, "", 64): 4300,
    ("lds", 4, "", 1): 100,
    ("lds", 10, "", 1): 360,
    ("lds", 20, "", 1): 2000,
    ("lds", 10, "dense nodes", 64): 230,
    ("lds", 10, "switching", 64): 225,  # one and a half times that of shared pairs
    ("hmm", 10, "", 1): 70,
    ("hmm", 30, "", 1): 160,
    ("hmm", 100, "", 1): 1500,
}
"""Nanoseconds per step of a kernel of a size, a variant and a number of sequences."""
ADJOINT_RATIO = 3.0
"""Adjoint over forward, both without checks."""
OF_ADJOINTS = {
    *(("lds", D, "", 64) for D in (4, 10, 20, 32)),
    *(("hmm", K, "", 64) for K in (10, 30, 100)),
    ("lds", 10, "switching", 64),
}
GROWTH = 1.2
"""Of the time per step of an lds with D = 10, as it gets a thousand times longer."""
SPEEDUP, LONG = 1.7, 1_000_000
"""Of a single recording that is so long, with two threads."""
STEP_MS = {"dots": 1.0, "pinwheel": 1.2}
STEP_RATIO = {"slds video": 1.35}
"""Step over the products of its networks, with any number of threads."""


def forward_ns(case: Case) -> float:
    """Return nanoseconds per step of the forward pass on one thread; NaN for none."""
    return FORWARD_NS.get(_key(case), math.nan) if _is_stated(case) else math.nan


def adjoint_ratio(case: Case) -> float:
    """Return the ratio of adjoint and forward pass; NaN for none."""
    stated = _is_stated(case) and _key(case) in OF_ADJOINTS
    return ADJOINT_RATIO if stated else math.nan


def growth(case: Case, shortest: int) -> float:
    """Return how the time per step may grow from the shortest length; NaN for none."""
    stated = case.kernel == "lds" and case.size == 10 and not case.variant
    return GROWTH if stated and case.num_timesteps >= 1000 * shortest else math.nan


def speedup(case: Case, num_threads: int) -> float:
    """Return the gain of threads over one; NaN for none."""
    stated = case.num_sequences == 1 and case.num_timesteps >= LONG
    return SPEEDUP if stated and num_threads == 2 else math.nan


def step_ms(workload: str, num_threads: int) -> float:
    """Return milliseconds of a training step; NaN for none."""
    return STEP_MS.get(workload, math.nan) if num_threads == 1 else math.nan


def step_ratio(workload: str) -> float:
    """Return a step's time over that of its networks' products; NaN for none."""
    return STEP_RATIO.get(workload, math.nan)


def at_most(goal: float) -> str:
    """Write a goal that a figure is not to exceed; nothing for none."""
    return "" if math.isnan(goal) else f"<= {three_digits(goal)}"


def at_least(goal: float) -> str:
    """Write a goal that a figure is to reach; nothing for none."""
    return "" if math.isnan(goal) else f">= {three_digits(goal)}"


def _key(case: Case) -> tuple[str, int, str, int]:
    return case.kernel, case.size, case.variant, case.num_sequences


def _is_stated(case: Case) -> bool:
    return case.num_timesteps == NUM_TIMESTEPS
