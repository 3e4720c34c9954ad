"""Latent models and networks that are not the package's own, in files and back."""

import dataclasses
import enum
import json
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest

import svae
from svae import store
from svae.estimators import parts

LATENT, NETWORK, LINEAR = svae.LDS(2), svae.MLP((3,)), svae.Linear()


@dataclass(frozen=True)
class Wide(svae.MLP):
    """A network with a field more than its base, and another output."""

    gain: float = 2.0
    options: dict = field(default_factory=dict)

    def apply(self, weights, inputs):
        location, scale = super().apply(weights, inputs)
        return self.gain * location, scale

    log_density = property(doc="that of the base knows no gain")


class Slow(svae.LDS):
    """A latent model with another prior, and no decorator of its own."""

    def initial_posterior(self, rng):
        return super().initial_posterior(rng)


@dataclass(frozen=True)
class Outer:
    """A network inside another."""

    inner: Wide

    def init(self, rng, in_dim, out_dim):
        return self.inner.init(rng, in_dim, out_dim)

    def apply(self, weights, inputs):
        return self.inner.apply(weights, inputs)


class Plain:
    """A network that is no dataclass."""

    def init(self, rng, in_dim, out_dim):
        return svae.Linear().init(rng, in_dim, out_dim)

    def apply(self, weights, inputs):
        return svae.Linear().apply(weights, inputs)


class MyModel(svae.SVAE):
    def __init__(self, latent, encoder=LINEAR, decoder=LINEAR, note="a"):
        super().__init__(latent, encoder, decoder)
        self.note = note


def same_name(base):
    """Make a class with a name of the package's, and other output."""

    def apply(self, weights, inputs):
        location, scale = base.apply(self, weights, inputs)
        return location + 1.0, scale

    members = {"apply": apply, "__module__": "elsewhere"}
    return type(base.__name__, (base,), members)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).standard_normal((30, 3)).cumsum(axis=0)


def fitted(frames, latent=LATENT, decoder=NETWORK):
    return svae.SVAE(latent, NETWORK, decoder).fit(frames, num_steps=2, rng=0)


@pytest.mark.parametrize(
    ("latent", "decoder", "classes"),
    [
        (svae.LDS(2), Wide((3,), gain=3.0, options={"a": (1, "b")}), [Wide]),
        (Slow(2), svae.MLP((3,)), [Slow]),
        (Slow(2, affine=True), Outer(Wide((3,))), [Slow, Outer, Wide]),
    ],
)
def test_what_is_saved_comes_back(latent, decoder, classes, frames, tmp_path):
    model = fitted(frames, latent, decoder)
    model.save(tmp_path / "a.npz")
    loaded = svae.load(tmp_path / "a.npz", parts=classes)
    assert (loaded.latent, loaded.decoder) == (latent, decoder)
    assert type(loaded.latent) is type(latent)
    assert loaded.score(frames) == model.score(frames)
    with pytest.raises(ValueError, match="a.npz: .*: not among svae's own") as refused:
        svae.load(tmp_path / "a.npz", parts=[])
    for part in classes:
        assert f" is a {__name__}.{part.__name__}" in str(refused.value)
    named = ", ".join(part.__name__ for part in classes)
    assert f"svae.load(path, parts=[{named}])" in str(refused.value)


@pytest.mark.parametrize("base", [svae.MLP, svae.Linear])
def test_a_name_of_the_package_is_not_its_class(base, frames, tmp_path):
    other = same_name(base)
    model = fitted(frames, decoder=other())
    model.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=f"is a elsewhere.{base.__name__}: not"):
        svae.load(tmp_path / "a.npz")
    loaded = svae.load(tmp_path / "a.npz", parts=[other])
    assert type(loaded.decoder) is other
    assert type(loaded.encoder) is svae.MLP
    assert loaded.score(frames) == model.score(frames)


def test_a_class_that_has_moved(frames, tmp_path):
    there = type("Wide", (Wide,), {"__module__": "script"})
    model = fitted(frames, decoder=there((3,)))
    model.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"parts=\{'script.Wide': Wide\}"):
        svae.load(tmp_path / "a.npz", parts=[Wide])
    loaded = svae.load(tmp_path / "a.npz", parts={"script.Wide": Wide})
    assert loaded.score(frames) == model.score(frames)


def test_a_model_of_another_class(frames, tmp_path):
    model = MyModel(svae.LDS(2), note="b").fit(frames, num_steps=2, rng=0)
    model.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"the model is a .*MyModel.*parts=\[MyModel"):
        svae.load(tmp_path / "a.npz")
    loaded = svae.load(tmp_path / "a.npz", parts=[MyModel])
    assert type(loaded) is MyModel
    assert loaded.note == "b"
    assert loaded.score(frames) == model.score(frames)


def test_conjugate_models_too(frames, tmp_path):
    @dataclass(frozen=True)
    class Noisy(svae.LinearEmission):
        pass

    model = svae.SVI(Slow(2), Noisy(spread=9.0)).fit(frames, num_steps=2, rng=0)
    model.save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="latent is a .*Slow, .*: not among svae"):
        svae.load(tmp_path / "a.npz")
    loaded = svae.load(tmp_path / "a.npz", parts=(Slow, Noisy))
    assert type(loaded.emission) is Noisy
    assert loaded.score(frames) == model.score(frames)


class Colour(enum.Enum):
    RED = 1


@dataclass
class Holding(Plain):
    field: object = None


@dataclass
class Growing(Plain):
    size: int = 1

    def __post_init__(self):
        self.size += 1


@dataclass
class Hiding(Plain):
    size: int = 1

    def __post_init__(self):
        self.secret = 3


class Choosy(Wide):
    def __init__(self, gain):
        super().__init__((3,), gain=gain)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Plain(), r"encoder is a .*Plain, which cannot be saved.*dataclass"),
        (Holding(np.ones(2)), "encoder.field is a numpy.ndarray, which cannot"),
        (Holding((1, Colour.RED)), r"encoder.field\[1\] is a .*Colour, which cannot"),
        (Holding({1: 2}), "encoder.field is a builtins.dict, which cannot"),
        (Holding(np.tanh), "encoder.field is a .*ufunc, which cannot"),
        (Holding(Plain()), "encoder.field is a .*Plain, which cannot"),
        (Growing(), "made again from its fields it is another"),
        (Hiding(), "secret is no field of the dataclass, and would be lost"),
        (Choosy(3.0), "it cannot be made again from its fields"),
    ],
)
def test_what_could_not_come_back_is_not_saved(network, message, frames, tmp_path):
    """A fit needs no file; with one it is refused before there is a step."""
    model = svae.SVAE(svae.LDS(2), network, svae.Linear())
    steps = []

    def note(step, record):
        steps.append(step)

    with pytest.raises(TypeError, match=message):
        model.fit(frames, num_steps=2, rng=0, checkpoint=tmp_path / "a", callback=note)
    assert not steps
    assert not (tmp_path / "a").exists()
    model.fit(frames, num_steps=2, rng=0, callback=note)
    assert len(steps) == 2
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


class Layer(NamedTuple):
    matrix: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Named:
    def init(self, rng, in_dim, out_dim):
        weights = svae.Linear().init(rng, in_dim, out_dim)
        return weights | {"location": Layer(*weights["location"])}

    def apply(self, weights, inputs):
        return svae.Linear().apply(weights, inputs)


def test_weights_that_cannot_be_saved_are_refused_before_the_first_step(
    frames, tmp_path
):
    model, steps = svae.SVAE(svae.LDS(2), Named(), svae.Linear()), []
    options = {"num_steps": 2, "callback": lambda step, record: steps.append(step)}
    with pytest.raises(TypeError, match="cannot save a Layer"):
        model.fit(frames, **options, checkpoint=tmp_path / "a")
    assert not steps
    assert list((tmp_path / "a").iterdir()) == []
    model.fit(frames, **options)
    assert len(steps) == 2


def test_parts_are_classes(frames, tmp_path):
    fitted(frames).save(tmp_path / "a.npz")
    for wrong in (Wide, 3, [Wide()], {"a": "Wide"}, "Wide"):
        with pytest.raises(TypeError, match="parts must be"):
            svae.load(tmp_path / "a.npz", parts=wrong)


def test_arguments_are_numbers_of_numpy_too(tmp_path, frames):
    model = fitted(frames, svae.LDS(np.int64(2), noise_variance=np.float32(0.5)))
    model.save(tmp_path / "a.npz")
    assert svae.load(tmp_path / "a.npz").latent == svae.LDS(2, noise_variance=0.5)


def test_the_packages_own_classes_keep_their_bare_names(frames, tmp_path):
    """So that earlier versions read these files, and files of theirs are read."""
    fitted(frames).save(tmp_path / "a.npz")
    arguments = store.load(tmp_path / "a.npz")[1]["arguments"]
    assert arguments["latent"]["class"] == "LDS"
    assert arguments["encoder"]["class"] == "MLP"
    assert arguments["encoder"]["hidden"] == [3]
    for name, part in parts.BUILT_IN.items():
        assert getattr(svae, name) is part


def test_resuming_with_a_class_of_the_same_name_is_refused(frames, tmp_path):
    make = {"num_steps": 2, "rng": 0, "checkpoint": tmp_path}
    svae.SVAE(svae.LDS(2), svae.Linear(), svae.Linear()).fit(frames, **make)
    other = same_name(svae.Linear)
    model = svae.SVAE(svae.LDS(2), svae.Linear(), other())
    with pytest.raises(ValueError, match="decoder.class = Linear, not elsewhere.Linea"):
        model.fit(frames, **make, resume=True)


def test_resuming_with_a_class_of_ones_own(frames, tmp_path):
    def model():
        return svae.SVAE(Slow(2), Wide((3,)), Outer(Wide((3,))))

    model().fit(frames, num_steps=2, rng=0, checkpoint=tmp_path)
    resumed = model().fit(frames, num_steps=4, checkpoint=tmp_path, resume=True)
    whole = model().fit(frames, num_steps=4, rng=0)
    np.testing.assert_array_equal(
        resumed.history_["objective"], whole.history_["objective"]
    )


def test_parameters_and_words_of_such_parts(frames):
    network = Holding(np.ones(2))
    model = svae.SVAE(Slow(2), Plain(), network)
    params = model.get_params()
    assert params["decoder"] is network
    assert params["decoder__field"] is network.field
    assert params["latent__latent_dim"] == 2
    assert not any(name.startswith("encoder__") for name in params)
    assert "Slow(latent_dim=2" in repr(model)
    assert "Plain object" in repr(model)
    model.set_params(decoder__field=3, latent__affine=True)
    assert model.decoder == Holding(3)
    assert type(model.latent) is Slow
    with pytest.raises(ValueError, match="no parameter 'encoder__size'"):
        model.set_params(encoder__size=3)
    clone = svae.SVAE(**model.get_params(deep=False))
    assert repr(clone) == repr(model)


def test_json_and_back_is_the_same():
    value = {"a": (1, 2.5, (None, True)), "b": Outer(Wide((1, 2), options={"c": "d"}))}
    known = parts.classes([Outer, Wide])
    content = json.loads(json.dumps(parts.to_json(value, "x")))
    assert parts.from_json(content, known) == value
    assert dataclasses.asdict(parts.from_json(content, known)["b"])
