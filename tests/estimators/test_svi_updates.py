"""Conjugate inference: textbook updates, and steps of stochastic inference."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp

from svae import data, reference
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.estimators.svi import take_step
from svae.families import dirichlet, mniw, niw, product
from svae.testing import assert_close, relative_error
from tests.helpers.conjugate import LOG_2PI, problem

PROBLEMS = ("gmm", "hmm", "slds", "lds", "affine")


def log_B(W, nu):
    """Bishop (2006), Eq. B.79."""
    D = len(W)
    gammas = sum(gammaln((nu + 1 - i) / 2) for i in range(1, D + 1))
    log_det = np.linalg.slogdet(W)[1]
    return -nu / 2 * log_det - (
        nu * D / 2 * np.log(2) + D * (D - 1) / 4 * np.log(np.pi) + gammas
    )


def expected_log_gaussians(x, components):
    """Bishop (2006), Eqs. 10.64 and 10.65: E log N(x; mu_k, Sigma_k), (..., K)."""
    D, logs = x.shape[-1], []
    for m, beta, scale, nu in zip(*niw.to_standard(components), strict=True):
        W = np.linalg.inv(scale)
        quadratic = D / beta + nu * np.einsum("...i,ij,...j", x - m, W, x - m)
        logs.append((log_lambda(W, nu) - D * LOG_2PI - quadratic) / 2)
    return np.stack(logs, axis=-1)


def log_lambda(W, nu):
    D = len(W)
    digammas = sum(digamma((nu + 1 - i) / 2) for i in range(1, D + 1))
    return digammas + D * np.log(2) + np.linalg.slogdet(W)[1]


def update_components(x, r, prior):
    """Bishop (2006), Eqs. 10.51 to 10.53 and 10.60 to 10.63."""
    m0, beta0, scale0, nu0 = (part[0] for part in niw.to_standard(prior))
    results = []
    for weights in r.T:
        N = weights.sum()
        mean = weights @ x / N
        S = (weights[:, None] * (x - mean)).T @ (x - mean) / N
        beta, nu = beta0 + N, nu0 + N
        m = (beta0 * m0 + N * mean) / beta
        between = beta0 * N / beta * np.outer(mean - m0, mean - m0)
        results.append((m, beta, scale0 + N * S + between, nu))
    return [np.stack(part) for part in zip(*results, strict=True)]


def bishop_bound(x, r, prior, q):
    """Bishop (2006), Eqs. 10.71 to 10.77."""
    D = x.shape[1]
    alpha0, alpha = prior["weights"][0] + 1, q["weights"][0] + 1
    log_pi = digamma(alpha) - digamma(alpha.sum())

    def log_C(alpha):
        return gammaln(alpha.sum()) - gammaln(alpha).sum()

    total = np.sum(r * expected_log_gaussians(x, q["components"])) + np.sum(r * log_pi)
    total += log_C(alpha0) + np.sum((alpha0 - 1) * log_pi)
    total -= np.sum(r * np.log(r)) + np.sum((alpha - 1) * log_pi) + log_C(alpha)
    m0, beta0, scale0, nu0 = (part[0] for part in niw.to_standard(prior["components"]))
    for m, beta, scale, nu in zip(*niw.to_standard(q["components"]), strict=True):
        W, W0 = np.linalg.inv(scale), np.linalg.inv(scale0)
        lam = log_lambda(W, nu)
        total += (
            D * np.log(beta0 / (2 * np.pi))
            + lam
            - D * beta0 / beta
            - beta0 * nu * (m - m0) @ W @ (m - m0)
            + 2 * log_B(W0, nu0)
            + (nu0 - D - 1) * lam
            - nu * np.trace(scale0 @ W)
        ) / 2
        entropy = -log_B(W, nu) - (nu - D - 1) / 2 * lam + nu * D / 2
        total -= lam / 2 + D / 2 * np.log(beta / (2 * np.pi)) - D / 2 - entropy
    return total


def test_gmm_is_bishops(rng):
    model, points, prior, q = problem("gmm", rng)
    x = points.values[points.observed_frames[:, 0], 0]
    for _ in range(10):
        (log_pi,) = dirichlet.expected_stats(q["weights"])
        logs = log_pi + expected_log_gaussians(x, q["components"])
        r = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        want = update_components(x, r, prior["components"])
        bound = bishop_bound(x, r, prior, q)
        alpha = prior["weights"][0] + 1 + r.sum(axis=0)
        q, record = take_step(model, q, prior, points, 1.0, 1.0)
        assert record["objective"] == pytest.approx(bound, rel=1e-11)
        assert_close(dirichlet.to_standard(q["weights"]), (alpha,), 1e-10)
        assert_close(niw.to_standard(q["components"]), tuple(want), 1e-10)


def test_hmm_is_variational_baum_welch(rng):
    model, points, prior, q = problem("hmm", rng)
    seen = points.observed_frames
    for _ in range(10):
        (init,), (pair,) = (
            dirichlet.expected_stats(q[name]) for name in ("weights", "transitions")
        )
        node = expected_log_gaussians(points.values, q["components"])
        node = np.where(seen[..., None], node, 0.0)
        _, (first, pairs, states) = reference.markov_chain(
            init, pair, node, points.num_steps
        )
        want = update_components(points.values[seen], states[seen], prior["components"])
        q, _ = take_step(model, q, prior, points, 1.0, 1.0)
        assert_close(q["weights"][0], prior["weights"][0] + first, 1e-10)
        assert_close(q["transitions"][0], prior["transitions"][0] + pairs, 1e-10)
        assert_close(niw.to_standard(q["components"]), tuple(want), 1e-10)


def expected_regression(natparams):
    """E[A'LA], E[A'L] and E[L] under MNIW, from its standard parameters."""
    M, K, S, nu = mniw.to_standard(natparams)
    L = nu * np.linalg.inv(S)
    return len(M) * K + M.T @ L @ M, M.T @ L, L


def update_regression(xx, xy, yy, number, prior):
    """Conjugate update of a regression of y on x in standard parameters."""
    M0, K0, S0, nu0 = mniw.to_standard(prior)
    precision0 = np.linalg.inv(K0)
    precision = precision0 + xx
    K = np.linalg.inv(precision)
    M = (M0 @ precision0 + xy.T) @ K
    S = S0 + yy + M0 @ precision0 @ M0.T - M @ precision @ M.T
    return M, K, S, nu0 + number


def test_lds_is_variational_kalman_smoothing(rng):
    model, points, prior, q = problem("lds", rng)
    y, seen, lengths, D = points.values, points.observed_frames, points.num_steps, 2
    for _ in range(10):
        m, kappa, scale, nu = niw.to_standard(q["init"])
        L = nu * np.linalg.inv(scale)
        AA, AL, LL = expected_regression(q["dynamics"])
        CC, CL, _ = expected_regression(q["emission"])
        J = seen[..., None, None] * -CC[:D, :D] / 2
        h = seen[..., None] * (y @ CL[:D].T - CC[:D, D])
        _, (first, pairs, (xx, x)), _ = reference.gaussian_chain(
            (-L / 2, L @ m), (-AA / 2, AL, -LL / 2), (J, h), None, lengths
        )
        # x_1 of N sequences; every pair; [x; 1] and y of frames with data
        N, (second, linear) = len(lengths), first
        m0, kappa0, scale0, nu0 = niw.to_standard(prior["init"])
        kappa = kappa0 + N
        m = (kappa0 * m0 + linear) / kappa
        scale = scale0 + second + kappa0 * np.outer(m0, m0) - kappa * np.outer(m, m)
        init = (m, kappa, scale, nu0 + N)
        dynamics = update_regression(*pairs, (lengths - 1).sum(), prior["dynamics"])
        sums, xs, ys = x[seen].sum(0), x[seen], y[seen]
        augmented = np.block(
            [[xx[seen].sum(0), sums[:, None]], [sums[None], np.array(len(xs))]]
        )
        xy = np.concatenate([xs, np.ones((len(xs), 1))], axis=1).T @ ys
        emission = update_regression(
            augmented, xy, ys.T @ ys, len(xs), prior["emission"]
        )

        q, _ = take_step(model, q, prior, points, 1.0, 1.0)
        assert_close(niw.to_standard(q["init"]), init, 1e-10)
        assert_close(mniw.to_standard(q["dynamics"]), dynamics, 1e-10)
        assert_close(mniw.to_standard(q["emission"]), emission, 1e-10)


@pytest.mark.parametrize("name", PROBLEMS)
def test_whole_steps_never_lower_the_bound(name, rng):
    model, points, prior, q = problem(name, rng)
    bounds = []
    for _ in range(31):
        q, record = take_step(model, q, prior, points, 1.0, 1.0)
        bounds.append(record["objective"])
    assert bounds[-1] > bounds[0] + 1.0
    assert np.all(np.diff(bounds) >= -1e-11 * np.abs(bounds[0]))
    assert product.in_domain(model.family, q)


@pytest.mark.parametrize("name", PROBLEMS)
def test_minibatch_gradients_are_unbiased(name, rng):
    model, points, prior, q = problem(name, rng)
    full, _ = take_step(model, q, prior, points, 1.0, 1.0)
    number = len(points.values)
    average = tree_map(np.zeros_like, q)
    for n in range(number):
        one = data.Windows(
            *(
                None if x is None else x[n : n + 1]
                for x in (points.values, points.lengths, points.observed)
            )
        )
        moved, _ = take_step(model, q, prior, one, number, 1.0)
        average = tree_map(lambda a, b: a + b / number, average, moved)
    assert_close(tuple(leaves(average)), tuple(leaves(full)), 1e-10)


def test_a_step_is_a_convex_combination(rng):
    model, points, prior, q = problem("hmm", rng)
    end, _ = take_step(model, q, prior, points, 1.0, 1.0)
    part, record = take_step(model, q, prior, points, 1.0, 0.3)
    want = 0.7 * to_vector(q) + 0.3 * to_vector(end)
    assert relative_error(to_vector(part), want) <= 1e-12
    assert record["step_size"] == 0.3
    assert record["objective"] == pytest.approx(record["local"] - record["global_kl"])
