"""Gradients of the bound: differences, and exact answers."""

from dataclasses import replace

import numpy as np
import pytest

from svae import kernels
from svae.autodiff.trees import to_vector, tree_map
from svae.families import product
from svae.networks import recognize
from svae.objective.batch import Batch
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer
from svae.objective.model import Parameters
from svae.testing import latent_model, relative_error, typical_natparams
from tests.helpers.bounds import LATENT_WITH_THETA, NAMES, NETWORKS, quadrature_noise
from tests.helpers.problems import (
    central_difference,
    exact_networks,
    generative,
    problem,
    shifted,
    symmetric_basis,
)


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
