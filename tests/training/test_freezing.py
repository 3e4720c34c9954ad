"""Parts that are not learned, and what that does to the others."""

from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import pytest

import svae
from svae.autodiff.trees import to_vector
from svae.objective.bound import PARTS, contribution
from svae.training import step
from tests.helpers.fits import FRAMES

NETWORK = svae.MLP((6,))
OPTIONS = {"window": 20, "batch_size": 2, "learning_rate": 1e-2, "rng": 0}
FIELDS = {"latent": "natparams", "encoder": "encoder", "decoder": "decoder"}
SETS = [each for n in (1, 2) for each in combinations(PARTS, n)]
MODELS = {
    "lds": {"latent": svae.LDS(2)},
    "slds": {"latent": svae.SLDS(2, 2)},
    "sin": {"latent": svae.LDS(2), "inference": "sin"},
    "gamma": {"latent": svae.LDS(2), "decoder_posterior": "gaussian"},
    "conjugate": {"latent": svae.HMM(3, 2), "natural_gradient": "conjugate"},
    "plain": {"latent": svae.GMM(3, 2), "natural_gradient": "none"},
}


def fit(name="lds", num_steps=3, **options):
    model = svae.SVAE(encoder=NETWORK, decoder=NETWORK, **MODELS[name])
    options = OPTIONS | {"warmup": None} | options
    if model.latent.independent:
        del options["window"]
    if name == "plain":
        options["natural_step"] = 1e-6
    return model.fit(FRAMES, num_steps, **options)


def parts(model):
    return {
        name: to_vector(getattr(model.parameters_, field))
        for name, field in FIELDS.items()
    }


def start(name):
    model = svae.SVAE(encoder=NETWORK, decoder=NETWORK, **MODELS[name])
    rng = np.random.default_rng(OPTIONS["rng"])
    parameters = step.initial_state(model._generative(), 2, rng).parameters
    return {
        each: to_vector(getattr(parameters, field)) for each, field in FIELDS.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_what_is_frozen_stays_and_the_rest_moves(name):
    first, one_step = start(name), parts(fit(name, 1))
    for frozen in SETS:
        model = fit(name, freeze=frozen)
        single = parts(fit(name, 1, freeze=frozen))
        for part, value in parts(model).items():
            if part in frozen:
                np.testing.assert_array_equal(value, first[part])
            else:
                assert np.any(value != first[part])
                # the first step is that of a fit in which nothing is frozen
                np.testing.assert_allclose(single[part], one_step[part], rtol=1e-9)
        if "latent" in frozen:
            assert not np.any(model.history_["backtracks"])


def test_gradients_of_what_is_frozen_are_not_taken(monkeypatch):
    seen = []

    def spying(*arguments):
        seen.append(contribution(*arguments))
        return seen[-1]

    monkeypatch.setattr("svae.training.gradients.contribution", spying)
    fit(num_steps=1, freeze=("decoder", "latent"))
    (found,) = seen
    assert found.message is None and found.decoder is None
    assert found.encoder is not None


def test_moments_of_what_is_frozen_stay_zero():
    states = []
    run = step.step
    try:
        step.step = lambda *given: states.append(run(*given)) or states[-1]
        fit(freeze="encoder")
    finally:
        step.step = run
    state, _ = states[-1]
    size = to_vector(state.parameters.encoder).size
    assert not np.any(state.adam.mean[:size]) and not np.any(state.adam.square[:size])
    assert np.all(state.adam.square[size:] >= 0) and np.any(state.adam.mean[size:])


def test_names_have_one_order_and_a_word_is_a_name(tmp_path):
    one = fit(freeze=["decoder", "latent"], checkpoint=tmp_path)
    two = fit(freeze=("latent", "decoder"), checkpoint=tmp_path, resume=True)
    assert_same(one, two)
    assert_same(fit(freeze="encoder"), fit(freeze=("encoder",)))


def assert_same(one, other):
    for part, value in parts(one).items():
        np.testing.assert_array_equal(value, parts(other)[part])


@pytest.mark.parametrize(
    ("frozen", "match"),
    [
        ("natparams", r"freeze must be of \('latent', .* got 'natparams'"),
        (("encoder", "gamma"), "got 'gamma'"),
        (PARTS, "leaves nothing to learn"),
    ],
)
def test_what_cannot_be_frozen_is_refused(frozen, match):
    with pytest.raises(ValueError, match=match):
        fit(freeze=frozen)


def test_a_latent_model_without_parameters_is_nothing_to_learn():
    model = svae.SVAE(svae.Gaussian(2), NETWORK, NETWORK)
    with pytest.raises(ValueError, match="leaves nothing to learn"):
        model.fit(FRAMES, 2, freeze=("encoder", "decoder"))


def test_frozen_networks_have_no_warm_up_but_a_q_that_fits_their_latents():
    both = ("encoder", "decoder")
    model = fit("slds", freeze=both, warmup=20)
    for part in both:
        np.testing.assert_array_equal(parts(model)[part], start("slds")[part])
    same = fit("slds", freeze=both, warmup=0)
    assert_same(model, same)
    # what a warm-up has come to is what a frozen q(theta) keeps
    frozen = fit("slds", 5, freeze="latent", warmup=2)
    sooner = fit("slds", 1, freeze="latent", warmup=2)
    np.testing.assert_array_equal(parts(frozen)["latent"], parts(sooner)["latent"])
    assert np.any(parts(frozen)["latent"] != start("slds")["latent"])


def test_weight_decay_leaves_a_frozen_network_alone():
    model = fit(freeze="encoder", weight_decay=0.5)
    np.testing.assert_array_equal(parts(model)["encoder"], start("lds")["encoder"])


def test_it_goes_on_bit_for_bit(tmp_path):
    whole = fit(num_steps=6, freeze=("latent", "encoder"))
    fit(freeze=("latent", "encoder"), checkpoint=tmp_path)
    with pytest.raises(ValueError, match="freeze = .'latent', 'encoder'., not .'lat"):
        fit(num_steps=6, freeze="latent", checkpoint=tmp_path, resume=True)
    frozen = ("encoder", "latent")
    again = fit(num_steps=6, freeze=frozen, checkpoint=tmp_path, resume=True)
    assert_same(whole, again)


def test_workers_leave_it_alone_too():
    frozen = {"freeze": ("latent", "decoder"), "num_steps": 2}
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        shared = fit(executor=executor, num_workers=2, **frozen)
    alone = parts(fit(**frozen))
    for part, value in parts(shared).items():
        np.testing.assert_allclose(value, alone[part], rtol=1e-9)
