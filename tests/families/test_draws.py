"""Draws have the law that they say."""

import numpy as np

from svae.families import (
    categorical,
    dirichlet,
)
from tests.helpers.families import assert_all_close, every_family, make

STATS_OPTIONS = {"diagonal": {"diagonal": True}, "categorical": {"num_states": 4}}


@every_family
def test_draws_have_the_expected_statistics(name):
    family, natparams = make(name, (2,))
    draws = family.sample(natparams, 19, 20000)
    stats = family.stats(draws, **STATS_OPTIONS.get(name, {}))
    for stat, expected in zip(stats, family.expected_stats(natparams), strict=True):
        assert stat.shape == (20000, *expected.shape)
        error = np.std(stat, axis=0) / np.sqrt(len(stat))
        assert np.all(np.abs(np.mean(stat, axis=0) - expected) < 4 * error)


@every_family
def test_draws_follow_the_seed_and_the_size(name):
    family, natparams = make(name, (2,))

    def drawn(size, rng):
        x = family.sample(natparams, rng, size)
        return x if isinstance(x, tuple) else (x,)

    single = drawn((), 20)
    assert_all_close(single, drawn((), np.random.default_rng(20)), 0.0)
    for one, many in zip(single, drawn((4, 3), 20), strict=True):
        assert many.shape == (4, 3, *one.shape)


def test_categorical_never_draws_a_forbidden_state():
    potentials = np.array([-np.inf, 0.0, -np.inf, 1e-9, -np.inf])
    states = categorical.sample((potentials,), 21, 10000)
    assert states.dtype == np.int64
    assert set(states) == {1, 3}


def test_sparse_dirichlet_draws_are_probabilities():
    """Gamma draws of alpha = 0.05/15 underflow; their logarithms do not."""
    probs = dirichlet.sample(dirichlet.from_standard(np.full(15, 0.05 / 15)), 22, 1000)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-12)
    assert np.mean(np.max(probs, axis=-1)) > 0.9
