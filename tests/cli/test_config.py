"""Settings in a file, and the settings of a run."""

import dataclasses
import inspect
import json
import sys

import numpy as np
import pytest

import svae
from svae.__main__ import main
from svae.cli.parser import parse
from svae.cli.settings import MODELS, build_model, choose_settings
from tests.helpers.commands import error_of, usage_error_of, written

SVAE = inspect.signature(svae.SVAE).parameters
FIT = inspect.signature(svae.SVAE.fit).parameters

TOML = """
num_states = 4
num_steps = 2
hidden = [6, 5]
learning_rate = 1e-3  # of Adam
natural_step = 1
activation = "relu"
"""


@pytest.fixture
def without_figures(monkeypatch):
    """Fit as if matplotlib were not there: these tests look at settings."""
    monkeypatch.setattr("svae.cli.output.find_spec", lambda name: None)


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_settings_in_a_file(suffix, tmp_path, without_figures):
    settings = {
        "num_states": 4,
        "num_steps": 2,
        "hidden": [6, 5],
        "learning_rate": 1e-3,
        "natural_step": 1,
        "activation": "relu",
    }
    text = TOML if suffix == ".toml" else json.dumps(settings)
    out, path = tmp_path / "run", written(tmp_path, text, suffix)
    arguments = ["fit", "gmm", "pinwheel", "--config", path, "--out", str(out)]
    assert main([*arguments, "--num-states", "3", "--quiet"]) == 0
    record = json.loads((out / "run.json").read_text())["settings"]
    settings["num_states"] = 3  # the command line goes before the file,
    assert settings.items() <= record.items()
    assert record["batch_size"] == 50  # the file before defaults
    model = svae.load(out / "model.npz")
    assert model.latent.num_states == 3
    assert model.encoder == svae.Residual((6, 5), activation="relu")
    assert model.decoder.activation == "relu"


def test_a_file_goes_before_the_recipe(tmp_path, without_figures):
    path = written(tmp_path, '{"learning_rate": 0.05, "num_steps": 1}', ".json")
    out = tmp_path / "run"
    arguments = ["fit", "gmm", "pinwheel", "--config", path, "--out", str(out)]
    assert main([*arguments, "--quiet", "--num-states", "2"]) == 0
    record = json.loads((out / "run.json").read_text())["settings"]
    assert record["learning_rate"] == 0.05
    assert record["natural_step"] == 0.02  # the recipe


def test_a_file_may_name_model_and_data(tmp_path, without_figures):
    text = '{"model": "gaussian", "data": "dots", "num_steps": 1, "hidden": [3]}'
    path, out = written(tmp_path, text, ".json"), tmp_path / "run"
    arguments = ["fit", "--config", path, "--out", str(out), "--quiet"]
    assert main(arguments) == 0
    assert json.loads((out / "run.json").read_text())["data"] == "dots"
    more = ["gmm", "pinwheel", "--num-states", "2", "--force"]
    assert main([*arguments, *more]) == 0
    record = json.loads((out / "run.json").read_text())
    assert (record["model"], record["data"]) == ("gmm", "pinwheel")


@pytest.mark.parametrize("run", ["slds_run", "lds_run"])
def test_the_settings_of_a_run_make_it_again(run, tmp_path, request, without_figures):
    first = request.getfixturevalue(run) / "run"
    record = json.loads((first / "run.json").read_text())
    settings = json.dumps(record["settings"])
    again, alone = tmp_path / "again", tmp_path / "alone"
    arguments = ["fit", "--config", str(first / "run.json"), "--out", str(again)]
    assert main([*arguments, "--quiet"]) == 0
    path = written(tmp_path, settings, ".json")
    arguments = ["fit", record["model"], record["data"], "--config", path]
    assert main([*arguments, "--out", str(alone), "--quiet"]) == 0
    objective = svae.load(first / "model.npz").history_["objective"]
    for folder in (again, alone):
        new = json.loads((folder / "run.json").read_text())
        assert new["settings"] == record["settings"]
        model = svae.load(folder / "model.npz")
        np.testing.assert_array_equal(model.history_["objective"], objective)


@pytest.mark.parametrize(
    "model, text, reason",
    [
        ("lds", "latent_dims = 3", "no word 'latent_dims'; is it latent_dim?"),
        ("lds", "out = 'there'", "there is no word 'out'"),
        ("lds", "latent_dim = '3'", "latent_dim is '3': wanted 3"),
        ("lds", "latent_dim = 2.5", "latent_dim is 2.5: invalid int value"),
        ("lds", "latent_dim = true", "latent_dim is True: invalid int value"),
        ("lds", "latent_dim = [3]", "latent_dim is [3]: wanted 3"),
        ("lds", "hidden = 40", "hidden is 40: wanted [40]"),
        ("lds", "hidden = ['a']", "hidden is ['a']: invalid widths value"),
        ("lds", "affine = 1", "affine is 1: wanted true or false"),
        ("lds", "warmup = -1", "warmup is -1: -1, wanted 0 or more"),
        ("lds", "likelihood = 'poisson'", "wanted one of gaussian, bernoulli"),
        ("lds", "learning_rate = nan", "learning_rate is nan: wanted NaN"),
        ("lds", "num_states = 3", "num_states: lds has no discrete states"),
        ("gmm", "window = 9", "window: the rows of gmm are independent"),
        ("slds", "inference = 'sin'", "inference: slds has no structured inference"),
        ("student", "tails = 'sampled'", "tails: sampled ones need --inference sin"),
        ("lds", "tolerance = 1e-3", "tolerance: lds has no iterations"),
        (
            "gmm",
            "likelihood = 'bernoulli'\nstandardize = true",
            "standardize: bernoulli data must stay in [0, 1]",
        ),
        ("lds", "affine: true", "Expected '='"),
    ],
)
def test_settings_that_are_refused(model, text, reason, tmp_path, capsys):
    path = written(tmp_path, text)
    said = usage_error_of(capsys, ["fit", model, "dots", "--config", path])
    assert f"argument --config: {path}: " in said
    assert reason in said


def test_files_that_are_no_settings(tmp_path, capsys):
    for text in ("[1, 2]", "{", '{"hidden": {"a": 1}}'):
        path = written(tmp_path, text, ".json")
        said = usage_error_of(capsys, ["fit", "lds", "dots", "--config", path])
        assert f"argument --config: {path}: " in said
    path = written(tmp_path, "{}", ".yaml")
    said = usage_error_of(capsys, ["fit", "lds", "dots", "--config", path])
    assert "ends in .toml or .json" in said
    assert "nowhere.json" in error_of(
        capsys, ["fit", "lds", "dots", "--config", "nowhere.json"]
    )


def test_toml_needs_a_reader(tmp_path, monkeypatch, capsys):
    path = tmp_path / "settings.toml"
    path.write_text(TOML)
    for reader in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, reader, None)
    said = usage_error_of(capsys, ["fit", "lds", "dots", "--config", str(path)])
    assert "TOML needs Python 3.11 or tomli" in said


def test_null_is_no_warmup(tmp_path):
    path = written(tmp_path, '{"warmup": null}', ".json")
    options = parse(["fit", "hmm", "dots", "--config", path])
    assert choose_settings(options)["warmup"] == "none"


def test_a_rate_for_each_network_in_a_file(tmp_path, capsys):
    each = {"encoder": 1e-3, "decoder": 2e-4}
    path = written(tmp_path, json.dumps({"learning_rate": each}), ".json")
    options = parse(["fit", "lds", "dots", "--config", path])
    assert choose_settings(options)["learning_rate"] == each
    path = written(tmp_path, '{"learning_rate": {"encoder": "fast"}}', ".json")
    said = usage_error_of(capsys, ["fit", "lds", "dots", "--config", path])
    assert "invalid rates value" in said


@pytest.mark.parametrize("name", MODELS)
def test_defaults_are_those_of_constructors_and_of_fit(name):
    """There is no second copy of them, and every field of a model has an option."""
    settings = choose_settings(parse(["fit", name, "recording.npy"]))
    model = build_model(name, settings)
    assert model.latent == MODELS[name]()
    for word, default in SVAE.items():
        if word not in ("latent", "encoder", "decoder"):
            assert getattr(model, word) == default.default
    for word in FIT.keys() & settings.keys() - {"batch_size", "window", "rng"}:
        assert settings[word] == FIT[word].default
    options = parse(["fit", name, "recording.npy"]).words
    fields = {field.name for field in dataclasses.fields(MODELS[name])}
    assert fields - options.keys() <= {"starts", "prior"}
