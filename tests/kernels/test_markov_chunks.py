"""Long Markov chains by themselves: in chunks, for all lanes and all threads."""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves
from svae.errors import Impossible
from svae.testing import assert_close, assert_identical, markov_problem

LONG = 2**16  # from so many steps on, of as many sequences as are few
CHUNK = 2048  # steps


@pytest.fixture
def num_threads():
    """Put the number of threads back when a test is done."""
    before = svae.get_num_threads()
    yield svae.set_num_threads
    svae.set_num_threads(before)


def forbid(problem):
    """Forbid a state of the beginning, a transition, and states here and there."""
    init, pair, node = (x.copy() for x in problem[:3])
    if init.size > 2:
        init[1] = pair[1, 0] = -np.inf
        node[:, 5::7, 2] = -np.inf
        node[:, CHUNK - 1 :: CHUNK, 0] = node[:, CHUNK::CHUNK, 1] = -np.inf
    return problem._replace(init=init, pair=pair, node=node)


def in_company(kernels, problem):
    """Return what the chain of the only sequence says of it as a whole, in a pack."""
    T, K = problem.node.shape[1:]
    lengths = np.array([T, 3, 2, 1])
    node = np.broadcast_to(problem.node, (4, T, K))
    init, pair = problem.init + np.zeros((4, K)), problem.pair + np.zeros((4, 1, K, K))
    return [x[:1] for x in leaves(kernels.markov_chain(init, pair, node, lengths))]


def alone(kernels, problem):
    """Return what it says of it alone, likewise by sequence."""
    logZ, (init, pair, node) = kernels.markov_chain(*problem)
    return [logZ, init[None], pair[None, None], node]


@pytest.mark.parametrize("K", [1, 2, 10, 17])
@pytest.mark.parametrize("T", [LONG, LONG + 1, LONG + CHUNK - 1, LONG + 5000])
@pytest.mark.parametrize("restrict", [lambda problem: problem, forbid])
def test_chunks_are_the_whole(kernels, rng, num_threads, K, T, restrict):
    problem = restrict(markov_problem(rng, N=1, T=T, K=K, scale=2.0))
    num_threads(1)
    logZ, init, pair, node = got = alone(kernels, problem)
    want = in_company(kernels, problem)
    assert_identical(logZ, want[0])
    assert_close([init, node], [want[1], want[3]], 1e-13)
    assert_close(pair / T, want[2] / T, 1e-13)
    assert_identical(node == 0, want[3] == 0)
    assert_close(node.sum(-1), np.ones((1, T)), 1e-14)
    num_threads(2)
    assert_identical(alone(kernels, problem), got)


def evidence_that_cancels(node, where):
    """What a step says against a state is less than what the next one says for it."""
    node[0, where - 1 : where + 1] += [[0.0, -900.0, -2000.0], [-3000.0, -900.0, 0.0]]


def evidence_that_comes_slowly(node, where):
    """Likewise, but no step alone leaves what doubles hold: only all that follow do."""
    node[0, where - 1] += [0.0, -350.0, -350.0]
    node[0, where : where + 6, 0] -= 130.0


@pytest.mark.parametrize(
    "where", [5, 3 * CHUNK + 9, 5 * CHUNK - 1, 5 * CHUNK, LONG - 7]
)
@pytest.mark.parametrize("add", [evidence_that_cancels, evidence_that_comes_slowly])
def test_where_doubles_are_too_narrow_the_chain_is_done_as_a_whole(
    kernels, rng, add, where
):
    problem = markov_problem(rng, N=1, T=LONG, K=3, scale=0.01)
    problem = problem._replace(pair=-3000.0 * (1 - np.eye(3)))
    add(problem.node, where)
    assert_identical(alone(kernels, problem), in_company(kernels, problem))


def test_an_impossible_step_is_named(kernels, rng):
    problem = markov_problem(rng, N=2, T=LONG, K=3, lengths=np.array([LONG, 9]))
    problem.node[0, 40_000] = -np.inf
    with pytest.raises(Impossible) as caught:
        kernels.markov_chain(*problem)
    assert (caught.value.sequence, caught.value.step) == (0, 40_000)


def test_each_of_a_few_is_done_by_its_own_length(kernels, rng):
    lengths = np.array([LONG + 100, 50])
    problem = markov_problem(rng, N=2, T=LONG + 100, K=4, lengths=lengths)
    logZ, (init, pair, node) = kernels.markov_chain(*problem)
    for n, T in enumerate(lengths):
        one = problem._replace(node=problem.node[n : n + 1, :T], lengths=None)
        got = kernels.markov_chain(*one)
        assert_identical(got[0][0], logZ[n])
        assert_close(got[1][2][0], node[n, :T], 1e-13)  # with two lanes not in chunks
    assert not np.any(node[1, 50:])
    assert_close(pair.sum(), float(lengths.sum() - 2), 1e-12)
    assert_close(init.sum(), 2.0, 1e-14)


def test_pairs_of_every_step_are_done_as_a_whole(kernels, rng):
    problem = markov_problem(rng, N=1, T=LONG, K=2, sharing="step")
    logZ, (_, pair, node) = kernels.markov_chain(*problem)
    assert np.isfinite(logZ).all()
    assert_close(pair.reshape(LONG - 1, 2, 2).sum(2), node[0, :-1], 1e-12)
