"""The bound and its gradients: differences, exact answers and exact evidences."""

from dataclasses import replace

import numpy as np
import pytest

from svae import GMM, LDS, Linear, kernels
from svae.autodiff.operations import inner
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.families import mniw, niw, product
from svae.networks import recognize
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer, local_terms
from svae.objective.model import Parameters
from svae.testing import latent_model, relative_error, typical_natparams
from tests.helpers.problems import (
    central_difference,
    exact_networks,
    generative,
    problem,
    shifted,
    symmetric_basis,
)

LATENT_WITH_THETA = ("gmm", "hmm", "lds", "affine-lds", "slds", "affine-slds")
NAMES = ("gaussian", *LATENT_WITH_THETA)
NETWORKS = ("sin-gmm", "sin-hmm", "sin-lds", "sin-affine-lds")


def difference_gradient(model, parameters, prior, batch, noise, basis):
    """Return central differences of the bound in eta, column by column of a basis."""

    def objective(direction):
        natparams = shifted(parameters.natparams, direction)
        moved = parameters._replace(natparams=natparams)
        return bound(model, moved, prior, batch, noise).objective

    return np.array([central_difference(objective, column) for column in basis.T])


def fisher_matrix(model, natparams, basis):
    """Return the Jacobian of the expected statistics by central differences."""

    def gradient_of_log_normalizer(direction):
        moved = shifted(natparams, direction)
        stats = product.expected_stats(model.latent.family, moved)
        return basis.T @ to_vector(stats)

    columns = [
        central_difference(gradient_of_log_normalizer, column) for column in basis.T
    ]
    return np.array(columns)


@pytest.mark.parametrize("name", (*LATENT_WITH_THETA, *NETWORKS))
@pytest.mark.parametrize("seed", [0, 1])
def test_natural_gradient_is_inverse_fisher_times_differences(name, seed):
    """In free coordinates; "none" is the differences themselves."""
    arguments = model, parameters, *_ = problem(name, seed)
    basis = symmetric_basis(parameters.natparams)
    slopes = difference_gradient(*arguments, basis)
    natural = to_vector(bound_and_gradients(*arguments).gradients.natparams)
    fisher = fisher_matrix(model, parameters.natparams, basis)
    assert relative_error(natural, basis @ np.linalg.solve(fisher, slopes)) < 1e-6
    plain = bound_and_gradients(*arguments, natural_gradient="none").gradients.natparams
    assert relative_error(basis.T @ to_vector(plain), slopes) < 1e-6


@pytest.mark.parametrize("name", (*NAMES, *NETWORKS))
@pytest.mark.parametrize(
    "options",
    [{}, {"decoder_posterior": "gaussian"}, {"likelihood": "bernoulli"}],
    ids=["point", "gaussian", "bernoulli"],
)
def test_gradients_of_networks_are_differences_of_the_bound(name, options):
    model, parameters, prior, batch, noise = problem(name, **options)
    if options.get("likelihood") == "bernoulli":
        batch = replace(batch, values=(batch.values > 0).astype(float))
    gradients = bound_and_gradients(model, parameters, prior, batch, noise).gradients
    rng = np.random.default_rng(3)
    for role in ("encoder", "decoder"):
        tree, got = getattr(parameters, role), to_vector(getattr(gradients, role))
        direction = rng.standard_normal(got.size)

        def objective(moved, role=role, tree=tree):
            moved = parameters._replace(**{role: shifted(tree, moved)})
            return bound(model, moved, prior, batch, noise).objective

        want = central_difference(objective, direction)
        assert relative_error(got @ direction, want) < 1e-6


@pytest.mark.parametrize("name", (*NAMES, *NETWORKS))
def test_both_functions_return_the_same_additive_bound(name):
    arguments = problem(name, decoder_posterior="gaussian")
    want = bound(*arguments)
    got = bound_and_gradients(*arguments).bound
    assert relative_error(got, want) < 1e-12
    parts = got.reconstruction - got.local_kl - got.global_kl
    assert got.objective == pytest.approx(parts, rel=1e-14)
    assert 0 < got.decoder_kl <= got.global_kl
    assert got.local_kl > 0


def quadrature_noise(num_sequences, num_steps, latent_dim):
    """Noise whose sample mean is exact for quadratic functions of the whole path."""
    size = num_steps * latent_dim
    points = np.sqrt(size) * np.concatenate([np.eye(size), -np.eye(size)])
    points = points.reshape(2 * size, num_steps, latent_dim)
    return Noise(np.tile(points, (num_sequences, 1, 1, 1)), np.zeros(0))


def conjugate_problem(name, seed=0):
    """Return a linear-Gaussian model whose recognition potentials are exact."""
    rng = np.random.default_rng(seed)
    latent = latent_model(name, tolerance=1e-14)
    network, encoder, decoder = exact_networks(seed=seed)
    model = generative(latent, network)
    parameters = Parameters(typical_natparams(latent, rng), encoder, decoder)
    steps = 1 if latent.independent else 4
    batch = Batch(rng.standard_normal((3, steps, 3)), scale=2.0)
    noise = quadrature_noise(3, steps, 2)
    return model, parameters, latent.prior(), batch, noise


def counted_stats(model, parameters, batch):
    """Sum E_q[(t(x, z), 1)] over the batch by hand, slot by slot of eta."""
    latent = model.latent
    stats = product.expected_stats(latent.family, parameters.natparams)
    node = recognize(model.encoder, parameters.encoder, batch.values)
    local = infer(model, stats, parameters.encoder, batch, dense=True)
    number, steps = batch.values.shape[:2]
    lengths = np.full(number, steps) if batch.lengths is None else batch.lengths
    states, counts = local.states, {}
    if "weights" in stats:
        log_pi = stats["weights"][0]
        log_A = stats.get("transitions", (np.zeros((len(log_pi),) * 2),))[0]
        _, (first, pairs, _) = kernels.markov_chain(
            log_pi, log_A, local.state_potentials, lengths
        )
        counts = {"weights": (first,), "transitions": (pairs,)}
    if "components" in stats:
        total = states.sum((0, 1))
        xx = np.einsum("ntk,ntij->kij", states, local.second_moment)
        x = np.einsum("ntk,nti->ki", states, local.mean)
        counts["components"] = xx, x, total, total
    if "dynamics" in stats:
        live = (np.arange(steps) < lengths[:, None])[..., None] * 1.0
        responsible = live if states is None else states
        one = stats if states is not None else one_state(stats)
        moments = chain_moments(latent, one, node, responsible, lengths)
        first, later = responsible[:, 0], responsible[:, 1:]
        x1x1, x1, left, cross, right = moments
        total = first.sum(0)
        counts["init"] = (
            np.einsum("nk,nij->kij", first, x1x1),
            np.einsum("nk,ni->ki", first, x1),
            total,
            total,
        )
        counts["dynamics"] = (
            np.einsum("ntk,ntij->kij", later, left),
            np.einsum("ntk,ntij->kij", later, cross),
            np.einsum("ntk,ntij->kij", later, right),
            later.sum((0, 1)),
        )
        if states is None:
            for factor in ("init", "dynamics"):
                counts[factor] = tuple(part[0] for part in counts[factor])
    return {factor: counts[factor] for factor in stats}


def one_state(stats):
    """Give statistics of a single system an axis of states."""
    return {
        name: tuple(np.asarray(part)[None] for part in factor)
        for name, factor in stats.items()
    }


def chain_moments(latent, stats, node, states, lengths):
    """E[x_1 x_1'], E[x_1], and of every pair E[uu'], E[ux'], E[x'x''] with u = [x; 1].

    Of the Gaussian chain whose potentials are those of the states, averaged.
    """
    D = latent.latent_dim
    J0, h0 = (np.tensordot(states[:, 0], part, 1) for part in stats["init"][:2])
    J11, J12, J22 = (np.tensordot(states[:, 1:], x, 1) for x in stats["dynamics"][:3])
    node_J, node_h = node[0], node[1].copy()
    if latent.affine:
        node_h[:, :-1] += J11[..., :D, D] + J11[..., D, :D]
        node_h[:, 1:] += J12[..., D, :]
        J11, J12 = J11[..., :D, :D], J12[..., :D, :]
    _, ((x1x1, x1), (left, cross, right), (_, mean)), _ = kernels.gaussian_chain(
        (J0, h0), (J11, J12, J22), (node_J, node_h), None, lengths
    )
    if latent.affine:
        x, y = mean[:, :-1, :, None], mean[:, 1:, None]
        one = np.ones((*x.shape[:2], 1, 1))
        xT = np.swapaxes(x, -1, -2)
        left = np.concatenate(
            [np.concatenate([left, x], -1), np.concatenate([xT, one], -1)], -2
        )
        cross = np.concatenate([cross, y], -2)
    return x1x1, x1, left, cross, right


@pytest.mark.parametrize("name", LATENT_WITH_THETA)
def test_conjugate_gradient_is_the_counted_statistics(name):
    """With "conjugate" the direction is eta0 - eta + (N/M) E_q[(t(x, z), 1)]."""
    model, parameters, prior, batch, noise = problem(name)
    step = bound_and_gradients(
        model, parameters, prior, batch, noise, natural_gradient="conjugate"
    )
    want = conjugate_direction(model, parameters, prior, batch)
    for factor, parts in step.gradients.natparams.items():
        for got, part in zip(parts, want[factor], strict=True):
            assert relative_error(got, part) < 1e-10, factor
    full = bound_and_gradients(model, parameters, prior, batch, noise)
    assert step.bound == full.bound
    networks = to_vector(step.gradients[1:])
    np.testing.assert_array_equal(networks, to_vector(full.gradients[1:]))
    natural = to_vector(full.gradients.natparams)
    assert relative_error(natural, to_vector(want)) > 1e-3


def conjugate_direction(model, parameters, prior, batch):
    counts = counted_stats(model, parameters, batch)
    return tree_map(
        lambda eta0, eta, count: eta0 - eta + batch.scale * count,
        prior,
        parameters.natparams,
        counts,
    )


@pytest.mark.parametrize("name", LATENT_WITH_THETA)
def test_correction_vanishes_when_potentials_are_exact(name):
    """Then Eq. (4) is the conjugate update eta0 - eta + (N/M) E[(t, 1)]."""
    model, parameters, prior, batch, noise = arguments = conjugate_problem(name)
    full = to_vector(bound_and_gradients(*arguments).gradients.natparams)
    counted = conjugate_direction(model, parameters, prior, batch)
    assert relative_error(full, to_vector(counted)) < 1e-10
    conjugate = bound_and_gradients(*arguments, natural_gradient="conjugate").gradients
    assert relative_error(full, to_vector(conjugate.natparams)) < 1e-10


@pytest.mark.parametrize("name", LATENT_WITH_THETA)
def test_algorithm_1_as_printed_would_fail(name):
    """The gradient of log p(y | x) alone is no correction: here it must vanish."""
    model, parameters, prior, batch, noise = conjugate_problem(name)
    basis = symmetric_basis(parameters.natparams)[:, ::3]

    def reconstruction(direction):
        moved = shifted(parameters.natparams, direction)
        parts = bound(model, parameters._replace(natparams=moved), prior, batch, noise)
        return parts.reconstruction

    gradient = [central_difference(reconstruction, column) for column in basis.T]
    assert np.max(np.abs(gradient)) > 1e-2


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
    local = model.latent.infer(stats, node, noise.latents, batch.lengths)
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
    local = latent.infer(stats, node)
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
        local = model.latent.infer(stats, node, None, batch.lengths)
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
