"""Forecasts: the generative process at a point, and growing dynamics."""

import warnings

import numpy as np
import pytest

import svae
from svae.families import mniw, product
from svae.models import belief_after
from svae.models.evidence import Evidence
from svae.objective.model import Parameters
from svae.queries.forecasts import forecast
from svae.testing import relative_error
from tests.helpers.exact import (
    concentrated,
    latent_model,
    with_gaps,
    world,
)
from tests.helpers.forecasts import HORIZON, cov_of, local_of, typical, until_data
from tests.helpers.problems import generative


def point_stats(latent, natparams):
    """T(theta) at the mean of q(theta)."""
    return product.stats(latent.family, product.mean(latent.family, natparams))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kind", ["none", "frames", "entries", "all"])
def test_lds_forecast_is_smoothing_without_data_at_the_mean(kind, affine, rng):
    """Exactly: a sequence that begins as q leaves the last frame and has no data."""
    latent = latent_model("lds", affine=affine)
    model, parameters = typical(latent) if not affine else typical_affine(latent)
    frames = with_gaps(rng, (6, 3), kind)
    got = forecast(model, parameters, frames, HORIZON, 4, "mean", rng)
    frames, skipped = until_data(frames)
    steps = 1 + skipped + HORIZON
    nothing = np.zeros((1, steps, 2, 2)), np.zeros((1, steps, 2))
    belief = belief_after(local_of(model, parameters, frames), None)
    stats = point_stats(latent, parameters.natparams)
    local = latent.infer(stats, Evidence(*nothing, belief=belief))
    mean, cov = local.mean[0], cov_of(local.second_moment, local.mean)[0]
    assert relative_error(got.latent_mean, mean[1 + skipped :]) < 1e-10
    assert relative_error(got.latent_cov, cov[1 + skipped :]) < 1e-10


@pytest.mark.parametrize("name", ["lds", "affine-lds", "hmm", "slds"])
@pytest.mark.parametrize("theta", ["mean", "sample"])
def test_the_law_of_a_frame_does_not_depend_on_the_horizon(name, theta, rng):
    """Of wide posteriors too; and all draws of a shorter horizon are drawn again."""
    affine = {"affine": True} if name == "affine-lds" else {}
    latent = latent_model(name.removeprefix("affine-"), **affine)
    model, parameters = typical(latent) if not affine else typical_affine(latent)
    frames = rng.standard_normal((6, 3))
    got = {
        horizon: forecast(
            model, parameters, frames, horizon, 30, theta, np.random.default_rng(1)
        )
        for horizon in (1, 3, 200)
    }
    for horizon, result in got.items():
        for part, value in result._asdict().items():
            if value is None:
                continue
            axis = value.ndim - 2 if part in ("mean", "variance", "latent_mean") else 1
            axis = 0 if part == "latent_cov" else axis
            first = np.take(got[200]._asdict()[part], range(horizon), axis=axis)
            np.testing.assert_allclose(value, first, 1e-12, 1e-12, err_msg=part)


def test_a_forecast_begins_with_the_first_frame_of_the_generative_process(rng):
    """At the mean of a q(theta) that is as wide as two steps leave it.

    Under the message the mean of the first frame shrank with the horizon.
    """
    latent = latent_model("lds")
    model, parameters = typical(latent)
    M = np.array([[1.0, 0.2], [-0.2, 1.0]])
    wide = mniw.from_standard(M, 0.5 * np.eye(2), 2.0 * np.eye(2), 4.0)
    natparams = parameters.natparams | {"dynamics": wide}
    parameters = parameters._replace(natparams=natparams)
    frames = rng.standard_normal((6, 3))
    local = local_of(model, parameters, frames)
    mean, cov = local.mean[0, -1], cov_of(local.second_moment, local.mean)[0, -1]
    for horizon in (1, 3, 200):
        got = forecast(model, parameters, frames, horizon, 5, "mean", rng)
        assert relative_error(got.latent_mean[0], M @ mean) < 1e-12
        assert relative_error(got.latent_cov[0], M @ cov @ M.T + np.eye(2) / 2) < 1e-12


def test_forecast_and_score_have_one_mean_of_theta(rng):
    """Both are of the point that families document: E[A], E[Q^-1] and E[pi]."""
    latent = latent_model("slds")
    _, parameters = typical(latent)
    means = product.mean(latent.family, parameters.natparams)
    draws = product.sample(latent.family, parameters.natparams, rng, 4000)
    for name, mean in means.items():
        parts = zip(
            *((x if isinstance(x, tuple) else (x,)) for x in (mean, draws[name])),
            strict=True,
        )
        for part, of_draws in parts:
            error = of_draws.std(axis=0) / np.sqrt(4000)
            assert np.max(np.abs(of_draws.mean(axis=0) - part) / error) < 5, name


def random_walk_model(rng):
    """Return a model fitted to 30 frames of a random walk, and these."""
    frames = np.cumsum(rng.standard_normal((30, 2)), axis=0)
    frames = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    model = svae.SVAE(svae.LDS(2), svae.MLP((20,)), svae.MLP((20,)))
    return model.fit(frames, num_steps=60, rng=0), frames


def test_drawn_dynamics_may_grow(rng):
    """Of 50 draws from a q(theta) of few frames some do, over 300 steps by far."""
    model, frames = random_walk_model(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(4):
            got = model.forecast(frames, 300, theta="sample", rng=seed)
            for part in got:
                assert part is None or np.isfinite(part).all()
            assert np.isfinite(got.cov).all()
    assert np.abs(got.latents).max() > 1e3


def test_what_outgrows_numbers_is_refused_by_path_and_step(rng):
    this = world("lds")
    A = np.array([[30.0, 1.0], [0.0, 20.0]])
    theta = this.theta | {"dynamics": (A, this.theta["dynamics"][1])}
    parameters = this.parameters._replace(natparams=concentrated(theta))
    frames = rng.standard_normal((5, 3))
    arguments = this.model, parameters, frames
    got = forecast(*arguments, 190, 4, "mean", rng)
    for step, cov, latent_cov in zip(range(190), got.cov, got.latent_cov, strict=True):
        assert np.isfinite(cov).all() or (step > 99 and np.isposinf(cov).all())
        assert np.isfinite(latent_cov).all() or np.isposinf(latent_cov).all()
    assert np.isinf(got.latent_cov[-1]).all()
    assert np.isinf(got.variance[-1]).all()
    for part in (got.mean, got.samples, got.latents, got.latent_mean):
        assert np.isfinite(part).all()
    with pytest.raises(FloatingPointError, match=r"path \d+ .* 1e\+300 at step 20\d"):
        forecast(*arguments, 400, 4, "mean", rng)
    with pytest.raises(FloatingPointError, match=r"path 0 .* 1e\+300 at step 20\d"):
        svae.queries.forecasts.sample(this.model, parameters, 400, rng)


def typical_affine(latent):
    rng = np.random.default_rng(1)
    model = generative(latent)
    natparams = latent.prior()
    M = np.array([[0.8, 0.3, 0.5], [-0.4, 0.7, -0.2]])
    natparams["dynamics"] = mniw.from_standard(M, 0.2 * np.eye(3), 9 * np.eye(2), 12.0)
    encoder, decoder = model.encoder.init(rng, 3, 2), model.decoder.init(rng, 2, 3)
    return model, Parameters(natparams, encoder, decoder)


def test_a_certain_lds_forecast_is_the_prediction_of_kalman(rng):
    this = world("lds")
    frames = rng.standard_normal((5, 3))
    got = forecast(this.model, this.parameters, frames, HORIZON, 4, "mean", rng)
    local = local_of(this.model, this.parameters, frames)
    mean, cov = local.mean[0, -1], cov_of(local.second_moment, local.mean)[0, -1]
    A, precision = this.theta["dynamics"]
    for step in range(HORIZON):
        mean, cov = A @ mean, A @ cov @ A.T + np.linalg.inv(precision)
        assert np.max(np.abs(got.latent_mean[step] - mean)) < 1e-8
        assert relative_error(got.latent_cov[step], cov) < 1e-8


@pytest.mark.parametrize("theta", ["mean", "sample"])
def test_slds_with_one_state_forecasts_as_an_lds(theta, rng):
    lds, slds = latent_model("lds"), latent_model("slds", num_states=1)
    model, parameters = typical(lds)
    natparams = slds.prior() | {
        name: tuple(np.asarray(part)[None] for part in factor)
        for name, factor in parameters.natparams.items()
    }
    frames = with_gaps(rng, (6, 3), "frames")
    arguments = frames, HORIZON, 20000, theta, np.random.default_rng(0)
    want = forecast(model, parameters, *arguments)
    arguments = frames, HORIZON, 20000, theta, np.random.default_rng(0)
    got = forecast(
        model._replace(latent=slds),
        parameters._replace(natparams=natparams),
        *arguments,
    )
    assert np.all(got.states == 0)
    assert want.states is None
    if theta == "mean":  # the same draws
        for name, part in want._asdict().items():
            if part is not None:
                assert relative_error(getattr(got, name), part) < 1e-8, name
        return
    spread = np.sqrt(np.diagonal(want.latent_cov, axis1=1, axis2=2))
    error = np.abs(got.latent_mean - want.latent_mean) / spread
    assert np.max(error) < 5 * np.sqrt(2 / 20000)
