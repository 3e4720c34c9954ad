"""What is missing from a mixture has the mixture's law: a state first, then x."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svae.families import dirichlet, niw
from svae.models import GMM, HMM, StudentMixture
from svae.models.evidence import Evidence
from svae.models.transport import select, student
from svae.objective.model import Parameters, initial_encoder
from tests.helpers.exact import estimator, known_theta, world
from tests.helpers.problems import generative

WEIGHTS, CENTERS, DEVIATION = np.array([0.55, 0.45]), np.array([-3.0, 3.0]), 0.1
OPTIONS = {"tolerance": 1e-10}
MIXTURES = {
    "gmm": GMM(2, 1, **OPTIONS),
    "hmm": HMM(2, 1, **OPTIONS),
    "student": StudentMixture(2, 1, dof=5.0, **OPTIONS),
    "sin-gmm": GMM(2, 1),
    "sin-student": StudentMixture(2, 1, dof=5.0),
}
every_mixture = pytest.mark.parametrize("name", MIXTURES)


class Bump:
    """A decoder without weights whose mean is curved, and whose variance is small."""

    def init(self, rng, num_inputs, num_outputs):
        """Return no weights."""
        return {}

    def apply(self, weights, latents):
        """Return mean and variance."""
        return curve(latents), 0.01 * np.ones(latents.shape)


def curve(x):
    """Return something that is not near linear between the components."""
    return np.sin(x) * np.exp(-0.1 * x) - 0.05 * x**2


def identity(x):
    """Return x."""
    return x


def fitted(name):
    """Return a mixture of two narrow components far apart, of known theta."""
    latent = MIXTURES[name]
    count = 1e10
    natparams = {
        "weights": dirichlet.from_standard(count * WEIGHTS),
        "components": niw.from_standard(
            CENTERS[:, None],
            np.full(2, count),
            np.full((2, 1, 1), count * DEVIATION**2),
            np.full(2, count),
        ),
    }
    if name == "hmm":
        natparams["transitions"] = dirichlet.from_standard(
            count * np.stack([WEIGHTS] * 2)
        )
    model = generative(latent)._replace(
        decoder=Bump(), inference="sin" if name.startswith("sin") else "svae"
    )
    weights = model.encoder.init(np.random.default_rng(0), 1, 1)
    encoder = initial_encoder(model, natparams, weights)
    return estimator(model, Parameters(natparams, encoder, {}), obs_dim=1)


@lru_cache
def expectation(name, function):
    """Return the mixture's expectation, and its standard deviation."""
    grid = np.linspace(-40.0, 40.0, 200_001)
    unit = scipy_stats.t(5.0) if "student" in name else scipy_stats.norm()
    density = sum(
        weight * unit.pdf((grid - center) / DEVIATION) / DEVIATION
        for weight, center in zip(WEIGHTS, CENTERS, strict=True)
    )
    density *= grid[1] - grid[0]
    mean = np.sum(density * function(grid))
    return mean, np.sqrt(np.sum(density * (function(grid) - mean) ** 2))


@every_mixture
def test_imputed_frames_are_expectations_under_the_mixture(name):
    frames = np.array([[curve(-3.0)], [np.nan], [curve(3.0)]])
    mean, deviation = expectation(name, curve)
    got = fitted(name).impute(frames, num_samples=40_000, rng=1)
    assert abs(got[1, 0] - mean) < 4 * deviation / np.sqrt(40_000)
    # what a Gaussian of the same mean and variance says is somewhere else
    center, spread = expectation(name, identity)
    normal = scipy_stats.norm(center, spread).expect(curve)
    assert abs(normal - mean) > 20 * deviation / np.sqrt(40_000)


@every_mixture
def test_reconstructed_frames_are_expectations_under_the_mixture(name):
    frames = np.array([[curve(-3.0)], [np.nan], [curve(3.0)]])
    mean, deviation = expectation(name, curve)
    got = fitted(name).reconstruct(frames, num_samples=40_000, rng=1)
    assert abs(got.mean[1, 0] - mean) < 4 * deviation / np.sqrt(40_000)
    assert got.squared_error[1] == 0.0


@every_mixture
def test_posterior_moments_of_missing_frames_are_those_of_the_mixture(name):
    frames = np.array([[curve(-3.0)], [np.nan], [curve(3.0)]])
    mean, deviation = expectation(name, identity)
    posterior = fitted(name).infer(frames)
    assert posterior.mean[1, 0] == pytest.approx(mean, abs=1e-6)
    assert posterior.cov[1, 0, 0] == pytest.approx(deviation**2, rel=1e-5)


@pytest.mark.parametrize("name", ["student", "sin-student"])
def test_heavy_tails_have_no_covariance(name):
    model = fitted(name)
    model.latent = StudentMixture(2, 1, dof=1.5)
    posterior = model.infer(np.array([[0.3], [np.nan]]))
    assert np.isfinite(posterior.cov[0]).all()
    assert np.all(posterior.cov[1] == np.inf)
    assert np.isfinite([posterior.elbo, *posterior.mean.ravel()]).all()


@pytest.mark.parametrize("gaps", [[1], [0, 2]])
def test_samples_of_missing_frames_have_the_law_of_the_mixture(gaps):
    """In two dimensions, with states that the neighbours of a gap tell of."""
    this, number = world("hmm", spread=3.0), 20_000
    frames = np.random.default_rng(2).standard_normal((4, 3))
    frames[gaps] = np.nan
    noise = np.random.default_rng(3).standard_normal((1, number, 4, 2))
    observed = ~np.isnan(frames)
    node = np.full((1, 4, 2), -0.4), np.full((1, 4, 2), 0.2)
    node = tuple(part * observed[:, :2] for part in node)
    local = this.latent.infer(
        this.stats, Evidence(*node, observed=observed.any(axis=-1)[None]), noise
    )
    means, precisions = known_theta("hmm", 3.0)["components"]
    covs = np.linalg.inv(precisions)
    for step in gaps:
        probs, x = local.states[0, step], local.samples[0, :, step]
        for direction in ([1.0, 0.0], [0.0, 1.0], [0.8, -0.6]):
            laws = [
                scipy_stats.norm(direction @ mean, np.sqrt(direction @ cov @ direction))
                for mean, cov in zip(means, covs, strict=True)
            ]
            # the distribution function of the mixture makes them uniform
            ranks = sum(
                p * law.cdf(x @ direction) for p, law in zip(probs, laws, strict=True)
            )
            assert scipy_stats.kstest(ranks, "uniform").pvalue > 1e-3
    again = this.latent.infer(this.stats, Evidence(*node), noise)
    kept = np.setdiff1d(range(4), gaps)
    assert np.all(np.isfinite(again.samples))
    assert np.all(np.isfinite(local.samples[:, :, kept]))


def test_samples_of_observed_frames_do_not_depend_on_gaps():
    """Rows are independent: bit for bit."""
    this = world("gmm")
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((6, 5, 1, 2))
    node = -rng.random((6, 1, 2)), rng.standard_normal((6, 1, 2))
    whole = this.latent.infer(this.stats, Evidence(*node), noise)
    observed = (np.arange(6) % 3 != 1)[:, None]
    gappy = tuple(part * observed[..., None] for part in node)
    some = this.latent.infer(this.stats, Evidence(*gappy, observed=observed), noise)
    kept = observed[:, 0]
    for field in ("samples", "mean", "second_moment", "states", "kl"):
        want, got = getattr(whole, field)[kept], getattr(some, field)[kept]
        np.testing.assert_array_equal(got, want)


def test_selected_states_leave_normal_draws():
    rng = np.random.default_rng(5)
    probs, number = np.array([0.2, 0.5, 0.0, 0.3]), 40_000
    states, rest = select(probs, rng.standard_normal(number))
    counts = np.bincount(states, minlength=4)
    assert counts[2] == 0
    kept = [0, 1, 3]
    assert scipy_stats.chisquare(counts[kept], number * probs[kept]).pvalue > 1e-3
    for state in kept:
        assert scipy_stats.kstest(rest[states == state], "norm").pvalue > 1e-3


def test_a_certain_state_leaves_the_draw_as_it_is():
    draws = np.array([-30.0, -9.0, -1.0, 0.0, 2.0, 9.0, 30.0])
    for probs in ([1.0], [0.0, 1.0], [1.0, 0.0, 0.0]):
        states, rest = select(np.array(probs), draws)
        assert np.all(states == np.argmax(probs))
        np.testing.assert_allclose(rest, draws, rtol=1e-12)


@pytest.mark.parametrize("dof", [0.5, 1.0, 4.0, 1e8])
@pytest.mark.parametrize("dim", [1, 3])
def test_student_vectors_have_their_law(dim, dof):
    normals = np.random.default_rng(6).standard_normal((20_000, dim))
    x = student(normals, dof)
    for axis in range(dim):
        assert scipy_stats.kstest(x[:, axis], scipy_stats.t(dof).cdf).pvalue > 1e-3
    if dim > 1:
        ratio = np.sum(x**2, axis=1) / dim
        assert scipy_stats.kstest(ratio, scipy_stats.f(dim, dof).cdf).pvalue > 1e-3
    far = student(np.concatenate([0 * normals[:1], 30.0 + 0 * normals[:1]]), dof)
    assert np.all(np.isfinite(far))
    assert np.all(far[0] == 0.0)
