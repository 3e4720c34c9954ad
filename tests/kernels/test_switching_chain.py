"""A Gaussian chain whose pairs states mix: values, gradients and invariants."""

import autograd.numpy as np
import numpy as onp
import pytest

import svae
from svae.errors import NotPositiveDefinite
from svae.kernels.switching import unchecked_switching_gaussian_chain
from svae.testing import (
    assert_close,
    assert_identical,
    check_gradients,
    cotangents,
    hessian_vector_product,
    random_like,
    switching_problem,
)
from svae.testing.chains import describe
from tests.helpers.switching import arguments, chain, check

RAGGED = onp.array([19, 8, 9, 16, 17, 1, 7, 19, 2, 15])
SMALL = [
    dict(N=3, T=4, D=2, K=3, lengths=onp.array([4, 1, 3])),
    dict(N=2, T=1, D=2, K=2),
    dict(N=1, T=2, D=3, K=1, dense=True),
    dict(N=9, T=3, D=1, K=4, dense=True, lengths=onp.array([3, 2, 1] * 3)),
]
each_kind = pytest.mark.parametrize("affine", [False, True], ids=["linear", "affine"])
small_problems = pytest.mark.parametrize("shape", SMALL, ids=describe)


def by_arrays(module, problem):
    """Return the same function, by `gaussian_chain` with matrices of every step."""
    count = len(problem.pairs)

    def outputs(J0, h0, *rest):
        pairs, weights, (Jn, hn) = (
            rest[:count],
            rest[count],
            rest[count + 1 : count + 3],
        )
        noise = rest[count + 3] if problem.noise is not None else None
        N, T, D = problem.node[1].shape
        lengths = onp.full(N, T) if problem.lengths is None else problem.lengths
        live = (onp.arange(1, T) < lengths[:, None])[..., None]
        weights = np.where(live, weights, 0.0)
        pair = [np.tensordot(weights, J, 1) for J in pairs[:3]]
        if count > 3:
            h1, h2 = (np.tensordot(weights, h, 1) for h in pairs[3:])
            zero = onp.zeros((N, 1, D))
            hn = hn + np.concatenate([h1, zero], 1) + np.concatenate([zero, h2], 1)
        logZ, (of_init, of_pair, of_node), samples = module.gaussian_chain(
            (J0, h0), pair, (Jn, hn), noise, lengths
        )
        features = [*of_pair]
        if count > 3:
            mean = of_node[1]
            features += [np.where(live, mean[:, :-1], 0.0), mean[:, 1:]]
        rows = [np.reshape(f, (N, T - 1, -1)) for f in features]
        products = sum(
            np.dot(row, np.reshape(part, (len(part), -1)).T)
            for row, part in zip(rows, pairs, strict=True)
        )
        sums = [np.tensordot(weights, f, ((0, 1), (0, 1))) for f in features]
        everything = (logZ, *of_init, *sums, *of_node, products, samples)
        return [x for x in everything if x is not None]

    return outputs


@each_kind
@small_problems
def test_small_problems_equal_the_definition(kernels, reference, rng, shape, affine):
    problem = switching_problem(rng, affine=affine, **shape)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


@each_kind
@pytest.mark.parametrize("D", [1, 2, 3, 4, 5, 6, 7, 10, 11, 13])
@pytest.mark.parametrize("K", [1, 2, 6])
def test_any_dimension(kernels, reference, rng, D, K, affine):
    """Tiles of every size, also padded ones; blocks of steps that are not full."""
    problem = switching_problem(rng, 10, 19, D, K, affine=affine, lengths=RAGGED)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


@each_kind
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
@pytest.mark.parametrize(("D", "K"), [(3, 7), (10, 10), (97, 2), (2, 70)])
def test_equals_the_chain_of_mixed_arrays(kernels, rng, D, K, dense, affine):
    N, T = (2, 3) if D > 90 else (10, 19)
    lengths = onp.minimum(RAGGED[:N], T)
    problem = switching_problem(
        rng, N, T, D, K, affine=affine, dense=dense, lengths=lengths
    )
    check(problem, chain(kernels, problem), by_arrays(kernels, problem), rng)


@each_kind
@small_problems
def test_gradients_equal_differences(chains, rng, shape, affine):
    problem = switching_problem(rng, affine=affine, **shape)
    check_gradients(chain(chains, problem), arguments(problem), rng)


def test_time_in_segments(kernels, rng):
    """Of so long a chain a pack keeps a part, and computes the rest once more."""
    lengths = onp.array([900, 871])
    problem = switching_problem(rng, 2, 900, 40, 2, S=1, lengths=lengths)
    check(problem, chain(kernels, problem), by_arrays(kernels, problem), rng)


def test_each_output_alone_has_a_gradient(kernels, reference, rng):
    """Cotangents of zero leave out what they can, and nothing else."""
    problem = switching_problem(rng, 4, 6, 3, 2, affine=True)
    args = arguments(problem)
    for k, output in enumerate(chain(reference, problem)(*args)):
        bar = random_like(rng, [output])
        got, want = (
            cotangents(lambda *a, f=f, k=k: [f(*a)[k]], args, bar)
            for f in (chain(kernels, problem), chain(reference, problem))
        )
        assert_close(got, want, 1e-9)


def test_one_state_is_the_chain_of_shared_pairs(kernels, rng):
    problem = switching_problem(rng, 10, 19, 10, 1, lengths=RAGGED)
    init, pairs, _, node, noise, lengths = problem
    weights = onp.ones((10, 18, 1))
    logZ, stats, _, samples = kernels.switching_gaussian_chain(
        init, pairs, weights, node, noise, lengths
    )
    shared = [J[0] for J in pairs]
    want = kernels.gaussian_chain(init, shared, node, noise, lengths)
    assert_identical(
        (logZ, stats[0], stats[2], samples), (want[0], *want[1][::2], want[2])
    )
    assert_close([J[0] for J in stats[1]], want[1][1], 1e-13)


@pytest.mark.parametrize("D", [1, 3, 7, 10])
def test_weights_of_one_state_are_exact(kernels, rng, D):
    """A weight of one beside zeros leaves the matrices of its state as they are."""
    init, pairs, _, node, noise, lengths = switching_problem(
        rng, 10, 19, D, 4, lengths=RAGGED
    )
    chosen = rng.integers(4, size=(10, 18))
    logZ, stats, products, samples = kernels.switching_gaussian_chain(
        init, pairs, onp.eye(4)[chosen], node, noise, lengths
    )
    pair = [J[chosen] for J in pairs]
    want = kernels.gaussian_chain(init, pair, node, noise, lengths)
    assert_identical(
        (logZ, stats[0], stats[2], samples), (want[0], *want[1][::2], want[2])
    )
    of_chosen = onp.take_along_axis(products, chosen[..., None], 2)[..., 0]
    want = sum(
        onp.sum(J * stat, axis=(2, 3)) for J, stat in zip(pair, want[1][1], strict=True)
    )
    assert_close(of_chosen, want, 1e-13)


def test_equal_states_at_equal_weights_are_exact(kernels, rng):
    init, pairs, _, node, noise, lengths = switching_problem(rng, 3, 9, 5, 1)
    twice = [onp.repeat(J, 2, axis=0) for J in pairs]
    got = kernels.switching_gaussian_chain(
        init, twice, onp.full((3, 8, 2), 0.5), node, noise
    )
    want = kernels.switching_gaussian_chain(
        init, pairs, onp.ones((3, 8, 1)), node, noise
    )
    assert_identical((got[0], got[1][::2], got[3]), (want[0], want[1][::2], want[3]))


def test_digits_do_not_depend_on_company(kernels, rng):
    """Nor on what arguments hold past the end of a sequence."""
    problem = switching_problem(rng, 10, 19, 4, 3, affine=True, lengths=RAGGED)
    live = onp.arange(19) < RAGGED[:, None]
    problem = problem._replace(
        weights=onp.where(live[:, 1:, None], problem.weights, onp.nan),
        node=tuple(onp.where(live[..., None], x, onp.inf) for x in problem.node),
        noise=onp.where(live[:, None, :, None], problem.noise, onp.nan),
    )
    f, args = chain(kernels, problem), arguments(problem)
    outputs = f(*args)
    outputs_bar = random_like(rng, outputs)
    together = [*outputs, *cotangents(f, args, outputs_bar)]
    for n in range(10):
        part = alone(problem, n)
        f, args = chain(kernels, part), arguments(part)
        outputs = f(*args)
        bars = [part_of(x, y, n) for x, y in zip(outputs_bar, outputs, strict=True)]
        got = [*outputs, *cotangents(f, args, bars)]
        for k, (x, y) in enumerate(zip(together, got, strict=True)):
            if k not in SUMS:
                assert_identical(y, part_of(x, y, n))


SUMS = {*range(1, 8), *range(12, 19)}
"""Outputs and cotangents of what sequences share, as `together` has them."""


def alone(problem, n):
    """Return sequence n alone, cut to its length."""
    T = problem.lengths[n]
    return problem._replace(
        weights=problem.weights[n : n + 1, : T - 1],
        node=tuple(x[n : n + 1, :T] for x in problem.node),
        noise=problem.noise[n : n + 1, :, :T],
        lengths=None,
    )


def part_of(x, like, n):
    """Return what sequence n has of x, or all of what sequences share."""
    if x.shape == like.shape:
        return x
    return x[n : n + 1][tuple(slice(size) for size in like.shape)]


def test_any_number_of_threads_gives_the_same_bits(kernels, rng):
    problem = switching_problem(
        rng, 65, 60, 8, 5, lengths=rng.integers(1, 61, 65), affine=True
    )
    f, args, before = (
        chain(kernels, problem),
        arguments(problem),
        svae.get_num_threads(),
    )
    results = []
    try:
        for count in (1, 2, 3):
            svae.set_num_threads(count)
            outputs = f(*args)
            results.append([*outputs, *cotangents(f, args, outputs)])
    finally:
        svae.set_num_threads(before)
    assert_identical(results[1], results[0])
    assert_identical(results[2], results[0])


@pytest.mark.parametrize("N", [3, 30])
def test_not_positive_definite_names_the_lowest_sequence(chains, rng, N):
    problem = switching_problem(rng, N, 6)
    problem.node[0][N - 1, 0] *= -100
    problem.node[0][N - 2, 4] *= -100
    with pytest.raises(NotPositiveDefinite) as caught:
        chains.switching_gaussian_chain(*problem)
    assert (caught.value.sequence, caught.value.step) == (N - 2, 4)


def test_statistics_of_states_are_made_only_where_they_are_asked_for(kernels, rng):
    init, pairs, weights, node, noise, _ = switching_problem(rng)
    rows = onp.concatenate([J.reshape(len(J), -1) for J in pairs], axis=1)
    want = kernels.switching_gaussian_chain(init, pairs, weights, node, noise)
    logZ, stats, products, samples = unchecked_switching_gaussian_chain(
        init, rows, weights, node, noise
    )
    assert stats[1] is None
    assert_identical(
        (logZ, stats[0], stats[2], products, samples),
        (want[0], want[1][0], want[1][2], *want[2:]),
    )


def test_weights_need_not_be_probabilities(kernels, reference, rng):
    problem = switching_problem(rng, 3, 6, 3, 2)
    problem = problem._replace(weights=1.2 * problem.weights - 0.01)
    check(problem, chain(kernels, problem), chain(reference, problem), rng)


def test_second_derivatives_are_refused(kernels, rng):
    problem = switching_problem(rng)
    f, args = chain(kernels, problem), arguments(problem)
    with pytest.raises(NotImplementedError, match="one derivative"):
        hessian_vector_product(
            lambda *a: np.sum(f(*a)[0] ** 2), args, random_like(rng, args)
        )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("init J", dict(init=(onp.zeros((3, 3)), onp.zeros(2)))),
        ("weights", dict(weights=onp.ones((3, 5, 3)))),
        ("weights", dict(weights=onp.ones((3, 4, 0)))),
        ("weights", dict(weights=onp.full((3, 4, 3), onp.nan))),
        ("pairs J12", dict(pairs=(onp.zeros((3, 2, 2)), onp.zeros((2, 2, 2))) * 2)),
        ("pairs J11", dict(pairs=(onp.zeros((4, 2, 2)),) * 3)),
        ("pairs J22", dict(pairs=(onp.zeros((3, 2, 2)),) * 2 + (onp.inf,))),
    ],
)
def test_what_is_malformed_is_refused_by_name(kernels, rng, name, change):
    problem = switching_problem(rng)._replace(**change)
    if name == "pairs J12":
        problem = problem._replace(pairs=problem.pairs[:3])
    with pytest.raises(ValueError, match=name):
        kernels.switching_gaussian_chain(*problem)
