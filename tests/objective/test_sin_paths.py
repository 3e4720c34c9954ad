"""Structured inference networks: paths, reconstructions and imputations."""

import itertools

import numpy as np
import pytest

import svae
from svae import LDS
from svae.objective.batch import Batch
from svae.queries import forecasts as generate
from svae.testing import (
    assert_identical,
)
from tests.helpers.exact import (
    estimator,
    with_gaps,
)
from tests.helpers.inference_networks import (
    LINEAR,
    SMALL,
    known_world,
    laws_of_batch,
    network,
)
from tests.helpers.problems import (
    problem,
)


def test_a_path_is_the_most_likely_one_in_q(rng):
    model, parameters, *_ = problem("sin-hmm")
    fitted = estimator(model, parameters)
    frames = [2 * rng.standard_normal((T, 3)) for T in (5, 1, 4)]
    for path, sequence in zip(fitted.predict(frames), frames, strict=True):
        batch = Batch(sequence[None])
        (law,) = laws_of_batch(model, parameters, batch)
        assert_identical(path, np.array(law.best_path))


def test_reconstructions_sum_over_the_states(rng):
    """Expected mean and squared error: of a linear decoder known, but for the noise."""
    this = known_world("hmm")
    frames = with_gaps(rng, (4, 3), "entries")
    batch = Batch(np.nan_to_num(frames)[None], None, ~np.isnan(frames)[None])
    (law,) = laws_of_batch(this.model, this.parameters, batch)
    got = this.fitted().reconstruct(frames, num_samples=20_000)
    matrix, offset = this.parameters.decoder["location"]
    assert np.max(np.abs(got.mean - (law.mean @ matrix + offset))) < 0.03
    for t, (mean, second) in enumerate(zip(law.mean, law.second_moment, strict=True)):
        cov = matrix.T @ (second - np.outer(mean, mean)) @ matrix
        squares = (frames[t] - mean @ matrix - offset) ** 2 + np.diag(cov)
        want = np.sum(squares[~np.isnan(frames[t])])
        assert abs(got.squared_error[t] - want) < 0.05 * want


@pytest.mark.parametrize("name", LINEAR)
def test_an_imputation_is_the_expectation_over_states_and_x(name, rng):
    this = known_world(name)
    frames = with_gaps(rng, (4, 3), "entries")
    batch = Batch(np.nan_to_num(frames)[None], None, ~np.isnan(frames)[None])
    if this.model.latent.independent:
        rows, observed = (
            np.swapaxes(part, 0, 1) for part in (batch.values, batch.observed)
        )
        batch = Batch(rows, None, observed)
    laws = laws_of_batch(this.model, this.parameters, batch)
    mean = np.concatenate([law.mean for law in laws])
    matrix, offset = this.parameters.decoder["location"]
    want = np.where(np.isnan(frames), mean @ matrix + offset, frames)
    got = this.fitted().impute(frames, num_samples=20_000)
    assert_identical(got[~np.isnan(frames)], frames[~np.isnan(frames)])
    assert np.max(np.abs(got - want)) < 0.03


@pytest.mark.parametrize("name", ["gmm", "hmm", "lds"])
def test_every_copy_and_pass_of_an_imputation_has_noise_of_its_own(
    name, rng, monkeypatch
):
    """Published code draws the noise of all copies from one seed."""
    drawn = []
    honest = generate.infer

    def spy(model, stats, encoder, batch, noise=None, **options):
        drawn.append((noise, options["uniforms"], batch.values))
        return honest(model, stats, encoder, batch, noise, **options)

    monkeypatch.setattr(generate, "infer", spy)
    frames = with_gaps(rng, (5, 3), "entries")
    this = known_world(name)
    this.fitted().impute(frames, num_samples=4, num_passes=3)
    assert len(drawn) == 3
    noise = np.concatenate([part.ravel() for part, _, _ in drawn])
    assert len(np.unique(noise)) == noise.size == 3 * 4 * 5 * 2
    uniforms = np.concatenate([part.ravel() for _, part, _ in drawn[:2]])
    assert len(np.unique(uniforms)) == uniforms.size
    assert drawn[2][1] is None  # the last pass averages, with weights
    # what the encoder gets changes from pass to pass, where it was missing alone
    seen = ~np.isnan(frames).reshape(drawn[0][2].shape)
    for (_, _, before), (_, _, after) in itertools.pairwise(drawn):
        assert_identical(before[seen], after[seen])
        assert np.all(before[~seen] != after[~seen])


def test_wrong_words_are_refused(rng):
    frames = rng.standard_normal((6, 3))
    with pytest.raises(ValueError, match="inference must be one of .*'san'"):
        svae.SVAE(LDS(2), SMALL, SMALL, inference="san").fit(frames, num_steps=1)
    for latent in (svae.SLDS(2, 2), svae.Gaussian(2)):
        with pytest.raises(ValueError, match=f"'sin': {type(latent).__name__} has no"):
            svae.SVAE(latent, SMALL, SMALL, inference="sin").fit(frames, num_steps=1)
    for name in ("hmm", "lds"):
        with pytest.raises(ValueError, match="warm_start"):
            network(name).fit(frames, num_steps=1, warm_start=True)
