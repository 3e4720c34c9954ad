"""Commands that predict one step ahead, with baselines beside them."""

import numpy as np
import pytest

import svae
from svae import metrics
from svae.__main__ import main
from tests.helpers.commands import SMALL_GMM


def errors_of(line):
    """Return the numbers of a line of errors, the model's first."""
    line = line.removeprefix("held out, ")
    assert line.startswith("one step ahead, mean squared error: ")
    line = line.removeprefix("one step ahead, mean squared error: ").rstrip(")")
    return [float(part.split()[-1]) for part in line.replace(" (", ", ").split(", ")]


def test_a_score_has_errors_and_baselines_beside_it(lds_run, frames, capsys):
    folder = lds_run / "run"
    np.save(lds_run / "part.npy", frames[5:25])
    assert main(["score", str(folder), str(lds_run / "part.npy")]) == 0
    _, line = capsys.readouterr().out.splitlines()
    model = svae.load(folder / "model.npz")
    mean, scale = frames.mean(axis=0), frames.std(axis=0)
    found = model.predict_next((frames[5:25] - mean) / scale, 20).mean
    dim = model.latent.latent_dim
    assert f"VAR(1) of {dim} principal components" in line
    want = [
        metrics.mean_squared_error(frames[5:25], predicted)
        for predicted in (
            mean + scale * found,
            metrics.mean_frame(frames[5:25], frames),
            metrics.previous_frame(frames[5:25], frames),
            metrics.autoregression(frames[5:25], frames, dim),
        )
    ]
    np.testing.assert_allclose(errors_of(line), want, rtol=1e-4)


def test_a_score_ahead_is_in_the_units_of_the_data(slds_run, gappy, capsys):
    folder = slds_run / "run"
    assert main(["score", str(folder), "--ahead", "1"]) == 0
    said, line = capsys.readouterr().out.splitlines()
    assert said.endswith("nats per frame given those before it")
    mean, scale = np.nanmean(gappy, axis=0), np.nanstd(gappy, axis=0)
    model, observed = svae.load(folder / "model.npz"), ~np.isnan(gappy)
    num_frames = observed.any(axis=1).sum()
    want = model.score((gappy - mean) / scale, ahead=1)
    want -= np.sum(np.log(scale) * observed.sum(axis=0)) / num_frames
    assert float(said.split()[0]) == pytest.approx(want, abs=1e-6)
    assert len(errors_of(line)) == 4


@pytest.mark.parametrize("several", [False, True])
def test_predictions_are_written(several, slds_run, gappy, capsys):
    folder = slds_run / "run"
    data = []
    if several:
        np.savez(slds_run / "two.npz", a=gappy[:30], b=gappy[30:])
        data = [str(slds_run / "two.npz")]
    assert main(["predict-next", str(folder), *data, "--num-samples", "7"]) == 0
    said, line = capsys.readouterr().out.splitlines()
    path = folder / "predictions.npz"
    assert said.startswith(f"written to {path}: mean (40, 3), variance (40, 3)")
    mean, scale = np.nanmean(gappy, axis=0), np.nanstd(gappy, axis=0)
    scaled = (gappy - mean) / scale
    sequences = [scaled[:30], scaled[30:]] if several else [scaled]
    found = svae.load(folder / "model.npz").predict_next(sequences, 7)
    with np.load(path) as written:
        assert written["lengths"].tolist() == [len(each) for each in sequences]
        frames = mean + scale * np.concatenate([each.mean for each in found])
        np.testing.assert_allclose(written["mean"], frames, rtol=1e-9)
        var = scale**2 * np.concatenate([each.var for each in found])
        np.testing.assert_allclose(written["variance"], var, rtol=1e-9)
        log_density = np.concatenate([each.log_density for each in found])
        log_density -= (~np.isnan(gappy)) @ np.log(scale)
        np.testing.assert_allclose(written["log_density"], log_density, rtol=1e-9)
        assert written["states"].shape == (40, found[0].states.shape[1])
    want = metrics.mean_squared_error(gappy, frames)
    assert errors_of(line)[0] == pytest.approx(want, rel=1e-4)


def test_rows_have_the_mean_frame_beside_them(tmp_path, capsys):
    out, file = str(tmp_path / "run"), tmp_path / "where.npz"
    assert main(["fit", "gmm", "pinwheel", "--out", out, *SMALL_GMM]) == 0
    assert main(["score", out, "--ahead", "1"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "mean frame" in line
    assert len(errors_of(line)) == 2
    assert main(["predict-next", out, "--out", str(file)]) == 0
    with np.load(file) as written:
        assert np.ptp(written["mean"], axis=0).max() == 0


def test_data_that_are_gone_leave_baselines_of_their_own(
    frames, lds_run, tmp_path, capsys
):
    out, source = tmp_path / "run", tmp_path / "frames.npy"
    np.save(source, frames)
    words = ["--num-steps", "2", "--latent-dim", "2", "--quiet"]
    assert main(["fit", "lds", str(source), "--out", str(out), *words]) == 0
    source.unlink()
    assert main(["score", str(out), str(lds_run / "frames.npy")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "baselines learned from these data themselves: " in line
    assert "frames.npy" in line


def test_a_fit_ends_with_errors_of_held_out_data(frames, tmp_path, capsys):
    for name, part in {"a": frames[:30], "b": frames[30:]}.items():
        np.save(tmp_path / f"{name}.npy", part)
    out, words = str(tmp_path / "run"), ["--num-steps", "2", "--latent-dim", "2"]
    source = str(tmp_path / "a.npy")
    for more, start in (
        ([], "one step"),
        (["--force", "--held-out", str(tmp_path / "b.npy")], "held out, one step"),
    ):
        assert main(["fit", "lds", source, "--out", out, *words, *more]) == 0
        said = capsys.readouterr().out.splitlines()
        (line,) = (each for each in said if "mean squared error" in each)
        assert line.startswith(start)
    assert main(["score", out, str(tmp_path / "b.npy")]) == 0
    scored = capsys.readouterr().out.splitlines()[-1]
    np.testing.assert_allclose(errors_of(line), errors_of(scored), rtol=1e-4)
