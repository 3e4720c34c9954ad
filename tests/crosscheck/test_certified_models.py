"""Our families and latent models against certified values, and these made anew."""

import numpy as np
import pytest

from svae.crosscheck import cases, our_models

KINDS = (
    "family",
    "mixture_bound",
    "switching_bound",
    "natural_gradient",
    "inference_network",
)
LARGEST = 30.0
"""Errors in units of condition times rounding, as the verdicts of the set have it."""
FEWEST = 1e5
"""The same where it is said why there are fewer."""
OURS = [
    pytest.param(case, id=case.name)
    for case in map(cases.load, cases.names())
    if case.kind in KINDS
]


def ratios(case, answers):
    """Return error / (condition x 2^-53), norm-wise, of every quantity."""
    found = {}
    for name, truth in case.expected.items():
        answer = np.asarray(answers[name])
        assert answer.shape == truth.hi.shape, name
        scale = np.abs(truth.hi).max(initial=0.0) or 1.0
        error = np.abs(truth.difference(answer)).max(initial=0.0) / scale
        found[name] = error / (case.condition(name) * 2.0**-53)
    return found


@pytest.mark.parametrize("case", OURS)
def test_our_answers_have_all_the_digits_that_there_are(case):
    found = ratios(case, getattr(our_models, case.kind)(case.inputs))
    for quantity in our_models.FEWER_DIGITS.get(case.name, {}):
        assert found.pop(quantity) < FEWEST, quantity
    assert max(found.values()) < LARGEST, found


@pytest.mark.parametrize(
    "name",
    [
        "family-wishart-one-dimension",
        "family-niw",
        "gmm-bound-one-state",
        "slds-bound-one-step",
        "lds-natural-gradient-affine",
        "gmm-natural-gradient-overlapping",
        "lds-inference-network-affine",
        "student-inference-network",
    ],
)
def test_certified_values_are_derived_anew(name):
    pytest.importorskip("flint")
    from svae.crosscheck.truth import make

    problem = next(problem for problem in make.problems() if problem.name == name)
    assert make.differences(make.made(problem), cases.load(name)) == []
