"""Figures of what a model has learned: manifolds, frames and courses of states."""

import numpy as np
import pytest

import svae
from svae import plot
from svae.plot import drawing
from svae.plot import states as visible
from svae.plot.directions import directions_of
from tests.helpers.figures import saved

pytest.importorskip("matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb


def tiles_of(ax, rows, columns, shape):
    """Return images (rows, columns, height, width) of a mosaic."""
    mosaic = ax.images[0].get_array().filled(np.nan)
    tiles = mosaic.reshape(rows, shape[0], columns, shape[1])
    return tiles.transpose(0, 2, 1, 3)


def test_manifold_shows_what_the_decoder_makes_of_a_plane(clusters, images, tmp_path):
    options = {"axes": (2, 0), "grid": 4, "center": [9.0, 0.5, 9.0]}
    figure = plot.manifold(clusters, (3, 2), images, **options)
    left, right = figure.axes
    tiles = tiles_of(left, 4, 4, (3, 2))
    means = clusters.transform(images)
    x0 = np.linspace(*np.quantile(means[:, 0], [0.025, 0.975]), 4)
    x2 = np.linspace(*np.quantile(means[:, 2], [0.025, 0.975]), 4)
    for row in range(4):
        for column in range(4):  # the first row of tiles is at the top
            expected = clusters.decode([x0[3 - row], 0.5, x2[column]])[0]
            np.testing.assert_allclose(tiles[row, column], expected.reshape(3, 2))
    assert (left.get_xlabel(), left.get_ylabel()) == ("$x_{3}$", "$x_{1}$")
    step = x2[1] - x2[0]
    expected = (x2[0] - step / 2, x2[-1] + step / 2)
    np.testing.assert_allclose(left.get_xlim(), expected)
    assert left.get_ylim()[0] < left.get_ylim()[1]
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    assert left.get_box_aspect() == 3 / 2
    shown = np.concatenate([cloud.get_offsets() for cloud in right.collections])
    assert sorted(map(tuple, shown)) == sorted(map(tuple, means[:, [2, 0]]))
    assert saved(figure, tmp_path / "manifold.png") > 10_000


def test_manifold_goes_along_principal_directions(clusters, images):
    """From -2 to 2 standard deviations of the aggregate posterior, all on one scale."""
    plane, scatter, rows = plot.manifold(clusters, (3, 2), images, grid=5).axes
    posterior = clusters.infer(images, num_samples=1)
    noise = np.random.default_rng(0).standard_normal(posterior.mean.shape)
    roots = np.linalg.cholesky(posterior.cov)
    samples = posterior.mean + np.einsum("tij,tj->ti", roots, noise)
    found = directions_of(clusters, samples)
    tiles = tiles_of(plane, 5, 5, (3, 2))
    along = tiles_of(rows, 3, 5, (3, 2))
    assert plane.images[0].get_clim() == rows.images[0].get_clim()
    np.testing.assert_allclose(tiles[2], along[0])  # the middle row is direction 1
    np.testing.assert_allclose(tiles[::-1, 2], along[1])
    expected = clusters.decode(found.center + 2 * found.steps)[0]
    np.testing.assert_allclose(along[:, 4], expected.reshape(3, 3, 2))
    # one step is a standard deviation, and directions are uncorrelated
    np.testing.assert_allclose(found.steps @ found.inverse, np.eye(3), atol=1e-10)
    spread = np.cov((samples @ found.inverse).T, ddof=0)
    np.testing.assert_allclose(spread, np.eye(3), atol=1e-8)
    shown = np.concatenate([cloud.get_offsets() for cloud in scatter.collections])
    places = found.coordinates(posterior.mean)[:, :2]
    assert sorted(map(tuple, shown)) == sorted(map(tuple, places))


def test_principal_directions_do_not_depend_on_the_coordinates_of_x():
    """For a linear decoder they are the principal components of what it makes."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(500, 3)) * [3.0, 1.0, 0.1]
    slopes, mixing = rng.normal(size=(3, 7)), rng.normal(size=(3, 3))

    class Decoder:
        def __init__(self, slopes):
            self.slopes = slopes

        def decode(self, latents):
            return (1.0 + latents @ self.slopes,)

    changes = directions_of(Decoder(slopes), latents).steps @ slopes
    mixed = np.linalg.solve(mixing, slopes)
    again = directions_of(Decoder(mixed), 5.0 + latents @ mixing).steps @ mixed
    np.testing.assert_allclose(changes, again, atol=1e-8)
    frames = latents @ slopes
    _, scales, axes = np.linalg.svd(frames - frames.mean(axis=0), full_matrices=False)
    expected = scales[:3, None] / np.sqrt(500) * axes[:3]
    np.testing.assert_allclose(np.abs(changes), np.abs(expected), atol=1e-8)
    assert (changes.sum(axis=1) > 0).all()


def test_manifold_without_data_has_the_range_of_the_model(images):
    model = svae.SVAE(svae.Gaussian(2), svae.MLP((5,)), svae.MLP((5,)))
    model.fit(images, num_steps=2, rng=0)
    (ax,) = plot.manifold(model, (2, 3), grid=11).axes
    left, right = ax.get_xlim()
    # 95 % of a standard normal, of 2000 draws, and half a tile to both sides
    np.testing.assert_allclose([left, right], [-1.96 * 1.1, 1.96 * 1.1], atol=0.3)


def test_manifold_is_in_the_units_that_undo_makes(clusters, images, slds, switching):
    plain, undone = (
        plot.manifold(clusters, (3, 2), images, grid=3, undo=undo).axes[0]
        for undo in (None, lambda frames: 10 + 2 * frames)
    )
    expected = 10 + 2 * plain.images[0].get_array()
    np.testing.assert_allclose(undone.images[0].get_array(), expected)
    # with dynamics, draws are short paths
    assert plot.manifold(slds, (1, 2), grid=2).axes[0].images


@pytest.mark.parametrize(
    "words, message",
    [
        ({"shape": (2, 2)}, r"shape is \(2, 2\), frames have 6 values"),
        ({"axes": (0, 3)}, r"axes must be two of 0\.\.2"),
        ({"axes": (1, 1)}, r"axes must be two of 0\.\.2"),
        ({"grid": 1}, "grid must be 2 or more"),
        ({"center": [0.0]}, r"center has shape \(1,\), expected \(3,\)"),
    ],
)
def test_manifold_refuses_what_is_no_plane(clusters, words, message):
    with pytest.raises(ValueError, match=message):
        plot.manifold(clusters, **{"shape": (3, 2), **words})


def test_a_manifold_needs_two_dimensions(points):
    model = svae.SVAE(svae.GMM(2, 1), svae.MLP((5,)), svae.MLP((5,)))
    model.fit(points, num_steps=1, rng=0)
    with pytest.raises(ValueError, match="two dimensions"):
        plot.manifold(model, (1, 2))


def test_frames_of_components_are_their_mean_and_members(clusters, images, tmp_path):
    gaps = images.copy()
    gaps[3], gaps[5, 2] = np.nan, np.nan
    figure = plot.state_frames(clusters, gaps, (3, 2), num_frames=4)
    (ax,) = figure.axes
    path = clusters.predict(gaps)
    names, counts = np.unique(path, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert [int(label.split()[0]) for label in labels] == order.tolist()
    share = 100 * counts.max() / len(path)
    assert labels[0].endswith(f"({share:.0f} %)")
    ranks = visible.ranks_of(clusters)
    color = ax.get_yticklabels()[0].get_color()
    assert color == drawing.color_of(ranks[order[0]])
    tiles = tiles_of(ax, len(order), 5, (3, 2))
    for row, state in zip(tiles, order, strict=True):
        frames = gaps[path == state]
        mean = np.nanmean(frames, axis=0)
        np.testing.assert_allclose(row[0].ravel(), mean)
        there = frames[~np.isnan(frames).all(axis=1)]
        distances = np.nanmean((there - mean) ** 2, axis=1)
        nearest, farthest = there[distances.argmin()], there[distances.argmax()]
        np.testing.assert_array_equal(row[1].ravel(), nearest)
        last = min(len(there), 4)
        np.testing.assert_array_equal(row[last].ravel(), farthest)
        assert np.isnan(row[last + 1 :]).all()
    assert saved(figure, tmp_path / "states.png") > 10_000


def test_frames_of_states_are_from_their_longest_bout(hmm, frames, monkeypatch):
    paths = [np.repeat([0, 1, 0], [4, 16, 5]), np.repeat([1, 0, 1], [3, 31, 1])]
    monkeypatch.setattr(svae.SVAE, "predict", lambda self, sequences: paths)
    sequences = [frames[:25], frames[25:]]
    (ax,) = plot.state_frames(hmm, sequences, (2, 3), num_frames=4).axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["0 (67 %)", "1 (33 %)"]
    tiles = tiles_of(ax, 2, 5, (2, 3)).reshape(2, 5, 6)
    np.testing.assert_array_equal(tiles[0, 1:], frames[25:][[3, 13, 23, 33]])
    np.testing.assert_array_equal(tiles[1, 1:], frames[[4, 9, 14, 19]])
    own = np.concatenate([frames[:4], frames[20:25], frames[28:59]])
    np.testing.assert_allclose(tiles[0, 0], own.mean(axis=0))


def test_courses_are_means_around_onsets(slds, monkeypatch, tmp_path):
    path = np.repeat([1, 0, 1, 0], [8, 10, 4, 10])
    monkeypatch.setattr(svae.SVAE, "predict", lambda self, sequences: [path])
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(32, 2))
    figure = plot.state_frames(slds, frames)
    (first, first_bout), (second, second_bout) = np.reshape(figure.axes, (2, 2))
    assert first.get_title() == "state 0 (62 %): mean of 2 bouts"
    # two frames before the onsets at 8 and 22, ten of the bouts
    mean = (frames[6:18] + frames[20:32]) / 2
    for channel in range(2):
        line = first.lines[channel]
        np.testing.assert_array_equal(line.get_xdata(), np.arange(-2, 10))
        np.testing.assert_allclose(line.get_ydata(), mean[:, channel])
    # the bouts of state 1 have 8 and 4 frames; the first has nothing before it
    line = second.lines[0].get_ydata()
    np.testing.assert_allclose(line[0], frames[17, 0])
    np.testing.assert_allclose(line[1:5], (frames[:4, 0] + frames[18:22, 0]) / 2)
    np.testing.assert_allclose(line[5:], frames[4:6, 0])
    np.testing.assert_array_equal(first_bout.lines[0].get_ydata(), frames[8:18, 0])
    np.testing.assert_array_equal(second_bout.lines[1].get_ydata(), frames[:8, 1])
    assert first.get_xlim() == second.get_xlim() == (-2.5, 9.5)
    assert first_bout.get_xlim() == second_bout.get_xlim() == (-0.5, 9.5)
    assert saved(figure, tmp_path / "courses.png") > 10_000


def test_courses_of_many_channels_are_images(hmm, gappy, monkeypatch, tmp_path):
    path = np.repeat([2, 0, 2], [10, 30, 20])
    monkeypatch.setattr(svae.SVAE, "predict", lambda self, sequences: [path])
    figure = plot.state_frames(hmm, gappy, undo=lambda frames: 3 * frames)
    first, first_bout, second, second_bout, _ = figure.axes
    assert [first.get_title(), second.get_title()] == [
        "state 0 (50 %): mean of 1 bout",
        "state 2 (50 %): mean of 2 bouts",
    ]
    shown = first.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shown, 3 * gappy[3:40].T)
    shown = first_bout.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shown, 3 * gappy[10:40].T)
    limits = {ax.images[0].get_clim() for ax in figure.axes[:4]}
    assert len(limits) == 1
    # an image of fewer frames does not cut off those above it
    assert first.get_xlim() == second.get_xlim() == (-7.5, 29.5)
    assert saved(figure, tmp_path / "courses.png") > 10_000


def test_curves_of_components(clusters, images, tmp_path):
    figure = plot.state_frames(clusters, images, num_frames=3)
    path = clusters.predict(images)
    assert len(figure.axes) == len(np.unique(path))
    for ax in figure.axes:
        state = int(ax.get_title().split()[1])
        *examples, mean = ax.lines
        members = images[path == state]
        np.testing.assert_allclose(mean.get_ydata(), members.mean(axis=0))
        assert len(examples) == min(3, len(members))
        rows = set(map(tuple, members))
        assert all(tuple(line.get_ydata()) in rows for line in examples)
    assert saved(figure, tmp_path / "curves.png") > 10_000


def test_only_states_have_frames(lds, frames, clusters, images):
    with pytest.raises(TypeError, match="LDS has no discrete states"):
        plot.state_frames(lds, frames)
    with pytest.raises(ValueError, match="frames have 6 values"):
        plot.state_frames(clusters, images, (2, 2))
    with pytest.raises(ValueError, match="num_frames must be 1 or more"):
        plot.state_frames(clusters, images, num_frames=0)
