"""Conjugate inference: evidence by brute force; what is missing or ragged."""

from itertools import product as paths_of

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import svae
from svae import data
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.estimators import SVI
from svae.estimators.svi import take_step
from svae.families import product
from svae.testing import assert_close
from tests.helpers.conjugate import (
    LOG_2PI,
    linear_frames,
    problem,
    ragged_frames,
    rows,
    whole,
)


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
    "latent",
    [svae.GMM(2, 2), svae.HMM(2, 2), svae.SLDS(2, 2, noise_variance=2.0)],
    ids=["G", "H", "S"],
)
def test_bound_is_below_the_evidence(latent, rng):
    """That under a prior in which the data have no part."""
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
