"""Missing data: NaN never enters arithmetic, and what is missing is as if deleted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

import svae
from svae import data as data_
from svae.autodiff.trees import leaves, to_vector
from svae.families import product
from svae.likelihoods import Gaussian, named
from svae.networks import log_likelihood, recognize
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.local import expected, frame_log_likelihood, infer, local_factor
from svae.objective.model import Parameters
from svae.testing import assert_close, assert_identical, relative_error
from tests.helpers.exact import (
    CHAINS,
    NAMES,
    Fixed,
    given_paths,
    latent_model,
    log_evidence,
    quadrature,
    with_gaps,
    world,
)
from tests.helpers.problems import (
    central_difference,
    generative,
    shifted,
    symmetric_basis,
)

SMALL = svae.MLP((6,))
LIKELIHOODS = ("gaussian", "bernoulli")
GARBAGE = (0.0, -1e60)
STEP = 1e-4  # of differences: a mean-field optimum may bend sharply


def small_problem(name, kind, likelihood="gaussian", sees_mask=False, hide=False):
    """Return (model, parameters, prior, batch, noise) with something missing."""
    rng = np.random.default_rng(11)
    latent = latent_model(name, num_states=3)
    model = generative(latent, likelihood=likelihood)
    fill = np.array([0.2, 0.4, 0.1])
    model = model._replace(fill=fill, sees_mask=sees_mask)
    encoder = model.encoder.init(rng, model.num_inputs(3), 2)
    decoder = model.decoder.init(rng, 2, 3)
    natparams = latent.initial_posterior(rng)
    steps = 1 if latent.independent else 6
    sequences = [with_gaps(rng, (6, 3), kind), rng.standard_normal((4, 3))]
    if kind == "frames":  # a gap at the very beginning
        sequences[1][0] = np.nan
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    windows = data_.batch(sequences, data_.windows(sequences, steps))
    shown = None
    if hide:
        shown = np.ones(windows.values.shape[:2], dtype=bool)
        shown[:, 2:4] = False
    batch = Batch.of(windows, scale=1.5, shown=shown)
    noise = Noise(rng.standard_normal((len(batch.values), 2, steps, 2)), np.zeros(0))
    return model, Parameters(natparams, encoder, decoder), latent.prior(), batch, noise


def frames_and_factor(model, stats, parameters, batch, noise):
    """Log p(y_t | x_t) (M, S, T) and the local factor with dense second moments."""
    local = local_factor(
        model, stats, parameters.encoder, batch, noise.latents, dense=True
    )
    weights = parameters.decoder
    return frame_log_likelihood(model, weights, batch, local.samples), local


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


def recordings(rng, likelihood="gaussian"):
    """Ragged sequences: of frames, of entries, and one of which nothing is known."""
    sequences = [
        with_gaps(rng, (9, 3), "frames"),
        with_gaps(rng, (5, 3), "entries"),
        with_gaps(rng, (4, 3), "all"),
        rng.standard_normal((7, 3)),
    ]
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    return sequences


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


@pytest.mark.parametrize("kind", ["frames", "entries"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_with_gaps_are_differences_of_the_bound(name, kind):
    model, parameters, prior, batch, noise = small_problem(name, kind)
    step = bound_and_gradients(model, parameters, prior, batch, noise)
    rng, family = np.random.default_rng(3), model.latent.family
    for role in ("encoder", "decoder"):
        tree, got = getattr(parameters, role), to_vector(getattr(step.gradients, role))
        direction = rng.standard_normal(got.size)

        def objective(moved, role=role, tree=tree):
            moved = parameters._replace(**{role: shifted(tree, moved)})
            return bound(model, moved, prior, batch, noise).objective

        assert (
            relative_error(
                got @ direction, central_difference(objective, direction, STEP)
            )
            < 1e-6
        )
    if not family:
        return
    # the gradient along v is <natural gradient, dm>, dm the change of the message
    basis = symmetric_basis(parameters.natparams)
    direction = basis @ rng.standard_normal(basis.shape[1])
    direction *= 0.1 / np.max(np.abs(direction))

    def objective(moved):
        moved = parameters._replace(natparams=shifted(parameters.natparams, moved))
        return bound(model, moved, prior, batch, noise).objective

    def message(moved):
        moved = shifted(parameters.natparams, moved)
        return to_vector(product.expected_stats(family, moved))

    got = to_vector(step.gradients.natparams) @ central_difference(message, direction)
    want = central_difference(objective, direction, STEP)
    assert relative_error(got, want) < 1e-6


def batch_of(frames):
    """Batch of one sequence with NaN, whole."""
    return Batch.of(data_.batch([frames], [(0, 0, len(frames))]))


@pytest.mark.parametrize("gaps", [[2], [0], [4], [0, 1, 4], [0, 1, 2, 3, 4]])
def test_hmm_sums_over_the_states_of_a_frame_without_data(gaps):
    """Components far apart make every other state certain, and mean field exact."""
    this = world("hmm", spread=40.0)
    rng = np.random.default_rng(1)
    states = [0, 1, 1, 0, 1]
    matrix, offset = this.parameters.decoder["location"]
    centers = this.theta["components"][0][states]
    frames = centers @ matrix + offset + rng.standard_normal((5, 3))
    frames[gaps] = np.nan
    batch = batch_of(frames)
    local = infer(this.model, this.stats, this.parameters.encoder, batch, dense=True)
    # up to a constant of every observed frame, the potentials are log p(y | x)
    silent = np.zeros((1, 1, 2))
    constants = log_likelihood(
        Gaussian(),
        this.model.decoder,
        this.parameters.decoder,
        silent[:, None] * np.ones((5, 1)),
        batch.values,
        batch.scored,
    )
    got = local.log_normalizer[0] + constants[0, 0].sum()
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    assert relative_error(got, want) < 1e-12
    every = list(given_paths(this.theta, this.parameters.decoder, frames))
    logs = np.array([given.log_joint for _, given in every])
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    best = every[int(np.argmax(logs))][0]
    assert_identical(this.fitted().predict(frames), np.array(best))
    probs = np.zeros((5, 2))
    for (path, _), weight in zip(every, weights, strict=True):
        probs[np.arange(5), path] += weight
    assert np.max(np.abs(local.states[0] - probs)) < 1e-9
    mean = sum(w * given.mean for (_, given), w in zip(every, weights, strict=True))
    assert np.max(np.abs(local.mean[0] - mean)) < 1e-7
    second = sum(
        w
        * (
            np.einsum("titj->tij", given.cov)
            + np.einsum("ti,tj->tij", given.mean, given.mean)
        )
        for (_, given), w in zip(every, weights, strict=True)
    )
    assert relative_error(local.second_moment[0], second) < 1e-9


def lds_bound(this, frames):
    noise = quadrature(1, len(frames), 2)
    noise = Noise(noise, np.zeros(0))
    terms, local = frames_and_factor(
        this.model, this.stats, this.parameters, batch_of(frames), noise
    )
    return expected(terms, local.weights)[0] - local.kl[0], local


@pytest.mark.parametrize("gaps", [[], [2], [0], [4], [0, 1, 4], [0, 1, 2, 3, 4]])
def test_lds_bound_is_the_evidence_of_the_frames_with_data(gaps):
    this = world("lds")
    frames = np.random.default_rng(3).standard_normal((5, 3))
    frames[gaps] = np.nan
    got, local = lds_bound(this, frames)
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    assert abs(got - want) < 1e-10 * max(1.0, abs(want))
    ((_, given),) = given_paths(this.theta, this.parameters.decoder, frames)
    assert np.max(np.abs(local.mean[0] - given.mean)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_bounds_of_partly_observed_frames_stay_below_the_evidence(name):
    """Their potentials are not exact, so the bound is strict; and not far off."""
    this = world(name)
    model = this.fitted()
    frames = with_gaps(np.random.default_rng(4), (4, 3), "entries")
    got = model.infer(frames, num_samples=2000, rng=0).elbo
    want = log_evidence(this.theta, this.parameters.decoder, frames)
    if this.latent.independent:
        rows = [frames[t : t + 1] for t in range(4)]
        parts = [log_evidence(this.theta, this.parameters.decoder, r) for r in rows]
        assert sum(parts) == pytest.approx(want, rel=1e-12)
    assert want - 4.0 < got < want - 0.02


def test_the_likelihood_counts_only_observed_entries(rng):
    this = world("lds")
    frames = with_gaps(rng, (4, 3), "entries")
    frames[1] = np.nan
    batch = batch_of(frames)
    latents = rng.standard_normal((1, 5, 4, 2))
    seen = ~np.isnan(frames)
    for likelihood in LIKELIHOODS:
        got = log_likelihood(
            named(likelihood),
            this.model.decoder,
            this.parameters.decoder,
            latents,
            1.0 * (batch.values > 0) if likelihood == "bernoulli" else batch.values,
            batch.scored,
        )
        location, scale = this.model.decoder.apply(this.parameters.decoder, latents)
        if likelihood == "gaussian":
            law = scipy_stats.norm(location, np.sqrt(scale))
            terms = law.logpdf(frames)
        else:
            law = scipy_stats.bernoulli(1 / (1 + np.exp(-location)))
            terms = law.logpmf(1.0 * (frames > 0))
        want = np.sum(np.where(seen, terms, 0.0), axis=-1)
        assert got.shape == (1, 5, 4)
        assert relative_error(got, want) < 1e-13


class Spy:
    """A network that tells what it was given."""

    def apply(self, weights, inputs):
        self.inputs = inputs
        ones = np.ones((*inputs.shape[:-1], 2))
        return ones, 2.0 * ones


def test_the_encoder_gets_fill_and_mask(rng):
    frames = rng.standard_normal((2, 4, 3))
    frames[0, 1, 1] = frames[1, 0, 0] = frames[1, 3] = frames[0, 0] = np.nan
    observed, fill, spy = ~np.isnan(frames), np.array([5.0, 6.0, 7.0]), Spy()
    J, h = recognize(spy, None, np.nan_to_num(frames), observed, fill, True)
    assert_identical(spy.inputs[..., :3], np.where(observed, frames, fill))
    assert_identical(spy.inputs[..., 3:], 1.0 * ~observed)
    seen = observed.any(axis=-1, keepdims=True) * np.ones(2)
    assert np.sum(seen == 0) == 4
    assert_identical(J, -1.0 * seen)
    assert_identical(h, 1.0 * seen)
    recognize(spy, None, np.nan_to_num(frames), observed, fill, False)
    assert_identical(spy.inputs, np.where(observed, frames, fill))
    whole = rng.standard_normal((2, 4, 3))
    recognize(spy, None, whole, None, fill, True)
    assert_identical(spy.inputs, np.concatenate([whole, 0 * whole], axis=-1))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_batch_tells_what_is_seen_and_what_is_scored(rng, hidden):
    frames = np.stack([with_gaps(rng, (4, 3), k) for k in ("entries", "frames")])
    observed = ~np.isnan(frames)
    stretch = np.zeros((2, 4), dtype=bool)
    stretch[:, 1:3] = True
    batch = Batch(
        np.nan_to_num(frames),
        np.array([4, 3]),
        observed,
        shown=~(stretch & hidden),
    )
    live = (np.arange(4) < np.array([4, 3])[:, None])[..., None]
    assert_identical(batch.scored, observed & live)
    wanted = observed & ~(stretch * hidden)[..., None]
    assert_identical(batch.shown_entries & live, wanted & live)


def test_trailing_frames_without_data_are_predicted_by_an_lds():
    """For known theta a future of which nothing is known has probability one."""
    this = world("lds")
    frames = np.random.default_rng(5).standard_normal((4, 3))
    longer = np.concatenate([frames, np.full((3, 3), np.nan)])
    got, local = lds_bound(this, longer)
    want, shorter = lds_bound(this, frames)
    assert abs(got - want) < 1e-10
    assert np.max(np.abs(local.log_normalizer - shorter.log_normalizer)) < 1e-10
    assert np.max(np.abs(local.mean[:, :4] - shorter.mean)) < 1e-12
    A, precision = this.theta["dynamics"]
    mean = shorter.mean[0, -1]
    cov = shorter.second_moment[0, -1] - np.outer(mean, mean)
    for t in range(4, 7):
        mean, cov = A @ mean, A @ cov @ A.T + np.linalg.inv(precision)
        assert np.max(np.abs(local.mean[0, t] - mean)) < 1e-12
        second = cov + np.outer(mean, mean)
        assert relative_error(local.second_moment[0, t], second) < 1e-12


def test_an_uncertain_theta_makes_every_frame_without_data_cost_something():
    """The integral of exp E log p(x'|x, theta) over x' is below one."""
    latent = latent_model("lds")
    this = world("lds")
    parameters = this.parameters._replace(natparams=latent.prior())
    stats = product.expected_stats(latent.family, parameters.natparams)
    frames = np.random.default_rng(6).standard_normal((4, 3))
    logs = []
    for extra in range(4):
        longer = np.concatenate([frames, np.full((extra, 3), np.nan)])
        local = infer(this.model, stats, parameters.encoder, batch_of(longer))
        logs.append(local.log_normalizer[0])
    assert np.all(np.diff(logs) < -0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_with_gaps_does_not_depend_on_its_neighbours(name, rng):
    sequences = recordings(rng)
    model = make(name).fit(sequences, num_steps=1, rng=0)
    for together, frames in zip(model.infer(sequences), sequences, strict=True):
        alone = model.infer(frames)
        for part in ("mean", "cov", "states", "log_normalizer"):
            got, want = getattr(together, part), getattr(alone, part)
            if together.states is not None:  # products of all rows at once: to rounding
                assert np.max(np.abs(got - want)) <= 1e-13 * (1 + np.max(np.abs(want)))
            elif want is not None:
                assert_identical(got, want)


def with_gaps_everywhere(rng, kind):
    """Three ragged sequences with every kind of gap, or only whole frames."""
    sequences = [rng.standard_normal((n, 3)) + [1.0, 2.0, 3.0] for n in (12, 9, 5)]
    for sequence in sequences:
        sequence[[0, 3, len(sequence) - 1]] = np.nan
        if kind == "entries":
            sequence[2, 1] = sequence[1, 0] = np.nan
    return sequences


def make(name, **options):
    tolerance = {} if name in ("gaussian", "lds") else {"tolerance": 1e-6}
    return svae.SVAE(latent_model(name, **tolerance), SMALL, SMALL, **options)


@pytest.mark.parametrize("kind", ["frames", "entries"])
@pytest.mark.parametrize("name", NAMES)
def test_fit_and_every_method_take_gaps(name, kind, rng, tmp_path):
    sequences = with_gaps_everywhere(rng, kind)
    model = make(name).fit(sequences, num_steps=4, window=5, batch_size=2, rng=0)
    assert all(np.all(np.isfinite(c)) for c in model.history_.values())
    assert model.sees_mask_ is (kind == "entries")
    every = np.concatenate(sequences)
    assert relative_error(model.fill_, np.nanmean(every, axis=0)) < 1e-14
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert loaded.sees_mask_ is model.sees_mask_
    assert_identical(loaded.fill_, model.fill_)
    stacked = np.stack([sequences[0][:8], sequences[1][:8]])
    for data in (sequences, stacked, sequences[0]):
        results = everything_arranged(model, data)
        assert_identical(everything_arranged(loaded, data), results)
        assert_identical(everything_arranged(loaded, Elsewhere.all(data)), results)


def everything_arranged(model, data):
    """Call every method, check that all is finite and shaped like the data."""
    results = [model.transform(data), model.impute(data, num_samples=2, num_passes=2)]
    infer = model.infer(data, num_samples=2)
    results += [p for p in (infer if isinstance(infer, list) else [infer])]
    results.append(model.score(data))
    results.append(model.score(data, num_importance_samples=2))
    if hasattr(model.latent, "num_states"):
        results.append(model.predict(data))
    if not model.latent.independent:
        forecast = model.forecast(data, 2, num_samples=2)
        results += forecast if isinstance(forecast, list) else [forecast]
    for leaf in leaves_of(results):
        assert np.all(np.isfinite(leaf))
    for result, dim in zip(results[:2], (2, 3), strict=True):
        if isinstance(data, list):
            assert [r.shape for r in result] == [(s.shape[0], dim) for s in data]
        else:
            assert result.shape == (*data.shape[:-1], dim)
    return results


def leaves_of(tree):
    if isinstance(tree, (list, tuple)):
        return [leaf for branch in tree for leaf in leaves_of(branch)]
    return [] if tree is None else [tree]


class Elsewhere:
    """Data with nothing but a shape and ``[]``, which counts the frames read."""

    def __init__(self, values):
        self.values, self.shape, self.reads = values, values.shape, []

    @classmethod
    def all(cls, data):
        return [cls(d) for d in data] if isinstance(data, list) else cls(data)

    def __getitem__(self, key):
        self.reads.append(np.prod(np.shape(self.values[key])[:-1]))
        return self.values[key]


@pytest.mark.parametrize("name", ["gmm", "lds", "slds"])
def test_data_with_gaps_is_read_window_by_window(name, rng, tmp_path, monkeypatch):
    monkeypatch.setattr("svae.data.sequences.STRETCH", 3 * 10)
    frames = rng.standard_normal((2, 40, 3))
    frames[0, 3], frames[1, 7, 1] = np.nan, np.nan
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    lazy = Elsewhere(frames)
    options = {"num_steps": 3, "window": 8, "batch_size": 2, "rng": 0, "warmup": None}
    histories = []
    for data in (frames, mapped, lazy):
        model = make(name).fit(data, **options)
        histories.append([c for n, c in model.history_.items() if n != "seconds"])
    assert_identical(histories[1], histories[0])
    assert_identical(histories[2], histories[0])
    assert max(lazy.reads) <= 10
    # one pass for the summary, then only what the steps need
    size = 1 if name == "gmm" else 8
    assert sum(lazy.reads) <= 80 + 3 * 2 * size
    assert_identical(model.transform(mapped), model.transform(frames))


def without_neighbours(kind, rng):
    """Frames (60, 2) of which no two neighbours are observed."""
    frames = rng.standard_normal((60, 2)).cumsum(axis=0)
    frames = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    observed = np.zeros(60, dtype=bool)
    observed[{"every other": slice(0, None, 2), "first": 0, "one": 37}[kind]] = True
    frames[~observed] = np.nan
    return frames


LONELY = {
    "lds": svae.LDS(2),
    "affine-lds": svae.LDS(2, affine=True),
    "hmm": svae.HMM(3, 2),
    "slds": svae.SLDS(3, 2),
    "affine-slds": svae.SLDS(3, 2, affine=True),
}


@pytest.mark.parametrize("kind", ["every other", "first", "one"])
@pytest.mark.parametrize("name", LONELY)
@pytest.mark.filterwarnings("ignore::svae.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:num_states. there are more states")
def test_frames_without_observed_neighbours_are_fitted(name, kind, rng):
    frames = without_neighbours(kind, rng)
    model = svae.SVAE(LONELY[name], svae.MLP((5,)), svae.MLP((5,)))
    model.fit(frames, num_steps=4, window=20, rng=0)
    assert np.isfinite(model.history_["objective"]).all()
    assert np.isfinite(model.score(frames, num_samples=1))
    assert np.isfinite(model.impute(frames, num_samples=2)).all()


@pytest.mark.parametrize("kind", ["every other", "first", "one"])
@pytest.mark.parametrize("name", ["lds", "affine-lds", "hmm"])
@pytest.mark.filterwarnings("ignore:data. columns 0 and 1 .* are constant")
@pytest.mark.filterwarnings("ignore:num_states. there are more states")
def test_frames_without_observed_neighbours_are_fitted_without_networks(
    name, kind, rng
):
    frames = without_neighbours(kind, rng)
    for data in (frames, [frames, frames[::2]]):
        model = svae.SVI(LONELY[name]).fit(data, num_steps=5, rng=0)
        assert np.isfinite(model.history_["objective"]).all()
        assert np.isfinite(model.score(data))


def test_single_frames_of_switching_dynamics_are_fitted_without_networks(rng):
    """Sequences of one frame are all that is left of such data when they are cut."""
    frames = without_neighbours("every other", rng)[::2]
    model = svae.SVI(svae.SLDS(3, 2)).fit([*frames[:, None]], num_steps=5, rng=0)
    assert np.isfinite(model.history_["objective"]).all()
    assert np.isfinite(model.score([*frames[:, None]]))


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
