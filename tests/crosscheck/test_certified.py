"""The certified set: our digits on every instruction set, and how the set is made."""

import functools
import json

import numpy as np
import pytest

from svae.crosscheck import cases, ours
from svae.testing.accuracy import instruction_sets
from tests.helpers import certified

PASSES_BELOW = 30.0
"""Errors in units of condition times rounding."""
FLOOR = 4.0
"""In the same units: errors that are rounding, in which machines differ."""
EVERY = [cases.load(name) for name in cases.names()]
each_case = pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
each_set = pytest.mark.parametrize("isa", instruction_sets())


@pytest.fixture(scope="module")
def errors_of():
    """Return what finds our errors on an instruction set, once for each."""
    return functools.cache(certified.errors_on)


def ratios(case, errors):
    """Return errors in units of condition times rounding."""
    return {
        name: error / (case.condition(name) * certified.ROUNDOFF)
        for name, error in errors.items()
    }


@each_set
def test_our_answers_have_all_the_digits_that_there_are(isa, errors_of):
    found = errors_of(isa)
    wrong = {}
    for case in EVERY:
        for name, ratio in ratios(case, found[case.name]).items():
            known = name in ours.FEWER_DIGITS.get(case.name, {})
            if ratio >= PASSES_BELOW and not known:
                wrong[f"{case.name} {name}"] = ratio
    assert not wrong


@each_set
def test_no_error_is_twice_what_it_was(isa, errors_of):
    stored, found = json.loads(certified.STORED.read_text()), errors_of(isa)
    worse = {}
    for case in EVERY:
        assert found[case.name].keys() == stored[case.name].keys(), case.name
        for name, error in found[case.name].items():
            floor = FLOOR * case.condition(name) * certified.ROUNDOFF
            if error > max(2 * stored[case.name][name], floor):
                worse[f"{case.name} {name}"] = error, stored[case.name][name]
    assert not worse


def test_what_has_fewer_digits_is_said_only_where_it_is_so():
    stored = json.loads(certified.STORED.read_text())
    for case in EVERY:
        for name in ours.FEWER_DIGITS.get(case.name, {}):
            ratio = ratios(case, stored[case.name])[name]
            assert ratio > PASSES_BELOW / 2, f"{case.name} {name}: say it no more"


@each_case
def test_values_are_known_to_thirty_digits(case):
    assert len(case.derivations) >= 2
    for name, (hi, lo, radius) in case.expected.items():
        assert list(hi.shape) == case.quantities[name]["shape"]
        if hi.dtype != float:
            assert not lo.any() and not radius.any()
            continue
        assert case.condition(name) >= 1
        assert (np.abs(lo) <= np.spacing(np.abs(hi)) / 2).all()
        assert (radius <= 2.0**-98 * np.abs(hi) + 2.0**-390).all()


@each_case
def test_no_condition_number_excuses_every_answer(case):
    for name, quantity in case.quantities.items():
        assert 1.0 <= quantity.get("condition", 1.0) < 1e13, name


@each_case
def test_a_case_says_what_it_is(case):
    assert case.kind in cases.KINDS
    assert case.name == case.name.lower() or "R-1e" in case.name
    assert case.origin.endswith(".")
    assert case.catches
    assert case.conventions == cases.CONVENTIONS[case.kind]
    for name, x in case.inputs.items():
        assert name.split(".")[0] in (
            "natural",
            "standard",
            "cotangent",
            "direction",
        )
        assert x.dtype in (np.float64, np.int64)


def test_a_case_is_read_as_it_was_written(tmp_path):
    for name in ("gaussian-chain-ragged", "viterbi-ties", "lds-1e5-steps"):
        case = cases.load(name)
        cases.write(case, tmp_path / name)
        again = cases.load(tmp_path / name)
        assert again.quantities == case.quantities
        for key, x in case.inputs.items():
            np.testing.assert_array_equal(again.inputs[key], x)
        for key, x in case.expected.items():
            assert all(map(np.array_equal, again.expected[key], x))
    assert cases.names(tmp_path) == [
        "gaussian-chain-ragged",
        "lds-1e5-steps",
        "viterbi-ties",
    ]
    assert (tmp_path / "lds-1e5-steps" / "inputs.npz").stat().st_size < 5000


def test_a_case_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'lds-smal' is neither one of the"):
        cases.load("lds-smal")


def test_another_schema_is_refused(tmp_path):
    cases.write(cases.load("hmm-small"), tmp_path)
    path = tmp_path / "case.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ValueError, match="another schema than 1"):
        cases.load(tmp_path)


def test_differences_are_those_from_the_truth():
    truth = cases.Certified(
        np.array([1.0]), np.array([2.0**-60]), np.array([2.0**-110])
    )
    (gap,) = truth.difference(np.array([1.0]))
    assert gap == -(2.0**-60 - 2.0**-110)
    # smaller than the radius is no difference
    truth = truth._replace(lo=np.zeros(1), radius=np.array([2.0**-40]))
    assert not truth.difference(np.array([1.0 + 2.0**-50])).any()


def test_residues_are_integers_that_any_language_makes():
    r = cases.quadratic_residues(1000, 2, seed=5, bits=13)
    t, k = 999, 1
    by_hand = (
        (5 + 2 * k + 1) * t * t + (7 * 5 + 11 * k) * t + 13 * 5 + 101 * k
    ) % 65521
    assert r[t, k] == (by_hand - 32760) / 2**13
    assert len(np.unique(r)) > 1900


def test_the_set_is_small():
    sizes = [path.stat().st_size for path in cases.CERTIFIED.rglob("*.*")]
    assert sum(sizes) < 5e6


def test_all_cases_are_those_of_the_script():
    pytest.importorskip("flint")
    from svae.crosscheck.truth import make

    assert sorted(problem.name for problem in make.problems()) == cases.names()


@pytest.mark.parametrize(
    "name",
    ["gaussian-chain-one-step", "markov-chain-ragged", "lds-ragged", "hmm-one-step"],
)
def test_certified_values_are_derived_anew(name):
    pytest.importorskip("flint")
    from svae.crosscheck.truth import make

    problem = next(problem for problem in make.problems() if problem.name == name)
    assert make.differences(make.made(problem), cases.load(name)) == []


@pytest.mark.parametrize(
    "name", ["markov-chain-1e6-steps", "gaussian-chain-1e6-steps", "lds-1e5-steps"]
)
def test_digests_are_derived_like_other_cases(name):
    pytest.importorskip("flint")
    from svae.crosscheck.truth import make
    from svae.crosscheck.truth.balls import agree, exact, precision

    problem = next(problem for problem in make.problems() if problem.name == name)
    rule = problem.generator
    short = cases.GENERATORS[rule["name"]](**{**rule["arguments"], "T": 7})
    inputs = {key: exact(x) for key, x in {**problem.inputs, **short}.items()}
    with precision(200):
        digest = dict(make.DIGESTS[problem.kind](inputs)).values()
        every = dict(make.KINDS[problem.kind](inputs)).values()
        for one in digest:
            for other in every:
                agree(one, other, name)


def test_derivations_that_exclude_each_other_are_named():
    pytest.importorskip("flint")
    from svae.crosscheck.truth.balls import Disagreement, agree, certify, exact

    one, other = {"logZ": exact([1.0, 2.0])}, {"logZ": exact([1.0, 2.0 + 2.0**-50])}
    with pytest.raises(Disagreement, match=r"case logZ\[1\]"):
        agree(one, other, "case")
    with pytest.raises(Disagreement, match=r"case logZ\[1\]"):
        certify(lambda: [("one way", one), ("another", other)], "case")


def test_the_script_compares_with_what_is_kept(tmp_path, capsys):
    pytest.importorskip("flint")
    from svae.crosscheck.truth.make import main

    name, folder = "hmm-one-step", ["--folder", str(tmp_path)]
    assert main([name, *folder]) == 1
    assert main([name, "--write", *folder]) == 0
    assert main([name, *folder]) == 0
    arrays = dict(np.load(tmp_path / name / "expected.npz"))
    arrays["filtered.hi"][0, 0] += 1e-9
    np.savez(tmp_path / name / "expected.npz", **arrays)
    assert main([name, *folder]) == 1
    words = capsys.readouterr().out.splitlines()
    assert [line.split(" s  ")[1] for line in words] == [
        "is not in the folder",
        "written",
        "the same",
        "differs: filtered",
    ]


def test_unknown_case_of_the_script(capsys):
    pytest.importorskip("flint")
    from svae.crosscheck.truth.make import main

    with pytest.raises(SystemExit):
        main(["no-such-case"])
    assert "no such case: no-such-case" in capsys.readouterr().err
