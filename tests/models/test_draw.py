"""Paths drawn from a model: their law by enumeration, their moments by dense joints."""

import numpy as np
import pytest
from scipy.special import logsumexp

from svae.families import product
from svae.models import Belief, belief_after
from svae.models.evidence import Evidence
from svae.testing import (
    latent_model,
    local_problem,
    path_joint,
    paths_of,
    relative_error,
    typical_natparams,
    typical_theta,
)
from svae.testing.problems import LATENT, STUDENT

WITH_THETA = [name for name in LATENT if name != "gaussian"]
SWITCHING = ["gmm", "hmm", "slds", "affine-slds", *STUDENT]
COUPLED = ["lds", "affine-lds", "slds", "affine-slds"]
CHAINS = ["hmm", *COUPLED]
PATHS, STEPS, DIM = 20_000, 3, 2
BELIEF = (
    -0.5 * np.array([[3.0, 0.5], [0.5, 2.0]]),
    np.array([4.0, -3.0]),
    np.log([0.7, 0.1, 0.2]),
)
with_belief = pytest.mark.parametrize("believed", [False, True], ids=["", "belief"])


def belief_of_all(paths, states=True):
    """The same belief about the first step of every path."""
    J, h, log_probs = (np.repeat(part[None], paths, axis=0) for part in BELIEF)
    return Belief(np.ones(paths, dtype=bool), J, h, log_probs if states else None)


def draw(name, believed, rng, paths=PATHS):
    latent = latent_model(name)
    stats = product.stats(latent.family, typical_theta(latent, rng))
    steps = 1 if latent.independent else STEPS
    noise = rng.standard_normal((paths, steps, DIM))
    belief = belief_of_all(paths, name in SWITCHING) if believed else None
    drawn = latent.draw(stats, rng.random((paths, steps)), noise, belief)
    return latent, stats, noise, drawn


@pytest.mark.parametrize("name", SWITCHING)
@with_belief
def test_paths_of_states_have_their_probabilities(name, believed, rng):
    latent, stats, _, drawn = draw(name, believed, rng)
    steps = drawn.states.shape[1]
    assert drawn.states.dtype == np.int64
    first = BELIEF[2] if believed else stats["weights"][0]
    transitions = stats.get("transitions", (None,))[0]
    for path in paths_of(3, steps):
        log_prob = first[path[0]]
        for a, b in zip(path, path[1:], strict=False):
            log_prob = log_prob + transitions[a, b]
        prob = np.exp(log_prob)
        frequency = np.mean(np.all(drawn.states == path, axis=1))
        error = np.sqrt(prob * (1 - prob) / PATHS)
        assert abs(frequency - prob) < 4.5 * error + 1 / PATHS, path


def joint_of(name, stats, path, believed):
    return path_joint(stats, path, DIM, None, BELIEF if believed else None)


def by_path(drawn):
    """Yield every path that was drawn and the rows that drew it."""
    if drawn.states is None:
        yield (0,) * drawn.latents.shape[1], np.arange(len(drawn.latents))
        return
    for path in np.unique(drawn.states, axis=0):
        yield tuple(path), np.flatnonzero(np.all(drawn.states == path, axis=1))


@pytest.mark.parametrize("name", WITH_THETA)
@with_belief
def test_moments_given_the_states_are_those_of_the_joint(name, believed, rng):
    _, stats, _, drawn = draw(name, believed, rng, 300)
    believed = believed and name in COUPLED  # about states alone where x is not coupled
    for path, rows in by_path(drawn):
        joint = joint_of(name, stats, path, believed)
        mean = joint.mean.reshape(-1, DIM)
        steps = np.arange(len(path))
        shape = (len(path), DIM, len(path), DIM)
        covs = joint.cov.reshape(shape)[steps, :, steps]
        for row in rows[:3]:
            assert relative_error(drawn.mean[row], mean) < 1e-10
            assert relative_error(drawn.cov[row], covs) < 1e-10


@pytest.mark.parametrize("name", WITH_THETA)
@with_belief
def test_latents_have_the_law_of_the_joint(name, believed, rng):
    """Whitened by the dense joint of their path they are standard normal draws."""
    _, stats, _, drawn = draw(name, believed, rng)
    believed = believed and name in COUPLED
    size = drawn.latents[0].size
    white = np.zeros((PATHS, size))
    for path, rows in by_path(drawn):
        joint = joint_of(name, stats, path, believed)
        root = np.linalg.cholesky(-(joint.J + joint.J.T))
        white[rows] = (drawn.latents[rows].reshape(-1, size) - joint.mean) @ root
    assert np.max(np.abs(white.mean(0))) < 4.5 / np.sqrt(PATHS)
    cov = white.T @ white / PATHS
    error = np.sqrt((1 + np.eye(size)) / PATHS)
    assert np.max(np.abs(cov - np.eye(size)) / error) < 4.5


@pytest.mark.parametrize("name", COUPLED)
@with_belief
def test_draws_of_chains_are_made_of_the_noise_in_time_order(name, believed, rng):
    """x = mean + L noise, L the factor of the joint covariance in time order."""
    _, stats, noise, drawn = draw(name, believed, rng, 50)
    for path, rows in by_path(drawn):
        joint = joint_of(name, stats, path, believed)
        root = np.linalg.cholesky(joint.cov)
        want = joint.mean + noise[rows].reshape(len(rows), -1) @ root.T
        assert relative_error(drawn.latents[rows].reshape(want.shape), want) < 1e-10


@pytest.mark.parametrize("name", [*WITH_THETA, *STUDENT])
@with_belief
def test_every_path_may_have_its_own_theta(name, believed, rng):
    latent = latent_model(name)
    paths, steps = 6, 1 if latent.independent else 4
    thetas = product.sample(latent.family, typical_natparams(latent, rng), rng, paths)
    stats = product.stats(latent.family, thetas)
    uniforms = rng.random((paths, steps))
    noise = rng.standard_normal((paths, steps, DIM))

    def belief(count):
        return belief_of_all(count, name in SWITCHING) if believed else None

    together = latent.draw(stats, uniforms, noise, belief(paths))
    for s in range(paths):
        own = {
            factor: tuple(part[s] for part in parts) for factor, parts in stats.items()
        }
        one = slice(s, s + 1)
        single = latent.draw(own, uniforms[one], noise[one], belief(1))
        for got, want in zip(together, single, strict=True):
            if got is not None:
                np.testing.assert_allclose(got[s], want[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["lds", "affine-lds"])
@with_belief
def test_lds_draws_have_the_moments_of_smoothing_without_data(name, believed, rng):
    latent = latent_model(name)
    stats = product.stats(latent.family, typical_theta(latent, rng))
    noise = rng.standard_normal((1, 6, DIM))
    belief = belief_of_all(1, states=False) if believed else None
    drawn = latent.draw(stats, rng.random((1, 6)), noise, belief)
    nothing = np.zeros((1, 6, DIM, DIM)), np.zeros((1, 6, DIM))
    local = latent.infer(stats, Evidence(*nothing, belief=belief))
    assert relative_error(drawn.mean, local.mean) < 1e-10
    outer = np.einsum("nti,ntj->ntij", local.mean, local.mean)
    assert relative_error(drawn.cov, local.second_moment - outer) < 1e-10
    assert drawn.states is None


@pytest.mark.parametrize("name", ["lds", "affine-lds"])
def test_steps_of_an_expectation_are_normalised(name, rng):
    """E[t(theta)] draws what the mean of theta draws: (A, b, Q) are the same."""
    latent = latent_model(name)
    natparams = typical_natparams(latent, rng)
    point = product.stats(latent.family, product.mean(latent.family, natparams))
    message = product.expected_stats(latent.family, natparams)
    noise = rng.standard_normal((4, 6, DIM))
    want = latent.draw(point, rng.random((4, 6)), noise)
    got = latent.draw(message, rng.random((4, 6)), noise)
    for name in ("latents", "mean", "cov"):
        assert relative_error(getattr(got, name), getattr(want, name)) < 1e-10


@pytest.mark.parametrize("name", CHAINS)
@with_belief
def test_a_step_does_not_depend_on_how_many_follow(name, believed, rng):
    """Draw by draw: the beginning of a longer path is the shorter one."""
    latent = latent_model(name)
    for stats in (
        product.stats(latent.family, typical_theta(latent, rng)),
        product.expected_stats(latent.family, typical_natparams(latent, rng)),
    ):
        uniforms, noise = rng.random((9, 20)), rng.standard_normal((9, 20, DIM))
        belief = belief_of_all(9, name in SWITCHING) if believed else None
        whole = latent.draw(stats, uniforms, noise, belief)
        for steps in (1, 2, 7):
            part = latent.draw(stats, uniforms[:, :steps], noise[:, :steps], belief)
            for got, want in zip(part, whole, strict=True):
                if got is not None:
                    np.testing.assert_array_equal(got, want[:, :steps])


@pytest.mark.parametrize("name", SWITCHING)
def test_draws_and_densities_agree(name, rng):
    """The mean of p(x | A) / p(x | B) over draws of B is one, at states summed out."""
    latent = latent_model(name)
    theta = typical_theta(latent, rng) | {"weights": np.array([0.6, 0.3, 0.1])}
    stats = product.stats(latent.family, theta)
    near = theta | {"weights": np.array([0.3, 0.6, 0.1])}
    other = product.stats(latent.family, near)
    steps = 1 if latent.independent else STEPS
    shape = (PATHS, steps)
    drawn = latent.draw(stats, rng.random(shape), rng.standard_normal((*shape, DIM)))
    ratios = latent.log_density(other, drawn.latents) - latent.log_density(
        stats, drawn.latents
    )
    weights = np.exp(ratios)
    assert abs(weights.mean() - 1) < 4.5 * weights.std() / np.sqrt(PATHS)
    assert weights.std() > 0.05
    assert logsumexp(ratios) == pytest.approx(np.log(PATHS), abs=0.1)


def test_a_standard_normal_draws_its_noise(rng):
    latent = latent_model("gaussian")
    noise = rng.standard_normal((5, 4, DIM))
    drawn = latent.draw({}, rng.random((5, 4)), noise)
    np.testing.assert_array_equal(drawn.latents, noise)
    np.testing.assert_array_equal(drawn.mean, np.zeros_like(noise))
    np.testing.assert_array_equal(drawn.cov, np.broadcast_to(np.eye(2), (5, 4, 2, 2)))


@pytest.mark.parametrize("name", ["slds", "affine-slds", "hmm"])
def test_a_forecast_continues_the_belief_after_a_sequence(name, rng):
    """With certain states the moments are those of the posterior of a longer path."""
    latent = latent_model(name)
    theta = typical_theta(latent, rng)
    theta["weights"] = np.array([1.0, 0.0, 0.0])
    theta["transitions"] = np.eye(3)[[1, 2, 0]]
    stats = product.stats(latent.family, theta)
    _, (J, h), _ = local_problem(latent, rng, (4,), dense=True)
    belief = belief_after(latent.infer(stats, Evidence(J, h)), None)
    drawn = latent.draw(
        stats, rng.random((1, 3)), rng.standard_normal((1, 3, 2)), belief
    )
    assert tuple(drawn.states[0]) == (0, 1, 2)  # steps 3, 4 and 5
    longer = (
        np.pad(J, ((0, 0), (0, 2), (0, 0), (0, 0))),
        np.pad(h, ((0, 0), (0, 2), (0, 0))),
    )
    whole = latent.infer(stats, Evidence(*longer))
    outer = np.einsum("nti,ntj->ntij", whole.mean, whole.mean)
    # an HMM ties frames by their states alone, so its last frame is drawn anew
    later = slice(0, 3) if latent.coupled else slice(1, 3)
    assert relative_error(drawn.mean[:, later], whole.mean[:, 3:][:, later]) < 1e-10
    covs = (whole.second_moment - outer)[:, 3:][:, later]
    assert relative_error(drawn.cov[:, later], covs) < 1e-10
