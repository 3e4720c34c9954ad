"""The fuzzer of the kernels, for a while; `kernels.py` runs for as long as wanted."""

import pytest

from svae.testing.campaign import campaign
from tests.fuzz.kernels import fuzz


def test_some_calls_of_every_kernel():
    assert_every_outcome(campaign(fuzz, 400))


def assert_every_outcome(counts):
    for name in ("gaussian_chain", "markov_chain", "mixture"):
        for outcome in ("agrees", "agrees, with its adjoint", "refused"):
            assert counts[f"{name}: {outcome}"] > 0


def test_calls_from_several_threads_are_those_from_one():
    assert campaign(fuzz, 150, seed=1, threads=4) == campaign(fuzz, 150, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_many_calls(seed):
    assert_every_outcome(campaign(fuzz, 10_000, seed))


def test_a_failure_tells_how_to_repeat_it():
    def fails(rng):
        assert rng.random() < 0.9, "too large"
        return "small"

    with pytest.raises(AssertionError, match="run [0-9]+ of seed 5: .*too large"):
        campaign(fails, 1000, seed=5)
