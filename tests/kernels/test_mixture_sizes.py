"""Mixtures of every small dimension, in tiles that they fill or have to pad."""

import numpy as np
import pytest

from svae import kernels, reference
from svae.testing import assert_close

N, K, S = 5, 3, 2


@pytest.mark.parametrize("D", range(1, 10))
def test_all_of_a_mixture(D, rng):
    J = np.broadcast_to(-np.eye(D), (K, D, D))
    components = np.concatenate([J.reshape(K, -1), rng.standard_normal((K, D))], 1)
    potentials = rng.standard_normal((N, K)), components, rng.standard_normal(K)
    node = -rng.uniform(0.1, 1, (N, D)), rng.standard_normal((N, D))
    states = rng.dirichlet(np.ones(K), N)
    for given in (states, None):
        found = kernels.mixture_evidence(components, node, None, given)
        expected = reference.mixture_evidence(components, node, None, given)
        for a, b in zip(found, expected, strict=True):
            if b is not None:
                assert_close(a, b, rtol=1e-12)

    noise = rng.standard_normal((N, S, D))
    how = noise, None, states[:, None], False, False, 1e-13, 1000
    found = kernels.mixture(potentials, None, node, *how)._asdict()
    expected = reference.mixture(potentials, None, node, *how)._asdict()
    for name in ("log_normalizer", "samples", "half_log_det"):
        assert_close(found[name], expected[name], rtol=1e-9)
