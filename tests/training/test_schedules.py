"""Rates of networks apart, their schedules, and weight decay."""

import numpy as np
import pytest

import svae
from svae.autodiff.trees import leaves, to_vector
from svae.training.adam import adam_init, adam_step, adam_step_of_parts
from svae.training.schedules import factor, resolve

NETWORK = svae.Residual((6,))
FRAMES = svae.synthetic.switching_lds(num_blocks=2, block_length=30, rng=0).frames
OPTIONS = {"window": 20, "batch_size": 2, "rng": 0, "learning_rate": 1e-2}


def fit(num_steps=3, likelihood="gaussian", latent=None, **options):
    latent = svae.LDS(2) if latent is None else latent
    words = ("inference", "decoder_posterior")
    given = {word: options.pop(word) for word in words if word in options}
    model = svae.SVAE(latent, NETWORK, NETWORK, likelihood, **given)
    return model.fit(FRAMES, num_steps, **OPTIONS | options)


def assert_same(one, other):
    np.testing.assert_array_equal(to_vector(one), to_vector(other))


def change(tree, before):
    return np.abs(to_vector(tree) - to_vector(before)).max()


def test_schedules_are_those_of_their_definition():
    assert resolve("schedule", "cosine", 40) == "cosine:40"
    assert [factor("constant", t) for t in (0, 9)] == [1.0, 1.0]
    cosine = [factor("cosine:40", t) for t in (0, 10, 20, 40, 99)]
    np.testing.assert_allclose(cosine, [1, 0.5 + 0.5**1.5, 0.5, 0, 0], atol=1e-15)
    falling = [factor("exponential:0.95:1000", t) for t in (0, 500, 2000)]
    np.testing.assert_allclose(falling, [1, 0.95**0.5, 0.95**2], rtol=1e-15)


@pytest.mark.parametrize(
    "wrong",
    ["linear", "cosine:0", "cosine:a", "cosine:3:4", "exponential:0.9", "constant:2"]
    + ["exponential:1.5:10", "exponential:0:10", "exponential:0.9:-1", 3, None, ""],
)
@pytest.mark.parametrize("name", ["schedule", "natural_schedule"])
def test_other_words_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} must be 'constant', 'cosine'"):
        fit(**{name: wrong})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"encoder": 1e-3}, "a number for each network"),
        ({"encoder": 1e-3, "latent": 1e-3}, "a number for each network"),
        ({"encoder": 1e-3, "decoder": 0.0}, "must be a positive number, got 0.0"),
        ({"encoder": 2.0, "decoder": 1e-3}, "must be 1 at most, got 2.0"),
    ],
)
def test_rates_that_make_no_sense_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        fit(learning_rate=wrong)


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_weight_decay_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="weight_decay must be a number from 0 on"):
        fit(weight_decay=wrong)


def test_parts_with_one_rate_step_as_one_and_each_alone_as_itself(rng):
    parts = {"w": rng.standard_normal((2, 3))}, [rng.standard_normal(4)]
    gradients = {"w": rng.standard_normal((2, 3))}, [rng.standard_normal(4)]
    state = adam_init(10)._replace(mean=rng.random(10), square=rng.random(10), step=4)
    together, moments = adam_step(parts, gradients, state, 0.1)
    for rates in ([0.1, 0.1], [0.1, 0.2], [0.1, None]):
        moved, new = adam_step_of_parts(parts, gradients, state, rates)
        assert new.step == 5
        assert_same(moved[0], together[0])
        np.testing.assert_array_equal(new.mean[:6], moments.mean[:6])
        if rates[1] is None:
            assert_same(moved[1], parts[1])
            np.testing.assert_array_equal(new.square[6:], state.square[6:])
        else:
            np.testing.assert_array_equal(new.square[6:], moments.square[6:])
            step = to_vector(moved[1]) - to_vector(parts[1])
            usual = to_vector(together[1]) - to_vector(parts[1])
            np.testing.assert_allclose(step, rates[1] / 0.1 * usual, rtol=1e-9)


def test_networks_have_rates_of_their_own():
    usual = fit().parameters_
    same = fit(learning_rate={"encoder": 1e-2, "decoder": 1e-2}).parameters_
    assert_same(same, usual)
    start = fit(1, learning_rate=1e-300).parameters_
    apart = fit(1, learning_rate={"encoder": 1e-2, "decoder": 1e-5}).parameters_
    assert change(apart.encoder, start.encoder) == pytest.approx(1e-2, rel=1e-4)
    assert change(apart.decoder, start.decoder) == pytest.approx(1e-5, rel=1e-4)


def test_the_defaults_are_written_out_bit_for_bit():
    options = {"schedule": "constant", "natural_schedule": "constant"}
    assert_same(fit(**options, weight_decay=0.0).parameters_, fit().parameters_)


def test_a_schedule_scales_the_rates_of_each_step():
    """A step that the schedule has halved is half as long."""
    before = fit(5).parameters_
    halved = fit(6, schedule="cosine:10", natural_schedule="cosine:10").parameters_
    # after its end nothing moves
    ended = fit(9, schedule="cosine:6", natural_schedule="cosine:6").parameters_
    same = fit(6, schedule="cosine", natural_schedule="cosine").parameters_
    assert_same(ended, same)
    assert change(halved, before) > 0
    first = fit(1, schedule="exponential:0.5:1").parameters_
    assert_same(first, fit(1).parameters_)
    second = fit(2, schedule="exponential:0.5:1").parameters_
    whole = fit(2).parameters_
    for part in ("encoder", "decoder"):
        start = to_vector(getattr(first, part))
        step = to_vector(getattr(second, part)) - start
        usual = to_vector(getattr(whole, part)) - start
        np.testing.assert_allclose(step, 0.5 * usual, rtol=1e-6, atol=1e-13)
    assert_same(second.natparams, whole.natparams)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"likelihood": svae.likelihoods.Gaussian("dimension")},
        {"inference": "sin"},
        {"decoder_posterior": "gaussian"},
    ],
)
def test_weight_decay_draws_matrices_alone_toward_zero(options):
    plain = fit(1, **options).parameters_
    start = fit(1, learning_rate=1e-300, **options).parameters_
    decayed = fit(1, weight_decay=0.3, **options).parameters_

    def assert_decayed(got, want, first):
        for key in want:
            for new, usual, old in zip(
                leaves(got[key]), leaves(want[key]), leaves(first[key]), strict=True
            ):
                drawn = key != "skip" and np.ndim(old) == 2
                expected = usual - 0.3 * 1e-2 * old if drawn else usual
                np.testing.assert_array_equal(new, expected)

    inner = plain.encoder if "inference" not in options else plain.encoder["network"]
    assert np.ndim(inner["hidden"][0][0]) == 2
    for part in ("encoder", "decoder"):
        trees = [getattr(each, part) for each in (decayed, plain, start)]
        if "network" in trees[0]:
            networks = [tree["network"] for tree in trees]
            assert_decayed(*networks)
            for key in trees[0].keys() - {"network"}:
                assert_same(trees[0][key], trees[1][key])
        elif "log_std" in trees[0]:
            assert_same(trees[0], trees[1])
        else:
            assert_decayed(*trees)
    assert_same(decayed.natparams, plain.natparams)


def test_a_scheduled_fit_goes_on_bit_for_bit_over_the_same_steps(tmp_path):
    options = {"schedule": "cosine:8", "weight_decay": 0.1}
    options |= {"learning_rate": {"encoder": 1e-2, "decoder": 2e-3}}
    whole = fit(8, **options)
    fit(4, checkpoint=tmp_path, **options)
    resumed = fit(8, checkpoint=tmp_path, resume=True, **options)
    assert_same(resumed.parameters_, whole.parameters_)
    with pytest.raises(ValueError, match="fit.schedule = cosine:8, not cosine:9"):
        fit(9, checkpoint=tmp_path, resume=True, **options | {"schedule": "cosine"})
    with pytest.raises(ValueError, match=r"fit.weight_decay = 0.1, not 0"):
        fit(8, checkpoint=tmp_path, resume=True, **options | {"weight_decay": 0})
