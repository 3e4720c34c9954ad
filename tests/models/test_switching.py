"""Switching models by enumeration of all paths, and as the models they contain."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import svae
from svae import GMM, HMM, LDS, SLDS
from svae.autodiff.trees import leaves, rebuild, to_vector
from svae.autodiff.vjp import trace
from svae.families import dirichlet, product
from svae.models.evidence import Evidence
from svae.objective.bound import bound_and_gradients
from svae.testing import (
    latent_model,
    local_problem,
    path_joint,
    paths_of,
    relative_error,
    typical_natparams,
    typical_theta,
)
from svae.testing.problems import LATENT, MEAN_FIELD, STUDENT
from tests.helpers.problems import problem

WITH_THETA = [name for name in LATENT if name != "gaussian"]
CHAINS = [name for name in WITH_THETA if name != "gmm"]
every_model = pytest.mark.parametrize("name", MEAN_FIELD)
LENGTHS = (5, 3, 1, 2)


def message_of(latent, rng, kind):
    """Return t(theta) of one theta, or E[t(theta)]."""
    if kind == "theta":
        return product.stats(latent.family, typical_theta(latent, rng))
    return product.expected_stats(latent.family, typical_natparams(latent, rng))


def joints(latent, stats, steps, node=None, belief=None):
    """Return the joint of every path of the states, as a dict."""
    paths = paths_of(getattr(latent, "num_states", 1), steps)
    dim = latent.latent_dim
    return {path: path_joint(stats, path, dim, node, belief) for path in paths}


def alone(latent, node, lengths, n):
    steps = 1 if latent.independent else lengths[n]
    return steps, tuple(part[n, :steps] for part in node)


@pytest.mark.parametrize("name", WITH_THETA)
@pytest.mark.parametrize("kind", ["theta", "expectation"])
def test_log_density_sums_over_every_path(name, kind, rng):
    latent = latent_model(name)
    stats = message_of(latent, rng, kind)
    steps = 1 if latent.independent else 5
    latents = rng.standard_normal((4, steps, 2))
    lengths = None if latent.independent else np.array(LENGTHS)
    got = latent.log_density(stats, latents, lengths)
    for n in range(4):
        steps, (x,) = alone(latent, (latents,), LENGTHS, n)
        terms = [j.log_density(x) for j in joints(latent, stats, steps).values()]
        assert relative_error(got[n], logsumexp(terms)) < 1e-12


@every_model
@pytest.mark.parametrize("num_states", [2, 3])
def test_log_density_sums_over_the_possible_paths(name, num_states, rng):
    """Some states are impossible at some steps."""
    latent = latent_model(name, num_states=num_states)
    stats = message_of(latent, rng, "expectation")
    steps = 1 if latent.independent else 5
    latents = rng.standard_normal((4, steps, 2))
    possible = rng.random((4, steps, num_states)) < 0.6
    possible[..., 0] |= ~possible.any(axis=-1)
    lengths = None if latent.independent else np.array(LENGTHS)
    got = latent.log_density(stats, latents, lengths, states=possible)
    for n in range(4):
        steps, (x, allowed) = alone(latent, (latents, possible), LENGTHS, n)
        terms = [
            joint.log_density(x)
            for path, joint in joints(latent, stats, steps).items()
            if all(allowed[t, k] for t, k in enumerate(path))
        ]
        assert relative_error(got[n], logsumexp(terms)) < 1e-12


@pytest.mark.parametrize("affine", [False, True])
def test_density_of_a_known_system_is_that_of_the_whole_path(affine, rng):
    """Mean and covariance of the path from A, b and Q, through SciPy."""
    latent = LDS(2, affine)
    theta = typical_theta(latent, rng)
    (mean, precision), (A, noise) = theta["init"], theta["dynamics"]
    b = A[:, 2] if affine else np.zeros(2)
    A, Q, cov = A[:, :2], np.linalg.inv(noise), np.linalg.inv(precision)
    means, joint = [mean], np.zeros((5, 2, 5, 2))
    for t in range(5):
        if t:
            means.append(A @ means[-1] + b)
            cov = A @ cov @ A.T + Q
        cross = cov
        for later in range(t, 5):
            joint[later, :, t], joint[t, :, later] = cross, cross.T
            cross = A @ cross
    stats = product.stats(latent.family, theta)
    latents = rng.standard_normal((3, 5, 2))
    law = multivariate_normal(np.ravel(means), joint.reshape(10, 10))
    want = law.logpdf(latents.reshape(3, 10))
    assert relative_error(latent.log_density(stats, latents), want) < 1e-12
    nothing = np.zeros((3, 5, 2)), np.zeros((3, 5, 2))
    local = latent.infer(stats, Evidence(*nothing, np.array([5, 3, 1])))
    assert np.max(np.abs(local.log_normalizer)) < 1e-12
    whole = latent.infer(stats, Evidence(np.zeros((1, 5, 2, 2)), nothing[1][:1]))
    assert relative_error(whole.mean[0], means) < 1e-12
    second = whole.second_moment[0] - np.einsum("ti,tj->tij", means, means)
    covs = joint[np.arange(5), :, np.arange(5)]
    assert relative_error(second, covs) < 1e-12


@pytest.mark.parametrize("name", ["lds", "affine-lds"])
@pytest.mark.parametrize("kind", ["theta", "expectation"])
@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_a_chain_is_its_dense_joint(name, kind, dense, rng):
    latent = latent_model(name)
    stats = message_of(latent, rng, kind)
    _, node, lengths = local_problem(latent, rng, LENGTHS, dense)
    local = latent.infer(stats, Evidence(*node, lengths))
    for n in range(4):
        steps, potentials = alone(latent, node, LENGTHS, n)
        joint = path_joint(stats, (0,) * steps, 2, potentials)
        assert relative_error(local.log_normalizer[n], joint.log_integral()) < 1e-12
        mean = joint.mean.reshape(steps, 2)
        assert relative_error(local.mean[n, :steps], mean) < 1e-12
        assert relative_error(local.half_log_det[n], joint.half_log_det) < 1e-10


@every_model
@pytest.mark.parametrize("num_states", [2, 3])
def test_the_surrogate_is_below_the_sum_over_every_path(name, num_states, rng):
    latent = latent_model(name, num_states=num_states, starts=("data", "prior"))
    stats, node, lengths = local_problem(latent, rng, LENGTHS)
    local = latent.infer(stats, Evidence(*node, lengths))
    for n in range(4):
        steps, potentials = alone(latent, node, LENGTHS, n)
        every = joints(latent, stats, steps, potentials).values()
        exact = logsumexp([joint.log_integral() for joint in every])
        gap = exact - local.log_normalizer[n]
        assert 1e-6 < gap < steps, "no bound, or one without worth"


@every_model
def test_certain_states_make_inference_exact(name, rng):
    """Where one path alone is possible, q is the posterior."""
    latent = latent_model(name)
    theta = typical_theta(latent, rng)
    theta["weights"] = np.array([0.0, 1.0, 0.0])
    if "transitions" in theta:
        theta["transitions"] = np.eye(3)[[1, 2, 0]]
    stats = product.stats(latent.family, theta)
    _, node, lengths = local_problem(latent, rng, LENGTHS, dense=True)
    local = latent.infer(stats, Evidence(*node, lengths))
    for n in range(4):
        steps, potentials = alone(latent, node, LENGTHS, n)
        path = tuple((1 + np.arange(steps)) % 3)
        joint = path_joint(stats, path, 2, potentials)
        assert relative_error(local.log_normalizer[n], joint.log_integral()) < 1e-11
        assert relative_error(local.half_log_det[n], joint.half_log_det) < 1e-10
        mean = joint.mean.reshape(steps, 2)
        assert relative_error(local.mean[n, :steps], mean) < 1e-11
        np.testing.assert_array_equal(local.states[n, :steps], np.eye(3)[list(path)])


def test_half_log_det_of_independent_gaussians(rng):
    latent = latent_model("gaussian")
    J, h = -rng.uniform(0.1, 1.0, (3, 4, 2)), rng.standard_normal((3, 4, 2))
    lengths = np.array([4, 1, 2])
    got = latent.infer({}, Evidence(J, h, lengths)).half_log_det
    for n, length in enumerate(lengths):
        precision = np.eye(2 * length) - 2 * np.diag(J[n, :length].ravel())
        assert relative_error(got[n], 0.5 * np.linalg.slogdet(precision)[1]) < 1e-12


@every_model
def test_half_log_det_is_that_of_the_averaged_potentials(name, rng):
    latent = latent_model(name)
    stats, node, lengths = local_problem(latent, rng, LENGTHS, dense=True)
    local = latent.infer(stats, Evidence(*node, lengths))
    for n in range(4):
        steps, potentials = alone(latent, node, LENGTHS, n)
        states = local.states[n, :steps]
        J = np.zeros((steps, 2, steps, 2))
        for t in range(steps):
            J[t, :, t] += potentials[0][t]
            if "components" in stats:
                J[t, :, t] += np.tensordot(states[t], stats["components"][0], 1)
            elif t == 0:
                J[t, :, t] += np.tensordot(states[t], stats["init"][0], 1)
            else:
                J11, J12, J22 = (
                    np.tensordot(states[t], part, 1) for part in stats["dynamics"][:3]
                )
                J[t - 1, :, t - 1] += J11[:2, :2]
                J[t - 1, :, t] += J12[:2]
                J[t, :, t] += J22
        J = J.reshape(2 * steps, 2 * steps)
        want = 0.5 * np.linalg.slogdet(-(J + J.T))[1]
        assert relative_error(local.half_log_det[n], want) < 1e-10


@pytest.mark.parametrize("name", [*MEAN_FIELD, *STUDENT])
def test_the_most_likely_states_are_those_of_every_path(name, rng):
    latent = latent_model(name)
    stats, node, lengths = local_problem(latent, rng, LENGTHS)
    local = latent.infer(stats, Evidence(*node, lengths))
    got = latent.most_likely_states(stats, local.state_potentials, lengths)
    transitions = stats.get("transitions", (np.zeros((3, 3)),))[0]
    for n in range(4):
        steps, (potentials,) = alone(latent, (local.state_potentials,), LENGTHS, n)
        scores = {
            path: stats["weights"][0][path[0]]
            + sum(transitions[a, b] for a, b in zip(path, path[1:], strict=False))
            + sum(potentials[t, k] for t, k in enumerate(path))
            for path in paths_of(3, steps)
        }
        assert tuple(got[n, :steps]) == max(scores, key=scores.get)
        assert np.all(got[n, steps:] == -1)
        # and q(z) is the chain of these potentials
        total = logsumexp(list(scores.values()))
        for t in range(steps):
            for k in range(3):
                of_k = [s for path, s in scores.items() if path[t] == k]
                want = np.exp(logsumexp(of_k) - total)
                assert abs(local.states[n, t, k] - want) < 1e-11


def with_one_state(natparams):
    """Return parameters of the SLDS with one state that is an LDS."""
    markov = {"weights": (np.array([0.3]),), "transitions": (np.array([[0.7]]),)}
    one = {
        name: tuple(np.asarray(part)[None] for part in factor)
        for name, factor in natparams.items()
    }
    return markov | one


def duration(natparams):
    """How long each state lasts at the mean of its transitions, in steps."""
    return 1.0 / (1.0 - np.diagonal(dirichlet.mean(natparams["transitions"])))


@pytest.mark.parametrize("kind", [HMM, SLDS])
@pytest.mark.parametrize("num_states", [2, 3, 10, 30, 100])
def test_sticky_is_the_documented_pseudo_count(kind, num_states):
    K = num_states
    for sticky in (0.0, 4.0, 100.0):
        prior = kind(K, 2, sticky=sticky).prior()
        (alpha,) = dirichlet.to_standard(prior["transitions"])
        np.testing.assert_allclose(alpha, np.ones((K, K)) + sticky * np.eye(K))
        stays = (1 + sticky) / (K + sticky)
        np.testing.assert_allclose(
            np.diagonal(alpha / alpha.sum(axis=1, keepdims=True)), stays
        )
        np.testing.assert_allclose(duration(prior), (K + sticky) / (K - 1))
        alpha = 0.3
        prior = kind(K, 2, concentration=alpha, sticky=sticky).prior()
        np.testing.assert_allclose(
            duration(prior), (K * alpha + sticky) / ((K - 1) * alpha)
        )
    for wanted in (5.0, 40.0):
        sticky = wanted * (K - 1) - K
        if sticky >= 0:
            np.testing.assert_allclose(
                duration(kind(K, 2, sticky=sticky).prior()), wanted
            )


def test_sticky_has_the_durations_of_the_tutorial():
    for num_states, steps in ((10, 12.2), (30, 4.5)):
        prior = HMM(num_states, sticky=100.0).prior()
        np.testing.assert_allclose(np.round(duration(prior), 1), steps)
    text = " ".join(
        (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text().split()
    )
    assert "(K + sticky) / (K - 1) steps" in text
    assert "12.2 steps of 10 states and 4.5 of 30" in text
    assert "`sticky = d (K - 1) - K`" in text


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("natural_gradient", ["full", "conjugate", "none"])
def test_slds_with_one_state_is_the_lds(affine, natural_gradient):
    name = "affine-lds" if affine else "lds"
    model, parameters, prior, batch, noise = problem(name)
    lds = bound_and_gradients(model, parameters, prior, batch, noise, natural_gradient)
    single = SLDS(1, 2, affine=affine)
    slds = bound_and_gradients(
        model._replace(latent=single),
        parameters._replace(natparams=with_one_state(parameters.natparams)),
        single.prior(),
        batch,
        noise,
        natural_gradient,
    )
    # the Dirichlet factors of a single state have no entropy and no divergence
    assert relative_error(np.array(slds.bound), np.array(lds.bound)) < 1e-10
    for role in ("encoder", "decoder"):
        got, want = getattr(slds.gradients, role), getattr(lds.gradients, role)
        assert relative_error(to_vector(got), to_vector(want)) < 1e-10
    for factor, want in lds.gradients.natparams.items():
        for got, part in zip(slds.gradients.natparams[factor], want, strict=True):
            assert relative_error(got[0], part) < 1e-10
    assert np.all(slds.states[batch.lengths > 0, 0] == 1.0)


@pytest.mark.parametrize("affine", [False, True])
def test_slds_with_one_state_learns_what_the_lds_learns(affine):
    frames = svae.data.dots(image_width=6, num_frames=60, rng=0)
    network = svae.MLP((8,))
    lds, slds = (
        svae.SVAE(latent, network, network).fit(
            frames, num_steps=5, window=20, batch_size=2, rng=0, warmup=None
        )
        for latent in (LDS(3, affine), SLDS(1, 3, affine=affine))
    )
    for role in ("encoder", "decoder"):
        got, want = getattr(slds.parameters_, role), getattr(lds.parameters_, role)
        assert relative_error(to_vector(got), to_vector(want)) < 1e-10
    for factor, want in lds.parameters_.natparams.items():
        for got, part in zip(slds.parameters_.natparams[factor], want, strict=True):
            assert relative_error(got[0], part) < 1e-10
    objectives = slds.history_["objective"], lds.history_["objective"]
    assert relative_error(*objectives) < 1e-10
    assert np.all(slds.history_["unconverged"] == 0)


def gmm_as_hmm(stats):
    """Statistics of the HMM whose transitions are those into a first state."""
    return stats | {"transitions": (np.tile(stats["weights"][0], (3, 1)),)}


@pytest.mark.parametrize("dense", [False, True], ids=["diagonal", "dense"])
def test_hmm_without_memory_is_the_mixture_of_every_frame(dense, rng):
    gmm, hmm = GMM(3, 2, tolerance=1e-14), HMM(3, 2, tolerance=1e-14)
    lengths = np.array([5, 3, 1, 4])
    stats, _, _ = local_problem(gmm, rng)
    _, node, _ = local_problem(hmm, rng, lengths, dense)
    live = np.arange(5) < lengths[:, None]
    noise = rng.standard_normal((4, 2, 5, 2))
    rows = tuple(part[live][:, None] for part in node)
    row_noise = np.swapaxes(noise, 1, 2)[live][:, :, None]

    mixture = gmm.infer(stats, Evidence(*rows), row_noise)
    chain = hmm.infer(gmm_as_hmm(stats), Evidence(*node, lengths), noise)
    for field in ("mean", "second_moment", "states", "state_potentials"):
        want = getattr(mixture, field)[:, 0]
        np.testing.assert_allclose(
            getattr(chain, field)[live], want, rtol=1e-11, atol=1e-12
        )
    samples = np.swapaxes(chain.samples, 1, 2)[live]
    np.testing.assert_allclose(samples, mixture.samples[:, :, 0], rtol=1e-11)
    owner = np.nonzero(live)[0]
    for field in ("kl", "log_normalizer", "half_log_det"):
        want = np.bincount(owner, getattr(mixture, field))
        assert relative_error(getattr(chain, field), want) < 1e-11


def test_gradients_of_hmm_without_memory_are_those_of_the_mixture(rng):
    gmm, hmm = GMM(3, 2, tolerance=1e-14), HMM(3, 2, tolerance=1e-14)
    stats, node, _ = local_problem(gmm, rng, (1,) * 12)
    noise = rng.standard_normal((12, 2, 1, 2))

    def cotangents(latent, stats, node, noise):
        inputs = stats, node
        bar = np.random.default_rng(1).standard_normal((12, 2, 2))

        def value(*boxes):
            stats, node = rebuild(inputs, boxes)
            local = latent.infer(stats, Evidence(*node), noise)
            frames = local.samples.swapaxes(1, 2).reshape(12, 2, 2)
            return ((frames * bar).sum() - local.kl.sum(),)

        return rebuild(inputs, trace(value, leaves(inputs))[0](1.0))

    want, want_node = cotangents(gmm, stats, node, noise)
    together = tuple(part.reshape(3, 4, 2) for part in node)
    chain_noise = np.swapaxes(noise.reshape(3, 4, 2, 2), 1, 2)
    got, got_node = cotangents(hmm, gmm_as_hmm(stats), together, chain_noise)
    weights = got["weights"][0] + got["transitions"][0].sum(0)
    assert relative_error(weights, want["weights"][0]) < 1e-9
    for part, other in zip(got["components"], want["components"], strict=True):
        assert relative_error(part, other) < 1e-9
    for part, other in zip(got_node, want_node, strict=True):
        assert relative_error(part.reshape(12, 1, 2), other) < 1e-9
