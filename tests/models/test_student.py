"""Student-t mixtures: SciPy's density, and terms with explicit scales."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp
from scipy.stats import gamma, multivariate_t

from svae import StudentMixture
from svae.families import gaussian, product
from svae.models.inference.mixture import MixtureStatistics
from svae.testing import (
    latent_model,
    relative_error,
    typical_natparams,
    typical_theta,
)
from tests.helpers.students import both_students


@both_students
def test_density_of_a_theta_is_scipys(name, rng):
    latent = latent_model(name)
    theta = typical_theta(latent, rng)
    x = 4.0 * rng.standard_normal((30, 2))
    means, precisions = theta["components"]
    dofs = np.exp(theta["dof"][:, 0]) if latent.learn_dof else np.full(3, latent.dof)
    logs = np.log(theta["weights"]) + np.stack(
        [
            multivariate_t(mean, np.linalg.inv(precision), nu).logpdf(x)
            for mean, precision, nu in zip(means, precisions, dofs, strict=True)
        ],
        axis=-1,
    )
    stats = product.stats(latent.family, theta)
    got = latent.log_density(stats, x[:, None])
    assert relative_error(got, logsumexp(logs, axis=1)) < 1e-12
    unknown = np.arange(30)[:, None] % 3 == 0
    got = latent.log_density(stats, x[:, None], observed=~unknown)
    assert np.max(np.abs(got[unknown[:, 0]])) < 1e-12
    assert relative_error(got[1], logsumexp(logs[1])) < 1e-12


def terms_of_a_scale(a, b, g, half_log_det, nu, dim):
    """E log N(x; mu, Sigma/u) + E log Gam(u; nu/2, nu/2) - E log q(u) by quadrature.

    q(u) = Gam(a, b), and g is the expected Mahalanobis distance.
    """
    q, p = gamma(a, scale=1 / b), gamma(0.5 * nu, scale=2 / nu)

    def integrand(u):
        log_normal = 0.5 * dim * np.log(u / (2 * np.pi)) + half_log_det - 0.5 * u * g
        return q.pdf(u) * (log_normal + p.logpdf(u) - q.logpdf(u))

    ends = q.ppf([0.0, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-16])
    pieces = zip(ends[:-1], ends[1:], strict=True)
    options = {"epsabs": 1e-11, "epsrel": 1e-11, "limit": 200}
    return sum(quad(integrand, *piece, **options)[0] for piece in pieces)


@pytest.mark.parametrize("dof", [0.7, 4.0, 30.0])
def test_terms_of_the_bound_are_those_of_the_optimal_scale(dof, rng):
    latent = StudentMixture(3, 2, dof=dof)
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    rows = latent.switch.natparams(stats)
    g = np.array([0.3, 2.0, 40.0])
    closed = latent.switch.state_potentials(-0.5 * g, rows)
    gain = latent.switch.gain(-0.5 * g, rows)
    for k in range(3):
        fixed = g[k], rows[1][k], dof, 2

        def terms(log_a, log_b, fixed=fixed):
            return terms_of_a_scale(np.exp(log_a), np.exp(log_b), *fixed)

        a, b = 0.5 * (dof + 2), 0.5 * (dof + g[k])
        best = terms(np.log(a), np.log(b))
        assert abs(closed[k] - best) < 1e-8
        assert gain[k] == pytest.approx(a / b, rel=1e-12)
        for d in ((0.1, 0.0), (0.0, 0.1), (0.1, 0.1), (0.1, -0.1)):
            for sign in (1, -1):
                moved = terms(np.log(a) + sign * d[0], np.log(b) + sign * d[1])
                assert moved < best - 1e-5


def test_terms_of_learned_degrees_are_averages_over_them(rng):
    """Of quadrature over q(log nu), where that is one by SciPy."""
    latent = StudentMixture(2, 3, learn_dof=True)
    mean, sd = np.log([3.0, 40.0]), np.array([0.8, 0.1])
    natparams = latent.prior() | {
        "dof": gaussian.from_standard(mean[:, None], sd[:, None, None] ** 2)
    }
    stats = product.expected_stats(latent.family, natparams)
    rows, g = latent.switch.natparams(stats), np.array([7.0, 1.5])
    for k in range(2):

        def average(term, k=k):
            def integrand(s):
                return np.exp(-0.5 * s * s) / np.sqrt(2 * np.pi) * term(s)

            return quad(integrand, -12, 12, epsabs=1e-12)[0]

        def log_student(s, k=k):
            nu = np.exp(mean[k] + sd[k] * s)
            return (
                gammaln(0.5 * (nu + 3))
                - gammaln(0.5 * nu)
                - 1.5 * np.log(nu * np.pi)
                + rows[1][k]
                - 0.5 * (nu + 3) * np.log1p(g[k] / nu)
            )

        def scale(s, k=k):
            nu = np.exp(mean[k] + sd[k] * s)
            return (nu + 3) / (nu + g[k])

        potential = latent.switch.state_potentials(-0.5 * g, rows)[k]
        assert potential == pytest.approx(average(log_student), rel=1e-6)
        gain = latent.switch.gain(-0.5 * g, rows)[k]
        assert gain == pytest.approx(average(scale), rel=1e-5)


@both_students
def test_treatments_of_the_scale_are_ordered(name, rng):
    """E log St is above a scale for every x, that above one for all x."""
    latent, draws = latent_model(name), 40_000
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    mean, root = rng.standard_normal((3, 2)), np.array([[1.5, 0.0], [0.4, 0.8]])
    noise = rng.standard_normal((draws, 3, 2))
    x = mean + noise @ root.T
    second = root @ root.T + np.einsum("ki,kj->kij", mean, mean)
    features = np.concatenate([second.reshape(3, 4), mean], axis=-1)
    of = MixtureStatistics(
        None, None, None, features[None, None], x[:, None, None], None
    )
    theta = product.sample(latent.family, natparams, rng, draws)
    logs = np.zeros((draws, 3))
    for k in range(3):
        d, L = x[:, k] - theta["components"][0][:, k], theta["components"][1][:, k]
        g = np.einsum("si,sij,sj->s", d, L, d)
        nu = np.full(draws, latent.dof)
        if latent.learn_dof:
            nu = np.exp(theta["dof"][:, k, 0])
        logs[:, k] = (
            gammaln(0.5 * (nu + 2))
            - gammaln(0.5 * nu)
            - np.log(nu * np.pi)
            + 0.5 * np.linalg.slogdet(L)[1]
            - 0.5 * (nu + 2) * np.log1p(g / nu)
        )
    truth, error = logs.mean(axis=0), logs.std(axis=0) / np.sqrt(draws)
    one = latent.expected_emissions(stats, of)[0, 0]
    every = latent_model(name, tails="sampled").expected_emissions(stats, of)[0, 0]
    assert np.all(one + 4 * error < every)
    assert np.all(every + 4 * error < truth)
    # and not by much
    assert np.all(truth - one < 1.0)
