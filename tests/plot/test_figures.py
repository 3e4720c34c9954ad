"""Figures suit the model and the data, and leave pyplot alone."""

import sys

import numpy as np
import pytest

import svae
from svae import plot
from tests.helpers.figures import saved

pytest.importorskip("matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb


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


def test_a_trial_is_shown_and_a_fit_without_steps_has_no_bound(frames, tmp_path):
    network = svae.Residual((4,), weight_scale=None)
    model = svae.SVAE(svae.LDS(2), network, network)
    model.fit(frames, score_every=1000, rng=0)
    drawn = plot.figures(model, [frames])
    assert set(drawn) - {"bound"} == {"dynamics", "forecast", "trial"}
    (ax,) = drawn["trial"].axes
    curve, best = ax.lines
    np.testing.assert_array_equal(curve.get_xdata(), model.trial_["step"])
    np.testing.assert_array_equal(curve.get_ydata(), model.trial_["score"])
    assert best.get_xdata()[0] == model.trial_["step"][np.argmax(model.trial_["score"])]
    assert saved(drawn["trial"], tmp_path / "trial.png") > 5_000
    model.history_ = {name: x[:0] for name, x in model.history_.items()}
    assert "bound" not in plot.figures(model, [frames])
