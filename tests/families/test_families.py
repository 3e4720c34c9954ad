"""The exponential families against SciPy's densities, quadrature and their sampler.

Every family goes through the same checks: the expected statistics are the gradient of
the log normalizer, the log normalizer is the integral it claims to be, derivatives are
right to second order, and draws have the expected statistics.
"""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.builtins import tuple as box_tuple
from autograd.core import make_vjp
from scipy import integrate
from scipy import stats as densities

from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    kl,
    mniw,
    niw,
    product,
    wishart,
)
from svae.families.arrays import free_root, from_free_root
from svae.testing import check_gradients


def positive_definite(rng, *shape):
    root = rng.standard_normal(shape)
    return root @ np.swapaxes(root, -1, -2) + shape[-1] * np.eye(shape[-1])


def random_gaussian(rng, batch, dim=3):
    mean = rng.standard_normal((*batch, dim))
    return gaussian.from_standard(mean, positive_definite(rng, *batch, dim, dim))


def random_diagonal(rng, batch, dim=3):
    mean = rng.standard_normal((*batch, dim))
    return gaussian.from_standard(mean, 0.5 + rng.random((*batch, dim)))


def random_categorical(rng, batch):
    return (rng.standard_normal((*batch, 4)),)


def random_dirichlet(rng, batch):
    return dirichlet.from_standard(0.3 + 3.0 * rng.random((*batch, 4)))


def random_wishart(rng, batch, dim=3):
    dof = dim + 3.0 * rng.random(batch)
    return wishart.from_standard(positive_definite(rng, *batch, dim, dim), dof)


def random_niw(rng, batch, dim=3):
    scale, dof = random_wishart(rng, batch, dim)
    mean = rng.standard_normal((*batch, dim))
    return niw.from_standard(mean, 0.5 + rng.random(batch), scale, dof)


def random_mniw(rng, batch, dim=3, in_dim=2):
    scale, dof = random_wishart(rng, batch, dim)
    mean = rng.standard_normal((*batch, dim, in_dim))
    column_cov = positive_definite(rng, *batch, in_dim, in_dim)
    return mniw.from_standard(mean, column_cov, scale, dof)


CASES = {
    "gaussian": (gaussian, random_gaussian),
    "diagonal": (gaussian, random_diagonal),
    "categorical": (categorical, random_categorical),
    "dirichlet": (dirichlet, random_dirichlet),
    "wishart": (wishart, random_wishart),
    "niw": (niw, random_niw),
    "mniw": (mniw, random_mniw),
}
STATS_OPTIONS = {"diagonal": {"diagonal": True}, "categorical": {"num_states": 4}}
every_family = pytest.mark.parametrize("name", CASES)
every_batch = pytest.mark.parametrize("batch", [(), (2, 3)])


def make(name, batch=(), seed=0):
    family, random_natparams = CASES[name]
    return family, random_natparams(np.random.default_rng(seed), batch)


def assert_all_close(left, right, rtol):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.max(np.abs(a - b)) <= rtol * np.max(np.abs(b))


def inner(eta, stat):
    """Inner product of unbatched natural parameters with statistics of draws."""
    return sum(
        np.sum(e * s, axis=tuple(range(np.ndim(s) - np.ndim(e), np.ndim(s))))
        for e, s in zip(eta, stat, strict=True)
    )


def random_direction(rng, natparams, name):
    """A tangent direction: symmetric where the parameter is a symmetric matrix."""
    direction = [rng.standard_normal(np.shape(eta)) for eta in natparams]
    for i in symmetric_entries(name):
        direction[i] = direction[i] + np.swapaxes(direction[i], -1, -2)
    return tuple(direction)


def symmetric_entries(name):
    return {"gaussian": (0,), "wishart": (0,), "niw": (0,), "mniw": (0, 2)}.get(
        name, ()
    )


def step(natparams, direction, size):
    return tuple(e + size * d for e, d in zip(natparams, direction, strict=True))


# Derivatives


@every_family
@every_batch
def test_expected_stats_are_the_gradient_of_the_log_normalizer(name, batch):
    family, natparams = make(name, batch)
    gradient = grad(lambda eta: anp.sum(family.log_normalizer(eta)))(natparams)
    stats = family.expected_stats(natparams)
    assert type(stats) is tuple
    assert np.shape(family.log_normalizer(natparams)) == batch
    assert_all_close(stats, gradient, 1e-10)


@every_family
def test_expected_stats_match_differences_of_the_log_normalizer(name):
    family, natparams = make(name)
    direction = random_direction(np.random.default_rng(1), natparams, name)
    exact = inner(direction, family.expected_stats(natparams))
    size = 1e-5
    ahead = family.log_normalizer(step(natparams, direction, size))
    behind = family.log_normalizer(step(natparams, direction, -size))
    assert (ahead - behind) / (2 * size) == pytest.approx(exact, rel=1e-7)


@every_family
@every_batch
def test_vjp_of_expected_stats_is_the_hessian(name, batch):
    family, natparams = make(name, batch)
    direction = random_direction(np.random.default_rng(2), natparams, name)
    vjp, _ = make_vjp(lambda eta: box_tuple(family.expected_stats(eta)), natparams)
    product_of_stats = vjp(direction)

    def slope(eta):
        gradient = grad(lambda e: anp.sum(family.log_normalizer(e)))(eta)
        return sum(anp.sum(g * d) for g, d in zip(gradient, direction, strict=True))

    assert_all_close(product_of_stats, grad(slope)(natparams), 1e-9)

    size = 1e-5
    ahead = family.expected_stats(step(natparams, direction, size))
    behind = family.expected_stats(step(natparams, direction, -size))
    differences = [(a - b) / (2 * size) for a, b in zip(ahead, behind, strict=True)]
    assert_all_close(product_of_stats, differences, 1e-6)


@every_family
@every_batch
def test_cotangents_of_symmetric_matrices_are_symmetric(name, batch):
    family, natparams = make(name, batch)
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(np.shape(eta)) for eta in natparams]

    def nonlinear(eta):
        stats = family.expected_stats(eta)
        terms = [anp.sum(w * s**2) for w, s in zip(weights, stats, strict=True)]
        return sum(terms) + anp.sum(family.log_normalizer(eta) ** 2)

    gradient = grad(nonlinear)(natparams)
    for i in symmetric_entries(name):
        matrix = gradient[i]
        error = np.max(np.abs(matrix - np.swapaxes(matrix, -1, -2)))
        assert error <= 1e-12 * np.max(np.abs(matrix))


@pytest.mark.parametrize("name", ["gaussian", "wishart", "niw", "mniw"])
def test_only_the_symmetric_part_counts(name):
    family, natparams = make(name)
    skewed = list(natparams)
    for i in symmetric_entries(name):
        skew = np.triu(np.ones(natparams[i].shape), 1)
        skewed[i] = natparams[i] + skew - skew.T
    assert_all_close(
        family.expected_stats(tuple(skewed)), family.expected_stats(natparams), 1e-10
    )


# Batches, round trips, domains


@every_family
def test_batches_are_their_elements(name):
    family, natparams = make(name, (2, 3))
    other = make(name, (2, 3), seed=4)[1]
    stats = family.expected_stats(natparams)
    for index in np.ndindex(2, 3):
        element = tuple(eta[index] for eta in natparams)
        assert_all_close(
            tuple(s[index] for s in stats), family.expected_stats(element), 1e-13
        )
        alone = kl(family, element, tuple(eta[index] for eta in other))
        assert kl(family, natparams, other)[index] == pytest.approx(alone, rel=1e-12)


@every_family
@every_batch
def test_round_trip_through_standard_parameters(name, batch):
    family, natparams = make(name, batch)
    standard = family.to_standard(natparams)
    again = family.from_standard(*standard)
    if name != "categorical":  # whose potentials are known up to a constant
        assert_all_close(again, natparams, 1e-12)
    assert_all_close(family.to_standard(again), standard, 1e-12)


@pytest.mark.parametrize("name", ["wishart", "niw", "mniw"])
def test_scalar_parameters_broadcast_to_the_batch(name):
    family, natparams = make(name, (2, 3))
    *others, _ = family.to_standard(natparams)
    broadcast = family.from_standard(*others, 5.0)
    full = family.from_standard(*others, np.full((2, 3), 5.0))
    assert_all_close(broadcast, full, 0.0)


@every_family
@every_batch
def test_domain_contains_members_and_excludes_nan(name, batch):
    family, natparams = make(name, batch)
    assert family.in_domain(natparams) is True
    for i in range(len(natparams)):
        broken = [np.array(eta) for eta in natparams]
        broken[i][(*(0,) * (broken[i].ndim),)] = np.nan
        assert family.in_domain(tuple(broken)) is False


def replaced(natparams, index, value):
    return (*natparams[:index], value, *natparams[index + 1 :])


@pytest.mark.parametrize("name", ["wishart", "niw", "mniw"])
def test_domain_ends_at_dof_dim_minus_one(name):
    family, natparams = make(name)
    last = len(natparams) - 1
    inside = replaced(natparams, last, np.float64(2.0 + 1e-9))
    assert family.in_domain(inside)
    assert np.isfinite(family.log_normalizer(inside))
    # psi((nu - 2)/2) ~ -2/(nu - 2): the statistic diverges as its domain ends
    assert family.expected_stats(inside)[last] == pytest.approx(-1e9, rel=1e-6)
    assert not family.in_domain(replaced(natparams, last, np.float64(2.0)))


def test_one_bad_element_spoils_the_batch():
    second, weighted, kappa, nu = random_niw(np.random.default_rng(5), (2, 3))
    assert not niw.in_domain((second, weighted, -kappa, nu))
    one_zero = kappa.copy()
    one_zero[1, 2] = 0.0
    assert not niw.in_domain((second, weighted, one_zero, nu))
    large = weighted.copy()
    large[1, 2] *= 1e3  # S = second - weighted weighted' / kappa turns indefinite
    assert not niw.in_domain((second, large, kappa, nu))
    with pytest.raises(np.linalg.LinAlgError):
        niw.expected_stats((second, large, kappa, nu))


def test_domain_of_each_matrix_of_mniw():
    natparams = random_mniw(np.random.default_rng(6), ())
    assert not mniw.in_domain(replaced(natparams, 0, -natparams[0]))
    assert not mniw.in_domain(replaced(natparams, 2, -natparams[2]))
    assert not mniw.in_domain(replaced(natparams, 1, 1e3 * natparams[1]))


def test_domain_of_gaussian_dirichlet_categorical():
    J, h = random_gaussian(np.random.default_rng(7), (2,))
    assert not gaussian.in_domain((-J, h))
    assert not gaussian.in_domain((np.array([-1.0, 0.0]), np.zeros(2)))
    assert not gaussian.in_domain((np.array([-1.0, -np.inf]), np.zeros(2)))
    assert dirichlet.in_domain((np.array([-0.999, 3.0]),))
    assert not dirichlet.in_domain((np.array([-1.0, 3.0]),))
    assert categorical.in_domain((np.array([-np.inf, 3.0]),))
    assert not categorical.in_domain((np.array([-np.inf, -np.inf]),))
    assert not categorical.in_domain((np.array([0.0, np.inf]),))


# Densities


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


def wishart_logpdf(precision, scale, dof):
    """SciPy's density, W(S^-1, nu)."""
    return densities.wishart(dof, np.linalg.inv(scale)).logpdf(precision)


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


# Divergences


@every_family
@every_batch
def test_kl_is_positive_and_zero_between_equals(name, batch):
    family, q = make(name, batch)
    p = make(name, batch, seed=15)[1]
    assert np.shape(kl(family, q, p)) == batch
    assert np.all(kl(family, q, p) > 1e-3)
    np.testing.assert_allclose(kl(family, q, q), 0.0, atol=1e-12)


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


# Draws


@every_family
def test_draws_have_the_expected_statistics(name):
    family, natparams = make(name, (2,))
    draws = family.sample(natparams, 19, 20000)
    stats = family.stats(draws, **STATS_OPTIONS.get(name, {}))
    for stat, expected in zip(stats, family.expected_stats(natparams), strict=True):
        assert stat.shape == (20000, *expected.shape)
        error = np.std(stat, axis=0) / np.sqrt(len(stat))
        assert np.all(np.abs(np.mean(stat, axis=0) - expected) < 4 * error)


@every_family
def test_draws_follow_the_seed_and_the_size(name):
    family, natparams = make(name, (2,))

    def drawn(size, rng):
        x = family.sample(natparams, rng, size)
        return x if isinstance(x, tuple) else (x,)

    single = drawn((), 20)
    assert_all_close(single, drawn((), np.random.default_rng(20)), 0.0)
    for one, many in zip(single, drawn((4, 3), 20), strict=True):
        assert many.shape == (4, 3, *one.shape)


def test_categorical_never_draws_a_forbidden_state():
    potentials = np.array([-np.inf, 0.0, -np.inf, 1e-9, -np.inf])
    states = categorical.sample((potentials,), 21, 10000)
    assert states.dtype == np.int64
    assert set(states) == {1, 3}


def test_sparse_dirichlet_draws_are_probabilities():
    """Gamma draws of alpha = 0.05/15 underflow; their logarithms do not."""
    probs = dirichlet.sample(dirichlet.from_standard(np.full(15, 0.05 / 15)), 22, 1000)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-12)
    assert np.mean(np.max(probs, axis=-1)) > 0.9


# Products

FAMILY = {"weights": dirichlet, "components": niw}


def random_product(seed):
    rng = np.random.default_rng(seed)
    return {"weights": random_dirichlet(rng, ()), "components": random_niw(rng, (4,))}


def test_product_adds_its_factors():
    q, p = random_product(23), random_product(24)
    total = kl(dirichlet, q["weights"], p["weights"])
    total += np.sum(kl(niw, q["components"], p["components"]))
    assert product.kl(FAMILY, q, p) == pytest.approx(total, rel=1e-13)
    gradient = grad(lambda eta: product.log_normalizer(FAMILY, eta))(q)
    stats = product.expected_stats(FAMILY, q)
    for name in FAMILY:
        assert_all_close(stats[name], gradient[name], 1e-10)
    draws = product.sample(FAMILY, q, 25, 2)
    assert draws["weights"].shape == (2, 4)
    assert draws["components"][0].shape == (2, 4, 3)


def test_natural_gradient_of_the_kl_is_the_difference():
    """In the expected statistics, the gradient of KL(q || p) is eta_q - eta_p."""
    q, p = random_product(26), random_product(27)
    gradient = grad(lambda eta: product.kl(FAMILY, eta, p))(q)
    vjp, _ = make_vjp(lambda eta: box_tuple(niw.expected_stats(eta)), q["components"])
    pairs = zip(q["components"], p["components"], strict=True)
    assert_all_close(
        vjp(tuple(eta_q - eta_p for eta_q, eta_p in pairs)),
        gradient["components"],
        1e-9,
    )


def test_product_domain_and_empty_product():
    q = random_product(28)
    assert product.in_domain(FAMILY, q)
    assert not product.in_domain(FAMILY, {**q, "weights": (-2.0 * np.ones(4),)})
    assert product.expected_stats({}, {}) == {}
    assert product.sample({}, {}, 0) == {}
    assert product.kl({}, {}, {}) == product.log_normalizer({}, {}) == 0.0
    assert product.in_domain({}, {})


# Free coordinates of messages

FREE = ("dirichlet", "niw", "mniw")
every_message = pytest.mark.parametrize("name", FREE)


def potentials(name, message):
    """What of a message the law of x depends on: of NIW constants their sum alone."""
    if name != "niw":
        return message
    J, h, quadratic, half_log_det = message
    return J, h, quadratic + half_log_det


def random_coordinates(name, batch, seed=3, size=1.0):
    """Coordinates that no message gave rise to, what is above diagonals included."""
    family, natparams = make(name, batch)
    like = family.to_free(family.expected_stats(natparams))
    rng = np.random.default_rng(seed)
    return tuple(size * rng.standard_normal(np.shape(part)) for part in like)


@every_message
@every_batch
def test_round_trip_of_messages_through_free_coordinates(name, batch):
    family, natparams = make(name, batch)
    message = family.expected_stats(natparams)
    coordinates = family.to_free(message)
    assert type(coordinates) is tuple
    again = family.from_free(coordinates)
    assert_all_close(potentials(name, again), potentials(name, message), 1e-12)
    assert_all_close(family.to_free(again), coordinates, 1e-11)


@every_message
@every_batch
@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_any_free_coordinates_are_a_proper_message(name, batch, size):
    """A potential with an integral: of pairs one that adds precision to x, too."""
    family, _ = make(name, batch)
    coordinates = random_coordinates(name, batch, size=size)
    message = family.from_free(coordinates)
    assert all(np.all(np.isfinite(part)) for part in message)
    if name == "niw":
        assert gaussian.in_domain(message[:2])
    if name == "mniw":
        J11, J12, J22, _ = message
        assert_all_close((J11,), (np.swapaxes(J11, -1, -2),), 1e-15)
        J12 = J12 / 2
        rows = [
            np.concatenate([J11, J12], axis=-1),
            np.concatenate([np.swapaxes(J12, -1, -2), J22], axis=-1),
        ]
        assert np.all(np.linalg.eigvalsh(-np.concatenate(rows, axis=-2)) > 0)
    roots = {"dirichlet": (), "niw": (1,), "mniw": (1, 2)}[name]
    lower = tuple(
        np.tril(part) if i in roots else part for i, part in enumerate(coordinates)
    )
    for a, b in zip(family.from_free(lower), message, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_free_coordinates_of_gaussians_are(rng):
    """Mean, root of the precision, and log of the integral: 0 of a density."""
    mean, precision = rng.standard_normal((4, 3)), positive_definite(rng, 4, 3, 3)
    got, root, log_weight = niw.to_free(niw.stats((mean, precision)))
    assert_all_close((got,), (mean,), 1e-12)
    factor = np.linalg.cholesky(precision)
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    np.testing.assert_allclose(np.diagonal(root, axis1=-2, axis2=-1), np.log(diagonal))
    np.testing.assert_array_equal(np.tril(root, -1), np.tril(factor, -1))
    np.testing.assert_array_equal(np.triu(root, 1), 0.0)
    assert np.max(np.abs(log_weight)) < 1e-12
    J, h, quadratic, half_log_det = message = niw.expected_stats(make("niw", (4,))[1])
    integral = gaussian.log_normalizer((J, h)) - 1.5 * np.log(2 * np.pi)
    want = integral + quadratic + half_log_det
    assert_all_close((niw.to_free(message)[2],), (want,), 1e-12)


def test_what_free_coordinates_of_dynamics_are():
    """A, the precision of x' given x, what A's uncertainty adds to that of x."""
    _, natparams = make("mniw", (4,))
    M, K, _, _ = mniw.to_standard(natparams)
    J11, J12, J22, half_log_det = message = mniw.expected_stats(natparams)
    dynamics, root, rest, log_weight = mniw.to_free(message)
    assert_all_close((dynamics,), (M,), 1e-12)
    assert_all_close((from_free_root(root)[0],), (-2 * J22,), 1e-12)
    assert_all_close((from_free_root(rest)[0],), (3 * K,), 1e-10)
    half = 0.5 * np.linalg.slogdet(-2 * J22)[1]
    assert_all_close((log_weight,), (half_log_det - half,), 1e-12)


@every_message
def test_gradients_of_free_coordinates_are_differences(name):
    family, _ = make(name, (2,))
    coordinates = random_coordinates(name, (2,))

    def message(*parts):
        return [anp.concatenate([anp.ravel(x) for x in family.from_free(parts)])]

    check_gradients(message, coordinates, np.random.default_rng(4), rtol=1e-9)


def test_messages_without_an_integral_have_no_coordinates():
    J, *rest = niw.expected_stats(make("niw")[1])
    with pytest.raises(np.linalg.LinAlgError):
        niw.to_free((-J, *rest))
    J11, J12, J22, constant = mniw.expected_stats(make("mniw")[1])
    with pytest.raises(np.linalg.LinAlgError):
        mniw.to_free((J11, J12, -J22, constant))
    with pytest.raises(np.linalg.LinAlgError):
        mniw.to_free((0.1 * J11, J12, J22, constant))
    with pytest.raises(np.linalg.LinAlgError):
        free_root(-np.eye(2))


def test_product_of_free_coordinates():
    families = {name: CASES[name][0] for name in FREE}
    message = product.expected_stats(
        families, {name: make(name, (2,))[1] for name in FREE}
    )
    coordinates = product.to_free(families, message)
    again = product.from_free(families, coordinates)
    assert set(coordinates) == set(again) == set(FREE)
    for name, family in families.items():
        assert_all_close(coordinates[name], family.to_free(message[name]), 0.0)
        got, want = potentials(name, again[name]), potentials(name, message[name])
        assert_all_close(got, want, 1e-12)
