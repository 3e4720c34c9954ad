"""The SVAE face: shapes of results, errors, reproducibility, saving."""

import numpy as np
import pytest

import svae
from svae.data import dots, pinwheel
from svae.errors import NotFitted

SMALL = svae.MLP((8,))


def gmm(**options):
    return svae.SVAE(
        svae.GMM(4, 2), svae.Residual((8,)), svae.Residual((8,)), **options
    )


def lds(**options):
    return svae.SVAE(svae.LDS(3), SMALL, SMALL, **options)


def hmm(**options):
    return svae.SVAE(svae.HMM(3, 2), SMALL, SMALL, **options)


def slds(**options):
    return svae.SVAE(svae.SLDS(2, 3, affine=True), SMALL, SMALL, **options)


@pytest.fixture(scope="module")
def frames():
    return dots(image_width=6, num_frames=60, rng=0)


@pytest.fixture(scope="module")
def fitted_lds(frames):
    return lds().fit(frames, num_steps=3, window=20, batch_size=2, rng=0)


@pytest.fixture(scope="module")
def fitted_gmm():
    return gmm().fit(pinwheel()[0], num_steps=3, rng=0)


def test_history_is_additive_and_complete(fitted_lds):
    history = fitted_lds.history_
    assert set(history) >= {
        "objective",
        "reconstruction",
        "local_kl",
        "global_kl",
        "seconds",
    }
    assert all(len(column) == 3 for column in history.values())
    parts = history["reconstruction"] - history["local_kl"] - history["global_kl"]
    np.testing.assert_allclose(history["objective"], parts, rtol=1e-12)


@pytest.mark.parametrize("shape", ["single", "stacked", "list"])
def test_results_are_arranged_like_the_data(shape, frames, fitted_lds):
    data = {
        "single": frames,
        "stacked": np.stack([frames[:30], frames[30:]]),
        "list": [frames[:30], frames[30:40]],
    }[shape]
    means = fitted_lds.transform(data)
    posterior = fitted_lds.infer(data)
    if shape == "list":
        assert [m.shape for m in means] == [(30, 3), (10, 3)]
        assert [p.cov.shape for p in posterior] == [(30, 3, 3), (10, 3, 3)]
        return
    lead = data.shape[:-1]
    assert means.shape == (*lead, 3)
    assert posterior.cov.shape == (*lead, 3, 3)
    assert np.shape(posterior.elbo) == lead[:-1]
    assert np.all(np.linalg.eigvalsh(posterior.cov) > 0)


def test_posterior_of_a_sequence_does_not_depend_on_its_neighbours(frames, fitted_lds):
    alone = fitted_lds.transform(frames[:17])
    together = fitted_lds.transform([frames, frames[:17]])[1]
    np.testing.assert_array_equal(alone, together)


def test_gmm_has_states(fitted_gmm):
    points, _ = pinwheel()
    states = fitted_gmm.predict(points)
    assert states.shape == (500,)
    assert states.dtype == np.int64
    posterior = fitted_gmm.infer(points)
    assert posterior.states.shape == (500, 4)
    np.testing.assert_allclose(posterior.states.sum(1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(posterior.states.argmax(1), states)


@pytest.mark.parametrize("make", [hmm, slds])
def test_chains_have_states(make, frames):
    model = make().fit(frames, num_steps=3, window=20, rng=0)
    sequences = [frames, frames[:17]]
    posterior, alone = model.infer(sequences), model.infer(frames[:17])
    paths = model.predict(sequences)
    assert [path.shape for path in paths] == [(60,), (17,)]
    for path, one in zip(paths, posterior, strict=True):
        assert path.dtype == np.int64
        assert set(path) <= set(range(model.latent.num_states))
        np.testing.assert_allclose(one.states.sum(1), 1.0, rtol=1e-12)
        assert np.isfinite(one.log_normalizer)
        assert np.all(np.linalg.eigvalsh(one.cov) > 0)
    np.testing.assert_allclose(posterior[1].mean, alone.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(paths[1], model.predict(frames[:17]))
    assert model.sample(7, rng=0).shape == (7, 6)
    forecast = model.forecast(frames, 5, num_samples=20, rng=1)
    assert forecast.samples.shape == (20, 5, 6)
    assert np.all(np.linalg.eigvalsh(forecast.latent_cov) > 0)


def test_score_is_the_bound_per_frame(frames, fitted_lds):
    posterior = fitted_lds.infer(frames)
    assert fitted_lds.score(frames) == pytest.approx(posterior.elbo / 60, rel=1e-12)


def test_log_normalizer_tracks_the_elbo(fitted_gmm):
    points, _ = pinwheel()
    posterior = fitted_gmm.infer(points)
    assert np.isfinite(posterior.log_normalizer)
    assert posterior.elbo < 0


def test_forecast_is_smoothing_with_zero_potentials(frames, fitted_lds):
    """The latent forecast is the mean dynamics of E_q(theta)[t] run forward."""
    forecast = fitted_lds.forecast(frames, 5, num_samples=20, rng=1)
    assert forecast.mean.shape == forecast.variance.shape == (5, 6)
    assert forecast.samples.shape == (20, 5, 6)
    assert forecast.latents.shape == (20, 5, 3)
    assert np.all(np.linalg.eigvalsh(forecast.latent_cov) > 0)
    longer = fitted_lds.forecast(frames, 9, rng=1)
    assert np.all(np.isfinite(longer.mean))


def test_forecast_samples_agree_with_the_exact_moments(frames, fitted_lds):
    forecast = fitted_lds.forecast(frames, 3, num_samples=4000, rng=1)
    spread = np.sqrt(np.diagonal(forecast.latent_cov, axis1=1, axis2=2))
    error = forecast.latents.mean(0) - forecast.latent_mean
    assert np.max(np.abs(error) / spread) < 4 / np.sqrt(4000) * 1.5


def test_samples_have_the_data_shape(fitted_lds, fitted_gmm):
    assert fitted_lds.sample(7, rng=0).shape == (7, 6)
    assert fitted_gmm.sample(7, rng=0).shape == (7, 2)


def test_same_seed_same_fit(frames):
    first, second = (
        lds().fit(frames, num_steps=3, window=20, rng=5).history_["objective"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_saved_model_is_the_model(tmp_path, frames, fitted_lds, fitted_gmm):
    models = [(fitted_lds, frames), (fitted_gmm, pinwheel()[0])]
    options = {"num_steps": 2, "window": 20, "rng": 0}
    models += [(make().fit(frames, **options), frames) for make in (hmm, slds)]
    for model, data in models:
        model.save(tmp_path / "model.npz")
        loaded = svae.load(tmp_path / "model.npz")
        assert loaded.latent == model.latent
        assert loaded.encoder == model.encoder
        np.testing.assert_array_equal(loaded.transform(data), model.transform(data))
        for name, column in model.history_.items():
            np.testing.assert_array_equal(loaded.history_[name], column)


def test_checkpoint_writes_a_run_folder(tmp_path, frames):
    model = lds().fit(frames, num_steps=2, rng=0, checkpoint=tmp_path / "run")
    loaded = svae.load(tmp_path / "run" / "model.npz")
    np.testing.assert_array_equal(loaded.transform(frames), model.transform(frames))
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0].startswith("step,objective")
    assert len(lines) == 3


def test_gaussian_is_the_vae():
    points, _ = pinwheel()
    model = svae.SVAE(svae.Gaussian(2), SMALL, SMALL).fit(points, num_steps=300, rng=0)
    objective = model.history_["objective"]
    assert np.mean(objective[-20:]) > np.mean(objective[:20]) + 100
    assert np.all(model.history_["global_kl"] == 0.0)


@pytest.mark.parametrize("make", [gmm, hmm, lds, slds])
def test_training_raises_the_bound(make, frames):
    data = pinwheel()[0] if make is gmm else frames
    model = make(decoder_posterior="gaussian")
    model.fit(data, num_steps=80, window=20, rng=0, learning_rate=1e-2)
    objective = model.history_["objective"]
    assert np.mean(objective[-10:]) > np.mean(objective[:10])


def test_methods_before_fit_say_so(frames):
    for call in (lds().transform, lds().score, lds().infer):
        with pytest.raises(NotFitted, match="fit"):
            call(frames)
    with pytest.raises(NotFitted):
        lds().sample(3)


def test_errors_name_the_argument(frames, fitted_lds, fitted_gmm):
    with pytest.raises(ValueError, match="likelihood"):
        lds(likelihood="cauchy").fit(frames)
    with pytest.raises(ValueError, match="decoder_posterior"):
        lds(decoder_posterior="none").fit(frames)
    with pytest.raises(ValueError, match="num_steps"):
        lds().fit(frames, num_steps=0)
    with pytest.raises(ValueError, match="latent_dim"):
        svae.LDS(0)
    with pytest.raises(ValueError, match="activation"):
        svae.MLP((3,), activation="gelu")
    with pytest.raises(ValueError, match="dimensions"):
        fitted_lds.transform(np.zeros((4, 5)))
    with pytest.raises(TypeError, match="no discrete states"):
        fitted_lds.predict(frames)
    with pytest.raises(TypeError, match="independent"):
        fitted_gmm.forecast(pinwheel()[0], 3)
    broken = frames.copy()
    broken[7, 2] = np.inf
    with pytest.raises(ValueError, match=r"7.*2"):
        lds().fit(broken)


def test_infinite_values_are_refused_with_their_place(frames, fitted_lds):
    broken = np.stack([frames, frames])
    broken[1, 7, 2] = np.inf
    place = "inf at sequence 1, step 7, dimension 2"
    for method in (lds().fit, fitted_lds.infer, fitted_lds.transform, fitted_lds.score):
        with pytest.raises(ValueError, match=place):
            method(broken)
    with pytest.raises(ValueError, match=place):
        fitted_lds.forecast(broken, 3)
    with pytest.raises(ValueError, match=place):
        fitted_lds.impute(broken)


def test_missing_values_are_taken(frames, fitted_lds):
    """An entry that is missing, and a frame, leave every result finite."""
    holes = np.stack([frames, frames])
    holes[1, 7, 2], holes[0, 3] = np.nan, np.nan
    model = lds().fit(holes, num_steps=2, window=20, rng=0)
    for fitted in (model, fitted_lds):
        assert np.all(np.isfinite(fitted.transform(holes)))
        assert np.isfinite(fitted.score(holes))
        assert np.all(np.isfinite(fitted.forecast(holes, 3).mean))
        filled = fitted.impute(holes)
        assert np.all(np.isfinite(filled))
        np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])


class Elsewhere:
    """Data with nothing but a shape and ``[]``."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __getitem__(self, key):
        return self.values[key]


@pytest.mark.parametrize("make", [lds, slds, gmm, hmm])
def test_data_elsewhere_is_as_data_in_memory(make, frames):
    """Of (T, P), (N, T, P) and in a list; the same results, and arranged the same."""
    options = {"num_steps": 2, "window": 20, "batch_size": 2, "rng": 0}
    one, two = frames[:30], np.stack([frames[:30], frames[30:]])
    model = make().fit(two, **options)
    same = make().fit(Elsewhere(two), **options)
    for name, column in model.history_.items():
        if name != "seconds":
            np.testing.assert_array_equal(same.history_[name], column)
    methods = [model.transform, lambda data: [model.score(data)]]
    if make is not gmm:
        methods.append(lambda data: model.forecast(data, 3, num_samples=2).mean)
    for data in (one, two):
        for method in methods:
            np.testing.assert_array_equal(method(Elsewhere(data)), method(data))
    listed = model.transform([Elsewhere(one), frames[:10]])
    np.testing.assert_array_equal(listed[0], model.transform([one, frames[:10]])[0])


def test_failed_step_keeps_the_last_good_state(frames):
    model = lds()

    def stop(step, record):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in step 3 of the training"):
        model.fit(frames, num_steps=5, rng=0, callback=stop)
    assert model.ended_ == "interrupted"
    assert len(model.history_["objective"]) == 2
    assert np.all(np.isfinite(model.transform(frames)))


def test_progress_bar_shows_the_parts(frames, capsys):
    lds().fit(frames, num_steps=2, rng=0, progress=True)
    shown = capsys.readouterr().err
    for part in ("bound=", "rec=", "kl=", "global=", "step"):
        assert part in shown
    assert "2/2" in shown


def test_training_is_silent_unless_asked(frames, capfd):
    lds().fit(frames, num_steps=2, rng=0)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    "name", ["batch_size", "window", "num_samples", "learning_rate", "natural_step"]
)
def test_settings_that_are_not_positive_are_refused(frames, name):
    with pytest.raises(ValueError, match=name):
        lds().fit(frames, **{name: 0})


def test_parts_of_the_wrong_kind_are_refused(frames):
    with pytest.raises(TypeError, match="latent"):
        svae.SVAE(svae.LDS).fit(frames)
    with pytest.raises(TypeError, match="encoder"):
        svae.SVAE(svae.LDS(2), encoder=(3, 3)).fit(frames)


def test_bernoulli_needs_probabilities_and_log_odds(frames):
    with pytest.raises(ValueError, match=r"\[0, 1\].*step"):
        lds(likelihood="bernoulli").fit(frames)
    decoder = svae.MLP((4,), mean="sigmoid")
    model = svae.SVAE(svae.LDS(2), SMALL, decoder, likelihood="bernoulli")
    with pytest.raises(ValueError, match="log odds"):
        model.fit(np.clip(frames, 0, 1))


def test_bernoulli_data_elsewhere_is_checked_with_its_place(monkeypatch):
    monkeypatch.setattr("svae.data.sequences.STRETCH", 20)
    values = np.full((2, 9, 5), 0.5)
    values[1, 7, 2] = 1.5
    model = lds(likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"1\.5 at sequence 1, step 7, dimension 2"):
        model.fit(Elsewhere(values), num_steps=1)


def test_bernoulli_frames_fit_and_sample(frames):
    bits = (frames > 0.5).astype(float)
    model = lds(likelihood="bernoulli").fit(bits, num_steps=3, rng=0)
    assert set(np.unique(model.sample(20, rng=0))) <= {0.0, 1.0}
    forecast = model.forecast(bits, 4, rng=0)
    assert np.all((forecast.mean > 0) & (forecast.mean < 1))
