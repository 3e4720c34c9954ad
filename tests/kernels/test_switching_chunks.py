"""Few long chains that states switch go in chunks of time: the same answers."""

import numpy as np
import pytest

import svae
from svae.errors import NotPositiveDefinite
from svae.testing import (
    assert_close,
    assert_identical,
    cotangents,
    switching_problem,
)
from tests.helpers.switching import arguments, chain, check

each_kind = pytest.mark.parametrize("affine", [False, True], ids=["linear", "affine"])


@each_kind
@pytest.mark.parametrize(("D", "K"), [(1, 2), (3, 1), (4, 7), (10, 3)])
@pytest.mark.parametrize("T", [64, 65, 73, 200])
def test_one_sequence(kernels, reference, rng, T, D, K, affine):
    problem = switching_problem(rng, 1, T, D, K, affine=affine, S=1)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


@each_kind
@pytest.mark.parametrize("T", [32, 50])
def test_one_short_sequence_of_many_dimensions(kernels, reference, rng, T, affine):
    problem = switching_problem(rng, 1, T, 10, 3, affine=affine, S=1)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


@each_kind
@pytest.mark.parametrize(
    "lengths", [[200, 64], [64, 200, 199], [200, 1, 193], [3, 200, 192]], ids=str
)
def test_lengths_that_differ(kernels, reference, rng, lengths, affine):
    problem = switching_problem(
        rng, len(lengths), 200, 3, 4, affine=affine, dense=True, lengths=lengths
    )
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


def test_without_samples(kernels, reference, rng):
    problem = switching_problem(rng, 2, 150, 5, 3, S=0)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


def in_company(problem, count=8):
    """Return the problem of one sequence that many times over: too many for chunks."""
    return problem._replace(
        node=tuple(np.repeat(x, count, axis=0) for x in problem.node),
        weights=np.repeat(problem.weights, count, axis=0),
        noise=np.repeat(problem.noise, count, axis=0),
    )


@pytest.mark.parametrize("D", [2, 10, 33])
@pytest.mark.parametrize("T", [250, 1025, 2100])
def test_several_packs_of_chunks(kernels, rng, T, D):
    """One pass over all steps finds the same, also the samples of the same noise."""
    problem = switching_problem(rng, 1, T, D, 4, affine=True, S=2)

    def of_the_sequence(problem):
        f, args = chain(kernels, problem), arguments(problem)
        outputs = f(*args)
        bars = [np.cos(np.arange(x[0].size)).reshape(x[:1].shape) for x in outputs]
        bars[1:8] = [0 * x for x in bars[1:8]]  # sums over sequences too
        bars = [np.broadcast_to(b, x.shape) for b, x in zip(bars, outputs, strict=True)]
        every = [*outputs[:1], *outputs[8:], *cotangents(f, args, bars)[7:]]
        return [x[:1] for x in every]

    want = of_the_sequence(in_company(problem))
    assert_close(of_the_sequence(problem), want, 1e-12)


def test_entries_past_a_length_are_never_read(kernels, rng):
    lengths = np.array([130, 150])
    problem = switching_problem(rng, 2, 160, 3, 2, lengths=lengths)
    live = np.arange(160) < lengths[:, None]
    got = []
    for filler in (0.0, np.nan):
        filled = problem._replace(
            weights=np.where(live[:, 1:, None], problem.weights, filler),
            node=tuple(np.where(live[..., None], x, filler) for x in problem.node),
            noise=np.where(live[:, None, :, None], problem.noise, filler),
        )
        f, args = chain(kernels, filled), arguments(filled)
        outputs = f(*args)
        bars = [np.cos(np.arange(y.size)).reshape(y.shape) for y in outputs]
        got.append([*outputs, *cotangents(f, args, bars)])
    assert_identical(*got)


@pytest.mark.parametrize("T", [65, 900])
def test_weights_of_one_state_are_exact(kernels, rng, T):
    """A weight of one beside zeros leaves the matrices of its state as they are."""
    init, pairs, _, node, noise, _ = switching_problem(rng, 1, T, 3, 4)
    chosen = rng.integers(4, size=(1, T - 1))
    logZ, stats, _, samples = kernels.switching_gaussian_chain(
        init, pairs, np.eye(4)[chosen], node, noise
    )
    want = kernels.gaussian_chain(init, [J[chosen] for J in pairs], node, noise)
    assert_identical(
        (logZ, stats[0], stats[2], samples), (want[0], *want[1][::2], want[2])
    )


def test_any_number_of_threads_gives_the_same_bits(kernels, rng):
    problem = switching_problem(rng, 2, 3000, 5, 3, affine=True)
    f, args = chain(kernels, problem), arguments(problem)
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


@pytest.mark.parametrize("steps", [(0,), (8,), (63,), (99,), (40, 20)])
def test_the_first_step_that_fails_is_named(chains, rng, steps):
    problem = switching_problem(rng, 2, 150, 3, 2)
    for step in steps:
        problem.node[0][1, step] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        chains.switching_gaussian_chain(*problem)
    assert (caught.value.sequence, caught.value.step) == (1, min(steps))
