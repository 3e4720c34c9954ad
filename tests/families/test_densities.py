"""Densities are SciPy's, and normalizers are integrals."""

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as densities

from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    mniw,
    niw,
    wishart,
)
from tests.helpers.families import (
    inner,
    positive_definite,
    random_dirichlet,
    random_gaussian,
    random_mniw,
    random_niw,
    random_wishart,
    wishart_logpdf,
)


def test_gaussian_density():
    rng = np.random.default_rng(8)
    natparams = random_gaussian(rng, ())
    mean, cov = gaussian.to_standard(natparams)
    x = rng.standard_normal((5, 3))
    ours = inner(natparams, gaussian.stats(x)) - gaussian.log_normalizer(natparams)
    theirs = densities.multivariate_normal(mean, cov).logpdf(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11)


def test_diagonal_gaussian_is_the_dense_one():
    rng = np.random.default_rng(9)
    mean, variance = rng.standard_normal((2, 3)), 0.5 + rng.random((2, 3))
    diagonal = gaussian.from_standard(mean, variance)
    dense = gaussian.from_standard(mean, variance[..., None] * np.eye(3))
    np.testing.assert_allclose(
        gaussian.log_normalizer(diagonal), gaussian.log_normalizer(dense), rtol=1e-12
    )
    second_moment, _ = gaussian.expected_stats(dense)
    np.testing.assert_allclose(
        gaussian.expected_stats(diagonal)[0],
        np.diagonal(second_moment, axis1=-1, axis2=-2),
        rtol=1e-12,
    )


def test_dirichlet_density():
    rng = np.random.default_rng(10)
    natparams = random_dirichlet(rng, ())
    x = rng.dirichlet(np.ones(4), size=5)
    ours = inner(natparams, dirichlet.stats(x)) - dirichlet.log_normalizer(natparams)
    theirs = densities.dirichlet(natparams[0] + 1.0).logpdf(x.T)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11)


def test_wishart_density():
    rng = np.random.default_rng(11)
    scale, dof = natparams = random_wishart(rng, ())
    precision = positive_definite(rng, 3, 3)
    ours = inner(natparams, wishart.stats(precision))
    ours -= wishart.log_normalizer(natparams)
    ours -= 0.5 * (3 + 1) * np.linalg.slogdet(precision)[1]  # the base measure
    assert ours == pytest.approx(wishart_logpdf(precision, scale, dof), rel=1e-11)


def test_niw_density():
    rng = np.random.default_rng(12)
    natparams = random_niw(rng, ())
    mean, kappa, scale, dof = niw.to_standard(natparams)
    mu, precision = rng.standard_normal(3), positive_definite(rng, 3, 3)
    ours = inner(natparams, niw.stats((mu, precision)))
    ours -= niw.log_normalizer(natparams)
    ours -= 0.5 * 3 * np.linalg.slogdet(precision)[1]  # the base measure
    conditional = densities.multivariate_normal(mean, np.linalg.inv(kappa * precision))
    theirs = conditional.logpdf(mu) + wishart_logpdf(precision, scale, dof)
    assert ours == pytest.approx(theirs, rel=1e-11)


def test_mniw_density():
    rng = np.random.default_rng(13)
    natparams = random_mniw(rng, ())
    mean, column_cov, scale, dof = mniw.to_standard(natparams)
    dynamics, precision = rng.standard_normal((3, 2)), positive_definite(rng, 3, 3)
    ours = inner(natparams, mniw.stats((dynamics, precision)))
    ours -= mniw.log_normalizer(natparams)
    ours += 0.5 * (2 - 3 - 1) * np.linalg.slogdet(precision)[1]  # the base measure
    conditional = densities.matrix_normal(mean, np.linalg.inv(precision), column_cov)
    theirs = conditional.logpdf(dynamics) + wishart_logpdf(precision, scale, dof)
    assert ours == pytest.approx(theirs, rel=1e-11)


def test_gaussian_normalizer_by_quadrature():
    J, h = np.array([[-0.9, 0.3], [0.3, -0.6]]), np.array([0.4, -0.7])

    def potential(y, x):
        point = np.array([x, y])
        return np.exp(point @ J @ point + h @ point)

    total, _ = integrate.dblquad(potential, -9, 9, -9, 9, epsabs=1e-11, epsrel=1e-11)
    assert gaussian.log_normalizer((J, h)) == pytest.approx(np.log(total), rel=1e-9)


def test_dirichlet_normalizer_by_quadrature():
    eta = np.array([1.3, 0.6, 2.1])

    def potential(b, a):
        return a ** eta[0] * b ** eta[1] * (1 - a - b) ** eta[2]

    total, _ = integrate.dblquad(
        potential, 0, 1, 0, lambda a: 1 - a, epsabs=1e-13, epsrel=1e-11
    )
    assert dirichlet.log_normalizer((eta,)) == pytest.approx(np.log(total), rel=1e-8)


def test_niw_normalizer_by_quadrature():
    natparams = niw.from_standard(np.array([0.3]), 1.5, np.array([[2.0]]), 4.0)

    def potential(mu, precision):
        stats = niw.stats((np.array([mu]), np.array([[precision]])))
        return np.exp(inner(natparams, stats)) * precision**-0.5  # base measure

    total, _ = integrate.dblquad(
        potential, 0, 40, lambda v: 0.3 - 9 / v**0.5, lambda v: 0.3 + 9 / v**0.5
    )
    assert niw.log_normalizer(natparams) == pytest.approx(np.log(total), rel=1e-7)


def test_categorical_normalizer_is_the_sum():
    potentials = np.array([[800.0, 799.0, -np.inf], [-900.0, -np.inf, -900.0]])
    normalizers = categorical.log_normalizer((potentials,))
    expected = [800.0 + np.log1p(np.exp(-1.0)), -900.0 + np.log(2.0)]
    np.testing.assert_allclose(normalizers, expected, rtol=1e-14)
    (probs,) = categorical.expected_stats((potentials,))
    np.testing.assert_allclose(probs[1], [0.5, 0.0, 0.5], rtol=1e-14)


def test_digamma_arguments():
    """The sum is over psi((nu - i)/2), i from 0: known value at nu = 7.3, D = 3.

    A published Gaussian mixture code uses (nu + 1 + i)/2, its Student-t sibling
    (nu + i)/2: 4.262 and 3.875.
    """
    half_log_det = wishart.expected_stats((np.eye(3), np.float64(7.3)))[1]
    assert 2 * half_log_det - 3 * np.log(2) == pytest.approx(2.906, abs=5e-4)


def test_pair_potentials_of_known_dynamics():
    """Concentrated on (A, Q), MNIW's statistics are the chain's pair potentials."""
    rng = np.random.default_rng(14)
    dynamics, noise_cov = rng.standard_normal((3, 3)), positive_definite(rng, 3, 3)
    dof = 1e10
    natparams = mniw.from_standard(dynamics, np.eye(3) / dof, dof * noise_cov, dof)
    J11, J12, J22, half_log_det = mniw.expected_stats(natparams)
    precision = np.linalg.inv(noise_cov)
    np.testing.assert_allclose(J11, -dynamics.T @ precision @ dynamics / 2, atol=1e-8)
    np.testing.assert_allclose(J12, dynamics.T @ precision, atol=1e-8)
    np.testing.assert_allclose(J22, -precision / 2, atol=1e-8)
    assert 2 * half_log_det == pytest.approx(np.linalg.slogdet(precision)[1], abs=1e-8)
