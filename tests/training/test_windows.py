"""Windows that know what came before them, hidden stretches, and warm starts."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import svae
from svae import data as data_
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.families import product
from svae.models import belief_after
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer
from svae.testing import assert_identical, relative_error
from svae.training import step as fit_
from svae.training.batches import context_belief, hidden_stretches, window_length
from svae.training.step import make_settings
from svae.training.workers import evaluate
from tests.helpers.exact import CHAINS, latent_model, log_evidence, quadrature, world
from tests.helpers.problems import (
    central_difference,
    generative,
    read_windows,
    shifted,
    symmetric_basis,
)

SMALL = svae.MLP((6,))


def settings(independent=False, **options):
    defaults = {
        "batch_size": 3,
        "window": 4,
        "num_samples": 1,
        "learning_rate": 1e-3,
        "natural_step": 0.1,
    }
    return make_settings(independent, **(defaults | options))


def state_of(parameters, memory=None):
    return fit_.first_state(parameters)._replace(memory=memory or {})


def typical(name, **options):
    """Return a model between nonlinear networks, and its initial state."""
    latent = latent_model(name, **options)
    model = generative(latent)
    return model, fit_.initial_state(model, 3, np.random.default_rng(3))


def recordings(rng, gaps=False):
    sequences = [rng.standard_normal((n, 3)) for n in (11, 4, 6, 1, 9)]
    if gaps:
        sequences[0][[0, 3, 7]] = np.nan  # two of them just before a window
        sequences[2][4, 1] = np.nan
        sequences[4][3:5] = np.nan
    return sequences


def whole(model, parameters, sequences):
    """Run inference in whole sequences."""
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    cut = data_.windows(sequences, max(map(len, sequences)))
    batch = Batch.of(data_.batch(sequences, cut))
    return infer(model, stats, parameters.encoder, batch, dense=True)


def every_window(model, state, sequences, rng, **options):
    """Assemble all windows as one batch; return it with their cuts."""
    chosen = settings(**options)
    windows = data_.windows(sequences, chosen.window)
    batch, unconverged = read_windows(
        model,
        state.parameters,
        sequences,
        windows,
        rng,
        context=chosen.context,
        hide=chosen.hide,
    )
    assert unconverged == 0
    return batch, windows


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("window", [1, 4])
def test_windows_with_all_of_the_past_make_the_whole_of_an_lds(
    window, gaps, affine, rng
):
    model, state = typical("lds", affine=affine)
    sequences = recordings(rng, gaps)
    batch, cut = every_window(model, state, sequences, rng, window=window, context=100)
    stats = product.expected_stats(model.latent.family, state.parameters.natparams)
    local = infer(model, stats, state.parameters.encoder, batch)
    got = np.bincount(cut[:, 0], local.log_normalizer)
    want = whole(model, state.parameters, sequences).log_normalizer
    assert relative_error(got, want) < 1e-10
    assert batch.scale == 1.0


def test_windows_without_context_start_anew(rng):
    model, state = typical("lds")
    sequences = recordings(rng)
    batch, cut = every_window(model, state, sequences, rng)
    assert batch.belief is None
    pieces = [sequences[n][a:b] for n, a, b in cut]
    stats = product.expected_stats(model.latent.family, state.parameters.natparams)
    got = infer(model, stats, state.parameters.encoder, batch).log_normalizer
    want = whole(model, state.parameters, pieces).log_normalizer
    assert relative_error(got, want) < 1e-12


def evidence_of_windows(this, sequences, rng, **options):
    """Bounds of all windows for known theta and exact potentials, by quadrature."""
    state = state_of(this.parameters)
    batch, cut = every_window(this.model, state, sequences, rng, **options)
    noise = quadrature(*batch.values.shape[:2], 2)
    prior = this.parameters.natparams  # so that the divergence of theta is zero
    total = bound(this.model, this.parameters, prior, batch, Noise(noise, np.zeros(0)))
    assert total.global_kl == pytest.approx(0.0, abs=1e-6)
    return total.objective


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("context", [1, 100])
def test_windows_predict_the_exact_evidence_of_an_lds(context, gaps, rng):
    """Log p(y) is the sum of log p(window | its past); short contexts forget."""
    this = world("lds")
    sequences = recordings(rng, gaps)
    sequences[2] = np.where(np.isnan(sequences[2]), 0.3, sequences[2])
    got = evidence_of_windows(this, sequences, rng, context=context)
    decoder = this.parameters.decoder
    want = sum(log_evidence(this.theta, decoder, frames) for frames in sequences)
    if context == 100:
        assert abs(got - want) < 1e-5  # theta is not quite a point
    else:
        assert abs(got - want) > 0.1


def test_windows_predict_the_exact_evidence_of_an_hmm(rng):
    """With components far apart mean field is exact; gaps leave states open."""
    this = world("hmm", spread=40.0)
    matrix, offset = this.parameters.decoder["location"]
    sequences = []
    for length in (9, 4, 6):
        states = rng.integers(0, 2, length)
        centers = this.theta["components"][0][states]
        frames = centers @ matrix + offset + rng.standard_normal((length, 3))
        sequences.append(frames)
    sequences[0][[2, 3, 7]] = np.nan  # the window from 4 begins with an open state
    sequences[2][[3, 4]] = np.nan
    decoder = this.parameters.decoder
    want = sum(log_evidence(this.theta, decoder, frames) for frames in sequences)
    got = evidence_of_windows(this, sequences, rng, context=100)
    assert relative_error(got, want) < 1e-6
    anew = evidence_of_windows(this, sequences, rng)
    assert abs(anew - want) > 0.1


@pytest.mark.parametrize("name", CHAINS)
def test_a_belief_is_what_the_context_alone_says_of_its_last_frame(name, rng):
    model, state = typical(name)
    sequences = recordings(rng, gaps=True)
    cut = data_.windows(sequences, 4)
    carried = cut[:, 1] > 0
    message = product.expected_stats(model.latent.family, state.parameters.natparams)
    belief, unconverged = context_belief(
        model, message, state.parameters.encoder, sequences, cut, carried, 3
    )
    assert unconverged == 0
    assert_identical(belief.given, carried)
    assert np.sum(carried) == 5
    for m in np.flatnonzero(carried):
        index, start, _ = cut[m]
        local = whole(model, state.parameters, [sequences[index][start - 3 : start]])
        alone = belief_after(local, None)
        assert relative_error(belief.J[m], alone.J[0]) < 1e-10
        assert relative_error(belief.h[m], alone.h[0]) < 1e-10
        if name != "lds":
            assert relative_error(belief.states[m], alone.states[0]) < 1e-8
    assert (belief.states is None) == (name == "lds")


@pytest.mark.parametrize("gaps", [False, True])
def test_a_window_with_context_holds_the_frame_before_it_unseen(gaps, rng):
    model, state = typical("lds")
    sequences = recordings(rng, gaps)
    batch, cut = every_window(model, state, sequences, rng, context=2)
    carried = cut[:, 1] > 0
    for m, (index, start, stop) in enumerate(cut):
        first = int(carried[m])
        assert batch.lengths[m] == stop - start + first
        frames = sequences[index][start:stop]
        seen = ~np.isnan(frames)
        steps = slice(first, first + len(frames))
        assert not np.any(batch.observed[m, :first])
        assert_identical(batch.observed[m, steps], seen)
        assert_identical(batch.values[m, steps][seen], frames[seen])
    scored = batch.scored.any(axis=-1).sum()
    assert scored == sum((~np.isnan(s)).any(axis=1).sum() for s in sequences)


@pytest.mark.parametrize("name", CHAINS)
def test_only_true_beginnings_inform_the_initial_factor(name, rng):
    """And every pair of frames counts once."""
    model, state = typical(name)
    sequences = recordings(rng)
    number, pairs = len(sequences), sum(len(s) - 1 for s in sequences)
    batch, cut = every_window(model, state, sequences, rng, context=2)
    prior, eta = model.latent.prior(), state.parameters.natparams
    noise = Noise(rng.standard_normal((*batch.values.shape[:2], 1, 2)), np.zeros(0))
    noise = Noise(np.swapaxes(noise.latents, 1, 2), noise.decoder)
    arguments = model, state.parameters, prior, batch, noise, "conjugate"
    natural = bound_and_gradients(*arguments).gradients.natparams
    counts = tree_map(lambda g, p, e: np.sum(g - p + e), natural, prior, eta)
    if "init" in counts:
        for slot in (2, 3):
            assert counts["init"][slot] == pytest.approx(number, rel=1e-9)
        assert counts["dynamics"][3] == pytest.approx(pairs, rel=1e-9)
    else:
        total = number + pairs
        for slot in (2, 3):
            assert counts["components"][slot] == pytest.approx(total, rel=1e-9)
    if "weights" in counts:
        assert counts["weights"][0] == pytest.approx(number, rel=1e-9)
        assert counts["transitions"][0] == pytest.approx(pairs, rel=1e-9)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_gradients_with_beliefs_are_differences_of_the_bound(name, gaps, rng):
    """The belief itself is a constant."""
    model, state = typical(name, **({"affine": True} if name == "slds" else {}))
    batch, _ = every_window(model, state, recordings(rng, gaps), rng, context=2)
    assert 0 < np.sum(batch.belief.given) < len(batch.values)
    parameters, family = state.parameters, model.latent.family
    noise = Noise(rng.standard_normal((len(batch.values), 1, 5, 2)), np.zeros(0))
    prior = model.latent.prior()
    gradients = bound_and_gradients(model, parameters, prior, batch, noise).gradients
    for role, tree in parameters._asdict().items():
        gradient = getattr(gradients, role)
        for leaf, part in zip(leaves(gradient), leaves(tree), strict=True):
            assert np.shape(leaf) == np.shape(part)
        basis = (
            symmetric_basis(tree)
            if role == "natparams"
            else np.eye(to_vector(tree).size)
        )
        direction = basis @ rng.standard_normal(basis.shape[1])
        direction *= 0.3 / np.max(np.abs(direction))

        def objective(moved, role=role, tree=tree):
            moved = parameters._replace(**{role: shifted(tree, moved)})
            return bound(model, moved, prior, batch, noise).objective

        def message(moved, tree=tree):
            return to_vector(product.expected_stats(family, shifted(tree, moved)))

        along = direction
        if role == "natparams":  # gradient = Fisher matrix times natural gradient
            along = central_difference(message, direction)
        want = central_difference(objective, direction, 1e-4)
        assert relative_error(to_vector(gradient) @ along, want) < 1e-6


def test_slds_windows_with_one_state_are_those_of_an_lds(rng):
    lds, state = typical("lds")
    slds, _ = typical("slds", num_states=1)
    natparams = slds.latent.prior() | {
        name: tuple(np.asarray(part)[None] for part in factor)
        for name, factor in state.parameters.natparams.items()
    }
    other = state._replace(parameters=state.parameters._replace(natparams=natparams))
    sequences = recordings(rng, gaps=True)
    got, want = (
        infer(
            model,
            product.expected_stats(model.latent.family, s.parameters.natparams),
            s.parameters.encoder,
            every_window(model, s, sequences, rng, context=3)[0],
        )
        for model, s in ((slds, other), (lds, state))
    )
    # Dir(1) of one state is certain: E log pi = 0
    assert relative_error(got.log_normalizer, want.log_normalizer) < 1e-10
    assert relative_error(got.mean, want.mean) < 1e-9
    assert relative_error(got.kl, want.kl) < 1e-9


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
    read = partial(evaluate, sequences=sequences)
    rng, kept, prior = np.random.default_rng(0), [], model.latent.prior()
    for _ in range(num_steps):
        state, record = fit_.advance(model, state, prior, cut, read, chosen, rng)
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
    model = make("gmm")
    model.fit([rng.standard_normal((20, 3))], num_steps=9, rng=0, warm_start=True)
    assert all(np.all(np.isfinite(column)) for column in history(model))


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
