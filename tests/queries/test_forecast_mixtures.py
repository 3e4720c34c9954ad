"""Forecasts are mixtures over all paths, and moments those of samples."""

import numpy as np
import pytest

import svae
from svae.families import product
from svae.likelihoods import named
from svae.queries.forecasts import Forecast, forecast
from svae.testing import assert_identical, relative_error
from tests.helpers.exact import (
    CHAINS,
    concentrated,
    known_theta,
    latent_model,
    log_prob_of_path,
    path_moments,
    paths,
    with_gaps,
    world,
)
from tests.helpers.forecasts import HORIZON, cov_of, local_of, typical, until_data


def moments_by_paths(this, local, horizon):
    """Mean and covariance of the future under the law of the chain, all z summed out.

    z_T and x_T are independent in q; later states follow the Markov chain.
    """
    theta = this.theta
    mean_T, second_T = local.mean[0, -1], local.second_moment[0, -1]
    probs, means, seconds = [], [], []
    for states in paths(range(2), repeat=horizon + 1):
        prob = local.states[0, -1, states[0]]
        for a, b in zip(states[:-1], states[1:], strict=True):
            prob = prob * theta["transitions"][a, b]
        mean, cov = mean_T, second_T - np.outer(mean_T, mean_T)
        of_path = []
        for z in states[1:]:
            if "dynamics" in theta:
                A, noise = (
                    theta["dynamics"][0][z],
                    np.linalg.inv(theta["dynamics"][1][z]),
                )
                mean, cov = A @ mean, A @ cov @ A.T + noise
            else:
                mean = theta["components"][0][z]
                cov = np.linalg.inv(theta["components"][1][z])
            of_path.append((mean, cov + np.outer(mean, mean)))
        probs.append(prob)
        means.append([m for m, _ in of_path])
        seconds.append([s for _, s in of_path])
    mean = np.tensordot(probs, means, 1)
    occupancy = np.zeros((horizon, 2))
    for prob, states in zip(probs, paths(range(2), repeat=horizon + 1), strict=True):
        occupancy[np.arange(horizon), states[1:]] += prob
    return mean, cov_of(np.tensordot(probs, seconds, 1), mean), occupancy


@pytest.mark.parametrize("kind", ["none", "frames"])
@pytest.mark.parametrize("name", ["hmm", "slds"])
def test_switching_forecasts_are_mixtures_over_all_paths(name, kind, rng):
    this = world(name)
    frames = with_gaps(rng, (5, 3), kind)
    number = 20000
    got = forecast(this.model, this.parameters, frames, HORIZON, number, "mean", rng)
    frames, skipped = until_data(frames)
    local = local_of(this.model, this.parameters, frames)
    mean, cov, occupancy = (
        part[skipped:] for part in moments_by_paths(this, local, skipped + HORIZON)
    )
    deviation = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    bound = 5 / np.sqrt(number)
    assert np.max(np.abs(got.latent_mean - mean) / deviation) < bound
    scale = deviation[:, :, None] * deviation[:, None, :]
    assert np.max(np.abs(got.latent_cov - cov) / scale) < 2 * bound
    frequencies = np.stack([np.mean(got.states == k, axis=0) for k in range(2)], -1)
    assert np.max(np.abs(frequencies - occupancy)) < bound
    # and the draws of x have these moments too
    assert np.max(np.abs(got.latents.mean(axis=0) - mean) / deviation) < bound
    centered = got.latents - mean
    empirical = np.einsum("shi,shj->hij", centered, centered) / number
    assert np.max(np.abs(empirical - cov) / scale) < 2 * bound
    pairs = np.mean(got.states[:, 0] != got.states[:, 1])
    off = occupancy[0] @ np.array([0.2, 0.3])
    assert abs(pairs - off) < bound


def simulate(latent, theta, local, horizon, rng):
    """One path of x after the last frame, a theta of its own."""
    mean = local.mean[0, -1]
    cov = local.second_moment[0, -1] - np.outer(mean, mean)
    x = rng.multivariate_normal(mean, cov)
    z = None
    if hasattr(latent, "num_states"):
        z = rng.choice(2, p=local.states[0, -1] / local.states[0, -1].sum())
    steps = []
    for _ in range(horizon):
        if z is not None:
            z = rng.choice(2, p=theta["transitions"][z])
        if "components" in theta:
            mean, precision = (part[z] for part in theta["components"])
            x = rng.multivariate_normal(mean, np.linalg.inv(precision))
        else:
            A, precision = (p if z is None else p[z] for p in theta["dynamics"])
            x = A @ x + rng.multivariate_normal(np.zeros(2), np.linalg.inv(precision))
        steps.append(x)
    return np.array(steps)


@pytest.mark.parametrize("name", CHAINS)
def test_paths_with_a_theta_each_agree_with_direct_simulation(name, rng):
    this = world(name)
    natparams = concentrated(known_theta(name), 15.0)
    parameters = this.parameters._replace(natparams=natparams)
    frames = rng.standard_normal((5, 3))
    number = 2000
    got = forecast(this.model, parameters, frames, HORIZON, number, "sample", rng)
    local = local_of(this.model, parameters, frames)
    draws = product.sample(this.latent.family, natparams, rng, number)
    want = np.array(
        [
            simulate(
                this.latent,
                {
                    part: tuple(x[s] for x in d) if isinstance(d, tuple) else d[s]
                    for part, d in draws.items()
                },
                local,
                HORIZON,
                rng,
            )
            for s in range(number)
        ]
    )
    errors = np.sqrt((want.var(axis=0) + got.latents.var(axis=0)) / number)
    assert np.max(np.abs(got.latents.mean(axis=0) - want.mean(axis=0)) / errors) < 4.5
    errors = np.sqrt(want.var(axis=0) * 2 / number)
    assert np.max(np.abs(got.latent_mean - want.mean(axis=0)) / errors) < 4.5
    ratio = got.latents.var(axis=0) / want.var(axis=0)
    assert np.all((ratio > 0.75) & (ratio < 1.33))
    ratio = np.diagonal(got.latent_cov, axis1=1, axis2=2) / want.var(axis=0)
    assert np.all((ratio > 0.75) & (ratio < 1.33))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("name", CHAINS)
def test_moments_of_frames_are_those_of_the_samples(name, likelihood, rng):
    latent = latent_model(name)
    model, parameters = typical(latent)
    model = model._replace(likelihood=named(likelihood))
    frames = 1.0 * (rng.standard_normal((5, 3)) > 0)
    number = 30000
    got = forecast(model, parameters, frames, HORIZON, number, "mean", rng)
    assert isinstance(got, Forecast)
    spread = np.sqrt(got.variance)
    error = np.abs(got.samples.mean(axis=0) - got.mean) / spread
    assert np.max(error) < 5 / np.sqrt(number)
    centered = got.samples - got.mean
    empirical = np.einsum("shp,shq->hpq", centered, centered) / number
    scale = spread[:, :, None] * spread[:, None, :]
    fourth = np.mean((centered / spread[None]) ** 4, axis=0).max()
    bound = 5 * np.sqrt(fourth / number)
    assert np.max(np.abs(got.cov - empirical) / scale) < bound
    diagonal = np.diagonal(got.cov, axis1=1, axis2=2)
    assert relative_error(diagonal, got.variance) < 1e-12
    assert relative_error(got.mean, got.path_means.mean(axis=0)) < 1e-12
    if likelihood == "bernoulli":
        assert set(np.unique(got.samples)) == {0.0, 1.0}


def test_a_linear_decoder_carries_latent_moments_to_frames(rng):
    this = world("lds")
    frames = rng.standard_normal((5, 3))
    got = forecast(this.model, this.parameters, frames, HORIZON, 40000, "mean", rng)
    matrix, offset = this.parameters.decoder["location"]
    want = got.latent_mean @ matrix + offset
    cov = matrix.T @ got.latent_cov @ matrix
    cov = cov + np.diag(np.exp(this.parameters.decoder["log_scale"]))
    deviation = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    assert np.max(np.abs(got.mean - want) / deviation) < 5 / np.sqrt(40000)
    scale = deviation[:, :, None] * deviation[:, None, :]
    assert np.max(np.abs(got.cov - cov) / scale) < 10 / np.sqrt(40000)


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("name", CHAINS)
def test_forecasts_are_arranged_like_the_data(name, theta, rng):
    this = world(name)
    model = this.fitted()
    sequences = [rng.standard_normal((n, 3)) for n in (6, 1, 4)]
    shapes = {
        "mean": (HORIZON, 3),
        "variance": (HORIZON, 3),
        "samples": (5, HORIZON, 3),
        "latent_mean": (HORIZON, 2),
        "latent_cov": (HORIZON, 2, 2),
        "latents": (5, HORIZON, 2),
        "path_means": (5, HORIZON, 3),
        "states": (5, HORIZON),
    }

    def check(result, lead):
        for part, shape in shapes.items():
            value = getattr(result, part)
            if part == "states" and name == "lds":
                assert value is None
                continue
            assert value.shape == (*lead, *shape), part
            assert np.all(np.isfinite(value))
        if name != "lds":
            assert result.states.dtype == np.int64
            assert set(np.unique(result.states)) <= {0, 1}

    options = {"num_samples": 5, "theta": theta, "rng": 2}
    results = model.forecast(sequences, HORIZON, **options)
    assert len(results) == 3
    for result in results:
        check(result, ())
    check(model.forecast(sequences[0], HORIZON, **options), ())
    stacked = np.stack([sequences[0][:4], sequences[2]])
    result = model.forecast(stacked, HORIZON, **options)
    check(result, (2,))
    one = model.forecast(stacked[0], HORIZON, **options)
    assert_identical(result.samples[0], one.samples)
    again = model.forecast(stacked, HORIZON, **options)
    assert_identical(again.samples, result.samples)
    other = model.forecast(stacked, HORIZON, **{**options, "rng": 3})
    assert np.any(other.samples != result.samples)
    assert result.cov.shape == (2, HORIZON, 3, 3)
    assert_identical(result.cov[0], one.cov)


@pytest.mark.parametrize("name", ["gaussian", "gmm"])
def test_independent_rows_have_no_future(name, rng):
    with pytest.raises(TypeError, match="independent"):
        world(name).fitted().forecast(rng.standard_normal((3, 3)), 2)


def test_arguments_are_named(rng):
    model, frames = world("lds").fitted(), rng.standard_normal((3, 3))
    for name in ("horizon", "num_samples"):
        with pytest.raises(ValueError, match=name):
            model.forecast(frames, **{"horizon": 2, name: 0})
    with pytest.raises(ValueError, match="theta"):
        model.forecast(frames, 2, theta="best")


@pytest.mark.parametrize("name", CHAINS)
def test_samples_of_the_model_follow_the_law_of_its_paths(name):
    """Frame moments of many draws, by enumeration; theta is as good as known."""
    this = world(name)
    model, number = this.fitted(), 800
    rng = np.random.default_rng(4)
    latents = np.array(
        [
            svae.queries.forecasts.sample(this.model, this.parameters, 3, rng)[1]
            for _ in range(number)
        ]
    )
    num_states = 1 if name == "lds" else 2
    mean, second = 0.0, 0.0
    for states in paths(range(num_states), repeat=3):
        prob = np.exp(log_prob_of_path(this.theta, states))
        of_path, cov = path_moments(this.theta, states)
        mean = mean + prob * of_path
        covs = np.einsum("titj->tij", cov)
        second = second + prob * (covs + np.einsum("ti,tj->tij", of_path, of_path))
    deviation = np.sqrt(np.diagonal(cov_of(second, mean), axis1=1, axis2=2))
    bound = 4.5 / np.sqrt(number)
    assert np.max(np.abs(latents.mean(axis=0) - mean) / deviation) < bound
    assert np.max(np.abs(latents.std(axis=0) / deviation - 1.0)) < 0.1
    frames = model.sample(4, rng=0)
    assert frames.shape == (4, 3)
    assert_identical(frames, model.sample(4, rng=0))
