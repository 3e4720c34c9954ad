"""Frames without data at the end of a sequence change nothing, and none is counted."""

import numpy as np
import pytest

import svae
from svae import data as data_
from svae.families import product
from svae.models.inference.prediction import Moments, predicted
from svae.objective.batch import Batch
from svae.objective.model import Parameters, initial_encoder
from svae.queries.forecasts import forecast
from svae.queries.importance import importance_scores
from svae.queries.trailing import trimmed
from svae.testing import assert_identical, relative_error, typical_natparams
from svae.training import loop
from tests.helpers.exact import (
    CHAINS,
    known_theta,
    latent_model,
    paths,
    with_gaps,
    world,
)
from tests.helpers.problems import generative

EVERY_CHAIN = (*CHAINS, "affine-lds", "affine-slds", "sin-lds", "sin-hmm")
GAP = 7


def unsure(name, seed=0):
    """Return a model of wide q(theta) between nonlinear networks, as if fitted."""
    rng = np.random.default_rng(seed)
    base = name.removeprefix("sin-").removeprefix("affine-")
    latent = latent_model(base, **({"affine": True} if "affine" in name else {}))
    inference = "sin" if name.startswith("sin") else "svae"
    model = generative(latent)._replace(inference=inference)
    natparams = typical_natparams(latent, rng)
    encoder, decoder = model.encoder.init(rng, 3, 2), model.decoder.init(rng, 2, 3)
    encoder = initial_encoder(model, natparams, encoder)
    parameters = Parameters(natparams, encoder, decoder)
    return world(base)._replace(latent=latent, model=model, parameters=parameters)


def longer(frames, gap=GAP):
    """Append frames of which nothing is known."""
    return np.concatenate([frames, np.full((gap, frames.shape[1]), np.nan)])


@pytest.mark.parametrize("kind", ["none", "entries"])
@pytest.mark.parametrize("name", EVERY_CHAIN)
def test_trailing_frames_change_no_bit_of_what_is_before_them(name, kind, rng):
    model = unsure(name).fitted()
    frames = with_gaps(rng, (6, 3), kind)
    want, got = (model.infer(data, rng=1) for data in (frames, longer(frames)))
    assert_identical(got.elbo, want.elbo)
    assert_identical(got.log_normalizer, want.log_normalizer)
    for part in ("mean", "cov", "states"):
        before = getattr(want, part)
        if before is not None:
            after = getattr(got, part)
            assert len(after) == 6 + GAP
            assert np.all(np.isfinite(after))
            assert_identical(after[:6], before)
    for options in ({}, {"num_importance_samples": 5}):
        many = 60 * [longer(frames)]  # beside one that goes on
        assert_identical(
            model.score(longer(frames), **options), model.score(frames, **options)
        )
        together = [*many, rng.standard_normal((6 + GAP, 3))]
        assert np.isfinite(model.score(together, **options))
    if hasattr(model.latent, "num_states"):
        path = model.predict(longer(frames))
        assert_identical(path[:6], model.predict(frames))
        assert path.shape == (6 + GAP,)
        assert np.all((path >= 0) & (path < model.latent.num_states))
    whole = model.reconstruct(longer(frames), rng=1)
    assert_identical(whole.mean[:6], model.reconstruct(frames, rng=1).mean)
    assert np.all(whole.squared_error[6:] == 0.0)
    assert np.all(np.isfinite(whole.mean))


def test_ragged_sequences_keep_their_own_ends(rng):
    model = unsure("slds").fitted()
    sequences = [rng.standard_normal((n, 3)) for n in (5, 9, 2)]
    extended = [longer(sequences[0], 3), sequences[1], longer(sequences[2], 20)]
    for want, got in zip(model.infer(sequences), model.infer(extended), strict=True):
        assert_identical(
            [got.elbo, got.log_normalizer], [want.elbo, want.log_normalizer]
        )
        assert_identical(got.mean[: len(want.mean)], want.mean)
        assert np.all(np.isfinite(got.cov))
    stacked = np.stack([longer(sequences[0], 5), longer(sequences[1], 1)])
    assert model.infer(stacked).mean.shape == (2, 10, 2)


@pytest.mark.parametrize("name", EVERY_CHAIN)
def test_the_posterior_of_trailing_frames_is_the_forecast(name, rng):
    this = unsure(name)
    frames, number = rng.standard_normal((6, 3)), 20_000
    posterior = this.fitted().infer(longer(frames, 3))
    future = forecast(
        this.model, this.parameters, frames, 3, number, "mean", np.random.default_rng(1)
    )
    deviation = np.sqrt(np.diagonal(future.latent_cov, axis1=1, axis2=2))
    error = np.abs(posterior.mean[6:] - future.latent_mean) / deviation
    exact = not hasattr(this.latent, "num_states")  # else of the paths drawn
    assert np.max(error) < (1e-9 if exact else 0.05)
    scale = deviation[:, :, None] * deviation[:, None]
    error = np.abs(posterior.cov[6:] - future.latent_cov) / scale
    assert np.max(error) < (1e-9 if exact else 0.1)
    later = forecast(
        this.model,
        this.parameters,
        longer(frames, 3),
        2,
        50,
        "mean",
        np.random.default_rng(1),
    )
    want = forecast(
        this.model, this.parameters, frames, 5, 50, "mean", np.random.default_rng(1)
    )
    assert relative_error(later.latents, want.latents[:, 3:]) < 1e-12
    completed = this.fitted().impute(longer(frames, 3), num_samples=4000)
    spread = np.sqrt(future.variance)
    assert np.max(np.abs(completed[6:] - future.mean) / spread) < 0.12
    whole = this.fitted().reconstruct(longer(frames, 3), num_samples=4000)
    assert np.max(np.abs(whole.mean[6:] - future.mean) / spread) < 0.12


@pytest.mark.parametrize("name", ["hmm", "lds", "slds"])
def test_predicted_moments_are_those_of_all_paths(name, rng):
    """By enumeration of the states."""
    latent, theta, steps = latent_model(name), known_theta(name), 4
    mean, root = rng.standard_normal(2), rng.standard_normal((2, 2))
    cov, first = root @ root.T, np.array([0.3, 0.7])
    states = None if name == "lds" else first[None]
    got = predicted(latent, theta, Moments(mean[None], cov[None], states), steps)
    K = 1 if name == "lds" else 2
    for step in range(1, steps + 1):
        total, means, seconds, occupancy = 0.0, 0.0, 0.0, np.zeros(K)
        for path in paths(range(K), repeat=step + 1):
            prob = 1.0 if K == 1 else first[path[0]]
            m, V = mean, cov
            for a, b in zip(path[:-1], path[1:], strict=True):
                prob = prob if K == 1 else prob * theta["transitions"][a, b]
                if name == "hmm":
                    m = theta["components"][0][b]
                    V = np.linalg.inv(theta["components"][1][b])
                    continue
                A, precision = theta["dynamics"]
                if K == 2:
                    A, precision = A[b], precision[b]
                m, V = A @ m, A @ V @ A.T + np.linalg.inv(precision)
            total += prob
            means = means + prob * m
            seconds = seconds + prob * (V + np.outer(m, m))
            occupancy[path[-1]] += prob
        assert total == pytest.approx(1.0)
        assert relative_error(got.mean[0, step - 1], means) < 1e-12
        want = seconds - np.outer(means, means)
        assert relative_error(got.cov[0, step - 1], want) < 1e-11
        if K == 2:
            assert relative_error(got.states[0, step - 1], occupancy) < 1e-12


def test_states_of_probability_zero_are_predicted():
    theta = known_theta("slds") | {"transitions": np.array([[1.0, 0.0], [0.5, 0.5]])}
    last = Moments(np.zeros((1, 2)), np.eye(2)[None], np.array([[1.0, 0.0]]))
    got = predicted(latent_model("slds"), theta, last, 5)
    assert np.all(np.isfinite(got.mean))
    assert np.all(np.isfinite(got.cov))
    np.testing.assert_array_equal(got.states[0], [[1.0, 0.0]] * 5)


def test_growing_dynamics_are_named():
    theta = known_theta("lds")
    theta = theta | {"dynamics": (1e3 * np.eye(2), np.eye(2))}
    last = Moments(np.ones((2, 2)), np.stack([np.eye(2)] * 2), None)
    got = predicted(latent_model("lds"), theta, last, 80)
    assert np.all(np.isfinite(got.mean))
    assert np.all(got.cov[:, -1] == np.inf)
    with pytest.raises(FloatingPointError, match=r"sequence 0.*103 steps after"):
        predicted(latent_model("lds"), theta, last, 200)


@pytest.mark.parametrize("name", ["gmm", "lds", "hmm"])
def test_frames_without_data_are_not_counted(name, rng):
    model = unsure(name).fitted()
    frames = rng.standard_normal((8, 3))
    frames[2, 1] = np.nan  # counts: something is known of it
    for options in ({}, {"num_importance_samples": 6}):
        want = model.score(frames, rng=3, **options)
        got = model.score(longer(frames, 100), rng=3, **options)
        if name == "gmm":  # noise of more rows: other draws
            assert abs(got - want) < 0.6
        else:
            assert_identical(got, want)
    summary = data_.summarize([longer(frames), longer(frames[:3])])
    assert summary.num_frames == 11


@pytest.mark.parametrize("name", EVERY_CHAIN)
def test_a_sequence_without_data_costs_nothing(name, rng):
    model = unsure(name).fitted()
    frames, nothing = rng.standard_normal((6, 3)), np.full((4, 3), np.nan)
    posterior = model.infer(nothing)
    assert posterior.elbo == posterior.log_normalizer == 0.0
    assert np.all(np.isfinite(posterior.cov))
    assert posterior.mean.shape == (4, 2)
    for options in ({}, {"num_importance_samples": 6}):
        with pytest.raises(ValueError, match="no observed value"):
            model.score(nothing, **options)
    assert model.score([frames, nothing]) == pytest.approx(
        model.score([frames]), abs=1e-12
    )
    arguments = model._generative(), model.parameters_, [frames, nothing], 6
    for theta in ("mean", "sample"):
        rng = np.random.default_rng(1)
        assert list(importance_scores(*arguments, theta, rng))[1] == 0.0


def test_batches_are_trimmed_as_if_frames_were_not_there(rng):
    model = unsure("lds").model
    sequences = [rng.standard_normal((n, 3)) for n in (5, 3)]
    sequences[0][2] = np.nan
    want = batch_of(sequences)
    got, lengths = trimmed(
        model, batch_of([longer(sequences[0], 1), longer(sequences[1], 4)])
    )
    assert_identical(lengths, np.array([6, 7]))
    for part in ("values", "lengths", "observed"):
        assert_identical(getattr(got, part), getattr(want, part))
    whole = batch_of([rng.standard_normal((4, 3))] * 2)
    same, _ = trimmed(model, whole)
    assert same is whole


def batch_of(sequences):
    size = max(map(len, sequences))
    return Batch.of(data_.batch(sequences, data_.windows(sequences, size)))


def test_bounds_per_frame_of_a_fit_count_frames_with_data(rng, monkeypatch):
    """Progress bars and the score divide by the same number."""
    told = []
    honest = loop.progress_bars

    def spy(num_frames, show):
        told.append(num_frames)
        return honest(num_frames, show)

    monkeypatch.setattr(loop, "progress_bars", spy)
    frames = longer(rng.standard_normal((9, 3)), 30)
    network = svae.MLP((4,))
    model = svae.SVAE(svae.LDS(2), network, network).fit(frames, num_steps=2, rng=0)
    assert told == [9]
    assert np.isfinite(model.score(frames))
    svi = svae.SVI(svae.HMM(2, 3)).fit(frames, num_steps=3, rng=0)
    total = svi.infer(frames).elbo
    assert svi.score(frames) == pytest.approx(total / 9, rel=1e-12)


def test_product_mean_is_what_frames_are_predicted_from(rng):
    """Of a wide q(theta) too: A of the mean, and the inverse of the mean precision."""
    this = unsure("lds")
    frames = rng.standard_normal((6, 3))
    posterior = this.fitted().infer(longer(frames, 2))
    A, precision = product.mean(this.latent.family, this.parameters.natparams)[
        "dynamics"
    ]
    mean, cov = posterior.mean[5], posterior.cov[5]
    for step in (6, 7):
        mean, cov = A @ mean, A @ cov @ A.T + np.linalg.inv(precision)
        assert relative_error(posterior.mean[step], mean) < 1e-12
        assert relative_error(posterior.cov[step], cov) < 1e-12
