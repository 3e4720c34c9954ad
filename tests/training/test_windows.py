"""Windows that know what came before them: exact evidences and beliefs."""

import numpy as np
import pytest

from svae import data as data_
from svae.autodiff.trees import leaves, to_vector, tree_map
from svae.families import product
from svae.models import belief_after
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import infer
from svae.testing import assert_identical, relative_error
from svae.training import step as fit_
from svae.training.batches import context_belief
from tests.helpers.exact import CHAINS, log_evidence, quadrature, world
from tests.helpers.problems import (
    central_difference,
    shifted,
    symmetric_basis,
)
from tests.helpers.windows import every_window, recordings, typical


def state_of(parameters, memory=None):
    return fit_.first_state(parameters)._replace(memory=memory or {})


def whole(model, parameters, sequences):
    """Run inference in whole sequences."""
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    cut = data_.windows(sequences, max(map(len, sequences)))
    batch = Batch.of(data_.batch(sequences, cut))
    return infer(model, stats, parameters.encoder, batch, dense=True)


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
