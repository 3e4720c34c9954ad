"""Student-t mixtures without networks: textbook updates and steps of the bound."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp, multigammaln

from svae import GMM, SVI, StudentMixture, data
from svae.autodiff.trees import to_vector
from svae.conjugate.exact_models import Known
from svae.estimators.svi import take_step
from svae.families import niw, product
from svae.objective.bound import bound_and_gradients
from svae.objective.model import initial_encoder
from svae.testing import (
    assert_close,
    latent_model,
    relative_error,
)
from tests.helpers.problems import problem
from tests.helpers.students import rows, student_points


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
