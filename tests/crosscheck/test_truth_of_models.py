"""The truth of families and latent models: derivations judge each other."""

import pytest

pytest.importorskip("flint")

from flint import arb

from svae.crosscheck import cases
from svae.crosscheck.truth import (
    families,
    inference_networks,
    make,
    meanfield,
    mixtures,
    natural_gradients,
)
from svae.crosscheck.truth.balls import (
    Disagreement,
    certify,
    exact,
    midpoints,
    precision,
)

TINY = 2.0**-80
"""A relative error that no float64 would show."""


def inputs_of(name):
    """Return the inputs of a case as balls."""
    return {key: exact(x) for key, x in cases.load(name).inputs.items()}


def derive(name):
    """Certify a case, without condition numbers."""
    inputs, kind = inputs_of(name), cases.load(name).kind
    return certify(lambda: make.KINDS[kind](inputs), name)


def slightly_wrong(right):
    """Return a function whose first result is off by a relative 2^-80."""

    def wrong(*args):
        found = right(*args)
        if isinstance(found, tuple):
            return found[0] + found[0] * TINY, *found[1:]
        return found + found * TINY

    return wrong


@pytest.mark.parametrize(
    ("name", "owner", "function"),
    [
        ("family-niw", families, "sequential_log_det"),
        ("family-dirichlet", families, "other_lgamma"),
        ("gmm-bound-one-state", meanfield.Dense, "linear"),
        ("slds-bound-one-step", mixtures, "of_node"),
        ("lds-natural-gradient-affine", natural_gradients, "sampling_adjoint"),
        ("gmm-natural-gradient-overlapping", meanfield.Dense, "state_covariance"),
        ("lds-inference-network-affine", inference_networks, "moved_moments"),
        ("student-inference-network", inference_networks, "likelihood_gradient"),
    ],
)
def test_an_error_of_2_to_the_minus_80_in_one_derivation_shows(
    name, owner, function, monkeypatch
):
    wrong = slightly_wrong(getattr(owner, function))
    if function == "of_node":

        def wrong(*args, right=mixtures.of_node):
            return {key: x + x * TINY for key, x in right(*args).items()}

    monkeypatch.setattr(owner, function, wrong)
    with pytest.raises(Disagreement, match=name):
        derive(name)


@pytest.mark.parametrize("kind", [meanfield.Dense, meanfield.Recursion])
def test_the_enclosed_fixed_point_is_where_plain_iteration_goes(kind):
    potentials = {
        key.removeprefix("natural."): x for key, x in inputs_of("gmm-bound").items()
    }
    start = potentials.pop("states")[0]
    with precision(256):
        problem = mixtures.problem_of(potentials)
        a = next(mixtures.sequences(potentials))
        derivation = kind(problem)
        enclosed = meanfield.enclosed_fixed_point(derivation, a, start)
        s = start
        for _ in range(400):
            s = midpoints(meanfield.Dense(problem).update(a, s))
        gap = max(abs(x).upper() for x in (s - enclosed).flat)
        assert gap < arb(2) ** -40
        assert max(x.rad() for x in enclosed.flat) < arb(2) ** -150


def test_nothing_is_proven_far_from_a_fixed_point(monkeypatch):
    potentials = {
        key.removeprefix("natural."): x for key, x in inputs_of("gmm-bound").items()
    }
    start = potentials.pop("states")[0]
    a = next(mixtures.sequences(potentials))
    derivation = meanfield.Dense(mixtures.problem_of(potentials))
    monkeypatch.setattr(meanfield, "ascend", lambda *args: start)
    monkeypatch.setattr(meanfield, "NEWTON", 0)
    with precision(256), pytest.raises(Disagreement, match="no proof"):
        meanfield.enclosed_fixed_point(derivation, a, start)
