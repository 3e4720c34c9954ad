"""Figures of frames that are images: one scale, the data's units, nothing missing."""

import numpy as np
import pytest

import svae
from svae import plot
from svae.plot import drawing
from tests.helpers.figures import saved
from tests.plot.test_gallery import tiles_of

pytest.importorskip("matplotlib")


def undo(frames):
    return 10.0 + 2.0 * frames


@pytest.fixture
def path(monkeypatch, frames):
    """A path of two states in use, one that is not, and one with a single bout."""
    path = np.repeat([0, 1, 0, 1, 0, 1], [9, 6, 11, 6, 10, 18])
    monkeypatch.setattr(svae.SVAE, "predict", lambda self, data: [path])
    assert len(path) == len(frames)
    return path


def test_onsets_are_strips_of_real_frames(hmm, frames, path, tmp_path):
    figure = plot.onsets(hmm, frames, (2, 3), num_examples=2, num_frames=4, undo=undo)
    ax = figure.axes[0]
    tiles = tiles_of(ax, 2, 8, (2, 3)).reshape(2, 8, 6)
    times = [int(tick.get_text()) for tick in ax.get_xticklabels()]
    assert times == [-4, 0, 4, 8] * 2  # half of the median bout, of 6 to 10 frames
    # state 1 begins at 9, 26 and 42, for 6, 6 and 18 frames; 0 at 0, 15 and 32
    for row, onsets in ((0, (32, 15)), (1, (9, 26))):
        for example, onset in enumerate(onsets):
            for place, time in enumerate(times[:4]):
                shown = tiles[row, 4 * example + place]
                np.testing.assert_array_equal(shown, undo(frames[onset + time]))
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["0  (50 %, 3 bouts of 10)", "1  (50 %, 3 bouts of 6)"]
    assert saved(figure, tmp_path / "onsets.png") > 10_000


def test_onsets_avoid_missing_frames(hmm, frames, path):
    gappy = frames.copy()
    gappy[10:14] = np.nan  # of the first bout of state 1
    ax = plot.onsets(hmm, gappy, (2, 3), num_examples=1, num_frames=4).axes[0]
    tiles = tiles_of(ax, 2, 4, (2, 3)).reshape(2, 4, 6)
    assert np.isfinite(tiles).all()
    np.testing.assert_array_equal(tiles[1, 1], frames[26])


def test_onsets_refuse_what_has_none(gmm, hmm, points, frames):
    with pytest.raises(TypeError, match="GMM has no bouts"):
        plot.onsets(gmm, points, (1, 2))
    with pytest.raises(ValueError, match="frames have 6 values"):
        plot.onsets(hmm, frames, (2, 2))
    with pytest.raises(ValueError, match="num_examples must be 1 or more"):
        plot.onsets(hmm, frames, (2, 3), num_examples=0)


def test_examples_of_states_are_not_missing(hmm, clusters, frames, images, path):
    gappy = frames.copy()
    gappy[42:58] = np.nan  # most of the longest bout of state 1
    gappy[33, 2] = np.nan
    (ax,) = plot.state_frames(hmm, gappy, (2, 3), num_frames=4).axes
    tiles = tiles_of(ax, 2, 5, (2, 3)).reshape(2, 5, 6)
    assert np.isfinite(tiles).all()
    shown = {tuple(tile) for tile in tiles[1, 1:]}
    assert shown <= {tuple(frame) for frame in frames[9:15]}


def test_examples_of_components_are_complete(clusters, images):
    gappy = images.copy()
    gappy[::3, 1] = np.nan
    (ax,) = plot.state_frames(clusters, gappy, (3, 2)).axes
    rows = len(ax.get_yticklabels())
    columns = ax.images[0].get_array().shape[1] // 2
    tiles = tiles_of(ax, rows, columns, (3, 2)).reshape(rows, columns, 6)
    for tile in tiles[:, 1:].reshape(-1, 6):
        assert np.isnan(tile).all() or np.isfinite(tile).all()


def test_forecasts_of_images_are_on_one_scale_in_the_units_of_the_data(lds, frames):
    options = {"prefix": 30, "horizon": 30, "shape": (2, 3), "undo": undo}
    figure = plot.forecast(lds, frames, **options, label="height (mm)")
    top, middle, error, latent, bar = figure.axes
    number = drawing.tiles_in_strip((2, 3), 60)
    seen, means = (
        tiles_of(ax, 1, number, (2, 3)).reshape(number, 6) for ax in (top, middle)
    )
    assert top.images[0].get_clim() == middle.images[0].get_clim()
    assert bar.get_ylabel() == error.get_ylabel() == "height (mm)"
    times = drawing.strip_times(frames, 0, number)
    np.testing.assert_allclose(seen, undo(frames[times]))
    expected = undo(lds.forecast(frames[:30], 30).mean)
    after = times >= 30
    np.testing.assert_allclose(means[after], expected[times[after] - 30])
    lines = {line.get_label(): line.get_ydata() for line in error.lines}
    squares = (undo(frames[30:]) - expected) ** 2
    np.testing.assert_allclose(lines["model"][30:], np.sqrt(squares.mean(axis=1)))
    squares = (undo(frames[30:]) - undo(frames[29])) ** 2
    held = lines["last frame held"]
    np.testing.assert_allclose(held[30:], np.sqrt(squares.mean(axis=1)))
    assert np.isnan(held[:30]).all()
    assert latent.get_xlabel() == "frame"


def test_strips_show_frames_that_are_there(frames):
    gappy = frames.copy()
    gappy[5:15] = np.nan
    gappy[17, 0] = np.nan
    times = drawing.strip_times(gappy, 100, 6)
    assert times.tolist() == [104, 115, 124, 134, 144, 154]
    nothing = np.full((4, 6), np.nan)
    assert drawing.strip_times(nothing, 0, 2).tolist() == [0, 2]


def test_ethograms_of_images_show_frames_and_their_components(hmm, gappy):
    figure = plot.ethogram(hmm, gappy, start=2, stop=50, shape=(2, 3), undo=undo)
    strip, components, band, *_ = figure.axes
    assert strip.get_xlim() == band.get_xlim() == (1.5, 49.5)
    tiles = strip.images[0].get_array()
    shown = set(np.ma.compressed(tiles).tolist())
    assert shown <= set(undo(gappy[2:50][~np.isnan(gappy[2:50])]).tolist())
    scores = components.images[0].get_array()
    assert scores.mask[:, 3:13].all()
    assert not scores.mask[:, 13:].any()
    complete = undo(gappy)  # scores do not depend on the units
    again = plot.charts._principal_scores(complete)
    np.testing.assert_allclose(
        again[2:50][13:], scores[:, 13:].T, atol=1e-8 * np.abs(scores).max()
    )


def test_dynamics_that_grow_do_not_hide_what_was_seen(lds, frames, monkeypatch):
    future = lds.forecast(frames[:30], 20)
    far = future._replace(latent_mean=1e30 * (1 + np.abs(future.latent_mean)))
    monkeypatch.setattr(svae.SVAE, "forecast", lambda self, *rest, **options: far)
    figure = plot.forecast(lds, frames, prefix=30, horizon=20)
    assert figure.axes[2].get_ylim()[1] < 1e3


def test_dust_does_not_decide_the_scale():
    images = np.random.default_rng(0).random((1, 20, 10, 10))
    images[0, 3, 2, 2] = 1e3
    ax = drawing.new_figure(3, 3).subplots()
    shown = drawing.mosaic(ax, images, (0.0, 20.0, 0.0, 1.0))
    assert shown.get_clim()[1] < 2
    assert drawing.image_limits(np.full((2, 2), np.nan)) == (0.0, 1.0)
