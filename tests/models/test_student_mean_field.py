"""Student-t mixtures: the mean field of explicit scales, and rows without data."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import jacobian
from scipy.special import digamma, gammaln, logsumexp

from svae.autodiff.trees import from_vector, to_vector
from svae.families import niw, product
from svae.models.evidence import Evidence
from svae.objective.batch import Batch
from svae.objective.bound import bound_and_gradients
from svae.testing import (
    assert_close,
    latent_model,
    local_problem,
    relative_error,
    typical_natparams,
)
from tests.helpers.problems import central_difference
from tests.helpers.students import (
    any_problem,
    both_students,
    distance,
    every_inference,
    expected_half_log_det,
)


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
    local = latent.infer(stats, Evidence(J, h))
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
    switch, rows = latent.switch, latent.switch.natparams(stats)

    def log_normalizer(u):
        logs = stats["weights"][0] + switch.state_potentials(u, rows)
        return anp.log(anp.sum(anp.exp(logs)))

    def statistics(u):
        logs = stats["weights"][0] + switch.state_potentials(u, rows)
        return anp.exp(logs - anp.log(anp.sum(anp.exp(logs)))) * switch.gain(u, rows)

    for _ in range(5):
        u = -rng.gamma(1.0, 3.0, 3)
        assert_close(statistics(u), jacobian(log_normalizer)(u), 1e-12)
        H = jacobian(statistics)(u)
        assert relative_error(H, H.T) < 1e-12
        eigenvalues = np.linalg.eigvalsh(H)
        assert eigenvalues.min() > 0  # not a constant: it is not probabilities alone


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
    local = latent.infer(stats, Evidence(J, h, observed=observed))
    total = logsumexp(stats["weights"][0])
    assert_close(local.states[1, 0], np.exp(stats["weights"][0] - total), 1e-12)
    assert local.log_normalizer[1] == pytest.approx(total, rel=1e-12)
    assert local.kl[1] == pytest.approx(-total, rel=1e-12)
