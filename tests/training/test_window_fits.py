"""Fits with context, hidden stretches and warm starts."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import svae
from svae import data as data_
from svae.autodiff.trees import leaves
from svae.families import product
from svae.objective.batch import Noise
from svae.objective.bound import bound
from svae.objective.local import infer
from svae.testing import assert_identical, relative_error
from svae.training import step as fit_
from svae.training.batches import hidden_stretches, window_length
from svae.training.gradients import evaluate
from tests.helpers.exact import CHAINS, latent_model
from tests.helpers.problems import (
    read_windows,
)
from tests.helpers.windows import every_window, recordings, settings, typical

SMALL = svae.MLP((6,))


def make(name, **options):
    tolerance = {} if name in ("gaussian", "lds") else {"tolerance": 1e-6}
    return svae.SVAE(latent_model(name, **tolerance, **options), SMALL, SMALL)


def history(model):
    return [c for n, c in model.history_.items() if n != "seconds"]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"context": 3},
        {"hide": 2},
        {"context": 3, "hide": 2},
        {"context": 3, "hide": 3, "warm_start": True},
    ],
    ids=["context", "hide", "both", "all"],
)
@pytest.mark.parametrize("name", CHAINS)
def test_fits_with_context_and_hidden_stretches_are_finite(name, options, gaps, rng):
    sequences = recordings(rng, gaps)
    model = make(name)
    model.fit(sequences, num_steps=8, window=4, batch_size=4, rng=0, **options)
    assert all(np.all(np.isfinite(column)) for column in history(model))
    assert np.all(np.isfinite(model.transform(sequences[0])))
    again = make(name)
    again.fit(sequences, num_steps=8, window=4, batch_size=4, rng=0, **options)
    assert_identical(history(again), history(model))


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.filterwarnings("ignore:context is 5, but no sequence is longer")
def test_context_of_uncut_sequences_changes_nothing(name, rng):
    sequences = recordings(rng)
    first, second = (
        make(name).fit(sequences, num_steps=3, rng=0, context=context)
        for context in (0, 5)
    )
    assert_identical(history(second), history(first))


class Counted:
    """Data elsewhere, which notes what is read."""

    def __init__(self, values):
        self.values, self.shape, self.reads = values, values.shape, []

    def __getitem__(self, key):
        self.reads.append((key.start, key.stop))
        return self.values[key]


def test_only_windows_and_their_contexts_are_read(rng):
    frames = Counted(rng.standard_normal((1000, 3)))
    model, state = typical("lds")
    sequences = data_.as_sequences(frames)
    cut = data_.windows(sequences, 10)[[0, 7, 50]]
    read_windows(model, state.parameters, sequences, cut, rng, context=4)
    assert sorted(frames.reads) == [(0, 10), (66, 70), (69, 80), (496, 500), (499, 510)]


@pytest.mark.parametrize("size", [1, 3, 5, 20])
@pytest.mark.parametrize("ragged", [False, True])
def test_hidden_stretches_lie_inside_their_windows(size, ragged, rng):
    lengths = np.array([8, 5, 6, 1, 2, 3]) if ragged else np.full(6, 8)
    every = np.zeros((6, 8))
    for _ in range(300):
        hidden = hidden_stretches((6, 8), lengths, size, rng)
        assert hidden.shape == (6, 8)
        assert hidden.dtype == bool
        for row, length in zip(hidden, lengths, strict=True):
            count = min(size, length - 1)
            assert np.sum(row) == count
            assert not np.any(row[length:])
            steps = np.flatnonzero(row)
            assert np.all(np.diff(steps) == 1)
            if length <= size:  # all but the first
                assert_identical(steps, np.arange(1, length))
        every += hidden
    longer = lengths[0] > size
    assert np.all(every[0, :8] > 0) == longer


@pytest.mark.parametrize("size", [2, 4])
def test_with_context_it_is_frames_of_the_window_that_are_hidden(size, rng):
    """Not the frame before it, of which there are no data anyway."""
    model, state = typical("lds")
    sequences = recordings(rng)
    for _ in range(50):
        batch, cut = every_window(
            model, state, sequences, rng, context=2, hide=size, window=4
        )
        lengths = cut[:, 2] - cut[:, 1]
        hidden = ~batch.shown
        scored = hidden & batch.scored.any(axis=-1)
        assert_identical(scored.sum(axis=1), np.minimum(size, lengths - 1))
        assert_identical(hidden, scored)
        carried = (cut[:, 1] > 0).astype(int)
        short = lengths <= size
        first = np.argmax(hidden, axis=1)[short & (lengths > 1)]
        assert_identical(first, carried[short & (lengths > 1)] + 1)


@pytest.mark.parametrize("name", CHAINS)
def test_hidden_frames_are_scored_and_not_seen(name, rng):
    model, state = typical(name)
    sequences = recordings(rng)
    batch, _ = every_window(model, state, sequences, rng, hide=2)
    assert np.sum(~batch.shown) > 5
    assert_identical(batch.scored, batch.observed)
    changed = batch.values + 3.0 * ~batch.shown[..., None]
    noise = Noise(rng.standard_normal((len(changed), 1, 4, 2)), np.zeros(0))
    prior, parameters = model.latent.prior(), state.parameters
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    bounds, locals_ = [], []
    for values in (batch.values, changed):
        moved = replace(batch, values=values)
        bounds.append(bound(model, parameters, prior, moved, noise))
        locals_.append(infer(model, stats, parameters.encoder, moved))
    assert_identical(locals_[1].mean, locals_[0].mean)
    assert_identical(locals_[1].log_normalizer, locals_[0].log_normalizer)
    assert bounds[1].local_kl == bounds[0].local_kl
    assert bounds[1].reconstruction < bounds[0].reconstruction - 1.0
    # an LDS takes them for frames without data, but for the score
    if name != "hmm":
        shown = batch.shown_entries & batch.scored
        local = infer(
            model,
            stats,
            parameters.encoder,
            replace(batch, observed=shown, shown=None),
        )
        assert relative_error(local.mean, locals_[0].mean) < 1e-12


def run(name, sequences, num_steps, **options):
    """Return the last state and all records of a run."""
    model, state = typical(name)
    chosen = settings(model.latent.independent, **options)
    cut = data_.windows(sequences, window_length(model, sequences, chosen.window))
    stage = fit_.Stage(model, model.latent.prior(), cut, chosen)
    read = partial(evaluate, sequences)
    rng, kept = np.random.default_rng(0), []
    for _ in range(num_steps):
        state, record = fit_.step(stage, state, read, rng)
        kept.append((state, record))
    return kept


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("name", ["hmm", "slds"])
def test_warm_starts_remember_the_states_of_windows(name, context, rng):
    sequences = recordings(rng)
    cut = data_.windows(sequences, 4)  # 3 + 1 + 2 + 1 + 3 windows, 3 in a batch
    options = {"natural_step": 1e-3, "context": context}
    warm = run(name, sequences, 12, warm_start=True, **options)
    cold = run(name, sequences, 12, **options)
    assert [len(state.memory) for state, _ in warm[:4]] == [3, 6, 9, 10]
    assert all(not state.memory for state, _ in cold)
    memory = warm[-1][0].memory
    assert sorted(memory) == list(range(len(cut)))
    for w, (_, start, stop) in enumerate(cut):
        carried = start > 0 and context > 0
        assert memory[w].shape == (stop - start + carried, 2)
        assert np.max(np.abs(memory[w].sum(axis=1) - 1.0)) < 1e-12
    iterations = [
        np.array([record["iterations"] for _, record in kept]) for kept in (warm, cold)
    ]
    assert_identical(iterations[0][:4], iterations[1][:4])  # nothing to remember yet
    assert np.sum(iterations[0][4:]) < np.sum(iterations[1][4:])
    for _, record in warm:
        assert all(np.isfinite(value) for value in record.values())
    # the steps are small, so both find the same optimum
    last = [kept[-1][1]["objective"] for kept in (warm, cold)]
    assert last[0] == pytest.approx(last[1], rel=1e-3)


def test_warm_starts_of_models_without_states_remember_nothing(rng):
    warm = run("lds", recordings(rng), 5, warm_start=True)
    cold = run("lds", recordings(np.random.default_rng(0)), 5)
    assert not warm[-1][0].memory
    assert warm[-1][1]["objective"] == cold[-1][1]["objective"]


def test_rows_of_a_mixture_start_warm_too(rng):
    rows = [rng.standard_normal((20, 3))]
    warm, cold = make("gmm"), make("gmm")
    for model, start in ((warm, True), (cold, False)):
        model.fit(rows, num_steps=9, rng=0, warm_start=start)
    bounds = [model.history_["objective"] for model in (warm, cold)]
    assert bounds[0][0] == bounds[1][0]  # there is nothing to remember yet
    assert np.any(bounds[0] != bounds[1])
    assert relative_error(*bounds) < 1e-5


def test_a_warm_start_at_the_fixed_point_ends_at_once(rng):
    model, state = typical("slds")
    sequences = recordings(rng)
    batch, _ = every_window(model, state, sequences, rng, context=2)
    stats = product.expected_stats(model.latent.family, state.parameters.natparams)
    cold = infer(model, stats, state.parameters.encoder, batch)
    warm = infer(
        model,
        stats,
        state.parameters.encoder,
        replace(batch, starts=[np.asarray(cold.states)]),
    )
    assert np.max(warm.diagnostics.iterations) <= 2
    assert np.max(np.abs(warm.states - cold.states)) < 1e-10
    assert np.mean(cold.diagnostics.iterations) > 2


@pytest.mark.parametrize("name", ["context", "hide"])
def test_errors_name_the_argument(name, rng):
    frames = rng.standard_normal((9, 3))
    for wrong in (-1, 1.5):
        with pytest.raises(ValueError, match=name):
            make("lds").fit(frames, num_steps=1, **{name: wrong})
    for independent in ("gmm", "gaussian"):
        with pytest.raises(ValueError, match=name):
            make(independent).fit(frames, num_steps=1, **{name: 2})


@pytest.mark.parametrize(
    "lengths, window", [((1001, 30), 200), ((1000, 30), 1000)], ids=["long", "short"]
)
def test_long_sequences_are_cut_by_default(lengths, window, rng):
    frames = [rng.standard_normal((T, 2)) for T in lengths]
    fits = [
        make("lds").fit(frames, num_steps=2, batch_size=3, window=given, rng=0)
        for given in (None, window)
    ]
    assert_identical(*(leaves(fit.parameters_) for fit in fits))
