"""Networks: shapes, links and likelihoods against SciPy."""

import numpy as np
import pytest
from scipy import stats

from svae.likelihoods import Bernoulli, Gaussian
from svae.models import GMM
from svae.networks import MLP, Linear, Residual, log_likelihood, recognize, tie
from svae.objective.model import Generative
from svae.training.step import initial_state

NETWORKS = [MLP((5, 4)), MLP((5,), "relu", "sigmoid", 0.1), Residual((5, 4)), Linear()]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
@pytest.mark.parametrize("sizes", [(3, 2), (2, 3), (1, 1)])
def test_location_and_scale(network, sizes, rng):
    weights = network.init(rng, *sizes)
    inputs = 3 * rng.standard_normal((4, 6, sizes[0]))
    location, scale = network.apply(weights, inputs)
    assert location.shape == scale.shape == (4, 6, sizes[1])
    assert np.all(scale > 0)
    if getattr(network, "mean", "linear") == "sigmoid":
        assert np.all((location > 0) & (location < 1))
    J, h = recognize(network, weights, inputs)
    np.testing.assert_array_equal(J, -scale / 2)
    np.testing.assert_array_equal(h, location)


@pytest.mark.parametrize("sees_mask", [False, True])
def test_a_residual_decoder_starts_as_the_inverse_of_its_encoder(sees_mask, rng):
    network = Residual((5,), weight_scale=0.0)
    latent = GMM(num_states=2, latent_dim=3)
    model = Generative(
        latent, network, network, Gaussian(), "point", sees_mask=sees_mask
    )
    parameters = initial_state(model, 3, rng).parameters
    data = rng.standard_normal((10, 3))
    inputs = np.concatenate([data, np.zeros((10, 3))], axis=1) if sees_mask else data
    latents, _ = network.apply(parameters.encoder, inputs)
    # of a wider matrix, whose rows are not orthogonal, it is the transpose still
    product = parameters.encoder["skip"][0][:3] @ parameters.decoder["skip"][0]
    np.testing.assert_allclose(
        network.apply(parameters.decoder, latents)[0], data @ product
    )
    if not sees_mask:
        np.testing.assert_allclose(product, np.eye(3), atol=1e-12)


def test_other_networks_are_not_tied(rng):
    encoder = MLP((4,)).init(rng, 3, 2)
    decoder = Residual((4,)).init(rng, 2, 3)
    assert tie(encoder, decoder) is decoder
    assert tie(decoder, encoder) is encoder


def test_residual_starts_as_a_partial_isometry(rng):
    network = Residual((5,), weight_scale=0.0)
    inputs = rng.standard_normal((10, 4))
    narrow, _ = network.apply(network.init(rng, 4, 4), inputs)
    np.testing.assert_allclose(
        np.linalg.norm(narrow, axis=1), np.linalg.norm(inputs, axis=1), rtol=1e-12
    )
    wide = network.init(rng, 4, 6)["skip"][0]
    np.testing.assert_allclose(wide @ wide.T, np.eye(4), atol=1e-12)


def test_scales_do_not_overflow(rng):
    for network in (MLP((3,)), Residual((3,))):
        weights = network.init(rng, 2, 2)
        with np.errstate(all="raise"):
            _, scale = network.apply(weights, np.full((1, 2), 1e4))
        assert np.all(np.isfinite(scale))


def test_gaussian_likelihood_is_scipy(rng):
    network = MLP((4,))
    weights = network.init(rng, 2, 3)
    latents, data = rng.standard_normal((2, 5, 6, 2)), rng.standard_normal((2, 6, 3))
    location, scale = network.apply(weights, latents)
    logs = stats.norm.logpdf(data[:, None], location, np.sqrt(scale))
    got = log_likelihood(Gaussian(), network, weights, latents, data, None)
    np.testing.assert_allclose(got, logs.sum(-1), rtol=1e-12)
    mask = np.arange(6) < np.array([6, 2])[:, None]
    mask = mask[..., None] & (rng.random(data.shape) < 0.8)
    got = log_likelihood(Gaussian(), network, weights, latents, data, mask)
    want = (logs * mask[:, None]).sum(-1)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_bernoulli_likelihood_is_scipy(rng):
    network = MLP((4,))
    weights = network.init(rng, 2, 3)
    latents = rng.standard_normal((2, 5, 6, 2))
    data = (rng.random((2, 6, 3)) < 0.5).astype(float)
    location, _ = network.apply(weights, latents)
    probability = 1 / (1 + np.exp(-location))
    logs = stats.bernoulli.logpmf(data[:, None], probability)
    got = log_likelihood(Bernoulli(), network, weights, latents, data, None)
    np.testing.assert_allclose(got, logs.sum(-1), rtol=1e-10)
    mask = rng.random(data.shape) < 0.8
    got = log_likelihood(Bernoulli(), network, weights, latents, data, mask)
    want = (logs * mask[:, None]).sum(-1)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="activation"):
        MLP((3,), activation="gelu")
    with pytest.raises(ValueError, match="mean"):
        MLP((3,), mean="softmax")
    with pytest.raises(ValueError, match="hidden"):
        MLP((0,))
