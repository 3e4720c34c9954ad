"""Conjugate inference on data: textbook updates, evidence by brute force, recovery."""

import json
import os
from dataclasses import replace
from itertools import product as paths_of
from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp
from scipy.stats import multivariate_normal

import svae
from svae import data, reference
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.cli.runs import Run
from svae.conjugate.exact_models import Emitted, Known, observed_model
from svae.estimators import SVI
from svae.estimators.svi import make_schedule, minibatches, take_step
from svae.families import dirichlet, mniw, niw, product
from svae.testing import assert_close, relative_error

DATA = Path(os.environ.get("SVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
LOG_2PI = np.log(2 * np.pi)


def whole(*sequences):
    """All data as one batch."""
    sequences = data.as_sequences(list(sequences))
    return data.batch(sequences, data.windows(sequences, max(map(len, sequences))))


def rows(frames):
    """Rows of a mixture as one batch."""
    return data.batch([frames], data.windows([frames], 1))


def blobs(rng, number=60, distance=2.0):
    """Points of three clusters in the plane, and their labels."""
    labels = rng.integers(3, size=number)
    centres = distance * np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]])
    return centres[labels] + rng.standard_normal((number, 2)), labels


def markov_path(rng, num_steps, num_states=3, stay=0.9):
    """States that last."""
    path = np.zeros(num_steps, dtype=int)
    for t in range(1, num_steps):
        change = rng.random() > stay
        path[t] = rng.integers(num_states) if change else path[t - 1]
    return path


def rotation(radius, angle):
    c, s = np.cos(angle), np.sin(angle)
    return radius * np.array([[c, -s], [s, c]])


def linear_frames(rng, num_steps, A, C, noise=0.3):
    """Frames of a linear dynamical system with unit noise in its dynamics."""
    x, frames = rng.standard_normal(len(A)), np.zeros((num_steps, len(C)))
    for t in range(num_steps):
        frames[t] = C @ x + noise * rng.standard_normal(len(C))
        x = A @ x + rng.standard_normal(len(A))
    return frames


def ragged_frames(rng):
    """Three sequences of an oscillator; frames are missing inside and at an end."""
    A, C = rotation(0.9, 0.5), rng.standard_normal((3, 2))
    sequences = [linear_frames(rng, T, A, C) for T in (12, 7, 1)]
    sequences[0][[4, 5, 11]] = np.nan
    return sequences


def problem(name, rng):
    """Return a model, a batch, and natural parameters away from any optimum."""
    if name == "gmm":
        latent = svae.GMM(3, 2, initial_spread=1.0)
        frames = blobs(rng)[0]
        frames[7] = np.nan
        points = rows(frames)
    elif name == "hmm":
        latent = svae.HMM(3, 2, initial_spread=1.0, sticky=0.5)
        points = whole(*ragged_frames(rng)[:2])
        points = replace(points, values=points.values[..., :2])
    elif name == "slds":
        latent = svae.SLDS(2, 2, affine=True)
        points = whole(*(blobs(rng, T)[0] for T in (30, 20)))
    else:
        latent = svae.LDS(2, affine=name == "affine")
        points = whole(*ragged_frames(rng))
    model = observed_model(latent, None)
    prior = model.prior(points.values.shape[-1])
    if isinstance(model, Emitted):
        return model, points, prior, model.start(prior, points, rng, 1)
    return model, points, prior, latent.initial_posterior(rng)


PROBLEMS = ("gmm", "hmm", "slds", "lds", "affine")


# ---------------------------------------------------------------- textbook updates


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


# -------------------------------------------------------- bounds and likelihoods


def brute_force_evidence(latent, sequences):
    """Log evidence with theta integrated out, by enumeration of all paths of states.

    p(x, z) is a ratio of normalizers of p(theta), after and before the data.
    """
    prior, K = latent.prior(), latent.num_states
    before = product.log_normalizer(latent.family, prior)
    lengths = [len(sequence) for sequence in sequences]
    scores = []
    for z in paths_of(range(K), repeat=sum(lengths)):
        after = {name: [np.array(x) for x in prior[name]] for name in prior}
        cuts = np.split(np.array(z), np.cumsum(lengths)[:-1])
        for sequence, path in zip(sequences, cuts, strict=True):
            if not latent.independent:
                after["weights"][0][path[0]] += 1
                for i, j in zip(path[:-1], path[1:], strict=True):
                    after["transitions"][0][i, j] += 1
            for t, k in enumerate(path):
                add_frame(latent, after, sequence, t, k)
        scores.append(product.log_normalizer(latent.family, after) - before)
    seen = sum(int(np.sum(~np.isnan(s[:, 0]))) for s in sequences)
    return logsumexp(scores) - 0.5 * seen * latent.latent_dim * LOG_2PI


def add_frame(latent, after, sequence, t, k):
    """Add the statistics of frame t in state k."""
    x = sequence[t]
    if latent.independent:
        after["weights"][0][k] += 1
    if np.isnan(x).any():
        return
    if latent.coupled and t > 0:
        last = sequence[t - 1]
        stats = np.outer(last, last), np.outer(last, x), np.outer(x, x), 1.0
    else:
        stats = np.outer(x, x), x, 1.0, 1.0
    name = "components"
    if latent.coupled:
        name = "dynamics" if t > 0 else "init"
    for total, stat in zip(after[name], stats, strict=True):
        total[k] += stat


@pytest.mark.parametrize(
    "latent", [svae.GMM(2, 2), svae.HMM(2, 2), svae.SLDS(2, 2)], ids=["G", "H", "S"]
)
def test_bound_is_below_the_evidence(latent, rng):
    sequences = [rng.standard_normal((T, 2)) for T in (5, 3)]
    if not latent.coupled:
        sequences[0][2] = np.nan
    evidence = brute_force_evidence(latent, sequences)
    history = SVI(latent).fit(sequences, num_steps=50, rng=0).history_
    assert np.all(history["objective"] < evidence)
    assert history["objective"][-1] > evidence - 4.0


def test_lds_bound_is_below_the_evidence(rng):
    frames = linear_frames(rng, 6, np.array([[0.9]]), np.array([[1.0], [-0.5]]))
    fitted = SVI(svae.LDS(1)).fit(frames, num_steps=50)
    model, q, points = fitted._model(), fitted.natparams_, whole(frames)
    prior = model.prior(2)
    bound = take_step(model, q, prior, points, 1.0, 1.0)[1]["objective"]
    thetas = product.stats(model.family, product.sample(model.family, q, rng, 500))
    difference = product.log_normalizer(model.family, q)
    difference -= product.log_normalizer(model.family, prior)
    weights = []
    for s in range(500):
        theta = {name: tuple(part[s] for part in thetas[name]) for name in thetas}
        moved = tree_map(lambda t, a, b: np.sum(t * (a - b)), theta, prior, q)
        local = model.local(theta, points)[0]
        weights.append(local + sum(leaves(moved)) + difference)
    evidence = logsumexp(weights) - np.log(500)
    assert bound < np.mean(weights) < evidence < bound + 5.0


def dense_log_likelihood(frames, theta):
    """Log N(y; ...) of all frames with data, by their joint covariance."""
    mean, precision = theta["init"]
    (A, Q_inv), (weights, R_inv) = theta["dynamics"], theta["emission"]
    C, d = weights[:, :-1], weights[:, -1]
    T, D, P = len(frames), len(A), len(C)
    b = A[:, D] if A.shape[1] > D else np.zeros(D)
    A, Q = A[:, :D], np.linalg.inv(Q_inv)
    means, cov = np.zeros((T, D)), np.zeros((T, D, T, D))
    means[0], cov[0, :, 0] = mean, np.linalg.inv(precision)
    for t in range(1, T):
        means[t] = A @ means[t - 1] + b
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + Q
        for s in range(t):
            cov[t, :, s] = A @ cov[t - 1, :, s]
            cov[s, :, t] = cov[t, :, s].T
    joint = np.einsum("pi,tisj,qj->tpsq", C, cov, C)
    for t in range(T):
        joint[t, :, t] += np.linalg.inv(R_inv)
    seen = ~np.isnan(frames[:, 0])
    joint = joint[seen][:, :, seen].reshape(seen.sum() * P, -1)
    centre = (means @ C.T + d)[seen].ravel()
    return multivariate_normal(centre, joint).logpdf(frames[seen].ravel())


@pytest.mark.parametrize("affine", [False, True])
def test_lds_likelihood_of_a_known_theta_is_exact(affine, rng):
    sequences = ragged_frames(rng)
    model = SVI(svae.LDS(2, affine=affine)).fit(sequences, num_steps=5)
    theta = product.mean(model._model().family, model.natparams_)
    want = sum(dense_log_likelihood(frames, theta) for frames in sequences)
    want /= data.frames_with_data(sequences)
    assert model.score(sequences, theta="mean") == pytest.approx(want, rel=1e-10)
    held_out = ragged_frames(rng)
    assert model.score(held_out) < model.score(held_out, theta="mean")


# ------------------------------------------------------------- missing and ragged


def test_missing_rows_of_a_mixture_change_nothing(rng):
    model, points, prior, q = problem("gmm", rng)
    kept = points.observed_frames[:, 0]
    without = rows(points.values[kept, 0])
    got = take_step(model, q, prior, points, 1.0, 1.0)
    want = take_step(model, q, prior, without, 1.0, 1.0)
    assert_close(to_vector(got[0]), to_vector(want[0]), 1e-13)
    assert got[1] == pytest.approx(want[1], rel=1e-13)


@pytest.mark.parametrize("latent", [svae.HMM(2, 2), svae.LDS(2)], ids=["hmm", "lds"])
def test_missing_frames_at_the_end_say_nothing(latent, rng):
    frames = np.where(rng.random((20, 1)) < 0.2, np.nan, rng.standard_normal((20, 2)))
    model = SVI(latent).fit(frames, num_steps=5, rng=0)
    longer = np.concatenate([frames, np.full((5, 2), np.nan)])
    got = model.score(longer, theta="mean")
    assert got == pytest.approx(model.score(frames, theta="mean"), rel=1e-12)
    assert np.isfinite(model.infer(longer).log_normalizer)


@pytest.mark.parametrize("latent", [svae.HMM(2, 3), svae.LDS(2)], ids=["hmm", "lds"])
def test_ragged_sequences_are_inferred_as_if_alone(latent, rng):
    sequences = ragged_frames(rng)
    model = SVI(latent).fit(sequences, num_steps=5, rng=0)
    together = model.infer(sequences)
    for frames, posterior in zip(sequences, together, strict=True):
        alone = model.infer(frames)
        for got, want in zip(posterior, alone, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                assert_close(got, want, 1e-12)
        assert posterior.elbo == posterior.log_normalizer
    total = sum(posterior.elbo for posterior in together)
    number = data.frames_with_data(sequences)
    assert number < 20
    assert model.score(sequences) == pytest.approx(total / number, rel=1e-12)


def test_results_are_arranged_like_the_data(rng):
    frames = rng.standard_normal((2, 15, 2))
    mixture = SVI(svae.GMM(3, 2)).fit(frames, num_steps=2, rng=0)
    assert mixture.infer(frames).states.shape == (2, 15, 3)
    assert mixture.infer(frames).log_normalizer.shape == (2,)
    assert mixture.predict(frames).shape == (2, 15)
    assert mixture.predict(frames[0]).dtype == np.int64
    assert [path.shape for path in mixture.predict([frames[0], frames[1, :4]])] == [
        (15,),
        (4,),
    ]
    lds = SVI(svae.LDS(3)).fit(frames, num_steps=2, rng=0)
    assert lds.transform(frames).shape == (2, 15, 3)
    assert lds.infer(frames[0]).cov.shape == (15, 3, 3)
    assert [x.shape for x in lds.transform(list(frames))] == [(15, 3)] * 2


# --------------------------------------------------------------------- recovery


@pytest.mark.parametrize("batch_size", [None, 50])
def test_gmm_finds_clusters(batch_size, rng):
    points, labels = blobs(rng, 500, distance=5.0)
    model = SVI(svae.GMM(3, 2)).fit(points, num_steps=50, batch_size=batch_size, rng=0)
    nmi = svae.metrics.normalized_mutual_information(labels, model.predict(points))
    assert nmi > 0.99


@pytest.mark.parametrize("batch_size", [None, 4])
def test_hmm_finds_states(batch_size, rng):
    states = markov_path(rng, 600)
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    frames = centres[states] + 0.7 * rng.standard_normal((600, 2))
    model = SVI(svae.HMM(3, 2)).fit(
        frames, num_steps=30, batch_size=batch_size, window=50, rng=0
    )
    nmi = svae.metrics.normalized_mutual_information(states, model.predict(frames))
    assert nmi > 0.95


def test_slds_of_the_data_finds_dynamics(rng):
    states = markov_path(rng, 1500, num_states=2, stay=0.98)
    dynamics = np.stack([rotation(0.95, 0.6), rotation(0.95, -0.6)])
    frames = np.zeros((1500, 2))
    for t in range(1, 1500):
        frames[t] = dynamics[states[t]] @ frames[t - 1] + rng.standard_normal(2)
    model = SVI(svae.SLDS(2, 2)).fit(frames, num_steps=30, rng=0, tolerance=1e-6)
    nmi = svae.metrics.normalized_mutual_information(states, model.predict(frames))
    assert nmi > 0.7
    found = mniw.mean(model.natparams_["dynamics"])[0]
    order = np.argsort([-A[1, 0] for A in found])
    assert_close(found[order], dynamics, 0.1)


@pytest.mark.parametrize("obs_dim", [1, 5])
def test_lds_finds_eigenvalues(obs_dim, rng):
    A, C = rotation(0.95, 0.4), rng.standard_normal((obs_dim, 2))
    sequences = [linear_frames(rng, 300, A, C) for _ in range(3)]
    sequences[0][50:60] = np.nan
    model = SVI(svae.LDS(2)).fit(sequences, num_steps=120, rng=0)
    found = np.linalg.eigvals(mniw.mean(model.natparams_["dynamics"])[0])
    want = np.linalg.eigvals(A)
    assert_close(np.sort_complex(found), np.sort_complex(want), 0.03)
    # minibatches of windows come to the same
    stochastic = SVI(svae.LDS(2)).fit(
        sequences, num_steps=150, window=100, batch_size=3, rng=0
    )
    found = np.linalg.eigvals(mniw.mean(stochastic.natparams_["dynamics"])[0])
    assert_close(np.sort_complex(found), np.sort_complex(want), 0.05)


@pytest.mark.skipif(
    not (DATA / "hmm_fedfunds.npz").exists(), reason=f"no published data in {DATA}"
)
def test_hmm_of_the_federal_funds_rate():
    with np.load(DATA / "hmm_fedfunds.npz") as file:
        rate, published = file["y"], file["stata_smoothed"]
    frames = ((rate - rate.mean()) / rate.std())[:, None]
    model = SVI(svae.HMM(2, 1)).fit(frames, rng=0, tolerance=1e-9)
    low_first = np.argsort(niw.mean(model.natparams_["components"])[0][:, 0])
    probs = model.infer(frames).states[:, low_first]
    # theirs is maximum likelihood with one variance for both states
    assert np.mean(np.abs(probs - published)) < 0.03
    assert np.mean((probs > 0.5) == (published > 0.5)) > 0.97


# -------------------------------------------------------------------- the face


def test_steps_of_fit_are_the_steps(rng):
    points = blobs(rng)[0]
    model, ends = SVI(svae.GMM(3, 2)), []
    model.fit(
        points, num_steps=5, rng=0, callback=lambda *_: ends.append(model.natparams_)
    )
    prior = model.latent.prior()
    for before, after in zip(ends[:-1], ends[1:], strict=True):
        want, _ = take_step(Known(model.latent), before, prior, rows(points), 1.0, 1.0)
        assert_close(to_vector(after), to_vector(want), 1e-14)
    assert set(model.history_) == {
        "objective",
        "local",
        "global_kl",
        "step_size",
        "backtracks",
        "seconds",
    }
    assert all(len(column) == 5 for column in model.history_.values())


def test_it_stops_where_nothing_is_gained(rng):
    points = blobs(rng)[0]
    model = SVI(svae.GMM(3, 2)).fit(points, num_steps=500, tolerance=1e-6, rng=0)
    steps = np.diff(model.history_["objective"])
    assert 0 < len(steps) < 400
    assert steps[-1] <= 1e-6 * abs(model.history_["objective"][-1])
    assert np.all(steps[:-1] > 1e-6 * np.abs(model.history_["objective"][1:-1]))


def test_minibatches_use_every_window_once_an_epoch(rng):
    frames = np.arange(20.0)[:, None]
    source = minibatches([frames], data.windows([frames], 3), 3, rng)
    for _ in range(2):
        epoch = [next(source) for _ in range(3)]
        assert [scale for _, scale in epoch] == [7 / 3, 7 / 3, 7.0]
        seen = [
            points.values[n, :length, 0]
            for points, _ in epoch
            for n, length in enumerate(points.num_steps)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), frames[:, 0])


def test_step_sizes():
    assert make_schedule(None, None, 1.0, 0.7).at(9) == 1.0
    assert make_schedule(10, None, 1.0, 0.7).at(9) == pytest.approx(10**-0.7)
    assert make_schedule(10, 0.2, 1.0, 0.7).at(9) == 0.2


def test_seeds(rng):
    points = blobs(rng)[0]
    fits = [
        SVI(svae.GMM(3, 2)).fit(points, num_steps=7, batch_size=9, rng=seed)
        for seed in (0, 0, 1)
    ]
    vectors = [to_vector(fit.natparams_) for fit in fits]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])
    draws = [fits[0].sample(5, rng=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    "latent",
    [svae.GMM(2, 3), svae.HMM(2, 3), svae.SLDS(2, 3), svae.LDS(2), svae.LDS(4)],
    ids=["gmm", "hmm", "slds", "lds2", "lds4"],
)
@pytest.mark.filterwarnings("ignore:state 0 has 100 % of the frames")
def test_saved_models_are_the_same(latent, rng, tmp_path):
    frames = rng.standard_normal((30, 3))
    emission = svae.LinearEmission(0.5, 10.0) if isinstance(latent, svae.LDS) else None
    model = SVI(latent, emission).fit(frames, num_steps=3, rng=0)
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert isinstance(loaded, SVI)
    assert (loaded.latent, loaded.emission) == (latent, emission)
    assert loaded.obs_dim_ == 3
    assert_close(to_vector(loaded.natparams_), to_vector(model.natparams_), 0.0)
    assert loaded.score(frames) == model.score(frames)
    assert loaded.history_.keys() == model.history_.keys()
    sample = loaded.sample(12, rng=3)
    assert sample.shape == (12, 3)
    np.testing.assert_array_equal(sample, model.sample(12, rng=3))


def test_samples_have_the_law_of_the_model(rng):
    """A model of samples of a model is like it."""
    frames = linear_frames(rng, 2000, rotation(0.9, 0.5), rng.standard_normal((3, 2)))
    model = SVI(svae.LDS(2)).fit(frames + 2.0, num_steps=30, rng=0)
    drawn = model.sample(20000, rng=0)
    np.testing.assert_allclose(drawn.mean(axis=0), 2.0, atol=0.5)
    assert_close(np.cov(drawn.T), np.cov(frames.T), 0.3)


def test_progress_shows_the_bound(rng, capsys):
    SVI(svae.GMM(2, 2)).fit(blobs(rng)[0], num_steps=2, rng=0, progress=True)
    shown = capsys.readouterr().err
    assert "bound=" in shown and "local=" in shown and "global=" in shown


@pytest.mark.parametrize("frames", [np.ones((6, 1)), np.ones((1, 1)), np.eye(3)])
@pytest.mark.parametrize("latent", [svae.GMM, svae.HMM, svae.SLDS])
@pytest.mark.filterwarnings(
    "ignore:(data. column 0 is constant|num_states. there are more)"
)
def test_data_that_hardly_vary(latent, frames):
    dim = frames.shape[1]
    mixture = SVI(latent(2, dim)).fit(frames, num_steps=3, rng=0)
    lds = SVI(svae.LDS(4)).fit(frames, num_steps=3, rng=0)
    for model in (mixture, lds):
        assert np.all(np.isfinite(model.history_["objective"]))
        assert np.all(np.diff(model.history_["objective"]) > -1e-9)


def test_commands_read_no_such_model(rng, tmp_path):
    model = SVI(svae.GMM(2, 2)).fit(blobs(rng)[0], num_steps=1, rng=0)
    model.save(tmp_path / "model.npz")
    record = {"model": "gmm", "data": "a.npy", "settings": {}, "standardize": False}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no SVAE"):
        Run.load(tmp_path)


# ----------------------------------------------------------------------- errors


@pytest.mark.parametrize("latent", [svae.GMM(2, 3), svae.HMM(2, 3), svae.SLDS(2, 3)])
def test_data_of_another_dimension(latent, rng):
    with pytest.raises(ValueError, match="2 dimensions.*latent_dim=3"):
        SVI(latent).fit(rng.standard_normal((9, 2)))


@pytest.mark.parametrize("latent", [svae.GMM(2, 2), svae.HMM(2, 2), svae.LDS(2)])
def test_single_missing_entries(latent, rng):
    frames = [rng.standard_normal((9, 2)) for _ in range(2)]
    model = SVI(latent).fit(frames, num_steps=1, rng=0)
    frames[1][3, 1] = np.nan
    place = "sequence 1, step 3, dimension 1"
    for method in (model.fit, model.infer, model.score):
        with pytest.raises(ValueError, match=place):
            method(frames)


def test_missing_frames_of_coupled_data(rng):
    frames = rng.standard_normal((9, 2))
    frames[4] = np.nan
    with pytest.raises(ValueError, match="step 4, dimension 0.*cut the sequence"):
        SVI(svae.SLDS(2, 2)).fit(frames)


@pytest.mark.parametrize("latent", [svae.Gaussian(2), svae.GMM, None, "gmm"])
def test_what_is_no_conjugate_model(latent, rng):
    with pytest.raises(TypeError, match="latent must be svae.GMM"):
        SVI(latent).fit(rng.standard_normal((9, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"window": 0}, "window"),
        ({"num_restarts": 0}, "num_restarts"),
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": 1.5}, "step_size"),
        ({"delay": -1.0}, "delay"),
        ({"forgetting": 0.5}, "forgetting"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": 1e-3, "batch_size": 2}, "tolerance"),
    ],
)
def test_arguments(options, message, rng):
    with pytest.raises(ValueError, match=message):
        SVI(svae.HMM(2, 2)).fit(rng.standard_normal((9, 2)), **options)


def test_what_a_model_does_not_have(rng, tmp_path):
    frames = rng.standard_normal((9, 2))
    with pytest.raises(ValueError, match="emission"):
        SVI(svae.GMM(2, 2), svae.LinearEmission()).fit(frames)
    with pytest.raises(TypeError, match="emission must be"):
        SVI(svae.LDS(2), svae.Linear()).fit(frames)
    with pytest.raises(ValueError, match="noise_variance"):
        svae.LinearEmission(noise_variance=0.0)
    with pytest.raises(ValueError, match="every entry is NaN"):
        SVI(svae.HMM(2, 2)).fit(np.full((9, 2), np.nan))
    unfitted = SVI(svae.LDS(2))
    for call in (unfitted.infer, unfitted.transform, unfitted.score):
        with pytest.raises(svae.NotFitted, match="not fitted yet"):
            call(frames)
    with pytest.raises(svae.NotFitted):
        unfitted.save(tmp_path / "model.npz")
    fitted = unfitted.fit(frames, num_steps=1)
    with pytest.raises(TypeError, match="predict: LDS has no discrete states"):
        fitted.predict(frames)
    with pytest.raises(ValueError, match="theta must be"):
        fitted.score(frames, theta="mode")
    with pytest.raises(ValueError, match="3 dimensions, the model was fitted to 2"):
        fitted.infer(rng.standard_normal((9, 3)))
    with pytest.raises(TypeError, match="transform: .* x of GMM"):
        SVI(svae.GMM(2, 2)).fit(frames, num_steps=1).transform(frames)
