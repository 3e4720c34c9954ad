"""The mean-field fixed point and its implicit derivative."""

import warnings

import numpy as np
import pytest
from autograd.core import make_vjp
from gradients import relative_error
from problems import central_difference, typical_natparams

from svae import GMM, ConvergenceWarning
from svae.families import product
from svae.models import gmm
from svae.models.meanfield import conjugate_gradients
from svae.trees import from_vector, leaves, rebuild, to_vector


def gmm_arguments(latent, rng, number=6):
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    shape = (number, 1, latent.latent_dim)
    node = -rng.uniform(0.1, 0.5, shape), 0.5 * rng.standard_normal(shape)
    return stats, node


def test_every_update_raises_the_surrogate(rng):
    latent = GMM(4, 2)
    stats, node = gmm_arguments(latent, rng)
    values = []
    for rounds in range(1, 15):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            capped = GMM(4, 2, tolerance=0.0, max_iterations=rounds)
            values.append(capped.infer(stats, node).log_normalizer)
    assert np.all(np.diff(values, axis=0) > -1e-12)
    assert np.any(np.diff(values, axis=0) > 1e-6)


@pytest.mark.parametrize("output", ["kl", "mean", "second_moment", "states", "samples"])
def test_implicit_gradient_equals_differences_of_the_fixed_point(output, rng):
    latent = GMM(3, 2, tolerance=1e-14)
    inputs = gmm_arguments(latent, rng)
    noise = rng.standard_normal((6, 2, 1, 2))

    def evaluate(tree):
        return getattr(latent.infer(*tree, noise), output)

    def of_leaves(boxed):
        return evaluate(rebuild(inputs, [boxed[i] for i in range(len(boxed))]))

    pull_back, value = make_vjp(of_leaves, tuple(leaves(inputs)))
    cotangent = rng.standard_normal(value.shape)
    gradients = pull_back(cotangent)
    for position, gradient in enumerate(gradients):
        direction = [np.zeros_like(leaf) for leaf in leaves(inputs)]
        draw = rng.standard_normal(gradient.shape)
        if draw.ndim == 3 and draw.shape[-1] == draw.shape[-2]:
            draw = draw + np.swapaxes(draw, -1, -2)
        direction[position] = draw
        start = to_vector(inputs)

        def along(moved, start=start):
            return np.sum(cotangent * evaluate(from_vector(inputs, start + moved)))

        want = central_difference(along, to_vector(direction))
        assert relative_error(np.sum(gradient * draw), want) < 1e-6


def test_truncated_gradient_would_be_wrong(rng):
    """One more block update, as earlier code had it, is not the derivative."""
    latent = GMM(3, 2, tolerance=1e-14)
    stats, node = gmm_arguments(latent, rng)
    arguments = gmm_potential_arguments(stats, node)
    solve = gmm.solver(1e-14, 1000)
    fixed = solve(*arguments)[0]
    cotangent = rng.standard_normal(fixed.shape)
    full = make_vjp(lambda h: solve(*arguments[:4], h)[0], node[1])[0](cotangent)
    truncated = make_vjp(
        lambda h: gmm.categorical.expected_stats(
            (gmm.potentials(fixed, *arguments[:4], h),)
        )[0],
        node[1],
    )[0](cotangent)
    assert relative_error(truncated, full) > 0.05


def gmm_potential_arguments(stats, node):
    J, h, c, log_det = stats["components"]
    bias = stats["weights"][0] + c + log_det
    return bias, J, h, *node


def test_a_point_does_not_depend_on_its_neighbours(rng):
    latent = GMM(4, 2)
    stats, node = gmm_arguments(latent, rng)
    together = latent.infer(stats, node).states
    alone = [
        latent.infer(stats, (node[0][n : n + 1], node[1][n : n + 1])).states[0]
        for n in range(len(together))
    ]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-13)


def test_unconverged_inference_warns_and_shows_its_residual(rng):
    latent = GMM(4, 2, tolerance=1e-12, max_iterations=2)
    stats, node = gmm_arguments(latent, rng)
    with pytest.warns(ConvergenceWarning, match="iteration 2"):
        local = latent.infer(stats, node)
    assert local.diagnostics.residual.max() > 1e-12
    assert local.diagnostics.iterations.max() == 2


def test_conjugate_gradients_solves_the_system(rng):
    states = rng.dirichlet(np.ones(5), size=3)
    H = np.array([np.diag(s) - np.outer(s, s) for s in states])
    root = rng.standard_normal((3, 5, 5))
    K = np.einsum("nij,nkj->nik", root, root) * 0.1
    target = rng.standard_normal((3, 5))
    got, residual = conjugate_gradients(
        lambda a: np.einsum("nij,nj->ni", H, a),
        lambda a: np.einsum("nij,nj->ni", K, a),
        target,
        states,
        tolerance=1e-12,
    )
    want = np.linalg.solve(np.eye(5) - H @ K, (H @ target[..., None]))[..., 0]
    assert relative_error(got, want) < 1e-9
    assert residual.max() <= 1e-12


def test_negative_curvature_is_reported():
    states = np.full((1, 2), 0.5)
    H = np.diag(states[0]) - np.outer(states[0], states[0])
    with pytest.warns(ConvergenceWarning, match="inexact for 1 of 1"):
        _, residual = conjugate_gradients(
            lambda a: a @ H, lambda a: 10.0 * a, np.array([[1.0, -1.0]]), states
        )
    assert residual[0] == 1.0


def test_one_component_is_exact(rng):
    """K = 1 has no alternation: x has the potentials of its component."""
    latent = GMM(1, 2)
    stats, node = gmm_arguments(latent, rng)
    local = latent.infer(stats, node)
    J, h = stats["components"][0][0], stats["components"][1][0]
    precision = -2 * (J + node[0][..., None] * np.eye(2))
    mean = np.linalg.solve(precision, (h + node[1])[..., None])[..., 0]
    assert relative_error(local.mean, mean) < 1e-12
    assert np.all(local.states == 1.0)
    assert local.diagnostics.iterations.max() == 1
