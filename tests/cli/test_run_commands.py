"""Commands on a run: samples, figures, segments."""

import csv
import re

import numpy as np
import pytest

import svae
from svae.__main__ import main
from svae.cli.parser import parse
from svae.cli.queries import segmented
from tests.helpers.commands import (
    error_of,
    usage_error_of,
)


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
