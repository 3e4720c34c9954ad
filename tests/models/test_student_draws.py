"""Draws of Student-t mixtures have SciPy's law."""

import numpy as np
from scipy.stats import f as f_law
from scipy.stats import gamma, kstest

from svae import StudentMixture
from svae.families import product
from svae.testing import (
    assert_close,
    typical_theta,
)


def test_draws_have_the_law_of_scipy(rng):
    latent = StudentMixture(2, 3, learn_dof=True)
    scale = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])
    theta = {
        "weights": np.array([0.3, 0.7]),
        "components": (
            np.array([[1.0, -2.0, 0.5], [8.0, 0.0, 0.0]]),
            np.stack([np.linalg.inv(scale), np.eye(3)]),
        ),
        "dof": np.log([[1.5], [12.0]]),
    }
    stats, number = product.stats(latent.family, theta), 40_000
    drawn = latent.draw(
        stats, rng.random((number, 1)), rng.standard_normal((number, 1, 3))
    )
    z, x = drawn.states[:, 0], drawn.latents[:, 0]
    assert abs(np.mean(z) - 0.7) < 4.5 * np.sqrt(0.21 / number)
    for k, nu in enumerate((1.5, 12.0)):
        mean, precision = (part[k] for part in theta["components"])
        d = x[z == k] - mean
        g = np.einsum("si,ij,sj->s", d, precision, d)
        assert kstest(g / 3, f_law(3, nu).cdf).pvalue > 1e-3
        np.testing.assert_allclose(drawn.mean[z == k], [[mean]] * np.sum(z == k))
    cov = np.linalg.inv(theta["components"][1][1]) * 12 / 10
    np.testing.assert_allclose(drawn.cov[z == 1][0, 0], cov, rtol=1e-12)
    assert_close(np.cov(x[z == 1].T), cov, 0.06)
    assert np.all(drawn.cov[z == 0] == np.inf)


def test_scales_are_independent_of_the_states_and_of_the_noise(rng):
    """One uniform draws z and, by where in its interval it falls, the scale."""
    latent, number = StudentMixture(4, 2, dof=3.0), 30_000
    theta = typical_theta(latent, rng)
    theta["components"] = np.zeros((4, 2)), np.stack([np.eye(2)] * 4)
    stats = product.stats(latent.family, theta)
    noise = rng.standard_normal((number, 1, 2))
    drawn = latent.draw(stats, rng.random((number, 1)), noise)
    scales = (noise / drawn.latents)[:, 0, 0] ** 2
    np.testing.assert_allclose((noise / drawn.latents)[:, 0, 1] ** 2, scales)
    law = gamma(1.5, scale=1 / 1.5)
    for k in range(4):
        assert kstest(scales[drawn.states[:, 0] == k], law.cdf).pvalue > 1e-3
    ranks = law.cdf(scales)
    for other in np.abs(noise[:, 0].T):
        assert abs(np.corrcoef(ranks, other)[0, 1]) < 4.5 / np.sqrt(number)
