"""Filters: what a chain says of the last step of each of its prefixes."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad

from svae import kernels, reference
from svae.errors import Impossible, NotPositiveDefinite
from svae.testing import relative_error

N, T, D, K = 3, 6, 3, 4
LENGTHS = np.array([6, 2, 1])
FILTERS = kernels.gaussian_filter, reference.gaussian_filter
BOTH = pytest.mark.parametrize("module", [kernels, reference])


def gaussian_problem(rng, dense=False, per_step=False, normalised=False):
    """Return potentials whose pairs are conditional densities, or have less weight."""
    lead = (N, T - 1) if per_step else ()
    A = 0.5 * rng.standard_normal((*lead, D, D))
    precision = np.eye(D) + 0.2 * np.ones((D, D))
    J12 = np.swapaxes(A, -1, -2) @ precision
    J11 = -0.5 * J12 @ A - (0.0 if normalised else 0.1) * np.eye(D)
    pair = J11, J12, np.zeros((*lead, D, D)) - 0.5 * precision
    J = -rng.uniform(0.1, 1.0, (N, T, D))
    J[0, 2] = 0.0  # a step of which there are no data
    h = rng.standard_normal((N, T, D)) * (J < 0)
    if dense:
        J = J[..., None] * np.eye(D) - 0.05
    return (-0.7 * np.eye(D), rng.standard_normal(D)), pair, (J, h)


def markov_problem(rng, per_step=False):
    lead = (N, T - 1) if per_step else ()
    init, pair = rng.standard_normal(K), rng.standard_normal((*lead, K, K))
    pair[..., 1, 2] = init[3] = -np.inf
    return init, pair, rng.standard_normal((N, T, K))


def prefix(potentials, n, steps, per_step):
    """Return the potentials of the first steps of a sequence."""
    init, pair, node = potentials
    if per_step:
        pair = tuple(part[n : n + 1, : steps - 1] for part in pair)
    return init, pair, [part[n : n + 1, :steps] for part in node]


def without_last(node):
    """Return nodes of which the last says nothing."""
    return [onp.concatenate([x[:, :-1], 0 * x[:, -1:]], axis=1) for x in node]


@BOTH
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
def test_a_gaussian_filter_has_the_last_step_of_every_prefix(
    module, dense, per_step, rng
):
    """As the chain of these steps alone has it, of pairs that are no densities too."""
    potentials = gaussian_problem(rng, dense, per_step)
    found = module.gaussian_filter(*potentials, LENGTHS)
    for n, length in enumerate(LENGTHS):
        for steps in range(1, length + 1):
            init, pair, node = prefix(potentials, n, steps, per_step)
            for got, J_h in zip(found, (node, without_last(node)), strict=True):
                if not dense:
                    J_h = J_h[0][..., None] * np.eye(D), J_h[1]
                logZ, stats, _ = kernels.gaussian_chain(init, pair, J_h)
                second, mean = (part[0, -1] for part in stats[2])
                want = logZ[0], mean, second - np.outer(mean, mean)
                for a, b in zip(got, want, strict=True):
                    assert relative_error(a[n, steps - 1], b) < 1e-10


@BOTH
@pytest.mark.parametrize("per_step", [False, True])
def test_a_markov_filter_has_the_last_step_of_every_prefix(module, per_step, rng):
    init, pair, node = markov_problem(rng, per_step)
    found = module.markov_filter(init, pair, node, LENGTHS)
    for n, length in enumerate(LENGTHS):
        for steps in range(1, length + 1):
            some = pair[n : n + 1, : steps - 1] if per_step else pair
            own = node[n : n + 1, :steps]
            both = own, *without_last([own])
            for got, nodes in zip(found, both, strict=True):
                logZ, (_, _, probs) = kernels.markov_chain(init, some, nodes)
                assert relative_error(got[0][n, steps - 1], logZ[0]) < 1e-12
                onp.testing.assert_allclose(got[1][n, steps - 1], probs[0, -1], 1e-11)


def test_a_normalised_chain_is_filtered_by_kalman(rng):
    """In means and covariances; and what is predicted is what was known before."""
    init, pair, node = gaussian_problem(rng, normalised=True)
    filtered, predicted = kernels.gaussian_filter(init, pair, node)
    A, Q = np.linalg.solve(-2 * pair[2], pair[1].T), np.linalg.inv(-2 * pair[2])
    V = np.tile(np.linalg.inv(-2 * init[0]), (N, 1, 1))
    m = V @ init[1]
    for t in range(T):
        assert relative_error(predicted[1][:, t], m) < 1e-12
        assert relative_error(predicted[2][:, t], V) < 1e-12
        observed = np.eye(D) * -2 * node[0][:, t, None]
        gain = np.linalg.inv(np.eye(D) + V @ observed)
        m = (gain @ (m + (V @ node[1][:, t, :, None])[..., 0])[..., None])[..., 0]
        V = gain @ V
        assert relative_error(filtered[1][:, t], m) < 1e-12
        assert relative_error(filtered[2][:, t], V) < 1e-12
        m, V = m @ A.T, A @ V @ A.T + Q
    # the evidence of a step is counted once
    same = filtered[0][:, :-1] - predicted[0][:, 1:]
    constant = np.ptp(same, axis=1)
    assert np.max(constant) < 1e-12
    assert relative_error(predicted[0][0, 2], filtered[0][0, 2]) < 1e-15


def test_a_normalised_chain_of_states_keeps_its_mass(rng):
    init, pair, node = markov_problem(rng)
    pair = pair - np.log(np.exp(pair).sum(axis=1, keepdims=True))
    filtered, predicted = kernels.markov_filter(init, pair, node)
    assert relative_error(predicted[0][:, 1:], filtered[0][:, :-1]) < 1e-12
    law = filtered[1][:, :-1] @ np.exp(pair)
    onp.testing.assert_allclose(predicted[1][:, 1:], law, rtol=1e-11)
    logZ, _ = kernels.markov_chain(init, pair, node)
    assert relative_error(filtered[0][:, -1], logZ) < 1e-12


@BOTH
def test_what_lies_past_a_length_is_not_read_and_comes_back_as_zeros(module, rng):
    potentials = gaussian_problem(rng, per_step=True)
    want = module.gaussian_filter(*potentials, LENGTHS)
    past = np.arange(T) >= LENGTHS[:, None]
    for part in potentials[2]:
        part[past] = np.nan
    for part in potentials[1]:
        part[past[:, 1:]] = np.nan
    got = module.gaussian_filter(*potentials, LENGTHS)
    for a, b in zip([*got[0], *got[1]], [*want[0], *want[1]], strict=True):
        onp.testing.assert_array_equal(a, b)
        assert np.all(a[past] == 0)
    init, pair, node = markov_problem(rng)
    want = module.markov_filter(init, pair, node, LENGTHS)
    node[past] = np.nan
    got = module.markov_filter(init, pair, node, LENGTHS)
    for a, b in zip([*got[0], *got[1]], [*want[0], *want[1]], strict=True):
        onp.testing.assert_array_equal(a, b)
        assert np.all(a[past] == 0)


@BOTH
def test_an_improper_prefix_is_named(module, rng):
    init, pair, node = gaussian_problem(rng, dense=True)
    node[0][1, 3] = 5 * np.eye(D)
    node[0][2, 1] = 5 * np.eye(D)
    with pytest.raises(NotPositiveDefinite) as caught:
        module.gaussian_filter(init, pair, node)
    assert (caught.value.sequence, caught.value.step) == (1, 3)
    with pytest.raises(NotPositiveDefinite) as caught:
        module.gaussian_filter((0 * init[0], init[1]), pair, node)
    assert (caught.value.sequence, caught.value.step) == (0, 0)


@BOTH
def test_an_impossible_step_is_named(module, rng):
    init, pair, node = markov_problem(rng)
    node[1, 4] = -np.inf
    node[2, 1] = -np.inf
    with pytest.raises(Impossible) as caught:
        module.markov_filter(init, pair, node)
    assert (caught.value.sequence, caught.value.step) == (1, 4)


def test_potentials_of_any_size_are_filtered(rng):
    """Whatever is added to a step is in log normalizers, and nowhere else."""
    init, pair, node = markov_problem(rng)
    filtered, predicted = kernels.markov_filter(init, pair, node)
    shifts = 1e4 * rng.standard_normal((N, T, 1))
    moved, before = kernels.markov_filter(init, pair, node + shifts)
    onp.testing.assert_allclose(moved[1], filtered[1], rtol=1e-9)
    onp.testing.assert_allclose(before[1], predicted[1], rtol=1e-9)
    total = np.cumsum(shifts[..., 0], axis=1)
    onp.testing.assert_allclose(moved[0], filtered[0] + total, atol=1e-9)


def test_definitions_have_derivatives_and_kernels_say_that_they_have_none(rng):
    init, pair, (J, h) = gaussian_problem(rng)

    def means(module):
        return lambda h: np.sum(module.gaussian_filter(init, pair, (J, h))[0][1][:, 1])

    # a later frame changes nothing, and x_2 has the slope of its covariance
    slopes = grad(means(reference))(h)
    assert np.all(slopes[:, 2:] == 0)
    cov = kernels.gaussian_filter(init, pair, (J, h))[0][2][:, 1]
    assert relative_error(slopes[:, 1], cov.sum(axis=1)) < 1e-12
    with pytest.raises(TypeError, match="svae.reference.gaussian_filter"):
        grad(means(kernels))(h)
    states = markov_problem(rng)
    with pytest.raises(TypeError, match="svae.reference.markov_filter"):
        grad(lambda node: np.sum(kernels.markov_filter(*states[:2], node)[0][0]))(
            states[2]
        )
    slopes = grad(lambda n: np.sum(reference.markov_filter(*states[:2], n)[0][0]))(
        states[2]
    )
    logZ_slopes = sum(
        np.pad(
            kernels.markov_chain(*states[:2], states[2][:, :t])[1][2],
            ((0, 0), (0, T - t), (0, 0)),
        )
        for t in range(1, T + 1)
    )
    assert relative_error(slopes, logZ_slopes) < 1e-10


@pytest.mark.parametrize("dim", [1, 2, 4, 5, 6, 7, 12, 100])
@pytest.mark.parametrize("dense", [False, True])
def test_matrices_of_every_size_are_filtered(dim, dense, rng):
    """In every layout that the core has for them, against the definition."""
    A = 0.9 * onp.linalg.qr(rng.standard_normal((dim, dim)))[0]
    pair = -0.5 * A.T @ A, A.T, -0.5 * np.eye(dim)
    J = -rng.uniform(0.1, 1.0, (9, 4, dim))
    J = J[..., None] * np.eye(dim) - 0.01 if dense else J
    node = J, rng.standard_normal((9, 4, dim))
    problem = (-0.5 * np.eye(dim), np.ones(dim)), pair, node
    lengths = np.array([4, 1, 3, 4, 2, 4, 4, 1, 4])
    got, want = (f(*problem, lengths) for f in FILTERS)
    for a, b in zip([*got[0], *got[1]], [*want[0], *want[1]], strict=True):
        assert relative_error(a, b) < 1e-10


def test_a_sequence_has_the_same_digits_in_every_batch(rng):
    """With any number of threads."""
    potentials = gaussian_problem(rng, per_step=True)
    states = markov_problem(rng, per_step=True)

    def of(n, length):
        init, pair, node = potentials
        pair, node = ([x[n : n + 1] for x in part] for part in (pair, node))
        found = kernels.gaussian_filter(init, pair, node, lengths=length)
        init, *others = states
        return found, kernels.markov_filter(
            init, *(x[n : n + 1] for x in others), length
        )

    threads = kernels.get_num_threads()
    try:
        for number in (1, 2):
            kernels.set_num_threads(number)
            together = (
                kernels.gaussian_filter(*potentials, LENGTHS),
                kernels.markov_filter(*states, LENGTHS),
            )
            for n, length in enumerate(LENGTHS):
                alone = of(n, np.array([length]))
                for a, b in zip(together, alone, strict=True):
                    pairs = zip([*a[0], *a[1]], [*b[0], *b[1]], strict=True)
                    for x, y in pairs:
                        onp.testing.assert_array_equal(x[n, :length], y[0, :length])
    finally:
        kernels.set_num_threads(threads)


def test_long_chains_lose_no_digits(rng):
    """Log normalizers of prefixes are sums over many steps."""
    steps = 20000
    h = rng.standard_normal((1, steps, 1))
    one = np.ones((1, 1))
    pair = -0.4 * one, 0.8 * one, -0.5 * one
    problem = (-0.5 * one, np.zeros(1)), pair, (-0.3 + 0 * h, h)
    filtered, _ = kernels.gaussian_filter(*problem)
    logZ, _, _ = kernels.gaussian_chain(*problem)
    assert relative_error(filtered[0][:, -1], logZ) < 1e-13
    node = 300.0 * rng.standard_normal((1, steps, K))
    pair = 300.0 * rng.standard_normal((K, K))
    filtered, _ = kernels.markov_filter(np.zeros(K), pair, node)
    logZ, _ = kernels.markov_chain(np.zeros(K), pair, node)
    assert relative_error(filtered[0][:, -1], logZ) < 1e-14


def test_logarithms_have_all_their_digits(rng):
    """A step of a single dimension has log Z = log(pi / -J) / 2."""
    J = -np.exp(rng.uniform(-300.0, 300.0, (4000, 1, 1)))
    J[:2000] = -rng.uniform(0.7, 1.5, (2000, 1, 1))
    node = np.zeros(J.shape), np.zeros(J.shape)
    filtered, _ = kernels.gaussian_filter(
        (J, np.zeros((4000, 1))), (np.zeros((1, 1)),) * 3, node
    )
    want = 0.5 * np.log(np.pi / -np.asarray(J, onp.longdouble))[..., 0]
    error = np.abs(filtered[0] - want) / np.maximum(np.abs(want), 1.0)
    assert np.max(error) < 3 * np.finfo(float).eps


def test_a_filter_too_large_for_a_float_is_refused(rng):
    init, pair, (J, h) = gaussian_problem(rng)
    h[1, 3] = 1e160
    with pytest.raises(FloatingPointError, match="sequence 1"):
        kernels.gaussian_filter(init, pair, (J, h))


def test_malformed_arguments_are_named(rng):
    init, pair, (J, h) = gaussian_problem(rng)
    with pytest.raises(ValueError, match="node J has shape"):
        kernels.gaussian_filter(init, pair, (J[:, 1:], h))
    h[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"node h\[1, 2, 0\] is nan"):
        kernels.gaussian_filter(init, pair, (J, h))
