"""Problems at which careless arithmetic overflows, underflows or cancels."""

import math

import numpy as np
import pytest
from scipy.linalg import cho_solve_banded, cholesky_banded

from svae.autodiff.trees import leaves
from svae.testing import (
    GaussianProblem,
    MarkovProblem,
    assert_close,
    cotangents,
    gaussian_oracle,
    gaussian_problem,
    lds_pair_potentials,
    markov_oracle,
    markov_problem,
    random_like,
    relative_error,
)


def num_timesteps(chains):
    """Return the steps of a long chain; the reference loops over them in Python."""
    return 100_000 if chains.__name__ == "svae.kernels" else 1_000


@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_forbidden_transitions_beside_a_spread_of_1000(chains, rng, sharing):
    problem = markov_problem(rng, N=30, T=5, K=3, sharing=sharing, scale=1000.0)
    problem.pair[..., 0, 0] = problem.pair[..., 1, 2] = -np.inf
    problem.init[1] = -np.inf
    marginals, decoded = markov_oracle(problem)
    assert_close(chains.markov_chain(*problem), marginals, 1e-12)
    assert_close(chains.viterbi(*problem), decoded, 1e-13)


@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_potentials_far_from_zero(chains, rng, offset):
    """Halves are exact beside the offset, so only the chain itself can lose digits."""
    init, pair, node, _ = markov_problem(rng, N=3, T=6)
    halves = (np.round(4 * x) / 2 + offset for x in (init, pair, node))
    problem = MarkovProblem(*halves)
    marginals, decoded = markov_oracle(problem)
    assert_close(chains.markov_chain(*problem), marginals, 1e-14)
    assert_close(chains.viterbi(*problem), decoded, 1e-14)


def test_switches_of_probability_1e_10(chains, rng):
    """Also the rare switches themselves keep their digits, each on its own."""
    rare = 1e-10
    pair = np.log([[1 - rare, rare], [rare, 1 - rare]])
    node = rng.standard_normal((4, 9, 2))
    problem = MarkovProblem(np.log([0.5, 0.5]), pair + np.zeros((4, 8, 2, 2)), node)
    (logZ, stats), _ = markov_oracle(problem)
    got_logZ, got = chains.markov_chain(*problem)
    assert_close(got_logZ, logZ, 1e-13)
    for a, b in zip(got, stats, strict=True):
        assert np.max(np.abs(a / b - 1)) < 1e-12


def test_gradients_beside_a_spread_of_1000(kernels, reference, rng):
    problem = markov_problem(rng, N=30, T=12, K=4, sharing="step", scale=1000.0)
    problem.pair[..., 0, 0] = problem.pair[..., 1, 2] = -np.inf
    problem = problem._replace(node=problem.node / 300)
    outputs_bar = random_like(rng, leaves(reference.markov_chain(*problem)))
    got, want = (
        cotangents(lambda *a, m=m: leaves(m.markov_chain(*a)), problem[:3], outputs_bar)
        for m in (kernels, reference)
    )
    assert_close(got, want, 1e-10)


def test_a_long_markov_chain(chains, rng):
    T, K = num_timesteps(chains), 3
    init, pair, node, _ = markov_problem(rng, N=1, T=T, K=K, scale=3.0)
    message, logs = np.exp(init), []
    for weights in np.exp(node[0]):
        message = message * weights
        logs.append(math.log(message.sum()))
        message = message / message.sum() @ np.exp(pair)
    logZ, (_, pair_stat, node_stat) = chains.markov_chain(init, pair, node)
    assert_close(logZ, np.array([math.fsum(logs)]), 1e-12)
    assert_close(node_stat.sum(-1), np.ones((1, T)), 1e-10)
    assert_close(pair_stat.sum(1), node_stat[0, :-1].sum(0), 1e-10)


def test_noise_of_variance_1e_8(chains, rng):
    """A random walk with nearly no noise, observed through noise of order one.

    In these potentials the answer itself has a condition number of about 1e8: the
    precision blocks are of size 1e8 and cancel to the size of the observations'.
    """
    N, T, D = 2, 8, 2
    A = np.eye(D) + 0.1 * rng.standard_normal((D, D))
    pair = lds_pair_potentials(A, np.eye(D) / 1e-8)
    init = -np.eye(D) / 2, np.zeros(D)
    node = -rng.uniform(0.5, 1.5, (N, T, D)), rng.standard_normal((N, T, D))
    problem = GaussianProblem(init, pair, node, rng.standard_normal((N, 2, T, D)))
    assert_close(chains.gaussian_chain(*problem), gaussian_oracle(problem), 1e-7)


def test_a_nearly_exact_observation(chains, rng):
    problem = gaussian_problem(rng, T=6)
    Jn, hn = problem.node
    problem = problem._replace(node=(1e8 * Jn, 1e8 * hn))
    assert_close(chains.gaussian_chain(*problem), gaussian_oracle(problem), 1e-10)


def test_a_long_gaussian_chain(chains, rng):
    """Mean and log normalizer by banded Cholesky; covariance forgets both ends."""
    T, D = num_timesteps(chains), 2
    (J0, h0), pair, (_, hn), *_ = gaussian_problem(rng, N=1, T=T, D=D, S=0)
    Jn = np.full((1, T, D), -0.3)
    logZ, (_, _, (ExxT, Ex)), _ = chains.gaussian_chain((J0, h0), pair, (Jn, hn))

    J11, J12, J22 = pair
    blocks = np.zeros((T, 2 * D, 2 * D))
    blocks[:, :D, :D] = 0.6 * np.eye(D)
    blocks[0, :D, :D] -= 2 * J0
    blocks[:-1, :D, :D] -= 2 * J11
    blocks[1:, :D, :D] -= 2 * J22
    blocks[:-1, :D, D:] = -J12
    bands = np.zeros((2 * D, T * D))  # bands[k, i] = precision[i, i + k]
    for i in range(D):
        for k in range(2 * D - i):
            bands[k, i::D] = blocks[:, i, i + k]
    root = cholesky_banded(bands, lower=True)
    h = hn.ravel().copy()
    h[:D] += h0
    mean = cho_solve_banded((root, True), h)
    log_det = 2 * math.fsum(np.log(root[0]))
    want = (h @ mean - log_det + T * D * math.log(2 * math.pi)) / 2
    assert_close(Ex, mean.reshape(1, T, D), 1e-12)
    assert_close(logZ, np.array([want]), 1e-12)

    short = slice(0, 401)
    _, (_, _, (short_ExxT, short_Ex)), _ = chains.gaussian_chain(
        (J0, h0), pair, (Jn[:, short], hn[:, short])
    )
    middle = ExxT[:, T // 2] - Ex[:, T // 2] ** 2
    assert relative_error(middle, short_ExxT[:, 200] - short_Ex[:, 200] ** 2) < 1e-12


def test_gradients_forget_what_is_far_away(kernels, rng):
    """A cotangent in the middle of 1e5 steps acts as in a window of 401 steps."""
    T, D, window = 100_000, 3, slice(50_000 - 200, 50_000 + 201)
    gaussian = gaussian_problem(rng, N=1, T=T, D=D, S=0)
    markov = markov_problem(rng, N=1, T=T, K=D)
    (J0, h0), pair, (Jn, hn), *_ = gaussian
    g = rng.standard_normal((1, 1, D))

    def gaussian_means(Jn, hn):
        return [kernels.gaussian_chain((J0, h0), pair, (Jn, hn))[1][2][1]]

    def markov_marginals(node):
        return [kernels.markov_chain(markov.init, markov.pair, node)[1][2]]

    for f, args in ((gaussian_means, (Jn, hn)), (markov_marginals, (markov.node,))):
        ends = np.zeros((1, 200, D))
        middle = [np.concatenate((ends, g, ends), 1)]
        short = cotangents(f, [x[:, window] for x in args], middle)
        whole = [np.zeros((1, T, D))]
        whole[0][:, window] = middle[0]
        for far, near in zip(cotangents(f, args, whole), short, strict=True):
            assert_close(far[:, window], near, 1e-12)
            assert np.max(np.abs(far[:, : window.start])) < 1e-12
            assert np.max(np.abs(far[:, window.stop :])) < 1e-12


def test_gradients_of_long_chains(kernels, reference, rng):
    """Cotangents everywhere: errors must not grow with the number of steps."""
    gaussian = gaussian_problem(rng, N=1, T=400, D=2, S=1)
    markov = markov_problem(rng, N=1, T=400, K=3, scale=3.0)
    args = leaves(gaussian[:4])

    def gaussian_outputs(module):
        return lambda J0, h0, J11, J12, J22, Jn, hn, noise: leaves(
            module.gaussian_chain((J0, h0), (J11, J12, J22), (Jn, hn), noise)
        )

    def markov_outputs(module):
        return lambda *args: leaves(module.markov_chain(*args))

    for outputs, x in ((gaussian_outputs, args), (markov_outputs, markov[:3])):
        f, definition = outputs(kernels), outputs(reference)
        outputs_bar = random_like(rng, f(*x))
        assert_close(
            cotangents(f, x, outputs_bar), cotangents(definition, x, outputs_bar), 1e-10
        )
