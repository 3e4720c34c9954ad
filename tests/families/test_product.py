"""Products of families: sums of their factors, and natural gradients."""

import numpy as np
import pytest
from autograd import grad
from autograd.builtins import tuple as box_tuple
from autograd.core import make_vjp

from svae.autodiff.trees import tree_map
from svae.families import (
    dirichlet,
    kl,
    niw,
    product,
)
from svae.families.product import natural_step
from tests.helpers.families import assert_all_close, random_dirichlet, random_niw

FAMILY = {"weights": dirichlet, "components": niw}


def random_product(seed):
    rng = np.random.default_rng(seed)
    return {"weights": random_dirichlet(rng, ()), "components": random_niw(rng, (4,))}


def test_product_adds_its_factors():
    q, p = random_product(23), random_product(24)
    total = kl(dirichlet, q["weights"], p["weights"])
    total += np.sum(kl(niw, q["components"], p["components"]))
    assert product.kl(FAMILY, q, p) == pytest.approx(total, rel=1e-13)
    gradient = grad(lambda eta: product.log_normalizer(FAMILY, eta))(q)
    stats = product.expected_stats(FAMILY, q)
    for name in FAMILY:
        assert_all_close(stats[name], gradient[name], 1e-10)
    draws = product.sample(FAMILY, q, 25, 2)
    assert draws["weights"].shape == (2, 4)
    assert draws["components"][0].shape == (2, 4, 3)


def test_natural_gradient_of_the_kl_is_the_difference():
    """In the expected statistics, the gradient of KL(q || p) is eta_q - eta_p."""
    q, p = random_product(26), random_product(27)
    gradient = grad(lambda eta: product.kl(FAMILY, eta, p))(q)
    vjp, _ = make_vjp(lambda eta: box_tuple(niw.expected_stats(eta)), q["components"])
    pairs = zip(q["components"], p["components"], strict=True)
    assert_all_close(
        vjp(tuple(eta_q - eta_p for eta_q, eta_p in pairs)),
        gradient["components"],
        1e-9,
    )


def test_product_domain_and_empty_product():
    q = random_product(28)
    assert product.in_domain(FAMILY, q)
    assert not product.in_domain(FAMILY, {**q, "weights": (-2.0 * np.ones(4),)})
    assert product.expected_stats({}, {}) == {}
    assert product.sample({}, {}, 0) == {}
    assert product.kl({}, {}, {}) == product.log_normalizer({}, {}) == 0.0
    assert product.in_domain({}, {})


def leaving(q, member, speed=12.0):
    """A direction along which one component leaves its domain, and all else moves."""
    direction = {"weights": (np.ones(4),), "components": tuple(0.1 * eta for eta in q)}
    direction["components"][3][member] = -speed * q[3][member]
    return direction


def test_only_the_member_that_leaves_its_domain_is_halved():
    q = random_product(29)
    direction = leaving(q["components"], 2)
    moved, backtracks = product.proper_step(FAMILY, q, direction, 1.0)
    together, as_many = natural_step(
        q, direction, 1.0, lambda tree: product.in_domain(FAMILY, tree)
    )
    assert product.in_domain(FAMILY, moved)
    assert backtracks == as_many > 3
    np.testing.assert_array_equal(moved["weights"][0], q["weights"][0] + 1.0)
    pairs = zip(moved["components"], together["components"], strict=True)
    for (new, of_all), old in zip(pairs, q["components"], strict=True):
        np.testing.assert_array_equal(new[2], of_all[2])
        others = [0, 1, 3]
        np.testing.assert_allclose(new[others], 1.1 * old[others], rtol=1e-15)
        assert np.all(new[others] != of_all[others])


def test_a_step_within_the_domain_is_that_of_all_together_bit_for_bit():
    q, toward = random_product(30), random_product(31)
    direction = tree_map(np.subtract, toward, q)
    moved, backtracks = product.proper_step(FAMILY, q, direction, 0.3)
    together, _ = natural_step(q, direction, 0.3, lambda tree: True)
    assert backtracks == 0
    for name in FAMILY:
        for new, old in zip(moved[name], together[name], strict=True):
            np.testing.assert_array_equal(new, old)
    assert product.proper_step({}, {}, {}, 0.3) == ({}, 0)


def test_all_members_are_halved_together_until_a_step_is_accepted():
    q = random_product(32)
    direction = leaving(q["components"], 1)
    valid, alone = product.proper_step(FAMILY, q, direction, 1.0)

    def accepted(tree):
        return tree["weights"][0][0] < q["weights"][0][0] + 0.3

    moved, backtracks = product.proper_step(FAMILY, q, direction, 1.0, accepted)
    assert backtracks == alone + 2
    steps = tree_map(np.subtract, moved, q), tree_map(np.subtract, valid, q)
    for name in FAMILY:
        for short, whole in zip(steps[0][name], steps[1][name], strict=True):
            np.testing.assert_allclose(short, whole / 4, rtol=1e-8, atol=1e-12)


def test_a_direction_that_is_not_finite_names_the_member():
    q = random_product(33)
    direction = leaving(q["components"], 3, np.nan)
    with pytest.raises(FloatingPointError, match="components 3: .* stays in the dom"):
        product.proper_step(FAMILY, q, direction, 1.0)
