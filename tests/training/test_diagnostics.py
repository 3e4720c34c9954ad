"""What is odd is said once, with a remedy; what is sound is passed in silence."""

import re
import warnings

import numpy as np
import pytest

import svae
from svae import data
from svae.data import synthetic
from svae.models import ConvergenceWarning
from svae.training import diagnostics

NETWORK = svae.MLP((6,))
FRAMES = synthetic.switching_lds(num_blocks=4, block_length=30, rng=0).frames
FRAMES = FRAMES / FRAMES.std(axis=0)


def model(latent, **options):
    options = {"likelihood": "gaussian"} | options  # the network's variance
    return svae.SVAE(latent, NETWORK, NETWORK, **options)


def said(fit, *arguments, **options):
    """Return the warnings of a call, of which none was given twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(*arguments, **options)
    messages = [str(each.message) for each in caught]
    assert len(set(messages)) == len(messages)
    assert all(each.filename == __file__ for each in caught)
    return messages


def constant_column(frames):
    return np.concatenate([frames, np.full((len(frames), 1), 3.0)], axis=1)


def unseen_column(frames):
    return np.concatenate([frames, np.full((len(frames), 1), np.nan)], axis=1)


def large_column(frames):
    return np.concatenate([frames, 40.0 + 20.0 * frames[:, :1]], axis=1)


ODD_DATA = {
    "constant": (constant_column, "column 2 is constant", "leave such columns out"),
    "unseen": (unseen_column, "column 2 is never observed", "leave such columns out"),
    "large": (
        large_column,
        r"column 2 is large \(mean absolute value up to "
        f"{np.abs(40.0 + 20.0 * FRAMES[:, 0]).mean():.3g}",
        "bring columns to mean 0 and variance 1",
    ),
    "transposed": (
        lambda frames: frames.T,
        r"fewer rows \(2\) than columns \(120\)",
        r"fit data\.T",
    ),
}


@pytest.mark.parametrize("name", ODD_DATA)
def test_odd_data_are_told_by_a_fit_with_networks(name):
    change, seen, remedy = ODD_DATA[name]
    (message,) = said(model(svae.LDS(2)).fit, change(FRAMES), 2, window=40, rng=0)
    assert_tells(message, seen, remedy)


@pytest.mark.parametrize("name", ["constant", "large", "transposed"])
def test_odd_data_are_told_by_a_fit_without_networks(name):
    change, seen, remedy = ODD_DATA[name]
    (message,) = said(svae.SVI(svae.LDS(2)).fit, change(FRAMES), 2, rng=0)
    assert_tells(message, seen, remedy)


def test_a_column_that_was_never_observed_is_told_without_networks():
    """Of what `SVI` takes now, that is no data at all; its words are its own."""
    summary = data.summarize([unseen_column(FRAMES)])
    (message,) = diagnostics.of_data(summary)
    assert_tells(message, "column 2 is never observed", "leave such columns out")
    assert "decoder" not in message


def test_more_states_than_rows_are_told():
    for fit in (model(svae.HMM(9, 2)).fit, svae.SVI(svae.HMM(9, 2)).fit):
        (message,) = said(fit, FRAMES[::20], 2, rng=0)
        assert_tells(message, r"states \(9\) than rows with data \(6\)", "choose fewer")


def assert_tells(message, seen, remedy):
    for part in (seen, remedy):
        with pytest.warns(UserWarning, match=part):
            warnings.warn(message, stacklevel=1)


def test_many_columns_are_counted_and_some_named():
    frames = np.concatenate([FRAMES, np.ones((len(FRAMES), 30))], axis=1)
    (message,) = diagnostics.of_data(data.summarize([frames]), "gaussian")
    assert "columns 2, 3, 4, 5, 6 and 25 more (30 of 32) are constant" in message


def test_sound_data_are_passed_in_silence():
    gaps = FRAMES.copy()
    gaps[3:9], gaps[20, 1] = np.nan, np.nan
    for frames in (FRAMES, gaps, [FRAMES[:50], FRAMES[50:]], FRAMES[:1], FRAMES + 3.0):
        summary = data.summarize(data.as_sequences(frames))
        assert diagnostics.of_data(summary, "gaussian", 1) == []
    # black and white images may have a white margin, and values of a single frame
    # say nothing about whether they vary
    margin = np.concatenate([np.ones((9, 1)), np.eye(9)[:, :5]], axis=1)
    assert diagnostics.of_data(data.summarize([margin]), "bernoulli") == []


@pytest.mark.parametrize(
    ("rows", "columns", "is_told"),
    [
        (450, 900, False),
        (30, 900, False),
        (29, 900, True),  # 29 images of 30 rows, or 29 columns of 900 frames
        (450, 899, True),
        (5, 49, True),  # images begin with 8 x 8
    ],
)
def test_videos_have_fewer_frames_than_pixels(rows, columns, is_told, rng):
    frames = rng.standard_normal((rows, columns))
    summary = data.summarize(data.as_sequences(frames))
    messages = diagnostics.of_data(summary, "gaussian")
    assert [f"fewer rows ({rows})" in message for message in messages] == [
        True
    ] * is_told
    (message,) = diagnostics.of_data(summary)  # x of a latent model is no image
    assert "fit data.T" in message


def test_recordings_know_that_frames_are_images(rng):
    video = data.images(rng.standard_normal((40, 8, 16)))
    summary = data.summarize(data.as_sequences(video))
    assert diagnostics.of_data(summary, "gaussian") == []


@pytest.mark.parametrize(
    ("name", "latent"),
    [
        ("pinwheel", svae.GMM(5, 2)),
        ("dots", svae.LDS(2)),
        ("switching", svae.HMM(2, 2)),
    ],
)
def test_built_in_data_are_passed_in_silence(name, latent):
    from svae.cli import runs

    frames = runs.BUILT_IN[name]()
    window = None if latent.independent else 50
    assert said(model(latent).fit, frames, 2, window=window, rng=0) == []


def test_a_summary_knows_extremes_and_magnitudes():
    frames = np.array([[1.0, np.nan, -4.0], [-3.0, np.nan, np.nan], [2.0, np.nan, 2.0]])
    whole = data.summarize([frames])
    np.testing.assert_array_equal(whole.num_observed, [3, 0, 2])
    np.testing.assert_array_equal(whole.low, [-3.0, np.nan, -4.0])
    np.testing.assert_array_equal(whole.high, [2.0, np.nan, 2.0])
    np.testing.assert_array_equal(whole.magnitude, [2.0, 0.0, 3.0])
    assert whole.num_frames == 3


@pytest.mark.parametrize("name", ["learning_rate", "natural_step"])
@pytest.mark.parametrize("rate", [1.0001, 1e300])
def test_rates_beyond_one_are_refused(name, rate):
    with pytest.raises(
        ValueError, match=re.escape(f"{name} must be 1 at most, got {rate}")
    ):
        model(svae.GMM(2, 2)).fit(FRAMES, 2, **{name: rate})


def test_a_learning_rate_beyond_what_is_usual_is_told():
    (message,) = said(model(svae.LDS(2)).fit, FRAMES, 2, learning_rate=0.3, rng=0)
    assert_tells(message, "learning_rate is 0.3", "from 1e-4 to 1e-2 are usual")


@pytest.mark.parametrize("hide", [40, 41, 1000])
def test_a_hidden_stretch_that_leaves_nothing_is_refused(hide):
    with pytest.raises(ValueError, match=f"hide: a stretch of {hide} frames leaves"):
        model(svae.LDS(2)).fit(FRAMES, 2, window=40, hide=hide)
    with pytest.raises(ValueError, match="of windows of 120 frames"):
        model(svae.LDS(2)).fit(FRAMES, 2, hide=120)


def test_a_context_without_effect_is_told():
    fit = model(svae.LDS(2)).fit
    (message,) = said(fit, FRAMES, 2, context=5, rng=0)
    assert_tells(message, "it changes nothing", "choose a shorter window")
    (message,) = said(fit, FRAMES, 2, window=10, context=11, rng=0)
    assert_tells(message, "longer than the windows", "a longer window")


def test_usual_settings_are_passed_in_silence():
    fit, options = model(svae.LDS(2)).fit, {"window": 40, "rng": 0}
    options |= {"context": 40, "hide": 39, "natural_step": 1.0, "learning_rate": 0.1}
    assert said(fit, FRAMES, 2, **options) == []


def test_inference_that_does_not_converge_is_told():
    latent = svae.SLDS(2, 2, tolerance=1e-12, max_iterations=1)
    with pytest.warns(ConvergenceWarning) as caught:
        model(latent).fit(FRAMES, 3, window=40, rng=0, warmup=None)
    (message,) = [str(each.message) for each in caught]
    assert_tells(message, r"for 9 sequences, 1e\+02 % of those in 3 steps", "(now 1)")
    assert_tells(message, "raise the latent model's max_iterations", "warm_start=True")
    assert diagnostics.of_inference(np.eye(1, 100)[0], 3, 9) == []


def test_natural_steps_that_are_halved_again_and_again_are_told():
    rng = np.random.default_rng(0)
    many = np.concatenate([np.zeros(90), rng.integers(3, 6, 110)])
    (message,) = diagnostics.of_natural_steps(many, "do otherwise")
    assert_tells(
        message, r"in 100 % of the last 100 steps, 4\.\d times", r"to [67]\.?\d? % of"
    )
    assert message.endswith("q(theta) is nearly frozen; do otherwise")


@pytest.mark.parametrize(
    "backtracks",
    [
        np.zeros(200),
        np.ones(200),  # half the step is a step
        np.tile([0, 0, 9], 100),  # two thirds are taken as they are
        np.concatenate([np.full(100, 9), np.zeros(100)]),  # only at first
        np.full(20, 9),  # training has hardly begun
        np.zeros(0),
    ],
)
def test_some_halvings_are_passed_in_silence(backtracks):
    assert diagnostics.of_natural_steps(backtracks, "") == []


def probabilities(path, num_states, sharpness=0.9):
    rest = (1 - sharpness) / (num_states - 1)
    return np.where(np.arange(num_states) == path[:, None], sharpness, rest)


def test_a_state_with_nearly_all_frames_is_told(rng):
    path = np.where(np.arange(300) < 297, 2, rng.integers(0, 4, 300))
    for is_chain in (True, False):
        (message,) = diagnostics.of_states(probabilities(path, 4), is_chain, "change")
        assert message.startswith("state 2 has 99 % of the frames, the other 3 nearly")
        assert message.endswith("change")


def test_few_states_in_use_are_told_of_a_chain():
    states = probabilities(np.repeat([3, 7], [320, 80]), 10)
    (message,) = diagnostics.of_states(states, True, "change")
    in_use = r"only 2 of 10 states are in use: 3 \(80 %\), 7 \(20 %\)"
    assert_tells(message, in_use, "change")
    assert diagnostics.of_states(states, False, "change") == []


def test_states_that_are_the_same_are_told(rng):
    states = probabilities(rng.integers(0, 3, 300), 3)
    twins = np.stack([0.3 * states[:, 0], *states.T[1:], 0.7 * states[:, 0]], axis=1)
    (message,) = diagnostics.of_states(twins, True, "change")
    assert message.startswith("states 0 and 3 are the same")
    uniform = np.full((300, 4), 0.25)
    (message,) = diagnostics.of_states(uniform, True, "change")
    assert message.startswith("states 0, 1, 2 and 3 are the same")


def test_states_that_are_the_same_do_not_hide_that_few_are_in_use():
    path = np.where(np.arange(300) < 280, 1, 4)
    states = np.full((300, 10), 0.001)
    states[np.arange(300), path] = 0.6
    states[:20, [7, 8]] = 0.3  # never the likeliest
    states /= states.sum(axis=1, keepdims=True)
    first, second = diagnostics.of_states(states, True, "change")
    assert first.startswith("states 7 and 8 are the same")
    assert second.startswith("only 2 of 10 states are in use: 1 (93 %), 4 (7 %)")


@pytest.mark.parametrize("num_states", [1, 2, 4])
def test_states_that_share_the_frames_are_passed_in_silence(num_states, rng):
    if num_states == 1:
        states = np.ones((300, 1))
    else:
        path = rng.integers(0, num_states, 300)
        states = probabilities(path, num_states, 0.6)
    assert diagnostics.of_states(states, True, "change") == []
    assert diagnostics.of_states(states[: 5 * num_states], True, "change") == []


def test_a_collapsed_fit_is_told(rng):
    """Noise has no states: one takes all frames, or all are the same."""
    noise = rng.standard_normal((200, 2))
    options = {"warmup": None, "window": 50, "rng": 0}
    same, one = said(model(svae.SLDS(3, 2)).fit, noise, diagnostics.SHORT, **options)
    assert_tells(same, "states 0 and 1 are the same", "choose fewer states")
    assert_tells(one, "state 2 has 100 % of the frames", "choose fewer states")
    assert said(model(svae.SLDS(3, 2)).fit, noise, 5, **options) == []
    (message,) = said(svae.SVI(svae.SLDS(2, 2)).fit, noise, 20, rng=0)
    assert_tells(message, "^(state . has|states .* are the same)", "num_restarts")


def test_fits_that_find_states_are_passed_in_silence(rng):
    points, _ = svae.data.pinwheel(rng=0)
    assert said(svae.SVI(svae.GMM(5, 2)).fit, points, 20, rng=0) == []
    path = np.repeat(np.arange(12) % 2, 25)
    frames = 3.0 * (2 * path[:, None] - 1) + rng.standard_normal((300, 3))
    fit = svae.SVAE(svae.HMM(2, 2), NETWORK, NETWORK).fit
    options = {"learning_rate": 1e-2, "window": 100, "warmup": 100, "rng": 0}
    assert said(fit, frames, diagnostics.SHORT, **options) == []


def test_all_that_is_seen_comes_from_an_excerpt_of_the_data(rng):
    from svae.training.batches import EXCERPT, excerpt

    sequences = [np.zeros((n, 1)) for n in (9000, 30, 20000)]
    for window in (1, 100, 20000):
        few = excerpt(sequences, data.windows(sequences, window))
        assert np.sum(few[:, 2] - few[:, 1]) <= EXCERPT
        assert few[0, 0] == 0 and few[-1, 0] == 2
        assert few[-1, 2] == 20000


PROBABILITIES = np.array([0.2, 0.3, 0.5]), np.tile([0.1, 0.8, 0.1], (3, 1))


@pytest.mark.parametrize("name", ["markov_chain", "viterbi", "sample_markov_chain"])
def test_probabilities_in_the_place_of_logs_are_told(name, kernels, rng):
    init, pair = PROBABILITIES
    node = rng.standard_normal((2, 4, 3))
    more = [rng.random((2, 1, 4))] if name == "sample_markov_chain" else []
    function = getattr(kernels, name)
    every_pair = np.broadcast_to(pair, (2, 3, 3, 3))
    for first, pairs, wrong in (
        (init, np.log(pair), ["init"]),
        (np.tile(init, (2, 1)), np.log(pair), ["init"]),
        (np.log(init), pair, ["pair"]),
        (np.log(init), every_pair, ["pair"]),
        (init, pair, ["init", "pair"]),
    ):
        messages = said(function, first, pairs, node, *more)
        assert [each.split(":")[0] for each in messages] == wrong
        for message, role in zip(messages, wrong, strict=True):
            assert_tells(message, "look like probabilities", rf"pass np.log\({role}\)")


def test_log_potentials_are_passed_in_silence(kernels, rng):
    node = rng.standard_normal((2, 4, 3))
    for init, pair in (
        map(np.log, PROBABILITIES),
        (np.zeros(3), np.zeros((3, 3))),
        (np.ones(3), 0.5 * np.ones((3, 3))),
        (rng.random(3), rng.random((2, 3, 3, 3))),
    ):
        kernels.markov_chain(init, pair, node)
    kernels.markov_chain(np.ones(1), np.ones((1, 1)), node[..., :1])
    kernels.markov_chain(np.zeros(3), np.zeros((2, 0, 3, 3)), node[:, :1])
