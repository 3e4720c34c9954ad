"""The command `svae profile`: processes, memory, arguments."""

import math
from itertools import pairwise

import pytest

from svae import kernels, profile
from svae.__main__ import main
from svae.profile import Case, clock, memory
from tests.helpers.profiles import TINY, quick

SIZES = ("size", "num_sequences", "num_timesteps")


def test_calls_are_timed_in_turns_with_their_own_threads():
    before, seen = kernels.get_num_threads(), []

    def call(name):
        seen.append((name, kernels.get_num_threads()))

    calls = {
        "a": clock.Timed(lambda: call("a")),
        "b": clock.Timed(lambda: call("b"), num_threads=3),
    }
    seconds = clock.interleave(calls, repeats=2, budget=1.0)
    assert list(seconds) == ["a", "b"]
    assert set(seen) == {("a", 1), ("b", 3)}
    assert sum(x != y for x, y in pairwise(seen)) == 5  # counting, and two turns
    assert kernels.get_num_threads() == before


def test_a_process_that_fails_says_why():
    with pytest.raises(ChildProcessError, match="ValueError"):
        clock.run_child(memory.measure, {"kernel": "lds"} | dict.fromkeys(SIZES, -1), 0)


@pytest.mark.skipif(not memory.FORGET.exists(), reason="pages are counted on Linux")
def test_peak_memory_holds_the_outputs():
    peak = profile.peak(Case("viterbi", 20, 1, 20_000))
    assert (peak.inputs, peak.outputs) == (8 * (20 + 400 + 400_000), 8 * 20_001)
    # some bytes of the outputs may lie in pages that were there
    assert 0.9 * peak.outputs < peak.added < 1e9
    assert peak.ratio == (peak.inputs + peak.added) / (peak.inputs + peak.outputs)
    assert math.isnan(profile.peak(Case("hmm", 2, 1, 5)).ratio)  # too small to see


def test_memory_that_runs_out_is_a_note(monkeypatch, tmp_path, capsys):
    def fail(*arguments, **environment):
        raise ChildProcessError("MemoryError")

    monkeypatch.setattr(memory, "run_child", fail)
    assert quick(tmp_path, "--memory", "--kernel", "hmm") == 0
    said = capsys.readouterr().out
    assert said.count("MemoryError") == 5
    assert "hmm adjoint    10" in said
    assert not list(tmp_path.iterdir())


def test_the_command_writes_everything(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert quick(tmp_path, "--kernel", "hmm", "--sizes", "3", "--threads", "1") == 0
    captured = capsys.readouterr()
    assert "FMA" in captured.out
    assert "2 threads" not in captured.out
    names = {"profile.csv", "profile.json", "profile.txt", "roofline.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_the_quiet_command_says_nothing(tmp_path, capsys):
    assert quick(tmp_path, "--kernel", "lds", "--sizes", "2", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kernel", "slds"],
        ["--sizes", "0"],
        ["--sizes", "ten"],
        ["--sizes"],
        ["--num-sequences", "-1"],
        ["--num-timesteps", "1"],
        ["--threads", "0"],
        ["--repeats", "0"],
        ["--rng", "x"],
        ["--rng", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *arguments])
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith(f"svae profile: error: argument {arguments[0]}")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"threads": [0]}, "threads .0, 1.: wanted 1"),
        ({"repeats": 0}, "repeats 0"),
    ],
)
def test_wrong_words_are_refused(words, complaint):
    with pytest.raises(ValueError, match=complaint):
        profile.run(TINY, **words)


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (("slds", 2, 1, 5), "kernel 'slds'"),
        (("lds", 0, 1, 5), "size is 0"),
        (("hmm", 2, 0, 5), "num_sequences is 0"),
        (("hmm", 2, 1, 1), "num_timesteps is 1, wanted 2"),
        (("hmm", 2, 1, 5, 1, "dense nodes"), "variant 'dense nodes'"),
    ],
)
def test_wrong_cases_are_refused(case, complaint):
    with pytest.raises(ValueError, match=complaint):
        Case(*case)
