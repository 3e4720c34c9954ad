"""Likelihoods: densities, moments and draws agree, and models use nothing else."""

from dataclasses import dataclass, replace
from typing import ClassVar

import autograd.numpy as np
import numpy as onp
import pytest
from autograd import grad
from autograd.scipy.special import gammaln
from scipy import stats

import svae
from svae import store
from svae.autodiff.trees import from_vector, to_vector
from svae.likelihoods import Bernoulli, Gaussian, sum_observed
from svae.networks.observation import init_decoder, log_likelihood, outputs
from svae.objective.bound import bound, bound_and_gradients
from svae.testing import assert_identical
from tests.helpers.fits import JOBS
from tests.helpers.problems import problem

SMALL = svae.MLP((4,))
GAUSSIANS = {
    "network": Gaussian(),
    "network-floor": Gaussian(floor=0.3),
    "dimension": Gaussian("dimension", initial_variance=0.7),
    "dimension-floor": Gaussian("dimension", floor=0.3),
    "shared": Gaussian("shared", initial_variance=1.4),
    "shared-floor": Gaussian("shared", floor=0.3),
}
EVERY = GAUSSIANS | {"bernoulli": Bernoulli()}


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts whose variance is beyond their mean, as a user may write them."""

    dispersion: float = 0.5

    scale_from: ClassVar[str] = "parameters"
    support: ClassVar[str] = "counts 0, 1, 2, ..."
    location: ClassVar[str] = "the log mean"

    def init(self, obs_dim):
        return (onp.full(obs_dim, onp.log(self.dispersion)),)

    def scale(self, parameters):
        return np.exp(parameters[0])

    def check(self, frames):
        return (frames >= 0) & (frames == onp.floor(frames))

    def log_density(self, data, location, scale, observed=None):
        number, mean = 1.0 / scale, np.exp(location)
        terms = gammaln(data + number) - gammaln(number) - gammaln(data + 1.0)
        terms = terms - (number + data) * np.log(number + mean)
        return sum_observed(terms + number * np.log(number) + data * location, observed)

    def mean(self, location, scale):
        return onp.exp(location)

    def var(self, location, scale):
        return onp.exp(location) + scale * onp.exp(2.0 * location)

    def sample(self, location, scale, rng):
        rate = rng.gamma(1.0 / scale, scale * onp.exp(location))
        return rng.poisson(rate).astype(float)


def counts(rng, shape=(40, 3)):
    return rng.poisson(3.0, shape).astype(float)


def decoder(likelihood, rng, network=SMALL):
    encoder = network.init(rng, 3, 2)
    return init_decoder(network, likelihood, encoder, rng, 2, 3)


@pytest.mark.parametrize("likelihood", GAUSSIANS.values(), ids=GAUSSIANS)
@pytest.mark.parametrize("network", [SMALL, svae.Residual((4,)), svae.Linear()])
def test_gaussians_are_those_of_scipy(likelihood, network, rng):
    weights = decoder(likelihood, rng, network)
    latents, data = rng.standard_normal((2, 5, 6, 2)), rng.standard_normal((2, 6, 3))
    location, scale = outputs(likelihood, network, weights, latents)
    variance = likelihood.var(location, scale)
    assert variance.shape == location.shape == (2, 5, 6, 3)
    if likelihood.variance != "network":
        wanted = likelihood.initial_variance + likelihood.floor
        onp.testing.assert_allclose(variance, wanted)
    logs = stats.norm.logpdf(data[:, None], location, onp.sqrt(variance))
    for mask in (None, rng.random(data.shape) < 0.8):
        got = log_likelihood(likelihood, network, weights, latents, data, mask)
        want = logs if mask is None else logs * mask[:, None]
        onp.testing.assert_allclose(got, want.sum(-1), rtol=1e-12)


@pytest.mark.parametrize(
    "likelihood", [*EVERY.values(), NegativeBinomial()], ids=[*EVERY, "counts"]
)
def test_draws_have_the_mean_and_the_variance(likelihood, rng):
    location, scale = rng.standard_normal((3,)), onp.array([0.2, 1.0, 0.4])
    many = onp.broadcast_to(location, (40000, 3))
    draws = likelihood.sample(many, scale, rng)
    error = onp.sqrt(likelihood.var(location, scale) / 40000)
    assert onp.all(abs(draws.mean(0) - likelihood.mean(location, scale)) < 4 * error)
    onp.testing.assert_allclose(draws.var(0), likelihood.var(location, scale), rtol=0.1)
    assert likelihood.check(draws).all()


@pytest.mark.parametrize("posterior", ["point", "gaussian"])
@pytest.mark.parametrize("name", [*list(GAUSSIANS)[2:], "counts"])
def test_gradients_of_own_parameters_are_differences_of_the_bound(name, posterior, rng):
    model, parameters, prior, batch, noise = problem("lds")
    likelihood = (EVERY | {"counts": NegativeBinomial()})[name]
    weights = decoder(likelihood, rng, model.decoder)
    size = to_vector(weights).size
    draws = onp.zeros(0)
    if posterior == "gaussian":
        draws = rng.standard_normal(size)
        std = from_vector(weights, onp.full(size, -1.0))
        weights = {"mean": weights, "log_std": std}
    model = model._replace(likelihood=likelihood, decoder_posterior=posterior)
    parameters = parameters._replace(decoder=weights)
    noise = noise._replace(decoder=draws)
    if name == "counts":
        batch = replace(batch, values=counts(rng, batch.values.shape))
    got = to_vector(
        bound_and_gradients(model, parameters, prior, batch, noise).gradients.decoder
    )
    direction = rng.standard_normal(got.size)

    def moved(step):
        tree = from_vector(weights, to_vector(weights) + step * direction)
        there = parameters._replace(decoder=tree)
        return bound(model, there, prior, batch, noise).objective

    want = (moved(1e-4) - moved(-1e-4)) / 2e-4
    assert abs(got @ direction - want) < 1e-6 * max(1.0, abs(want))


def test_a_decoder_without_a_scale_has_no_weights_for_it(rng):
    for network in (SMALL, svae.Residual((4,)), svae.Linear()):
        names = set(network.init(rng, 2, 3)) - {"scale", "floor", "log_scale"}
        weights = decoder(Gaussian("shared"), rng, network)
        assert weights["network"].keys() == names
        assert weights["likelihood"]["log_variance"].shape == ()
    # of a network that cannot do without, it is not used
    weights = decoder(Gaussian("dimension"), rng, OldNetwork())
    latents = rng.standard_normal((1, 2, 3, 2))
    location, scale = outputs(Gaussian("dimension"), OldNetwork(), weights, latents)
    assert location.shape == (1, 2, 3, 3)
    onp.testing.assert_array_equal(scale, onp.ones(3))


class OldNetwork:
    """A network that names neither ``scale`` nor ``valid``."""

    def init(self, rng, in_dim, out_dim):
        return svae.Linear().init(rng, in_dim, out_dim)

    def apply(self, weights, inputs):
        return svae.Linear().apply(weights, inputs)


def bits(frames):
    return (frames > 0).astype(float)


@pytest.mark.parametrize(
    ("word", "likelihood"), [("gaussian", Gaussian()), ("bernoulli", Bernoulli())]
)
def test_a_word_and_its_object_are_the_same_model(word, likelihood):
    _, data, _ = JOBS["slds"]
    data = bits(data) if word == "bernoulli" else data
    options = {"decoder_posterior": "gaussian"}
    one, other = (
        svae.SVAE(svae.LDS(2), SMALL, SMALL, each, **options).fit(
            data, 3, window=20, rng=0
        )
        for each in (word, likelihood)
    )
    assert_identical([*one.history_.values()][:4], [*other.history_.values()][:4])
    assert_identical(*(model.sample(9, rng=1) for model in (one, other)))
    told = [model.forecast(data, 3, theta="sample").samples for model in (one, other)]
    assert_identical(*told)


@pytest.mark.parametrize("name", ["dimension-floor", "shared", "bernoulli", "counts"])
@pytest.mark.parametrize("posterior", ["point", "gaussian"])
def test_models_are_saved_resumed_and_asked(name, posterior, rng, tmp_path):
    likelihood = (EVERY | {"counts": NegativeBinomial()})[name]
    data = counts(rng) if name == "counts" else rng.standard_normal((40, 3))
    data = bits(data) if name == "bernoulli" else data

    def fit(num_steps, folder, **options):
        model = svae.SVAE(svae.LDS(2), SMALL, SMALL, likelihood, posterior)
        return model.fit(
            data, num_steps, rng=0, checkpoint=tmp_path / folder, **options
        )

    model = fit(4, "whole")
    fit(2, "halves")
    resumed = fit(4, "halves", resume=True)
    parts = [NegativeBinomial] if name == "counts" else None
    loaded = svae.load(tmp_path / "whole" / "model.npz", parts=parts)
    assert loaded.likelihood == likelihood
    for other in (resumed, loaded):
        assert_identical(
            to_vector(model.parameters_.decoder), to_vector(other.parameters_.decoder)
        )
        assert other.score(data) == model.score(data)
    for theta in ("mean", "sample"):
        told = model.forecast(data, 3, num_samples=6, theta=theta)
        assert told.samples.shape == (6, 3, 3)
        assert likelihood.check(told.samples).all()
        assert onp.all(told.variance > 0)
    assert likelihood.check(model.sample(5, rng=0)).all()
    gaps = data.copy()
    gaps[3:6, 1] = onp.nan
    assert onp.isfinite(model.impute(gaps, num_samples=4, num_passes=2)).all()
    assert onp.isfinite(model.reconstruct(gaps).squared_error).all()
    assert onp.isfinite(model.score(gaps, num_importance_samples=5, theta="sample"))


def test_frames_are_drawn_at_latents():
    """One for each point, of the law whose moments `decode` has."""
    counts = onp.random.default_rng(0).poisson(3.0, (50, 2)).astype(float)
    model = svae.SVAE(svae.GMM(2, 2), SMALL, SMALL, likelihood=NegativeBinomial())
    model.fit(counts, num_steps=2, rng=0)
    points = onp.tile([[0.3, -0.2], [1.0, 0.5]], (4000, 1, 1))
    draws = model.sample_frames(points, rng=0)
    assert_identical(draws, model.sample_frames(points, onp.random.default_rng(0)))
    mean, variance = model.decode(points[0])
    assert (draws == onp.floor(draws)).all()
    assert draws.shape == (4000, 2, 2)
    error = onp.sqrt(variance / len(points))
    assert (abs(draws.mean(0) - mean) < 5 * error).all()
    onp.testing.assert_allclose(draws.var(0), variance, rtol=0.2)
    with pytest.raises(ValueError, match=r"latents has shape \(3,\)"):
        model.sample_frames(onp.zeros(3))


def test_files_call_likelihoods_by_names_of_their_own(rng, tmp_path):
    model = svae.SVAE(svae.Gaussian(1), SMALL, SMALL, Gaussian("shared"))
    model.fit(rng.standard_normal((9, 3)), 1, rng=0).save(tmp_path / "a.npz")
    arguments = store.load(tmp_path / "a.npz")[1]["arguments"]
    assert arguments["likelihood"]["class"] == "svae.likelihoods.Gaussian"
    assert arguments["latent"]["class"] == "Gaussian"


@pytest.mark.parametrize("kind", ["shared", "dimension"])
def test_the_best_variance_is_the_mean_squared_error(kind, rng):
    weights = decoder(Gaussian(kind), rng)
    latents, data = rng.standard_normal((2, 5, 6, 2)), rng.standard_normal((2, 6, 3))
    mask = rng.random(data.shape) < 0.8
    location, _ = outputs(Gaussian(kind), SMALL, weights, latents)
    axes = (0, 1, 2) if kind == "dimension" else (0, 1, 2, 3)
    counted = onp.broadcast_to(mask[:, None], location.shape)
    best = onp.mean((data[:, None] - location) ** 2, axis=axes, where=counted)
    own = {"log_variance": 10.0 * onp.arctanh(onp.log(best) / 10.0)}

    def total(own):
        tree = weights | {"likelihood": own}
        return np.sum(log_likelihood(Gaussian(kind), SMALL, tree, latents, data, mask))

    slope = grad(total)
    assert onp.max(abs(slope(own)["log_variance"])) < 1e-12 * counted.sum()
    assert onp.max(abs(slope(weights["likelihood"])["log_variance"])) > 0.1


def test_what_is_no_likelihood_is_refused(rng):
    data = rng.standard_normal((9, 3))

    def fit(likelihood, decoder=SMALL, data=data):
        return svae.SVAE(svae.LDS(2), SMALL, decoder, likelihood).fit(data, 1)

    with pytest.raises(ValueError, match="one of .*'gaussian'.*got 'cauchy'"):
        fit("cauchy")
    with pytest.raises(TypeError, match="it is a class"):
        fit(Gaussian)
    with pytest.raises(TypeError, match=r"lacks \['scale_from', .*'sample'\]"):
        fit(svae.Gaussian(2))
    with pytest.raises(ValueError, match="counts 0, 1, 2, .*, got -.* step 0"):
        fit(NegativeBinomial(), data=-abs(data))
    with pytest.raises(ValueError, match="takes the log mean from the decoder"):
        fit(NegativeBinomial(), svae.MLP((4,), mean="sigmoid"), counts(rng))
    with pytest.raises(ValueError, match="variance must be one of"):
        Gaussian("row")
    for number in (-1.0, onp.nan, onp.inf):
        with pytest.raises(ValueError, match="floor"):
            Gaussian(floor=number)
    for number in (-1.0, 0.0, onp.nan, 1e-5, 1e5):
        with pytest.raises(ValueError, match="initial_variance"):
            Gaussian("shared", initial_variance=number)


def test_constant_columns_matter_where_they_have_a_variance(rng):
    from svae import data
    from svae.training import diagnostics

    frames = rng.standard_normal((20, 3))
    frames[:, 1] = 2.0
    summary = data.summarize([frames])

    def number(likelihood):
        return len(diagnostics.of_data(summary, likelihood))

    assert number("gaussian") == number(Gaussian("dimension")) == 1
    assert number(Gaussian("shared")) == number(Gaussian(floor=0.1)) == 0
    assert number(NegativeBinomial()) == number("bernoulli") == 0
