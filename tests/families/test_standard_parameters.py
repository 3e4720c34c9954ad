"""Standard parameters, batches, and the domain of natural parameters."""

import numpy as np
import pytest

from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    kl,
    mniw,
    niw,
)
from tests.helpers.families import (
    assert_all_close,
    every_batch,
    every_family,
    make,
    random_gaussian,
    random_mniw,
    random_niw,
)


@every_family
def test_batches_are_their_elements(name):
    family, natparams = make(name, (2, 3))
    other = make(name, (2, 3), seed=4)[1]
    stats = family.expected_stats(natparams)
    for index in np.ndindex(2, 3):
        element = tuple(eta[index] for eta in natparams)
        assert_all_close(
            tuple(s[index] for s in stats), family.expected_stats(element), 1e-13
        )
        alone = kl(family, element, tuple(eta[index] for eta in other))
        assert kl(family, natparams, other)[index] == pytest.approx(alone, rel=1e-12)


@every_family
@every_batch
def test_round_trip_through_standard_parameters(name, batch):
    family, natparams = make(name, batch)
    standard = family.to_standard(natparams)
    again = family.from_standard(*standard)
    if name != "categorical":  # whose potentials are known up to a constant
        assert_all_close(again, natparams, 1e-12)
    assert_all_close(family.to_standard(again), standard, 1e-12)


@pytest.mark.parametrize("name", ["wishart", "niw", "mniw"])
def test_scalar_parameters_broadcast_to_the_batch(name):
    family, natparams = make(name, (2, 3))
    *others, _ = family.to_standard(natparams)
    broadcast = family.from_standard(*others, 5.0)
    full = family.from_standard(*others, np.full((2, 3), 5.0))
    assert_all_close(broadcast, full, 0.0)


@every_family
@every_batch
def test_domain_contains_members_and_excludes_nan(name, batch):
    family, natparams = make(name, batch)
    assert family.in_domain(natparams) is True
    for i in range(len(natparams)):
        broken = [np.array(eta) for eta in natparams]
        broken[i][(*(0,) * (broken[i].ndim),)] = np.nan
        assert family.in_domain(tuple(broken)) is False


def replaced(natparams, index, value):
    return (*natparams[:index], value, *natparams[index + 1 :])


@pytest.mark.parametrize("name", ["wishart", "niw", "mniw"])
def test_domain_ends_at_dof_dim_minus_one(name):
    family, natparams = make(name)
    last = len(natparams) - 1
    inside = replaced(natparams, last, np.float64(2.0 + 1e-9))
    assert family.in_domain(inside)
    assert np.isfinite(family.log_normalizer(inside))
    # psi((nu - 2)/2) ~ -2/(nu - 2): the statistic diverges as its domain ends
    assert family.expected_stats(inside)[last] == pytest.approx(-1e9, rel=1e-6)
    assert not family.in_domain(replaced(natparams, last, np.float64(2.0)))


def test_one_bad_element_spoils_the_batch():
    second, weighted, kappa, nu = random_niw(np.random.default_rng(5), (2, 3))
    assert not niw.in_domain((second, weighted, -kappa, nu))
    one_zero = kappa.copy()
    one_zero[1, 2] = 0.0
    assert not niw.in_domain((second, weighted, one_zero, nu))
    large = weighted.copy()
    large[1, 2] *= 1e3  # S = second - weighted weighted' / kappa turns indefinite
    assert not niw.in_domain((second, large, kappa, nu))
    with pytest.raises(np.linalg.LinAlgError):
        niw.expected_stats((second, large, kappa, nu))


def test_domain_of_each_matrix_of_mniw():
    natparams = random_mniw(np.random.default_rng(6), ())
    assert not mniw.in_domain(replaced(natparams, 0, -natparams[0]))
    assert not mniw.in_domain(replaced(natparams, 2, -natparams[2]))
    assert not mniw.in_domain(replaced(natparams, 1, 1e3 * natparams[1]))


def test_domain_of_gaussian_dirichlet_categorical():
    J, h = random_gaussian(np.random.default_rng(7), (2,))
    assert not gaussian.in_domain((-J, h))
    assert not gaussian.in_domain((np.array([-1.0, 0.0]), np.zeros(2)))
    assert not gaussian.in_domain((np.array([-1.0, -np.inf]), np.zeros(2)))
    assert dirichlet.in_domain((np.array([-0.999, 3.0]),))
    assert not dirichlet.in_domain((np.array([-1.0, 3.0]),))
    assert categorical.in_domain((np.array([-np.inf, 3.0]),))
    assert not categorical.in_domain((np.array([-np.inf, -np.inf]),))
    assert not categorical.in_domain((np.array([0.0, np.inf]),))
