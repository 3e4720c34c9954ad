"""Student-t mixtures: structured inference by brute force, and gradients."""

import numpy as np
import pytest
from scipy.special import digamma, gammaln, logsumexp

from svae.autodiff.trees import from_vector, to_vector
from svae.families import niw, product
from svae.models.evidence import Evidence
from svae.models.inference import structured
from svae.objective.bound import bound, bound_and_gradients
from svae.testing import (
    latent_model,
    local_problem,
    relative_error,
    typical_natparams,
    typical_theta,
)
from tests.helpers.problems import central_difference, shifted, symmetric_basis
from tests.helpers.students import (
    any_problem,
    both_students,
    distance,
    every_inference,
    expected_half_log_det,
)


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
    local = structured.infer(latent, graph, stats, Evidence(J, h), noise)

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
