"""The Markov chain: values, gradients and invariants of both implementations."""

import autograd.numpy as np
import pytest

from svae.autodiff.trees import leaves
from svae.testing import (
    assert_close,
    assert_identical,
    check_gradients,
    cotangents,
    fill_past_lengths,
    hessian_vector_product,
    markov_oracle,
    markov_problem,
    random_like,
    sequence,
)
from svae.testing.chains import SHARING, describe

SMALL = [
    dict(N=3, T=4, K=3, lengths=np.array([4, 1, 3])),
    dict(N=2, T=1, K=2),
    dict(N=1, T=2, K=4),
    dict(N=9, T=3, K=1, lengths=np.array([3, 2, 1, 3, 2, 1, 3, 2, 1])),
]
LARGE = [
    dict(N=17, T=20, K=4, lengths=np.arange(17) + 4),
    dict(N=3, T=6, K=10),
    dict(N=5, T=4, K=33),
]
small_problems = pytest.mark.parametrize("shape", SMALL, ids=describe)
large_problems = pytest.mark.parametrize("shape", LARGE, ids=describe)
all_problems = pytest.mark.parametrize("shape", SMALL + LARGE, ids=describe)
each_sharing = pytest.mark.parametrize("sharing", SHARING)


def chain(module, lengths=None):
    """Return `markov_chain` with flat outputs."""
    return lambda *args: leaves(module.markov_chain(*args, lengths))


def both(kernels, reference, problem):
    """Return either implementation of the chain of a problem."""
    return chain(kernels, problem.lengths), chain(reference, problem.lengths)


def forbid(problem):
    """Forbid transitions and states, but leave every sequence a path."""
    init, pair, node = (x.copy() for x in problem[:3])
    init[..., 1:2] = -np.inf
    pair[..., 1:, 0] = -np.inf
    node[:, 1::2, 2:3] = -np.inf
    return problem._replace(init=init, pair=pair, node=node)


@small_problems
@each_sharing
@pytest.mark.parametrize("restrict", [lambda problem: problem, forbid])
def test_equals_enumeration_of_paths(chains, rng, shape, sharing, restrict):
    problem = restrict(markov_problem(rng, sharing=sharing, **shape))
    marginals, (paths, logprob) = markov_oracle(problem)
    assert_close(chains.markov_chain(*problem), marginals, 1e-13)
    got_paths, got_logprob = chains.viterbi(*problem)
    assert got_paths.dtype == np.int64
    assert_identical(got_paths, paths)
    assert_close(got_logprob, logprob, 1e-13)


@large_problems
@each_sharing
def test_equals_reference(kernels, reference, rng, shape, sharing):
    problem = forbid(markov_problem(rng, sharing=sharing, **shape))
    want = reference.markov_chain(*problem)
    assert_close(kernels.markov_chain(*problem), want, 1e-10)
    uniforms = rng.random((shape["N"], 3, shape["T"]))
    for name, extra in (("viterbi", []), ("sample_markov_chain", [uniforms])):
        got, want = (
            getattr(module, name)(*problem[:3], *extra, problem.lengths)
            for module in (kernels, reference)
        )
        assert_close(got, want, 1e-13)


@small_problems
@each_sharing
@pytest.mark.parametrize("restrict", [lambda problem: problem, forbid])
def test_gradients_equal_differences(chains, rng, shape, sharing, restrict):
    problem = restrict(markov_problem(rng, sharing=sharing, **shape))
    check_gradients(chain(chains, problem.lengths), problem[:3], rng)


@all_problems
@each_sharing
@pytest.mark.parametrize("restrict", [lambda problem: problem, forbid])
def test_gradients_equal_reference(kernels, reference, rng, shape, sharing, restrict):
    problem = restrict(markov_problem(rng, sharing=sharing, **shape))
    f, definition = both(kernels, reference, problem)
    outputs_bar = random_like(rng, f(*problem[:3]))
    got, want = (cotangents(g, problem[:3], outputs_bar) for g in (f, definition))
    assert_close(got, want, 1e-10)
    for potential, g in zip(problem[:3], got, strict=True):
        assert not np.any(g[potential == -np.inf])


@small_problems
@each_sharing
def test_statistics_are_the_gradient_of_the_log_normalizer(chains, rng, shape, sharing):
    problem = forbid(markov_problem(rng, sharing=sharing, **shape))
    f, args = chain(chains, problem.lengths), problem[:3]
    logZ, *stats = f(*args)
    ones = [np.ones(len(logZ))]
    assert_close(cotangents(lambda *a: f(*a)[:1], args, ones), stats, 1e-12)


@all_problems
@pytest.mark.parametrize(
    "scalar", [np.sum, lambda z: np.sum(z**2), lambda z: np.sum(np.sin(z) * z[0])]
)
def test_second_derivatives_of_the_log_normalizer(
    kernels, reference, rng, shape, scalar
):
    problem = forbid(markov_problem(rng, **shape))
    direction = random_like(rng, problem[:3])
    got, want = (
        hessian_vector_product(lambda *a, f=f: scalar(f(*a)[0]), problem[:3], direction)
        for f in both(kernels, reference, problem)
    )
    assert_close(got, want, 1e-8)


def test_second_derivatives_of_statistics_are_refused(kernels, rng):
    args, f = markov_problem(rng)[:3], chain(kernels)
    for output in (1, 2, 3):
        with pytest.raises(NotImplementedError):
            hessian_vector_product(
                lambda *a, o=output: np.sum(f(*a)[o] ** 2), args, random_like(rng, args)
            )


@each_sharing
def test_pair_marginals_sum_to_node_marginals(chains, rng, sharing):
    lengths = np.array([6, 1, 4])
    problem = markov_problem(rng, T=6, sharing=sharing, lengths=lengths)
    problem = problem._replace(pair=problem.pair + np.zeros((3, 5, 3, 3)))
    _, (init, pair, node) = chains.markov_chain(*problem)
    live = np.arange(6) < lengths[:, None]
    assert_close(node.sum(-1), live.astype(float), 1e-14)
    assert_close(pair.sum(-1), node[:, :-1] * live[:, 1:, None], 1e-14)
    assert_close(pair.sum(-2), node[:, 1:], 1e-14)
    assert_close(init, mirror_of_first(problem.init, node), 1e-14)


def mirror_of_first(init, node):
    return node[:, 0] if init.ndim == 2 else node[:, 0].sum(0)


@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_entries_past_a_length_are_never_read(chains, rng, sharing):
    lengths = np.array([4, 1, 3])
    problem = markov_problem(rng, T=4, sharing=sharing, lengths=lengths)
    uniforms = rng.random((3, 2, 4))
    past = np.arange(4) >= lengths[:, None]
    results = []
    for filler in (0.0, np.nan):
        filled = fill_past_lengths(problem, filler)
        draws = np.where(past[:, None], filler, uniforms)
        paths = chains.sample_markov_chain(*filled[:3], draws, lengths)
        decoded, logprob = chains.viterbi(*filled)
        assert np.all(decoded[past] == -1)
        assert np.all(paths[np.broadcast_to(past[:, None], paths.shape)] == -1)
        f = chain(chains, lengths)
        outputs = f(*filled[:3])
        outputs_bar = [np.cos(np.arange(y.size)).reshape(y.shape) for y in outputs]
        args_bar = cotangents(f, filled[:3], outputs_bar)
        results.append([*outputs, *args_bar, paths, decoded, logprob])
    assert_identical(*results)


@pytest.mark.parametrize("sharing", ["shared", "sequence", "mixed"])
@pytest.mark.parametrize("K", [1, 3, 10, 40])
def test_a_sequence_alone_is_the_same_in_a_batch(kernels, rng, sharing, K):
    lengths = np.array([5, 1, 3, 5, 2, 4, 5, 5, 3, 1, 2])
    problem = markov_problem(rng, N=11, T=5, K=K, sharing=sharing, lengths=lengths)
    uniforms, node_bar = rng.random((11, 2, 5)), rng.standard_normal((11, 5, K))
    whole = per_sequence_results(kernels, problem, uniforms, node_bar)
    for n, T in enumerate(lengths):
        alone = per_sequence_results(
            kernels,
            sequence(problem, n),
            uniforms[n : n + 1, :, :T],
            node_bar[n : n + 1, :T],
        )
        for one, batch in zip(alone, whole, strict=True):
            assert_identical(one[0], batch[n][tuple(map(slice, one[0].shape))])


def per_sequence_results(module, problem, uniforms, node_bar):
    """Return what has a sequence axis, whatever is shared, and a cotangent."""
    init, pair, node, lengths = problem
    logZ, (_, pair_stat, node_stat) = module.markov_chain(*problem)
    _, _, back = cotangents(
        lambda *a: chain(module, lengths)(*a)[-1:], problem[:3], [node_bar]
    )
    paths, logprob = module.viterbi(*problem)
    samples = module.sample_markov_chain(init, pair, node, uniforms, lengths)
    own_pairs = [pair_stat] if pair_stat.ndim == 4 else []
    return [logZ, *own_pairs, node_stat, back, paths, logprob, samples]


def test_of_equal_paths_viterbi_takes_the_lowest_states(chains, rng):
    problem = markov_problem(rng, N=40, T=5, K=3)
    problem = problem._replace(
        init=rng.integers(0, 2, 3) * 2.0,
        pair=rng.integers(0, 2, (3, 3)) * 2.0,
        node=rng.integers(0, 2, (40, 5, 3)) * 2.0,
    )
    _, want = markov_oracle(problem)
    assert_identical(chains.viterbi(*problem), want)


def test_sampled_paths_follow_the_inverse_distribution_function(chains, rng):
    """A grid of uniforms visits each path as often as its probability says."""
    grid, T = 24, 3
    problem = forbid(markov_problem(rng, N=2, T=T, K=3, lengths=np.array([3, 2])))
    u = (np.arange(grid) + 0.5) / grid
    axes = np.stack(np.meshgrid(u, u, u, indexing="ij"), -1).reshape(1, -1, T)
    paths = chains.sample_markov_chain(
        *problem[:3], np.repeat(axes, 2, 0), problem.lengths
    )
    _, (_, _, node) = chains.markov_chain(*problem)
    assert paths.dtype == np.int64
    assert paths.shape == (2, grid**T, T)
    assert np.all(paths[1, :, 2] == -1)
    for n, length in enumerate(problem.lengths):
        for t in range(length):
            counts = np.bincount(paths[n, :, t], minlength=3)
            # each of up to three draws in a row misses by at most 1/grid per state
            assert np.max(np.abs(counts / grid**T - node[n, t])) < T / grid
            assert not np.any(counts[node[n, t] == 0])


def test_single_draws_by_hand(chains):
    """Cumulatives of (1/4, 0, 3/4), of four equal states, and of (0, 1)."""
    forbid = -np.inf
    cases = [
        (
            [np.log(0.25), forbid, np.log(0.75)],
            [0.0, 0.2499, 0.2501, 0.9],
            [0, 0, 2, 2],
        ),
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.25, 0.5, 0.75], [0, 1, 2, 3]),
        ([forbid, 0.0], [0.0, 0.5, 0.9, 1 - 2.0**-53], [1, 1, 1, 1]),
    ]
    for logs, uniforms, want in cases:
        K = len(logs)
        node, u = np.array(logs)[None, None], np.array(uniforms)[None, :, None]
        paths = chains.sample_markov_chain(np.zeros(K), np.zeros((K, K)), node, u)
        assert paths[0, :, 0].tolist() == want


def test_accepts_lists_keywords_and_any_memory_layout(chains, rng):
    problem = markov_problem(rng, sharing="step")

    def strided(x):
        x = np.moveaxis(np.repeat(np.moveaxis(x, 0, -1), 2, axis=-1)[..., ::2], -1, 0)
        x.flags.writeable = False
        return x

    init, pair, node = (strided(x) for x in problem[:3])
    got = chains.markov_chain(node=node, lengths=[4, 4, 4], init=list(init), pair=pair)
    assert_identical(got, chains.markov_chain(*problem))
