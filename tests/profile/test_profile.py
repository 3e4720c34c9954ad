"""What `svae profile` measures is what it says; how fast that is, no test says."""

import csv
import json
import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from svae import kernels, profile, reference
from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.cli.main import main
from svae.profile import Case, Problem, clock, memory, peers
from svae.profile.cases import largest_error, log_constant
from svae.profile.report import csv_text
from svae.profile.steps import Trained, faster_order, matrix_products, multiply

TINY = [
    Case("lds", 2, 3, 7),
    Case("lds", 3, 2, 7, num_samples=2),
    Case("lds", 2, 3, 7, variant="dense nodes"),
    Case("lds", 2, 3, 7, variant="varying pairs"),
    Case("hmm", 3, 2, 7),
    Case("viterbi", 3, 2, 7),
    Case("sampling", 3, 2, 7, num_samples=4),
]
SIZES = ("size", "num_sequences", "num_timesteps")
FAST = {"repeats": 1, "budget": 0.0, "memory": False}
each_case = pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def report():
    return profile.run(TINY, threads=[2], **FAST)


def quick(out, *arguments):
    """Run the command on its smallest problems."""
    return main(["profile", "--quick", "--repeats", "1", "--out", str(out), *arguments])


@pytest.mark.parametrize(
    ("kernel", "size", "samples", "flops"),
    [
        ("lds", 4, 1, 688),
        ("lds", 10, 1, 8500),
        ("hmm", 30, 0, 5400),
        ("viterbi", 10, 0, 200),
        ("sampling", 10, 3, 260),
    ],
)
def test_flops_are_the_stated_ones(kernel, size, samples, flops):
    case = Case(kernel, size, 3, 7, samples)
    assert case.flops == 21 * flops


def test_the_loop_of_multiply_adds_counts_and_computes():
    flops, total = kernels.multiply_add(1000)
    # every x <- x / 2 + 1 has come to 2: two operations each, and a sum of 2
    assert flops == 1000 * total > 0


@each_case
def test_a_case_is_the_same_for_both_implementations(case):
    problem = Problem.make(case)
    expected = problem.forward(reference)()
    assert largest_error(problem.forward()(), expected) < 1e-10
    if compiled := problem.compiled():
        assert largest_error(compiled()[0], leaves(expected)[0]) < 1e-10


@pytest.mark.parametrize("case", TINY[:5], ids=lambda case: case.name)
def test_the_adjoint_is_that_of_the_public_function(case):
    problem = Problem.make(replace(case, num_sequences=1))
    adjoint = problem.adjoint(rng=1)
    *_, bars = adjoint.args

    def combination(*inputs):
        chain = problem.forward().func
        outputs = leaves(chain(*rebuild(problem.arguments, inputs)))[1:]
        pairs = zip(bars, outputs, strict=True)
        return (sum((bar.reshape(x.shape) * x).sum() for bar, x in pairs),)

    pull_back, _ = trace(combination, leaves(problem.arguments))
    for got, expected in zip(adjoint(), pull_back(1.0), strict=True):
        np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-12)


def test_the_potentials_of_a_linear_system_are_its_own():
    case = Case("lds", 2, 3, 4)
    model = Problem.make(case).model
    A, Q, T, D = model["A"], model["Q"], case.num_timesteps, case.size
    mean, cov = model["m1"], model["V1"]
    means, covs = [mean], [[cov]]
    for _ in range(1, T):
        mean, cov = A @ mean, A @ cov @ A.T + Q
        means.append(mean)
        covs.append([A @ left for left in covs[-1]] + [cov])
    joint = np.zeros((T, D, T, D))
    for t in range(T):
        for s in range(t + 1):
            joint[t, :, s], joint[s, :, t] = covs[t][s], covs[t][s].T
    logZ, (_, _, (_, posterior_mean)), _ = Problem.make(case).forward()()
    for n in range(case.num_sequences):
        prior = joint.reshape(T * D, T * D)
        marginal = prior + np.diag(model["R"][n].ravel())
        residual = model["y"][n].ravel() - np.ravel(means)
        expected = stats.multivariate_normal(cov=marginal).logpdf(residual)
        assert logZ[n] + log_constant(model)[n] == pytest.approx(expected, rel=1e-12)
        gain = prior @ np.linalg.solve(marginal, residual)
        expected_mean = np.ravel(means) + gain
        np.testing.assert_allclose(posterior_mean[n].ravel(), expected_mean, rtol=1e-10)


def test_the_potentials_of_a_hidden_markov_model_are_its_own():
    problem = Problem.make(Case("hmm", 2, 1, 3))
    start, transition, nodes = problem.model.values()
    weights = [
        np.log(start[i] * transition[i, j] * transition[j, k])
        + nodes[0, [0, 1, 2], [i, j, k]].sum()
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    ]
    assert problem.forward()()[0][0] == pytest.approx(logsumexp(weights), rel=1e-12)


def test_the_largest_error_is_relative_to_the_largest_entry():
    assert largest_error((np.array([1.0, 4.0]),), (np.array([2.0, 4.0]),)) == 0.25
    assert largest_error((np.array([1, 2, 3, 4]),), (np.array([1, 2, 3, 5]),)) == 0.25
    assert math.isnan(largest_error((np.array([np.nan]),), (np.array([1.0]),)))


def test_a_report_has_a_record_for_each_case_and_number_of_threads(report):
    assert [record.case for record in report.records[::2]] == TINY
    assert [record.num_threads for record in report.records] == [1, 2] * len(TINY)
    for record in report.records[::2]:
        assert 0 <= record.reference_error < 1e-10
        assert record.forward_ns > 0
        gflops = record.flops_per_step / record.forward_ns
        assert record.gflops == pytest.approx(gflops)
        assert record.percent_fma == pytest.approx(100 * gflops / report.roofs.fma)
        assert record.percent_dgemm == pytest.approx(100 * gflops / report.roofs.dgemm)
        assert record.speedup == 1
        assert (record.adjoint_ns > 0) == (record.kernel in ("lds", "hmm"))
    assert min(report.roofs.fma, report.roofs.dgemm, report.roofs.bandwidth) > 0
    assert report.roofs.blas


def test_the_table_states_what_it_counts(report):
    text = profile.table(report)
    for words in (
        "ns/step",
        "GFLOP/s",
        "%DGEMM",
        "%FMA",
        "adjoint",
        "memory",
        "ref/this",
        "2 threads",
        "lds 7 D^3 + 15 D^2",
        "hmm 6 K^2",
        "varying pairs",
        report.roofs.blas,
        kernels.isa(),
    ):
        assert words in text


def test_a_report_is_saved_whole(report, tmp_path):
    folder = profile.save(report, tmp_path / "new" / "folder")
    with open(folder / "profile.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(profile.Record)]
    assert [int(row["size"]) for row in rows[::2]] == [case.size for case in TINY]
    content = json.loads((folder / "profile.json").read_text())
    assert content["environment"]["instructions"] == kernels.isa()
    assert content["roofs"]["dgemm"] == report.roofs.dgemm
    assert content["records"][-1]["adjoint_ns"] is None
    assert (folder / "profile.txt").read_text() == profile.table(report) + "\n"
    assert not (folder / "peers.csv").exists()
    assert not list(folder.glob("*.part"))


def test_the_figure_shows_every_case_under_the_roofs(report):
    pytest.importorskip("matplotlib")
    (ax,) = profile.plot(report).axes
    text = " ".join(item.get_text() for item in ax.texts)
    for words in ("FMA", "DGEMM", "GB/s", "2 dense nodes", "N=2"):
        assert words in text
    roof, dgemm, *points = ax.lines
    assert len(points) == len(TINY)
    assert max(roof.get_ydata()) == report.roofs.fma
    assert set(dgemm.get_ydata()) == {report.roofs.dgemm}


def test_pinning_is_undone():
    before = clock.usable_cpus()
    if not before:
        pytest.skip("the system does not say which CPUs a process may use")
    one = {max(before)}
    with pytest.raises(KeyError), clock.pinned(one):
        assert clock.usable_cpus() == one
        raise KeyError
    assert clock.usable_cpus() == before


@pytest.fixture(scope="module")
def steps_report():
    return profile.run_steps(["dots", "pinwheel"], [2], repeats=1, budget=0.0)


def test_steps_are_timed_beside_their_products(steps_report):
    records = steps_report.records
    names = [(record.workload, record.num_threads) for record in records]
    assert names == [("dots", 1), ("dots", 2), ("pinwheel", 1), ("pinwheel", 2)]
    for record in records:
        assert record.ratio == pytest.approx(record.step_ms / record.products_ms)
        ratio = record.step_ms / record.matmul_ms
        assert record.matmul_ratio == pytest.approx(ratio)
    assert records[0].batch == "1 x 50 x 20"
    assert records[0].iterations == 0 < records[2].iterations


def test_products_are_those_of_the_layers():
    trained = Trained.settle(profile.WORKLOADS["dots"])
    sizes = [
        (a.shape[0], a.shape[1], b.shape[1]) for a, b, _ in matrix_products(trained)
    ]
    encoder = [(50, 20, 50), (20, 50, 50)]  # data have no gradient
    encoder += 2 * [(50, 50, 10), (50, 50, 10), (50, 10, 50)]
    decoder = [(50, 10, 50), (10, 50, 50), (50, 50, 10)]
    decoder += 2 * [(50, 50, 20), (50, 50, 20), (50, 20, 50)]
    assert sizes == encoder + decoder


def test_products_are_those_of_either_order(rng):
    a, b = rng.standard_normal((30, 4)), rng.standard_normal((4, 5))
    product = a, b, np.empty((30, 5))
    chosen = faster_order(product)
    multiply([product, chosen])
    got = chosen[2] if chosen is product else chosen[2].T
    np.testing.assert_allclose(got, a @ b, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(product[2], a @ b, rtol=1e-13, atol=1e-14)


def test_the_same_step_as_often_as_it_is_taken():
    trained = Trained.settle(profile.WORKLOADS["dots"])
    first, again = trained.step(), trained.step()
    assert first[1] | {"seconds": 0.0} == again[1] | {"seconds": 0.0}
    assert first[0].step == trained.state.step + 1


def test_reports_of_steps_are_saved(steps_report, tmp_path):
    folder = profile.save_steps(steps_report, tmp_path / "steps")
    with open(folder / "steps.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["workload"] for row in rows] == 2 * ["dots"] + 2 * ["pinwheel"]
    stored = json.loads((folder / "steps.json").read_text())
    assert stored["records"][0]["ratio"] == steps_report.records[0].ratio
    text = (folder / "steps.txt").read_text()
    assert text == profile.steps_table(steps_report) + "\n"
    assert "pinwheel" in text


def test_unknown_workloads_are_named():
    with pytest.raises(ValueError, match="tides"):
        profile.run_steps(["tides"])
    with pytest.raises(ValueError, match="repeats"):
        profile.run_steps(["dots"], repeats=0)


def test_the_command_times_steps(tmp_path, capsys):
    assert quick(tmp_path, "--steps", "--threads", "1") == 0
    assert "dots" in capsys.readouterr().out
    assert (tmp_path / "steps.csv").exists()


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
    assert said.count("MemoryError") == 4
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


def test_missing_packages_are_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    sizes = ["--kernel", "lds", "--sizes", "2"]
    assert quick(tmp_path, "--peers", *sizes) == 0
    said = capsys.readouterr().out
    for name in ("dynamax", "pylds", "statsmodels", "hmmlearn"):
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
    of_mean, of_variance = peers._weights(model["y"].shape)
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
    case = Case("hmm" if peer.task == "hmm" else "lds", 3, 5, 11, 0)
    (comparison,) = peers.compare([case], repeats=1, budget=0.0)
    assert comparison.note == ""
    assert comparison.largest_error < peers.AGREE
