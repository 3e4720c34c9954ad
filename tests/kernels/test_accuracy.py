"""The Gaussian chain is as exact as LAPACK on the same recursions.

Errors grow with the condition number of the joint precision for both. The claim, on the
largest error over several sequences: at most `FACTOR` times that of LAPACK, or below
what rounding the potentials once does, eps times the condition number.
"""

import numpy as np
import pytest

from svae import kernels
from svae.testing.accuracy import instruction_sets, kinds, worst_errors

FACTOR = 3
EPS = np.finfo(float).eps
KINDS = tuple(kinds(2))


def assert_as_exact_as_lapack(draw, seeds, isas):
    condition, worst = worst_errors(draw, seeds, isas)
    lapack = worst.pop("LAPACK")
    for isa, errors in worst.items():
        for name, error in errors.items():
            bound = max(FACTOR * lapack[name], EPS * condition)
            assert error <= bound, f"{name}, {isa}: {error}, LAPACK {lapack[name]}"


@pytest.mark.parametrize("kind", KINDS[::3] + KINDS[-2:])
def test_small_chains(kind):
    draw = kinds(2)[kind]
    assert_as_exact_as_lapack(lambda rng: draw(rng, N=4, T=3), [0], [kernels.isa()])


def test_every_instruction_set():
    draw = kinds(2)["condition 1e6"]
    isas = instruction_sets()[1:]
    assert_as_exact_as_lapack(lambda rng: draw(rng, N=4, T=3), [0], isas)


@pytest.mark.slow
@pytest.mark.parametrize("D", [2, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_every_condition_number(kind, D):
    assert_as_exact_as_lapack(kinds(D)[kind], range(2), instruction_sets())
