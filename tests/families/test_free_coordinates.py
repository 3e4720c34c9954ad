"""Free coordinates of messages: round trips, properness and gradients."""

import autograd.numpy as anp
import numpy as np
import pytest

from svae.families import (
    gaussian,
    mniw,
    niw,
    product,
)
from svae.families.arrays import free_root, from_free_root
from svae.testing import check_gradients
from tests.helpers.families import (
    CASES,
    assert_all_close,
    every_batch,
    make,
    positive_definite,
    potentials,
)

FREE = ("dirichlet", "niw", "mniw")


every_message = pytest.mark.parametrize("name", FREE)


def random_coordinates(name, batch, seed=3, size=1.0):
    """Coordinates that no message gave rise to, what is above diagonals included."""
    family, natparams = make(name, batch)
    like = family.to_free(family.expected_stats(natparams))
    rng = np.random.default_rng(seed)
    return tuple(size * rng.standard_normal(np.shape(part)) for part in like)


@every_message
@every_batch
def test_round_trip_of_messages_through_free_coordinates(name, batch):
    family, natparams = make(name, batch)
    message = family.expected_stats(natparams)
    coordinates = family.to_free(message)
    assert type(coordinates) is tuple
    again = family.from_free(coordinates)
    assert_all_close(potentials(name, again), potentials(name, message), 1e-12)
    assert_all_close(family.to_free(again), coordinates, 1e-11)


@every_message
@every_batch
@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_any_free_coordinates_are_a_proper_message(name, batch, size):
    """A potential with an integral: of pairs one that adds precision to x, too."""
    family, _ = make(name, batch)
    coordinates = random_coordinates(name, batch, size=size)
    message = family.from_free(coordinates)
    assert all(np.all(np.isfinite(part)) for part in message)
    if name == "niw":
        assert gaussian.in_domain(message[:2])
    if name == "mniw":
        J11, J12, J22, _ = message
        assert_all_close((J11,), (np.swapaxes(J11, -1, -2),), 1e-15)
        J12 = J12 / 2
        rows = [
            np.concatenate([J11, J12], axis=-1),
            np.concatenate([np.swapaxes(J12, -1, -2), J22], axis=-1),
        ]
        assert np.all(np.linalg.eigvalsh(-np.concatenate(rows, axis=-2)) > 0)
    roots = {"dirichlet": (), "niw": (1,), "mniw": (1, 2)}[name]
    lower = tuple(
        np.tril(part) if i in roots else part for i, part in enumerate(coordinates)
    )
    for a, b in zip(family.from_free(lower), message, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_free_coordinates_of_gaussians_are(rng):
    """Mean, root of the precision, and log of the integral: 0 of a density."""
    mean, precision = rng.standard_normal((4, 3)), positive_definite(rng, 4, 3, 3)
    got, root, log_weight = niw.to_free(niw.stats((mean, precision)))
    assert_all_close((got,), (mean,), 1e-12)
    factor = np.linalg.cholesky(precision)
    diagonal = np.diagonal(factor, axis1=-2, axis2=-1)
    np.testing.assert_allclose(np.diagonal(root, axis1=-2, axis2=-1), np.log(diagonal))
    np.testing.assert_array_equal(np.tril(root, -1), np.tril(factor, -1))
    np.testing.assert_array_equal(np.triu(root, 1), 0.0)
    assert np.max(np.abs(log_weight)) < 1e-12
    J, h, quadratic, half_log_det = message = niw.expected_stats(make("niw", (4,))[1])
    integral = gaussian.log_normalizer((J, h)) - 1.5 * np.log(2 * np.pi)
    want = integral + quadratic + half_log_det
    assert_all_close((niw.to_free(message)[2],), (want,), 1e-12)


def test_what_free_coordinates_of_dynamics_are():
    """A, the precision of x' given x, what A's uncertainty adds to that of x."""
    _, natparams = make("mniw", (4,))
    M, K, _, _ = mniw.to_standard(natparams)
    J11, J12, J22, half_log_det = message = mniw.expected_stats(natparams)
    dynamics, root, rest, log_weight = mniw.to_free(message)
    assert_all_close((dynamics,), (M,), 1e-12)
    assert_all_close((from_free_root(root)[0],), (-2 * J22,), 1e-12)
    assert_all_close((from_free_root(rest)[0],), (3 * K,), 1e-10)
    half = 0.5 * np.linalg.slogdet(-2 * J22)[1]
    assert_all_close((log_weight,), (half_log_det - half,), 1e-12)


@every_message
def test_gradients_of_free_coordinates_are_differences(name):
    family, _ = make(name, (2,))
    coordinates = random_coordinates(name, (2,))

    def message(*parts):
        return [anp.concatenate([anp.ravel(x) for x in family.from_free(parts)])]

    check_gradients(message, coordinates, np.random.default_rng(4), rtol=1e-9)


def test_messages_without_an_integral_have_no_coordinates():
    J, *rest = niw.expected_stats(make("niw")[1])
    with pytest.raises(np.linalg.LinAlgError):
        niw.to_free((-J, *rest))
    J11, J12, J22, constant = mniw.expected_stats(make("mniw")[1])
    with pytest.raises(np.linalg.LinAlgError):
        mniw.to_free((J11, J12, -J22, constant))
    with pytest.raises(np.linalg.LinAlgError):
        mniw.to_free((0.1 * J11, J12, J22, constant))
    with pytest.raises(np.linalg.LinAlgError):
        free_root(-np.eye(2))


def test_product_of_free_coordinates():
    families = {name: CASES[name][0] for name in FREE}
    message = product.expected_stats(
        families, {name: make(name, (2,))[1] for name in FREE}
    )
    coordinates = product.to_free(families, message)
    again = product.from_free(families, coordinates)
    assert set(coordinates) == set(again) == set(FREE)
    for name, family in families.items():
        assert_all_close(coordinates[name], family.to_free(message[name]), 0.0)
        got, want = potentials(name, again[name]), potentials(name, message[name])
        assert_all_close(got, want, 1e-12)
