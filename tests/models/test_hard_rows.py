"""Rows that are impossible, certain, saddles or not finite are named or solved."""

import warnings

import numpy as np
import pytest

from svae import (
    GMM,
    ConvergenceWarning,
    NotPositiveDefinite,
    kernels,
)
from svae.autodiff.vjp import trace
from svae.errors import Impossible
from svae.families import product
from svae.models.evidence import Evidence
from svae.testing import (
    latent_model,
    typical_natparams,
    typical_theta,
)
from tests.helpers.mixture_rows import (
    assert_same_gradients,
    assert_same_local,
    by_definition,
    every_mixture,
    problem,
)


@every_mixture
def test_states_that_are_impossible_or_certain(name, rng):
    latent = latent_model(name, tolerance=1e-11)
    theta = typical_theta(latent, rng, precision=400.0, spread=8.0)
    theta["weights"] = np.array([0.4, 0.0, 0.6])
    stats = product.stats(latent.family, theta)
    if "dof" in stats:  # a variance of 0 has no gradient
        square, mean = stats["dof"]
        stats["dof"] = square + 0.1, mean
    _, (J, h), noise = problem(latent, rng, number=60)
    J, h = 20 * J, 60 * h
    local = latent.infer(stats, Evidence(J, h), noise)
    assert np.all(local.states[..., 1] == 0)
    assert np.any(local.states > 1 - 1e-12)
    want = by_definition(latent, stats, (J, h), noise)
    assert_same_local(
        local._replace(diagnostics=None), want._replace(diagnostics=None), 1e-8
    )
    finite = dict(stats, weights=(np.array([-1.0, -700.0, -0.5]),))
    assert_same_gradients(latent, finite, (J, h), noise, rng, tolerance=1e-6)


def test_no_state_is_possible():
    latent = latent_model("gmm")
    stats, node, _ = problem(latent, np.random.default_rng(0))
    stats["weights"] = (np.full(3, -np.inf),)
    with pytest.raises(Impossible) as caught:
        latent.infer(stats, Evidence(*node))
    assert (caught.value.sequence, caught.value.step) == (0, 0)


@pytest.mark.parametrize("number", [4, 11])
def test_an_improper_row_is_named(number, rng):
    latent = latent_model("gmm")
    stats, (J, h), _ = problem(latent, rng, number=number)
    J[number - 1] = 1e3
    with pytest.raises(NotPositiveDefinite) as caught:
        latent.infer(stats, Evidence(J, h))
    assert (caught.value.sequence, caught.value.step) == (number - 1, 0)


@pytest.mark.parametrize(
    ("name", "index"), [("node J", (2, 0, 1)), ("node h", (1, 0, 0))]
)
def test_what_is_not_finite_is_named(name, index, rng):
    latent = latent_model("gmm")
    stats, node, _ = problem(latent, rng)
    node[name == "node h"][index] = np.nan
    with pytest.raises(ValueError, match=name):
        latent.infer(stats, Evidence(*node))


def test_a_saddle_is_reported():
    """Between two components x may stay, where the surrogate is no maximum."""
    latent = GMM(2, 1, tolerance=1e-12)
    theta = {
        "weights": np.array([0.5, 0.5]),
        "components": (np.array([[-2.0], [2.0]]), np.full((2, 1, 1), 4.0)),
    }
    stats = product.stats(latent.family, theta)
    node = np.full((1, 1, 1), -0.01), np.zeros((1, 1, 1))

    def infer(h):
        starts = [np.full((1, 1, 2), 0.5)]
        return latent.infer(stats, Evidence(node[0], h), starts=starts)

    np.testing.assert_allclose(infer(node[1]).states, 0.5)
    pull_back, _ = trace(lambda h: (infer(h).mean,), [node[1]])
    with pytest.warns(ConvergenceWarning, match="inexact for 1 of 1"):
        (diagnostics,) = pull_back(np.ones((1, 1, 1))).diagnostics
    np.testing.assert_array_equal(diagnostics, [[0.0], [1.0]])


@every_mixture
def test_unconverged_rows_show(name, rng):
    latent = latent_model(name, max_iterations=2)
    stats, node, _ = problem(latent, rng)
    with pytest.warns(ConvergenceWarning, match="iteration 2"):
        local = latent.infer(stats, Evidence(*node))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        want = by_definition(latent, stats, node)
    assert_same_local(local, want, 1e-10)


def test_many_components_of_many_dimensions(rng):
    latent = GMM(40, 12)
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    node = -rng.uniform(0.1, 0.5, (9, 1, 12)), rng.standard_normal((9, 1, 12))
    got = latent.infer(stats, Evidence(*node))
    assert_same_local(
        got._replace(diagnostics=None),
        by_definition(latent, stats, node)._replace(diagnostics=None),
        1e-9,
    )


def test_the_core_refuses_what_it_cannot_read():
    ones = np.ones((3, 2))
    potentials = np.ones((3, 4)), np.ones((4, 5)), np.ones(4)
    with pytest.raises(ValueError, match="components has shape"):
        kernels.mixture(
            (potentials[0], potentials[1], potentials[2]),
            None,
            (-ones, ones),
            None,
            None,
            None,
            True,
            False,
            1e-6,
            10,
        )
