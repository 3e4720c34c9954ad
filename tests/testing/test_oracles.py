"""The oracles agree with one another, whatever mpmath is set to."""

import mpmath
import numpy as np
import pytest

from svae.autodiff.trees import leaves
from svae.families import product
from svae.testing import (
    assert_close,
    assert_identical,
    cotangents,
    gaussian_adjoint_oracle,
    gaussian_oracle,
    gaussian_problem,
    latent_model,
    local_problem,
    markov_marginals,
    markov_oracle,
    markov_problem,
    random_like,
    typical_natparams,
)
from svae.testing.problems import LATENT, STUDENT


@pytest.mark.parametrize("sharing", ["shared", "mixed"])
def test_sums_over_paths_are_forward_and_backward_sums(rng, sharing):
    problem = markov_problem(rng, sharing=sharing, lengths=np.array([4, 1, 3]))
    (marginals, _), sums = markov_oracle(problem), markov_marginals(problem)
    assert_close(sums, marginals, 1e-14)


def test_the_dense_adjoint_is_that_of_the_definition(rng, reference):
    problem = gaussian_problem(rng, N=2, T=3)
    outputs_bar = random_like(rng, leaves(problem[:4]))
    *bars, samples_bar = outputs_bar
    stats_bar = tuple(bars[:2]), tuple(bars[2:5]), tuple(bars[5:7])

    def outputs(J0, h0, J11, J12, J22, Jn, hn, noise):
        chain = reference.gaussian_chain((J0, h0), (J11, J12, J22), (Jn, hn), noise)
        return leaves(chain)[1:]

    got = gaussian_adjoint_oracle(problem, stats_bar, samples_bar)
    assert_close(got, cotangents(outputs, leaves(problem[:4]), outputs_bar), 1e-10)


def test_digits_are_those_of_the_oracle_and_stay_those_of_the_caller(rng):
    problem = gaussian_problem(rng)
    want = gaussian_oracle(problem)
    with mpmath.workdps(5):
        got = gaussian_oracle(problem)
        assert mpmath.mp.dps == 5
    assert_identical(got, want)


@pytest.mark.parametrize("name", [*LATENT, *STUDENT])
def test_typical_posteriors_are_in_the_domain(name, rng):
    latent = latent_model(name)
    assert np.all(product.in_domain(latent.family, typical_natparams(latent, rng)))
    message, (J, h), lengths = local_problem(latent, rng)
    assert set(message) == set(latent.family)
    assert J.shape == h.shape and (lengths is None) == latent.independent
