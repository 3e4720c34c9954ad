"""Where q(theta) starts from: what is asked of a latent model."""

from dataclasses import dataclass

import numpy as np
import pytest

import svae
from svae.conjugate.initialization import density_of
from svae.data import Windows
from svae.families import product
from svae.testing import assert_identical, typical_natparams


def points(rng):
    return Windows(rng.standard_normal((3, 8, 2)), np.array([8, 5, 1]))


@dataclass(frozen=True)
class Shifted(svae.SLDS):
    """A switching system with a density of its own."""

    def log_density(self, stats, latents, lengths=None, observed=None, states=None):
        return super().log_density(stats, latents, lengths, observed, states) + 1.0


@pytest.mark.parametrize("latent", [svae.LDS(2), svae.SLDS(3, 2), svae.HMM(3, 2)])
def test_what_is_made_once_gives_the_density(latent, rng):
    known = points(rng)
    density = density_of(latent, known)
    for _ in range(2):
        natparams = typical_natparams(latent, rng)
        stats = product.expected_stats(latent.family, natparams)
        want = latent.log_density(stats, known.values, known.lengths)
        assert_identical(density(stats), want)


def test_a_subclass_is_asked_for_its_own_density(rng):
    known, latent = points(rng), Shifted(3, 2)
    natparams = typical_natparams(latent, rng)
    stats = product.expected_stats(latent.family, natparams)
    plain = density_of(svae.SLDS(3, 2), known)(stats)
    np.testing.assert_allclose(density_of(latent, known)(stats), plain + 1.0)
