"""Student-t mixtures: SciPy's density, explicit scales, textbook updates, recovery."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import jacobian
from scipy.integrate import quad
from scipy.special import digamma, gammaln, logsumexp, multigammaln
from scipy.stats import f as f_law
from scipy.stats import gamma, kstest, multivariate_t

import svae
from svae import GMM, SVAE, SVI, StudentMixture, data
from svae.autodiff.trees import from_vector, leaves, rebuild, to_vector, tree_map
from svae.autodiff.vjp import trace
from svae.conjugate import extrapolate
from svae.conjugate.exact_models import Known
from svae.estimators.svi import take_step
from svae.families import gaussian, niw, product
from svae.models.inference import structured
from svae.models.inference.mixture import MixtureStatistics
from svae.objective.batch import Batch
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import local_terms
from svae.objective.model import initial_encoder
from svae.testing import (
    assert_close,
    latent_model,
    local_problem,
    relative_error,
    typical_natparams,
    typical_theta,
)
from svae.testing.problems import STUDENT
from tests.helpers.problems import central_difference, problem, shifted, symmetric_basis

both_students = pytest.mark.parametrize("name", STUDENT)


def medians(natparams):
    """Median (K,) of each q(nu), and the width of q(log nu)."""
    mean, cov = gaussian.to_standard(natparams["dof"])
    return np.exp(mean[:, 0]), np.sqrt(cov[:, 0, 0])


def student_points(rng, number, dofs, distance=8.0):
    """Points of two clusters with unit scale matrices, and their labels."""
    labels = rng.integers(2, size=number)
    nu = np.asarray(dofs)[labels]
    scales = rng.gamma(0.5 * nu) / (0.5 * nu)
    x = rng.standard_normal((number, 2)) / np.sqrt(scales)[:, None]
    x[:, 0] += distance * (labels - 0.5)
    return x, labels


def rows(x):
    """Rows of a mixture as one batch."""
    return data.batch([x], data.windows([x], 1))


# ------------------------------------------------------------------- densities


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
    rows = latent.switch.rows(stats)
    g = np.array([0.3, 2.0, 40.0])
    closed = latent.switch.potentials(-0.5 * g, rows)
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
    rows, g = latent.switch.rows(stats), np.array([7.0, 1.5])
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

        potential = latent.switch.potentials(-0.5 * g, rows)[k]
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


# ------------------------------------------------------------ textbook updates


def vb_student_step(x, q, prior, nu):
    """Variational Bayes of a Student-t mixture (Archambeau and Verleysen 2007).

    Dense loops in standard parameters: q and prior are (alpha, m, beta, S, n) of a
    Dirichlet and of Wisharts with scale S^-1.  Returns the next q, and the bound at
    the optimal q(z, u), which has explicit Gamma factors.
    """
    N, D = x.shape
    alpha, m, beta, S, n = q
    alpha0, m0, beta0, S0, n0 = prior
    K = len(alpha)
    terms, scales, gammas = np.zeros((N, K)), np.zeros((N, K)), {}
    for k in range(K):
        log_det = sum(digamma((n[k] + 1 - i) / 2) for i in range(1, D + 1))
        log_det += D * np.log(2) - np.linalg.slogdet(S[k])[1]
        P = np.linalg.inv(S[k])
        for i in range(N):
            d = x[i] - m[k]
            g = D / beta[k] + n[k] * d @ P @ d
            a, b = (nu + D) / 2, (nu + g) / 2
            u, log_u = a / b, digamma(a) - np.log(b)
            normal = D / 2 * (log_u - np.log(2 * np.pi)) + log_det / 2 - u * g / 2
            p_u = nu / 2 * np.log(nu / 2) - gammaln(nu / 2)
            p_u += (nu / 2 - 1) * log_u - nu / 2 * u
            q_u = a * np.log(b) - gammaln(a) + (a - 1) * log_u - b * u
            log_pi = digamma(alpha[k]) - digamma(alpha.sum())
            terms[i, k], scales[i, k] = log_pi + normal + p_u - q_u, u
    r = np.exp(terms - logsumexp(terms, axis=1, keepdims=True))
    gammas = np.sum(r * (terms - np.log(r)))
    w = r * scales
    new = [[], [], [], [], []]
    for k in range(K):
        W = w[:, k].sum()
        mean = w[:, k] @ x / W
        C = (x - mean).T @ ((x - mean) * w[:, k, None])
        between = beta0[k] * W / (beta0[k] + W)
        new[0].append(alpha0[k] + r[:, k].sum())
        new[1].append((beta0[k] * m0[k] + W * mean) / (beta0[k] + W))
        new[2].append(beta0[k] + W)
        new[3].append(S0[k] + C + between * np.outer(mean - m0[k], mean - m0[k]))
        new[4].append(n0[k] + r[:, k].sum())
    divergence = dirichlet_kl(alpha, alpha0)
    for k in range(K):
        divergence += normal_wishart_kl(
            *(part[k] for part in q[1:]), *(part[k] for part in prior[1:])
        )
    return [np.array(part) for part in new], gammas - divergence


def dirichlet_kl(a, b):
    logs = digamma(a) - digamma(a.sum())
    constants = gammaln(a.sum()) - gammaln(a).sum()
    constants -= gammaln(b.sum()) - gammaln(b).sum()
    return constants + (a - b) @ logs


def normal_wishart_kl(m, beta, S, n, m0, beta0, S0, n0):
    D, P = len(m), np.linalg.inv(S)
    normal = D / 2 * (np.log(beta / beta0) + beta0 / beta - 1)
    normal += beta0 * n / 2 * (m - m0) @ P @ (m - m0)
    log_det = sum(digamma((n + 1 - i) / 2) for i in range(1, D + 1))
    log_det += D * np.log(2) - np.linalg.slogdet(S)[1]

    def log_constant(S, n):
        half = n / 2 * np.linalg.slogdet(S)[1]
        return half - n * D / 2 * np.log(2) - multigammaln(n / 2, D)

    of_wishart = log_constant(S, n) - log_constant(S0, n0)
    of_wishart += (n - n0) / 2 * log_det - n / 2 * np.trace((S - S0) @ P)
    return normal + of_wishart


def standard(natparams):
    """Return (alpha, m, beta, S, n)."""
    alpha = natparams["weights"][0] + 1
    return [alpha, *map(np.array, niw.to_standard(natparams["components"]))]


@pytest.mark.parametrize("dof", [0.8, 5.0])
def test_updates_are_those_of_archambeau_and_verleysen(dof, rng):
    x, _ = student_points(rng, 40, [2.0, 20.0], 4.0)
    latent = StudentMixture(3, 2, dof=dof, initial_spread=1.0)
    prior, q = latent.prior(), latent.initial_posterior(rng)
    mine, fixed = standard(q), standard(prior)
    for _ in range(8):
        mine, value = vb_student_step(x, mine, fixed, dof)
        q, record = take_step(Known(latent), q, prior, rows(x), 1.0, 1.0)
        assert record["objective"] == pytest.approx(value, rel=1e-10)
        assert_close(standard(q), mine, 1e-8)
        assert record["backtracks"] == 0


def test_responsibilities_have_heavy_tails(rng):
    """Published code has the Gaussian exponent, which a far point tells apart.

    With equal weights and dof, a wide and a narrow component of the same centre are
    almost as probable far away: r ~ |Lambda|^(-nu/2) there, not 0 and 1.
    """
    latent = StudentMixture(2, 2, dof=1.0)
    precisions = np.array([1.0, 4.0])[:, None, None] * np.eye(2)
    theta = {
        "weights": np.array([0.5, 0.5]),
        "components": (np.zeros((2, 2)), precisions),
    }
    stats = product.stats(latent.family, theta)
    far = np.array([[[1e5, -1e5]]])
    _, _, states, _ = Known(latent).posterior(stats, data.Windows(far, np.array([1])))
    # |Lambda|^(1/2) g^(-(nu + D)/2), that is 1 : 4 * 4^-1.5
    np.testing.assert_allclose(states[0, 0], [2 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("dof", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("step_size", [1.0, 0.3])
def test_steps_with_known_degrees_never_lower_the_bound(dof, step_size, rng):
    x, _ = student_points(rng, 80, [1.0, 10.0], 3.0)
    x[3] = np.nan
    latent = StudentMixture(3, 2, dof=dof, initial_spread=1.0)
    prior, q = latent.prior(), latent.initial_posterior(rng)
    bounds = []
    for _ in range(40):
        q, record = take_step(Known(latent), q, prior, rows(x), 1.0, step_size)
        bounds.append(record["objective"])
        assert record["backtracks"] == 0
    assert bounds[-1] > bounds[0] + 1.0
    assert np.all(np.diff(bounds) >= -1e-11 * np.abs(bounds[0]))


@pytest.mark.parametrize("dof", [0.01, 1e4])
def test_steps_of_learned_degrees_are_halved_where_they_must(dof, rng):
    """From far-away degrees of freedom a whole step would leave the domain, or fall."""
    x, _ = student_points(rng, 400, [1.0, 1.0], 6.0)
    latent = StudentMixture(2, 2, dof=dof, learn_dof=True)
    model, prior = Known(latent), latent.prior()
    q = StudentMixture(2, 2, dof=5.0).initial_posterior(rng)
    for _ in range(5):
        q, _ = take_step(
            Known(StudentMixture(2, 2)),
            q,
            StudentMixture(2, 2).prior(),
            rows(x),
            1.0,
            1.0,
        )
    q = q | {"dof": prior["dof"]}
    bounds, halvings = [], []
    for _ in range(60):
        q, record = take_step(model, q, prior, rows(x), 1.0, 1.0)
        bounds.append(record["objective"])
        halvings.append(record["backtracks"])
        assert product.in_domain(latent.family, q)
        assert record["step_size"] == 0.5 ** record["backtracks"]
    assert np.all(np.diff(bounds) >= -1e-9 * np.abs(bounds[0]))
    assert bounds[-1] > bounds[0]
    assert sum(halvings) > 0


# --------------------------------------------------------- limits of many degrees


def test_with_many_degrees_of_freedom_it_is_the_gaussian_mixture(rng):
    heavy, light = StudentMixture(3, 2, dof=1e8, tolerance=1e-12), latent_model("gmm")
    light = GMM(3, 2, tolerance=1e-12)
    model, parameters, prior, batch, noise = problem("gmm")
    for inference in ("svae", "sin"):
        steps = []
        for latent in (heavy, light):
            own = model._replace(latent=latent, inference=inference)
            encoder = initial_encoder(own, parameters.natparams, parameters.encoder)
            own_parameters = parameters._replace(encoder=encoder)
            steps.append(bound_and_gradients(own, own_parameters, prior, batch, noise))
        got, want = steps
        assert relative_error(np.array(got.bound), np.array(want.bound)) < 1e-6
        assert relative_error(got.states, want.states) < 1e-6
        for a, b in zip(got.gradients, want.gradients, strict=True):
            assert relative_error(to_vector(a), to_vector(b)) < 1e-6
    x = rng.standard_normal((60, 2)) + 3.0 * rng.integers(2, size=(60, 1))
    fits = [SVI(latent).fit(x, num_steps=20, rng=0) for latent in (heavy, light)]
    got, want = (to_vector(fit.natparams_) for fit in fits)
    assert relative_error(got, want) < 1e-6
    assert fits[0].score(x) == pytest.approx(fits[1].score(x), rel=1e-6)
    draws = [fit.sample(50, rng=1) for fit in fits]
    assert relative_error(*draws) < 1e-3


# ------------------------------------------------------- structured inference


def distance(x_mean, x_cov, component):
    """E (x - mu)' Lambda (x - mu) under a Gaussian q(x) and an NIW q(mu, Lambda)."""
    m, beta, S, n = component
    P = np.linalg.inv(S)
    d = x_mean - m
    return len(m) / beta + n * (d @ P @ d + np.trace(P @ x_cov))


def expected_half_log_det(component):
    _, _, S, n = component
    D = len(S)
    total = sum(digamma((n + 1 - i) / 2) for i in range(1, D + 1))
    return 0.5 * (total + D * np.log(2) - np.linalg.slogdet(S)[1])


def log_student_of_distance(g, half_log_det, nu, dim):
    return (
        gammaln(0.5 * (nu + dim))
        - gammaln(0.5 * nu)
        - 0.5 * dim * np.log(nu * np.pi)
        + half_log_det
        - 0.5 * (nu + dim) * np.log1p(g / nu)
    )


def log_gaussian(x, mean, cov):
    d = x - mean
    quadratic = d @ np.linalg.solve(cov, d)
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * cov)[1])


@pytest.mark.parametrize("tails", ["augmented", "sampled"])
def test_divergence_of_structured_inference_by_brute_force(tails, rng):
    """Gaussians in standard parameters, K densities for every point."""
    latent = latent_model("student", tails=tails)
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    theta = typical_theta(latent.graph, rng)
    graph = product.stats(latent.graph.family, theta)
    _, (J, h), _ = local_problem(latent, rng)
    noise = rng.standard_normal((4, 5, 1, 2))
    local = structured.infer(latent, graph, stats, (J, h), noise)

    alpha = natparams["weights"][0] + 1
    log_pi = digamma(alpha) - digamma(alpha.sum())
    components = list(zip(*niw.to_standard(natparams["components"]), strict=True))
    for i in range(4):
        V = np.diag(-0.5 / J[i, 0])
        y, logs, kls, means = V @ h[i, 0], [], [], []
        for k in range(3):
            mean, precision = (part[k] for part in theta["components"])
            cov = np.linalg.inv(precision)
            logs.append(np.log(theta["weights"][k]) + log_gaussian(y, mean, V + cov))
            q_cov = np.linalg.inv(precision + np.linalg.inv(V))
            q_mean = q_cov @ (precision @ mean + h[i, 0])
            entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * q_cov)[1]
            half = expected_half_log_det(components[k])
            at = [(q_mean, q_cov)]
            if tails == "sampled":
                L = np.linalg.cholesky(np.linalg.inv(q_cov))
                draws = q_mean + np.linalg.solve(L.T, noise[i, :, 0].T).T
                at = [(draw, np.zeros((2, 2))) for draw in draws]
            students = [
                log_student_of_distance(distance(*x, components[k]), half, 4.0, 2)
                for x in at
            ]
            kls.append(-entropy - log_pi[k] - np.mean(students))
            means.append(q_mean)
        r = np.exp(logs - logsumexp(logs))
        assert relative_error(local.states[i, 0], r) < 1e-11
        assert relative_error(local.mean[i, 0], r @ np.array(means)) < 1e-11
        assert local.kl[i] == pytest.approx(r @ (kls + np.log(r)), rel=1e-11)


def structured_problem(name, tails, seed=0):
    """Return a problem with a graph of its own, away from the message of q(theta)."""
    model, parameters, prior, batch, noise = problem(name, seed)
    rng = np.random.default_rng(seed + 10)
    latent = latent_model(name, tails=tails)
    model = model._replace(latent=latent, inference="sin")
    other = typical_natparams(latent, rng)
    encoder = initial_encoder(model, other, parameters.encoder)
    graph = tree_map(lambda x: x + 0.1 * rng.standard_normal(x.shape), encoder["graph"])
    parameters = parameters._replace(encoder=encoder | {"graph": graph})
    return model, parameters, prior, batch, noise


def any_problem(name, kind):
    return problem(name) if kind == "mean-field" else structured_problem(name, kind)


every_inference = pytest.mark.parametrize(
    "kind", ["mean-field", "augmented", "sampled"]
)


@both_students
@every_inference
def test_gradients_of_networks_are_differences_of_the_bound(name, kind, rng):
    model, parameters, *rest = any_problem(name, kind)
    gradients = bound_and_gradients(model, parameters, *rest).gradients
    for role in ("encoder", "decoder"):
        tree = getattr(parameters, role)
        for _ in range(2):
            draw = rng.standard_normal(to_vector(tree).size)

            def value(step, role=role, tree=tree):
                moved = parameters._replace(**{role: shifted(tree, step)})
                return bound(model, moved, *rest).objective

            want = central_difference(value, draw)
            got = to_vector(getattr(gradients, role)) @ draw
            assert got == pytest.approx(want, rel=1e-6)
            assert abs(want) > 0.1


@both_students
@every_inference
def test_natural_gradient_is_inverse_fisher_times_differences(name, kind):
    """That of the degrees of freedom too, to which nothing is conjugate."""
    model, parameters, prior, batch, noise = any_problem(name, kind)
    family, natparams = model.latent.family, parameters.natparams
    basis = symmetric_basis(natparams)

    def objective(direction):
        moved = parameters._replace(natparams=shifted(natparams, direction))
        return bound(model, moved, prior, batch, noise).objective

    def statistics(direction):
        stats = product.expected_stats(family, shifted(natparams, direction))
        return basis.T @ to_vector(stats)

    slopes = np.array([central_difference(objective, d) for d in basis.T])
    fisher = np.array([central_difference(statistics, d) for d in basis.T])
    want = from_vector(natparams, basis @ np.linalg.solve(fisher, slopes))
    got = bound_and_gradients(model, parameters, prior, batch, noise).gradients
    for factor in family:
        pair = to_vector(got.natparams[factor]), to_vector(want[factor])
        assert relative_error(*pair) < 1e-6, factor
    if kind != "mean-field":
        alone = bound_and_gradients(
            model, parameters, prior, batch, noise, "conjugate"
        ).gradients
        assert relative_error(to_vector(alone.natparams), to_vector(got.natparams)) < (
            1e-12
        )


# ----------------------------------------------------------------- mean field


def explicit_surrogate(latent, natparams, node, q):
    """KL(q(x) q(z, u) || exp E log p) - E <r, t(x)> with every factor explicit.

    ``q`` is (logits (K,), mean (D,), root of the covariance, log a (K,), log b (K,)),
    q(u | z = k) = Gam(a_k, b_k).
    """
    logits, mean, root, log_a, log_b = q
    log_r = logits - logsumexp(logits)
    r, cov, dim, nu = np.exp(log_r), root @ root.T, len(mean), latent.dof
    alpha = natparams["weights"][0] + 1
    log_pi = digamma(alpha) - digamma(alpha.sum())
    J, h = np.diag(node[0]), node[1]
    evidence = np.trace(J @ cov) + mean @ J @ mean + h @ mean
    value = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1] - evidence
    components = zip(*niw.to_standard(natparams["components"]), strict=True)
    for k, component in enumerate(components):
        a, b = np.exp(log_a[k]), np.exp(log_b[k])
        u, log_u = a / b, digamma(a) - np.log(b)
        g, half = distance(mean, cov, component), expected_half_log_det(component)
        normal = 0.5 * dim * (log_u - np.log(2 * np.pi)) + half - 0.5 * u * g
        p_u = 0.5 * nu * np.log(0.5 * nu) - gammaln(0.5 * nu)
        p_u += (0.5 * nu - 1) * log_u - 0.5 * nu * u
        q_u = a * np.log(b) - gammaln(a) + (a - 1) * log_u - b * u
        value += r[k] * (log_r[k] + q_u - log_pi[k] - normal - p_u)
    return value, evidence


def test_mean_field_is_the_explicit_surrogate_and_stationary(rng):
    latent = latent_model("student")
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    _, (J, h), _ = local_problem(latent, rng)
    local = latent.infer(stats, (J, h))
    for n in range(4):
        mean = local.mean[n, 0]
        second = local.second_moment[n, 0]
        second = np.diag(second) if second.ndim == 1 else second
        cov = second - np.outer(mean, mean)
        components = zip(*niw.to_standard(natparams["components"]), strict=True)
        g = np.array([distance(mean, cov, component) for component in components])
        q = (
            np.log(local.states[n, 0]),
            mean,
            np.linalg.cholesky(cov),
            np.full(3, np.log(0.5 * (latent.dof + 2))),
            np.log(0.5 * (latent.dof + g)),
        )

        def surrogate(vector, n=n, q=q):
            moved = from_vector(q, to_vector(q) + vector)
            return explicit_surrogate(latent, natparams, (J[n, 0], h[n, 0]), moved)

        value, evidence = surrogate(np.zeros(to_vector(q).size))
        assert local.kl[n] == pytest.approx(value + evidence, rel=1e-10)
        assert local.log_normalizer[n] == pytest.approx(-value, rel=1e-10)
        for _ in range(10):
            d = rng.standard_normal(to_vector(q).size)
            values = [surrogate(s * 1e-2 * d)[0] for s in (1, -1)]
            assert min(values) > value
            assert abs(central_difference(lambda s: surrogate(s)[0], d)) < 1e-8


@both_students
def test_the_hessian_of_the_discrete_block_is_symmetric(name, rng):
    """And positive semidefinite: probabilities times scales are a gradient."""
    latent = latent_model(name)
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    switch, rows = latent.switch, latent.switch.rows(stats)

    def log_normalizer(u):
        logs = stats["weights"][0] + switch.potentials(u, rows)
        return anp.log(anp.sum(anp.exp(logs)))

    def statistics(u):
        logs = stats["weights"][0] + switch.potentials(u, rows)
        return anp.exp(logs - anp.log(anp.sum(anp.exp(logs)))) * switch.gain(u, rows)

    for _ in range(5):
        u = -rng.gamma(1.0, 3.0, 3)
        assert_close(statistics(u), jacobian(log_normalizer)(u), 1e-12)
        H = jacobian(statistics)(u)
        assert relative_error(H, H.T) < 1e-12
        eigenvalues = np.linalg.eigvalsh(H)
        assert eigenvalues.min() > 0  # not a constant: it is not probabilities alone


# --------------------------------------------------------------- missing values


@both_students
@every_inference
def test_rows_without_data_cost_nothing_and_tell_nothing(name, kind):
    model, parameters, prior, batch, noise = any_problem(name, kind)
    observed = np.ones(batch.values.shape, dtype=bool)
    observed[1] = False
    observed[2, 0, 1] = False
    gappy = replace(
        batch, observed=observed, values=np.where(observed, batch.values, 0)
    )
    kept = np.array([0, 2, 3])
    fewer = Batch(gappy.values[kept], None, observed[kept], batch.scale)
    got = bound_and_gradients(model, parameters, prior, gappy, noise)
    noise = noise._replace(latents=noise.latents[kept])
    want = bound_and_gradients(model, parameters, prior, fewer, noise)
    assert relative_error(np.array(got.bound), np.array(want.bound)) < 1e-12
    for a, b in zip(got.gradients, want.gradients, strict=True):
        assert relative_error(to_vector(a), to_vector(b)) < 1e-10


@both_students
def test_a_row_without_data_has_the_prior_of_its_states(name, rng):
    latent = latent_model(name)
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    _, (J, h), _ = local_problem(latent, rng)
    J[1] = h[1] = 0.0
    observed = (np.arange(4) != 1)[:, None]
    local = latent.infer(stats, (J, h), observed=observed)
    total = logsumexp(stats["weights"][0])
    assert_close(local.states[1, 0], np.exp(stats["weights"][0] - total), 1e-12)
    assert local.log_normalizer[1] == pytest.approx(total, rel=1e-12)
    assert local.kl[1] == pytest.approx(-total, rel=1e-12)


# ------------------------------------------------------------------- sampling


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


# -------------------------------------------------------------- learned degrees


def test_no_data_leave_the_prior(rng):
    latent = StudentMixture(3, 2, dof=7.0, learn_dof=True)
    prior, q = latent.prior(), typical_natparams(latent, rng)
    median, width = medians(prior)
    assert_close([median, width], [np.full(3, 7.0), np.ones(3)], 1e-12)
    unobserved = np.zeros((5, 1, 1), bool)
    nothing = data.Windows(np.zeros((5, 1, 2)), np.ones(5, dtype=int), unobserved)
    q, record = take_step(Known(latent), q, prior, nothing, 1.0, 1.0)
    assert_close(to_vector(q), to_vector(prior), 1e-12)
    assert record["backtracks"] == 0


def test_what_few_points_say_is_not_extrapolated_out_of_the_domain(rng):
    """A width above the prior's, for ten times the data, would be none."""
    latent = StudentMixture(2, 2, learn_dof=True)
    prior, q = latent.prior(), typical_natparams(latent, rng)
    wide = gaussian.from_standard(np.full((2, 1), 1.0), np.full((2, 1, 1), 2.0))
    for dof, scale in ((q["dof"], 10.0), (wide, 1.25)):
        seen = q | {"dof": dof}
        got = extrapolate(latent.family, prior, seen, 10.0)
        want = to_vector(prior) + scale * (to_vector(seen) - to_vector(prior))
        assert relative_error(to_vector(got), want) < 1e-12
        assert product.in_domain(latent.family, got)


def test_degrees_of_freedom_are_learned(rng):
    x, labels = student_points(rng, 6000, [3.0, 50.0], 14.0)
    model = SVI(StudentMixture(2, 2, learn_dof=True)).fit(x, num_steps=60, rng=0)
    median, width = medians(model.natparams_)
    order = np.argsort(median)
    low, high = median[order]
    assert abs(np.log(low / 3.0)) < 4 * width[order][0] < 0.25
    assert 15.0 < high < 200.0
    nmi = svae.metrics.normalized_mutual_information(labels, model.predict(x))
    assert nmi > 0.9
    assert np.all(np.diff(model.history_["objective"]) > -1e-6)
    # minibatches come to the same
    stochastic = SVI(StudentMixture(2, 2, learn_dof=True)).fit(
        x, num_steps=200, batch_size=300, rng=0
    )
    assert_close(np.sort(medians(stochastic.natparams_)[0]), np.sort(median), 0.25)


def test_widths_shrink_with_the_square_root_of_the_data(rng):
    x, _ = student_points(rng, 8000, [3.0, 3.0], 0.0)
    widths = []
    for number in (500, 8000):
        model = SVI(StudentMixture(1, 2, learn_dof=True))
        widths.append(medians(model.fit(x[:number], 30, rng=0).natparams_)[1][0])
    assert 3.2 < widths[0] / widths[1] < 4.8


@pytest.mark.slow
@pytest.mark.parametrize("dof, low, high", [(3.0, 2.5, 3.8), (50.0, 15.0, 200.0)])
def test_degrees_of_freedom_are_learned_behind_a_network(dof, low, high, rng):
    """Frames of five dimensions show all of x: heavy tails are those of x."""
    x, _ = student_points(rng, 3000, [dof, dof], 0.0)
    C = np.linalg.qr(rng.standard_normal((5, 5)))[0][:2]
    frames = x @ C + 0.1 * rng.standard_normal((3000, 5))
    latent = StudentMixture(1, 2, learn_dof=True)
    model = SVAE(latent, svae.Linear(), svae.Linear(), inference="sin")
    model.fit(frames, num_steps=1000, batch_size=200, learning_rate=2e-2, rng=0)
    median, width = medians(model.parameters_.natparams)
    assert low < median[0] < high
    assert width[0] < 0.5


# ------------------------------------------------------------------- the face


@pytest.mark.parametrize(
    "latent",
    [StudentMixture(2, 2, dof=3.0), StudentMixture(2, 2, learn_dof=True)],
    ids=["known", "learned"],
)
def test_the_face_of_svi(latent, rng, tmp_path):
    x, labels = student_points(rng, 300, [3.0, 3.0], 10.0)
    x[7] = np.nan
    model = SVI(latent).fit(x, num_steps=30, tolerance=1e-9, rng=0)
    assert set(model.history_) >= {"objective", "backtracks", "step_size"}
    posterior = model.infer(x)
    assert posterior.states.shape == (300, 2)
    assert posterior.elbo == pytest.approx(299 * model.score(x), rel=1e-12)
    kept = np.arange(300) != 7
    nmi = svae.metrics.normalized_mutual_information(
        labels[kept], model.predict(x)[kept]
    )
    assert nmi > 0.85
    # a single theta has a normalised density: the mean one is nearly the best
    assert model.score(x, theta="mean") > model.score(x)
    sample = model.sample(500, rng=1)
    assert sample.shape == (500, 2)
    np.testing.assert_array_equal(sample, model.sample(500, rng=1))
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert (type(loaded), loaded.latent) == (SVI, latent)
    assert loaded.score(x) == model.score(x)
    np.testing.assert_array_equal(loaded.sample(20, rng=3), model.sample(20, rng=3))
    with pytest.raises(ValueError, match="2 dimensions.*StudentMixture.*latent_dim=3"):
        SVI(StudentMixture(2, 3)).fit(x)


@pytest.mark.parametrize(
    "inference, options",
    [
        ("svae", {}),
        ("svae", {"learn_dof": True}),
        ("sin", {"learn_dof": True}),
        ("sin", {"learn_dof": True, "tails": "sampled"}),
    ],
)
def test_the_face_of_svae(inference, options, rng, tmp_path):
    x, _ = student_points(rng, 120, [3.0, 3.0], 6.0)
    x[4], x[9, 1] = np.nan, np.nan
    latent = StudentMixture(3, 2, **options)
    network = svae.MLP((8,))
    model = SVAE(latent, network, network, inference=inference)
    model.fit(x, num_steps=20, warmup=5, batch_size=30, rng=0)
    again = SVAE(latent, network, network, inference=inference)
    again.fit(x, num_steps=20, warmup=5, batch_size=30, rng=0)
    first = model.history_["objective"]
    np.testing.assert_array_equal(first, again.history_["objective"])
    assert np.all(np.isfinite(first)) and first[-5:].mean() > first[:5].mean()
    assert model.predict(x).shape == (120,)
    assert model.transform(x).shape == (120, 2)
    assert np.isfinite(model.score(x))
    tight = model.score(x, num_importance_samples=50)
    assert tight > model.score(x, num_samples=50)
    assert np.isfinite(model.score(x, num_importance_samples=5, theta="sample"))
    assert model.sample(7, rng=0).shape == (7, 2)
    completed = model.impute(x)
    assert np.all(np.isfinite(completed))
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert (loaded.latent, loaded.inference) == (latent, inference)
    assert loaded.score(x) == model.score(x)
    with pytest.raises(TypeError, match="rows of StudentMixture are independent"):
        model.forecast(x, 3)


@pytest.mark.parametrize("inference", ["svae", "sin"])
def test_importance_scores_grow_to_the_evidence(inference, rng):
    """Of a Student-t plus Gaussian noise: an integral over the scale."""
    y, variance = np.array([[0.3], [-2.5], [9.0]]), 0.05
    latent = StudentMixture(1, 1, dof=4.0)
    model = SVAE(latent, svae.Linear(), svae.Linear(), inference=inference)
    model.fit(y, num_steps=1, rng=0)
    encoder = {
        "location": (np.eye(1) / variance, np.zeros(1)),
        "log_scale": np.full(1, -np.log(variance)),
    }
    if inference == "sin":
        encoder = model.parameters_.encoder | {"network": encoder}
    decoder = {
        "location": (np.eye(1), np.zeros(1)),
        "log_scale": np.full(1, np.log(variance)),
    }
    q = typical_natparams(latent, rng)
    model.parameters_ = model.parameters_._replace(
        natparams=q, encoder=encoder, decoder=decoder
    )
    mean, precision = (part[0] for part in niw.mean(q["components"]))
    evidence = 0.0
    for (value,) in y:

        def density(u, value=value):
            spread = 1 / (precision[0, 0] * u) + variance
            normal = np.exp(-0.5 * (value - mean[0]) ** 2 / spread)
            return normal / np.sqrt(2 * np.pi * spread) * gamma(2, scale=0.5).pdf(u)

        pieces = ((0, 0.01), (0.01, 1), (1, 10), (10, 50))
        parts = [quad(density, *piece, epsabs=1e-13)[0] for piece in pieces]
        evidence += np.log(sum(parts)) / 3
    many = model.score(y, num_importance_samples=4000)
    assert many == pytest.approx(evidence, abs=0.02)
    assert model.score(y, 500) < evidence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dof": 0.0}, "dof must be a positive number, got 0.0"),
        ({"dof": -1.0}, "dof must be"),
        ({"dof": np.inf}, "dof must be"),
        ({"dof": np.nan}, "dof must be"),
        ({"tails": "heavy"}, "tails must be one of"),
        ({"num_states": 0}, "num_states must be"),
        ({"starts": ()}, "starts must be"),
    ],
)
def test_words_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        StudentMixture(**options)


@pytest.mark.filterwarnings("ignore:state 1 has 100 % of the frames")
def test_sampled_tails_need_a_structured_inference_network(rng):
    x = rng.standard_normal((20, 2))
    latent = StudentMixture(2, 2, tails="sampled")
    with pytest.raises(ValueError, match="inference='sin'"):
        SVAE(latent, svae.Linear(), svae.Linear()).fit(x, num_steps=1)
    # and known x have no samples
    SVI(latent).fit(x, num_steps=2, rng=0)


def test_structured_inference_has_no_warm_start(rng):
    model = SVAE(StudentMixture(2, 2), svae.Linear(), svae.Linear(), inference="sin")
    with pytest.raises(ValueError, match="warm_start.*inference='sin'.*no iterations"):
        model.fit(rng.standard_normal((20, 2)), num_steps=1, warm_start=True)
    assert not hasattr(model, "parameters_")


def test_terms_are_leaves_of_the_message(rng):
    """The bound is differentiable in every leaf of m, that of log nu included."""
    model, parameters, _, batch, noise = structured_problem(
        "learned-student", "augmented"
    )
    message = product.expected_stats(model.latent.family, parameters.natparams)

    def value(*boxes):
        _, local = local_terms(
            model,
            rebuild(message, boxes),
            parameters.encoder,
            parameters.decoder,
            batch,
            noise.latents,
        )
        return (anp.sum(local.kl),)

    pull_back, _ = trace(value, leaves(message))
    assert all(np.any(bar != 0) for bar in pull_back(1.0))
