"""KL divergences: closed forms, quadrature and Monte Carlo."""

import numpy as np
import pytest
from autograd import grad
from scipy import integrate
from scipy import stats as densities

from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    kl,
    niw,
    product,
)
from tests.helpers.families import (
    every_batch,
    every_family,
    make,
    random_gaussian,
    wishart_logpdf,
)


@every_family
@every_batch
def test_kl_is_positive_and_zero_between_equals(name, batch):
    family, q = make(name, batch)
    p = make(name, batch, seed=15)[1]
    assert np.shape(kl(family, q, p)) == batch
    assert np.all(kl(family, q, p) > 1e-3)
    np.testing.assert_allclose(kl(family, q, q), 0.0, atol=1e-12)


@every_family
@every_batch
def test_what_is_measured_once_has_the_digits_of_what_is_computed_again(name, batch):
    family, q = make(name, batch)
    p = make(name, batch, seed=15)[1]
    of, q, p = {name: family}, {name: q}, {name: p}
    stats = product.measured_stats(of, q)
    for got, expected in zip(stats[name], family.expected_stats(q[name]), strict=True):
        np.testing.assert_array_equal(got, expected)
    prior = product.with_log_normalizers(of, p)
    assert product.kl(of, q, prior, stats) == product.kl(of, q, p)


def test_kl_of_gaussians_in_closed_form():
    rng = np.random.default_rng(16)
    q, p = random_gaussian(rng, ()), random_gaussian(rng, ())
    (mean_q, cov_q), (mean_p, cov_p) = gaussian.to_standard(q), gaussian.to_standard(p)
    precision, shift = np.linalg.inv(cov_p), mean_p - mean_q
    closed = 0.5 * (
        np.trace(precision @ cov_q)
        + shift @ precision @ shift
        - 3
        + np.linalg.slogdet(cov_p)[1]
        - np.linalg.slogdet(cov_q)[1]
    )
    assert kl(gaussian, q, p) == pytest.approx(closed, rel=1e-11)


def test_kl_of_dirichlets_by_quadrature():
    q, p = (np.array([2.0, 1.0]),), (np.array([0.5, 3.0]),)
    density_q, density_p = densities.beta(3.0, 2.0), densities.beta(1.5, 4.0)

    def integrand(x):
        return density_q.pdf(x) * (density_q.logpdf(x) - density_p.logpdf(x))

    total, _ = integrate.quad(integrand, 0, 1, epsabs=1e-11, epsrel=1e-11)
    assert kl(dirichlet, q, p) == pytest.approx(total, rel=1e-8)


def test_kl_of_categoricals_with_forbidden_states():
    q = categorical.from_standard(np.array([0.25, 0.75, 0.0]))
    p = categorical.from_standard(np.array([0.5, 0.5, 0.0]))
    closed = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    assert kl(categorical, q, p) == pytest.approx(closed, rel=1e-13)
    wide = categorical.from_standard(np.array([0.2, 0.2, 0.6]))
    assert np.isfinite(kl(categorical, q, wide))
    assert kl(categorical, wide, q) == np.inf
    gradient = grad(lambda eta: kl(categorical, eta, p))(q)[0]
    assert np.all(np.isfinite(gradient))
    assert gradient[2] == 0.0


@pytest.mark.parametrize("name", ["niw", "mniw"])
def test_kl_by_monte_carlo(name):
    """Log ratios of SciPy's densities, averaged over SciPy's draws, four errors."""
    family, q = make(name)
    p = make(name, seed=17)[1]
    ratios = [
        scipy_logpdf(family, x, q) - scipy_logpdf(family, x, p)
        for x in scipy_draws(family, q, 4000)
    ]
    error = np.std(ratios) / np.sqrt(len(ratios))
    assert error < 0.2 * np.mean(ratios)
    assert abs(np.mean(ratios) - kl(family, q, p)) < 4 * error


def scipy_draws(family, natparams, count):
    rng = np.random.default_rng(18)
    mean, spread, scale, dof = family.to_standard(natparams)
    precisions = densities.wishart(dof, np.linalg.inv(scale)).rvs(count, rng)
    for precision in precisions:
        cov = np.linalg.inv(precision)
        if family is niw:
            yield rng.multivariate_normal(mean, cov / spread), precision
        else:
            draw = densities.matrix_normal(mean, cov, spread).rvs(random_state=rng)
            yield draw, precision


def scipy_logpdf(family, x, natparams):
    mean, spread, scale, dof = family.to_standard(natparams)
    cov = np.linalg.inv(x[1])
    if family is niw:
        conditional = densities.multivariate_normal(mean, cov / spread)
    else:
        conditional = densities.matrix_normal(mean, cov, spread)
    return conditional.logpdf(x[0]) + wishart_logpdf(x[1], scale, dof)
