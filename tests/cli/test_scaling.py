"""Standardised data: what is said of it, and results in the units of the data."""

import json
import shutil

import numpy as np
import pytest

import svae
from svae import store
from svae.__main__ import main
from svae.cli import runs
from tests.helpers.commands import LOUD, SMALL, SMALL_LDS, error_of


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
    network = svae.Residual((4,), weight_scale=None)
    direct = svae.SVAE(svae.LDS(2), network, network)
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
    random = ["--start", "random"]  # the other start has a unit of its own
    assert main([*loud, *random, "--no-standardize", "--force"]) == 0
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
    arguments = ["fit", "gaussian", str(path), "--out", str(out), *SMALL]
    assert main(arguments) == 0
    assert runs.Run.load(out).scaling.scale[1] == 1.0
    assert capsys.readouterr().err == ""  # it does no harm to a variance of all columns
    assert main([*arguments, "--variance", "network", "--force"]) == 0
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
