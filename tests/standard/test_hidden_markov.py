"""Hidden Markov models in probabilities, of which some are zero."""

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad, hessian

import svae
from svae.standard import (
    hmm_filter,
    hmm_log_likelihood,
    hmm_predict,
    hmm_sample,
    hmm_sample_posterior,
    hmm_smoother,
    hmm_viterbi,
)
from svae.testing import MarkovProblem, assert_close, markov_oracle

N, T, K = 3, 4, 3
LENGTHS = onp.array([4, 1, 3])
LEFT_TO_RIGHT = onp.array([[0.6, 0.4, 0.0], [0.0, 0.3, 0.7], [0.0, 0.0, 1.0]])
KINDS = ["positive", "zeros", "per step", "per step with zeros"]


def problem(kind, rng):
    """Return start, transition, log likelihoods and lengths."""
    start, transition = rng.dirichlet(onp.ones(K)), rng.dirichlet(onp.ones(K), K)
    if "zeros" in kind:
        start, transition = onp.array([0.7, 0.3, 0.0]), LEFT_TO_RIGHT
    if "step" in kind:
        transition = onp.stack([transition, rng.dirichlet(onp.ones(K), K), transition])
    logs = 2 * rng.standard_normal((N, T, K))
    return start, transition, logs, LENGTHS


def enumerated(start, transition, logs, lengths):
    """Return the log likelihoods, by sums over paths, under autograd."""
    totals = []
    for n, length in enumerate(lengths):
        total = 0.0
        for path in onp.ndindex(*[K] * length):
            p = start[path[0]]
            for t, (i, j) in enumerate(zip(path, path[1:], strict=False)):
                p = p * (transition[t] if transition.ndim == 3 else transition)[i, j]
            log = sum(logs[n, t, k] for t, k in enumerate(path))
            total = total + p * np.exp(log)
        totals.append(np.log(total))
    return np.stack(totals)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_what_enumeration_says(kind, rng):
    pytest.importorskip("mpmath")
    start, transition, logs, lengths = problem(kind, rng)
    with onp.errstate(divide="ignore"):
        pair = onp.log(transition)
        init = onp.log(start)
    pair = onp.broadcast_to(pair, (N, T - 1, K, K))
    chain = MarkovProblem(init, pair, logs, lengths)
    (total, (_, pairs, states)), (paths, scores) = markov_oracle(chain)
    found = hmm_smoother(start, transition, logs, lengths, pairs=True)
    want = states, pairs, pairs.sum((0, 1)), total
    assert_close(found, want, rtol=1e-13)
    summed = hmm_smoother(start, transition, logs, lengths)
    assert summed.pairs is None
    assert_close(summed.transitions, want[2], rtol=1e-13)
    got = hmm_viterbi(start, transition, logs, lengths)
    onp.testing.assert_array_equal(got[0], paths)
    assert_close(got[1], scores, rtol=1e-13)
    for t in range(T):
        past = MarkovProblem(init, pair[:, :t], logs[:, : t + 1])
        _, (_, _, ends) = markov_oracle(past)[0]
        live = (t < lengths)[:, None]
        after = hmm_filter(start, transition, logs, lengths).probabilities[:, t]
        assert_close(after, ends[:, -1] * live, rtol=1e-13)
        silent = logs[:, : t + 1].copy()
        silent[:, -1] = 0.0
        _, (_, _, ends) = markov_oracle(past._replace(node=silent))[0]
        before = hmm_predict(start, transition, logs, lengths).probabilities[:, t]
        assert_close(before, ends[:, -1] * live, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_a_sum_over_paths(kind, rng):
    """In every probability, also in one of zero."""
    arguments = problem(kind, rng)
    weights = rng.standard_normal(N)
    for k in range(3):

        def of_one(x, function, k=k):
            changed = [*arguments[:k], x, *arguments[k + 1 :]]
            return np.sum(weights * function(*changed))

        want = grad(of_one)(arguments[k], enumerated)
        got = grad(of_one)(arguments[k], hmm_log_likelihood)
        assert_close(got, want, rtol=1e-12)


def test_second_derivatives_where_there_are_zeros(rng):
    start, transition, logs, lengths = problem("zeros", rng)

    def of_start(x, function):
        return np.sum(function(x, transition, logs, lengths))

    want = hessian(of_start)(start, enumerated)
    assert_close(hessian(of_start)(start, hmm_log_likelihood), want, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_probabilities_of_states(kind, rng):
    """P(z_t = k | y) is the derivative of log p(y) in a log likelihood."""
    start, transition, logs, lengths = problem(kind, rng)
    bars = rng.standard_normal((N, T, K))

    def smoothed(x):
        return np.sum(bars * hmm_smoother(start, x, logs, lengths).probabilities)

    def by_enumeration(x):
        def total(y):
            return np.sum(enumerated(start, x, y, lengths))

        return np.sum(bars * grad(total)(logs))

    assert_close(
        grad(smoothed)(transition), grad(by_enumeration)(transition), rtol=1e-11
    )

    def filtered(x):
        return np.sum(bars * hmm_filter(start, x, logs, lengths).probabilities)

    def prefixes(x):
        total = 0.0
        for t in range(T):
            live = onp.flatnonzero(t < lengths)
            until = onp.full(len(live), t + 1)

            def of_end(y, until=until):
                return np.sum(enumerated(start, x, y, until))

            ends = grad(of_end)(logs[live])[:, t]
            total = total + np.sum(bars[live, t] * ends)
        return total

    assert_close(grad(filtered)(transition), grad(prefixes)(transition), rtol=1e-11)


def test_log_likelihoods_may_forbid_a_state(rng):
    start, transition, logs, lengths = problem("zeros", rng)
    logs[0, 1, 0] = logs[2, 0, 1] = -onp.inf
    slope = grad(lambda x: np.sum(hmm_log_likelihood(start, x, logs, lengths)))
    assert onp.isfinite(slope(transition)).all()
    found = hmm_smoother(start, transition, logs, lengths).probabilities
    assert found[0, 1, 0] == found[2, 0, 1] == 0.0


def test_one_sequence_without_its_axis(rng):
    start, transition, logs, _ = problem("zeros", rng)
    assert hmm_log_likelihood(start, transition, logs[0]).shape == ()
    many = hmm_smoother(start, transition, logs[:1], pairs=True)
    one = hmm_smoother(start, transition, logs[0], pairs=True)
    onp.testing.assert_array_equal(one.pairs, many.pairs[0])
    onp.testing.assert_array_equal(one.probabilities, many.probabilities[0])


def test_draws_have_the_laws(rng):
    start, transition, logs, lengths = problem("zeros", rng)
    paths = hmm_sample(start, transition, 3, 20000, rng=1)
    law = start @ LEFT_TO_RIGHT @ LEFT_TO_RIGHT
    shares = onp.bincount(paths[:, 2], minlength=K) / len(paths)
    assert onp.abs(shares - law).max() < 0.02
    paths = hmm_sample_posterior(start, transition, logs, 20000, lengths, rng=1)
    assert (paths[1, :, 1:] == -1).all()
    want = hmm_smoother(start, transition, logs, lengths).probabilities
    shares = (paths[0, :, 2, None] == onp.arange(K)).mean(0)
    assert onp.abs(shares - want[0, 2]).max() < 0.02


def test_what_is_no_distribution_is_refused(rng):
    start, transition, logs, _ = problem("positive", rng)
    with pytest.raises(ValueError, match=r"transition\[0\] has the sum .*transpose it"):
        hmm_filter(start, transition.T, logs)
    with pytest.raises(ValueError, match=r"start has the sum 2, wanted 1"):
        hmm_filter(2 * start, transition, logs)
    with pytest.raises(ValueError, match=r"start\[1\] is -0.5"):
        hmm_filter(onp.array([1.0, -0.5, 0.5]), transition, logs)
    with pytest.raises(ValueError, match=r"transition has shape \(2, 3\)"):
        hmm_filter(start, transition[:2], logs)
    logs[0, 1, 2] = onp.nan
    with pytest.raises(ValueError, match=r"log_likelihoods\[0, 1, 2\] is nan"):
        hmm_filter(start, transition, logs)
    logs[0] = 0.0
    logs[0, 1, 2] = -onp.inf  # from the last state to nowhere
    with pytest.raises(svae.Impossible, match="sequence 0, step 1"):
        hmm_filter(onp.eye(3)[2], LEFT_TO_RIGHT, logs)
