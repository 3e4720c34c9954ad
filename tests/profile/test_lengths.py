"""A single sequence that gets longer, with more threads."""

import json
from dataclasses import replace

import pytest

from svae import profile
from svae.profile import Case, lengths
from tests.helpers.profiles import FAST, quick


def test_cases_are_ten_times_longer_each():
    cases = profile.long_cases()
    assert [case.num_timesteps for case in cases] == 2 * [10**k for k in (3, 4, 5, 6)]
    assert {(case.size, case.num_sequences) for case in cases} == {(10, 1)}
    assert [case.kernel for case in cases] == 4 * ["lds"] + 4 * ["hmm"]


@pytest.mark.parametrize(
    ("longest", "expected"),
    [(20, [20]), (1000, [1000]), (2500, [1000, 2500]), (10**4, [1000, 10**4])],
)
def test_the_longest_is_as_long_as_is_said(longest, expected):
    cases = profile.long_cases("hmm", (3, 3), 2, longest)
    assert cases == [Case("hmm", 3, 2, length) for length in expected]


def test_threads_are_doubled_up_to_the_most(monkeypatch):
    assert profile.doubling_threads(1) == [1]
    assert profile.doubling_threads(2) == [1, 2]
    assert profile.doubling_threads(6) == [1, 2, 4, 6]
    assert profile.doubling_threads(8) == [1, 2, 4, 8]
    monkeypatch.setattr(lengths, "usable_cpus", lambda: {3, 4, 5})
    assert profile.doubling_threads() == [1, 2, 3]


@pytest.fixture(scope="module")
def longer():
    """Make a report of two lengths, with times of our own."""
    cases = [Case("lds", 10, 1, length) for length in (1000, 10**6)]
    tiny = [replace(case, size=2, num_timesteps=9) for case in cases]
    report = profile.run(tiny, threads=[1, 2], **FAST)
    records = [
        replace(
            record,
            size=10,
            num_timesteps=cases[k // 2].num_timesteps,
            forward_ns=(100.0, 50.0, 120.0, 80.0)[k],
            speedup=(1.0, 2.0, 1.0, 1.5)[k],
        )
        for k, record in enumerate(report.records)
    ]
    return replace(report, records=records)


def test_lengths_are_beside_the_shortest(longer):
    text = profile.table(longer)
    start = text.index("/first")
    rows = [line.split() for line in text[start:].splitlines()[1:5]]
    assert [row[3:7] for row in rows] == [
        ["1000", "1", "100", "1.00"],
        ["1000", "2", "50.0", "1.00"],
        ["1000000", "1", "120", "1.20"],
        ["1000000", "2", "80.0", "1.60"],
    ]
    assert rows[2][7:10] == ["<=", "1.20", "1.00"]
    assert rows[3][7:12] == ["<=", "1.20", "1.50", ">=", "1.70"]
    assert "2 threads" not in text  # which would not say of what length


def test_one_length_has_no_table_of_lengths(report):
    assert not lengths.with_lengths(report.records)
    assert "/first" not in profile.table(report)


def test_the_command_times_a_long_sequence(tmp_path, capsys):
    words = ["--long", "--sizes", "2", "--num-timesteps", "1500", "--threads", "2"]
    assert quick(tmp_path, *words) == 0
    assert "/first" in capsys.readouterr().out
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"long.csv", "long.json", "long.txt"}
    records = json.loads((tmp_path / "long.json").read_text())["records"]
    found = [(r["kernel"], r["num_timesteps"], r["num_threads"]) for r in records]
    assert found == [
        (kernel, length, threads)
        for kernel in ("lds", "hmm")
        for length in (1000, 1500)
        for threads in (1, 2)
    ]
