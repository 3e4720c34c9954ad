"""Wrong answers are found, placed, and explained."""

import numpy as np
import pytest

from svae.crosscheck import compare, guess, museum
from svae.crosscheck.museum import textbook


def explained(case, answers):
    verdict = compare.judge(case, answers)
    assert verdict.verdict == "wrong"
    return guess.guess(case, answers, verdict)


def test_right_answers_are_right_and_any_subset_will_do(lds_case, truth):
    answers = truth(lds_case)
    verdict = compare.judge(lds_case, answers)
    assert verdict.verdict == "right" and len(verdict.scores) == len(answers)
    assert compare.judge(lds_case, {"smoothed.mean": answers["smoothed.mean"]}).well
    assert compare.judge(lds_case, {}).verdict == "not judged"


def test_the_largest_error_is_placed(lds_case, hmm_case, truth):
    answers = truth(lds_case)
    answers["smoothed.cov"][1, 4, 0, 1] += 0.5
    answers["log_likelihood"][1] += 1.0
    answers["grad.R"][2, 0] -= 9.0
    places = compare.judge(lds_case, answers).places
    assert places == {
        "smoothed.cov": "sequence 1, step 4, entry 0, 1",
        "log_likelihood": "sequence 1",
        "grad.R": "entry 2, 0",
    }
    answers = truth(hmm_case)
    answers["smoothed"][0, 5, 2] += 0.5
    places = compare.judge(hmm_case, answers).places
    assert places == {"smoothed": "sequence 0, step 5, entry 2"}


@pytest.mark.parametrize("name", ["dynamics", "smoothd.mean"])
def test_unknown_quantities_are_refused_with_a_near_name(lds_case, name):
    with pytest.raises(ValueError, match=f"{name!r}; (it has|is it smoothed.mean?)"):
        compare.judge(lds_case, {name: np.zeros(3)})


VALUES = ("log_likelihood", "filtered.mean", "smoothed.mean", "smoothed.cov")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transposed-dynamics", "A is transposed"),
        ("diagonal-boost", "1e-9 is added to the diagonal"),
        ("second-moment-as-covariance", "the second moment"),
        ("predicted-before-the-first-update", "predicted once before"),
        ("inputs-ignored", "B is taken for zero"),
        ("missing-as-zero", "missing entries of y are zeros"),
        ("partial-frame-dropped", "counts as missing altogether"),
        ("diagonal-of-R", "only the diagonal of R"),
        ("constant-missing", "constants log(2 pi)/2"),
        ("smoothed-without-gain-of-covariance", "it is what is filtered"),
        ("smoother-gain-without-noise", "the smoother's gain lacks Q"),
    ],
)
def test_mistakes_in_linear_systems_are_named(lds_case, name, words):
    answers = museum.answer(museum.MISTAKES[name], lds_case, slopes=False)
    assert words in explained(lds_case, {q: answers[q] for q in VALUES})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transposed-transition", "transition is transposed"),
        ("transition-before-the-first-step", "one transition too many"),
        ("uniform-start", "start is taken for uniform"),
        ("steps-behind-the-end", "lengths are ignored"),
        ("pairs-averaged", "divided by the number of sequences"),
    ],
)
def test_mistakes_in_hidden_markov_models_are_named(hmm_case, name, words):
    answers = museum.answer(museum.MISTAKES[name], hmm_case, slopes=False)
    assert words in explained(hmm_case, answers)


def test_other_conventions_are_named(lds_case, truth):
    right = truth(lds_case)
    covs, gains = right["smoothed.cov"], right["smoothed.cross_cov"]
    for answers, words in (
        ({"smoothed.cross_cov": np.swapaxes(gains, -1, -2)}, "it is transposed"),
        ({"smoothed.cov": np.linalg.inv(covs)}, "the inverse"),
        ({"smoothed.mean": right["filtered.mean"]}, "it is what is filtered"),
        ({"smoothed.mean": right["smoothed.mean"][:, ::-1]}, "time runs backwards"),
        ({"log_likelihood": -right["log_likelihood"]}, "sign is the other"),
        ({"smoothed.cov": covs + 1e-6 * np.eye(2)}, "added to the diagonal"),
        ({"grad.A": right["grad.A"] / 2}, "half of the right value"),
        (
            {q: right[q].astype(np.float32) for q in ("smoothed.mean", "grad.A")},
            "single precision",
        ),
    ):
        assert words in explained(lds_case, answers)


def test_two_mistakes_are_named_one_by_one(lds_case, truth):
    answers = truth(lds_case)
    answers["smoothed.mean"] = answers["filtered.mean"]
    answers["grad.Q"] = 2.0 * answers["grad.Q"]
    said = explained(lds_case, answers)
    assert "smoothed.mean: as if it is what is filtered" in said
    assert "grad.Q: as if it is twice the right value" in said


def test_what_nobody_knows_is_at_least_placed(lds_case, truth):
    answers = {"smoothed.mean": truth(lds_case)["smoothed.mean"]}
    answers["smoothed.mean"][:, 0] += [0.1, -0.7]
    assert (
        explained(lds_case, answers) == "what is wrong is wrong only at the first step"
    )
    answers = {"smoothed.mean": truth(lds_case)["smoothed.mean"]}
    answers["smoothed.mean"] += 0.1 * np.arange(24).reshape(2, 6, 2) ** 2
    assert explained(lds_case, answers) == ""


def test_a_textbook_with_a_mistake_is_right_again_afterwards(lds_case):
    before = textbook.lds(lds_case.inputs)["smoothed.mean"]
    museum.answer(museum.MISTAKES["transposed-dynamics"], lds_case)
    assert (textbook.lds(lds_case.inputs)["smoothed.mean"] == before).all()
