"""Markov chains whose weights leave the range of doubles, or nearly.

The compiled chain computes with scaled weights and falls back to logarithms, for one
sequence at a time: whichever it takes, the answer is the same to the last digits.
"""

from functools import partial

import numpy as np
import pytest

from svae.autodiff.trees import leaves
from svae.testing import (
    MarkovProblem,
    assert_close,
    assert_identical,
    cotangents,
    markov_marginals,
    markov_problem,
    sequence,
)

FORBIDDEN = -np.inf
UNCONNECTED = np.array([[0.0, FORBIDDEN], [FORBIDDEN, 0.0]])


def one(init, pair, node):
    """A problem of a single sequence."""
    init, pair, node = (np.asarray(x, float) for x in (init, pair, node))
    return MarkovProblem(init, pair, node[None])


def switches_of_probability_1e_10(rng):
    rare = 1e-10
    pair = np.log(np.full((3, 3), rare) + (1 - 3 * rare) * np.eye(3))
    return one(np.zeros(3), pair, 300 * rng.standard_normal((40, 3)))


def forbidden_beside_a_spread_of_1000(rng):
    init, pair, node, _ = markov_problem(rng, N=1, T=30, K=4, scale=1000.0)
    pair[0, 0] = pair[1, 2] = pair[3, 0] = FORBIDDEN
    return one(init, pair, node[0])


def time_varying_spread_of_1000(rng):
    init, pair, node, _ = markov_problem(rng, N=1, T=30, K=4, scale=1000.0)
    pair = 1000 * rng.standard_normal((1, 29, 4, 4))
    return one(init, pair, node[0])


def offsets_of_a_million(rng):
    """Quarters are exact beside them, so only the chain itself can lose digits."""
    init, pair, node = (np.round(4 * x) / 4 for x in markov_problem(rng, N=1, T=30)[:3])
    return one(init + 1e6, pair - 1e6, node[0] + 1e6)


def evidence_that_cancels(rng, size):
    """Two classes: the evidence for either is lost, unless what follows is known."""
    evidence = size * np.repeat([1.0, -1.0, 1.0, -1.0], 6)
    wiggles = rng.standard_normal((24, 2))
    return one(np.zeros(2), UNCONNECTED, np.outer(evidence, [0.5, -0.5]) + wiggles)


def lost_both_ways(rng):
    """The winning class is lost going forward at one step, going backward at another.

    Each step in between is harmless by itself.
    """
    node = rng.standard_normal((20, 2))
    node[3, 0] -= 730.0
    node[4:16, 1] -= 130.0
    node[16, 0] -= 730.0
    node[:, 0] -= (node[:, 0] - node[:, 1]).sum() / 20
    return one(np.zeros(2), UNCONNECTED, node)


def a_decision_far_from_its_evidence(rng):
    """Left to right, no way back: the first steps decide what the last ones mean."""
    pair = np.where(np.triu(np.ones((3, 3))) > 0, -1.0, FORBIDDEN)
    node = rng.standard_normal((60, 3))
    node[:30, 2] += 15.0
    node[30:, 0] += 20.0
    return one(np.zeros(3), pair, node)


def tiny_but_possible(rng):
    node = rng.standard_normal((12, 3))
    node[:, 1:] -= 1e5
    node[5, 0] = FORBIDDEN
    return one(np.zeros(3), rng.standard_normal((3, 3)), node)


def a_single_state(rng):
    return one(rng.standard_normal(1), rng.standard_normal((1, 1)) * 100, [[1e3]] * 9)


def a_single_step(rng):
    return one([0.0, -800.0, 5.0], np.zeros((3, 3)), [[-900.0, 3.0, -2000.0]])


PROBLEMS = [
    switches_of_probability_1e_10,
    forbidden_beside_a_spread_of_1000,
    time_varying_spread_of_1000,
    offsets_of_a_million,
    *(partial(evidence_that_cancels, size=size) for size in (40.0, 130.0, 300.0, 1e3)),
    lost_both_ways,
    a_decision_far_from_its_evidence,
    tiny_but_possible,
    a_single_state,
    a_single_step,
]


def name_of(make):
    """Name a problem in a test's id."""
    if isinstance(make, partial):
        return f"{make.func.__name__}-{make.keywords['size']:g}"
    return make.__name__


all_problems = pytest.mark.parametrize("make", PROBLEMS, ids=name_of)


def outputs(module, lengths=None):
    return lambda *args: leaves(module.markov_chain(*args, lengths))


def smooth_cotangents(arrays):
    """Of order one; those of the log normalizer zero."""
    bars = [np.cos(1.3 * np.arange(y.size)).reshape(y.shape) for y in arrays]
    return [0 * bars[0], *bars[1:]]


@all_problems
def test_equals_fifty_digits(chains, rng, make):
    problem = make(rng)
    assert_close(chains.markov_chain(*problem), markov_marginals(problem), 1e-12)


@all_problems
def test_gradients_equal_the_definition(kernels, reference, rng, make):
    problem = make(rng)
    f, definition = outputs(kernels), outputs(reference)
    bars = smooth_cotangents(f(*problem[:3]))
    got, want = (cotangents(g, problem[:3], bars) for g in (f, definition))
    for a, b in zip(got, want, strict=True):
        # a posterior that is certain has no gradient, only roundings of one
        assert np.max(np.abs(a - b)) <= 1e-11 * max(1.0, np.max(np.abs(b)))


@all_problems
def test_filters_equal_the_definition(kernels, reference, rng, make):
    problem = make(rng)[:3]
    got, want = (m.markov_filter(*problem) for m in (kernels, reference))
    for (logZ, law), (logZ_want, law_want) in zip(got, want, strict=True):
        assert_close(logZ, logZ_want, 1e-12)
        np.testing.assert_allclose(law, law_want, rtol=1e-9, atol=1e-100)
        np.testing.assert_allclose(law.sum(axis=-1), 1.0, rtol=1e-14)


def test_a_filter_remembers_what_it_had_all_but_lost(kernels, reference):
    """A class of weight 1e-320 that wins in the end, by ten harmless steps."""
    node = np.zeros((1, 12, 2))
    node[0, 0, 1] = -737.0
    node[0, 1:, 0] = -100.0
    got, want = (
        m.markov_filter(np.zeros(2), UNCONNECTED, node) for m in (kernels, reference)
    )
    assert want[0][1][0, 7, 0] > 1.0 - 1e-9
    assert want[0][1][0, 8, 1] > 1.0 - 1e-9
    for a, b in zip([*got[0], *got[1]], [*want[0], *want[1]], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-100)


@all_problems
def test_harmless_company_changes_nothing(kernels, rng, make):
    """Bit for bit alone as in a ragged batch, at any place; and so its company."""
    problem = make(rng)
    T, K = problem.node.shape[1:]
    harmless = markov_problem(rng, N=10, T=T + 3, K=K, sharing="step")
    lengths = rng.integers(1, T + 4, 10)
    lengths[[2, 9]] = T
    init, pair, node = (x.copy() for x in harmless[:3])
    init = init + np.zeros((10, 1))
    for n in (2, 9):
        init[n], pair[n, : T - 1] = problem.init, problem.pair
        node[n, :T] = problem.node[0]
    batch = MarkovProblem(init, pair, node, lengths)
    whole = everything(kernels, batch)
    for n in range(10):
        alone = everything(kernels, sequence(batch, n))
        for a, b in zip(alone, whole, strict=True):
            assert_identical(a[0], b[n][tuple(map(slice, a[0].shape))])


def everything(kernels, problem):
    """Values and cotangents per sequence, the latter for sums of what is smooth.

    And what prefixes say.
    """
    f, args = outputs(kernels, problem.lengths), problem[:3]
    _, _, pair, node = arrays = f(*args)
    steps, states = np.arange(node.shape[1]), np.arange(node.shape[2])
    node_bar = np.cos(steps[:, None] + 0.7 * states) + np.zeros_like(node)
    pair_bar = np.sin(
        np.arange(pair.shape[1])[:, None, None] + 0.7 * states + 0.3 * states[:, None]
    )
    bars = [0 * arrays[0], 0 * arrays[1], pair_bar + np.zeros_like(pair), node_bar]
    prefixes = leaves(kernels.markov_filter(*args, problem.lengths))
    return [*arrays, *cotangents(f, args, bars), *prefixes]


@pytest.mark.parametrize("make", PROBLEMS[:2] + PROBLEMS[4:9], ids=name_of)
def test_sampling_visits_what_is_probable(kernels, reference, rng, make):
    problem = make(rng)
    uniforms = rng.random((1, 20, problem.node.shape[1]))
    got, want = (
        m.sample_markov_chain(*problem[:3], uniforms) for m in (kernels, reference)
    )
    assert_identical(got, want)


@pytest.mark.parametrize("K", [2, 7, 16, 17, 33, 100, 128])
@pytest.mark.parametrize("T", [1, 2, 64, 65, 200])
def test_any_number_of_states_and_steps(kernels, reference, rng, K, T):
    """Tiles of states and blocks of steps, whole and not."""
    lengths = np.array([T, (T + 1) // 2, 1, T])
    problem = markov_problem(rng, N=4, T=T, K=K, lengths=lengths)
    f, definition = outputs(kernels, lengths), outputs(reference, lengths)
    bars = smooth_cotangents(f(*problem[:3]))
    assert_close(f(*problem[:3]), definition(*problem[:3]), 1e-11)
    assert_close(
        cotangents(f, problem[:3], bars),
        cotangents(definition, problem[:3], bars),
        1e-9,
    )


def test_a_chain_kept_in_segments_is_the_same(kernels, rng):
    """A long companion has the messages recomputed on the way back: the same digits."""
    T, short, K = 80_000, 300, 4
    lengths = np.array([T, short, 1, 1])
    problem = markov_problem(rng, N=4, T=T, K=K, lengths=lengths)
    pair = problem.pair + np.zeros((4, 1, 1, 1))
    problem = problem._replace(init=problem.init + np.zeros((4, 1)), pair=pair)
    whole = everything(kernels, problem)
    alone = everything(kernels, sequence(problem, 1))
    for a, b in zip(alone, whole, strict=True):
        assert_identical(a[0], b[1][tuple(map(slice, a[0].shape))])
    brief, uniforms = sequence(problem, 1), rng.random((4, 2, T))
    paths, logprob = kernels.viterbi(*problem)
    short_paths, short_logprob = kernels.viterbi(*brief)
    assert_identical((paths[1:2, :short], logprob[1:2]), (short_paths, short_logprob))
    paths = kernels.sample_markov_chain(*problem[:3], uniforms, problem.lengths)
    short_paths = kernels.sample_markov_chain(*brief[:3], uniforms[1:2, :, :short])
    assert_identical(paths[1:2, :, :short], short_paths)
    logZ, _, pair_stat, node_stat = whole[:4]
    assert_close(node_stat[0].sum(-1), np.ones(T), 1e-13)
    assert_close(pair_stat[0, 0].sum(1), node_stat[0, :-1].sum(0), 1e-12)
    assert np.isfinite(logZ).all()
