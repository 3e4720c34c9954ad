"""To natural parameters and back, with the constants."""

import autograd.numpy as np
import numpy as onp
import pytest

from svae import kernels
from svae.standard import (
    LinearGaussian,
    hmm_from_natural,
    hmm_log_likelihood,
    hmm_to_natural,
    kalman_smoother,
    lds_from_natural,
    lds_to_natural,
    moments_from_natural,
)
from svae.testing import (
    assert_close,
    check_gradients,
    gaussian_problem,
    markov_problem,
    state_space_oracle,
    state_space_problem,
)

LENGTHS = onp.array([4, 1, 3])


def test_the_constant_turns_logZ_into_the_likelihood(rng):
    pytest.importorskip("mpmath")
    problem = state_space_problem(rng, U=2, missing=0.3, lengths=LENGTHS)
    init, pair, node, constant, lengths = lds_to_natural(*problem)
    logZ, _, _ = kernels.gaussian_chain(init, pair, node, lengths=lengths)
    want = state_space_oracle(problem)[0].log_likelihood
    assert_close(logZ + constant, want, rtol=1e-12)


def test_the_constant_by_hand():
    """One step, one dimension: 2 pi of P0 and of R, and the squares over both."""
    model = LinearGaussian([[0.0]], [[1.0]], [[1.0]], [[2.0]], [3.0], [[4.0]])
    natural = lds_to_natural(model, [[5.0]])
    two_pi = onp.log(2 * onp.pi)
    by_hand = -(9 / 4 + 25 / 2 + onp.log(4) + onp.log(2) + 2 * two_pi) / 2
    assert natural.constant.item() == pytest.approx(by_hand, rel=1e-15)
    assert natural.init[0].item() == -1 / 8 and natural.init[1].item() == 3 / 4
    assert natural.node[0].item() == -1 / 4 and natural.node[1].item() == 5 / 2


@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_a_chain_is_a_process_of_its_own(sharing, rng):
    """Its start and its steps have the moments of the chain."""
    problem = gaussian_problem(rng, T=4, sharing=sharing, lengths=LENGTHS)
    init, pair, node, _, lengths = problem
    process = lds_from_natural(init, pair, node, lengths)
    moments = moments_from_natural(init, pair, node, lengths)
    logZ, (_, _, (squares, means)), _ = kernels.gaussian_chain(
        init, pair, node, lengths=lengths
    )
    assert_close(process.log_normalizer, logZ, rtol=1e-13)
    assert_close(moments.mean, means, rtol=1e-13)
    diagonal = onp.einsum("ntdd->ntd", moments.cov)
    assert_close(diagonal, squares - means**2, rtol=1e-12)
    for n, length in enumerate(lengths):
        m, P = process.m0[n], process.P0[n]
        for t in range(length):
            assert_close(m, moments.mean[n, t], rtol=1e-12)
            assert_close(P, moments.cov[n, t], rtol=1e-12)
            if t + 1 < length:
                A = process.A[n, t]
                assert_close(P @ A.T, moments.cross_cov[n, t], rtol=1e-12)
                m, P = A @ m + process.b[n, t], A @ P @ A.T + process.Q[n, t]
        for part in (process.A, process.b, process.Q):
            assert not part[n, length - 1 :].any()


def test_there_and_back(rng):
    """Nodes of zero leave the parameters as they were."""
    params, y, _, _ = state_space_problem(rng, T=4)
    init, pair, (J, h), _, _ = lds_to_natural(params, y)
    process = lds_from_natural(init, pair, (0 * J, 0 * h))
    for name in ("A", "Q"):
        got = getattr(process, name)
        want = onp.broadcast_to(getattr(params, name), got.shape)
        assert_close(got, want, rtol=1e-12)
    assert_close(process.m0, onp.tile(params.m0, (3, 1)), rtol=1e-12)
    assert_close(process.P0, onp.tile(params.P0, (3, 1, 1)), rtol=1e-12)


def test_moments_are_those_of_the_smoother(rng):
    problem = state_space_problem(rng, U=1, missing=0.3, lengths=LENGTHS)
    init, pair, node, _, lengths = lds_to_natural(*problem)
    got = moments_from_natural(init, pair, node, lengths)
    want = kalman_smoother(*problem, form="covariance")
    assert_close(got[:3], want[:3], rtol=1e-12)


def test_gradients_of_the_way_back(rng):
    init, pair, node, _, lengths = gaussian_problem(rng, T=4, lengths=LENGTHS)

    def function(J0, h0, J11, J12, J22, Jn, hn):
        J0, J11, J22 = ((J + J.T) / 2 for J in (J0, J11, J22))
        chain = (J0, h0), (J11, J12, J22), (Jn, hn), lengths
        return [*lds_from_natural(*chain), *moments_from_natural(*chain)]

    check_gradients(function, [*init, *pair, *node], rng)


def test_log_potentials_of_probabilities_have_no_constant(rng):
    start, transition = onp.array([0.7, 0.3, 0.0]), rng.dirichlet(onp.ones(3), 3)
    transition[1] = [0.0, 0.0, 1.0]
    logs = rng.standard_normal((3, 4, 3))
    init, pair = hmm_to_natural(start, transition)
    assert init[2] == pair[1, 0] == -onp.inf
    logZ, _ = kernels.markov_chain(init, pair, logs, LENGTHS)
    want = hmm_log_likelihood(start, transition, logs, LENGTHS)
    onp.testing.assert_array_equal(logZ, want)
    (back, there, none) = hmm_from_natural(init, pair, 0 * logs)
    assert_close(back, onp.tile(start, (3, 1)), rtol=1e-14)
    assert_close(there, onp.broadcast_to(transition, (3, 3, 3, 3)), rtol=1e-14)
    assert_close(none, onp.zeros(3), rtol=1e-14)


@pytest.mark.parametrize("sharing", ["shared", "step"])
def test_any_markov_chain_is_a_process(sharing, rng):
    init, pair, node, _ = markov_problem(rng, scale=3.0, sharing=sharing)
    pair = pair.copy()
    pair[..., 2, :] = -onp.inf  # which has a law, of probability zero before the end
    start, transition, logZ = hmm_from_natural(init, pair, node, LENGTHS)
    want, (_, _, states) = kernels.markov_chain(init, pair, node, LENGTHS)
    assert_close(logZ, want, rtol=1e-14)
    assert_close(transition[0].sum(-1), onp.ones((3, 3)), rtol=1e-14)
    for n, length in enumerate(LENGTHS):
        law = start[n]
        for t in range(length):
            assert_close(law, states[n, t], rtol=1e-12)
            if t + 1 < length:
                law = law @ transition[n, t]
        assert not transition[n, length - 1 :].any()


def test_gradients_of_the_way_back_to_probabilities(rng):
    init, pair, node, _ = markov_problem(rng)

    def function(init, pair, node):
        return list(hmm_from_natural(init, pair, node, LENGTHS))

    check_gradients(function, [init, pair, node], rng)
    start = rng.dirichlet(np.ones(3))
    transition = rng.dirichlet(5 * np.ones(3), 3)
    check_gradients(
        lambda *x: list(hmm_to_natural(*x)), [start + 0.2, transition + 0.2], rng
    )
