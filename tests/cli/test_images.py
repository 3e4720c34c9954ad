"""Images on the command line: how they are read, scaled and drawn."""

import json

import numpy as np
import pytest

from svae.__main__ import main
from svae.cli import output, runs
from tests.data.test_moseq import write_moseq
from tests.helpers.commands import LDS, LOUD, SMALL_LDS, error_of, usage_error_of


@pytest.fixture(scope="module")
def video():
    """Images of a square that moves, over a floor with a grain of dust."""
    frames = 0.1 * np.random.default_rng(0).standard_normal((70, 8, 8))
    for time, frame in enumerate(frames):
        left = 2 + round(1.5 * np.sin(time / 3))
        frame[3:6, left : left + 3] = 30 + 5 * np.sin(time / 5)
    frames[17, 0, 0] = 8.0
    return frames


@pytest.fixture(scope="module")
def run(video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    np.save(folder / "video.npy", video)
    arguments = [str(folder / "video.npy"), "--out", str(folder / "run"), *SMALL_LDS]
    assert main(["fit", "lds", *arguments]) == 0
    return folder / "run"


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out figures, which take longer than all else."""
    monkeypatch.setattr(output, "can_draw", lambda say: False)


def test_images_have_one_scale_and_keep_their_shape(run, video):
    frames = video.reshape(70, 64)
    loaded = runs.Run.load(run)
    assert loaded.frame_shape == (8, 8)
    np.testing.assert_allclose(loaded.scaling.mean, frames.mean(axis=0))
    expected = np.sqrt(frames.var(axis=0).mean())
    np.testing.assert_allclose(loaded.scaling.scale, expected)
    scaled = loaded.scaling.apply([frames])[0]
    assert np.abs(scaled[17, 0]) < 2  # by its own deviation, more than 6
    np.testing.assert_allclose(loaded.scaling.undo(scaled), frames, atol=1e-12)
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["frame_shape"], settings["scaling"]) == ([8, 8], "shared")
    names = {path.stem for path in (run / "figures").iterdir()}
    assert {"forecast", "manifold"} <= names


def test_commands_of_a_run_read_images_as_its_fit_did(run, video, tmp_path, capsys):
    scores = []
    for name, frames in (("a", video), ("b", video.reshape(70, 64))):
        np.save(tmp_path / f"{name}.npy", frames)
        assert main(["score", str(run), str(tmp_path / f"{name}.npy")]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1]
    np.save(tmp_path / "c.npy", video[:, :7])
    complaint = error_of(capsys, ["score", str(run), str(tmp_path / "c.npy")])
    assert "no images of 8 x 8 pixels" in complaint
    assert main(["forecast", str(run), "--horizon", "3"]) == 0
    with np.load(run / "forecast.npz") as forecast:
        assert forecast["mean"].shape == (1, 3, 64)


@pytest.mark.filterwarnings("ignore:data")  # of what is not scaled
def test_a_run_of_images_is_made_again_by_its_record(run, tmp_path, undrawn):
    again = str(tmp_path / "again")
    record = str(run / "run.json")
    assert main(["fit", "--config", record, "--out", again, "--quiet"]) == 0
    first, second = (runs.Run.load(each) for each in (run, again))
    assert first.record["settings"] == second.record["settings"]
    history, same = (each.model.history_["objective"] for each in (first, second))
    np.testing.assert_array_equal(history, same)
    more = ["fit", "--resume", again, "--num-steps", "4", "--quiet"]
    assert main(more) == 0
    other = ["--no-standardize", "--out", str(tmp_path / "plain"), "--quiet"]
    assert main(["fit", "--config", record, *other]) == 0
    assert runs.Run.load(tmp_path / "plain").record["settings"]["scaling"] == "none"


@pytest.mark.filterwarnings("ignore:data")  # of sequences of 8 frames
@pytest.mark.parametrize(
    ("options", "said", "kind", "shape"),
    [
        ([], "images of 8 x 8 pixels", "shared", [8, 8]),
        (["--scaling", "column"], "images of 8 x 8 pixels", "column", [8, 8]),
        (
            ["--frame-shape", "none"],
            "70 sequences of 8 frames, 8 columns",
            "column",
            "none",
        ),
    ],
)
def test_how_images_are_read_is_said(
    options, said, kind, shape, run, tmp_path, capsys, undrawn
):
    source, out = str(run.parent / "video.npy"), str(tmp_path / "run")
    assert main(["fit", "lds", source, "--out", out, *LOUD, *LDS, *options]) == 0
    printed = capsys.readouterr().out
    assert said in printed
    assert f"--scaling {kind}" in printed
    settings = runs.Run.load(out).record["settings"]
    assert (settings["scaling"], settings["frame_shape"]) == (kind, shape)


def test_pixels_in_rows_are_images_if_it_is_said(video, tmp_path, capsys, undrawn):
    path, out = tmp_path / "rows.npy", tmp_path / "run"
    np.save(path, video.reshape(70, 64))
    arguments = ["fit", "gaussian", str(path), "--out", str(out), *LOUD]
    assert main(arguments) == 0
    assert "70 frames, 64 columns (if these are the pixels of an image: " in (
        capsys.readouterr().out
    )
    again = [*arguments, "--force", "--frame-shape"]
    assert main([*again, "8x8"]) == 0
    assert runs.Run.load(out).record["settings"]["scaling"] == "shared"
    capsys.readouterr()
    assert "has no images of 8 x 9 pixels" in error_of(capsys, [*again, "8x9"])
    for wrong in ("8", "8x8x8", "0x64", "axb"):
        assert "--frame-shape" in usage_error_of(capsys, [*again, wrong])


def test_constant_pixels_do_not_count_for_the_scale(video):
    frames = np.concatenate([video.reshape(70, 64), np.full((70, 9), 0.1)], axis=1)
    frames[3:5] = np.nan
    _, scaling = runs.survey([frames], "shared")
    expected = np.sqrt(np.nanvar(frames[:, :64], axis=0).mean())
    np.testing.assert_allclose(scaling.scale, expected)
    _, scaling = runs.survey([frames[:, 64:]], "shared")
    np.testing.assert_array_equal(scaling.scale, np.ones(9))


@pytest.mark.filterwarnings("ignore:data")
def test_an_extraction_from_fit_to_figures(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 40, (30, 8, 10)).astype(np.int16)
    times = 33.0 * np.arange(30)
    times[12:] += 66.0  # two frames were dropped
    mask = np.zeros(frames.shape, np.float32)
    parts = {"frames": frames, "frames_mask": mask, "timestamps": times}
    write_moseq(tmp_path / "results_00.h5", scalars__angle=None, **parts)
    out = str(tmp_path / "run")
    small = ["--num-states", "3", "--warmup", "2", *SMALL_LDS]
    source = str(tmp_path / "results_00.h5")
    with monkeypatch.context() as patch:
        patch.setattr(output, "can_draw", lambda say: False)
        assert main(["fit", "slds", source, "--out", out, *small]) == 0
    loaded = runs.Run.load(out)
    assert loaded.frame_shape == (8, 10)
    assert loaded.record["quantity"] == "height (mm)"
    for command in (
        ["segment", out],
        ["score", out],
        ["forecast", out, "--horizon", "4"],
        ["sample", out, "--num-steps", "5"],
        ["plot", out],
    ):
        assert main(command) == 0
    assert (tmp_path / "run" / "figures" / "onsets.png").is_file()


def test_contradictions_about_scaling_are_refused(run, capsys):
    source = str(run.parent / "video.npy")
    wrong = ["fit", "lds", source, "--no-standardize", "--scaling", "column"]
    assert "--standardize: it says" in usage_error_of(capsys, wrong)
    wrong = ["fit", "lds", source, "--likelihood", "bernoulli", "--scaling", "shared"]
    assert "must stay in [0, 1]" in usage_error_of(capsys, wrong)


def test_arrays_of_several_kinds_are_listed(video, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", F=video.reshape(70, 64), z=np.zeros(70))
    complaint = error_of(capsys, ["fit", "lds", str(tmp_path / "a.npz")])
    assert "(F (70, 64), z (70,)); name the one that is meant" in complaint
    assert "a.npz:F" in complaint


def test_a_run_of_an_earlier_version_has_no_images(run, video, tmp_path):
    path = run / "run.json"
    text = path.read_text()
    record = json.loads(text)
    del record["settings"]["frame_shape"], record["settings"]["scaling"]
    np.save(tmp_path / "rows.npy", video.reshape(70, 64))
    record["data"] = str(tmp_path / "rows.npy")
    try:
        path.write_text(json.dumps(record))
        loaded = runs.Run.load(run)
        assert loaded.frame_shape is None
        assert main(["score", str(run), str(tmp_path / "rows.npy")]) == 0
    finally:
        path.write_text(text)
