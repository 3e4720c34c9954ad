"""One step ahead without networks, where everything is exact."""

import numpy as np
import pytest

import svae
from svae.families import product
from svae.testing import relative_error

LATENTS = [
    svae.LDS(2),
    svae.LDS(2, affine=True),
    svae.HMM(3, 3),
    svae.SLDS(2, 3),
    svae.SLDS(2, 3, affine=True),
    svae.GMM(3, 3),
    svae.StudentMixture(3, 3),
]
each_latent = pytest.mark.parametrize(
    "latent", LATENTS, ids=lambda m: type(m).__name__ + "b" * getattr(m, "affine", 0)
)


def fitted(latent, rng):
    """Return a model of a random walk, and three sequences, some frames missing."""
    walk = np.cumsum(0.3 * rng.standard_normal((60, 3)), axis=0)
    walk = (walk - walk.mean(axis=0)) / walk.std(axis=0)
    sequences = [walk[:30], walk[30:50], walk[50:]]
    model = svae.SVI(latent).fit(sequences, num_steps=10, rng=0)
    if not isinstance(latent, svae.SLDS):
        sequences[0][4] = sequences[1][-1] = np.nan
    return model, sequences


@each_latent
@pytest.mark.filterwarnings("ignore")
def test_densities_add_up_to_the_log_likelihood(latent, rng):
    model, sequences = fitted(latent, rng)
    found = model.predict_next(sequences)
    frames = sum((~np.isnan(each).any(axis=1)).sum() for each in sequences)
    total = sum(each.log_density.sum() for each in found)
    want = model.score(sequences, theta="mean")
    assert total / frames == pytest.approx(want, rel=1e-9)
    assert model.score(sequences, ahead=1) == want
    for each, sequence in zip(found, sequences, strict=True):
        nothing = np.isnan(sequence).any(axis=1)
        assert np.all(each.log_density[nothing] == 0)


@each_latent
@pytest.mark.filterwarnings("ignore")
def test_a_density_is_the_gain_in_log_likelihood(latent, rng):
    """Of frames one by one, and it knows nothing of those that follow."""
    if latent.independent:
        return
    model, (frames, *_) = fitted(latent, rng)
    found, known = model.predict_next(frames), model.filter(frames)
    before = 0.0
    for t in range(1, 8):
        part = frames[:t]
        now = model.score(part, "mean") * (~np.isnan(part).any(axis=1)).sum()
        assert found.log_density[t - 1] == pytest.approx(now - before, abs=1e-9)
        before = now
        shorter = model.predict_next(part)
        for a, b in zip(shorter, found, strict=True):
            assert a is None or relative_error(a, b[:t]) < 1e-9
    np.testing.assert_array_equal(known.log_evidence, found.log_density)


def test_frames_of_an_lds_are_those_of_a_kalman_filter(rng):
    model, (frames, *_) = fitted(svae.LDS(2, affine=True), rng)
    found, known = model.predict_next(frames), model.filter(frames)
    theta = product.mean(family(model), model.natparams_)
    (weights, precision), (dynamics, Q) = theta["emission"], theta["dynamics"]
    C, d, R = weights[:, :2], weights[:, 2], np.linalg.inv(precision)
    A, b, Q = dynamics[:, :2], dynamics[:, 2], np.linalg.inv(Q)
    m, V = theta["init"][0], np.linalg.inv(theta["init"][1])
    for t, frame in enumerate(frames):
        S = C @ V @ C.T + R
        assert relative_error(found.mean[t], C @ m + d) < 1e-10
        assert relative_error(found.var[t], np.diagonal(S)) < 1e-10
        if not np.isnan(frame).any():
            error = frame - C @ m - d
            want = error @ np.linalg.solve(S, error)
            want = -0.5 * (want + np.linalg.slogdet(2 * np.pi * S)[1])
            assert found.log_density[t] == pytest.approx(want, abs=1e-9)
            gain = V @ C.T @ np.linalg.inv(S)
            m, V = m + gain @ error, V - gain @ C @ V
        assert relative_error(known.mean[t], m) < 1e-9
        assert relative_error(known.cov[t], V) < 1e-9
        m, V = A @ m + b, A @ V @ A.T + Q


def family(model):
    return model.latent.family | {"emission": svae.LinearEmission.family}


@pytest.mark.filterwarnings("ignore")
def test_frames_of_switching_dynamics_mix_what_each_state_makes_of_the_last(rng):
    model, (frames, *_) = fitted(svae.SLDS(2, 3, affine=True), rng)
    theta = product.mean(model.latent.family, model.natparams_)
    found, known = model.predict_next(frames), model.filter(frames)
    A, Q = theta["dynamics"][0], np.linalg.inv(theta["dynamics"][1])
    for t in range(1, len(frames)):
        probs = known.states[t - 1] @ theta["transitions"]
        means = A[:, :, :3] @ frames[t - 1] + A[:, :, 3]
        assert relative_error(found.states[t], probs) < 1e-10
        assert relative_error(found.mean[t], probs @ means) < 1e-10
        second = probs @ (means**2 + np.diagonal(Q, axis1=1, axis2=2))
        assert relative_error(found.var[t], second - found.mean[t] ** 2) < 1e-8


@pytest.mark.filterwarnings("ignore")
def test_rows_of_a_mixture_have_its_moments(rng):
    """Also with tails, infinite where there is no second moment."""
    frames = rng.standard_normal((40, 3))
    for latent in (svae.GMM(3, 3), svae.StudentMixture(3, 3, dof=4.0)):
        model = svae.SVI(latent).fit(frames, num_steps=5, rng=0)
        found = model.predict_next(frames[:4])
        theta = product.mean(model.latent.family, model.natparams_)
        means, precision = theta["components"]
        probs = theta["weights"]
        var = np.diagonal(np.linalg.inv(precision), axis1=1, axis2=2)
        var = var * (2.0 if isinstance(latent, svae.StudentMixture) else 1.0)
        mean = probs @ means
        assert relative_error(found.mean, np.tile(mean, (4, 1))) < 1e-10
        assert relative_error(found.var[2], probs @ (var + (means - mean) ** 2)) < 1e-10
    model = svae.SVI(svae.StudentMixture(3, 3, dof=1.5)).fit(frames, 5, rng=0)
    assert np.all(model.predict_next(frames[:2]).var == np.inf)


@pytest.mark.filterwarnings("ignore")
def test_answers_are_arranged_as_the_data(rng):
    for latent in (svae.LDS(2), svae.HMM(2, 3)):
        model, _ = fitted(latent, rng)
        frames = rng.standard_normal((2, 8, 3))
        found, known = model.predict_next(frames), model.filter(frames)
        assert found.mean.shape == found.variance.shape == (2, 8, 3)
        assert known.log_evidence.shape == found.log_density.shape == (2, 8)
        is_lds = isinstance(latent, svae.LDS)
        assert (known.states is None) == (found.latent_mean is not None) == is_lds
        assert len(model.predict_next([frames[0], frames[1, :3]])) == 2
    for wrong in (0, 2, False):
        with pytest.raises(ValueError, match="ahead must be 1"):
            model.score(frames, ahead=wrong)
