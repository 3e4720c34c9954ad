"""The habits of scikit-learn: arguments stored untouched, read and replaced by name."""

import inspect

import numpy as np
import pytest

import svae
from svae import NotFitted

ENCODER, DECODER = svae.MLP((5,)), svae.Residual((4,))


def models():
    yield svae.SVAE(svae.SLDS(3, 2), ENCODER, DECODER, natural_gradient="conjugate")
    yield svae.SVAE(svae.GMM(3, 2), inference="sin")
    yield svae.SVI(svae.HMM(3, 2))
    yield svae.SVI(svae.LDS(2), svae.LinearEmission())


each_model = pytest.mark.parametrize("model", list(models()), ids=repr)


@each_model
def test_the_constructor_stores_its_arguments_untouched(model):
    names = list(inspect.signature(type(model)).parameters)
    assert list(vars(model)) == names  # and nothing else
    given = {name: object() for name in names}
    other = type(model)(**given)
    assert all(getattr(other, name) is given[name] for name in names)


@each_model
def test_arguments_make_the_same_model(model):
    params = model.get_params(deep=False)
    again = type(model)(**params)
    assert again.get_params() == model.get_params()
    assert repr(again) == repr(model)
    assert eval(repr(model), vars(svae)).get_params() == model.get_params()


@each_model
def test_scikit_learn_clones_it(model):
    base = pytest.importorskip("sklearn.base")
    fitted = type(model)(**model.get_params(deep=False))
    fitted.parameters_ = fitted.natparams_ = "learned"
    copy = base.clone(fitted)
    assert type(copy) is type(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "parameters_")


def test_fields_of_arguments_have_names():
    model = svae.SVAE(svae.SLDS(3, 2), ENCODER, DECODER)
    params = model.get_params()
    assert params["latent__num_states"] == 3
    assert params["encoder__hidden"] == (5,)
    same = model.set_params(latent__num_states=7, decoder__activation="relu")
    assert same is model
    assert model.latent == svae.SLDS(7, 2)
    assert model.decoder == svae.Residual((4,), activation="relu")
    assert model.encoder is ENCODER
    # an argument and a field of it: the field of the new argument
    model.set_params(latent__latent_dim=4, latent=svae.LDS(3))
    assert model.latent == svae.LDS(4)


@pytest.mark.parametrize(
    "name", ["latents", "latent__nothing", "nothing__hidden", "likelihood__x"]
)
def test_unknown_names_are_refused(name):
    model = svae.SVAE(svae.LDS(2), ENCODER, DECODER)
    with pytest.raises(ValueError, match=f"SVAE has no parameter '{name}'"):
        model.set_params(**{"natural_gradient": "none", name: 1})
    assert model.natural_gradient == "full"
    with pytest.raises(ValueError, match="latent_dim must be a positive integer"):
        model.set_params(latent__latent_dim=0)
    assert model.latent == svae.LDS(2)


def test_what_is_learned_ends_in_an_underscore():
    frames = np.random.default_rng(0).standard_normal((30, 3))
    for model in (
        svae.SVAE(svae.LDS(2), ENCODER, ENCODER).fit(frames, 2, rng=0),
        svae.SVI(svae.HMM(2, 3)).fit(frames, 2, rng=0),
    ):
        names = vars(model).keys() - model.get_params(deep=False).keys()
        assert all(name.endswith("_") for name in names if not name.startswith("_"))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("transform", 1),
        ("infer", 1),
        ("predict", 1),
        ("score", 1),
        ("reconstruct", 1),
        ("impute", 1),
        ("forecast", 1),
        ("decode", 1),
        ("sample", 0),
        ("save", 1),
    ],
)
def test_before_fit_every_method_says_so(method, arguments, tmp_path):
    model = svae.SVAE(svae.HMM(2, 2), ENCODER, ENCODER)
    data = [np.zeros((5, 2))] if method != "save" else [tmp_path / "model.npz"]
    words = {"forecast": {"horizon": 2}, "sample": {"num_steps": 3}}.get(method, {})
    with pytest.raises(NotFitted, match=r"not fitted yet: call fit\(data\) first"):
        getattr(model, method)(*data[:arguments], **words)
