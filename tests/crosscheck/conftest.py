"""Small cases whose truth is the textbook's, good to a dozen digits."""

import numpy as np
import pytest

from svae.crosscheck.cases import Case, Certified, write
from svae.crosscheck.museum import textbook


def made(name, kind, inputs, **sizes):
    """Return a case of which the textbook knows the answers."""
    answers = getattr(textbook, kind)(inputs)
    expected, quantities = {}, {}
    for quantity, x in answers.items():
        x = np.asarray(x, float)
        scale = np.max(np.abs(x), initial=0.0)
        radius = np.full(x.shape, 1e-13 * scale)
        expected[quantity] = Certified(x, np.zeros(x.shape), radius)
        quantities[quantity] = {"shape": list(x.shape), "condition": 10.0}
    return Case(name, kind, sizes, inputs, expected, quantities, origin="made here")


@pytest.fixture
def lds_case(rng):
    """Two sequences of a linear system with gaps, inputs and dense noise."""
    N, T, D, P = 2, 6, 2, 3
    root = rng.standard_normal((P, P))
    y = rng.standard_normal((N, T, P))
    y[0, 2, 1] = y[1, 3] = np.nan
    inputs = {
        "standard.A": 0.5 * rng.standard_normal((D, D)),
        "standard.B": rng.standard_normal((D, 1)),
        "standard.Q": np.eye(D) + 0.2,
        "standard.C": rng.standard_normal((P, D)),
        "standard.R": root @ root.T + np.eye(P),
        "standard.m0": np.array([1.0, -2.0]),
        "standard.P0": np.eye(D) + 0.1,
        "standard.y": y,
        "standard.u": rng.standard_normal((N, T, 1)),
    }
    return made("lds-made", "lds", inputs, N=N, T=T, D=D, P=P)


@pytest.fixture
def hmm_case(rng):
    """Three sequences of three states, one of them shorter."""
    N, T, K = 3, 6, 3
    inputs = {
        "standard.start": rng.dirichlet(np.ones(K)),
        "standard.transition": rng.dirichlet(np.ones(K), K),
        "standard.log_likelihoods": 2.0 * rng.standard_normal((N, T, K)),
        "standard.lengths": np.array([6, 4, 6]),
    }
    return made("hmm-made", "hmm", inputs, N=N, T=T, K=K)


@pytest.fixture
def folder_of_cases(tmp_path, lds_case, hmm_case):
    """A folder with both cases, as `svae crosscheck export` writes it."""
    folder = tmp_path / "cases"
    for case in (lds_case, hmm_case):
        write(case, folder / case.name)
    return folder


@pytest.fixture
def truth():
    """Return the right answers to a case, rounded."""
    return lambda case: {name: x.hi.copy() for name, x in case.expected.items()}
