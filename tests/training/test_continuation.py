"""Fits that go on from a fitted model: more data, another latent model."""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import to_vector
from svae.errors import NotFitted

NETWORK = svae.Residual((6,))
FRAMES = svae.synthetic.switching_lds(num_blocks=4, block_length=30, rng=0).frames
FRAMES = 5.0 + 3.0 * FRAMES
OPTIONS = {"window": 20, "batch_size": 2, "rng": 0}
BOTH = ("encoder", "decoder")


def model(latent, **options):
    return svae.SVAE(latent, NETWORK, NETWORK, **options)


def parts(fitted):
    names = ("natparams", "encoder", "decoder")
    return {name: to_vector(getattr(fitted.parameters_, name)) for name in names}


def assert_same(one, other, names=("natparams", "encoder", "decoder")):
    for name in names:
        np.testing.assert_array_equal(parts(one)[name], parts(other)[name])


@pytest.fixture(scope="module", params=["linear", "random"])
def lds(request):
    fitted = model(svae.LDS(2))
    return fitted.fit(FRAMES[:80], 20, start=request.param, **OPTIONS)


def test_the_same_model_goes_on_with_all_it_has(lds):
    """A step that moves nothing leaves every answer as it was."""
    still = {"learning_rate": 1e-300, "natural_step": 1e-300}
    again = model(svae.LDS(2)).fit(FRAMES, 1, start=lds, **OPTIONS, **still)
    assert_same(again, lds)
    np.testing.assert_array_equal(again.fill_, lds.fill_)
    assert again.sees_mask_ == lds.sees_mask_
    np.testing.assert_array_equal(again.transform(FRAMES), lds.transform(FRAMES))
    moved = model(svae.LDS(2)).fit(FRAMES, 1, start=lds, **OPTIONS)
    for name, value in parts(moved).items():
        assert np.any(value != parts(lds)[name])


def test_a_model_may_go_on_from_itself(lds, tmp_path):
    lds.save(tmp_path / "model.npz")
    read = svae.load(tmp_path / "model.npz")
    other = model(svae.LDS(2)).fit(FRAMES, 3, start=lds, **OPTIONS)
    same = read.fit(FRAMES, 3, start=read, **OPTIONS)
    assert_same(same, other)


OTHERS = [svae.SLDS(2, 2), svae.HMM(3, 2), svae.GMM(3, 2), svae.LDS(2, affine=True)]


@pytest.mark.parametrize("latent", OTHERS, ids=lambda each: type(each).__name__)
def test_another_latent_model_is_fitted_to_the_latents(latent, lds):
    options = {} if latent.independent else {"window": 20}
    options |= {"batch_size": 2, "rng": 0, "freeze": BOTH}
    other = model(latent).fit(FRAMES, 2, start=lds, **options)
    assert_same(other, lds, BOTH)
    prior = to_vector(latent.prior())
    assert parts(other)["natparams"].shape == prior.shape
    # q(theta) has seen the frames: one that has not would be the prior
    assert np.abs(parts(other)["natparams"] - prior).max() > 10


def test_a_structured_inference_network_keeps_its_graph(lds):
    first = model(svae.LDS(2), inference="sin")
    first.fit(FRAMES[:80], 3, start="random", warmup=None, **OPTIONS)
    still = {"learning_rate": 1e-300, "natural_step": 1e-300}
    again = model(svae.LDS(2), inference="sin")
    assert_same(again.fit(FRAMES, 1, start=first, **OPTIONS, **still), first)
    plain = model(svae.LDS(2)).fit(FRAMES, 1, start=first, **OPTIONS, **still)
    network = to_vector(first.parameters_.encoder["network"])
    np.testing.assert_array_equal(parts(plain)["encoder"], network)
    # from a plain one, the graph is that of q(theta)
    graph = model(svae.LDS(2), inference="sin")
    graph.fit(FRAMES, 1, start=lds, **OPTIONS, **still)
    assert_same(graph, lds, ("natparams", "decoder"))
    network = to_vector(graph.parameters_.encoder["network"])
    np.testing.assert_array_equal(network, parts(lds)["encoder"])


def test_a_warm_up_trains_the_networks_that_were_taken(lds):
    options = {"start": lds, "warmup": 3, "freeze": BOTH} | OPTIONS
    frozen = model(svae.LDS(2)).fit(FRAMES, 1, **options)
    assert_same(frozen, lds, BOTH)
    trained = model(svae.LDS(2)).fit(FRAMES, 1, **options | {"freeze": ()})
    assert np.any(parts(trained)["encoder"] != parts(lds)["encoder"])


def test_frozen_q_theta_is_that_of_the_fitted_model(lds):
    other = model(svae.LDS(2))
    other.fit(FRAMES, 3, start=lds, freeze="latent", **OPTIONS)
    assert_same(other, lds, ("natparams",))


def test_it_is_resumed_from_the_same_model_alone(lds, tmp_path):
    whole = model(svae.LDS(2)).fit(FRAMES, 6, start=lds, **OPTIONS)
    model(svae.LDS(2)).fit(FRAMES, 3, start=lds, checkpoint=tmp_path, **OPTIONS)
    options = {"checkpoint": tmp_path, "resume": True} | OPTIONS
    again = model(svae.LDS(2)).fit(FRAMES, 6, start=lds, **options)
    assert_same(again, whole)
    with pytest.raises(ValueError, match=r"fit.start = fitted \w+, not fitted"):
        model(svae.LDS(2)).fit(FRAMES, 6, start=whole, **options)
    options["learning_rate"] = 3e-4  # which is usual from a fitted model
    with pytest.raises(ValueError, match=r"fit.start = fitted \w+, not random"):
        model(svae.LDS(2)).fit(FRAMES, 6, start="random", **options)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: svae.SVAE(svae.LDS(2), svae.MLP((6,)), NETWORK), "the encoder of the"),
        (
            lambda: svae.SVAE(svae.LDS(2), NETWORK, svae.Residual((7,))),
            r"the decoder of the fitted model is .*\(6,\).*, of this one .*\(7,\)",
        ),
        (
            lambda: model(svae.LDS(2), likelihood=svae.likelihoods.Gaussian("network")),
            "the likelihood of the",
        ),
        (lambda: model(svae.LDS(2), decoder_posterior="gaussian"), "decoder_posterior"),
        (lambda: model(svae.LDS(3)), "latent_dim of the fitted model is 2, not 3"),
    ],
)
def test_what_does_not_fit_is_named(make, match, lds):
    with pytest.raises(ValueError, match=f"start: the .*{match.removeprefix('the ')}"):
        make().fit(FRAMES, 1, start=lds, **OPTIONS)


def test_data_of_other_columns_and_other_starts_are_refused(lds):
    wide = np.concatenate([FRAMES, FRAMES], axis=1)
    with pytest.raises(ValueError, match="columns of the fitted model is 2, not 4"):
        model(svae.LDS(2)).fit(wide, 1, start=lds, **OPTIONS)
    with pytest.raises(ValueError, match="start must be one of .* or a fitted SVAE"):
        model(svae.LDS(2)).fit(FRAMES, 1, start=lds.parameters_, **OPTIONS)
    with pytest.raises(NotFitted):
        model(svae.LDS(2)).fit(FRAMES, 1, start=model(svae.LDS(2)), **OPTIONS)
