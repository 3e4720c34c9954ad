"""Networks that begin as the linear model of the data."""

import numpy as np
import pytest

import svae
from svae.data import batch, windows
from svae.networks.observation import log_likelihood, recognize
from svae.objective.batch import Batch
from svae.objective.local import evidence
from svae.testing import assert_identical
from svae.training import warmup

STILL = {"learning_rate": 1e-12, "natural_step": 1e-12, "num_steps": 1, "rng": 0}
"""A fit that stays at its start."""


@pytest.fixture
def frames(rng):
    """Smooth latents, seen linearly with noise; the last column never varies."""
    x = np.zeros((120, 3))
    for t in range(1, 120):
        x[t] = 0.95 * x[t - 1] + 0.3 * rng.standard_normal(3)
    y = 5.0 + x @ rng.standard_normal((3, 8)) + 0.3 * rng.standard_normal((120, 8))
    y[:, -1] = 2.0
    return y


def principal(frames, latent_dim):
    mean = frames.mean(axis=0)
    basis = np.linalg.svd(frames - mean, full_matrices=False)[2][:latent_dim]
    return mean + (frames - mean) @ basis.T @ basis


LATENTS = {
    "gaussian": svae.Gaussian(3),
    "gmm": svae.GMM(3, 3),
    "student": svae.StudentMixture(3, 3),
    "hmm": svae.HMM(3, 3),
    "lds": svae.LDS(3),
    "slds": svae.SLDS(3, 3),
}


@pytest.mark.parametrize("name", LATENTS)
@pytest.mark.filterwarnings("ignore:states? . ha", "ignore:data")
def test_every_latent_model_starts_as_principal_components(name, frames):
    model = svae.SVAE(LATENTS[name]).fit(frames, **STILL)
    error = np.mean((model.reconstruct(frames).mean - frames) ** 2)
    best = np.mean((principal(frames, 3) - frames) ** 2)
    assert best <= error <= 1.2 * best  # smoothed, and drawn to the prior
    assert model.start_["linear"] < model.start_["objective"] + 200


@pytest.mark.filterwarnings("ignore:data. column 7 is constant")
@pytest.mark.parametrize("inference", ["svae", "sin"])
@pytest.mark.parametrize("variance", ["shared", "dimension", "network"])
def test_evidence_is_the_likelihood(frames, inference, variance, rng):
    """``log p(y | x) - <r, t(x)>`` does not depend on x, for one variance of all."""
    likelihood = svae.likelihoods.Gaussian(variance)
    model = svae.SVAE(svae.LDS(3), likelihood=likelihood, inference=inference)
    model.fit(frames, **STILL)
    generative, parameters = model._generative(), model.parameters_
    encoder = (
        parameters.encoder if inference == "svae" else parameters.encoder["network"]
    )
    data = Batch.of(batch([frames], windows([frames], 120)))
    of_data = evidence(generative, encoder, data)
    latents = rng.standard_normal((1, 5, 120, 3))
    densities = log_likelihood(
        generative.likelihood,
        generative.decoder,
        parameters.decoder,
        latents,
        data.values,
        units=generative.units,
    )
    J, h = of_data.J[:, None], of_data.h[:, None]
    left = densities - np.sum(J * latents**2 + h * latents, axis=-1)
    if variance == "shared":
        np.testing.assert_allclose(
            left, np.broadcast_to(left[:, :1], left.shape), atol=1e-7
        )
    assert np.all(np.isfinite(left))


def test_units_of_the_data_are_those_of_answers(frames):
    """A density of frames in other units differs by the Jacobian alone."""
    model = svae.SVAE(svae.LDS(3)).fit(frames, **STILL)
    large = svae.SVAE(svae.LDS(3)).fit(10.0 * frames, **STILL)
    np.testing.assert_allclose(large.units_.scale, 10.0 * model.units_.scale)
    np.testing.assert_allclose(
        large.transform(10.0 * frames), model.transform(frames), atol=1e-8
    )
    shift = 8 * np.log(10.0)
    for theta in ("mean", None):
        words = {"num_importance_samples": 5} if theta else {}
        got, want = large.score(10.0 * frames, **words), model.score(frames, **words)
        np.testing.assert_allclose(got, want - shift, rtol=1e-8)
    some, others = (
        model.forecast(frames, 3, rng=0),
        large.forecast(10.0 * frames, 3, rng=0),
    )
    np.testing.assert_allclose(others.mean, 10.0 * some.mean, rtol=1e-7)
    np.testing.assert_allclose(others.variance, 100.0 * some.variance, rtol=1e-7)
    got, want = large.predict_next(10.0 * frames), model.predict_next(frames)
    np.testing.assert_allclose(got.mean, 10.0 * want.mean, rtol=1e-7)
    np.testing.assert_allclose(got.log_density, want.log_density - shift, atol=1e-6)


def test_a_change_of_units_changes_no_state(rng):
    x, z = np.zeros((400, 2)), np.repeat([0, 1, 0, 1], 100)
    for t in range(1, 400):
        a = (0.05, 0.8)[z[t]]
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        x[t] = 0.99 * turn @ x[t - 1] + 0.1 * rng.standard_normal(2)
    frames = x @ rng.standard_normal((2, 6)) + 0.05 * rng.standard_normal((400, 6))
    states = [
        svae.SVAE(svae.SLDS(2, 2))
        .fit(c * frames, num_steps=5, rng=0)
        .predict(c * frames)
        for c in (1.0, 10.0)
    ]
    np.testing.assert_array_equal(*states)
    assert svae.metrics.accuracy(z, states[0]) > 0.9


def test_missing_entries_are_no_obstacle(frames, rng):
    holes = frames.copy()
    holes[rng.random(frames.shape) < 0.2] = np.nan
    holes[50:53] = np.nan
    model = svae.SVAE(svae.LDS(3)).fit(holes, **STILL)
    lost = np.isnan(holes)
    error = np.mean((model.impute(holes)[lost] - frames[lost]) ** 2)
    assert error < 0.5 * np.mean(((frames - frames.mean(axis=0)) ** 2)[lost])


def test_constant_columns_are_not_written_off_as_certain(frames):
    """A shared variance gains nothing from them, and there is nothing to warn of."""
    model = svae.SVAE(svae.LDS(3)).fit(frames, num_steps=30, rng=0)
    later = frames.copy()
    later[:, -1] += 1.0
    assert model.score(later) > model.score(frames) - 200.0


@pytest.mark.filterwarnings("ignore:data. column 7 is constant")
@pytest.mark.parametrize("variance", ["network", "dimension"])
def test_a_relative_floor_is_in_units_of_the_data(frames, variance):
    likelihood = svae.likelihoods.Gaussian(variance, relative_floor=0.01)
    for factor in (1.0, 100.0):
        model = svae.SVAE(svae.LDS(3), likelihood=likelihood)
        model.fit(factor * frames, **STILL)
        law = model.predict_next(factor * frames)
        floor = 0.01 * factor**2 * frames.var(axis=0).mean()
        assert law.var.min() > 0.99 * floor
        assert law.var[:, -1].min() < 2.0 * floor


def test_saved_and_loaded_it_is_the_same(frames, tmp_path):
    model = svae.SVAE(svae.LDS(3)).fit(frames, num_steps=3, rng=0)
    model.save(tmp_path / "model.npz")
    again = svae.load(tmp_path / "model.npz")
    assert again.score(frames) == model.score(frames)
    assert again.start_ == model.start_
    np.testing.assert_array_equal(again.sample(5, rng=0), model.sample(5, rng=0))


def test_it_goes_on_from_a_checkpoint(frames, tmp_path):
    options = {"rng": 0, "checkpoint_interval": 0}

    def make():
        return svae.SVAE(svae.SLDS(2, 2), svae.Residual((5,)), svae.Residual((5,)))

    whole = make().fit(frames, num_steps=8, rng=0)
    make().fit(frames, num_steps=4, checkpoint=tmp_path / "run", **options)
    again = make().fit(
        frames, num_steps=8, checkpoint=tmp_path / "run", resume=True, **options
    )
    np.testing.assert_array_equal(
        again.history_["objective"], whole.history_["objective"]
    )
    assert again.start_ == whole.start_


def test_networks_without_a_skip_start_at_random(frames):
    model = svae.SVAE(svae.LDS(3), svae.MLP((5,)), svae.MLP((5,)))
    model.fit(frames / 10, num_steps=1, rng=0)
    assert model.start_ is None and model.units_.are_trivial
    with pytest.raises(ValueError, match="start='linear': the encoder MLP.*Residual"):
        model.fit(frames, num_steps=1, start="linear")
    squashed = svae.Residual((5,), mean="sigmoid")
    with pytest.raises(ValueError, match="start='linear': the decoder Residual"):
        svae.SVAE(svae.LDS(3), svae.Residual((5,)), squashed).fit(
            frames, num_steps=1, start="linear"
        )
    with pytest.raises(ValueError, match="likelihood 'bernoulli' has no linear model"):
        svae.SVAE(svae.LDS(3), likelihood="bernoulli").fit(
            (frames > 5).astype(float), num_steps=1, start="linear"
        )


def test_data_that_never_vary_are_refused():
    with pytest.raises(ValueError, match="no column of the data varies"):
        svae.SVAE(svae.LDS(2)).fit(np.ones((20, 3)), num_steps=1)


def test_hidden_layers_have_no_effect_but_gradients(frames):
    model = svae.SVAE(svae.LDS(3)).fit(frames, **STILL)
    data = batch([frames], windows([frames], 120))
    of_encoder = model.parameters_.encoder
    without = of_encoder | {"hidden": [(0 * w, 0 * b) for w, b in of_encoder["hidden"]]}
    words = {"units": model.units_}
    some = recognize(model.encoder, of_encoder, data.values, **words)
    others = recognize(model.encoder, without, data.values, **words)
    np.testing.assert_allclose(some, others, atol=1e-8)
    trained = svae.SVAE(svae.LDS(3)).fit(frames, num_steps=2, rng=0)
    heads = trained.parameters_.decoder["network"]["location"]
    assert np.any(heads[0])


@pytest.mark.parametrize("inference", ["svae", "sin"])
def test_frames_are_encoded_once_for_prior_and_posterior(
    frames, inference, monkeypatch
):
    """And twice is no different: hidden layers have no effect yet."""
    encode, calls = warmup.encode, []

    def counted(*arguments):
        calls.append(1)
        return encode(*arguments)

    def fitted():
        return svae.SVAE(svae.LDS(3), inference=inference).fit(frames[:, :7], **STILL)

    monkeypatch.setattr(warmup, "encode", counted)
    once = fitted()
    assert len(calls) == 1
    initialize = warmup.initialize
    monkeypatch.setattr(warmup, "initialize", lambda *a: initialize(*a[:6]))
    twice = fitted()
    assert len(calls) == 3
    assert_identical(tuple(once.parameters_), tuple(twice.parameters_))
