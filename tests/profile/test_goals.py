"""Goals stand beside the figures that they were stated for, and nowhere else."""

import math
from dataclasses import replace

import pytest

from svae import profile
from svae.profile import Case, goals
from svae.profile.peers import Comparison
from svae.profile.steps import StepRecord


@pytest.mark.parametrize(
    ("case", "goal"),
    [
        (Case("lds", 4, 64, 1000), 20),
        (Case("lds", 20, 1, 1000), 2000),
        (Case("lds", 10, 64, 1000, variant="dense nodes"), 230),
        (Case("hmm", 100, 1, 1000), 1500),
    ],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_goals_are_those_of_their_cases(case, goal):
    assert goals.forward_ns(case) == goal
    for other in (
        replace(case, num_timesteps=999),
        replace(case, num_sequences=7),
        replace(case, size=5),
    ):
        assert math.isnan(goals.forward_ns(other))


def test_every_goal_of_a_chain_has_a_case():
    keys = {goals._key(case) for case in profile.cases()}
    assert set(goals.FORWARD_NS) | goals.OF_ADJOINTS <= keys


def test_every_goal_of_a_step_has_a_workload():
    assert set(goals.STEP_MS) | set(goals.STEP_RATIO) <= set(profile.WORKLOADS)


def test_goals_of_long_recordings():
    long = Case("lds", 10, 1, 10**6)
    assert goals.growth(long, shortest=1000) == 1.2
    assert math.isnan(goals.growth(long, shortest=10_000))
    assert math.isnan(goals.growth(replace(long, kernel="hmm"), shortest=1000))
    assert goals.speedup(long, num_threads=2) == 1.7
    assert math.isnan(goals.speedup(long, num_threads=4))
    assert math.isnan(goals.speedup(replace(long, num_timesteps=10**5), 2))


def of(record, case):
    """Return a record as if another case had been measured."""
    return replace(
        record,
        kernel=case.kernel,
        size=case.size,
        num_sequences=case.num_sequences,
        num_timesteps=case.num_timesteps,
    )


def test_tables_show_goals_and_the_machine_that_they_are_for(report):
    first = report.records[0]
    with_goal = of(first, Case("lds", 20, 64, 1000))
    without = of(first, Case("lds", 21, 64, 1000))
    text = profile.table(replace(report, records=[with_goal, without]))
    shown, other = (line for line in text.splitlines() if line.startswith("lds  "))
    assert shown.count("<= 1100 ") == shown.count("<= 3.00 ") == 1
    assert "<=" not in other
    assert goals.MACHINE in text


def test_the_goal_of_a_chain_stands_beside_its_time_in_comparisons(report):
    rows = [
        Comparison("other 1", task, 10, 1, 1000, 9.0, 9.0, 1.0, 0.0, "")
        for task in ("hmm", "hmm gradient")
    ]
    text = profile.table(replace(report, records=report.records, comparisons=rows))
    chain, gradient = (line for line in text.splitlines() if "other 1" in line)
    assert "<= 70.0" in chain
    assert "<=" not in gradient


def test_steps_have_goals():
    figures = dict.fromkeys(("step_ms", "products_ms", "ratio", "matmul_ms"), 2.0)
    figures |= dict.fromkeys(("matmul_ratio", "products_gflops", "iterations"), 2.0)
    records = [
        StepRecord(name, "1 x 2 x 3", n, **figures, gradient_iterations=0.0)
        for name in ("dots", "slds video", "lds video")
        for n in (1, 2)
    ]
    environment = profile.run_steps([], [1]).environment
    text = profile.steps_table(profile.StepReport(environment, records))
    dots, dots_2, slds, slds_2, lds, _ = text.splitlines()[5:11]
    assert "<= 1.00" in dots
    assert "<= 1.35" in slds
    assert "<= 1.35" in slds_2
    assert "<=" not in dots_2 + lds
