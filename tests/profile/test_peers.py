"""Other packages are compared only where they answer the same."""

import math
from dataclasses import replace

import numpy as np
import pytest

from svae import profile
from svae.profile import Case, Problem, peers
from svae.profile.packages.prepared import weights
from svae.profile.saving import csv_text
from tests.helpers.profiles import quick


def test_missing_packages_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    sizes = ["--kernel", "lds", "--sizes", "2"]
    assert quick(tmp_path, "--peers", *sizes) == 0
    said = capsys.readouterr().out
    for name in (
        "dynamax",
        "cuthbert",
        "simdkalman",
        "pylds",
        "statsmodels",
        "hmmlearn",
    ):
        assert f"{name}: not installed" in said


def right(model):
    return peers.OURS["hmm"](model)


def wrong(model):
    call, answers = right(model)
    return peers.Prepared(call, lambda result: tuple(1.01 * x for x in answers(result)))


def broken(model):
    raise AttributeError("has moved")


@pytest.mark.parametrize("batched", [True, False])
def test_only_equal_answers_are_compared(batched, monkeypatch):
    prepare = {"numpy": right, "scipy": wrong, "autograd": broken}
    fakes = [peers.Peer(name, "hmm", f, batched) for name, f in prepare.items()]
    monkeypatch.setattr(peers, "PEERS", fakes)
    case = Case("hmm", 3, 6, 20, 0)
    same, different, failed = peers.compare([case], repeats=1, budget=0.0)
    assert same.peer == f"numpy {np.__version__}"
    assert same.ratio == same.peer_ns / same.svae_ns > 0
    assert (same.largest_error == 0) == batched or same.largest_error < 1e-12
    assert different.largest_error == pytest.approx(0.01)
    assert math.isnan(different.ratio) and different.note == "answers differ"
    assert math.isnan(failed.peer_ns) and failed.note.endswith("has moved")
    text = csv_text([same, different, failed])
    assert text.splitlines()[0].startswith("peer,task,size")


def test_comparisons_are_saved_and_shown(report, tmp_path):
    row = peers.Comparison("other 1.0", "lds", 2, 64, 9, 10.0, 30.0, 3.0, 1e-9, "")
    beside = replace(report, comparisons=[row], missing=["another"])
    said = profile.table(beside)
    assert "other 1.0" in said
    assert "another: not installed" in said
    saved = (profile.save(beside, tmp_path) / "peers.csv").read_text()
    assert saved.splitlines()[1] == "other 1.0,lds,2,64,9,10.0,30.0,3.0,1e-09,"


def test_our_gradient_for_comparisons_is_a_gradient():
    model = Problem.make(Case("lds", 2, 2, 5, 0)).model
    of_mean, of_variance = weights(model["y"].shape)
    call, answers = peers.OURS["lds gradient"](model)
    (gradient,) = answers(call())

    def value(y):
        call, answers = peers.OURS["lds"](model | {"y": y})
        _, mean, variance = answers(call())
        return np.sum(of_mean * mean + of_variance * variance)

    # the value is linear in y
    for index in np.ndindex(model["y"].shape):
        step = np.zeros(model["y"].shape)
        step[index] = 1.0
        difference = value(model["y"] + step) - value(model["y"])
        assert gradient[index] == pytest.approx(difference, abs=1e-10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer[0] + " " + peer[1])
def test_installed_packages_agree(peer, monkeypatch):
    pytest.importorskip(peer.package)
    monkeypatch.setattr(peers, "PEERS", [peer])
    case = Case(peer.task.split()[0], 3, 5, 11, 0)
    (comparison,) = peers.compare([case], repeats=1, budget=0.0)
    assert comparison.note == ""
    assert comparison.largest_error < peers.AGREE


def test_our_gradient_of_the_log_likelihood_is_the_probabilities():
    model = Problem.make(Case("hmm", 3, 2, 5, 0)).model
    call, answers = peers.OURS["hmm gradient"](model)
    (gradient,) = answers(call())
    call, answers = peers.OURS["hmm"](model)
    np.testing.assert_allclose(gradient, answers(call())[1], rtol=1e-12)


def test_gradients_of_large_problems_are_left_out():
    tasks = {
        (case.kernel, case.size): peers._tasks(case)
        for case in peers.cases(num_sequences=(1,))
    }
    assert tasks["lds", 10] == ["lds", "lds gradient"]
    assert tasks["lds", 20] == ["lds"]
    assert tasks["hmm", 30] == ["hmm", "hmm gradient"]
    assert tasks["hmm", 100] == ["hmm"]
