"""q(gamma) is integrated over by whatever is an expectation over the posterior."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import svae
from svae.families import product
from svae.likelihoods import Bernoulli
from svae.networks.decoder_posterior import (
    draw_seeds,
    each_gamma,
    initial_posterior,
    sample_weights,
)
from svae.objective.batch import Batch, draw_noise
from svae.objective.local import local_terms
from svae.queries.forecasts import forecast
from svae.queries.importance import importance_score
from svae.testing import assert_identical
from tests.helpers.exact import estimator, world

LOG_STD = np.log(0.5)


def unsure(name, log_std=LOG_STD, seed=0):
    """Return a linear-Gaussian world of known theta whose decoder is not known."""
    this = world(name, seed=seed)
    decoder = initial_posterior("gaussian", this.parameters.decoder)
    decoder["log_std"] = {
        "location": tuple(
            np.full(x.shape, log_std) for x in decoder["mean"]["location"]
        ),
        "log_scale": np.full(decoder["mean"]["log_scale"].shape, -8.0),
    }
    model = this.model._replace(decoder_posterior="gaussian")
    return this._replace(
        model=model, parameters=this.parameters._replace(decoder=decoder)
    )


def batch_of(sequences):
    return Batch(np.stack(sequences))


def training_bound(this, frames, number, rng):
    """Reconstruction minus local KL, as training estimates it, and its error."""
    stats = product.expected_stats(this.latent.family, this.parameters.natparams)
    values = frames[:, None] if this.latent.independent else frames[None]
    batch, decoder = Batch(values), this.parameters.decoder
    bounds = []
    for _ in range(number):
        noise = draw_noise(this.model, decoder, values.shape[:2], 1, rng)
        gamma = sample_weights("gaussian", decoder, noise.decoder)
        terms, local = local_terms(
            this.model, stats, this.parameters.encoder, gamma, batch, noise.latents
        )
        bounds.append(np.sum(terms - local.kl))
    return np.mean(bounds), np.std(bounds) / np.sqrt(number)


@pytest.mark.parametrize("name", ["gaussian", "gmm", "lds"])
def test_the_bound_of_inference_is_that_of_training(name, rng):
    this, number = unsure(name), 2000
    frames = rng.standard_normal((4, 3))
    want, error = training_bound(this, frames, number, rng)
    model = this.fitted()
    got = model.infer(frames, num_samples=number, rng=1).elbo
    assert abs(got - want) < 5 * np.sqrt(2) * error
    assert abs(4 * model.score(frames, num_samples=number, rng=2) - want) < 8 * error
    of_mean = this.parameters._replace(decoder=this.parameters.decoder["mean"])
    point = estimator(this.model._replace(decoder_posterior="point"), of_mean)
    # the weights' spread costs much more than that
    assert point.infer(frames, num_samples=number).elbo > want + 10 * error


def test_forecasts_contain_the_spread_of_the_weights():
    """With a linear decoder: E x'Vx and V of the bias add to C cov C'."""
    this, number = unsure("lds"), 20_000
    frames = np.random.default_rng(3).standard_normal((5, 3))
    got = forecast(
        this.model,
        this.parameters,
        frames,
        2,
        number,
        "sample",
        np.random.default_rng(4),
    )
    variance = np.exp(2 * LOG_STD)
    second = np.trace(
        got.latent_cov + got.latent_mean[:, :, None] * got.latent_mean[:, None],
        axis1=1,
        axis2=2,
    )
    C = this.parameters.decoder["mean"]["location"][0]
    of_latents = np.einsum("dp,hde,ep->hp", C, got.latent_cov, C)
    noise = np.exp(this.parameters.decoder["mean"]["log_scale"])
    want = of_latents + variance * (second[:, None] + 1.0) + noise
    assert np.max(np.abs(got.variance / want - 1)) < 0.06
    at_mean = forecast(
        this.model, this.parameters, frames, 2, number, "mean", np.random.default_rng(4)
    )
    narrow = np.einsum("dp,hde,ep->hp", C, at_mean.latent_cov, C) + noise
    assert np.max(np.abs(at_mean.variance / narrow - 1)) < 0.06
    assert np.all(want > 1.15 * narrow)


def test_samples_contain_the_spread_of_the_weights():
    this = unsure("gaussian")
    model = this.fitted()
    frames = np.stack([model.sample(2, rng=seed) for seed in range(4000)])
    # two frames of one draw have their bias in common
    both = np.mean(
        (frames[:, 0] - frames.mean(axis=(0, 1)))
        * (frames[:, 1] - frames.mean(axis=(0, 1))),
        axis=0,
    )
    assert np.max(np.abs(both - np.exp(2 * LOG_STD))) < 0.25
    assert np.all(both > 0.05)


def test_reconstructions_and_imputed_values_are_expectations_over_the_weights():
    """Of the squared error, which has the weights' spread; and of curved decoders."""
    this, number = unsure("lds"), 8000
    frames = np.random.default_rng(5).standard_normal((4, 3))
    frames[1] = np.nan
    model = this.fitted()
    posterior = model.infer(frames)
    got = model.reconstruct(frames, num_samples=number, rng=1)
    C, d = this.parameters.decoder["mean"]["location"]
    second = posterior.cov + posterior.mean[:, :, None] * posterior.mean[:, None]
    spread = np.exp(2 * LOG_STD) * (np.trace(second, axis1=1, axis2=2) + 1)
    mean = posterior.mean @ C + d
    of_latents = np.einsum("dp,tde,ep->tp", C, posterior.cov, C)
    want = np.sum((frames - mean) ** 2 + of_latents + spread[:, None], axis=1)
    seen = [0, 2, 3]
    assert np.max(np.abs(got.squared_error[seen] / want[seen] - 1)) < 0.08
    assert np.max(np.abs(got.mean - mean)) < 0.1
    # a sigmoid of a wide argument is nearer to a half than that of its mean
    this = unsure("lds", np.log(1.5))
    moved = {"location": (C, d + 3.0), "log_scale": np.zeros(3)}
    decoder = this.parameters.decoder | {"mean": moved}
    model = this._replace(
        model=this.model._replace(likelihood=Bernoulli()),
        parameters=this.parameters._replace(decoder=decoder),
    ).fitted()
    binary = np.where(np.isnan(frames), frames, 1.0 * (frames > 0))
    completed = model.impute(binary, num_samples=number, rng=2)
    posterior = model.infer(binary)
    rng = np.random.default_rng(6)
    x = rng.multivariate_normal(posterior.mean[1], posterior.cov[1], 40_000)
    deviation = 1.5 * np.sqrt(1 + np.sum(x**2, axis=1))[:, None]
    odds = x @ C + d + 3.0 + deviation * rng.standard_normal((40_000, 3))
    want = np.mean(1 / (1 + np.exp(-odds)), axis=0)
    assert np.max(np.abs(completed[1] - want)) < 0.02
    at_mean = np.mean(1 / (1 + np.exp(-(x @ C + d + 3.0))), axis=0)
    assert np.max(np.abs(at_mean - want)) > 0.03


def test_importance_scores_integrate_the_weights_out():
    """Log of E_q(gamma) p(y | gamma), which is a mixture of Gaussians; or its mean."""
    this = unsure("gaussian", np.log(0.3))
    frame = np.array([[0.4, -0.2, 0.9]])
    decoder = this.parameters.decoder
    C, d = decoder["mean"]["location"]
    noise = np.exp(decoder["mean"]["log_scale"])
    rng = np.random.default_rng(7)
    logs = []
    for _ in range(20_000):
        some = C + 0.3 * rng.standard_normal(C.shape)
        cov = some.T @ some + np.diag(noise + 0.09)  # the bias in closed form
        logs.append(multivariate_normal(d, cov).logpdf(frame[0]))
    wants = {
        "sample": logsumexp(logs) - np.log(len(logs)),
        "mean": multivariate_normal(d, C.T @ C + np.diag(noise)).logpdf(frame[0]),
    }
    assert abs(wants["mean"] - wants["sample"]) > 0.05
    for theta, want in wants.items():
        got = importance_score(
            this.model, this.parameters, [frame], 8000, theta, np.random.default_rng(8)
        )
        assert abs(got.score - want) < 4 * got.standard_error + 0.01


def test_answers_are_seeded():
    model = unsure("lds").fitted()
    frames = np.random.default_rng(9).standard_normal((5, 3))
    frames[2, 1] = np.nan
    calls = (
        lambda seed: model.infer(frames, rng=seed).elbo,
        lambda seed: model.score(frames, rng=seed),
        lambda seed: model.score(frames, 1, 20, "sample", rng=seed),
        lambda seed: model.impute(frames, num_passes=2, rng=seed),
        lambda seed: model.reconstruct(frames, rng=seed).squared_error,
        lambda seed: model.forecast(frames, 2, theta="sample", rng=seed).mean,
        lambda seed: model.sample(3, rng=seed),
    )
    for call in calls:
        assert_identical(call(1), call(1))
        assert np.any(call(1) != call(2))


def test_a_point_draws_nothing():
    rng, untouched = np.random.default_rng(1), np.random.default_rng(1)
    decoder = world("lds").parameters.decoder
    assert draw_seeds("point", decoder, 5, rng) is None
    assert rng.bit_generator.state == untouched.bit_generator.state
    ((weights, samples),) = each_gamma("point", decoder, None, 7)
    assert weights is decoder
    assert samples == slice(0, 7)


def test_every_sample_has_the_weights_of_its_seed():
    decoder = unsure("lds").parameters.decoder
    seeds = draw_seeds("gaussian", decoder, 3, np.random.default_rng(2))
    found = list(each_gamma("gaussian", decoder, seeds, 6))
    assert [samples for _, samples in found] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    drawn = np.array([gamma["location"][1] for gamma, _ in found])
    assert len(np.unique(drawn)) == drawn.size
    ((alone, _),) = each_gamma("gaussian", decoder, seeds[1:2], 1)
    assert_identical(alone["location"], found[1][0]["location"])


def test_a_fit_and_its_score_agree_on_the_bound():
    """The history's last tenth, and the score of the same data."""
    frames = svae.data.dots(num_frames=200, rng=0)
    network = svae.MLP((10,))
    model = svae.SVAE(svae.LDS(2), network, network, decoder_posterior="gaussian")
    model.fit(frames, num_steps=30, window=50, learning_rate=1e-6, rng=0)
    decoder = model.parameters_.decoder
    wide = {"mean": decoder["mean"], "log_std": widened(decoder["log_std"])}
    model.parameters_ = model.parameters_._replace(decoder=wide)
    batch = Batch(frames[None])
    rng = np.random.default_rng(3)
    bounds = []
    for _ in range(60):
        noise = draw_noise(model._generative(), wide, (1, 200), 1, rng)
        gamma = sample_weights("gaussian", wide, noise.decoder)
        message = product.expected_stats(
            model.latent.family, model.parameters_.natparams
        )
        terms, local = local_terms(
            model._generative(),
            message,
            model.parameters_.encoder,
            gamma,
            batch,
            noise.latents,
        )
        bounds.append((terms - local.kl)[0] / 200)
    error = np.std(bounds) / np.sqrt(60)
    assert abs(model.score(frames, num_samples=60) - np.mean(bounds)) < 6 * error


def widened(log_std):
    """Return the tree with every entry at the log of a half."""
    if isinstance(log_std, dict):
        return {name: widened(part) for name, part in log_std.items()}
    if isinstance(log_std, (list, tuple)):
        return type(log_std)(widened(part) for part in log_std)
    return np.full(np.shape(log_std), LOG_STD)
