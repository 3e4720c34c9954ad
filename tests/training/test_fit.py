"""The loop: batches that cover the data, scaling, and a pure step."""

from dataclasses import replace

import numpy as np
import pytest

from svae import GMM, HMM, LDS, SLDS
from svae.autodiff.trees import to_vector
from svae.data import as_sequences, windows
from svae.models import Diagnostics
from svae.objective.batch import Batch, Noise
from svae.objective.bound import Step, bound
from svae.testing import latent_model
from svae.training.batches import shuffled, window_length
from svae.training.settings import Settings
from svae.training.step import count_unconverged, initial_state
from tests.helpers.problems import generative, problem, read_windows, take_step

SETTINGS = Settings(
    batch_size=4, window=7, num_samples=1, learning_rate=1e-2, natural_step=0.1
)


def assembled(latent, sequences, settings, rng):
    """Yield the batches that a run would take its steps on."""
    model = generative(latent)
    state = initial_state(model, sequences[0].shape[1], rng)
    cut = windows(sequences, window_length(model, sequences, settings.window))
    for chosen in shuffled(len(cut), settings.batch_size, rng):
        scale = len(cut) / len(chosen)
        parameters, of_batch = state.parameters, cut[chosen]
        yield read_windows(model, parameters, sequences, of_batch, rng, scale)[0]


def test_an_epoch_of_windows_covers_every_frame_once(rng):
    sequences = [np.arange(n, dtype=float)[:, None] + 100 * n for n in (20, 7, 3)]
    source = assembled(LDS(2), sequences, SETTINGS, rng)
    seen, shares = [], 0.0
    for _ in range(2):  # 3 + 1 + 1 windows, four in a batch
        batch = next(source)
        lengths = batch.lengths
        if lengths is None:
            lengths = np.full(len(batch.values), batch.values.shape[1])
        for row, length in zip(batch.values, lengths, strict=True):
            seen.extend(row[:length, 0])
            assert np.all(row[length:] == 0)
        assert batch.lengths is None or not batch.observed.all()
        assert batch.scale == pytest.approx(5 / len(batch.values))
        shares += len(batch.values) / 5
    assert sorted(seen) == sorted(np.concatenate(sequences)[:, 0])
    assert shares == pytest.approx(1.0)


def test_an_epoch_of_rows_covers_every_row_once(rng):
    sequences = [np.arange(6.0)[:, None], np.arange(6.0, 10.0)[:, None]]
    source = assembled(GMM(3, 2), sequences, SETTINGS, rng)
    taken = [next(source) for _ in range(3)]
    assert [len(batch.values) for batch in taken] == [4, 4, 2]
    assert [batch.scale for batch in taken] == [2.5, 2.5, 5.0]
    rows = np.concatenate([batch.values[:, 0, 0] for batch in taken])
    assert sorted(rows) == list(range(10))


@pytest.mark.parametrize(("latent", "steps"), [(GMM(3, 2), 1), (LDS(2), 7)])
def test_batches_read_recordings_one_window_at_a_time(latent, steps, rng):
    class Elsewhere:
        shape, dtype, reads = (20, 2), np.dtype(np.float32), []

        def __getitem__(self, key):
            self.reads.append(key)
            return np.arange(40, dtype=self.dtype).reshape(20, 2)[key]

    source = Elsewhere()
    sequences = as_sequences(source)
    batch = next(assembled(latent, sequences, SETTINGS, rng))
    count = min(4, -(-20 // steps))
    assert [batch.values.shape[0], len(source.reads)] == [count, count]
    assert all(key.stop - key.start <= steps for key in source.reads)


@pytest.mark.parametrize("name", ["gmm", "hmm", "lds", "slds"])
def test_minibatches_estimate_the_bound_without_bias(name):
    """Averaged over an epoch with the noise of each row kept, it is the whole bound."""
    model, parameters, prior, batch, noise = problem(name)
    whole = bound(model, parameters, prior, replace(batch, scale=1.0), noise)
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        lengths = None if batch.lengths is None else batch.lengths[rows]
        half = Batch(batch.values[rows], lengths, scale=2.0)
        draws = Noise(noise.latents[rows], noise.decoder)
        halves.append(bound(model, parameters, prior, half, draws).objective)
    assert np.mean(halves) == pytest.approx(whole.objective, rel=1e-12)


LATENTS = [GMM(3, 2), HMM(3, 2), LDS(2), SLDS(3, 2)]


@pytest.mark.parametrize("latent", LATENTS, ids=lambda m: type(m).__name__.lower())
def test_a_step_is_a_pure_function(latent):
    model = generative(latent)
    state = initial_state(model, 3, np.random.default_rng(0))
    before = to_vector(tuple(state.parameters)).copy()
    steps = 1 if latent.independent else 6
    values = np.random.default_rng(1).standard_normal((4, steps, 3))
    batch = Batch(values)
    first, second = (
        take_step(
            model, state, latent.prior(), batch, SETTINGS, np.random.default_rng(2)
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(to_vector(tuple(state.parameters)), before)
    np.testing.assert_array_equal(
        to_vector(tuple(first[0].parameters)), to_vector(tuple(second[0].parameters))
    )
    assert first[0].step == 1
    assert np.any(to_vector(tuple(first[0].parameters)) != before)


@pytest.mark.parametrize("name", ["gmm", "hmm", "slds"])
def test_what_does_not_converge_is_counted(name):
    """Without a warning: inference capped at one iteration, and its gradient."""
    model, parameters, prior, batch, _ = problem(name)
    state = initial_state(model, 3, np.random.default_rng(0))
    state = state._replace(parameters=parameters)
    settings = SETTINGS._replace(num_samples=2)

    def info(latent):
        capped = model._replace(latent=latent)
        rng = np.random.default_rng(2)
        return take_step(capped, state, prior, batch, settings, rng)[1]

    free = info(latent_model(name, tolerance=1e-10))
    assert free.unconverged == 0
    assert free.iterations > 1
    assert free.gradient_iterations > 0
    capped = info(latent_model(name, tolerance=1e-10, max_iterations=1))
    assert capped.iterations == 1.0
    assert capped.unconverged == 4


def test_exact_inference_counts_nothing():
    model, parameters, prior, batch, _ = problem("lds")
    state = initial_state(model, 3, np.random.default_rng(0))
    state = state._replace(parameters=parameters)
    info = take_step(model, state, prior, batch, SETTINGS, np.random.default_rng(2))[1]
    assert (info.unconverged, info.iterations, info.gradient_iterations) == (0, 0, 0)


def test_a_gradient_solve_that_fails_is_counted():
    step_taken = Step(
        None,
        None,
        Diagnostics(np.array([3.0, 4.0, 5.0]), np.array([1e-9, 1e-2, 1e-9])),
        Diagnostics(np.array([3.0, 4.0, 5.0]), np.array([1e-10, 1e-2, 1e-3])),
        None,
    )
    model = generative(latent_model("slds", tolerance=1e-6))
    assert count_unconverged(model, step_taken) == 2


def test_a_bound_that_is_not_finite_stops_with_its_step():
    model = generative(LDS(2))
    state = initial_state(model, 3, np.random.default_rng(0))
    batch = Batch(np.full((1, 4, 3), 1e200))
    with (
        np.errstate(all="ignore"),
        pytest.raises((FloatingPointError, ValueError), match="step 0|finite"),
    ):
        take_step(
            model, state, LDS(2).prior(), batch, SETTINGS, np.random.default_rng(2)
        )
