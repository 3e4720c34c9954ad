"""What `svae profile` measures is what it says; how fast that is, no test says."""

import csv
import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from svae import kernels, profile, reference
from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.kernels import switching
from svae.profile import Case, Problem, clock
from svae.profile.problems import largest_error
from svae.profile.systems import log_constant
from tests.helpers.profiles import TINY

each_case = pytest.mark.parametrize("case", TINY, ids=lambda case: case.name)


@pytest.mark.parametrize(
    ("kernel", "size", "samples", "flops"),
    [
        ("lds", 4, 1, 688),
        ("lds", 10, 1, 8500),
        ("hmm", 30, 0, 5400),
        ("lds filter", 6, 0, 1296),
        ("hmm filter", 10, 0, 200),
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


def test_the_adjoint_of_a_switching_chain_is_that_of_the_public_function():
    problem = Problem.make(Case("lds", 2, 1, 7, variant="switching"))
    adjoint = problem.adjoint(rng=1)
    _, _, bars, of_logZ, _ = adjoint.args

    def combinations(*inputs):
        chain = problem.forward().func
        logZ, (of_init, _, of_node), products, samples = chain(
            *rebuild(problem.arguments, inputs)
        )
        outputs = (*of_init, *of_node, products, samples)
        without_sums = bars[: switching.ROWS] + bars[switching.WEIGHTS :]
        pairs = zip(without_sums, outputs, strict=True)
        value = sum((bar.reshape(x.shape) * x).sum() for bar, x in pairs)
        return value, (of_logZ * logZ).sum()

    pull_back, _ = trace(combinations, leaves(problem.arguments))
    *first, _, _, _, weights, node_J, node_h, noise = pull_back(1.0, 0.0)
    *_, rows, weights_bar, noise_bar = got = adjoint()
    expected = (*first, node_J, node_h, weights, noise)
    for x, y in zip((*got[:4], weights_bar, noise_bar), expected, strict=True):
        np.testing.assert_allclose(x.reshape(y.shape), y, rtol=1e-12, atol=1e-14)
    # what log Z makes of the parameters of states goes through theirs
    *_, J11, J12, J22, _, _, _, _ = pull_back(1.0, 1.0)
    of_states = np.concatenate([x.reshape(len(x), -1) for x in (J11, J12, J22)], axis=1)
    np.testing.assert_allclose(rows.sum(axis=0), of_states, rtol=1e-12, atol=1e-14)


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
