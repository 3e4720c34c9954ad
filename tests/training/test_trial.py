"""A fit that is told no number of steps takes as many as a trial tells."""

import warnings

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves
from svae.training import checkpoint, left_out, loop, plan, step
from tests.helpers.runs import assert_same_run

NETWORK = svae.Residual((8,), weight_scale=None)
FEW = {"score_every": 4, "rng": 5, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def at_most_24_steps(monkeypatch):
    monkeypatch.setattr(plan, "MOST_STEPS", 24)


@pytest.fixture(scope="module")
def frames():
    """A closed curve in six dimensions, which a plane misses, with noise."""
    rng = np.random.default_rng(0)
    angle = np.cumsum(0.2 + 0.05 * rng.standard_normal(120))
    curve = np.stack([np.cos(k * angle + k) / k for k in range(1, 7)], axis=1)
    return 5 * curve + 0.2 * rng.standard_normal(curve.shape)


def make(latent=None):
    return svae.SVAE(latent or svae.LDS(2), NETWORK, NETWORK)


def numbers(model):
    columns = {k: x for k, x in model.history_.items() if k != "seconds"}
    return [*leaves(tuple(model.parameters_)), *leaves(columns)]


def assert_same(model, other):
    for got, want in zip(numbers(model), numbers(other), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rng", [5, np.random.default_rng(5)])
def test_the_fit_is_that_of_the_steps_with_the_best_score(frames, rng):
    model = make().fit(frames, **FEW | {"rng": rng})
    best = int(model.trial_["step"][np.argmax(model.trial_["score"])])
    assert best > 0
    assert len(model.history_["objective"]) == best
    assert_same(model, make().fit(frames, num_steps=best, **FEW))


def test_the_score_is_that_of_the_last_fifth(frames):
    model = make().fit(frames, **FEW)
    first = make().fit(
        frames[:96], num_steps=4, held_out=frames[96:], score_every=4, **_without(FEW)
    )
    want = [first.start_["held_out"], first.history_["held_out"][3]]
    np.testing.assert_allclose(model.trial_["score"][:2], want, rtol=1e-12)


def _without(options):
    return {k: x for k, x in options.items() if k != "score_every"}


@pytest.mark.parametrize("latent", [svae.SLDS(2, 2), svae.HMM(2, 2), svae.GMM(3, 2)])
def test_every_latent_model_has_one(frames, latent):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = make(latent).fit(frames, **FEW)
    texts = [str(each.message) for each in caught]
    assert len(texts) == len(set(texts))
    assert model.trial_["step"][0] == 0
    assert np.isfinite(model.trial_["score"]).all()


def test_where_no_step_helps_the_model_is_its_start():
    """Hidden layers and large steps have nothing to give to what is linear."""
    rng = np.random.default_rng(1)
    x = np.zeros((60, 2))
    for t in range(1, 60):
        x[t] = 0.9 * x[t - 1] + rng.standard_normal(2)
    frames = x @ rng.standard_normal((2, 12)) + 0.5 * rng.standard_normal((60, 12))
    with pytest.warns(UserWarning, match="no step improved the score of the fifth"):
        model = make().fit(frames, **FEW | {"learning_rate": 0.05})
    assert model.best_step_ == 0
    assert len(model.history_["objective"]) == 0
    assert model.ended_ == "steps"
    assert len(model.trial_["score"]) == 1 + plan.PATIENCE
    assert np.argmax(model.trial_["score"]) == 0
    tiny = {"learning_rate": 1e-12, "natural_step": 1e-12}
    started = make().fit(frames, num_steps=1, rng=5, **tiny)
    np.testing.assert_allclose(model.score(frames), started.score(frames), rtol=1e-9)
    assert np.isfinite(model.predict_next(frames).mean[1:]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 6},
        {"num_steps": 6, "start": "random"},
        {"start": "random"},
        {"held_out": True},
    ],
)
def test_who_says_how_many_steps_has_no_trial(frames, options):
    if "held_out" in options:
        options = {"held_out": frames[:40]}
    model = make().fit(frames, **FEW, **options)
    assert model.trial_ is None
    assert len(model.history_["objective"]) == options.get("num_steps", 24)


def test_too_few_frames_are_not_divided(frames):
    model = make().fit(frames[:24], **FEW)
    assert model.trial_ is None
    assert len(model.history_["objective"]) == 24


def test_a_fifth_without_data_is_no_measure(frames):
    gappy = frames.copy()
    gappy[96:] = np.nan
    assert make().fit(gappy, **FEW).trial_ is None


def test_windows_are_divided():
    latent = svae.LDS(2)
    few = svae.data.windows([np.zeros((100, 1)), np.zeros((20, 1))], 100)
    kept, rest = left_out.without_a_fifth(few, latent)
    assert kept.tolist() == [[0, 0, 80], [1, 0, 20]]
    assert rest.tolist() == [[0, 80, 100]]
    many = svae.data.windows([np.zeros((60, 1)), np.zeros((40, 1))], 10)
    kept, rest = left_out.without_a_fifth(many, latent)
    assert rest.tolist() == [[0, 40, 50], [1, 30, 40]]
    assert sorted(kept.tolist() + rest.tolist()) == many.tolist()
    rows = svae.data.windows([np.arange(20.0)[:, None]], 1)
    kept, rest = left_out.without_a_fifth(rows, svae.GMM(2, 2))
    (points,) = left_out.read([np.arange(20.0)[:, None]], rest, svae.GMM(2, 2))
    assert points.ravel().tolist() == [4, 9, 14, 19]
    assert left_out.without_a_fifth(rows[:9], svae.GMM(2, 2))[0] is None


def stop_at(monkeypatch, module, count):
    """Have Ctrl-C come in the place of a step."""
    take, taken = module.step, []

    def interrupted(*arguments):
        taken.append(1)
        if len(taken) == count:
            raise KeyboardInterrupt
        return take(*arguments)

    monkeypatch.setattr(module, "step", interrupted)


@pytest.mark.parametrize("count", [3, 9, 26])
def test_a_stopped_fit_goes_on(frames, tmp_path, monkeypatch, count):
    whole = make().fit(frames, checkpoint=tmp_path / "whole", **FEW)
    trial_steps = int(whole.trial_["step"][-1])
    with monkeypatch.context() as patch:
        stop_at(patch, step, count)
        with pytest.warns(UserWarning, match="interrupted"):
            stopped = make().fit(frames, checkpoint=tmp_path / "a", **FEW)
    assert stopped.ended_ == "interrupted"
    assert np.isfinite(stopped.score(frames))
    in_trial = count <= trial_steps
    assert (tmp_path / "a" / checkpoint.TRIAL).is_file()
    if in_trial:
        assert len(stopped.history_["objective"]) == 0
    resumed = make().fit(frames, checkpoint=tmp_path / "a", resume=True, **FEW)
    assert_same(resumed, whole)
    assert_same_run(tmp_path / "a", tmp_path / "whole")
    for name, column in whole.trial_.items():
        np.testing.assert_array_equal(resumed.trial_[name], column)
        saved = svae.load(tmp_path / "a" / "model.npz").trial_[name]
        np.testing.assert_array_equal(saved, column)


def test_a_killed_trial_is_not_overwritten(frames, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, step, 6)
        with pytest.warns(UserWarning, match="interrupted"):
            make().fit(frames, checkpoint=tmp_path, **FEW)
    for name in checkpoint.FILES:
        (tmp_path / name).unlink()  # as if the process had been killed there
    with pytest.raises(ValueError, match="has a fit that has not ended"):
        make().fit(frames, checkpoint=tmp_path, **FEW)
    make().fit(frames, num_steps=2, checkpoint=tmp_path, overwrite=True, **FEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(checkpoint.FILES)


def test_more_steps_go_on_from_the_fit(frames, tmp_path):
    told = make().fit(frames, checkpoint=tmp_path, **FEW)
    number = len(told.history_["objective"]) + 3
    more = {"checkpoint": tmp_path, "resume": True, "num_steps": number}
    assert_same(
        make().fit(frames, **more, **FEW), make().fit(frames, num_steps=number, **FEW)
    )


def fail_at(monkeypatch, count):
    take, taken = loop.step_.step, []

    def failing(*arguments):
        taken.append(1)
        if len(taken) == count:
            raise FloatingPointError(f"step {count - 1}: the bound is nan")
        return take(*arguments)

    monkeypatch.setattr(step, "step", failing)


def test_a_trial_that_fails_ends_the_fit_before_that(frames, monkeypatch):
    fail_at(monkeypatch, 11)
    with pytest.warns(UserWarning, match="trial: step 10: the bound is nan; the fit"):
        model = make().fit(frames, **FEW)
    best = model.trial_["step"][np.argmax(model.trial_["score"])]
    assert 0 < len(model.history_["objective"]) == best <= 8


def test_a_trial_that_has_no_score_decides_nothing(frames, monkeypatch):
    def score(*arguments, **words):
        raise FloatingPointError("frame 3: no")

    monkeypatch.setattr("svae.estimators.svae.mean_bound", score)
    with pytest.warns(UserWarning, match="frame 3: no; the fit takes 24 steps"):
        model = make().fit(frames, **FEW)
    assert len(model.history_["objective"]) == 24
    assert np.isnan(model.trial_["score"]).all()
