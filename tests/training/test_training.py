"""A whole fit: several starts, held-out data, and what Ctrl-C leaves."""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves
from svae.testing import assert_identical
from svae.training import step
from svae.training.batches import Minibatch
from svae.training.step import initial_state

NETWORK = svae.MLP((6,))
FRAMES = svae.synthetic.switching_lds(num_blocks=4, block_length=30, rng=0).frames
OPTIONS = {"window": 20, "batch_size": 2, "learning_rate": 1e-2, "rng": 0}


def slds(**options):
    return svae.SVAE(svae.SLDS(2, 2), NETWORK, NETWORK, **options)


def lds():
    return svae.SVAE(svae.LDS(2), NETWORK, NETWORK)


def history(model):
    return {name: x for name, x in model.history_.items() if name != "seconds"}


def assert_same_fit(got, want):
    for a, b in zip(leaves(got.parameters_), leaves(want.parameters_), strict=True):
        assert_identical(a, b)
    assert history(got).keys() == history(want).keys()
    for name, column in history(want).items():
        np.testing.assert_array_equal(history(got)[name], column)


def merit(model):
    objective = model.history_["objective"]
    return np.mean(objective[-max(1, len(objective) // 10) :])


@pytest.mark.parametrize("make", [lds, slds])
def test_the_best_of_several_starts_is_kept(make):
    """They follow each other in one stream of random numbers."""
    rng, alone = np.random.default_rng(3), []
    for _ in range(3):
        alone.append(make().fit(FRAMES, 20, **OPTIONS | {"rng": rng}))
    best = max(alone, key=merit)
    assert len({merit(model) for model in alone}) == 3
    together = make().fit(FRAMES, 20, n_init=3, **OPTIONS | {"rng": 3})
    assert_same_fit(together, best)
    assert (together.best_step_, together.ended_) == (20, "steps")


@pytest.mark.filterwarnings("ignore:learning_rate is 0.3")
def test_held_out_data_choose_the_parameters():
    train, kept = FRAMES[:80], FRAMES[80:]
    seen = {}
    model = lds()

    def watch(step, record):
        if step % 4 == 0 or step == 30:
            seen[step] = model.score(kept, rng=0)
            assert record["held_out"] == seen[step]
        else:
            assert np.isnan(record["held_out"])

    options = OPTIONS | {"learning_rate": 0.3}  # so large that scores go up and down
    model.fit(train, 30, held_out=kept, score_every=4, callback=watch, **options)
    assert list(seen) == [4, 8, 12, 16, 20, 24, 28, 30]
    best = max(seen, key=seen.get)
    assert best != 30
    assert model.best_step_ == best
    assert model.score(kept, rng=0) == seen[best]
    assert len(model.history_["held_out"]) == 30
    again = lds().fit(train, best, **options)
    for a, b in zip(leaves(model.parameters_), leaves(again.parameters_), strict=True):
        assert_identical(a, b)


@pytest.mark.filterwarnings("ignore:learning_rate is 0.3")
def test_training_stops_when_no_better_score_comes():
    train, kept = FRAMES[:80], FRAMES[80:]
    options = OPTIONS | {"learning_rate": 0.3}
    free = lds().fit(train, 60, held_out=kept, score_every=2, **options)
    scores = free.history_["held_out"][1::2]
    # the first score after which three in a row are not better than the best
    bests = np.maximum.accumulate(scores)
    ends = [k for k in range(3, len(scores)) if bests[k] == bests[k - 3]]
    stopped = lds().fit(train, 60, held_out=kept, score_every=2, patience=3, **options)
    assert stopped.ended_ == "patience"
    assert len(stopped.history_["objective"]) == 2 * (ends[0] + 1) < 60
    assert stopped.best_step_ == 2 * (int(np.argmax(scores[: ends[0] + 1])) + 1)


def test_held_out_scores_choose_among_starts():
    train, kept = FRAMES[:80], FRAMES[80:]
    options = {"held_out": kept, "score_every": 5}
    rng = np.random.default_rng(3)
    alone = [lds().fit(train, 15, **OPTIONS | {"rng": rng}, **options) for _ in "ab"]
    scores = [np.nanmax(model.history_["held_out"]) for model in alone]
    together = lds().fit(train, 15, n_init=2, **OPTIONS | {"rng": 3}, **options)
    assert_same_fit(together, alone[int(np.argmax(scores))])


@pytest.mark.filterwarnings("ignore:learning_rate is 0.9")
def test_a_fit_that_only_gets_worse_returns_its_start():
    """Also after a warm-up, and as the best of several starts."""
    train, kept = FRAMES[:80], FRAMES[80:]
    options = {"learning_rate": 0.9, "natural_step": 1e-9, "held_out": kept}
    options = OPTIONS | options | {"score_every": 1, "patience": 2}
    model = lds().fit(train, 30, **options)
    assert (model.best_step_, model.ended_) == (0, "patience")
    assert len(model.history_["objective"]) == 2
    rng = np.random.default_rng(OPTIONS["rng"])
    start = initial_state(lds()._generative(), 2, rng).parameters
    for a, b in zip(leaves(model.parameters_), leaves(start), strict=True):
        assert_identical(a, b)
    score = model.score(kept, rng=0)
    assert np.all(model.history_["held_out"] < score)
    # of starts, the better start
    both = np.random.default_rng(OPTIONS["rng"])
    alone = [lds().fit(train, 30, **options | {"rng": both}) for _ in "ab"]
    scores = [each.score(kept, rng=0) for each in alone]
    together = lds().fit(train, 30, n_init=2, **options)
    assert together.best_step_ == 0
    assert together.score(kept, rng=0) == max(scores)
    # after a warm-up, with the networks that it has trained
    warm = svae.SVAE(svae.SLDS(2, 2), NETWORK, NETWORK)
    warm.fit(train, 30, warmup=3, **options)
    assert warm.best_step_ == 0
    assert np.all(warm.history_["held_out"] < warm.score(kept, rng=0))


def test_ctrl_c_before_the_first_score_returns_the_model_as_it_is():
    train, kept = FRAMES[:80], FRAMES[80:]
    model = lds()
    with pytest.warns(UserWarning, match="interrupted in step 8 of the training"):
        options = {"held_out": kept, "callback": stop_at(7)}
        model.fit(train, 30, **options, **OPTIONS)
    assert model.best_step_ == 7
    assert np.all(np.isnan(model.history_["held_out"]))
    for a, b in zip(
        leaves(model.parameters_),
        leaves(lds().fit(train, 7, **OPTIONS).parameters_),
        strict=True,
    ):
        assert_identical(a, b)


def test_states_in_use_are_recorded_of_models_that_have_states():
    model = svae.SVAE(svae.HMM(3, 2), NETWORK, NETWORK)
    model.fit(FRAMES, 4, warmup=2, **OPTIONS)
    used = model.history_["states_in_use"]
    assert used.shape == (4,) and np.all((used >= 1) & (used <= 3))
    assert "states_in_use" not in lds().fit(FRAMES, 2, **OPTIONS).history_


def test_states_in_use_are_those_of_the_metric(rng):
    """Over the frames of the windows, not over what pads them."""
    cut = np.array([[0, 0, 30], [0, 30, 50], [1, 5, 40]])
    states = rng.random((3, 35, 60))
    minibatch = Minibatch(cut, 1.0, None)
    lengths = cut[:, 2] - cut[:, 1]
    paths = [states[n, :length].argmax(axis=1) for n, length in enumerate(lengths)]
    counted = step._states_in_use(minibatch, states)
    assert counted == svae.metrics.states_in_use(paths) < 60
    assert np.isnan(step._states_in_use(minibatch, None))
    points = Minibatch(np.stack([0 * lengths, lengths, lengths + 1], axis=1), 1.0, None)
    single = states[:, :1]
    paths = single[:, 0].argmax(axis=1)
    counted = step._states_in_use(points, single)
    assert counted == svae.metrics.states_in_use(paths)


def stop_at(step):
    def stop(reached, record):
        if reached == step:
            raise KeyboardInterrupt

    return stop


def test_ctrl_c_returns_the_model_as_it_is():
    model = lds()
    with pytest.warns(UserWarning, match="interrupted in step 8 of the training"):
        same = model.fit(FRAMES, 30, callback=stop_at(7), **OPTIONS)
    assert same is model
    assert (model.ended_, model.best_step_) == ("interrupted", 7)
    assert_same_fit(model, lds().fit(FRAMES, 7, **OPTIONS))


def test_ctrl_c_in_a_later_start_keeps_the_better_one():
    first = lds().fit(FRAMES, 20, **OPTIONS | {"rng": 3})
    model, counted = lds(), []

    def stop(step, record):
        counted.append(step)
        if len(counted) == 23:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in step 4 of the training"):
        model.fit(FRAMES, 20, n_init=2, callback=stop, **OPTIONS | {"rng": 3})
    assert_same_fit(model, first)  # three steps are no better than twenty


def test_ctrl_c_in_the_warm_up_fits_the_latents_as_they_are(monkeypatch):
    """As if the warm-up had been that long, and training had no steps yet."""
    step, taken = svae.training.step.step, []

    def interrupted(*arguments):
        if len(taken) == 6:
            raise KeyboardInterrupt
        taken.append(1)
        return step(*arguments)

    monkeypatch.setattr(svae.training.step, "step", interrupted)
    model = slds()
    with pytest.warns(UserWarning, match="interrupted in step 7 of the warm-up"):
        model.fit(FRAMES, 30, warmup=20, **OPTIONS)
    monkeypatch.undo()
    assert len(model.history_["objective"]) == 0
    assert model.predict(FRAMES).shape == (len(FRAMES),)
    firsts = []
    other = slds()
    other.fit(
        FRAMES,
        1,
        warmup=6,
        callback=lambda *_: firsts.append(other.parameters_),
        **OPTIONS | {"learning_rate": 1e-2, "natural_step": 1e-300},
    )
    for a, b in zip(
        leaves(model.parameters_.natparams), leaves(firsts[0].natparams), strict=True
    ):
        assert_identical(a, b)


def test_an_error_keeps_the_last_good_parameters(monkeypatch):
    step, taken = svae.training.step.step, []

    def failing(*arguments):
        if len(taken) == 5:
            raise FloatingPointError("step 5: the bound is nan")
        taken.append(1)
        return step(*arguments)

    monkeypatch.setattr(svae.training.step, "step", failing)
    model = lds()
    with pytest.raises(FloatingPointError, match="step 5"):
        model.fit(FRAMES, 30, **OPTIONS)
    monkeypatch.undo()
    assert model.ended_ == "failed"
    assert_same_fit(model, lds().fit(FRAMES, 5, **OPTIONS))


@pytest.mark.filterwarnings("ignore:learning_rate is 0.3")
def test_how_training_ended_is_saved(tmp_path):
    told = []

    def look(step, record):
        if step == 4:
            told.append(svae.load(tmp_path / "model.npz").ended_)

    train, kept = FRAMES[:80], FRAMES[80:]
    every = {"checkpoint": tmp_path, "checkpoint_interval": 0.0, "callback": look}
    options = OPTIONS | {"learning_rate": 0.3, "held_out": kept, "score_every": 2}
    model = lds().fit(train, 40, patience=3, **every, **options)
    again = svae.load(tmp_path / "model.npz")
    assert told == ["running"]
    assert (again.ended_, again.best_step_) == ("patience", model.best_step_)


def test_a_refused_fit_leaves_the_fitted_model_alone():
    model = lds().fit(FRAMES, 3, **OPTIONS)
    before = model.transform(FRAMES)
    with pytest.raises(ValueError, match="held_out has 3 dimensions, data 2"):
        model.fit(FRAMES[:9], 3, held_out=np.zeros((9, 3)))
    assert_identical(model.transform(FRAMES), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_init": 0}, "n_init must be a positive integer, got 0"),
        ({"score_every": 0}, "score_every must be a positive integer, got 0"),
        ({"patience": 2}, "patience: there are no held-out data"),
        ({"held_out": FRAMES, "patience": 0}, "patience must be a positive integer"),
        ({"resume": True}, "resume: there is no folder"),
    ],
)
def test_wrong_words_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lds().fit(FRAMES, 2, rng=0, **options)


def test_bars_name_their_stages(capsys):
    slds().fit(FRAMES, 4, warmup=3, n_init=2, progress=True, **OPTIONS)
    shown = capsys.readouterr().err
    for words in ("start 1/2 warm-up", "start 1/2:", "start 2/2 warm-up", "start 2/2:"):
        assert words in shown
    assert "3/3" in shown
    assert "4/4" in shown
