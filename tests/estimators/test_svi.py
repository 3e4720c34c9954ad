"""The face of SVI: steps, seeds, saving, progress, arguments."""

import json

import numpy as np
import pytest

import svae
from svae import data
from svae.autodiff.trees import to_vector
from svae.cli.runs import Run
from svae.conjugate.exact_models import Known
from svae.estimators import SVI
from svae.estimators.svi import make_schedule, minibatches, take_step
from svae.testing import assert_close
from tests.helpers.conjugate import (
    blobs,
    linear_frames,
    rotation,
    rows,
)


def test_steps_of_fit_are_the_steps(rng):
    points = blobs(rng)[0]
    model, ends = SVI(svae.GMM(3, 2)), []
    model.fit(
        points, num_steps=5, rng=0, callback=lambda *_: ends.append(model.natparams_)
    )
    prior = model.latent.prior()
    for before, after in zip(ends[:-1], ends[1:], strict=True):
        want, _ = take_step(Known(model.latent), before, prior, rows(points), 1.0, 1.0)
        assert_close(to_vector(after), to_vector(want), 1e-14)
    assert set(model.history_) == {
        "objective",
        "local",
        "global_kl",
        "step_size",
        "backtracks",
        "seconds",
    }
    assert all(len(column) == 5 for column in model.history_.values())


def test_it_stops_where_nothing_is_gained(rng):
    points = blobs(rng)[0]
    model = SVI(svae.GMM(3, 2)).fit(points, num_steps=500, tolerance=1e-6, rng=0)
    steps = np.diff(model.history_["objective"])
    assert 0 < len(steps) < 400
    assert steps[-1] <= 1e-6 * abs(model.history_["objective"][-1])
    assert np.all(steps[:-1] > 1e-6 * np.abs(model.history_["objective"][1:-1]))


def test_minibatches_use_every_window_once_an_epoch(rng):
    frames = np.arange(20.0)[:, None]
    source = minibatches([frames], data.windows([frames], 3), 3, rng)
    for _ in range(2):
        epoch = [next(source) for _ in range(3)]
        assert [scale for _, scale in epoch] == [7 / 3, 7 / 3, 7.0]
        seen = [
            points.values[n, :length, 0]
            for points, _ in epoch
            for n, length in enumerate(points.num_steps)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), frames[:, 0])


def test_step_sizes():
    assert make_schedule(None, None, 1.0, 0.7).at(9) == 1.0
    assert make_schedule(10, None, 1.0, 0.7).at(9) == pytest.approx(10**-0.7)
    assert make_schedule(10, 0.2, 1.0, 0.7).at(9) == 0.2


def test_seeds(rng):
    points = blobs(rng)[0]
    fits = [
        SVI(svae.GMM(3, 2)).fit(points, num_steps=7, batch_size=9, rng=seed)
        for seed in (0, 0, 1)
    ]
    vectors = [to_vector(fit.natparams_) for fit in fits]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])
    draws = [fits[0].sample(5, rng=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    "latent",
    [svae.GMM(2, 3), svae.HMM(2, 3), svae.SLDS(2, 3), svae.LDS(2), svae.LDS(4)],
    ids=["gmm", "hmm", "slds", "lds2", "lds4"],
)
@pytest.mark.filterwarnings("ignore:state . has 100 % of the frames")
def test_saved_models_are_the_same(latent, rng, tmp_path):
    frames = rng.standard_normal((30, 3))
    emission = svae.LinearEmission(0.5, 10.0) if isinstance(latent, svae.LDS) else None
    model = SVI(latent, emission).fit(frames, num_steps=3, rng=0)
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert isinstance(loaded, SVI)
    assert (loaded.latent, loaded.emission) == (latent, emission)
    assert loaded.obs_dim_ == 3
    assert_close(to_vector(loaded.natparams_), to_vector(model.natparams_), 0.0)
    assert loaded.score(frames) == model.score(frames)
    assert loaded.history_.keys() == model.history_.keys()
    sample = loaded.sample(12, rng=3)
    assert sample.shape == (12, 3)
    np.testing.assert_array_equal(sample, model.sample(12, rng=3))


def test_samples_have_the_law_of_the_model(rng):
    """A model of samples of a model is like it."""
    frames = linear_frames(rng, 2000, rotation(0.9, 0.5), rng.standard_normal((3, 2)))
    model = SVI(svae.LDS(2)).fit(frames + 2.0, num_steps=30, rng=0)
    drawn = model.sample(20000, rng=0)
    np.testing.assert_allclose(drawn.mean(axis=0), 2.0, atol=0.5)
    assert_close(np.cov(drawn.T), np.cov(frames.T), 0.3)


def test_progress_shows_the_bound(rng, capsys):
    SVI(svae.GMM(2, 2)).fit(blobs(rng)[0], num_steps=2, rng=0, progress=True)
    shown = capsys.readouterr().err
    assert "bound=" in shown and "local=" in shown and "global=" in shown


@pytest.mark.parametrize("frames", [np.ones((6, 1)), np.ones((1, 1)), np.eye(3)])
@pytest.mark.parametrize("latent", [svae.GMM, svae.HMM, svae.SLDS])
@pytest.mark.filterwarnings(
    "ignore:(data. column 0 is constant|num_states. there are more)"
)
def test_data_that_hardly_vary(latent, frames):
    dim = frames.shape[1]
    mixture = SVI(latent(2, dim)).fit(frames, num_steps=3, rng=0)
    lds = SVI(svae.LDS(4)).fit(frames, num_steps=3, rng=0)
    for model in (mixture, lds):
        bound = model.history_["objective"]
        assert np.all(np.isfinite(bound))
        # the prior is centred on what hardly varies, with a condition number of 1e6
        rounding = 1e6 * np.finfo(float).eps * np.max(np.abs(bound))
        assert np.all(np.diff(bound) > -max(rounding, 1e-9))


def test_commands_read_no_such_model(rng, tmp_path):
    model = SVI(svae.GMM(2, 2)).fit(blobs(rng)[0], num_steps=1, rng=0)
    model.save(tmp_path / "model.npz")
    record = {"model": "gmm", "data": "a.npy", "settings": {}, "standardize": False}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no SVAE"):
        Run.load(tmp_path)


@pytest.mark.parametrize("latent", [svae.GMM(2, 3), svae.HMM(2, 3), svae.SLDS(2, 3)])
def test_data_of_another_dimension(latent, rng):
    with pytest.raises(ValueError, match="2 dimensions.*latent_dim=3"):
        SVI(latent).fit(rng.standard_normal((9, 2)))


@pytest.mark.parametrize("latent", [svae.GMM(2, 2), svae.HMM(2, 2), svae.LDS(2)])
def test_single_missing_entries(latent, rng):
    frames = [rng.standard_normal((9, 2)) for _ in range(2)]
    model = SVI(latent).fit(frames, num_steps=1, rng=0)
    frames[1][3, 1] = np.nan
    place = "sequence 1, step 3, dimension 1"
    for method in (model.fit, model.infer, model.score):
        with pytest.raises(ValueError, match=place):
            method(frames)


def test_missing_frames_of_coupled_data(rng):
    frames = rng.standard_normal((9, 2))
    frames[4] = np.nan
    with pytest.raises(ValueError, match="step 4, dimension 0.*cut the sequence"):
        SVI(svae.SLDS(2, 2)).fit(frames)


@pytest.mark.parametrize("latent", [svae.Gaussian(2), svae.GMM, None, "gmm"])
def test_what_is_no_conjugate_model(latent, rng):
    with pytest.raises(TypeError, match="latent must be svae.GMM"):
        SVI(latent).fit(rng.standard_normal((9, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"window": 0}, "window"),
        ({"num_restarts": 0}, "num_restarts"),
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": 1.5}, "step_size"),
        ({"delay": -1.0}, "delay"),
        ({"forgetting": 0.5}, "forgetting"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": 1e-3, "batch_size": 2}, "tolerance"),
    ],
)
def test_arguments(options, message, rng):
    with pytest.raises(ValueError, match=message):
        SVI(svae.HMM(2, 2)).fit(rng.standard_normal((9, 2)), **options)


def test_what_a_model_does_not_have(rng, tmp_path):
    frames = rng.standard_normal((9, 2))
    with pytest.raises(ValueError, match="emission"):
        SVI(svae.GMM(2, 2), svae.LinearEmission()).fit(frames)
    with pytest.raises(TypeError, match="emission must be"):
        SVI(svae.LDS(2), svae.Linear()).fit(frames)
    with pytest.raises(ValueError, match="noise_variance"):
        svae.LinearEmission(noise_variance=0.0)
    with pytest.raises(ValueError, match="every entry is NaN"):
        SVI(svae.HMM(2, 2)).fit(np.full((9, 2), np.nan))
    unfitted = SVI(svae.LDS(2))
    for call in (unfitted.infer, unfitted.transform, unfitted.score):
        with pytest.raises(svae.NotFitted, match="not fitted yet"):
            call(frames)
    with pytest.raises(svae.NotFitted):
        unfitted.save(tmp_path / "model.npz")
    fitted = unfitted.fit(frames, num_steps=1)
    with pytest.raises(TypeError, match="predict: LDS has no discrete states"):
        fitted.predict(frames)
    with pytest.raises(ValueError, match="theta must be"):
        fitted.score(frames, theta="mode")
    with pytest.raises(ValueError, match="3 dimensions, the model was fitted to 2"):
        fitted.infer(rng.standard_normal((9, 3)))
    with pytest.raises(TypeError, match="transform: .* x of GMM"):
        SVI(svae.GMM(2, 2)).fit(frames, num_steps=1).transform(frames)
