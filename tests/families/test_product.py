"""Products of families: sums of their factors, and natural gradients."""

import numpy as np
import pytest
from autograd import grad
from autograd.builtins import tuple as box_tuple
from autograd.core import make_vjp

from svae.families import (
    dirichlet,
    kl,
    niw,
    product,
)
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
