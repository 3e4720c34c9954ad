"""Paths of growing dynamics: their moments in fifty digits, and beyond all numbers."""

import mpmath
import numpy as np
import pytest

from svae import HMM, LDS, SLDS
from svae.families import product
from svae.models.inference.ancestral import Law, Transition, gaussian_path, state_path
from svae.testing import relative_error

PRIORS = {
    "lds": (LDS(2), 200),
    "slds": (SLDS(3, 2), 200),
    "affine-slds": (SLDS(3, 2, affine=True), 150),
    "wide-lds": (LDS(10), 100),
}


def growing(a, steps, paths, rng):
    """Draw the LDS of A = a I, Q = I, and return it with the true Var(x_T)."""
    latent, identity = LDS(2), np.eye(2)
    theta = {"init": (np.zeros(2), identity), "dynamics": (a * identity, identity)}
    drawn = latent.draw(
        product.stats(latent.family, theta),
        rng.random((paths, steps)),
        rng.standard_normal((paths, steps, 2)),
    )
    # 1 + a^2 + ... + a^2(T-1)
    with mpmath.workdps(50):
        square = mpmath.mpf(a) ** 2
        variance = (square**steps - 1) / (square - 1)
    return drawn, variance


@pytest.mark.parametrize(("a", "steps"), [(3.0, 20), (1.05, 500), (3.0, 300)])
def test_growing_dynamics_have_their_variance(a, steps, rng):
    paths = 2000
    drawn, variance = growing(a, steps, paths, rng)
    variance = float(variance)
    ratio = drawn.latents[:, -1].var(axis=0) / variance
    assert np.max(np.abs(ratio - 1.0)) < 4.5 * np.sqrt(2 / paths)
    assert relative_error(drawn.cov[0, -1], variance * np.eye(2)) < 1e-11
    np.testing.assert_array_equal(drawn.mean, 0.0)


def test_beyond_numbers_is_infinite_with_a_sign(rng):
    drawn, variance = growing(3.0, 700, 20, rng)
    assert variance > np.finfo(float).max
    last = drawn.latents[:, -1]
    assert np.isinf(last).all()
    # at this growth the sign is soon settled
    np.testing.assert_array_equal(np.sign(last), np.sign(drawn.latents[:, 100]))
    np.testing.assert_array_equal(drawn.mean, 0.0)
    np.testing.assert_array_equal(drawn.cov[:, -1, 0, 1], 0.0)
    assert np.isinf(drawn.cov[:, -1, [0, 1], [0, 1]]).all()
    for part in (drawn.latents, drawn.mean, drawn.cov):
        assert not np.isnan(part).any()


def test_what_left_the_range_of_numbers_comes_back(rng):
    """By dynamics that shrink it as much: the range of float64 rounds nothing."""
    up, down, steps = 2.0**8, 2.0**-8, 300
    transitions = Transition(
        np.stack([up * np.eye(2), down * np.eye(2)]),
        np.zeros((2, 2)),
        np.stack([np.zeros((2, 2)), np.eye(2)]),
    )
    first = Law(np.array([[1.5, -2.5]]), np.eye(2)[None])
    states = np.repeat([0, 0, 1], [1, steps, steps])[None]
    noise = np.zeros((1, 2 * steps + 1, 2))
    noise[:, 0] = 0.25, 0.5
    latents, mean, cov = gaussian_path(first, transitions, states, noise)
    assert np.isinf(latents[0, steps]).all()
    assert np.isinf(mean[0, steps]).all()
    np.testing.assert_array_equal(mean[0, -1], [1.5, -2.5])
    np.testing.assert_array_equal(latents[0, -1], [1.75, -2.0])
    want = 1.0 + 1.0 / (1.0 - down**2)
    assert relative_error(cov[0, -1], want * np.eye(2)) < 1e-14


def test_covariances_stay_proper_where_growth_is_taken_back(rng):
    """A direction that grew to 1e20 is mapped to 0: what is left is Q."""
    v, w = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    transitions = Transition(
        np.stack([1e10 * np.outer(v, v), np.outer(w, w)]),
        np.zeros((2, 2)),
        np.stack([np.eye(2), np.eye(2)]),
    )
    first = Law(np.zeros((1, 2)), np.eye(2)[None])
    states = np.array([[0, 0, 1]])
    _, _, cov = gaussian_path(first, transitions, states, np.zeros((1, 3, 2)))
    assert np.linalg.eigvalsh(cov[0, 1])[-1] > 1e19
    assert np.linalg.eigvalsh(cov[0, 2])[0] > 1.0 - 1e-10
    assert relative_error(cov[0, 2], np.eye(2) + np.outer(w, w)) < 1e-4


def exact_moments(theta, states, dim):
    """Mean and covariance of the last step on a path of states, in fifty digits.

    In units of a scale, returned too, that may be beyond the range of float64.
    """

    def of_state(name, state):
        location, precision = theta[name]
        if precision.ndim == 3:
            location, precision = location[state], precision[state]
        inverse = mpmath.matrix(precision.tolist()) ** -1
        return location * mpmath.mpf(1), np.array(inverse.tolist())

    mean, cov = of_state("init", states[0])
    laws = {state: of_state("dynamics", state) for state in set(states)}
    for state in states[1:]:
        A, noise = laws[state]
        mean = A[:, :dim] @ mean + A[:, dim:].sum(axis=1)
        cov = A[:, :dim] @ cov @ A[:, :dim].T + noise
    scale = np.max(np.abs(cov))
    mean = (mean / mpmath.sqrt(scale)).astype(float)
    return mean, (cov / scale).astype(float), scale


@pytest.mark.parametrize("name", PRIORS)
def test_draws_of_the_prior_have_their_moments(name, rng):
    """The dynamics of most thetas of a prior grow, some by hundreds of digits."""
    latent, steps = PRIORS[name]
    number, dim = 4 if name == "wide-lds" else 12, latent.latent_dim
    thetas = product.sample(latent.family, latent.prior(), rng, number)
    drawn = latent.draw(
        product.stats(latent.family, thetas),
        rng.random((number, steps)),
        rng.standard_normal((number, steps, dim)),
    )
    states = np.zeros((number, steps), int) if drawn.states is None else drawn.states
    largest = 0.0
    for path in range(number):
        theta = {
            part: tuple(x[path] for x in thetas[part]) for part in ("init", "dynamics")
        }
        with mpmath.workdps(50):
            mean, cov, scale = exact_moments(theta, states[path], dim)
        largest = max(largest, scale)
        if scale > np.finfo(float).max:
            assert np.isinf(drawn.cov[path, -1]).any()
            continue
        assert relative_error(drawn.cov[path, -1] / float(scale), cov) < 1e-8
        root = float(mpmath.sqrt(scale))
        assert np.max(np.abs(drawn.mean[path, -1] / root - mean)) < 1e-8
        # six standard deviations of each coordinate
        deviation = np.abs(drawn.latents[path, -1] - drawn.mean[path, -1])
        variances = np.diagonal(drawn.cov[path, -1])
        assert np.all(deviation < 6 * np.sqrt(variances))
    assert largest > 1e40


@pytest.mark.parametrize("name", PRIORS)
def test_no_draw_of_a_prior_fails(name, rng):
    latent, steps = PRIORS[name]
    number = 200
    thetas = product.sample(latent.family, latent.prior(), rng, number)
    drawn = latent.draw(
        product.stats(latent.family, thetas),
        rng.random((number, steps)),
        rng.standard_normal((number, steps, latent.latent_dim)),
    )
    for part in (drawn.latents, drawn.mean, drawn.cov):
        assert not np.isnan(part).any()
    # scaled by the law of its step each path is a standard normal draw
    whitened = []
    for path in range(number):
        for step in (2, 5, 20):
            cov = drawn.cov[path, step]
            if np.isfinite(cov).all() and np.linalg.cond(cov) < 1e12:
                root = np.linalg.cholesky(cov)
                error = drawn.latents[path, step] - drawn.mean[path, step]
                whitened.append(np.linalg.solve(root, error))
    whitened = np.concatenate(whitened)
    assert len(whitened) > 100
    assert abs(whitened.mean()) < 6 / np.sqrt(len(whitened))
    assert abs(whitened.var() - 1.0) < 6 * np.sqrt(2 / len(whitened))


def test_every_path_draws_what_it_draws_alone(rng):
    latent = SLDS(3, 2)
    thetas = product.sample(latent.family, latent.prior(), rng, 5)
    stats = product.stats(latent.family, thetas)
    uniforms, noise = rng.random((5, 80)), rng.standard_normal((5, 80, 2))
    together = latent.draw(stats, uniforms, noise)
    for path in range(5):
        one = slice(path, path + 1)
        own = {name: tuple(x[one] for x in factor) for name, factor in stats.items()}
        for whole, alone in zip(
            together, latent.draw(own, uniforms[one], noise[one]), strict=True
        ):
            np.testing.assert_array_equal(whole[one], alone)


def test_paths_of_states_avoid_what_is_impossible():
    init = np.log([1.0, 1.0, 1e-300])
    with np.errstate(divide="ignore"):
        pair = np.log(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]]))
    uniforms = np.array([[0.0, 0.0, 0.5], [0.75, 1.0 - 2.0**-53, 0.0]])
    states = state_path(init, pair, uniforms)
    np.testing.assert_array_equal(states, [[0, 1, 2], [1, 2, 0]])
    assert states.dtype == np.int64


def test_gaussians_far_from_zero_keep_their_covariance(rng):
    """A mean of 1e9 standard deviations: second moments would have lost them."""
    latent = HMM(2, 2)
    theta = {
        "weights": np.array([0.5, 0.5]),
        "transitions": np.full((2, 2), 0.5),
        "components": (
            np.array([[1e6, -1e6], [3e6, 1e6]]),
            1e6 * np.stack([np.eye(2)] * 2),
        ),
    }
    drawn = latent.draw(
        product.stats(latent.family, theta),
        rng.random((4000, 2)),
        rng.standard_normal((4000, 2, 2)),
    )
    assert (
        relative_error(drawn.cov, np.broadcast_to(1e-6 * np.eye(2), drawn.cov.shape))
        < 1e-9
    )
    spread = (drawn.latents - drawn.mean).var(axis=(0, 1))
    assert np.max(np.abs(spread / 1e-6 - 1)) < 4.5 * np.sqrt(2 / 8000)
