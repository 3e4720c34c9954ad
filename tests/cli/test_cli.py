"""The command line, run in this process on small settings."""

import csv
import inspect
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import svae
from svae import store
from svae.cli import runs, selfcheck
from svae.cli.main import choose_settings, main, parse, segmented

svae_fit = svae.SVAE.fit
LOUD = ["--num-steps", "3", "--hidden", "4"]
SMALL = [*LOUD, "--quiet"]
SMALL_GMM = [*SMALL, "--num-states", "3"]
SMALL_SWITCHING = [
    *(*SMALL, "--num-states", "3", "--latent-dim", "2"),
    *("--window", "20", "--batch-size", "2", "--warmup", "2"),
]
LDS = ["--latent-dim", "2", "--window", "20", "--batch-size", "2"]
SMALL_LDS, LOUD_LDS = [*SMALL, *LDS], [*LOUD, *LDS]


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return 5.0 + 3.0 * rng.standard_normal((40, 3)).cumsum(axis=0)


@pytest.fixture(scope="module")
def lds_run(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lds")
    np.save(folder / "frames.npy", frames)
    source, out = str(folder / "frames.npy"), str(folder / "run")
    assert main(["fit", "lds", source, "--out", out, *SMALL_LDS]) == 0
    return folder


def error_of(capsys, arguments):
    """Run a command that must fail and return its one line of complaint."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("svae: error: ")
    return line


def usage_error_of(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_data_in_a_file_too_large_for_memory_is_fitted_and_scored_alike(
    tmp_path, frames, monkeypatch, capsys
):
    """Windows that are read as needed, from a memory map or HDF5, change nothing."""
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "a.npy", frames)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/frames"], file["other"] = frames, frames[:5]
    sources = [f"{tmp_path}/a.npy", f"{tmp_path}/a.h5:group/frames"]
    monkeypatch.chdir(tmp_path)
    histories, scores = [], []
    for limit in (runs.MEMORY, 100):
        monkeypatch.setattr(runs, "MEMORY", limit)
        monkeypatch.setattr(runs, "EXCERPT", 90)
        for source in sources:
            assert main(["fit", "lds", source, *LOUD_LDS, "--force"]) == 0
            assert ("of the first 30 frames" in capsys.readouterr().out) == (
                limit < 120
            )
            out = f"runs/lds-{runs.name_of(source)}"
            histories.append(svae.load(f"{out}/model.npz").history_["objective"])
            assert main(["score", out]) == 0
            scores.append(capsys.readouterr().out)
    for history in histories:
        np.testing.assert_allclose(history, histories[0], rtol=1e-12)
    assert len(set(scores)) == 1


def test_fit_writes_a_run(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["fit", "gmm", "pinwheel", "--out", str(out), "--num-states", "3"]
    assert main([*arguments, *LOUD]) == 0
    said = capsys.readouterr().out
    assert "bound " in said
    assert "of 3" in said
    assert "time per step: " in said
    assert (out / "figures" / "mixture.png").is_file()

    model = svae.load(out / "model.npz")
    assert model.latent == svae.GMM(num_states=3, latent_dim=2)
    with open(out / "history.csv") as file:
        rows = list(csv.DictReader(file))
    objective = [float(row["objective"]) for row in rows]
    np.testing.assert_array_equal(objective, model.history_["objective"])

    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["hidden"] == [4]
    assert record["settings"]["num_steps"] == 3
    assert record["standardize"] is False
    assert record["versions"] == store.versions()
    assert record["result"]["objective"] == pytest.approx(objective[-1] / 500)


def test_quiet_says_nothing_of_what_is_sound(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["fit", "gaussian", "pinwheel", "--out", out, *SMALL]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_default_folder_is_named_after_model_and_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "gmm", "pinwheel", *SMALL_GMM]) == 0
    assert (tmp_path / "runs" / "gmm-pinwheel" / "model.npz").is_file()


def test_the_same_seed_gives_the_same_fit(tmp_path):
    for name in ("a", "b"):
        out = str(tmp_path / name)
        assert main(["fit", "gmm", "pinwheel", "--out", out, *SMALL_GMM]) == 0
    a, b = (svae.load(tmp_path / name / "model.npz") for name in ("a", "b"))
    np.testing.assert_array_equal(a.history_["objective"], b.history_["objective"])


def test_fit_lds_to_the_dots(tmp_path):
    out = tmp_path / "run"
    assert main(["fit", "lds", "dots", "--out", str(out), *SMALL_LDS]) == 0
    model = svae.load(out / "model.npz")
    assert (model.latent.latent_dim, model.obs_dim_) == (2, 20)
    assert model.decoder.mean == "sigmoid"
    names = {path.stem for path in (out / "figures").iterdir()}
    assert names == {"bound", "dynamics", "forecast"}


@pytest.fixture(scope="module")
def gappy(frames):
    gappy = frames.copy()
    gappy[10:14] = np.nan
    gappy[20, 1] = np.nan
    return gappy


@pytest.fixture(scope="module")
def slds_run(gappy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slds")
    np.save(folder / "frames.npy", gappy)
    source, out = str(folder / "frames.npy"), str(folder / "run")
    options = ["--sticky", "4", "--affine", "--noise-variance", "0.5"]
    assert main(["fit", "slds", source, "--out", out, *SMALL_SWITCHING, *options]) == 0
    return folder


def test_words_reach_the_models(slds_run, frames, tmp_path):
    latent = svae.load(slds_run / "run" / "model.npz").latent
    assert latent == svae.SLDS(3, 2, affine=True, sticky=4.0, noise_variance=0.5)
    np.save(tmp_path / "frames.npy", frames)
    source, out = str(tmp_path / "frames.npy"), tmp_path / "run"
    options = ["--concentration", "0.5", "--natural-gradient", "conjugate"]
    arguments = ["fit", "hmm", source, "--out", str(out), *SMALL_SWITCHING, *options]
    assert main(arguments) == 0
    model = svae.load(out / "model.npz")
    assert model.latent == svae.HMM(3, 2, concentration=0.5)
    assert model.natural_gradient == "conjugate"
    names = {path.stem for path in (out / "figures").iterdir()}
    chain = {"bound", "ethogram", "forecast", "mixture", "states", "transitions"}
    assert names == chain


@pytest.mark.parametrize("inference", ["svae", "sin"])
def test_a_student_mixture_from_fit_to_sample(inference, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--inference", inference, "--dof", "3", "--learn-dof"]
    if inference == "sin":
        words += ["--tails", "sampled"]
    arguments = ["fit", "student", "pinwheel", "--out", str(out), "--num-states", "3"]
    assert main([*arguments, *LOUD, *words]) == 0
    said = capsys.readouterr().out
    assert "states in use: " in said
    assert ("iterations: " in said) == (inference == "svae")
    model = svae.load(out / "model.npz")
    tails = "sampled" if inference == "sin" else "augmented"
    assert model.latent == svae.StudentMixture(3, 2, 3.0, True, tails)
    assert model.inference == inference
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["inference"] == inference
    assert settings["natural_step"] == 0.02  # the recipe

    points = svae.data.pinwheel(rng=1)[0]
    assert main(["score", str(out)]) == 0
    printed = float(capsys.readouterr().out.split()[0])
    assert printed == pytest.approx(model.score(points), abs=1e-6)
    assert main(["score", str(out), "--num-importance-samples", "3"]) == 0
    assert main(["sample", str(out), "--num-steps", "4", "--rng", "1"]) == 0
    np.testing.assert_array_equal(np.load(out / "sample.npy"), model.sample(4, rng=1))
    figures = {path.stem for path in (out / "figures").iterdir()}
    assert figures == {"bound", "mixture"}
    (out / "figures" / "mixture.png").unlink()
    assert main(["plot", str(out)]) == 0
    assert (out / "figures" / "mixture.png").is_file()
    assert "no forecast" in error_of(capsys, ["forecast", str(out), "--horizon", "3"])


@pytest.mark.parametrize("model", ["gmm", "hmm", "lds"])
def test_every_graph_has_a_structured_inference_network(model, frames, tmp_path):
    np.save(tmp_path / "frames.npy", frames)
    source, out = str(tmp_path / "frames.npy"), tmp_path / "run"
    small = {"gmm": SMALL_GMM, "hmm": SMALL_SWITCHING, "lds": SMALL_LDS}[model]
    words = ["--out", str(out), "--inference", "sin"]
    assert main(["fit", model, source, *words, *small]) == 0
    assert svae.load(out / "model.npz").inference == "sin"
    assert main(["score", str(out)]) == 0
    assert main(["sample", str(out), "--num-steps", "3"]) == 0
    assert main(["plot", str(out)]) == 0
    if model != "gmm":
        assert main(["forecast", str(out), "--horizon", "3"]) == 0


@pytest.mark.parametrize(
    "given, expected",
    [
        ("--context 5 --hide 3", {"context": 5, "hide": 3}),
        ("--warm-start --warmup none", {"warm_start": True, "warmup": None}),
        ("--warmup auto", {"warmup": "auto"}),
        ("--warmup 0", {"warmup": 0}),
    ],
)
def test_words_reach_the_fit(given, expected, tmp_path, monkeypatch):
    class Stop(ValueError):
        pass

    words = {}

    def fit(self, data, **given):
        words.update(given)
        raise Stop

    monkeypatch.setattr(svae.SVAE, "fit", fit)
    out = ["--out", str(tmp_path / "run")]
    assert main(["fit", "slds", "dots", *out, *given.split()]) == 1
    assert expected.items() <= words.items()
    assert set(words) <= set(inspect.signature(svae_fit).parameters)


def test_the_recipe_of_the_switching_data(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["fit", "slds", "switching", "--out", str(out), *LOUD, "--warmup", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "standardised" in said
    assert "missing" not in said
    assert re.search(r"states in use: [12] of 2 ", said)
    assert "iterations: " in said
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["warmup"] == 2
    assert record["settings"]["window"] == 200
    frames = svae.synthetic.switching_lds(rng=1).frames
    scaling = runs.Run.load(out).scaling
    np.testing.assert_allclose(scaling.mean, frames.mean(axis=0))
    assert record["result"]["num_states"] == 2
    assert record["result"]["iterations"] > 0


def test_missing_values_are_counted(gappy, tmp_path, capsys):
    path, out = tmp_path / "frames.csv", str(tmp_path / "run")
    np.savetxt(path, gappy, delimiter=",")
    options = ["--latent-dim", "2", "--window", "20"]
    assert main(["fit", "lds", str(path), "--out", out, *options, *LOUD]) == 0
    said = capsys.readouterr().out
    assert "missing: 13 of 120 values (11 %), with 4 whole frames of 40" in said
    assert "states in use" not in said


def test_score_counts_the_scale_of_what_is_observed(slds_run, gappy, capsys):
    mean, scale = np.nanmean(gappy, axis=0), np.nanstd(gappy, axis=0)
    model = svae.load(slds_run / "run" / "model.npz")
    scaled = (gappy - mean) / scale
    observed = ~np.isnan(gappy)
    num_frames = np.sum(observed.any(axis=1))
    assert num_frames < len(gappy)
    constant = np.sum(np.log(scale) * observed.sum(axis=0)) / num_frames
    importance = {"num_importance_samples": 3}
    for options, words in (
        ([], {}),
        (["--rng", "5"], {"rng": 5}),
        (["--num-importance-samples", "3"], importance),
        (
            ["--num-importance-samples", "3", "--theta", "sample"],
            {**importance, "theta": "sample"},
        ),
    ):
        assert main(["score", str(slds_run / "run"), *options]) == 0
        said = capsys.readouterr().out
        expected = model.score(scaled, **words) - constant
        assert float(said.split()[0]) == pytest.approx(expected, abs=1e-6)
        assert ("standard error: " in said) is ("num_importance_samples" in words)


def test_forecast_of_switching_models_has_states(slds_run, gappy, capsys):
    run = slds_run / "run"
    assert main(["forecast", str(run), "--horizon", "4", "--theta", "sample"]) == 0
    assert "states (1, 50, 4)" in capsys.readouterr().out
    mean, scale = np.nanmean(gappy, axis=0), np.nanstd(gappy, axis=0)
    model = svae.load(run / "model.npz")
    expected = model.forecast((gappy - mean) / scale, 4, theta="sample")
    with np.load(run / "forecast.npz") as forecast:
        np.testing.assert_array_equal(forecast["states"], expected.states[None])
        np.testing.assert_allclose(forecast["mean"][0], mean + scale * expected.mean)
    assert (run / "figures" / "prediction.png").is_file()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_files_hold_the_same_data(frames, tmp_path, suffix):
    path, out = tmp_path / f"frames{suffix}", tmp_path / "run"
    if suffix == ".csv":
        np.savetxt(path, frames, delimiter=",", header="a,b,c", comments="")
    else:
        (np.save if suffix == ".npy" else np.savez)(path, frames)
    assert main(["fit", "lds", str(path), "--out", str(out), *SMALL_LDS]) == 0
    scaling = runs.Run.load(out).scaling
    np.testing.assert_allclose(scaling.mean, frames.mean(axis=0))
    np.testing.assert_allclose(scaling.scale, frames.std(axis=0))
    scaled = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    direct = svae.SVAE(svae.LDS(2), svae.MLP((4,)), svae.MLP((4,)))
    direct.fit(scaled, num_steps=3, window=20, batch_size=2, rng=0)
    objective = svae.load(out / "model.npz").history_["objective"]
    np.testing.assert_allclose(objective, direct.history_["objective"], rtol=1e-10)


def test_several_arrays_in_a_file_are_sequences(frames, tmp_path, capsys):
    path, out = tmp_path / "two.npz", tmp_path / "run"
    np.savez(path, frames[:25], frames[25:])
    assert main(["fit", "lds", str(path), "--out", str(out), *SMALL_LDS]) == 0
    assert main(["forecast", str(out), str(path), "--horizon", "4"]) == 0
    with np.load(out / "forecast.npz") as forecast:
        assert forecast["mean"].shape == (2, 4, 3)
    assert "(2, 4, 3)" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_standardising_is_said_and_can_be_refused(frames, tmp_path, capsys):
    path, out = tmp_path / "frames.npy", tmp_path / "run"
    np.save(path, frames)
    loud = ["fit", "gaussian", str(path), "--out", str(out), *LOUD]
    assert main(loud) == 0
    said = capsys.readouterr()
    assert "standardised" in said.out
    assert "svae: warning:" not in said.err
    assert main([*loud, "--no-standardize", "--force"]) == 0
    said = capsys.readouterr()
    assert "standardised" not in said.out
    (line,) = [each for each in said.err.splitlines() if "warning" in each]
    assert line.startswith("svae: warning: data: column 2 is large")
    assert json.loads((out / "run.json").read_text())["standardize"] is False
    assert not (out / "scaling.npz").exists()


def test_the_scaling_is_no_part_of_the_record(lds_run):
    """Which has a line for each word, not one for each pixel."""
    text = (lds_run / "run" / "run.json").read_text()
    assert json.loads(text)["standardize"] is True
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"mean": np.full(3, np.nan), "scale": np.ones(3)}, "is not finite"),
        ({"mean": np.zeros(3), "scale": np.array([1.0, 0.0, 1.0])}, "not positive"),
        ({"mean": np.zeros(3), "scale": -np.ones(3)}, "not positive"),
        ({"mean": np.zeros(3), "scale": np.full(3, np.inf)}, "not finite"),
        ({"mean": np.zeros(2), "scale": np.ones(3)}, "shapes"),
        ({"mean": np.zeros((3, 1)), "scale": np.ones((3, 1))}, "shapes"),
        ({"mean": np.zeros(2), "scale": np.ones(2)}, "2 dimensions, its model of 3"),
        ({"mean": np.zeros(3)}, "KeyError"),
        ({"mean": np.array(["a"]), "scale": np.ones(1)}, "could not convert"),
        (None, "not found; run.json says that there is one"),
    ],
)
def test_a_wrong_scaling_is_refused(scaling, message, lds_run, tmp_path, capsys):
    """With NaN for a mean all data would be missing, and score -0."""
    shutil.copytree(lds_run / "run", tmp_path / "run")
    path = tmp_path / "run" / "scaling.npz"
    path.unlink()
    if scaling is not None:
        store.save(path, scaling, {"kind": "svae.scaling"})
    resumed = ["fit", "--resume", str(tmp_path / "run"), "--quiet"]
    complaint = error_of(capsys, ["score", str(tmp_path / "run")])
    assert message in complaint
    assert str(tmp_path / "run") in complaint
    complaint = error_of(capsys, resumed)
    assert message in complaint or "data has 3 dimensions, the model" in complaint


def test_the_scaling_of_an_earlier_record_is_checked_too(lds_run, tmp_path, capsys):
    shutil.copytree(lds_run / "run", tmp_path / "run")
    (tmp_path / "run" / "scaling.npz").unlink()
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    for mean in ([np.nan, 0.0, 0.0], [0.0], "abc", [[0.0]], ["a", "b", "c"], {}):
        record["standardize"] = {"mean": mean, "scale": [1.0, 1.0, 1.0]}
        path.write_text(json.dumps(record))
        complaint = error_of(capsys, ["score", str(tmp_path / "run")])
        assert f"{path}: " in complaint
    record["standardize"] = {"mean": [0.0] * 3, "scale": [1.0] * 3}
    path.write_text(json.dumps(record))
    assert main(["score", str(tmp_path / "run")]) == 0


def test_a_record_and_a_scaling_that_disagree(lds_run, tmp_path, capsys):
    shutil.copytree(lds_run / "run", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    for said in (False, None):
        path.write_text(json.dumps(record | {"standardize": said}))
        complaint = error_of(capsys, ["score", str(tmp_path / "run")])
        assert "run.json: says that nothing is standardised, but" in complaint


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("model", (None, 3, [], "ldss")),
        ("data", (None, 3, [], "nowhere.npy", "", "a\0b", "x" * 5000)),
        ("settings", (None, 3, [], {}, {"num_steps": 3})),
        ("standardize", (3, "yes", [])),
        ("num_frames", (None, "many", 2.5)),
    ],
)
def test_a_damaged_record_is_named_in_one_line(word, values, lds_run, tmp_path, capsys):
    shutil.copytree(lds_run / "run", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record, folder = json.loads(path.read_text()), str(tmp_path / "run")
    for value in values:
        path.write_text(json.dumps(record | {word: value}))
        assert "run.json" in error_of(capsys, ["fit", "--resume", folder, "--quiet"])
        if value == "ldss" or isinstance(value, dict):
            continue  # these matter only to a fit that goes on
        assert "run.json: " in error_of(capsys, ["score", folder])
    for text in ("", "[]", "3", "{", "\xff", "[" * 100_000):
        path.write_bytes(text.encode("latin-1"))
        for arguments in (["score", folder], ["fit", "--resume", folder]):
            assert "run.json: damaged" in error_of(capsys, arguments)


def test_settings_of_a_record_are_read_as_options_are(lds_run, tmp_path, capsys):
    shutil.copytree(lds_run / "run", tmp_path / "run")
    path, folder = tmp_path / "run" / "run.json", str(tmp_path / "run")
    record = json.loads(path.read_text())
    for word in record["settings"]:
        for value in ({}, "", [None], 1e999):
            path.write_text(
                json.dumps(record | {"settings": record["settings"] | {word: value}})
            )
            complaint = error_of(capsys, ["fit", "--resume", folder, "--quiet"])
            assert word in complaint or "resume: " in complaint


@pytest.mark.filterwarnings("default")
def test_a_constant_column_is_only_centred(tmp_path, capsys):
    # 0.1 has no exact mean in floating point: its deviation must not be divided by
    frames = np.random.default_rng(0).standard_normal((30, 2))
    frames[:, 1] = 0.1
    path, out = tmp_path / "frames.npy", tmp_path / "run"
    np.save(path, frames)
    assert main(["fit", "gaussian", str(path), "--out", str(out), *SMALL]) == 0
    assert runs.Run.load(out).scaling.scale[1] == 1.0
    (line,) = capsys.readouterr().err.splitlines()  # --quiet or not
    assert line.startswith("svae: warning: data: column 1 is constant")


def test_score_is_in_the_units_of_the_data(lds_run, frames, capsys):
    assert main(["score", str(lds_run / "run"), str(lds_run / "frames.npy")]) == 0
    printed = float(capsys.readouterr().out.split()[0])
    model = svae.load(lds_run / "run" / "model.npz")
    scale = frames.std(axis=0)
    expected = model.score((frames - frames.mean(axis=0)) / scale)
    assert printed == pytest.approx(expected - np.log(scale).sum(), abs=1e-6)


def test_forecast_is_in_the_units_of_the_data(lds_run, frames):
    arguments = ["forecast", str(lds_run / "run"), "--horizon", "7", "--rng", "3"]
    assert main(arguments) == 0
    model = svae.load(lds_run / "run" / "model.npz")
    mean, scale = frames.mean(axis=0), frames.std(axis=0)
    expected = model.forecast((frames - mean) / scale, 7, rng=3)
    with np.load(lds_run / "run" / "forecast.npz") as forecast:
        np.testing.assert_allclose(forecast["mean"][0], mean + scale * expected.mean)
        np.testing.assert_allclose(
            forecast["variance"][0], scale**2 * expected.variance
        )
    assert (lds_run / "run" / "figures" / "prediction.png").is_file()


def test_sample_writes_frames(lds_run):
    run = lds_run / "run"
    assert main(["sample", str(run), "--num-steps", "5", "--rng", "1"]) == 0
    frames = np.load(run / "sample.npy")
    assert frames.shape == (5, 3)
    assert np.isfinite(frames).all()


def test_plot_draws_again(lds_run):
    figure = lds_run / "run" / "figures" / "forecast.png"
    figure.unlink()
    assert main(["plot", str(lds_run / "run")]) == 0
    assert figure.is_file()


def test_plot_shows_frames_as_images(slds_run, capsys):
    run = slds_run / "run"
    folder = run / "figures"
    folder.joinpath("states.png").unlink()
    assert main(["plot", str(run), "--shape", "1", "3"]) == 0
    assert (folder / "states.png").is_file()
    assert (folder / "manifold.png").is_file()
    complaint = error_of(capsys, ["plot", str(run), "--shape", "2", "2"])
    assert "shape is (2, 2), frames have 3 values" in complaint


def test_images_are_in_the_units_of_the_data(slds_run, gappy, monkeypatch):
    words = {}

    def figures(model, sequences, shape, undo, num_frames):
        words.update(shape=shape, frames=undo(sequences[0]), num_frames=num_frames)
        return {}

    monkeypatch.setattr(svae.plot, "figures", figures)
    arguments = ["plot", str(slds_run / "run"), "--shape", "3", "1"]
    assert main(arguments) == 0
    assert words["shape"] == [3, 1]
    np.testing.assert_allclose(words["frames"], gappy)
    # the bound is that of what was fitted, whatever is shown
    np.save(slds_run / "few.npy", gappy[:30])
    assert main([*arguments, str(slds_run / "few.npy")]) == 0
    assert len(words["frames"]) == 30
    assert words["num_frames"] == 36  # with data, of 40


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_segment_writes_what_the_model_says(slds_run, gappy, tmp_path, capsys):
    run, source = slds_run / "run", tmp_path / "two.npz"
    np.savez(source, gappy[:25], gappy[25:])
    assert main(["segment", str(run), str(source)]) == 0
    said = capsys.readouterr().out
    rows = rows_of(run / "segments.csv")
    assert list(rows[0]) == [
        *("sequence", "frame", "state", "probability", "duration", "onset")
    ]
    mean, scale = np.nanmean(gappy, axis=0), np.nanstd(gappy, axis=0)
    scaled = (gappy - mean) / scale
    sequences = [scaled[:25], scaled[25:]]
    model = svae.load(run / "model.npz")
    paths = model.predict(sequences)
    for number, (path, posterior) in enumerate(
        zip(paths, model.infer(sequences), strict=True)
    ):
        own = [row for row in rows if int(row["sequence"]) == number]
        assert [int(row["frame"]) for row in own] == list(range(len(path)))
        states = np.array([int(row["state"]) for row in own])
        np.testing.assert_array_equal(states, path)
        probs = [float(row["probability"]) for row in own]
        expected = posterior.states[np.arange(len(path)), path]
        np.testing.assert_allclose(probs, expected, rtol=1e-12)
        bouts = {int(row["onset"]): int(row["duration"]) for row in own}
        assert sum(bouts.values()) == len(path)
        for onset, duration in bouts.items():
            assert len(set(states[onset : onset + duration])) == 1
            assert set(states[onset + duration :][:1]) != {states[onset]}
    pooled = np.concatenate(paths)
    *summary, written = said.splitlines()
    assert written == f"written to {run / 'segments.csv'}"
    assert len(summary) == len(np.unique(pooled))
    shares = []
    for line in summary:
        state, share, bouts, median = re.fullmatch(
            r"state (\d+): (.+) % of the frames, bouts: (\d+), "
            r"median duration: (.+) frames",
            line,
        ).groups()
        assert float(share) == pytest.approx(
            100 * np.mean(pooled == int(state)), abs=0.06
        )
        shares.append(float(share))
        own = [row for row in rows if row["state"] == state]
        found = {(row["sequence"], row["onset"]): int(row["duration"]) for row in own}
        assert int(bouts) == len(found)
        assert float(median) == np.median(list(found.values()))
    assert shares == sorted(shares, reverse=True)


def test_segment_takes_some_sequences_at_a_time(slds_run, gappy):
    model = svae.load(slds_run / "run" / "model.npz")
    scaled = (gappy - np.nanmean(gappy, axis=0)) / np.nanstd(gappy, axis=0)
    sequences = [scaled[:9], scaled[9:20], scaled[20:25], scaled[25:], scaled[:7]]
    together = list(segmented(model, sequences))
    assert [len(each.state) for each in together] == [9, 11, 5, 15, 7]
    for some in (1, 12, 30):
        found = segmented(model, sequences, some)
        for one, other in zip(together, found, strict=True):
            for column, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(column, same)


def test_segment_writes_where_it_is_told(slds_run, tmp_path):
    out = tmp_path / "states.csv"
    assert main(["segment", str(slds_run / "run"), "--out", str(out)]) == 0
    assert len(rows_of(out)) == 40


def test_segment_needs_states(lds_run, capsys):
    said = usage_error_of(capsys, ["segment", str(lds_run / "run")])
    assert "argument RUN: lds has no discrete states" in said


def test_data_may_stand_behind_options(lds_run, capsys):
    run, source = str(lds_run / "run"), str(lds_run / "frames.npy")
    assert main(["score", run, "--rng", "1", source]) == 0
    options = parse(["fit", "lds", "--rng", "3", "dots", "--quiet"])
    assert (options.model, options.data, options.rng) == ("lds", "dots", 3)
    said = usage_error_of(capsys, ["score", run, source, "other.npy"])
    assert "unrecognized arguments: other.npy" in said
    said = usage_error_of(capsys, ["info", "dots"])
    assert "unrecognized arguments: dots" in said


TOML = """
num_states = 4
num_steps = 2
hidden = [6, 5]
learning_rate = 1e-3  # of Adam
natural_step = 1
activation = "relu"
"""


def written(tmp_path, text, suffix=".toml"):
    if suffix == ".toml":
        pytest.importorskip("tomllib")
    path = tmp_path / f"settings{suffix}"
    path.write_text(text)
    return str(path)


@pytest.fixture
def without_figures(monkeypatch):
    """Fit as if matplotlib were not there: these tests look at settings."""
    monkeypatch.setattr("svae.cli.main.find_spec", lambda name: None)


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
    monkeypatch.setattr("svae.cli.config.find_spec", lambda name: None)
    said = usage_error_of(capsys, ["fit", "lds", "dots", "--config", str(path)])
    assert "TOML needs Python 3.11 or tomli" in said


def test_null_is_no_warmup(tmp_path):
    path = written(tmp_path, '{"warmup": null}', ".json")
    options = parse(["fit", "hmm", "dots", "--config", path])
    assert choose_settings(options)["warmup"] == "none"


def command_of(*arguments):
    return [sys.executable, "-m", "svae", *map(str, arguments)]


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["--version"], 0, ""),
        (["score", "nowhere"], 1, "svae: error: nowhere: not the folder of a"),
        (["fit", "gmm"], 2, "usage: svae fit"),
    ],
)
def test_exit_status_of_a_process(arguments, status, said, tmp_path):
    done = subprocess.run(
        command_of(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status
    assert done.stderr.startswith(said)


def test_an_interrupt_ends_a_process_with_130(tmp_path):
    out = tmp_path / "run"
    arguments = ["fit", "gmm", "pinwheel", "--num-steps", "100000", "--quiet"]
    command = command_of(*arguments, "--out", out)

    def heed_interrupts():  # which what runs the tests in the background may ignore
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        try:
            while not (out / "run.json").exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.startswith("svae: interrupted")
    assert len(said.splitlines()) == 1


def test_info_checks_the_gradients(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("svae", "numpy", "scipy", "autograd", "python", "threads"):
        assert word in said
    assert said.count("gradient right") == 2


def test_info_fails_with_a_wrong_gradient(monkeypatch, capsys):
    right = selfcheck.gradient_errors()
    assert all(0 < error < 1e-8 for error in right.values())
    wrong = right | {"markov_chain": 1e-3}
    monkeypatch.setattr(selfcheck, "gradient_errors", lambda: wrong)
    assert main(["info"]) == 1
    assert "gradient WRONG" in capsys.readouterr().out


def test_the_gradient_check_sees_a_wrong_adjoint(monkeypatch):
    chain = svae.kernels.gaussian_chain

    def detached(init, pair, node, noise):
        J, h = init
        # the value stays, its derivative in h doubles
        doubled = h + (h - np.array(getattr(h, "_value", h)))
        return chain((J, doubled), pair, node, noise)

    monkeypatch.setattr(svae.kernels, "gaussian_chain", detached)
    assert selfcheck.gradient_errors()["gaussian_chain"] > 1e-3


def test_optional_packages_may_be_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("svae.cli.main.find_spec", lambda name: None)
    out = tmp_path / "run"
    assert main(["fit", "gaussian", "pinwheel", "--out", str(out), *LOUD]) == 0
    captured = capsys.readouterr()
    assert "no figures" in captured.out
    assert captured.err == ""  # no progress bar either
    assert not (out / "figures").exists()


def test_an_interrupted_fit_leaves_what_it_had(tmp_path, monkeypatch, capsys):
    step, taken = svae.training.step.step, []

    def interrupted(*arguments):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(arguments)
        return step(*arguments)

    monkeypatch.setattr(svae.training.step, "step", interrupted)
    out = tmp_path / "run"
    assert main(["fit", "gmm", "pinwheel", "--out", str(out), *SMALL_GMM]) == 130
    said = f"svae: interrupted; go on with: svae fit --resume {out}\n"
    assert capsys.readouterr().err == said
    assert len(svae.load(out / "model.npz").history_["objective"]) == 2
    assert main(["score", str(out)]) == 0


def test_an_infinite_value_is_named(frames, tmp_path, capsys):
    bad = frames.copy()
    bad[7, 2] = np.inf
    np.save(tmp_path / "bad.npy", bad)
    out = tmp_path / "run"
    arguments = ["fit", "lds", str(tmp_path / "bad.npy"), "--out", str(out)]
    complaint = error_of(capsys, arguments)
    assert "step 7" in complaint
    assert "dimension 2" in complaint
    assert not out.exists()


def test_an_empty_file_is_named(tmp_path, capsys):
    for suffix in ("npy", "npz", "csv"):
        path = tmp_path / f"empty.{suffix}"
        path.touch()
        complaint = error_of(capsys, ["fit", "gmm", str(path)])
        assert f"empty.{suffix}" in complaint


def test_data_of_one_dimension_is_refused(tmp_path, capsys):
    np.save(tmp_path / "flat.npy", np.zeros(9))
    complaint = error_of(capsys, ["fit", "lds", str(tmp_path / "flat.npy")])
    assert "(T, P)" in complaint


def test_unknown_data_is_refused_with_what_is_known(capsys):
    complaint = error_of(capsys, ["fit", "lds", "nowhere.npy"])
    assert "nowhere.npy" in complaint
    assert "pinwheel, dots, switching" in complaint


@pytest.mark.filterwarnings("ignore:data. columns 0, 1 and 2 .* are large")
def test_a_fit_that_fails_says_so_in_one_line(frames, tmp_path, capsys):
    np.save(tmp_path / "frames.npy", 1e200 * frames)
    source, out = str(tmp_path / "frames.npy"), str(tmp_path / "run")
    with np.errstate(all="ignore"):
        arguments = ["fit", "lds", source, "--out", out, "--no-standardize", *SMALL_LDS]
        complaint = error_of(capsys, arguments)
    assert "step 0" in complaint


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    for command in (["score"], ["plot"], ["sample", "--num-steps", "2"]):
        arguments = [command[0], str(tmp_path), *command[1:]]
        assert str(tmp_path) in error_of(capsys, arguments)


def test_data_of_another_size_is_refused(lds_run, capsys):
    complaint = error_of(capsys, ["score", str(lds_run / "run"), "dots"])
    assert "20 dimensions" in complaint
    assert "fitted to 3" in complaint


def test_independent_rows_have_no_forecast(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["fit", "gmm", "pinwheel", "--out", out, *SMALL_GMM]) == 0
    complaint = error_of(capsys, ["forecast", out, "--horizon", "3"])
    assert "no forecast" in complaint


def test_an_unknown_model_is_refused_with_what_is_known(capsys):
    complaint = usage_error_of(capsys, ["fit", "hmmm", "dots"])
    for name in ("gaussian", "gmm", "student", "hmm", "lds", "slds"):
        assert name in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit", "lds"],
        ["fit", "lds", "dots", "--warmup", "soon"],
        ["fit", "lds", "dots", "--warmup", "-1"],
        ["fit", "lds", "dots", "--natural-gradient", "half"],
        ["fit", "lds", "dots", "--inference", "exact"],
        ["fit", "student", "pinwheel", "--tails", "heavy"],
        ["fit", "student", "pinwheel", "--dof", "many"],
        ["score", "somewhere", "--theta", "sample"],
        ["forecast", "somewhere", "--horizon", "3", "--theta", "mode"],
        ["fit", "lds", "dots", "--hidden", "4,x"],
        ["fit", "lds", "dots", "--num-steps", "many"],
        ["fit", "gmm", "dots", "--likelihood", "bernoulli", "--standardize"],
        ["forecast", "somewhere", "dots"],
    ],
)
def test_wrong_usage_is_refused(arguments, capsys):
    assert "usage: svae" in usage_error_of(capsys, arguments)


@pytest.mark.parametrize(
    "model, options, reason",
    [
        ("lds", "--num-states 3", "lds has no discrete states"),
        ("lds", "--sticky 3", "lds has no transitions"),
        ("gmm", "--concentration 3", "gmm has no transitions"),
        ("hmm", "--affine", "hmm has no linear dynamics"),
        ("gmm", "--noise-variance 1", "gmm has no linear dynamics"),
        ("gmm", "--window 9", "the rows of gmm are independent"),
        ("gaussian", "--context 9", "the rows of gaussian are independent"),
        ("gmm", "--hide 9", "the rows of gmm are independent"),
        ("lds", "--warm-start", "inference of lds has no iterations"),
        ("gaussian", "--warmup 9", "gaussian has no q(theta)"),
        ("gmm", "--dof 3", "gmm has no degrees of freedom"),
        ("lds", "--learn-dof", "lds has no degrees of freedom"),
        ("gmm", "--tails sampled", "gmm has no degrees of freedom"),
        ("student", "--window 9", "the rows of student are independent"),
        ("student", "--sticky 3", "student has no transitions"),
        ("student", "--tails sampled", "sampled ones need --inference sin"),
        ("gaussian", "--inference sin", "gaussian has no structured inference network"),
        ("slds", "--inference sin", "slds has no structured inference network"),
        ("slds", "--inference svae", "slds has no structured inference network"),
        (
            "gmm",
            "--warm-start --inference sin",
            "structured inference networks have no iterations",
        ),
    ],
)
def test_options_that_a_model_has_no_use_for(model, options, reason, capsys):
    said = usage_error_of(capsys, ["fit", model, "dots", *options.split()])
    assert f"argument {options.split()[0]}: {reason}" in said


COMMANDS = (
    *("fit", "info", "segment", "score", "forecast", "sample", "plot", "profile"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_are_commands(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert "130 if interrupted" in said
    examples = re.findall(rf"^  svae ({command}.*)$", said, flags=re.MULTILINE)
    assert examples
    for example in examples:
        parse(shlex.split(example))


def test_help_names_all_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example: svae fit gmm pinwheel" in said
    assert "1 after an error, 2 for wrong usage, 130 if interrupted" in said
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", said, flags=re.MULTILINE)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"svae {svae.__version__}\n"
