"""The bound beside exact evidences, and its parts."""

from dataclasses import replace

import numpy as np
import pytest

from svae import GMM, LDS, Linear
from svae.autodiff.operations import inner
from svae.autodiff.trees import leaves, to_vector
from svae.families import mniw, niw, product
from svae.models.evidence import Evidence
from svae.networks import recognize
from svae.objective.batch import Batch
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import local_terms
from svae.objective.model import Parameters
from svae.testing import relative_error, typical_natparams
from tests.helpers.bounds import NAMES, NETWORKS, quadrature_noise
from tests.helpers.problems import (
    exact_networks,
    generative,
    problem,
    shifted,
)


def gaussian_log_density(y, mean, cov):
    error = y - mean
    quadratic = error @ np.linalg.solve(cov, error)
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * cov)[1])


def exact_lds_log_evidence(y, init, dynamics, decoder):
    """Return log p(y | theta) of a linear-Gaussian LDS by its dense joint Gaussian."""
    (mean, cov), (A, Q), (C, d, R) = init, dynamics, decoder
    means, covs = [mean], [cov]
    for _ in y[1:]:
        means.append(A @ means[-1])
        covs.append(A @ covs[-1] @ A.T + Q)
    T, P = y.shape
    joint = np.zeros((T, P, T, P))
    for s in range(T):
        cross = covs[s]
        for t in range(s, T):
            joint[t, :, s] = C @ cross @ C.T
            joint[s, :, t] = joint[t, :, s].T
            cross = A @ cross
        joint[s, :, s] += R
    stacked = np.concatenate([C @ m + d for m in means])
    return gaussian_log_density(y.ravel(), stacked, joint.reshape(T * P, T * P))


def local_bound(model, stats, encoder, decoder, values, noise):
    batch = Batch(values)
    reconstruction, local = local_terms(
        model, stats, encoder, decoder, batch, noise.latents
    )
    return reconstruction - local.kl, local


def test_lds_bound_is_the_exact_evidence_for_known_parameters():
    """With m = t(theta) and exact potentials q(x) is the posterior."""
    rng = np.random.default_rng(4)
    network, encoder, decoder = exact_networks(seed=4)
    model = generative(LDS(2), network)
    A, Q = np.array([[0.9, 0.2], [-0.3, 0.8]]), np.array([[0.5, 0.1], [0.1, 0.3]])
    mean, cov = np.array([0.4, -1.0]), np.array([[1.2, -0.3], [-0.3, 0.7]])
    stats = {
        "init": niw.stats((mean, np.linalg.inv(cov))),
        "dynamics": mniw.stats((A, np.linalg.inv(Q))),
    }
    values = rng.standard_normal((1, 4, 3))
    noise = quadrature_noise(1, 4, 2)
    got, _ = local_bound(model, stats, encoder, decoder, values, noise)
    C, d = decoder["location"][0].T, decoder["location"][1]
    R = np.diag(np.exp(decoder["log_scale"]))
    want = exact_lds_log_evidence(values[0], (mean, cov), (A, Q), (C, d, R))
    assert relative_error(got[0], want) < 1e-10
    worse = {**encoder, "log_scale": encoder["log_scale"] + 0.3}
    below, _ = local_bound(model, stats, worse, decoder, values, noise)
    assert below[0] < want - 1e-3


def test_gmm_bound_stays_below_the_exact_evidence_for_known_parameters():
    rng = np.random.default_rng(5)
    network, encoder, decoder = exact_networks(seed=5)
    model = generative(GMM(3, 2), network)
    weights, means = np.array([0.5, 0.3, 0.2]), 2 * rng.standard_normal((3, 2))
    covs = np.array([np.diag(rng.uniform(0.3, 1.0, 2)) for _ in range(3)])
    stats = {
        "weights": (np.log(weights),),
        "components": niw.stats((means, np.linalg.inv(covs))),
    }
    values = 2 * rng.standard_normal((20, 1, 3))
    got, _ = local_bound(
        model, stats, encoder, decoder, values, quadrature_noise(20, 1, 2)
    )
    C, d = decoder["location"][0].T, decoder["location"][1]
    R = np.diag(np.exp(decoder["log_scale"]))
    want = [
        np.logaddexp.reduce(
            [
                np.log(weights[k])
                + gaussian_log_density(y[0], C @ means[k] + d, C @ covs[k] @ C.T + R)
                for k in range(3)
            ]
        )
        for y in values
    ]
    gap = np.array(want) - got
    assert np.all(gap > 0)
    assert np.median(gap) < 0.2


def one_dimensional(latent, seed):
    """Return a 1-d conjugate model, its parameters and data."""
    rng = np.random.default_rng(seed)
    decoder = {"location": (np.array([[1.0]]), np.zeros(1)), "log_scale": np.zeros(1)}
    model = generative(latent, Linear())
    parameters = Parameters(latent.prior(), decoder, decoder)
    steps = 1 if latent.independent else 3
    number = 3 if latent.independent else 1
    return model, parameters, 2 * rng.standard_normal((number, steps, 1))


def best_bound(model, parameters, values, rounds=200):
    """Coordinate ascent: with exact potentials the natural step 1 is the update."""
    batch = Batch(values)
    noise = quadrature_noise(*values.shape[:2], 1)
    prior, bounds = model.latent.prior(), []
    for _ in range(rounds):
        step = bound_and_gradients(model, parameters, prior, batch, noise)
        bounds.append(step.bound.objective)
        natural = to_vector(step.gradients.natparams)
        moved = to_vector(parameters.natparams) + natural
        natparams = shifted(
            parameters.natparams, moved - to_vector(parameters.natparams)
        )
        parameters = parameters._replace(natparams=natparams)
    return np.array(bounds)


def log_mean_exp(logs):
    return np.logaddexp.reduce(logs) - np.log(len(logs))


def test_full_gmm_bound_rises_and_stays_below_the_evidence():
    """The evidence integrates theta too, by draws from the prior."""
    model, parameters, values = one_dimensional(GMM(2, 1, tolerance=1e-12), 6)
    bounds = best_bound(model, parameters, values)
    assert np.all(np.diff(bounds) > -1e-9)
    rng = np.random.default_rng(0)
    draws = product.sample(model.latent.family, model.latent.prior(), rng, 200_000)
    mean, precision = draws["components"]
    variance = 1 / precision[..., 0, 0] + 1.0
    logs = 0.0
    for y in values[:, 0, 0]:
        parts = -0.5 * (
            (y - mean[..., 0]) ** 2 / variance + np.log(2 * np.pi * variance)
        )
        logs = logs + np.logaddexp.reduce(np.log(draws["weights"]) + parts, axis=-1)
    evidence = log_mean_exp(logs)
    # three points leave theta wide open, which costs q(theta) q(x) q(z) some nats
    assert evidence - 4.0 < bounds[-1] < evidence - 1e-3


def test_full_lds_bound_rises_and_stays_below_the_evidence():
    """The evidence integrates theta too, by draws from the prior."""
    model, parameters, values = one_dimensional(LDS(1), 7)
    bounds = best_bound(model, parameters, values)
    assert np.all(np.diff(bounds) > -1e-9)
    rng = np.random.default_rng(0)
    draws = product.sample(model.latent.family, model.latent.prior(), rng, 100_000)
    mean, precision = (x.reshape(-1) for x in draws["init"])
    A, noise_precision = (x.reshape(-1) for x in draws["dynamics"])
    variance, logs = 1 / precision, 0.0
    for y in values[0, :, 0]:
        predictive = variance + 1.0
        logs = logs - 0.5 * (
            (y - mean) ** 2 / predictive + np.log(2 * np.pi * predictive)
        )
        gain = variance / predictive
        mean, variance = mean + gain * (y - mean), variance * (1 - gain)
        mean, variance = A * mean, A**2 * variance + 1 / noise_precision
    evidence = log_mean_exp(logs)
    assert evidence - 2.0 < bounds[-1] < evidence - 1e-3


def test_lds_local_kl_is_that_of_the_dense_joint_gaussian():
    """KL(q || exp E log p) by the joint precision matrix, ragged sequences included."""
    model, parameters, _, batch, noise = problem("lds")
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    node = recognize(model.encoder, parameters.encoder, batch.values)
    local = model.latent.infer(stats, Evidence(*node, batch.lengths), noise.latents)
    J0, h0, c0, l0 = stats["init"]
    J11, J12, J22, pair_constant = stats["dynamics"]
    for n, T in enumerate(batch.lengths):
        prior_J, prior_h = np.zeros((T, 2, T, 2)), np.zeros((T, 2))
        prior_J[0, :, 0] += J0
        prior_h[0] += h0
        for t in range(T - 1):
            prior_J[t, :, t] += J11
            prior_J[t + 1, :, t + 1] += J22
            prior_J[t, :, t + 1] += J12 / 2
            prior_J[t + 1, :, t] += J12.T / 2
        constant = c0 + l0 + (T - 1) * pair_constant - T * np.log(2 * np.pi)
        prior_J = prior_J.reshape(2 * T, 2 * T)
        J = prior_J + np.diag(node[0][n, :T].ravel())
        h = prior_h.ravel() + node[1][n, :T].ravel()
        cov = np.linalg.inv(-2 * J)
        mean = cov @ h
        entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1]
        second = cov + np.outer(mean, mean)
        energy = np.sum(prior_J * second) + prior_h.ravel() @ mean + constant
        assert relative_error(local.kl[n], -entropy - energy) < 1e-10


def test_gmm_bound_matches_quadrature_and_is_a_local_maximum():
    """KL(q(x) q(z) || exp E log p) by a sum over z and an integral over x."""
    latent = GMM(3, 1, tolerance=1e-13)
    rng = np.random.default_rng(8)
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    node = -rng.uniform(0.2, 1.0, (4, 1, 1)), rng.standard_normal((4, 1, 1))
    local = latent.infer(stats, Evidence(*node))
    J, h, c, log_det = stats["components"]
    grid = np.linspace(-30.0, 30.0, 20_001)
    log_p = (
        stats["weights"][0]
        + c
        + log_det
        - 0.5 * np.log(2 * np.pi)
        + grid[:, None] ** 2 * J[:, 0, 0]
        + grid[:, None] * h[:, 0]
    )
    for n in range(4):
        mean = local.mean[n, 0, 0]
        variance = local.second_moment[n, 0, 0, 0] - mean**2
        log_q = -0.5 * ((grid - mean) ** 2 / variance + np.log(2 * np.pi * variance))

        def kl(states, log_q=log_q):
            inside = log_q[:, None] + np.log(states) - log_p
            weight = np.exp(log_q)[:, None] * states
            return np.sum(weight * inside) * (grid[1] - grid[0])

        states = local.states[n, 0]
        assert relative_error(local.kl[n], kl(states)) < 1e-9
        for k in range(3):
            other = states * np.exp(0.01 * (np.arange(3) == k))
            assert kl(other / other.sum()) > kl(states)


def test_log_normalizer_is_evidence_minus_kl():
    for name in NAMES:
        model, parameters, _, batch, _ = problem(name)
        stats = product.expected_stats(model.latent.family, parameters.natparams)
        node = recognize(model.encoder, parameters.encoder, batch.values)
        local = model.latent.infer(stats, Evidence(*node, batch.lengths))
        second = local.second_moment
        if second.ndim == 4:
            second = np.diagonal(second, axis1=-2, axis2=-1)
        live = np.ones(node[1].shape[:2])
        if batch.lengths is not None:
            live = np.arange(node[1].shape[1]) < batch.lengths[:, None]
        evidence = inner(node[0] * live[..., None], second)
        evidence = evidence + inner(node[1] * live[..., None], local.mean)
        assert relative_error(local.log_normalizer, evidence - local.kl) < 1e-12


@pytest.mark.parametrize(
    "name", [n for n in (*NAMES, *NETWORKS) if "lds" in n or "hmm" in n]
)
def test_padding_does_not_change_the_bound(name):
    model, parameters, prior, batch, noise = problem(name)
    dirty = batch.values.copy()
    for row, length in zip(dirty, batch.lengths, strict=True):
        row[length:] = 1e3
    want = bound(model, parameters, prior, batch, noise)
    got = bound(model, parameters, prior, replace(batch, values=dirty), noise)
    assert got == want


@pytest.mark.parametrize("name", (*NAMES, *NETWORKS))
@pytest.mark.parametrize("natural_gradient", ["full", "conjugate", "none"])
def test_gradients_have_the_structure_of_the_parameters(name, natural_gradient):
    model, parameters, *rest = problem(name)
    step = bound_and_gradients(model, parameters, *rest, natural_gradient)
    for role in ("natparams", "encoder", "decoder"):
        got = [np.shape(leaf) for leaf in leaves(getattr(step.gradients, role))]
        want = [np.shape(leaf) for leaf in leaves(getattr(parameters, role))]
        assert got == want
