"""The fuzzers of the kernels, for a while; the scripts run for as long as wanted."""

import pytest

from svae.testing.campaign import campaign, one_of
from tests.fuzz import chains, layers, mixtures

EVERY = pytest.mark.parametrize(
    "fuzzer", [chains, mixtures, layers], ids=lambda module: module.__name__
)
ADJOINTS = {
    chains: ["gaussian_chain", "markov_chain"],
    mixtures: ["mixture", "mixture_evidence"],
    layers: [],
}
OTHERS = {
    chains: ["gaussian_filter", "markov_filter", "viterbi", "sample_markov_chain"],
    mixtures: [],
    layers: ["layers.gaussian_head", "layers.tanh_layer", "layers.adam"],
}


@EVERY
def test_some_calls_of_every_kernel(fuzzer):
    assert_every_outcome(fuzzer, campaign(fuzzer.fuzz, 200))


def assert_every_outcome(fuzzer, counts):
    outcomes = {
        "agrees": ADJOINTS[fuzzer] + OTHERS[fuzzer],
        "refused": ADJOINTS[fuzzer] + OTHERS[fuzzer],
        "agrees, with its adjoint": ADJOINTS[fuzzer],
    }
    for outcome, names in outcomes.items():
        for name in names:
            assert counts[f"{name}: {outcome}"] > 0


def test_calls_from_several_threads_are_those_from_one():
    fuzz = one_of(chains.fuzz, mixtures.fuzz, layers.fuzz)
    assert campaign(fuzz, 150, seed=1, threads=4) == campaign(fuzz, 150, seed=1)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("seed", [2, 3])
def test_many_calls(fuzzer, seed):
    assert_every_outcome(fuzzer, campaign(fuzzer.fuzz, 4_000, seed))


def test_a_failure_tells_how_to_repeat_it():
    def fails(rng):
        assert rng.random() < 0.9, "too large"
        return "small"

    with pytest.raises(AssertionError, match="run [0-9]+ of seed 5: .*too large"):
        campaign(fails, 1000, seed=5)
