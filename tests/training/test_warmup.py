"""What happens before training: clusterings, coordinate ascent, the warm-up."""

from functools import partial

import numpy as np
import pytest

import svae
from svae import HMM, LDS, SLDS, conjugate, data, metrics
from svae.autodiff.trees import leaves
from svae.conjugate import initialization
from svae.data import synthetic
from svae.families import mniw, niw, product
from svae.testing import relative_error
from svae.training.gradients import evaluate
from svae.training.loop import ENDED, TRAINING, WARM_UP, start, train
from svae.training.plan import TrainingPlan
from svae.training.settings import make_settings
from svae.training.step import Stage
from svae.training.warmup import encode
from tests.helpers.problems import generative

NETWORK = svae.Residual((8,))


@pytest.fixture(scope="module")
def switching():
    return synthetic.switching_lds(num_blocks=12, block_length=50, rng=0)


def points_of(*sequences):
    steps = max(len(x) for x in sequences)
    latents = np.zeros((len(sequences), steps, sequences[0].shape[1]))
    for row, x in zip(latents, sequences, strict=True):
        row[: len(x)] = x
    return data.Windows(latents, np.array([len(x) for x in sequences]))


def path_of(latent, natparams, points):
    stats = product.expected_stats(latent.family, natparams)
    potentials = latent.state_potentials(stats, points.values)
    return latent.most_likely_states(stats, potentials, points.lengths)


def test_coordinate_ascent_never_lowers_the_bound(switching):
    latent = SLDS(3, 2, affine=True)
    points = points_of(switching.frames[:350], switching.frames[350:])
    prior = latent.prior()

    def local(stats):
        return np.sum(latent.log_density(stats, points.values, points.lengths))

    start = latent.initial_posterior(np.random.default_rng(0))
    bounds = []
    for count in range(1, 12):
        _, bound = conjugate.ascend(
            local, latent.family, start, prior, tolerance=-np.inf, max_iterations=count
        )
        bounds.append(bound)
    assert np.all(np.diff(bounds) >= -1e-9 * np.abs(bounds[:-1]))
    assert bounds[-1] > bounds[0] + 1.0


def test_ascent_of_an_lds_is_bayesian_regression(rng):
    """With x known there is nothing to iterate: counts are added to the prior."""
    latent = LDS(2)
    x = rng.standard_normal((2, 30, 2))
    prior = latent.prior()
    natparams, _ = conjugate.initialize(latent, prior, points_of(*x), rng)
    past = np.concatenate([x[0, :-1], x[1, :-1]])
    now = np.concatenate([x[0, 1:], x[1, 1:]])
    counts = past.T @ past, past.T @ now, now.T @ now, 58.0
    for got, before, count in zip(
        natparams["dynamics"], prior["dynamics"], counts, strict=True
    ):
        assert relative_error(got - before, count) < 1e-12


def test_clusterings_find_dynamics_that_places_do_not_show(switching):
    latent = SLDS(2, 2, noise_variance=0.1)
    points = points_of(switching.frames / switching.frames.std(axis=0))
    natparams, _ = conjugate.initialize(
        latent, latent.prior(), points, np.random.default_rng(0)
    )
    path = path_of(latent, natparams, points)[0]
    assert metrics.normalized_mutual_information(switching.states, path) > 0.8
    mean = mniw.to_standard(natparams["dynamics"])[0]
    angles = sorted(np.max(np.angle(np.linalg.eigvals(A))) for A in mean)
    assert angles == pytest.approx([0.0, np.pi / 4], abs=0.1)


def test_clusterings_find_components(rng):
    latent = HMM(3, 2)
    centres = np.array([[0.0, 5.0], [5.0, 0.0], [-5.0, -5.0]])
    states = np.repeat(rng.integers(0, 3, 40), 5)
    x = centres[states] + rng.standard_normal((200, 2))
    points = points_of(x[:120], x[120:])
    natparams, _ = conjugate.initialize(latent, latent.prior(), points, rng)
    paths = path_of(latent, natparams, points)
    found = np.concatenate([paths[0, :120], paths[1, :80]])
    assert metrics.accuracy(states, found) == 1.0
    means = niw.to_standard(natparams["components"])[0]
    assert all(np.linalg.norm(means - c, axis=1).min() < 0.5 for c in centres)


def test_labels_do_not_look_at_unknown_steps(switching):
    """What stands where nothing was observed, or past a length, has no influence."""
    frames = switching.frames[:300].reshape(3, 100, 2)
    observed = np.ones((3, 100), dtype=bool)
    observed[1, 20:40] = False
    results = []
    for garbage in (0.0, 1e6):
        latents = frames.copy()
        latents[1, 20:40], latents[2, 60:] = garbage, garbage
        points = data.Windows(latents, np.array([100, 100, 60]), observed[..., None])
        natparams, bound = conjugate.initialize(
            SLDS(2, 2), SLDS(2, 2).prior(), points, np.random.default_rng(0), 1
        )
        results.append([*leaves_of(natparams), np.array(bound)])
    for first, second in zip(*results, strict=True):
        assert relative_error(second, first) < 1e-9


def leaves_of(tree):
    return [np.asarray(leaf) for leaf in leaves(tree)]


@pytest.mark.parametrize("latent", [HMM(3, 2), SLDS(3, 2, affine=True)])
def test_latents_without_known_neighbours_or_none_at_all(latent, rng):
    """Of a part of the data that has no frames the prior is all that is known."""
    latents, lengths = rng.standard_normal((2, 40, 2)), np.array([40, 40])
    for observed in (np.tile([True, False], (2, 20)), np.zeros((2, 40), dtype=bool)):
        points = data.Windows(
            latents * observed[..., None], lengths, observed[..., None]
        )
        prior = latent.prior()
        natparams, bound = conjugate.initialize(latent, prior, points, rng, 1, 20)
        assert np.isfinite(bound)
        assert product.in_domain(latent.family, natparams)
        for label in initialization.clusterings(latent, points, rng):
            assert label.shape == (2, 40)
        if "dynamics" in prior:  # of which nothing is known
            for got, want in zip(
                leaves(natparams["dynamics"]), leaves(prior["dynamics"]), strict=True
            ):
                np.testing.assert_allclose(got, want, atol=1e-12)


def test_more_clusters_than_different_points(rng):
    labels = initialization.cluster(np.zeros((6, 2)), 4, rng)
    assert labels.shape == (6,)
    assert np.all((labels >= 0) & (labels < 4))


@pytest.mark.parametrize("count", [3, 0])
def test_a_warm_up_trains_networks_only_and_fits_their_latents(count, switching):
    model = generative(SLDS(2, 2), NETWORK)
    rng = np.random.default_rng(0)
    settings = make_settings(
        False,
        batch_size=2,
        window=100,
        num_samples=1,
        learning_rate=1e-2,
        natural_step=0.1,
        context=10,
        hide=5,
        warm_start=True,
    )
    frames, prior = switching.frames, model.latent.prior()
    cut = data.windows([frames], 100)
    plan = TrainingPlan(Stage(model, prior, cut, settings), [frames], 0, count)
    first = start(plan, rng)
    assert first.state.parameters.natparams == {}
    reached = list(train(plan, first, partial(evaluate, [frames]), rng))
    warming, (started, _) = reached[:-2], reached[-2:]
    assert [each.phase for each in reached] == [WARM_UP] * count + [TRAINING, ENDED]
    assert all(each.state.parameters.natparams == {} for each in warming)
    assert [each.state.step for each in warming] == list(range(1, count + 1))
    started = started.state
    assert started.step == 0
    assert started.memory == {}
    networks = (warming[-1] if count else first).state.parameters
    assert started.parameters.encoder is networks.encoder
    # every frame is a datum: the transitions are counted once
    (transitions,) = started.parameters.natparams["transitions"]
    counted = transitions - prior["transitions"][0]
    assert np.sum(counted) == pytest.approx(len(frames) - len(frames) // 100)
    windows = np.array([[0, 0, 100]])
    points = encode(model, started.parameters.encoder, [frames], windows)
    assert points.values.shape == (1, 100, 2)


def test_a_step_of_the_warm_up_sees_as_many_frames_as_a_step(switching, monkeypatch):
    sizes = []
    original = svae.training.step.step_on

    def noting(minibatch, *rest):
        sizes.append(int(np.sum(minibatch.cut[:, 2] - minibatch.cut[:, 1])))
        return original(minibatch, *rest)

    monkeypatch.setattr(svae.training.step, "step_on", noting)
    model = svae.SVAE(SLDS(2, 2), NETWORK, NETWORK)
    model.fit(switching.frames, 2, batch_size=3, window=50, rng=0, warmup=2)
    assert sizes == [150] * 4


@pytest.mark.slow
def test_no_seed_collapses():
    """The README's rate, on the first five of its seeds."""
    for seed in range(5):
        data = synthetic.switching_lds(rng=seed)
        frames = data.frames / data.frames.std(axis=0)
        model = svae.SVAE(SLDS(2, 2), svae.MLP((50,)), svae.MLP((50,)))
        options = {"batch_size": 2, "window": 200, "learning_rate": 1.5e-2}
        model.fit(frames, 400, rng=seed, warmup=100, **options)
        found = model.predict(frames)
        assert metrics.normalized_mutual_information(data.states, found) > 0.85


def test_frames_are_encoded_a_part_at_a_time(monkeypatch, rng):
    """The same, whatever the size of the parts; a gap is told, padding is none."""
    model = generative(SLDS(2, 2), NETWORK)
    sequences = [rng.standard_normal((n, 3)) for n in (11, 4, 9)]
    windows = data.windows(sequences, 5)
    network = NETWORK.init(rng, 3, 2)
    whole = encode(model, network, sequences, windows)
    assert whole.observed is None
    # several windows at a time, one, a window in pieces, single frames
    for stretch in (40, 20, 7, 1):
        monkeypatch.setattr("svae.data.sequences.STRETCH", stretch)
        parts = encode(model, network, sequences, windows)
        np.testing.assert_allclose(parts.values, whole.values, rtol=1e-14, atol=0)
        np.testing.assert_array_equal(parts.lengths, whole.lengths)
    sequences[2][6] = np.nan
    gaps = encode(model, network, sequences, windows)
    assert np.argwhere(~gaps.scored_frames & whole.scored_frames).tolist() == [[5, 1]]
    assert np.all(gaps.values[~gaps.scored_frames] == 0.0)


@pytest.mark.filterwarnings("ignore:data. fewer rows")
def test_a_window_may_have_more_numbers_than_are_read_together(rng):
    """Such as 200 frames of 80 x 80 pixels, the command line's default window."""
    frames = rng.standard_normal((2, 200, 80 * 80)).astype(np.float32)
    assert frames[0].size > data.sequences.STRETCH
    model = svae.SVAE(SLDS(2, 2), svae.Linear(), svae.Linear())
    model.fit(frames, 1, window=200, warmup=1, batch_size=1, rng=0)
    assert model.ended_ == "steps"
