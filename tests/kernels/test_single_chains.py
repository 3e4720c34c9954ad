"""A Markov chain by itself, or few of them: states in the lanes in place of sequences.

The operations on every entry are those of a pack, so the digits are the same.
"""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves
from svae.kernels.filters import markov_filter
from svae.testing import (
    assert_close,
    assert_identical,
    cotangents,
    markov_problem,
    sequence,
)

STATES = [1, 2, 3, 7, 10, 17, 30, 100]
STEPS = [1, 2, 63, 64, 65, 1000]


def forbid(problem):
    """Forbid states and transitions, but leave every sequence a path."""
    init, pair, node = (x.copy() for x in problem[:3])
    if init.shape[-1] > 2:
        init[..., 1] = pair[..., 1, 0] = -np.inf
        node[:, 1::7, 2] = -np.inf
    return problem._replace(init=init, pair=pair, node=node)


def smooth(array):
    """Return cotangents that are the same for a sequence in any company."""
    waves = [
        np.cos(0.7 * np.arange(n) + axis) for axis, n in enumerate(array.shape[1:])
    ]
    return sum(np.ix_(*waves)) + np.zeros_like(array)


def chain(module, lengths):
    return lambda *args: leaves(module.markov_chain(*args, lengths))


def everything(kernels, problem, uniforms):
    """Return all that kernels say of every sequence."""
    f, args = chain(kernels, problem.lengths), problem[:3]
    outputs = f(*args)
    bars = [0 * outputs[0], *map(smooth, outputs[1:])]
    return [
        *outputs,
        *cotangents(f, args, bars),
        *leaves(markov_filter(*problem)),
        *kernels.viterbi(*problem),
        kernels.sample_markov_chain(*args, uniforms, problem.lengths),
    ]


def per_sequence(problem):
    """Give every sequence potentials of its own, equal ones."""
    N, T = problem.node.shape[:2]
    K = problem.node.shape[2]
    pair = problem.pair if problem.pair.ndim == 4 else problem.pair[None, None]
    return problem._replace(
        init=problem.init + np.zeros((N, K)), pair=pair + np.zeros((N, 1, K, K))
    )


def cut(array, like):
    return array[tuple(map(slice, like.shape))]


@pytest.mark.parametrize("K", STATES)
@pytest.mark.parametrize("T", STEPS)
@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_the_digits_are_those_in_a_batch(kernels, rng, K, T, sharing):
    """Of the first sequence, which is in a pack, and the last, which is left alone."""
    if K * K * T > (500_000 if sharing == "shared" else 100_000):
        pytest.skip("takes long")
    N, width = 17, max(1, (T + 2) // 3)
    lengths = rng.integers(width, T + 1, N)
    lengths[[0, 2]] = T
    problem = markov_problem(rng, N=N, T=T, K=K, sharing=sharing, lengths=lengths)
    problem = per_sequence(forbid(problem))
    uniforms = rng.random((N, 2, T))
    whole = everything(kernels, problem, uniforms)
    for n in (0, N - 1):
        one = sequence(problem, n)
        alone = everything(kernels, one, uniforms[n : n + 1, :, : lengths[n]])
        for got, want in zip(alone, whole, strict=True):
            assert_identical(got[0], cut(want[n], got[0]))


@pytest.mark.parametrize("K", STATES)
@pytest.mark.parametrize("T", STEPS)
@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_values_and_gradients_are_those_of_the_definition(
    kernels, reference, rng, K, T, sharing
):
    if K * T > 7000 or T > 65 and sharing == "step":
        pytest.skip("takes long")
    problem = forbid(markov_problem(rng, N=1, T=T, K=K, sharing=sharing))
    f, definition = chain(kernels, None), chain(reference, None)
    args, outputs = problem[:3], f(*problem[:3])
    assert_close(outputs, definition(*args), 1e-11)
    bars = [np.zeros(1), *map(smooth, outputs[1:])]
    assert_close(cotangents(f, args, bars), cotangents(definition, args, bars), 1e-9)
    assert_identical(kernels.viterbi(*problem)[0], reference.viterbi(*problem)[0])
    uniforms = rng.random((1, 3, T))
    got, want = (
        module.sample_markov_chain(*args, uniforms) for module in (kernels, reference)
    )
    assert_identical(got, want)


@pytest.mark.parametrize("K", [4, 40])
def test_a_long_chain_alone_is_the_same_as_in_company(kernels, rng, K):
    """In segments, which begin elsewhere where more sequences are kept."""
    T = 60_000
    problem = per_sequence(markov_problem(rng, N=1, T=T, K=K, scale=2.0))
    node = np.broadcast_to(problem.node, (4, T, K))
    company = problem._replace(
        init=np.broadcast_to(problem.init, (4, K)),
        pair=np.broadcast_to(problem.pair, (4, *problem.pair.shape[1:])),
        node=node,
        lengths=np.array([T, 3, 2, 1]),
    )
    uniforms = rng.random((1, 1, T))
    f, g = chain(kernels, None), chain(kernels, company.lengths)
    outputs, args = f(*problem[:3]), company[:3]
    for got, want in zip(outputs, g(*args), strict=True):
        assert_identical(got[0], want[0])
    bars = [np.zeros(1), *map(smooth, outputs[1:])]
    bars_of_all = [np.zeros(4), *(b + np.zeros((4, *b.shape[1:])) for b in bars[1:])]
    alone = cotangents(f, problem[:3], bars)
    for got, want in zip(alone, cotangents(g, args, bars_of_all), strict=True):
        assert_identical(got[0], want[0])
    path, weight = kernels.viterbi(*problem)
    paths, weights = kernels.viterbi(*company)
    assert_identical([path[0], weight[0]], [paths[0], weights[0]])
    path = kernels.sample_markov_chain(*problem[:3], uniforms)
    uniforms = np.broadcast_to(uniforms, (4, 1, T))
    paths = kernels.sample_markov_chain(*args, uniforms, company.lengths)
    assert_identical(path[0], paths[0])


@pytest.mark.parametrize("N", [1, 2, 3])
def test_threads_change_nothing(kernels, rng, N):
    problem = per_sequence(markov_problem(rng, N=N, T=2000, K=12))
    uniforms, before = rng.random((N, 2, 2000)), svae.get_num_threads()
    try:
        svae.set_num_threads(1)
        want = everything(kernels, problem, uniforms)
        svae.set_num_threads(2)
        assert_identical(everything(kernels, problem, uniforms), want)
    finally:
        svae.set_num_threads(before)
