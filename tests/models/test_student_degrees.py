"""Degrees of freedom of Student-t mixtures are learned."""

import numpy as np
import pytest

import svae
from svae import SVAE, SVI, StudentMixture, data
from svae.autodiff.trees import to_vector
from svae.conjugate import extrapolate
from svae.conjugate.exact_models import Known
from svae.estimators.svi import take_step
from svae.families import gaussian, product
from svae.testing import (
    assert_close,
    relative_error,
    typical_natparams,
)
from tests.helpers.students import student_points


def medians(natparams):
    """Median (K,) of each q(nu), and the width of q(log nu)."""
    mean, cov = gaussian.to_standard(natparams["dof"])
    return np.exp(mean[:, 0]), np.sqrt(cov[:, 0, 0])


def test_no_data_leave_the_prior(rng):
    latent = StudentMixture(3, 2, dof=7.0, learn_dof=True)
    prior, q = latent.prior(), typical_natparams(latent, rng)
    median, width = medians(prior)
    assert_close([median, width], [np.full(3, 7.0), np.ones(3)], 1e-12)
    unobserved = np.zeros((5, 1, 1), bool)
    nothing = data.Windows(np.zeros((5, 1, 2)), np.ones(5, dtype=int), unobserved)
    q, record = take_step(Known(latent), q, prior, nothing, 1.0, 1.0)
    assert_close(to_vector(q), to_vector(prior), 1e-12)
    assert record["backtracks"] == 0


def test_what_few_points_say_is_not_extrapolated_out_of_the_domain(rng):
    """A width above the prior's, for ten times the data, would be none."""
    latent = StudentMixture(2, 2, learn_dof=True)
    prior, q = latent.prior(), typical_natparams(latent, rng)
    wide = gaussian.from_standard(np.full((2, 1), 1.0), np.full((2, 1, 1), 2.0))
    for dof, scale in ((q["dof"], 10.0), (wide, 1.25)):
        seen = q | {"dof": dof}
        got = extrapolate(latent.family, prior, seen, 10.0)
        want = to_vector(prior) + scale * (to_vector(seen) - to_vector(prior))
        assert relative_error(to_vector(got), want) < 1e-12
        assert product.in_domain(latent.family, got)


def test_degrees_of_freedom_are_learned(rng):
    x, labels = student_points(rng, 6000, [3.0, 50.0], 14.0)
    model = SVI(StudentMixture(2, 2, learn_dof=True)).fit(x, num_steps=60, rng=0)
    median, width = medians(model.natparams_)
    order = np.argsort(median)
    low, high = median[order]
    assert abs(np.log(low / 3.0)) < 4 * width[order][0] < 0.25
    assert 15.0 < high < 200.0
    nmi = svae.metrics.normalized_mutual_information(labels, model.predict(x))
    assert nmi > 0.9
    assert np.all(np.diff(model.history_["objective"]) > -1e-6)
    # minibatches come to the same
    stochastic = SVI(StudentMixture(2, 2, learn_dof=True)).fit(
        x, num_steps=200, batch_size=300, rng=0
    )
    assert_close(np.sort(medians(stochastic.natparams_)[0]), np.sort(median), 0.25)


def test_widths_shrink_with_the_square_root_of_the_data(rng):
    x, _ = student_points(rng, 8000, [3.0, 3.0], 0.0)
    widths = []
    for number in (500, 8000):
        model = SVI(StudentMixture(1, 2, learn_dof=True))
        widths.append(medians(model.fit(x[:number], 30, rng=0).natparams_)[1][0])
    assert 3.2 < widths[0] / widths[1] < 4.8


@pytest.mark.slow
@pytest.mark.parametrize("dof, low, high", [(3.0, 2.5, 3.8), (50.0, 15.0, 200.0)])
def test_degrees_of_freedom_are_learned_behind_a_network(dof, low, high, rng):
    """Frames of five dimensions show all of x: heavy tails are those of x."""
    x, _ = student_points(rng, 3000, [dof, dof], 0.0)
    C = np.linalg.qr(rng.standard_normal((5, 5)))[0][:2]
    frames = x @ C + 0.1 * rng.standard_normal((3000, 5))
    latent = StudentMixture(1, 2, learn_dof=True)
    model = SVAE(latent, svae.Linear(), svae.Linear(), inference="sin")
    model.fit(frames, num_steps=1000, batch_size=200, learning_rate=5e-3, rng=0)
    median, width = medians(model.parameters_.natparams)
    assert low < median[0] < high
    assert width[0] < 0.5
