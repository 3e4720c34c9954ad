"""Digits of layers: threads, rows, units in the last place, special values."""

import json
import os
import sys
from pathlib import Path

import numpy as onp
import pytest

import svae
from svae.kernels import layers, passes
from svae.testing import (
    assert_identical,
    cotangents,
    random_like,
)
from svae.testing.accuracy import instruction_sets
from tests.helpers.layers import HEADS, SHAPE, head_of, head_problem


def everything(problems):
    """Return values and cotangents of all layers with compiled passes."""
    results = []
    for f, args, outputs_bar in problems:
        results += [*f(*args), *cotangents(f, args, outputs_bar)]
    return results


def test_threads_change_no_digit(rng):
    problems = []
    for mean, residual, masked in HEADS:
        args, *rest = head_problem(rng, residual, masked, 3, 2, 100, 5, 40)
        head = head_of(layers, mean, *rest)
        problems.append((head, args, random_like(rng, head(*args))))
    args = [rng.standard_normal(s) for s in ((3, 500, 4), (4, 70), (70,))]
    problems.append(
        (
            lambda *a: [layers.tanh_layer(*a)],
            args,
            [rng.standard_normal((3, 500, 70))],
        )
    )
    before = svae.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            svae.set_num_threads(count)
            results.append(everything(problems))
    finally:
        svae.set_num_threads(before)
    assert_identical(results[1], results[0])
    assert_identical(results[2], results[0])


def test_other_rows_change_no_digit(rng):
    """Of the passes: the products of BLAS are not ours to promise."""
    values, bias = rng.standard_normal((5, 37)), rng.standard_normal(5)
    bars = rng.standard_normal(values.shape)
    together = values.copy()
    passes.tanh_layer(together, bias)
    of_together, _ = passes.tanh_layer_vjp(together, bars)
    for r in range(37):
        alone = values[:, r : r + 1].copy()
        passes.tanh_layer(alone, bias)
        assert_identical(alone, together[:, r : r + 1])
        bar = bars[:, r : r + 1].copy()
        assert_identical(
            passes.tanh_layer_vjp(alone, bar)[0], of_together[:, r : r + 1]
        )
    a, s, offset = rng.standard_normal((3, 2 * 3 * 4, 11))
    data, observed = rng.standard_normal((2, 4, 11)), rng.random((2, 4, 11)) < 0.7
    biases, floor = rng.standard_normal((2, 11)), rng.uniform(0.1, 2.0, 11)

    def passed(rows, data, observed, num_samples, mean, residual):
        slopes = a[rows].copy(), s[rows].copy()
        extra = (offset[rows].copy(), floor) if residual else (None, None)
        density, of_variance = passes.gaussian_head(
            *slopes, *biases, data, observed, num_samples, mean == "sigmoid", *extra
        )
        return [density, *slopes, *([of_variance] if residual else [])]

    for mean, residual, masked in HEADS:
        words = mean, residual
        mask = observed if masked else None
        together = passed(slice(None), data, mask, 3, *words)
        for row in range(24):
            n, t = row // 12, row % 4
            at = slice(n, n + 1), slice(t, t + 1)
            one = mask[at].copy() if masked else None
            alone = passed(slice(row, row + 1), data[at].copy(), one, 1, *words)
            assert_identical(alone, [x[row : row + 1] for x in together])


@pytest.mark.parametrize("isa", instruction_sets())
def test_functions_are_within_a_few_units_in_the_last_place(isa, run_python):
    script = str(Path(__file__).parents[1] / "helpers" / "functions.py")
    code = f"import runpy; runpy.run_path({script!r}, run_name='__main__')"
    path = os.pathsep.join(sys.path)
    done = run_python(code, SVAE_ISA=isa, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    for name, (error, at) in json.loads(done.stdout).items():
        assert error < 3, f"{name}({at}): {error} units in the last place"


def test_functions_have_their_limits_and_keep_nan_and_the_sign_of_zero():
    x = onp.array([onp.nan, onp.inf, -onp.inf, 0.0, -0.0])
    expected = {
        "exp": [onp.nan, onp.inf, 0.0, 1.0, 1.0],
        "tanh": [onp.nan, 1.0, -1.0, 0.0, -0.0],
        "logistic": [onp.nan, 1.0, 0.0, 0.5, 0.5],
        "softplus": [onp.nan, onp.inf, 0.0, onp.log(2.0), onp.log(2.0)],
    }
    for name, values in expected.items():
        got = getattr(passes, name)(x)
        onp.testing.assert_array_equal(got, values)
        onp.testing.assert_array_equal(onp.signbit(got[1:]), onp.signbit(values[1:]))
    got = passes.log(onp.array([onp.nan, onp.inf, 0.0, 1.0]))
    onp.testing.assert_array_equal(got, [onp.nan, onp.inf, -onp.inf, 0.0])


def test_what_is_not_a_number_stays_one(rng):
    for residual in (False, True):
        args, data, _ = head_problem(rng, residual, False, **SHAPE)
        args[0][1, 2, 3, 4] = onp.nan
        density = head_of(layers, "linear", data, None)(*args)[0]
        assert onp.isnan(density[1, 2, 3])
        assert onp.isnan(density).sum() == 1
    outputs = layers.tanh_layer(args[0], *args[1:3])
    assert onp.isnan(outputs[1, 2, 3]).all()
    assert onp.isnan(outputs).sum() == outputs.shape[-1]


def test_an_entry_that_is_not_observed_matters_to_nothing(rng):
    args, data, observed = head_problem(rng, False, True, **SHAPE)
    results = []
    for value in (0.0, 1e300):
        head = head_of(layers, "linear", onp.where(observed, data, value), observed)
        bars = [onp.ones((2, 3, 4))]
        results.append([*head(*args), *cotangents(head, args, bars)])
    assert_identical(*results)
