"""Figures show what they say they show; the eye judges the rest."""

import sys

import numpy as np
import pytest

import svae
from svae import plot
from svae.plot import drawing, figures
from svae.plot import states as visible

pytest.importorskip("matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb


@pytest.fixture(scope="module")
def points():
    return svae.data.pinwheel(num_per_class=10, rng=0)[0]


@pytest.fixture(scope="module")
def gmm(points):
    model = svae.SVAE(svae.GMM(4, 2), svae.Residual((5,)), svae.Residual((5,)))
    return model.fit(points, num_steps=4, rng=0)


@pytest.fixture(scope="module")
def frames():
    return svae.data.dots(image_width=6, num_frames=60, duration=6, rng=0)


@pytest.fixture(scope="module")
def lds(frames):
    model = svae.SVAE(svae.LDS(3), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(frames, num_steps=4, window=20, rng=0)


def saved(figure, path):
    """Render a figure to a file and return the file's size."""
    figure.savefig(path)
    return path.stat().st_size


def test_bound_shows_the_objective_and_its_parts(gmm, tmp_path):
    figure = plot.bound(gmm.history_, num_frames=50)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["objective", "reconstruction", "local KL", "global KL"]
    assert {ax.get_ylabel() for ax in figure.axes} == {"nats per frame"}
    raw = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(raw, gmm.history_["objective"] / 50)
    assert saved(figure, tmp_path / "bound.png") > 10_000


def test_bound_of_the_whole_data_has_unit_nats(gmm):
    figure = plot.bound(gmm.history_)
    assert {ax.get_ylabel() for ax in figure.axes} == {"nats"}


def test_bound_leaves_steep_first_steps_out_of_view():
    values = np.concatenate([[-1e6, -1e5], np.linspace(-3.0, -2.0, 98)])
    figure = plot.bound(dict.fromkeys(figures.PARTS, values))
    low, high = figure.axes[0].get_ylim()
    assert -4 < low < -2.9
    assert -2 < high < -1


def test_running_mean_of_a_line_lies_on_the_line():
    values = np.arange(500.0)
    figure = plot.bound(dict.fromkeys(figures.PARTS, values))
    smooth = figure.axes[0].lines[1]
    # the window of 10 steps has its centre half a step before the one marked
    np.testing.assert_allclose(smooth.get_ydata(), smooth.get_xdata() - 1.5)


def test_mixture_shows_data_and_components_in_use(gmm, points, tmp_path):
    figure = plot.mixture(gmm, points, num_samples=200)
    left, right = figure.axes
    used = np.unique(gmm.predict(points))
    assert {text.get_text() for text in right.texts} == {str(k) for k in used}
    assert len(right.lines) == 2 * len(used)  # ellipses of one and two deviations
    shown = np.concatenate([cloud.get_offsets() for cloud in left.collections[1::2]])
    assert sorted(map(tuple, shown.data)) == sorted(map(tuple, points))
    assert left.get_xlabel() == "$y_1$"
    assert saved(figure, tmp_path / "mixture.png") > 10_000


def test_ellipses_have_the_radii_of_the_components(gmm, points):
    means, covs, dofs = figures._components(gmm)
    assert dofs is None
    figure = plot.mixture(gmm, points, num_samples=200)
    k = int(figure.axes[1].texts[0].get_text())
    for radius, line in zip((1, 2), figure.axes[1].lines, strict=False):
        offsets = line.get_xydata() - means[k]
        squared = np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(covs[k]), offsets)
        np.testing.assert_allclose(squared, radius**2, rtol=1e-10)


@pytest.mark.parametrize("inference", ["svae", "sin"])
def test_ellipses_of_student_components_are_those_of_scale_matrices(inference, points):
    latent = svae.StudentMixture(3, 2, dof=1.0)
    network = svae.MLP((5,))
    model = svae.SVAE(latent, network, network, inference=inference)
    model.fit(points, num_steps=5, rng=0)
    _, covs, dofs = figures._components(model)
    _, precision = svae.families.niw.mean(model.parameters_.natparams["components"])
    np.testing.assert_allclose(covs, np.linalg.inv(precision), rtol=1e-10)
    np.testing.assert_array_equal(dofs, np.ones(3))
    figure = plot.mixture(model, points, num_samples=2000)
    left, right = figure.axes
    assert right.get_title() == "posterior means of $x$, and scale matrices"
    k = int(right.texts[0].get_text())
    radii = []
    for line in right.lines[:2]:
        offsets = line.get_xydata() - right.texts[0].get_position()
        radii.append(np.einsum("ni,ij,nj->n", offsets, precision[k], offsets))
    np.testing.assert_allclose(radii[0], 1.0, rtol=1e-10)
    np.testing.assert_allclose(radii[1], 4.0, rtol=1e-10)


def test_draws_of_student_components_have_their_tails(points):
    """Through a linear decoder: of a Cauchy law, some draws are far out."""

    def farthest(dof):
        latent = svae.StudentMixture(1, 2, dof=dof)
        model = svae.SVAE(latent, svae.Linear(), svae.Linear()).fit(points, 5, rng=0)
        figure = plot.mixture(model, points, num_samples=2000)
        draws = figure.axes[0].collections[0].get_offsets().data
        centred = np.abs(draws - np.median(draws, axis=0))
        return centred.max() / np.median(centred)

    assert farthest(1.0) > 50
    assert farthest(1e8) < 10


def test_mixture_of_a_density_network_is_one_standard_normal(points):
    model = svae.SVAE(svae.Gaussian(2), svae.MLP((5,)), svae.MLP((5,)))
    figure = plot.mixture(model.fit(points, num_steps=2, rng=0), points, 100)
    inner = figure.axes[1].lines[0].get_xydata()
    np.testing.assert_allclose(np.hypot(*inner.T), 1.0)
    assert not figure.axes[1].texts


def test_mixture_needs_two_dimensions(points):
    model = svae.SVAE(svae.GMM(2, 1), svae.MLP((5,)), svae.MLP((5,)))
    model.fit(points, num_steps=1, rng=0)
    with pytest.raises(ValueError, match="two dimensions"):
        plot.mixture(model, points)


def test_forecast_shows_data_means_and_latents(lds, frames, tmp_path):
    figure = plot.forecast(lds, frames, prefix=30, horizon=20)
    top, middle, bottom, _ = figure.axes
    np.testing.assert_array_equal(top.images[0].get_array(), frames[:50].T)
    predicted = lds.forecast(frames[:30], 20).mean
    np.testing.assert_allclose(middle.images[0].get_array()[:, 30:], predicted.T)
    for ax in (top, middle, bottom):
        assert list(ax.lines[-1].get_xdata()) == [29.5, 29.5]  # between seen and not
    means = lds.transform(frames[:30])
    np.testing.assert_allclose(bottom.lines[0].get_ydata()[:30], means[:, 0])
    assert len(bottom.collections) == 3  # one band for each latent dimension
    assert saved(figure, tmp_path / "forecast.png") > 10_000


def test_forecast_may_end_past_the_data_and_hide_its_start(lds, frames):
    figure = plot.forecast(lds, frames, prefix=60, horizon=5, context=10)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), frames[50:].T)
    assert figure.axes[2].get_xlim() == (49.5, 64.5)


@pytest.mark.parametrize("prefix", [0, 61])
def test_forecast_refuses_a_prefix_outside_the_sequence(lds, frames, prefix):
    with pytest.raises(ValueError, match=r"prefix must be in 1\.\.60"):
        plot.forecast(lds, frames, prefix, 5)


def test_dynamics_shows_the_eigenvalues_of_the_mean(lds, tmp_path):
    figure = plot.dynamics(lds)
    (ax,) = figure.axes
    shown = ax.collections[0].get_offsets()
    J11, J12, *_ = lds.parameters_.natparams["dynamics"]
    eigenvalues = np.linalg.eigvals(np.linalg.solve(J11, J12).T)
    np.testing.assert_allclose(
        np.sort_complex(shown[:, 0] + 1j * shown[:, 1]), np.sort_complex(eigenvalues)
    )
    assert saved(figure, tmp_path / "dynamics.png") > 5_000


def test_dynamics_writes_the_period_of_a_rotation(lds):
    class Rotation:
        parameters_ = lds.parameters_._replace(
            natparams={
                "dynamics": svae.families.mniw.from_standard(
                    0.95 * rotation(2 * np.pi / 25), np.eye(2), np.eye(2), 5.0
                )
            }
        )

    (text,) = plot.dynamics(Rotation()).axes[0].texts
    assert text.get_text() == "25.0 frames"


def rotation(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


@pytest.fixture(scope="module")
def switching():
    return svae.synthetic.switching_lds(num_blocks=4, block_length=20, rng=0)


@pytest.fixture(scope="module")
def slds(switching):
    latent = svae.SLDS(num_states=3, latent_dim=2, affine=True)
    model = svae.SVAE(latent, svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(switching.frames, num_steps=4, window=20, warmup=4, rng=0)


@pytest.fixture(scope="module")
def hmm(frames):
    model = svae.SVAE(svae.HMM(3, 2), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(frames, num_steps=4, window=20, warmup=4, rng=0)


@pytest.fixture(scope="module")
def gappy(frames):
    """Frames with whole ones missing, and one channel of others."""
    gappy = frames.copy()
    gappy[5:15] = np.nan
    gappy[20:40, 2] = np.nan
    return gappy


def colors_of(ax):
    """Return the colours (T, 3) of a band."""
    return ax.images[0].get_array()[0]


def test_colors_differ():
    colors = [drawing.color_of(rank) for rank in range(20)]
    assert len(set(colors)) == 20
    assert drawing.color_of(20) == colors[0]


def test_states_have_ranks_by_what_q_has_counted(slds):
    counts = visible.counts_of(slds)
    gained = slds.parameters_.natparams["transitions"][0]
    gained = gained - slds.latent.prior()["transitions"][0]
    first = slds.parameters_.natparams["weights"][0] - slds.latent.prior()["weights"][0]
    np.testing.assert_allclose(counts, gained.sum(axis=0) + first, atol=1e-12)
    ranks = visible.ranks_of(slds)
    assert sorted(ranks) == [0, 1, 2]
    assert (np.diff([counts[state] for state in ranks]) <= 0).all()


def test_ethogram_shows_path_and_probabilities(slds, switching, tmp_path):
    frames = switching.frames
    figure = plot.ethogram(slds, frames)
    top, band, below = figure.axes
    np.testing.assert_array_equal(top.lines[0].get_ydata(), frames[:, 0])
    path, ranks = slds.predict(frames), visible.ranks_of(slds)
    expected = np.array([to_rgb(drawing.color_of(ranks[state])) for state in path])
    np.testing.assert_allclose(colors_of(band), expected)
    shown = [int(text.get_text()) for text in figure.legends[0].get_texts()]
    assert set(path) <= set(shown)
    probs = slds.infer(frames, num_samples=1).states
    heights = np.zeros(len(frames))
    for state, patch in zip(shown, below.patches, strict=False):
        np.testing.assert_allclose(patch.get_data().baseline, heights)
        heights = heights + probs[:, state]
        np.testing.assert_allclose(patch.get_data().values, heights)
    assert saved(figure, tmp_path / "ethogram.png") > 10_000


def test_ethogram_gives_labels_the_colors_of_their_states(slds, switching):
    path = slds.predict(switching.frames)
    labels = np.where(path == path[0], 7, 4)
    labels[:3], labels[-1] = -1, 9
    figure = plot.ethogram(slds, switching.frames, labels)
    _, states, band, _ = figure.axes
    same = labels == 7
    np.testing.assert_allclose(colors_of(band)[same], colors_of(states)[same])
    np.testing.assert_allclose(colors_of(band)[0], to_rgb(drawing.MISSING))
    others = {tuple(color) for color in colors_of(band)[3:-1]}
    assert tuple(colors_of(band)[-1]) not in others  # 9 is no state's


def test_ethogram_shows_a_part_of_an_image_with_gaps(hmm, gappy):
    figure = plot.ethogram(hmm, gappy, start=10, stop=30)
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), gappy[10:30].T)
    assert image.get_extent()[:2] == [9.5, 29.5]
    assert np.isfinite(image.get_clim()).all()
    assert colors_of(figure.axes[1]).shape == (20, 3)


def test_ethogram_refuses_what_it_cannot_show(slds, lds, switching, frames):
    with pytest.raises(TypeError, match="LDS has no discrete states"):
        plot.ethogram(lds, frames)
    with pytest.raises(ValueError, match="no frames in 90:None of 80"):
        plot.ethogram(slds, switching.frames, start=90)
    with pytest.raises(ValueError, match="labels"):
        plot.ethogram(slds, switching.frames, switching.states[:-1])


def test_transitions_shows_the_mean_and_durations(slds, tmp_path):
    figure = plot.transitions(slds)
    left, right, _ = figure.axes
    used = [int(tick.get_text()) for tick in left.get_xticklabels()]
    mean = svae.families.dirichlet.mean(slds.parameters_.natparams["transitions"])
    shown = left.images[0].get_array()
    np.testing.assert_allclose(shown, mean[np.ix_(used, used)])
    durations = [bar.get_width() for bar in right.patches]
    np.testing.assert_allclose(durations, 1 / (1 - shown.diagonal()))
    assert saved(figure, tmp_path / "transitions.png") > 10_000


def test_transitions_leaves_out_states_without_frames(slds, switching):
    path = slds.predict(switching.frames)
    figure = plot.transitions(slds, [switching.frames])
    used = [int(tick.get_text()) for tick in figure.axes[0].get_xticklabels()]
    assert used == np.unique(path).tolist()


def test_only_a_markov_chain_has_transitions(gmm):
    with pytest.raises(TypeError, match="GMM has no transitions"):
        plot.transitions(gmm)


def test_dynamics_of_states_are_their_eigenvalues(slds):
    (ax,) = plot.dynamics(slds).axes
    used = visible.used_states(slds, None)
    mean = svae.families.mniw.to_standard(slds.parameters_.natparams["dynamics"])[0]
    assert mean.shape == (3, 2, 3)  # with a bias
    for state, shown in zip(used, ax.collections, strict=True):
        shown = shown.get_offsets() @ [1, 1j]
        eigenvalues = np.linalg.eigvals(mean[state, :, :2])
        np.testing.assert_allclose(np.sort_complex(shown), np.sort_complex(eigenvalues))
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [int(name.split(":")[0]) for name in names] == used


def test_only_linear_dynamics_have_eigenvalues(hmm):
    with pytest.raises(TypeError, match="HMM has no dynamics"):
        plot.dynamics(hmm)


def test_mixture_of_a_hidden_markov_model_takes_sequences(hmm, slds, frames):
    sequences = [frames[:25], frames[25:]]
    figure = plot.mixture(hmm, sequences, num_samples=50)
    states = [each.states.argmax(axis=1) for each in hmm.infer(sequences, 1)]
    texts = {text.get_text() for text in figure.axes[1].texts}
    assert texts == {str(k) for k in np.concatenate(states)}
    shown = [cloud.get_offsets() for cloud in figure.axes[1].collections]
    means = np.concatenate(hmm.transform(sequences))
    assert sorted(map(tuple, np.concatenate(shown))) == sorted(map(tuple, means))
    with pytest.raises(TypeError, match="SLDS has no components"):
        plot.mixture(slds, frames)


def test_forecast_of_states_is_the_share_of_sampled_ones(slds, switching):
    frames = switching.frames
    figure = plot.forecast(slds, frames, 50, 10, theta="sample", rng=1)
    *_, states = figure.axes
    future = slds.forecast(frames[:50], 10, theta="sample", rng=1)
    shown = [int(text.get_text()) for text in figure.legends[0].get_texts()]
    shares = (future.states == shown[0]).mean(axis=0)
    np.testing.assert_allclose(states.patches[0].get_data().values[50:], shares)
    means = figure.axes[1].lines[0].get_ydata()  # lines, of two channels
    np.testing.assert_allclose(means[50:], future.mean[:, 0])


def test_forecast_shows_what_is_missing_as_missing(lds, gappy, frames, tmp_path):
    figure = plot.forecast(lds, gappy, prefix=10, horizon=20)
    shown = figure.axes[0].images[0]
    np.testing.assert_array_equal(shown.get_array().mask, np.isnan(gappy[:30].T))
    seen = gappy[:30]
    assert shown.get_clim() == (np.nanmin(seen), np.nanmax(seen))
    assert np.isfinite(figure.axes[1].images[0].get_array()).all()
    assert saved(figure, tmp_path / "gaps.png") > 10_000


def test_figures_of_switching_models(slds, hmm, switching, gappy):
    chain = {"bound", "transitions", "ethogram", "forecast", "states"}
    assert set(plot.figures(slds, [switching.frames])) == chain | {"dynamics"}
    assert set(plot.figures(hmm, [gappy])) == chain | {"mixture"}


def test_figures_of_data_with_gaps(gmm, lds, points, gappy, tmp_path):
    points = points.copy()
    points[:5] = np.nan
    points[7, 1] = np.nan
    for figure in plot.figures(gmm, [points]).values():
        assert saved(figure, tmp_path / "figure.png") > 5_000
    nothing = np.full_like(gappy, np.nan)
    for frames in (gappy, nothing):
        for figure in plot.figures(lds, [frames]).values():
            assert saved(figure, tmp_path / "figure.png") > 5_000


def test_lines_mark_missing_frames_and_lonely_values():
    frames = np.array([[0.0, np.nan, np.nan, 3.0, np.nan, 5.0, 6.0]]).T
    ax = drawing.new_figure(3, 3).subplots()
    drawing.lines(ax, np.arange(10, 17), frames)
    alone = ax.lines[1]
    assert alone.get_xdata().tolist() == [10, 13]
    spans = [(patch.get_x(), patch.get_width()) for patch in ax.patches]
    assert spans == [(10.5, 2.0), (13.5, 1.0)]


def test_mixture_of_many_channels_shows_principal_components(hmm, gappy):
    figure = plot.mixture(hmm, gappy, num_samples=50)
    left = figure.axes[0]
    assert left.get_xlabel() == "principal component 1"
    complete = gappy[~np.isnan(gappy).any(axis=1)]
    centered = complete - complete.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=False)[2][:2]
    shown = np.concatenate([each.get_offsets() for each in left.collections[1::2]])
    shown = np.ma.getdata(shown)
    shown = shown[~np.isnan(shown).any(axis=1)]
    expected = centered @ axes.T
    np.testing.assert_allclose(
        np.sort(np.abs(shown), axis=0), np.sort(np.abs(expected), axis=0), atol=1e-8
    )


@pytest.fixture(scope="module")
def images():
    """Frames of 3 x 2 pixels, as rows of 6."""
    rng = np.random.default_rng(0)
    return np.repeat([[0.0], [1.0], [4.0]], 20, axis=0) + rng.normal(size=(60, 6))


@pytest.fixture(scope="module")
def clusters(images):
    model = svae.SVAE(svae.GMM(3, 3), svae.MLP((5,)), svae.MLP((5,)))
    return model.fit(images, num_steps=4, rng=0)


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


def test_manifold_takes_the_coordinates_that_vary_most(clusters, images):
    means = clusters.transform(images)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    widest = np.sort(np.argsort(low - high)[:2])
    ax = plot.manifold(clusters, (3, 2), images).axes[0]
    assert ax.get_xlabel() == f"$x_{{{widest[0] + 1}}}$"
    tiles = tiles_of(ax, 12, 12, (3, 2))
    corner = means.mean(axis=0)
    corner[widest] = low[widest]
    np.testing.assert_allclose(tiles[-1, 0].ravel(), clusters.decode(corner)[0])


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


def test_figures_show_the_bound_of_all_frames(lds, frames):
    figure = plot.figures(lds, [frames[:1]], num_frames=60)["bound"]
    raw = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(raw, lds.history_["objective"] / 60)


def test_figures_of_images(clusters, lds, hmm, images, frames, tmp_path):
    drawn = plot.figures(clusters, [images], shape=(3, 2))
    assert set(drawn) == {"bound", "mixture", "states", "manifold"}
    drawn = plot.figures(lds, [frames], shape=(2, 3))
    assert set(drawn) == {"bound", "dynamics", "forecast", "manifold"}
    nothing = np.full_like(frames, np.nan)
    for figure in plot.figures(hmm, [nothing], shape=(2, 3)).values():
        assert saved(figure, tmp_path / "figure.png") > 5_000


def test_figures_suit_the_model(gmm, lds, points, frames):
    assert set(plot.figures(gmm, [points])) == {"bound", "mixture"}
    assert set(plot.figures(lds, [frames])) == {"bound", "dynamics", "forecast"}
    assert set(plot.figures(lds, [frames[:1]])) == {"bound", "dynamics"}


def test_figures_say_that_they_show_the_first_frames_only(gmm, hmm, frames):
    points = np.tile(svae.data.pinwheel(rng=0)[0], (11, 1))
    assert len(points) > 5000
    note = f"from the first 5000 of {len(points)} frames"
    assert plot.figures(gmm, [points])["mixture"].get_suptitle() == note
    assert plot.figures(gmm, [points[:5000]])["mixture"].get_suptitle() == ""
    many = np.tile(frames, (84, 1))
    drawn = plot.figures(hmm, [many[:3000], many[3000:]])
    assert drawn["states"].get_suptitle() == "from the first 5000 of 5040 frames"


@pytest.mark.parametrize(
    "latent",
    [svae.HMM(1, 2), svae.SLDS(1, 2), svae.GMM(1, 2), svae.StudentMixture(1, 2)],
    ids=lambda latent: type(latent).__name__,
)
def test_a_single_state_is_never_left(latent, switching, tmp_path):
    frames = switching.frames
    model = svae.SVAE(latent, svae.MLP((5,)), svae.MLP((5,)))
    model.fit(frames, 3, window=40, rng=0)
    drawn = plot.figures(model, [frames], shape=(1, 2))
    for figure in drawn.values():
        assert saved(figure, tmp_path / "figure.png") > 5_000
    if "transitions" in drawn:
        right = drawn["transitions"].axes[1]
        assert [text.get_text() for text in right.texts] == ["never left"]
        (bar,) = right.patches
        assert bar.get_width() == 0.0


def test_figures_leave_pyplot_alone(gmm, lds, points, frames):
    loaded = "matplotlib.pyplot" in sys.modules
    plot.figures(gmm, [points])
    plot.figures(lds, [frames])
    assert ("matplotlib.pyplot" in sys.modules) == loaded
