"""`svae fit`: what a run holds, and the words that reach models and fits."""

import csv
import inspect
import json
import re

import numpy as np
import pytest

import svae
from svae import store
from svae.__main__ import main
from svae.autodiff.trees import leaves
from svae.cli import runs
from svae.cli.fit import of_trial
from tests.helpers.commands import (
    LOUD,
    LOUD_LDS,
    SMALL,
    SMALL_GMM,
    SMALL_LDS,
    SMALL_SWITCHING,
    error_of,
    usage_error_of,
)

svae_fit = svae.SVAE.fit


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
            score, *errors = capsys.readouterr().out.splitlines()
            scores.append(score)
            (line,) = errors
            assert ("of the first 30 frames" in line) == (limit < 120)
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


def test_a_fit_says_where_it_starts(frames, tmp_path, capsys):
    np.save(tmp_path / "frames.npy", frames)
    source, out = str(tmp_path / "frames.npy"), tmp_path / "run"
    assert main(["fit", "lds", source, "--out", str(out), *LOUD_LDS]) == 0
    said, start = capsys.readouterr().out, svae.load(out / "model.npz").start_
    bound, linear = start["objective"] / 40, start["linear"] / 40
    assert (
        f"step 0: bound {bound:.4f} per frame; linear model (principal components) "
        f"{linear:.4f}\n" in said
    )
    result = json.loads((out / "run.json").read_text())["result"]
    assert result["start"]["objective"] == pytest.approx(bound)
    random = ["--network", "mlp", "--force"]
    assert main(["fit", "lds", source, "--out", str(out), *LOUD_LDS, *random]) == 0
    assert "step 0" not in capsys.readouterr().out
    assert "start" not in json.loads((out / "run.json").read_text())["result"]


def test_a_fit_goes_on_from_a_run(lds_run, frames, tmp_path, capsys):
    """With its networks, its q(theta) if that fits, and its scaling."""
    longer, out = tmp_path / "longer.npy", tmp_path / "more"
    np.save(longer, np.concatenate([frames, frames + 7.0]))
    origin = svae.load(lds_run / "run" / "model.npz")
    words = ["--start-from", str(lds_run / "run"), "--num-steps", "2", "--quiet"]
    arguments = ["fit", "lds", str(longer), "--out", str(out), *words]
    assert main([*arguments, "--rng", "4"]) == 0
    ours, theirs = (runs.Run.load(folder) for folder in (out, lds_run / "run"))
    np.testing.assert_array_equal(ours.scaling.mean, theirs.scaling.mean)
    assert ours.model.encoder == origin.encoder
    scaled = theirs.scaling.apply([np.load(longer)])
    direct = svae.SVAE(**origin.get_params(deep=False))
    direct.fit(scaled, 2, window=200, start=origin, rng=4)
    expected = direct.history_["objective"]
    np.testing.assert_array_equal(ours.model.history_["objective"], expected)

    assert main(["fit", "--resume", str(out), "--num-steps", "3", "--quiet"]) == 0
    assert len(svae.load(out / "model.npz").history_["objective"]) == 3

    other = ["fit", "slds", str(longer), "--out", str(tmp_path / "slds"), *words]
    assert main([*other, "--num-states", "3", "--freeze", "encoder,decoder"]) == 0
    model = svae.load(tmp_path / "slds" / "model.npz")
    assert model.latent == svae.SLDS(3, 2)
    for role in ("encoder", "decoder"):
        pairs = (getattr(each.parameters_, role) for each in (model, origin))
        for one, two in zip(*map(leaves, pairs), strict=True):
            np.testing.assert_array_equal(one, two)
    for word in (["--start", "random"], ["--scaling", "none"]):
        said = usage_error_of(capsys, [*arguments, *word])
        assert "--start-from has that of the run" in said
    into = ["--out", str(lds_run / "run"), "--force"]
    assert "another folder" in usage_error_of(capsys, [*arguments, *into])
    said = error_of(capsys, [*arguments, "--hidden", "5", "--force"])
    assert "start: the encoder of the fitted model" in said


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
        ("--freeze encoder,latent", {"freeze": ("encoder", "latent")}),
        ("--schedule cosine --weight-decay 0.1", {"schedule": "cosine"}),
        (
            "--natural-schedule exponential:0.95:1000 --weight-decay 0.1",
            {"natural_schedule": "exponential:0.95:1000", "weight_decay": 0.1},
        ),
        (
            "--learning-rate encoder=1e-3,decoder=2e-4",
            {"learning_rate": {"encoder": 1e-3, "decoder": 2e-4}},
        ),
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


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr("svae.training.plan.MOST_STEPS", 8)


def auto(frames, tmp_path, *options):
    np.save(tmp_path / "a.npy", frames)
    words = ["--latent-dim", "2", "--hidden", "4", "--score-every", "2", *options]
    source, out = str(tmp_path / "a.npy"), str(tmp_path / "run")
    return main(["fit", "lds", source, "--out", out, *words])


def test_without_a_number_of_steps_a_trial_tells_it(
    tmp_path, frames, few_steps, capsys
):
    assert auto(frames, tmp_path) == 0
    model = svae.load(tmp_path / "run" / "model.npz")
    trial = model.trial_
    best = trial["step"][np.argmax(trial["score"])]
    assert len(model.history_["objective"]) == best
    said = f"trial: of {trial['step'][-1]} steps on four fifths of the data, {best} had"
    assert said in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / runs.RECORD).read_text())
    assert record["settings"]["num_steps"] == "auto"
    assert record["result"]["trial"]["score"] == trial["score"].tolist()
    assert main(["fit", "--resume", str(tmp_path / "run")]) == 0  # it is there already
    number = str(len(model.history_["objective"]) + 2)
    assert main(["fit", "--resume", str(tmp_path / "run"), "--num-steps", number]) == 0
    more = svae.load(tmp_path / "run" / "model.npz").history_["objective"]
    assert len(more) == int(number)
    np.testing.assert_array_equal(more[:best], model.history_["objective"])


def test_a_trial_that_ends_while_its_score_rises_says_so():
    assert "still rising" in of_trial([0, 100, 200], [-3.0, -2.0, -1.0])
    assert "still rising" not in of_trial([0, 100, 200], [-3.0, -1.0, -2.0])
    assert "no score" in of_trial([0], [np.nan])


@pytest.mark.filterwarnings("always:num_steps")
def test_a_fit_of_no_step_is_told_and_drawn(tmp_path, frames, few_steps, capsys):
    assert auto(frames, tmp_path, "--learning-rate", "0.1") == 0
    out, err = capsys.readouterr()
    assert "no step improved the score" in err
    assert "(nats per frame, before the first step)" in out
    assert "time per step" not in out
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert "trial.png" in names and "bound.png" not in names
    assert auto(frames, tmp_path, "--learning-rate", "0.1", "--force") == 0


@pytest.mark.parametrize(
    "options",
    [["--network", "mlp"], ["--start", "random"], ["--decoder-mean", "sigmoid"]],
)
def test_scores_of_a_trial_that_is_not_held_are_refused(
    tmp_path, frames, few_steps, capsys, options
):
    with pytest.raises(SystemExit):
        auto(frames, tmp_path, *options)
    said = "argument --score-every: only with --held-out, or for a trial"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
