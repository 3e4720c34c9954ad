"""One step ahead: each latent and each frame given the past alone."""

import numpy as np
import pytest

import svae
from svae.families import product
from svae.likelihoods import Gaussian
from svae.networks.observation import init_decoder
from svae.objective.model import Parameters, initial_encoder
from svae.queries import ahead
from svae.queries.forecasts import forecast
from svae.testing import relative_error
from tests.helpers.exact import (
    CHAINS,
    concentrated,
    estimator,
    given_paths,
    latent_model,
    log_evidence,
    with_gaps,
    world,
)
from tests.helpers.forecasts import typical
from tests.queries.test_forecast import typical_affine

KINDS = ("none", "frames", "entries", "all")


def predict(model, parameters, frames, num_samples=50, seed=0):
    rng = np.random.default_rng(seed)
    (found,) = ahead.predictions(model, parameters, [frames], num_samples, rng)
    return found


def structured(name):
    """Return a model with a structured inference network, and its parameters."""
    latent = latent_model(name)
    model, parameters = typical(latent)
    model = model._replace(inference="sin")
    graph = latent.initial_posterior(np.random.default_rng(5))
    encoder = initial_encoder(model, graph, parameters.encoder)
    return model, parameters._replace(encoder=encoder)


def starts_otherwise(model, frames):
    """Whether inference has a first law of its own, and has seen nothing since."""
    return model.inference == "sin" and np.isnan(frames).all()


def exact_models():
    yield "lds", typical(latent_model("lds"))
    yield "affine-lds", typical_affine(latent_model("lds", affine=True))
    yield "lds with a graph", structured("lds")
    yield "hmm with a graph", structured("hmm")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("model", "parameters"), [pytest.param(*m, id=name) for name, m in exact_models()]
)
def test_a_row_is_the_forecast_from_the_frames_before_it(model, parameters, kind, rng):
    """Where inference is exact, of any q(theta), through frames without data too."""
    frames = with_gaps(rng, (6, 3), kind)
    got = predict(model, parameters, frames)
    for t in range(1, 6):
        if starts_otherwise(model, frames[:t]):
            continue
        # without states all paths have one law
        number = 4 if got.states is None else 40000
        want = forecast(model, parameters, frames[:t], 1, number, "mean", rng)
        tolerance = 1e-10 if got.states is None else 0.02
        assert relative_error(got.latent_mean[t], want.latent_mean[0]) < tolerance
        assert relative_error(got.latent_cov[t], want.latent_cov[0]) < tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("model", "parameters"), [pytest.param(*m, id=name) for name, m in exact_models()]
)
def test_the_last_frame_is_filtered_as_it_is_inferred(model, parameters, kind, rng):
    frames = with_gaps(rng, (6, 3), kind)
    fitted = estimator(model, parameters)
    for t in range(1, 7):
        got, want = fitted.filter(frames[:t]), fitted.infer(frames[:t])
        if starts_otherwise(model, frames[:t]):
            continue
        assert relative_error(got.mean[-1], want.mean[-1]) < 1e-10
        assert relative_error(got.cov[-1], want.cov[-1]) < 1e-10
        if want.states is not None:
            assert relative_error(got.states[-1], want.states[-1]) < 1e-10


@pytest.mark.parametrize("name", ["lds", "hmm"])
@pytest.mark.parametrize("kind", ["none", "frames", "all"])
def test_a_known_model_is_filtered_exactly(name, kind, rng):
    """Against the joint Gaussian of every path of states, given the frames so far."""
    this = world(name)
    frames = with_gaps(rng, (5, 3), kind)
    decoder = this.parameters.decoder
    (found,) = ahead.filtered(this.model, this.parameters, [frames])
    got = predict(this.model, this.parameters, frames)
    for t in range(5):
        for law, end in ((found, t + 1), (got, t)):
            known = np.where(np.arange(5)[:, None] < end, frames, np.nan)[: t + 1]
            paths = list(given_paths(this.theta, decoder, known))
            logs = np.array([given.log_joint for _, given in paths])
            weights = np.exp(logs - np.logaddexp.reduce(logs))
            means = np.array([given.mean[t] for _, given in paths])
            covs = np.array([given.cov[t, :, t] for _, given in paths])
            mean = weights @ means
            spread = np.einsum("s,si,sj->ij", weights, means - mean, means - mean)
            cov = np.tensordot(weights, covs, 1) + spread
            of_law = (law.mean, law.cov) if law is found else law[3:5]
            assert relative_error(of_law[0][t], mean) < 1e-8
            assert relative_error(of_law[1][t], cov) < 1e-8
            if law.states is not None:
                last = np.array([states[t] for states, _ in paths])
                probs = [weights[last == k].sum() for k in range(2)]
                np.testing.assert_allclose(law.states[t], probs, atol=1e-8)


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("kind", KINDS)
def test_densities_add_up_to_the_log_likelihood(name, kind, rng):
    """Estimated with many draws; the filter of an SLDS is not exact, but nearly so."""
    this = world(name)
    frames = with_gaps(rng, (6, 3), kind)
    got = predict(this.model, this.parameters, frames, 4000)
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    if kind == "entries":  # for which these potentials are not the exact ones
        first = log_evidence(this.theta, this.parameters.decoder, frames[:1])
        assert abs(got.log_density[0] - first) < 0.05
        return
    assert abs(got.log_density.sum() - want) < (0.15 if name == "slds" else 0.08)
    nothing = np.isnan(frames).all(axis=1)
    assert np.all(got.log_density[nothing] == 0)


def test_draws_from_both_laws_find_frames_that_tell_more_than_the_past(rng):
    """Draws of what is predicted alone would need thousands; few are enough."""
    this = world("lds")
    frames = rng.standard_normal((6, 3)) + 6.0  # far from what is predicted
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    got = [
        predict(this.model, this.parameters, frames, 40, seed).log_density.sum()
        for seed in range(20)
    ]
    assert abs(np.mean(got) - want) < 0.05
    assert np.std(got) < 0.2


def test_the_mean_of_what_is_linear_in_x_has_no_error(rng):
    this = world("lds")
    matrix, offset = this.parameters.decoder["location"]
    frames = rng.standard_normal((6, 3))
    got = predict(this.model, this.parameters, frames, 4)
    assert relative_error(got.mean, got.latent_mean @ matrix + offset) < 1e-12
    got = predict(this.model, this.parameters, frames, 20000)
    variance = np.exp(this.parameters.decoder["log_scale"])
    cov = np.einsum("ip,tij,jp->tp", matrix, got.latent_cov, matrix)
    assert relative_error(got.var, cov + variance) < 0.05
    assert got.variance is got.var


@pytest.mark.parametrize("name", CHAINS)
def test_rows_know_nothing_of_what_follows(name, rng):
    """Not even of how much does: draws are the same, step by step."""
    model, parameters = typical(latent_model(name))
    frames = with_gaps(rng, (8, 3), "entries")
    whole = predict(model, parameters, frames)
    (known,) = ahead.filtered(model, parameters, [frames])
    other = np.concatenate([frames[:5], 9 + rng.standard_normal((1, 3))])
    for end, first in ((5, frames[:5]), (5, other)):
        part = predict(model, parameters, first)
        (filtered,) = ahead.filtered(model, parameters, [first])
        for a, b in [
            *zip(part, whole, strict=True),
            *zip(filtered, known, strict=True),
        ]:
            if a is not None:
                np.testing.assert_allclose(a[:end], b[:end], 1e-9, 1e-12)


def test_slds_with_one_state_is_an_lds(rng):
    """With a q(theta) that is as good as a point, for the message is left behind."""
    this = world("lds")
    natparams = product_of_one(this.parameters.natparams)
    slds = latent_model("slds", num_states=1)
    frames = with_gaps(rng, (6, 3), "frames")
    got = predict(
        this.model._replace(latent=slds),
        this.parameters._replace(natparams=slds.prior() | natparams),
        frames,
    )
    want = predict(this.model, this.parameters, frames)
    for a, b in zip(got[:5], want[:5], strict=True):
        assert relative_error(a, b) < 1e-6
    assert want.states is None
    np.testing.assert_array_equal(got.states, np.ones((6, 1)))


def product_of_one(natparams):
    return {
        name: tuple(np.asarray(part)[None] for part in factor)
        for name, factor in natparams.items()
    }


@pytest.mark.parametrize("name", ["gmm", "gaussian"])
def test_independent_rows_have_the_marginal_of_the_prior(name, rng):
    this = world(name)
    frames = with_gaps(rng, (5, 3), "frames")
    got = predict(this.model, this.parameters, frames, 20000)
    matrix, offset = this.parameters.decoder["location"]
    assert np.all(got.mean == got.mean[0])
    assert relative_error(got.mean[0], got.latent_mean[0] @ matrix + offset) < 0.05
    want = sum(
        log_evidence(this.theta, this.parameters.decoder, frames[t : t + 1])
        for t in range(5)
    )
    assert abs(got.log_density.sum() - want) < 0.1
    assert (got.states is None) == (name == "gaussian")
    (found,) = ahead.filtered(this.model, this.parameters, [frames])
    inferred = this.fitted().infer(frames)
    np.testing.assert_array_equal(found.mean, inferred.mean)
    assert found.log_evidence.shape == (5,)


@pytest.mark.parametrize("likelihood", ["bernoulli", Gaussian("shared")])
def test_other_likelihoods_are_predicted(likelihood, rng):
    latent = latent_model("hmm")
    model, parameters = typical(latent)
    model = model._replace(likelihood=svae.likelihoods.named(likelihood))
    decoder = init_decoder(
        model.decoder, model.likelihood, parameters.encoder, rng, 2, 3
    )
    frames = (rng.random((6, 3)) < 0.5).astype(float)
    frames[1] = frames[3, 0] = np.nan
    got = predict(model, parameters._replace(decoder=decoder), frames)
    assert np.isfinite(got.log_density).all()
    if likelihood == "bernoulli":
        assert np.all((got.mean > 0) & (got.mean < 1))
        np.testing.assert_allclose(got.var, got.mean * (1 - got.mean), rtol=1e-10)


def test_answers_are_arranged_as_the_data(rng):
    model = estimator(*typical(latent_model("slds")))
    frames = rng.standard_normal((3, 7, 3))
    stacked, known = model.predict_next(frames), model.filter(frames)
    assert stacked.mean.shape == stacked.var.shape == (3, 7, 3)
    assert stacked.log_density.shape == known.log_evidence.shape == (3, 7)
    assert stacked.states.shape == known.states.shape == (3, 7, 2)
    assert known.cov.shape == stacked.latent_cov.shape == (3, 7, 2, 2)
    ragged = [frames[0], frames[1, :2], frames[2, :1]]
    listed, filtered = model.predict_next(ragged), model.filter(ragged)
    for n, each in enumerate(ragged):
        T = len(each)
        for a, b in zip(listed[n], stacked, strict=True):
            np.testing.assert_allclose(a, b[n, :T], 1e-9, 1e-12)
        for a, b in zip(filtered[n], known, strict=True):
            np.testing.assert_allclose(a, b[n, :T], 1e-9, 1e-12)


def test_parts_of_a_batch_are_the_batch(rng, monkeypatch):
    model = estimator(*typical(latent_model("hmm")))
    frames = list(rng.standard_normal((5, 7, 3)))
    want = model.predict_next(frames)
    monkeypatch.setattr(ahead, "NUMBERS", 1)
    monkeypatch.setattr(ahead, "FRAMES", 1)
    for got, expected in zip(model.predict_next(frames), want, strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-10, 1e-12)


def test_a_score_ahead_is_the_mean_density_of_frames_with_data(rng):
    model = estimator(*typical(latent_model("hmm")))
    frames = [with_gaps(rng, (6, 3), kind) for kind in ("frames", "entries", "all")]
    found = model.predict_next(frames)
    want = sum(each.log_density.sum() for each in found) / (4 + 6)
    assert model.score(frames, ahead=1) == pytest.approx(want, rel=1e-12)
    assert model.score(frames, 20, ahead=1, rng=3) != pytest.approx(want, rel=1e-9)
    for wrong in (0, 2, True, "one"):
        with pytest.raises(ValueError, match="ahead must be 1"):
            model.score(frames, ahead=wrong)
    with pytest.raises(ValueError, match="num_importance_samples"):
        model.score(frames, num_importance_samples=3, ahead=1)
    with pytest.raises(ValueError, match="theta='sample'"):
        model.score(frames, theta="sample", ahead=1)
    with pytest.raises(ValueError, match="no observed value"):
        model.score(frames[2], ahead=1)


class Neighbours(svae.Residual):
    """A network that would see frames beside its own."""

    def apply(self, weights, inputs, valid=None):
        """Apply what a frame alone says."""
        return super().apply(weights, inputs)


class Past(Neighbours):
    """One that says so of the past alone."""

    causal = True


def test_an_encoder_that_sees_the_future_is_refused(rng):
    model, parameters = typical(latent_model("lds"))
    frames = rng.standard_normal((6, 3))
    want = estimator(model, parameters).predict_next(frames)
    hidden = model.encoder.hidden
    refused = estimator(model._replace(encoder=Neighbours(hidden)), parameters)
    for question in (refused.predict_next, refused.filter):
        with pytest.raises(TypeError, match="encoder Neighbours sees neighbouring"):
            question(frames)
    allowed = estimator(model._replace(encoder=Past(hidden)), parameters)
    np.testing.assert_array_equal(allowed.predict_next(frames).mean, want.mean)


def test_a_latent_model_that_cannot_tell_its_laws_is_refused(rng):
    class Mute:
        coupled, independent, latent_dim, family = True, False, 2, {}

        def infer(self, *_):
            """Do nothing."""

    model, parameters = typical(latent_model("lds"))
    parameters = Parameters({}, parameters.encoder, parameters.decoder)
    with pytest.raises(TypeError, match="Mute .* initial_laws"):
        predict(model._replace(latent=Mute()), parameters, rng.standard_normal((4, 3)))


def test_a_latent_model_may_tell_its_laws(rng):
    """A random walk in one's own words, against an LDS that is one."""

    class Walk:
        coupled, independent, latent_dim, family = True, False, 2, {}

        def infer(self, *_):
            """Do nothing."""

        def initial_laws(self, theta):
            """Begin at N(1, 4 I)."""
            return np.ones(1), np.ones((1, 2)), 4 * np.eye(2)[None]

        def transition_laws(self, theta):
            """Move by N(0, I)."""
            return np.eye(2)[None], np.zeros((1, 2)), np.eye(2)[None]

    lds = world("lds")
    theta = {"init": (np.ones(2), np.eye(2) / 4), "dynamics": (np.eye(2), np.eye(2))}
    frames = with_gaps(rng, (6, 3), "frames")
    known = lds.parameters._replace(natparams=concentrated(theta))
    want = predict(lds.model, known, frames)
    own = Parameters({}, known.encoder, known.decoder)
    got = predict(lds.model._replace(latent=Walk()), own, frames)
    for a, b in zip(got[:5], want[:5], strict=True):
        assert relative_error(a, b) < 1e-6


def test_theta_is_the_mean_of_q(rng):
    """The first row is the initial factor at E[mu] and the inverse of E[precision]."""
    for name in CHAINS:
        latent = latent_model(name)
        model, parameters = typical(latent)
        theta = product.mean(latent.family, parameters.natparams)
        mean, precision = theta["components" if name == "hmm" else "init"]
        got = predict(model, parameters, rng.standard_normal((3, 3)))
        weights = theta.get("weights", np.ones(1))
        want = weights @ np.reshape(mean, (len(weights), 2))
        assert relative_error(got.latent_mean[0], want) < 1e-12
        if name == "lds":
            assert relative_error(got.latent_cov[0], np.linalg.inv(precision)) < 1e-12
