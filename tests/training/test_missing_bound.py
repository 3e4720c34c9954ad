"""The bound with missing data: differences, exact evidences, what encoders see."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svae import data as data_
from svae.autodiff.trees import to_vector
from svae.families import product
from svae.likelihoods import Gaussian, named
from svae.networks import log_likelihood, recognize
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import expected, infer
from svae.testing import assert_identical, relative_error
from tests.helpers.exact import (
    NAMES,
    given_paths,
    latent_model,
    log_evidence,
    quadrature,
    with_gaps,
    world,
)
from tests.helpers.gaps import (
    LIKELIHOODS,
    frames_and_factor,
    make,
    recordings,
    small_problem,
)
from tests.helpers.problems import (
    central_difference,
    shifted,
    symmetric_basis,
)

STEP = 1e-4  # of differences: a mean-field optimum may bend sharply


@pytest.mark.parametrize("kind", ["frames", "entries"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_with_gaps_are_differences_of_the_bound(name, kind):
    model, parameters, prior, batch, noise = small_problem(name, kind)
    step = bound_and_gradients(model, parameters, prior, batch, noise)
    rng, family = np.random.default_rng(3), model.latent.family
    for role in ("encoder", "decoder"):
        tree, got = getattr(parameters, role), to_vector(getattr(step.gradients, role))
        direction = rng.standard_normal(got.size)

        def objective(moved, role=role, tree=tree):
            moved = parameters._replace(**{role: shifted(tree, moved)})
            return bound(model, moved, prior, batch, noise).objective

        assert (
            relative_error(
                got @ direction, central_difference(objective, direction, STEP)
            )
            < 1e-6
        )
    if not family:
        return
    # the gradient along v is <natural gradient, dm>, dm the change of the message
    basis = symmetric_basis(parameters.natparams)
    direction = basis @ rng.standard_normal(basis.shape[1])
    direction *= 0.1 / np.max(np.abs(direction))

    def objective(moved):
        moved = parameters._replace(natparams=shifted(parameters.natparams, moved))
        return bound(model, moved, prior, batch, noise).objective

    def message(moved):
        moved = shifted(parameters.natparams, moved)
        return to_vector(product.expected_stats(family, moved))

    got = to_vector(step.gradients.natparams) @ central_difference(message, direction)
    want = central_difference(objective, direction, STEP)
    assert relative_error(got, want) < 1e-6


def batch_of(frames):
    """Batch of one sequence with NaN, whole."""
    return Batch.of(data_.batch([frames], [(0, 0, len(frames))]))


@pytest.mark.parametrize("gaps", [[2], [0], [4], [0, 1, 4], [0, 1, 2, 3, 4]])
def test_hmm_sums_over_the_states_of_a_frame_without_data(gaps):
    """Components far apart make every other state certain, and mean field exact."""
    this = world("hmm", spread=40.0)
    rng = np.random.default_rng(1)
    states = [0, 1, 1, 0, 1]
    matrix, offset = this.parameters.decoder["location"]
    centers = this.theta["components"][0][states]
    frames = centers @ matrix + offset + rng.standard_normal((5, 3))
    frames[gaps] = np.nan
    batch = batch_of(frames)
    local = infer(this.model, this.stats, this.parameters.encoder, batch, dense=True)
    # up to a constant of every observed frame, the potentials are log p(y | x)
    silent = np.zeros((1, 1, 2))
    constants = log_likelihood(
        Gaussian(),
        this.model.decoder,
        this.parameters.decoder,
        silent[:, None] * np.ones((5, 1)),
        batch.values,
        batch.scored,
    )
    got = local.log_normalizer[0] + constants[0, 0].sum()
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    assert relative_error(got, want) < 1e-12
    every = list(given_paths(this.theta, this.parameters.decoder, frames))
    logs = np.array([given.log_joint for _, given in every])
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    best = every[int(np.argmax(logs))][0]
    assert_identical(this.fitted().predict(frames), np.array(best))
    probs = np.zeros((5, 2))
    for (path, _), weight in zip(every, weights, strict=True):
        probs[np.arange(5), path] += weight
    assert np.max(np.abs(local.states[0] - probs)) < 1e-9
    mean = sum(w * given.mean for (_, given), w in zip(every, weights, strict=True))
    assert np.max(np.abs(local.mean[0] - mean)) < 1e-7
    second = sum(
        w
        * (
            np.einsum("titj->tij", given.cov)
            + np.einsum("ti,tj->tij", given.mean, given.mean)
        )
        for (_, given), w in zip(every, weights, strict=True)
    )
    assert relative_error(local.second_moment[0], second) < 1e-9


def lds_bound(this, frames):
    noise = quadrature(1, len(frames), 2)
    noise = Noise(noise, np.zeros(0))
    terms, local = frames_and_factor(
        this.model, this.stats, this.parameters, batch_of(frames), noise
    )
    return expected(terms, local.weights)[0] - local.kl[0], local


@pytest.mark.parametrize("gaps", [[], [2], [0], [4], [0, 1, 4], [0, 1, 2, 3, 4]])
def test_lds_bound_is_the_evidence_of_the_frames_with_data(gaps):
    this = world("lds")
    frames = np.random.default_rng(3).standard_normal((5, 3))
    frames[gaps] = np.nan
    got, local = lds_bound(this, frames)
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    assert abs(got - want) < 1e-10 * max(1.0, abs(want))
    ((_, given),) = given_paths(this.theta, this.parameters.decoder, frames)
    assert np.max(np.abs(local.mean[0] - given.mean)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_bounds_of_partly_observed_frames_stay_below_the_evidence(name):
    """Their potentials are not exact, so the bound is strict; and not far off."""
    this = world(name)
    model = this.fitted()
    frames = with_gaps(np.random.default_rng(4), (4, 3), "entries")
    got = model.infer(frames, num_samples=2000, rng=0).elbo
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    if this.latent.independent:
        rows = [frames[t : t + 1] for t in range(4)]
        parts = [log_evidence(this.theta, this.parameters.decoder, r) for r in rows]
        assert sum(parts) == pytest.approx(want, rel=1e-12)
    assert want - 4.0 < got < want - 0.02


def test_the_likelihood_counts_only_observed_entries(rng):
    this = world("lds")
    frames = with_gaps(rng, (4, 3), "entries")
    frames[1] = np.nan
    batch = batch_of(frames)
    latents = rng.standard_normal((1, 5, 4, 2))
    seen = ~np.isnan(frames)
    for likelihood in LIKELIHOODS:
        got = log_likelihood(
            named(likelihood),
            this.model.decoder,
            this.parameters.decoder,
            latents,
            1.0 * (batch.values > 0) if likelihood == "bernoulli" else batch.values,
            batch.scored,
        )
        location, scale = this.model.decoder.apply(this.parameters.decoder, latents)
        if likelihood == "gaussian":
            law = scipy_stats.norm(location, np.sqrt(scale))
            terms = law.logpdf(frames)
        else:
            law = scipy_stats.bernoulli(1 / (1 + np.exp(-location)))
            terms = law.logpmf(1.0 * (frames > 0))
        want = np.sum(np.where(seen, terms, 0.0), axis=-1)
        assert got.shape == (1, 5, 4)
        assert relative_error(got, want) < 1e-13


class Spy:
    """A network that tells what it was given."""

    def apply(self, weights, inputs):
        self.inputs = inputs
        ones = np.ones((*inputs.shape[:-1], 2))
        return ones, 2.0 * ones


def test_the_encoder_gets_fill_and_mask(rng):
    frames = rng.standard_normal((2, 4, 3))
    frames[0, 1, 1] = frames[1, 0, 0] = frames[1, 3] = frames[0, 0] = np.nan
    observed, fill, spy = ~np.isnan(frames), np.array([5.0, 6.0, 7.0]), Spy()
    J, h = recognize(spy, None, np.nan_to_num(frames), observed, fill, True)
    assert_identical(spy.inputs[..., :3], np.where(observed, frames, fill))
    assert_identical(spy.inputs[..., 3:], 1.0 * ~observed)
    seen = observed.any(axis=-1, keepdims=True) * np.ones(2)
    assert np.sum(seen == 0) == 4
    assert_identical(J, -1.0 * seen)
    assert_identical(h, 1.0 * seen)
    recognize(spy, None, np.nan_to_num(frames), observed, fill, False)
    assert_identical(spy.inputs, np.where(observed, frames, fill))
    whole = rng.standard_normal((2, 4, 3))
    recognize(spy, None, whole, None, fill, True)
    assert_identical(spy.inputs, np.concatenate([whole, 0 * whole], axis=-1))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_batch_tells_what_is_seen_and_what_is_scored(rng, hidden):
    frames = np.stack([with_gaps(rng, (4, 3), k) for k in ("entries", "frames")])
    observed = ~np.isnan(frames)
    stretch = np.zeros((2, 4), dtype=bool)
    stretch[:, 1:3] = True
    batch = Batch(
        np.nan_to_num(frames),
        np.array([4, 3]),
        observed,
        shown=~(stretch & hidden),
    )
    live = (np.arange(4) < np.array([4, 3])[:, None])[..., None]
    assert_identical(batch.scored, observed & live)
    wanted = observed & ~(stretch * hidden)[..., None]
    assert_identical(batch.shown_entries & live, wanted & live)


def test_trailing_frames_without_data_are_predicted_by_an_lds():
    """For known theta a future of which nothing is known has probability one."""
    this = world("lds")
    frames = np.random.default_rng(5).standard_normal((4, 3))
    longer = np.concatenate([frames, np.full((3, 3), np.nan)])
    got, local = lds_bound(this, longer)
    want, shorter = lds_bound(this, frames)
    assert abs(got - want) < 1e-10
    assert np.max(np.abs(local.log_normalizer - shorter.log_normalizer)) < 1e-10
    assert np.max(np.abs(local.mean[:, :4] - shorter.mean)) < 1e-12
    A, precision = this.theta["dynamics"]
    mean = shorter.mean[0, -1]
    cov = shorter.second_moment[0, -1] - np.outer(mean, mean)
    for t in range(4, 7):
        mean, cov = A @ mean, A @ cov @ A.T + np.linalg.inv(precision)
        assert np.max(np.abs(local.mean[0, t] - mean)) < 1e-12
        second = cov + np.outer(mean, mean)
        assert relative_error(local.second_moment[0, t], second) < 1e-12


def test_an_uncertain_theta_makes_every_frame_without_data_cost_something():
    """The integral of exp E log p(x'|x, theta) over x' is below one."""
    latent = latent_model("lds")
    this = world("lds")
    parameters = this.parameters._replace(natparams=latent.prior())
    stats = product.expected_stats(latent.family, parameters.natparams)
    frames = np.random.default_rng(6).standard_normal((4, 3))
    logs = []
    for extra in range(4):
        longer = np.concatenate([frames, np.full((extra, 3), np.nan)])
        local = infer(this.model, stats, parameters.encoder, batch_of(longer))
        logs.append(local.log_normalizer[0])
    assert np.all(np.diff(logs) < -0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_with_gaps_does_not_depend_on_its_neighbours(name, rng):
    sequences = recordings(rng)
    model = make(name).fit(sequences, num_steps=1, rng=0)
    for together, frames in zip(model.infer(sequences), sequences, strict=True):
        alone = model.infer(frames)
        for part in ("mean", "cov", "states", "log_normalizer"):
            got, want = getattr(together, part), getattr(alone, part)
            if together.states is not None:  # products of all rows at once: to rounding
                assert np.max(np.abs(got - want)) <= 1e-13 * (1 + np.max(np.abs(want)))
            elif want is not None:
                assert_identical(got, want)
