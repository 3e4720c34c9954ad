"""Figures show what they say they show; the eye judges the rest."""

import sys

import numpy as np
import pytest

import svae
from svae import plot

pytest.importorskip("matplotlib")


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
    figure = plot.bound(dict.fromkeys(plot.PARTS, values))
    low, high = figure.axes[0].get_ylim()
    assert -4 < low < -2.9
    assert -2 < high < -1


def test_running_mean_of_a_line_lies_on_the_line():
    values = np.arange(500.0)
    figure = plot.bound(dict.fromkeys(plot.PARTS, values))
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
    means, covs = plot._components(gmm)
    figure = plot.mixture(gmm, points, num_samples=200)
    k = int(figure.axes[1].texts[0].get_text())
    for radius, line in zip((1, 2), figure.axes[1].lines, strict=False):
        offsets = line.get_xydata() - means[k]
        squared = np.einsum("ni,ij,nj->n", offsets, np.linalg.inv(covs[k]), offsets)
        np.testing.assert_allclose(squared, radius**2, rtol=1e-10)


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


def test_figures_suit_the_model(gmm, lds, points, frames):
    assert set(plot.figures(gmm, [points])) == {"bound", "mixture"}
    assert set(plot.figures(lds, [frames])) == {"bound", "dynamics", "forecast"}
    assert set(plot.figures(lds, [frames[:1]])) == {"bound", "dynamics"}


def test_figures_leave_pyplot_alone(gmm, lds, points, frames):
    loaded = "matplotlib.pyplot" in sys.modules
    plot.figures(gmm, [points])
    plot.figures(lds, [frames])
    assert ("matplotlib.pyplot" in sys.modules) == loaded
