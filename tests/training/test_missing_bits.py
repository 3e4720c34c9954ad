"""What padding holds and what is missing changes no bit."""

from dataclasses import replace

import numpy as np
import pytest

import svae
from svae import data as data_
from svae.autodiff.trees import leaves
from svae.families import product
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound_and_gradients
from svae.testing import assert_close, assert_identical
from tests.helpers.exact import (
    CHAINS,
    NAMES,
    latent_model,
)
from tests.helpers.gaps import (
    LIKELIHOODS,
    SMALL,
    frames_and_factor,
    recordings,
    small_problem,
)

GARBAGE = (0.0, -1e60)


def filled(batch, garbage):
    return replace(batch, values=np.where(batch.observed, batch.values, garbage))


@pytest.mark.parametrize("kind", ["frames", "entries", "all"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_changes_no_bit_of_bound_and_gradients(
    name, likelihood, kind
):
    hide = {"hide": True} if name in CHAINS else {}
    for options in ({}, {"sees_mask": True} | hide):
        model, parameters, prior, batch, noise = small_problem(
            name, kind, likelihood, **options
        )
        assert not np.all(batch.observed)
        first, *others = (
            bound_and_gradients(model, parameters, prior, filled(batch, garbage), noise)
            for garbage in GARBAGE
        )
        want = leaves((first.bound, first.gradients))
        assert all(np.all(np.isfinite(leaf)) for leaf in want)
        for other in others:
            assert_identical(leaves((other.bound, other.gradients)), want)
        stats = product.expected_stats(model.latent.family, parameters.natparams)
        first, *others = (
            frames_and_factor(model, stats, parameters, filled(batch, garbage), noise)
            for garbage in GARBAGE
        )
        for other in others:
            assert_identical(other[0], first[0])
            assert_identical(other[1], first[1])


@pytest.fixture
def garbage_in_padding(monkeypatch):
    """Let `data.batch` return what it is told to where nothing was observed."""
    honest = data_.batch

    def install(garbage):
        def batch(sequences, windows):
            read = honest(sequences, windows)
            if read.observed is None:
                return read
            values = np.where(read.observed, read.values, garbage)
            return replace(read, values=values)

        monkeypatch.setattr(data_, "batch", batch)

    return install


def everything(model, sequences):
    """Call every method that takes data, and return all that they return."""
    results = [
        [tuple(posterior) for posterior in model.infer(sequences, num_samples=2)],
        model.score(sequences),
        model.score(sequences, num_importance_samples=3),
        model.score(sequences, num_importance_samples=3, theta="sample"),
        model.impute(sequences, num_samples=3, num_passes=2),
    ]
    if hasattr(model.latent, "num_states"):
        results.append(model.predict(sequences))
    if not model.latent.independent:
        results.append([tuple(f) for f in model.forecast(sequences, 2, num_samples=3)])
    return results


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_changes_no_bit_of_an_svae(
    name, likelihood, rng, garbage_in_padding
):
    sequences = recordings(rng, likelihood)
    results = []
    for garbage in GARBAGE:
        garbage_in_padding(garbage)
        model = svae.SVAE(
            latent_model(name, tolerance=1e-6)
            if name in ("hmm", "slds", "gmm")
            else latent_model(name),
            SMALL,
            SMALL,
            likelihood=likelihood,
        )
        model.fit(sequences, num_steps=2, batch_size=3, rng=0)
        history = [c for n, c in model.history_.items() if n != "seconds"]
        results.append([history, *everything(model, sequences)])
    assert all(np.all(np.isfinite(column)) for column in results[0][0])
    for other in results[1:]:
        assert_identical(other, results[0])


@pytest.mark.parametrize("name", ["gaussian", "gmm"])
def test_rows_without_data_are_as_deleted(name):
    model, parameters, prior, batch, noise = small_problem(name, "frames")
    kept = batch.observed.any(axis=(1, 2))
    assert 0 < np.sum(~kept)
    fewer = Batch(batch.values[kept], scale=batch.scale)
    want = bound_and_gradients(
        model, parameters, prior, fewer, Noise(noise.latents[kept], noise.decoder)
    )
    got = bound_and_gradients(model, parameters, prior, batch, noise)
    assert_close(got.bound, want.bound, 1e-12)
    assert_close(leaves(got.gradients), leaves(want.gradients), 1e-12)
