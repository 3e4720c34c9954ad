"""Figures of states: ethograms, transitions, dynamics; missing frames."""

import numpy as np
import pytest

import svae
from svae import plot
from svae.plot import drawing
from svae.plot import states as visible
from tests.helpers.figures import saved

pytest.importorskip("matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb


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
    assert sorted(used) == np.unique(path).tolist()
    assert (np.diff(np.bincount(path)[used]) <= 0).all()
    expected, _, counted, _ = figure.axes
    matrix = counted.images[0].get_array()
    for row, before in zip(matrix, used, strict=True):
        following = path[1:][path[:-1] == before]
        shares = [(following == state).mean() for state in used]
        np.testing.assert_allclose(row, shares)
    assert counted.images[0].norm.vmax == expected.images[0].norm.vmax


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
