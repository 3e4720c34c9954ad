"""Priors of dynamics that known latents are the centre of."""

import numpy as np
import pytest

import svae
from svae.data import Windows
from svae.families import dirichlet, mniw, niw


@pytest.fixture
def points(rng):
    x = np.zeros((2, 300, 2))
    A = 0.9 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    for t in range(1, 300):
        x[:, t] = x[:, t - 1] @ A.T + 0.2 * rng.standard_normal((2, 2))
    return Windows(x, np.array([300, 200]))


def test_without_the_data_it_is_the_prior(points):
    for latent in (
        svae.LDS(2, noise_variance=0.5),
        svae.SLDS(3, 2, noise_variance=1.0),
    ):
        prior, given = latent.prior(), latent.empirical_prior(points)
        for name in prior:
            for one, other in zip(prior[name], given[name], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("affine", [False, True])
def test_expected_noise_is_what_the_regression_leaves(points, affine):
    prior = svae.SLDS(3, 2, affine=affine).empirical_prior(points)
    A, _, scale, dof = mniw.to_standard(prior["dynamics"])
    np.testing.assert_allclose(dof, 5.0)
    x = points.values
    x0, x1 = (
        np.concatenate([x[0, a:b], x[1, a : b - 100]]) for a, b in ((0, 299), (1, 300))
    )
    left = x1 - x0 @ A[0][:, :2].T - (A[0][:, 2] if affine else 0.0)
    np.testing.assert_allclose(scale[1] / 2.0, left.T @ left / len(left), rtol=1e-3)
    # drawn to I by the weight of 40 frames of about 500, of variance about 0.2
    np.testing.assert_allclose(A[0][:, :2], A[2][:, :2])
    assert np.abs(A[0][0, 1]) < 0.27 and np.abs(A[0][0, 1]) > 0.1


def test_one_state_is_the_lds(points):
    one, lds = svae.SLDS(1, 2), svae.LDS(2)
    got, want = one.empirical_prior(points), lds.empirical_prior(points)
    for name in want:
        for some, other in zip(got[name], want[name], strict=True):
            np.testing.assert_allclose(some[0], other, rtol=1e-12)
    mean = mniw.to_standard(want["dynamics"])[0]
    np.testing.assert_allclose(mean, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("latent", [svae.LDS(2), svae.SLDS(3, 2, affine=True)])
def test_it_has_the_scale_of_the_latents(points, latent):
    """Of what is 10 times as large, covariances are 100 times those."""
    small = latent.empirical_prior(points)
    large = latent.empirical_prior(Windows(10.0 * points.values, points.lengths))
    for name, family in (("init", niw), ("dynamics", mniw)):
        one = family.to_standard(small[name])[2]
        other = family.to_standard(large[name])[2]
        # the pull to I has a fixed weight, in frames of variance 1
        error = np.linalg.norm(other - 100.0 * one) / np.linalg.norm(other)
        assert error < 0.05


def test_what_is_given_stays(points):
    prior = {"dynamics": svae.priors.MNIW(scale=3.0)}
    latent = svae.SLDS(2, 2, prior=prior)
    given = latent.empirical_prior(points)["dynamics"]
    for one, other in zip(given, latent.prior()["dynamics"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("frames", [np.zeros((5, 2)), np.ones((1, 2)), np.eye(2)])
def test_latents_that_hardly_vary_have_a_prior(frames):
    prior = svae.SLDS(3, 2).empirical_prior(Windows(frames[None]))
    assert niw.in_domain(prior["init"]) and mniw.in_domain(prior["dynamics"])


@pytest.mark.parametrize("wrong", ["datum", 0.0, -1.0, np.inf])
def test_other_words_and_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="noise_variance must be positive or 'data'"):
        svae.LDS(2, noise_variance=wrong)


def test_the_states_of_a_switching_model_of_data_are_used(rng):
    """Of columns of unit variance whose steps are far smaller than those."""
    x, z = np.zeros((600, 2)), np.repeat([0, 1, 0, 1, 0, 1], 100)
    turns = [
        np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (0.05, 0.4)
    ]
    x[0] = 1.0
    for t in range(1, 600):
        x[t] = 0.995 * x[t - 1] @ turns[z[t]].T + 0.05 * rng.standard_normal(2)
    x /= x.std(axis=0)
    model = svae.SVI(svae.SLDS(2, 2)).fit(x, rng=0)
    assert svae.metrics.accuracy(z, model.predict(x)) > 0.9


def test_states_last_ten_steps_unless_told_otherwise(points):
    def duration(latent):
        prior = latent.empirical_prior(points)
        (alpha,) = dirichlet.to_standard(prior["transitions"])
        stays = alpha[0, 0] / alpha[0].sum()
        return 1.0 / (1.0 - stays)

    for num_states, concentration in ((2, 1.0), (7, 1.0), (20, 0.5)):
        latent = svae.SLDS(num_states, 2, concentration=concentration)
        np.testing.assert_allclose(duration(latent), 10.0, rtol=1e-12)
    np.testing.assert_allclose(duration(svae.SLDS(4, 2, sticky=0.0)), 4 / 3)
    np.testing.assert_allclose(duration(svae.SLDS(4, 2, noise_variance=1.0)), 4 / 3)
    given = {"transitions": svae.priors.Dirichlet(2.0)}
    np.testing.assert_allclose(duration(svae.SLDS(4, 2, prior=given)), 4 / 3)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(svae.SLDS, -1.0), (svae.SLDS, np.nan), (svae.HMM, -1.0), (svae.HMM, None)],
)
def test_stickiness_that_is_none_is_refused(kind, wrong):
    with pytest.raises(ValueError, match="sticky must not be negative, got"):
        kind(3, 2, sticky=wrong)
