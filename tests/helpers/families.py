"""Every family with parameters away from special points, and sums over a tree."""

import numpy as np
import pytest
from scipy import stats as densities

from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    mniw,
    niw,
    wishart,
)


def positive_definite(rng, *shape):
    root = rng.standard_normal(shape)
    return root @ np.swapaxes(root, -1, -2) + shape[-1] * np.eye(shape[-1])


def random_gaussian(rng, batch, dim=3):
    mean = rng.standard_normal((*batch, dim))
    return gaussian.from_standard(mean, positive_definite(rng, *batch, dim, dim))


def random_diagonal(rng, batch, dim=3):
    mean = rng.standard_normal((*batch, dim))
    return gaussian.from_standard(mean, 0.5 + rng.random((*batch, dim)))


def random_categorical(rng, batch):
    return (rng.standard_normal((*batch, 4)),)


def random_dirichlet(rng, batch):
    return dirichlet.from_standard(0.3 + 3.0 * rng.random((*batch, 4)))


def random_wishart(rng, batch, dim=3):
    dof = dim + 3.0 * rng.random(batch)
    return wishart.from_standard(positive_definite(rng, *batch, dim, dim), dof)


def random_niw(rng, batch, dim=3):
    scale, dof = random_wishart(rng, batch, dim)
    mean = rng.standard_normal((*batch, dim))
    return niw.from_standard(mean, 0.5 + rng.random(batch), scale, dof)


def random_mniw(rng, batch, dim=3, in_dim=2):
    scale, dof = random_wishart(rng, batch, dim)
    mean = rng.standard_normal((*batch, dim, in_dim))
    column_cov = positive_definite(rng, *batch, in_dim, in_dim)
    return mniw.from_standard(mean, column_cov, scale, dof)


CASES = {
    "gaussian": (gaussian, random_gaussian),
    "diagonal": (gaussian, random_diagonal),
    "categorical": (categorical, random_categorical),
    "dirichlet": (dirichlet, random_dirichlet),
    "wishart": (wishart, random_wishart),
    "niw": (niw, random_niw),
    "mniw": (mniw, random_mniw),
}


every_family = pytest.mark.parametrize("name", CASES)


every_batch = pytest.mark.parametrize("batch", [(), (2, 3)])


def make(name, batch=(), seed=0):
    family, random_natparams = CASES[name]
    return family, random_natparams(np.random.default_rng(seed), batch)


def assert_all_close(left, right, rtol):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.max(np.abs(a - b)) <= rtol * np.max(np.abs(b))


def inner(eta, stat):
    """Inner product of unbatched natural parameters with statistics of draws."""
    return sum(
        np.sum(e * s, axis=tuple(range(np.ndim(s) - np.ndim(e), np.ndim(s))))
        for e, s in zip(eta, stat, strict=True)
    )


def wishart_logpdf(precision, scale, dof):
    """SciPy's density, W(S^-1, nu)."""
    return densities.wishart(dof, np.linalg.inv(scale)).logpdf(precision)


def potentials(name, message):
    """What of a message the law of x depends on: of NIW constants their sum alone."""
    if name != "niw":
        return message
    J, h, quadratic, half_log_det = message
    return J, h, quadratic + half_log_det
