"""Probabilistic principal components against dense Gaussians and known solutions."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from svae.conjugate.principal_components import LEAST_NOISE, principal_components


@pytest.fixture
def frames(rng):
    loadings = rng.standard_normal((3, 8)) * [[3.0], [2.0], [1.0]]
    noise = 0.3 * rng.standard_normal((200, 8))
    return rng.standard_normal((200, 3)) @ loadings + noise + np.arange(8.0)


def dense(found):
    cov = found.weights @ found.weights.T + found.noise * np.eye(len(found.mean))
    return multivariate_normal(found.mean, cov)


def test_the_solution_is_that_of_maximum_likelihood(frames):
    """Tipping and Bishop (1999), Eqs. 7 and 8."""
    found = principal_components(frames, 3)
    values = np.linalg.eigvalsh(np.cov(frames.T, bias=True))[::-1]
    np.testing.assert_allclose(found.noise, values[3:].mean(), rtol=1e-10)
    gram = found.weights.T @ found.weights
    np.testing.assert_allclose(gram, np.diag(values[:3] - found.noise), atol=1e-10)
    np.testing.assert_allclose(found.precision, (values[:3] / found.noise) - 1)
    np.testing.assert_allclose(found.residual.sum(), values[3:].sum(), rtol=1e-10)
    best = found.log_density(frames).sum()
    for factor in (0.9, 1.1):
        worse = found._replace(noise=factor * found.noise)
        assert worse.log_density(frames).sum() < best


def test_more_dimensions_than_frames_give_the_same(frames):
    few = frames[:6]
    found = principal_components(few, 3)
    values = np.linalg.eigvalsh(np.cov(few.T, bias=True))[::-1]
    np.testing.assert_allclose(found.noise, values[3:].sum() / 5, rtol=1e-10)


def test_log_density_is_that_of_the_dense_gaussian(frames, rng):
    found = principal_components(frames, 3)
    np.testing.assert_allclose(
        found.log_density(frames), dense(found).logpdf(frames), rtol=1e-10
    )
    observed = rng.random(frames.shape) < 0.7
    law = dense(found)
    wanted = [
        multivariate_normal(law.mean[seen], law.cov[np.ix_(seen, seen)]).logpdf(y[seen])
        if seen.any()
        else 0.0
        for y, seen in zip(frames, observed, strict=True)
    ]
    np.testing.assert_allclose(
        found.log_density(frames, observed), wanted, rtol=1e-8, atol=1e-10
    )


def test_missing_entries_do_not_spoil_the_solution(frames, rng):
    """EM is as likely, of what is observed, as the solution for all entries."""
    observed = rng.random(frames.shape) < 0.8
    found = principal_components(np.where(observed, frames, 1e6), 3, observed)
    complete = principal_components(frames, 3)
    got = found.log_density(frames, observed).sum()
    assert got > complete.log_density(frames, observed).sum() - 1.0
    gram = found.weights.T @ found.weights
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-8)
    np.testing.assert_allclose(found.noise, complete.noise, rtol=0.2)


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_nothing_is_left_where_the_components_are_all(rng, latent_dim):
    frames = rng.standard_normal((50, 2)) * [3.0, 0.5]
    found = principal_components(frames, latent_dim)
    np.testing.assert_allclose(found.noise, LEAST_NOISE * frames.var(axis=0).mean())
    assert found.weights.shape == (2, latent_dim)
    assert not np.any(found.weights[:, 2:])
