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
from svae.cli.settings import (
    MODELS,
    RECIPES,
    build_model,
    choose_settings,
    fit_words,
)
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
    """But for mixtures; there is no second copy, and every field has an option."""
    settings = choose_settings(parse(["fit", name, "recording.npy"]))
    model, words = build_model(name, settings), fit_words(settings)
    assert model.latent == MODELS[name]()
    of_mixtures = {"encoder": svae.Residual((40, 40)), "likelihood": "gaussian"}
    of_mixtures |= {"decoder": svae.Residual((40, 40)), "learning_rate": 3e-3}
    own = of_mixtures if name in ("gmm", "student") else {}
    for word in SVAE.keys() - {"latent"}:
        assert getattr(model, word) == own.get(word, SVAE[word].default)
    for word in FIT.keys() & words.keys() - {"batch_size", "window", "rng"}:
        assert words[word] == own.get(word, FIT[word].default)
    options = parse(["fit", name, "recording.npy"]).words
    fields = {field.name for field in dataclasses.fields(MODELS[name])}
    assert fields - options.keys() <= {"starts", "prior"}


@pytest.mark.parametrize(
    ("model", "data", "network"),
    [
        ("gaussian", "pinwheel", svae.Residual((40, 40))),
        ("gmm", "pinwheel", svae.Residual((40, 40))),
        ("student", "pinwheel", svae.Residual((40, 40))),
        ("lds", "dots", svae.MLP((50,))),
        ("slds", "switching", svae.MLP((50,))),
    ],
)
def test_recipes_are_the_experiments_of_the_papers(model, data, network):
    """With their networks and variances, whatever the defaults of one's own data."""
    assert (model, data) in RECIPES
    settings = choose_settings(parse(["fit", model, data]))
    made = build_model(model, settings)
    assert made.encoder == network
    assert made.likelihood == "gaussian"  # the variance is the network's
    assert fit_words(settings)["start"] == "random"
    assert getattr(made.latent, "noise_variance", 2.0) == 2.0
    assert len(RECIPES) == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--network mlp", svae.MLP((50,))),
        ("--network mlp --hidden 7", svae.MLP((7,))),
        ("--weight-scale 0.1", svae.Residual((200, 200), weight_scale=0.1)),
        ("--hidden 7", svae.Residual((7,), weight_scale=None)),
    ],
)
def test_sizes_of_networks_follow_their_kind(words, expected):
    settings = choose_settings(parse(["fit", "lds", "a.npy", *words.split()]))
    assert build_model("lds", settings).encoder == expected


@pytest.mark.parametrize(
    ("words", "likelihood"),
    [
        ("", svae.likelihoods.Gaussian(variance="shared")),
        ("--variance network", "gaussian"),
        (
            "--variance dimension --relative-floor 0.1",
            svae.likelihoods.Gaussian(variance="dimension", relative_floor=0.1),
        ),
        ("--likelihood bernoulli", "bernoulli"),
    ],
)
def test_words_make_a_likelihood_and_come_back(words, likelihood, tmp_path):
    options = parse(["fit", "lds", "a.npy", *words.split()])
    settings = choose_settings(options)
    assert build_model("lds", settings).likelihood == likelihood
    path = tmp_path / "run.json"
    record = {"model": "lds", "data": "a.npy", "settings": settings}
    path.write_text(json.dumps(record))
    assert choose_settings(parse(["fit", "--config", str(path)])) == settings


def test_words_of_priors_and_starts(tmp_path, capsys):
    words = "--noise-variance 0.5 --column-precision 3 --start random"
    settings = choose_settings(parse(["fit", "slds", "a.npy", *words.split()]))
    latent = build_model("slds", settings).latent
    assert latent == svae.SLDS(noise_variance=0.5, column_precision=3.0)
    assert fit_words(settings)["start"] == "random"
    path = written(tmp_path, '{"noise_variance": "data"}', ".json")
    settings = choose_settings(parse(["fit", "lds", "dots", "--config", path]))
    assert build_model("lds", settings).latent == svae.LDS()
    for words in ("--noise-variance much", "--start there", "--variance none"):
        usage_error_of(capsys, ["fit", "lds", "a.npy", *words.split()])
    said = usage_error_of(
        capsys, "fit lds a.npy --likelihood bernoulli --variance dimension".split()
    )
    assert "argument --variance: bernoulli data have no variance" in said


def test_the_record_of_an_earlier_version_means_what_it_did(tmp_path, without_figures):
    """Which had no words for the variance, the start and the prior's noise."""
    rng = np.random.default_rng(0)
    source, run = str(tmp_path / "a.npy"), tmp_path / "run"
    np.save(source, rng.standard_normal((40, 3)).cumsum(axis=0))
    sizes = "--latent-dim 2 --window 20 --batch-size 2 --num-steps 2 --quiet".split()
    as_it_was = "--network mlp --variance network --start random --noise-variance 2"
    words = [*sizes, *as_it_was.split()]
    assert main(["fit", "lds", source, "--out", str(run), *words]) == 0
    record = json.loads((run / "run.json").read_text())
    earlier = {
        word: value
        for word, value in record["settings"].items()
        if word not in ("variance", "start", "noise_variance")
    }
    earlier["learning_rate"] = 3e-3
    (run / "run.json").write_text(json.dumps(record | {"settings": earlier}))
    again = tmp_path / "again"
    arguments = ["fit", "--config", str(run / "run.json"), "--out", str(again)]
    assert main([*arguments, "--quiet"]) == 0
    assert main(["fit", "--resume", str(run), "--num-steps", "4", "--quiet"]) == 0
    fits = [svae.load(folder / "model.npz") for folder in (run, again)]
    assert fits[0].get_params() == fits[1].get_params()
    longer, same = (fit.history_["objective"] for fit in fits)
    np.testing.assert_array_equal(longer[:2], same)
    assert main(["score", str(run)]) == 0
