"""Figures of bounds, mixtures, forecasts and dynamics show what they say."""

import numpy as np
import pytest

import svae
from svae import plot
from svae.plot import charts
from tests.helpers.figures import saved

pytest.importorskip("matplotlib")
to_rgb = pytest.importorskip("matplotlib.colors").to_rgb


def test_bound_shows_the_objective_and_its_parts(gmm, tmp_path):
    figure = plot.bound(gmm.history_, num_frames=50)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["objective", "reconstruction", "local KL", "global KL"]
    assert {ax.get_ylabel() for ax in figure.axes} == {"nats per frame"}
    raw = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(raw, gmm.history_["objective"] / 50)
    assert saved(figure, tmp_path / "bound.png") > 10_000


def test_bound_of_the_whole_data_has_unit_nats(gmm):
    start = {"objective": -500.0, **dict.fromkeys(list(charts.PARTS)[1:], -100.0)}
    marked = plot.bound(gmm.history_, 50, start)
    for ax, level in zip(marked.axes, (-10.0, -2.0, -2.0, -2.0), strict=True):
        assert list(ax.lines[-1].get_ydata()) == [level, level]
        assert ax.get_ylim()[0] <= level <= ax.get_ylim()[1]
    figure = plot.bound(gmm.history_)
    assert {ax.get_ylabel() for ax in figure.axes} == {"nats"}


def test_bound_leaves_steep_first_steps_out_of_view():
    values = np.concatenate([[-1e6, -1e5], np.linspace(-3.0, -2.0, 98)])
    figure = plot.bound(dict.fromkeys(charts.PARTS, values))
    low, high = figure.axes[0].get_ylim()
    assert -4 < low < -2.9
    assert -2 < high < -1


def test_running_mean_of_a_line_lies_on_the_line():
    values = np.arange(500.0)
    figure = plot.bound(dict.fromkeys(charts.PARTS, values))
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
    means, covs, dofs = charts._components(gmm)
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
    _, covs, dofs = charts._components(model)
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


def test_mixture_draws_from_the_likelihood():
    bits = (np.random.default_rng(0).random((40, 2)) < 0.5).astype(float)
    model = svae.SVAE(
        svae.GMM(2, 2), svae.MLP((5,)), svae.MLP((5,)), likelihood="bernoulli"
    )
    figure = plot.mixture(model.fit(bits, num_steps=2, rng=0), bits, 200)
    draws = np.concatenate(
        [cloud.get_offsets().data for cloud in figure.axes[0].collections[::2]]
    )
    corners = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {tuple(point) for point in np.round(draws, 12)} == corners


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
