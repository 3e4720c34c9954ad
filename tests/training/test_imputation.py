"""Imputed values: only of what is missing, and exact where they can be."""

import numpy as np
import pytest

import svae
from svae.testing import assert_identical
from tests.helpers.exact import (
    NAMES,
    Fixed,
    given_paths,
    quadrature,
    world,
)
from tests.helpers.gaps import (
    make,
    with_gaps_everywhere,
)


def test_data_without_any_value_is_refused():
    with pytest.raises(ValueError, match="observed"):
        make("lds").fit(np.full((5, 3), np.nan), num_steps=1)


@pytest.mark.filterwarnings("ignore:data. column 1 is never observed")
def test_a_dimension_that_was_never_observed_is_filled_with_zero(rng):
    frames = rng.standard_normal((9, 3))
    frames[:, 1] = np.nan
    model = make("lds").fit(frames, num_steps=2, rng=0)
    assert model.fill_[1] == 0.0
    assert model.sees_mask_
    assert np.all(np.isfinite(model.impute(frames)))


@pytest.mark.parametrize("name", NAMES)
def test_imputed_are_only_missing_entries(name, rng):
    sequences = with_gaps_everywhere(rng, "entries")
    model = make(name).fit(sequences, num_steps=2, rng=0)
    before = [sequence.copy() for sequence in sequences]
    for passes in (1, 3):
        completed = model.impute(sequences, num_samples=3, num_passes=passes)
        for got, given, kept in zip(completed, sequences, before, strict=True):
            seen = ~np.isnan(given)
            assert_identical(got[seen], given[seen])
            assert np.all(np.isfinite(got))
            assert np.array_equal(given, kept, equal_nan=True)
        again = model.impute(sequences, num_samples=3, num_passes=passes)
        assert_identical(again, completed)
        other = model.impute(sequences, num_samples=3, num_passes=passes, rng=1)
        assert np.any(other[0] != completed[0])
    assert np.any(completed[0] != model.impute(sequences, num_samples=3)[0])
    complete = rng.standard_normal((6, 3))
    same = model.impute(complete)
    assert_identical(same, complete)
    assert same is not complete
    assert not np.shares_memory(same, complete)


@pytest.mark.parametrize("name", ["gaussian", "lds"])
def test_imputed_frames_are_the_exact_conditional_mean(name):
    this = world(name)
    frames = np.random.default_rng(7).standard_normal((5, 3))
    frames[[0, 2]] = np.nan  # frames at the end are drawn as forecasts are
    independent = this.latent.independent
    noise = quadrature(5, 1, 2) if independent else quadrature(1, 5, 2)
    completed = svae.queries.forecasts.impute(
        this.model, this.parameters, frames, noise.shape[1], 1, Fixed(noise)
    )
    ((_, given),) = given_paths(this.theta, this.parameters.decoder, frames)
    matrix, offset = this.parameters.decoder["location"]
    want = np.where(np.isnan(frames), given.mean @ matrix + offset, frames)
    assert np.max(np.abs(completed - want)) < 1e-6  # of theta, which is not a point
    observed = ~np.isnan(frames)
    assert_identical(completed[observed], frames[observed])


def test_imputed_entries_get_closer_with_passes():
    """Passes through the encoder repair what the fill put into its input."""
    this = world("lds")
    rng = np.random.default_rng(8)
    frames = 3.0 * rng.standard_normal((6, 3))
    frames[2, 0] = frames[4, 1] = np.nan
    ((_, given),) = given_paths(this.theta, this.parameters.decoder, frames)
    matrix, offset = this.parameters.decoder["location"]
    want = (given.mean @ matrix + offset)[np.isnan(frames)]
    errors = []
    for passes in (1, 40):
        completed = svae.queries.forecasts.impute(
            this.model, this.parameters, frames, 2000, passes, rng
        )
        errors.append(np.max(np.abs(completed[np.isnan(frames)] - want)))
    assert errors[1] < errors[0]
