"""Malformed arguments and impossible models: the error names the place."""

import pickle

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from svae.errors import Impossible, NotPositiveDefinite
from svae.testing import gaussian_problem, markov_problem


def replaced(potentials, where, value):
    """Replace a potential, by its place in the nested tuples."""
    if not where:
        return value
    head, *rest = where
    parts = list(potentials)
    parts[head] = replaced(parts[head], rest, value)
    return tuple(parts)


def lookup(potentials, where):
    """Return the potential at a place in the nested tuples."""
    for index in where:
        potentials = potentials[index]
    return potentials


@pytest.mark.parametrize("N", [3, 30])
@pytest.mark.parametrize("dense", [False, True])
def test_not_positive_definite_names_the_lowest_sequence(chains, rng, N, dense):
    problem = gaussian_problem(rng, N=N, T=6, dense=dense)
    Jn, _ = problem.node
    Jn[N - 1, 0] *= -100
    Jn[N - 2, 4] *= -100
    with pytest.raises(NotPositiveDefinite) as caught:
        chains.gaussian_chain(*problem)
    assert (caught.value.sequence, caught.value.step) == (N - 2, 4)
    assert isinstance(caught.value, np.linalg.LinAlgError)
    assert f"sequence {N - 2}" in str(caught.value)
    assert "step 4" in str(caught.value)


@pytest.mark.parametrize("N", [3, 20])
def test_what_is_no_number_is_named_before_a_sequence_that_fails(kernels, rng, N):
    problem = gaussian_problem(rng, N=N, T=6, lengths=np.full(N, 5))
    problem.node[0][0] *= -100
    problem.node[1][:, 5] = np.nan  # past all lengths
    with pytest.raises(NotPositiveDefinite):
        kernels.gaussian_chain(*problem)
    problem.node[1][N - 1, 4, 0] = np.inf
    with pytest.raises(ValueError, match=rf"node h\[{N - 1}, 4, 0\] is inf"):
        kernels.gaussian_chain(*problem)


@pytest.mark.parametrize("N", [1, 2, 20])
def test_what_is_no_log_potential_is_named_before_an_impossible_path(kernels, rng, N):
    init, pair, node, lengths = markov_problem(rng, N=N, T=6, lengths=np.full(N, 5))
    node[0, 2] = -np.inf
    node[:, 5] = np.nan  # past all lengths
    with pytest.raises(Impossible):
        kernels.markov_chain(init, pair, node, lengths)
    node[N - 1, 4, 0] = np.nan
    with pytest.raises(ValueError, match=rf"node\[{N - 1}, 4, 0\] is nan"):
        kernels.markov_chain(init, pair, node, lengths)


def test_what_is_not_positive_definite_past_a_length_is_not_read(chains, rng):
    problem = gaussian_problem(rng, T=6, lengths=np.array([6, 4, 2]))
    problem.node[0][1, 4:] *= -100
    problem.node[0][2, 2:] *= -100
    logZ, _, _ = chains.gaussian_chain(*problem)
    assert np.all(np.isfinite(logZ))


def test_a_precision_of_zero_is_not_positive_definite(chains):
    init, pair = (np.zeros((1, 1)), np.zeros(1)), (np.zeros((1, 1)),) * 3
    with pytest.raises(NotPositiveDefinite) as caught:
        chains.gaussian_chain(init, pair, (np.zeros((1, 1, 1)), np.zeros((1, 1, 1))))
    assert (caught.value.sequence, caught.value.step) == (0, 0)


CHAINS = ["markov_chain", "viterbi", "sample_markov_chain"]


def call(chains, name, problem):
    """Call one of the functions on Markov chains."""
    N, T, _ = problem.node.shape
    extra = [np.full((N, 1, T), 0.5)] if name == "sample_markov_chain" else []
    init, pair, node, lengths = problem
    return getattr(chains, name)(init, pair, node, *extra, lengths)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("N", [3, 30])
def test_impossible_names_the_lowest_sequence(chains, rng, name, N):
    problem = markov_problem(rng, N=N, T=6, K=3)
    problem.node[N - 1, 0] = problem.node[N - 2, 4] = -np.inf
    with pytest.raises(Impossible) as caught:
        call(chains, name, problem)
    assert (caught.value.sequence, caught.value.step) == (N - 2, 4)
    assert isinstance(caught.value, ValueError)
    assert f"sequence {N - 2}" in str(caught.value)
    assert "step 4" in str(caught.value)


@pytest.mark.parametrize("name", CHAINS)
def test_impossible_is_the_step_that_no_path_reaches(chains, rng, name):
    """States 0 and 1 never lead to 2; at step 3 only state 2 is allowed."""
    problem = markov_problem(rng, N=2, T=5, K=3, lengths=np.array([3, 5]))
    problem.init[2] = problem.pair[0, 2] = problem.pair[1, 2] = -np.inf
    problem.node[:, 3, :2] = -np.inf
    with pytest.raises(Impossible) as caught:
        call(chains, name, problem)
    assert (caught.value.sequence, caught.value.step) == (1, 3)


@pytest.mark.parametrize("error", [NotPositiveDefinite, Impossible])
def test_errors_survive_the_way_back_from_a_worker_process(error):
    sent = error(3, 117)
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert (received.sequence, received.step) == (3, 117)
    assert str(received) == str(sent)


GAUSSIAN_PLACES = {
    "init": [(0, 0), (0, 1)],
    "pair": [(1, 0), (1, 1), (1, 2)],
    "node": [(2, 0), (2, 1)],
    "noise": [(3,)],
}
places = pytest.mark.parametrize(
    ("name", "where"),
    [(name, where) for name, wheres in GAUSSIAN_PLACES.items() for where in wheres],
)


@places
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_index(
    kernels, rng, name, where, value
):
    problem = gaussian_problem(rng, sharing="step", lengths=np.array([5, 2, 4]))
    x = lookup(problem, where).copy()
    index = tuple(size - 1 for size in x.shape)
    if x.ndim > 2:  # the last entry that is within sequence 2's length
        time_axis = 2 if name == "noise" else 1
        last = 2 if name == "pair" else 3
        index = (2, *index[1:time_axis], last, *index[time_axis + 1 :])
    x[index] = value
    with pytest.raises(ValueError, match=name) as caught:
        kernels.gaussian_chain(*replaced(problem, where, x))
    assert ", ".join(map(str, index)) in str(caught.value)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("function", CHAINS)
def test_a_log_potential_that_is_no_number_is_refused_by_index(
    kernels, rng, place, value, function
):
    problem = markov_problem(rng, sharing="step", lengths=np.array([4, 1, 3]))
    problem[place][(2, 1, 0, 0)[: problem[place].ndim]] = value
    index = (2, 1, 0, 0)[: problem[place].ndim]
    with pytest.raises(ValueError, match=("init", "pair", "node")[place]) as caught:
        call(kernels, function, problem)
    assert ", ".join(map(str, index)) in str(caught.value)


WRONG_SHAPES = [
    ("init", (0, 0), (3, 3)),
    ("init", (0, 0), (2,)),
    ("init", (0, 0), (4, 2, 2)),
    ("init", (0, 1), (3,)),
    ("init", (0, 1), (4, 2)),
    ("pair", (1, 0), (3, 3)),
    ("pair", (1, 1), (4, 2, 2)),
    ("pair", (1, 1), (3, 5, 2, 2)),
    ("pair", (1, 2), (2, 4, 2, 2)),
    ("node", (2, 0), (3, 5)),
    ("node", (2, 0), (3, 4, 2)),
    ("node", (2, 0), (3, 5, 2, 3)),
    ("node", (2, 1), (3, 5)),
    ("noise", (3,), (3, 5, 2)),
    ("noise", (3,), (3, 2, 4, 2)),
]


@pytest.mark.parametrize(("name", "where", "shape"), WRONG_SHAPES)
def test_a_wrong_shape_is_named_beside_the_one_wanted(kernels, rng, name, where, shape):
    problem = gaussian_problem(rng)
    with pytest.raises(ValueError, match=name) as caught:
        kernels.gaussian_chain(*replaced(problem, where, -np.ones(shape)))
    assert str(shape) in str(caught.value)
    assert str(caught.value).count("(") >= 2, "the shape wanted is missing"


@pytest.mark.parametrize(
    ("name", "place", "shape"),
    [
        ("init", 0, (4,)),
        ("init", 0, (2, 3)),
        ("pair", 1, (3, 4)),
        ("pair", 1, (3, 3, 3)),
        ("pair", 1, (3, 4, 3, 3)),
        ("node", 2, (3, 3)),
        ("node", 2, (3, 4, 3, 3)),
    ],
)
@pytest.mark.parametrize("function", CHAINS)
def test_a_wrong_shape_of_a_markov_chain(kernels, rng, name, place, shape, function):
    problem = markov_problem(rng)
    problem = problem._replace(**{name: np.zeros(shape)})
    with pytest.raises(ValueError, match=name) as caught:
        if function == "sample_markov_chain":
            kernels.sample_markov_chain(*problem[:3], np.full((3, 2, 4), 0.5))
        else:
            getattr(kernels, function)(*problem[:3])
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 5), (2, 2, 4)])
def test_wrong_uniforms(kernels, rng, shape):
    with pytest.raises(ValueError, match="uniforms") as caught:
        kernels.sample_markov_chain(*markov_problem(rng)[:3], np.full(shape, 0.5))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    "lengths", [[5, 0, 3], [5, 6, 3], [5, -1, 3], [5, 5], [[5, 5, 5]]]
)
def test_lengths_out_of_range(kernels, rng, lengths):
    gaussian, markov = gaussian_problem(rng), markov_problem(rng, T=5)
    with pytest.raises(ValueError, match="lengths"):
        kernels.gaussian_chain(*gaussian[:4], np.array(lengths))
    for name in CHAINS:
        with pytest.raises(ValueError, match="lengths"):
            call(kernels, name, markov._replace(lengths=np.array(lengths)))


@pytest.mark.parametrize("lengths", [[5.5, 5, 3], [np.nan, 5, 3], ["5", "5", "3"]])
def test_lengths_that_are_no_integers(kernels, rng, lengths):
    gaussian, markov = gaussian_problem(rng), markov_problem(rng, T=5)
    with pytest.raises((ValueError, TypeError), match="lengths"):
        kernels.gaussian_chain(*gaussian[:4], np.array(lengths))
    with pytest.raises((ValueError, TypeError), match="lengths"):
        kernels.markov_chain(*markov[:3], np.array(lengths))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_wrong_number_of_potentials(kernels, rng, parts):
    init, pair, node, _, _ = gaussian_problem(rng)
    with pytest.raises((ValueError, TypeError)):
        kernels.gaussian_chain((init[0],) * parts, pair, node)
    with pytest.raises((ValueError, TypeError)):
        kernels.gaussian_chain(init, (pair[0],) * (parts + 1), node)
    with pytest.raises((ValueError, TypeError)):
        kernels.gaussian_chain(init, pair, (node[0],) * parts)


def test_complex_numbers_are_refused(kernels, rng):
    problem, (init, pair, node, _) = gaussian_problem(rng), markov_problem(rng)
    with pytest.raises((ValueError, TypeError)):
        kernels.gaussian_chain(*replaced(problem, (2, 1), problem.node[1] * 1j))
    with pytest.raises((ValueError, TypeError)):
        kernels.markov_chain(init, pair, node * 1j)


NO_ARRAYS = [None, 3, "three", [[1.0], [1.0, 2.0]], ...]


@pytest.mark.parametrize("value", NO_ARRAYS, ids=repr)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_potential_of_a_chain_is_named(kernels, rng, place, value):
    name = ("init", "pair", "node")[place]
    problem = replaced(gaussian_problem(rng), (place,), value)
    with pytest.raises((ValueError, TypeError), match=name):
        kernels.gaussian_chain(*problem)
    for function in CHAINS:
        problem = markov_problem(rng)._replace(**{name: value})
        problem = problem._replace(lengths=np.array([4, 4, 4]))
        with pytest.raises((ValueError, TypeError), match=name):
            if function == "sample_markov_chain":
                kernels.sample_markov_chain(*problem[:3], np.full((3, 2, 4), 0.5))
            else:
                getattr(kernels, function)(*problem)


@places
@pytest.mark.parametrize("value", [None, 3, "three", [[1.0], [1.0, 2.0]]], ids=repr)
def test_what_is_no_array_is_named(kernels, rng, name, where, value):
    if name == "noise" and value is None:
        return
    with pytest.raises((ValueError, TypeError), match=name):
        kernels.gaussian_chain(*replaced(gaussian_problem(rng), where, value))


@pytest.mark.parametrize("lengths", [[[1], [1, 2], [3]], "three", ...], ids=repr)
def test_lengths_that_are_no_array(kernels, rng, lengths):
    with pytest.raises((ValueError, TypeError), match="lengths"):
        kernels.gaussian_chain(*gaussian_problem(rng)[:4], lengths)
    with pytest.raises((ValueError, TypeError), match="lengths"):
        kernels.markov_chain(*markov_problem(rng)[:3], lengths)


@places
def test_masked_entries_of_a_gaussian_chain_are_refused(kernels, rng, name, where):
    problem = gaussian_problem(rng)
    x = np.ma.array(lookup(problem, where))
    kernels.gaussian_chain(*replaced(problem, where, x))  # no entry is masked
    x[(0,) * x.ndim] = np.ma.masked
    with pytest.raises(ValueError, match=f"{name}.* masked .*lengths"):
        kernels.gaussian_chain(*replaced(problem, where, x))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("function", CHAINS)
def test_masked_entries_of_a_markov_chain_are_refused(kernels, rng, place, function):
    problem = markov_problem(rng)
    name = ("init", "pair", "node")[place]
    x = np.ma.array(problem[place])
    x[(0,) * x.ndim] = np.ma.masked
    with pytest.raises(ValueError, match=f"{name} has masked"):
        call(kernels, function, problem._replace(**{name: x}))


def test_masked_lengths_and_uniforms_are_refused(kernels, rng):
    problem = markov_problem(rng)
    lengths = np.ma.array([4, 4, 4], mask=[False, True, False])
    with pytest.raises(ValueError, match="lengths has masked"):
        kernels.markov_chain(*problem[:3], lengths)
    uniforms = np.ma.masked_less(np.full((3, 2, 4), 0.5), 1.0)
    with pytest.raises(ValueError, match="uniforms has masked"):
        kernels.sample_markov_chain(*problem[:3], uniforms)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("function", CHAINS)
def test_log_potentials_whose_sums_would_be_none(kernels, rng, place, sign, function):
    """Of four steps, the potentials of a path would add up to 1.2e309."""
    problem = markov_problem(rng, sharing="step")
    for x in problem[:3]:
        x[...] = sign * 1e300
    logZ, _ = kernels.markov_chain(*problem)
    np.testing.assert_allclose(logZ, 8 * sign * 1e300, rtol=1e-12)
    call(kernels, function, problem)
    problem[place][...] = sign * 1.5e308
    name = ("init", "pair", "node")[place]
    with pytest.raises(ValueError, match=rf"{name}\[.*1.5e\+308, wanted .* 1e\+300"):
        call(kernels, function, problem)


@pytest.mark.parametrize(("where", "value"), [((2, 1), 1e200), ((2, 0), -1e308)])
def test_a_gaussian_chain_beyond_the_range_of_floats(kernels, rng, where, value):
    problem = gaussian_problem(rng, sharing="step", N=3)
    lookup(problem, where)[1] = value
    with pytest.raises((FloatingPointError, NotPositiveDefinite), match="sequence 1"):
        kernels.gaussian_chain(*problem)


def test_no_sequences(chains):
    """An empty batch has results, and gradients, of its shape."""
    one = np.eye(2)
    node = np.zeros((0, 3, 2)), np.zeros((0, 3, 2))
    logZ, stats, _ = chains.gaussian_chain((-one, one[0]), (-one, one, -one), node)
    assert logZ.shape == (0,)
    assert [x.shape for x in stats[1]] == [(2, 2)] * 3
    logZ, stats = chains.markov_chain(
        np.zeros(2), np.zeros((2, 2)), np.zeros((0, 3, 2))
    )
    assert logZ.shape == (0,)

    def total(pair):
        node = np.zeros((0, 3, 2))
        return anp.sum(chains.markov_chain(np.zeros(2), pair, node)[0])

    for lead in [(), (1, 1), (1, 2), (0, 2)]:
        pair = np.zeros((*lead, 2, 2))
        np.testing.assert_array_equal(grad(total)(pair), pair)
