"""Few long Gaussian chains go in chunks of time: the same answers, whatever the cut."""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves
from svae.errors import NotPositiveDefinite
from svae.testing import (
    assert_close,
    assert_identical,
    cotangents,
    fill_past_lengths,
    gaussian_problem,
    random_like,
    sequence,
)
from svae.testing.accuracy import (
    conditioned_problem,
    nearly_deterministic,
    nearly_exact,
    worst_errors,
)
from svae.testing.chains import GaussianProblem

SHORTEST = 64  # a single sequence of so many steps goes in chunks
EPS = np.finfo(float).eps


def chain(module, lengths=None):
    """Return `gaussian_chain` from flat arguments to flat outputs."""

    def outputs(J0, h0, J11, J12, J22, Jn, hn, *noise):
        init, pair, node = (J0, h0), (J11, J12, J22), (Jn, hn)
        return leaves(module.gaussian_chain(init, pair, node, *noise, lengths=lengths))

    return outputs


def arguments(problem):
    """Flat arguments of `chain`."""
    return leaves([part for part in problem[:4] if part is not None])


def check(kernels, reference, rng, problem):
    """Compare outputs and the cotangents of all arguments."""
    f, g = (chain(module, problem.lengths) for module in (kernels, reference))
    args = arguments(problem)
    want = g(*args)
    assert_close(f(*args), want, 1e-11)
    outputs_bar = random_like(rng, want)
    assert_close(
        cotangents(f, args, outputs_bar), cotangents(g, args, outputs_bar), 1e-10
    )


@pytest.mark.parametrize("D", [1, 3, 4, 10])
@pytest.mark.parametrize("T", [64, 65, 72, 73, 200])
def test_one_sequence(kernels, reference, rng, T, D):
    check(kernels, reference, rng, gaussian_problem(rng, N=1, T=T, D=D, S=1))


@pytest.mark.parametrize("D", [9, 10, 21])
@pytest.mark.parametrize("T", [31, 32, 33, 50, 63])
def test_one_short_sequence_of_many_dimensions(kernels, reference, rng, T, D):
    check(kernels, reference, rng, gaussian_problem(rng, N=1, T=T, D=D, S=1))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("sharing", ["shared", "sequence", "time", "step", "mixed"])
def test_potentials_of_every_kind(kernels, reference, rng, sharing, dense):
    problem = gaussian_problem(rng, N=2, T=150, D=3, sharing=sharing, dense=dense)
    check(kernels, reference, rng, problem)


@pytest.mark.parametrize(
    "lengths", [[200, 64], [64, 200, 199], [200, 1, 193], [3, 200, 192]], ids=str
)
@pytest.mark.parametrize("sharing", ["shared", "mixed"])
def test_lengths_that_differ(kernels, reference, rng, lengths, sharing):
    lengths = np.array(lengths)
    problem = gaussian_problem(
        rng, N=len(lengths), T=200, D=4, sharing=sharing, lengths=lengths
    )
    check(kernels, reference, rng, problem)


@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_without_samples(kernels, reference, rng, sharing):
    problem = gaussian_problem(rng, N=1, T=150, D=3, sharing=sharing, S=0)
    check(kernels, reference, rng, problem)


@pytest.mark.parametrize("dense", [False, True])
def test_entries_past_a_length_are_never_read(kernels, rng, dense):
    lengths = np.array([130, 150])
    problem = gaussian_problem(
        rng, N=2, T=160, sharing="step", dense=dense, lengths=lengths
    )
    got = []
    for filler in (0.0, np.nan):
        args = arguments(fill_past_lengths(problem, filler))
        outputs = chain(kernels, lengths)(*args)
        bars = [np.cos(np.arange(y.size)).reshape(y.shape) for y in outputs]
        got.append([*outputs, *cotangents(chain(kernels, lengths), args, bars)])
    assert_identical(*got)
    *_, samples = kernels.gaussian_chain(*problem)
    assert not samples[0, :, 130:].any()


def in_company(problem, count=8):
    """Return the problem of one sequence that many times over: too many for chunks."""

    def repeated(part):
        return tuple(np.repeat(x, count, axis=0) for x in part)

    noise = np.repeat(problem.noise, count, axis=0)
    return GaussianProblem(problem.init, problem.pair, repeated(problem.node), noise)


@pytest.mark.parametrize("D", [2, 10, 33])
@pytest.mark.parametrize("T", [1023, 1024, 1025, 1040, 3000])
def test_several_packs_of_chunks(kernels, rng, T, D):
    """One pass over all steps finds the same, also the samples of the same noise."""
    problem = gaussian_problem(rng, N=1, T=T, D=D, S=2)
    many = in_company(problem)

    def node_and_noise(problem):
        f, args = chain(kernels), arguments(problem)
        outputs = f(*args)
        logZ, *_, Jn, hn, samples = outputs
        bars = [np.cos(np.arange(x[0].size)).reshape(x[:1].shape) for x in outputs]
        bars[3:6] = [0 * x for x in bars[3:6]]  # sums over sequences too
        bars = [np.broadcast_to(b, x.shape) for b, x in zip(bars, outputs, strict=True)]
        return [logZ, Jn, hn, samples, *cotangents(f, args, bars)[-3:]]

    want = [x[:1] for x in node_and_noise(many)]
    assert_close(node_and_noise(problem), want, 1e-12)


@pytest.mark.parametrize("N", [1, 2, 3])
def test_shorter_sequences_are_the_same_in_any_company(kernels, rng, N):
    T = N * SHORTEST - 1
    problem = gaussian_problem(rng, N=N, T=T, D=3, S=1)
    alone = sequence(gaussian_problem(rng, N=1, T=63, D=3, S=1), 0)
    for few in (problem, alone):
        noise = np.concatenate([few.noise, few.noise, few.noise, few.noise])
        node = tuple(np.concatenate([x, x, x, x]) for x in few.node)
        many = GaussianProblem(few.init, few.pair, node, noise)
        got, want = (kernels.gaussian_chain(*p) for p in (few, many))
        count = len(few.noise)
        assert_identical(
            [got[0], got[2], *got[1][2]],
            [x[:count] for x in (want[0], want[2], *want[1][2])],
        )


@pytest.mark.parametrize("sharing", ["shared", "mixed"])
@pytest.mark.parametrize("T", [64, 65, 200])
def test_a_filter(kernels, reference, rng, T, sharing):
    lengths = np.array([T])
    for D, dense in ((1, False), (4, True), (10, False)):
        init, pair, node, *_ = gaussian_problem(
            rng, N=1, T=T, D=D, sharing=sharing, dense=dense
        )
        got, want = (
            leaves(module.gaussian_filter(init, pair, node, lengths))
            for module in (kernels, reference)
        )
        assert_close(got, want, 1e-11)


def test_filters_of_lengths_that_differ(kernels, reference, rng):
    lengths = np.array([300, 64, 193])
    init, pair, node, *_ = gaussian_problem(rng, N=3, T=300, D=3, lengths=lengths)
    got, want = (
        leaves(module.gaussian_filter(init, pair, node, lengths))
        for module in (kernels, reference)
    )
    assert_close(got, want, 1e-11)


def test_any_number_of_threads_gives_the_same_bits(kernels, rng):
    problem = gaussian_problem(rng, N=2, T=5000, D=5, S=2)
    args, f = arguments(problem), chain(kernels)
    before, results = svae.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            svae.set_num_threads(count)
            outputs = f(*args)
            results.append([*outputs, *cotangents(f, args, outputs)])
    finally:
        svae.set_num_threads(before)
    for other in results[1:]:
        assert_identical(other, results[0])


@pytest.mark.parametrize(
    "steps", [(0,), (1,), (7,), (8,), (63,), (64,), (99,), (40, 20)]
)
def test_the_first_step_that_fails_is_named(chains, rng, steps):
    node_J = -rng.uniform(0.5, 1.5, (2, 150, 3))
    problem = gaussian_problem(rng, N=2, T=150, D=3)
    for step in steps:
        node_J[1, step] = 1e3
    node = node_J, problem.node[1]
    noise = problem.noise
    for compute in (
        lambda: chains.gaussian_chain(problem.init, problem.pair, node, noise),
        lambda: chains.gaussian_filter(problem.init, problem.pair, node),
    ):
        with pytest.raises(NotPositiveDefinite) as caught:
            compute()
        assert (caught.value.sequence, caught.value.step) == (1, min(steps))


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: conditioned_problem(rng, 1e3, N=1, T=SHORTEST, D=1),
        lambda rng: conditioned_problem(rng, 1e6, N=1, T=SHORTEST, D=1),
        lambda rng: nearly_deterministic(rng, N=1, T=SHORTEST, D=1),
        lambda rng: nearly_exact(rng, N=1, T=SHORTEST, D=1),
    ],
)
def test_no_digits_are_lost(kernels, draw):
    """Measured as in test_accuracy.py, over fewer and longer sequences."""
    condition, worst = worst_errors(draw, [0], [kernels.isa()])
    lapack = worst.pop("LAPACK")
    for name, error in worst[kernels.isa()].items():
        assert error <= max(3 * lapack[name], EPS * condition), name
