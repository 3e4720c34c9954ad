"""The layers against the elementary operations they are made of.

What stands between their matrix products is compiled: of that, the accuracy of every
function on every instruction set, that neither threads nor other rows change a digit,
and hard cases.
"""

import json
import os
import sys
from pathlib import Path

import autograd.numpy as np
import numpy as onp
import pytest

import svae
from svae import kernels, reference
from svae.autodiff.trees import leaves
from svae.kernels import layers
from svae.testing import (
    assert_close,
    assert_identical,
    check_gradients,
    cotangents,
    random_like,
)
from svae.testing.accuracy import instruction_sets

TWINS = {
    "affine": lambda x, w, b: np.matmul(x, w) + b,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "softplus": lambda x: np.log(1.0 + np.exp(x)),
    "bounded_exp": lambda x: np.exp(10.0 * np.tanh(x / 10.0)),
    "gaussian_log_density": lambda x, m, v, observed: np.sum(
        -0.5 * (x - m) ** 2 / v - 0.5 * np.log(2 * np.pi * v), axis=-1
    ),
    "masked gaussian_log_density": lambda x, m, v, observed: np.sum(
        observed * (-0.5 * (x - m) ** 2 / v - 0.5 * np.log(2 * np.pi * v)), axis=-1
    ),
    "tanh_layer": reference.tanh_layer,
}


def arguments(name, rng):
    if name in ("affine", "tanh_layer"):
        return [rng.standard_normal(s) for s in ((2, 3, 4), (4, 5), (5,))]
    if name.endswith("gaussian_log_density"):
        mean = rng.standard_normal((2, 3, 4))
        return [mean, rng.uniform(0.5, 2.0, (2, 3, 4))]
    return [2 * rng.standard_normal((3, 4))]


def bind(function, name, rng):
    """Fix the observations, which have no gradient; they broadcast over samples."""
    if not name.endswith("gaussian_log_density"):
        return function
    x = rng.standard_normal((2, 1, 4))
    observed = rng.random(x.shape) < 0.6 if name.startswith("masked") else None
    return lambda mean, variance: function(x, mean, variance, observed)


def layer_of(name):
    return getattr(layers, name.split()[-1])


@pytest.mark.parametrize("name", TWINS)
def test_value_and_gradients_are_those_of_the_twin(name, rng):
    args = arguments(name, rng)
    layer, twin = (
        bind(f, name, onp.random.default_rng(1)) for f in (layer_of(name), TWINS[name])
    )
    assert_close(layer(*args), twin(*args), 1e-13)
    outputs_bar = random_like(rng, [layer(*args)])
    got = cotangents(lambda *a: [layer(*a)], args, outputs_bar)
    want = cotangents(lambda *a: [twin(*a)], args, outputs_bar)
    assert_close(got, want, 1e-12)
    check_gradients(lambda *a: [layer(*a)], args, rng)


@pytest.mark.parametrize("name", TWINS)
def test_second_derivatives_are_those_of_the_twin(name, rng):
    args = arguments(name, rng)
    directions = random_like(rng, args)
    results = []
    for f in (layer_of(name), TWINS[name]):
        f = bind(f, name, onp.random.default_rng(1))

        def slopes(*a, f=f):
            return cotangents(lambda *b: [np.sum(f(*b) ** 2)], a, [1.0])

        results.append(cotangents(slopes, args, directions))
    assert_close(results[0], results[1], 1e-10)


# mean, whether the network is a Residual one, whether entries are missing
HEADS = [
    (mean, residual, masked)
    for mean in ("linear", "sigmoid")
    for residual in (False, True)
    for masked in (False, True)
]
each_head = pytest.mark.parametrize(("mean", "residual", "masked"), HEADS)
SHAPE = {"N": 2, "S": 3, "T": 4, "M": 5, "P": 11}


def head_problem(rng, residual, masked, N, S, T, M, P):
    """Return features, two heads, and perhaps offset and floor; data and a mask."""
    args = [rng.standard_normal(s) for s in ((N, S, T, M), *2 * ((M, P), (P,)))]
    if residual:
        args += [rng.standard_normal((N, S, T, P)), rng.uniform(0.1, 2.0, P)]
    observed = rng.random((N, T, P)) < 0.7 if masked else None
    return args, rng.standard_normal((N, T, P)), observed


def head_of(module, mean, data, observed):
    def density(features, w, b, v, c, offset=None, floor=None):
        heads = (w, b), (v, c)
        return [
            module.gaussian_head(features, *heads, data, observed, mean, offset, floor)
        ]

    return density


@each_head
def test_a_gaussian_head_is_that_of_the_reference(mean, residual, masked, rng):
    args, data, observed = head_problem(rng, residual, masked, **SHAPE)
    head, twin = (head_of(m, mean, data, observed) for m in (layers, reference))
    assert_close(head(*args), twin(*args), 1e-13)
    outputs_bar = random_like(rng, head(*args))
    got, want = (cotangents(f, args, outputs_bar) for f in (head, twin))
    assert_close(got, want, 1e-12)
    check_gradients(head, args, rng)
    directions = random_like(rng, args)
    second = [
        cotangents(
            lambda *a, f=f: cotangents(lambda *b: [f(*b)[0] ** 2], a, outputs_bar),
            args,
            directions,
        )
        for f in (head, twin)
    ]
    assert_close(*second, 1e-10)


@each_head
def test_only_the_arguments_that_vary_have_cotangents(mean, residual, masked, rng):
    args, data, observed = head_problem(rng, residual, masked, **SHAPE)
    head = head_of(layers, mean, data, observed)
    outputs_bar = random_like(rng, head(*args))
    together = cotangents(head, args, outputs_bar)
    for k, x in enumerate(args):
        (alone,) = cotangents(
            lambda x, k=k: head(*args[:k], x, *args[k + 1 :]), [x], outputs_bar
        )
        assert_identical(alone, together[k])


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
    kernels.tanh_layer(together, bias)
    of_together, _ = kernels.tanh_layer_vjp(together, bars)
    for r in range(37):
        alone = values[:, r : r + 1].copy()
        kernels.tanh_layer(alone, bias)
        assert_identical(alone, together[:, r : r + 1])
        bar = bars[:, r : r + 1].copy()
        assert_identical(
            kernels.tanh_layer_vjp(alone, bar)[0], of_together[:, r : r + 1]
        )
    a, s, offset = rng.standard_normal((3, 2 * 3 * 4, 11))
    data, observed = rng.standard_normal((2, 4, 11)), rng.random((2, 4, 11)) < 0.7
    biases, floor = rng.standard_normal((2, 11)), rng.uniform(0.1, 2.0, 11)

    def passed(rows, data, observed, num_samples, mean, residual):
        slopes = a[rows].copy(), s[rows].copy()
        extra = (offset[rows].copy(), floor) if residual else (None, None)
        density, of_variance = kernels.gaussian_head(
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
        got = getattr(kernels, name)(x)
        onp.testing.assert_array_equal(got, values)
        onp.testing.assert_array_equal(onp.signbit(got[1:]), onp.signbit(values[1:]))
    got = kernels.log(onp.array([onp.nan, onp.inf, 0.0, 1.0]))
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


@pytest.mark.parametrize("empty", ["N", "S", "P", "M"])
def test_axes_may_be_empty(rng, empty):
    args, data, observed = head_problem(rng, True, True, **SHAPE | {empty: 0})
    bars = [onp.ones(args[0].shape[:-1])]
    results = [
        [*f(*args), *cotangents(f, args, bars)]
        for f in (head_of(m, "sigmoid", data, observed) for m in (layers, reference))
    ]
    for got, want in zip(*map(leaves, results), strict=True):
        assert got.shape == want.shape
        onp.testing.assert_allclose(got, want, rtol=1e-12)
    features, matrix, bias = args[:3]
    hidden = layers.tanh_layer(features, matrix, bias)
    onp.testing.assert_allclose(hidden, reference.tanh_layer(features, matrix, bias))


def test_memory_serves_again_but_not_while_a_view_of_it_lives():
    first = kernels.empty((300, 700))
    first[:] = 1.0
    view, place = first[7], first.ctypes.data
    del first
    other = kernels.empty((300, 700))
    assert other.ctypes.data != place
    other[:] = 2.0
    assert onp.all(view == 1.0)
    del view
    assert kernels.empty((300, 700)).ctypes.data == place


def test_malformed_arrays_are_refused(rng):
    a, s = rng.standard_normal((2, 6, 3))
    bias, data = onp.zeros(3), onp.zeros((2, 3, 3))
    rest = None, 1, False, None, None
    with pytest.raises(ValueError, match=r"scale has shape \(5, 3\)"):
        kernels.gaussian_head(a, s[:5].copy(), bias, bias, data, *rest)
    with pytest.raises(ValueError, match="scale_bias"):
        kernels.gaussian_head(a, s, bias, bias[:2].copy(), data, *rest)
    with pytest.raises(ValueError, match="data"):
        kernels.gaussian_head(a, s, bias, bias, data[..., :2].copy(), *rest)
    with pytest.raises(ValueError, match="6 rows, wanted 6 times 2"):
        kernels.gaussian_head(a, s, bias, bias, data, None, 2, *rest[2:])
    with pytest.raises(TypeError):
        kernels.gaussian_head(a[:, ::2], s, bias, bias, data, *rest)
    with pytest.raises(ValueError, match="bias"):
        kernels.tanh_layer(a, bias)
    with pytest.raises(ValueError, match="outputs_bar"):
        kernels.tanh_layer_vjp(a, s[:, :2].copy())


def test_nothing_overflows():
    with onp.errstate(over="raise", invalid="raise"):
        for name in ("sigmoid", "softplus", "bounded_exp"):
            values = getattr(layers, name)(onp.array([-1e4, 0.0, 1e4]))
            assert onp.all(onp.isfinite(values))


def askew(x):
    """Return the same numbers at an odd address."""
    view = onp.zeros(x.nbytes + 1, onp.uint8)[1:].view(onp.float64).reshape(x.shape)
    view[...] = x
    return view


def test_arrays_that_the_compiled_passes_cannot_read_are_named(rng):
    x, bias = rng.standard_normal((3, 4)), rng.standard_normal(3)
    for function in (kernels.exp, kernels.tanh, kernels.logistic, kernels.softplus):
        with pytest.raises(ValueError, match="x is not aligned"):
            function(askew(x))
    with pytest.raises(ValueError, match="bias is not aligned"):
        kernels.tanh_layer(x.copy(), askew(bias))
    with pytest.raises(ValueError, match="values is read-only"):
        values = x.copy()
        values.flags.writeable = False
        kernels.tanh_layer(values, bias)
    with pytest.raises(ValueError, match="argument 1 of tanh_layer_vjp has masked"):
        kernels.tanh_layer_vjp(x, onp.ma.masked_less(x, 0.0))
    kernels.tanh_layer_vjp(x, onp.ma.array(x))  # no entry is masked
    with pytest.raises(ValueError, match="x holds -1.* no logarithm"):
        kernels.log(onp.array([2.0, -1.0]))
    with pytest.raises(ValueError, match="negative size"):
        kernels.empty((3, -1))


@pytest.mark.parametrize("other", ["scale", "data", "offset", "location_bias"])
def test_heads_share_no_memory_with_what_the_pass_reads(rng, other):
    """It writes to the heads: what is read later would be what it has written."""
    R, P = 6, 2
    arrays = {
        "location": rng.standard_normal((R, P)),
        "scale": rng.standard_normal((R, P)),
        "location_bias": rng.standard_normal(P),
        "scale_bias": rng.standard_normal(P),
        "data": rng.standard_normal((R, 1, P)),
        "offset": rng.standard_normal((R, P)),
    }
    offset = arrays.pop("offset")
    kernels.gaussian_head(*arrays.values(), None, 1, False, offset, None)
    arrays["offset"] = offset
    arrays[other] = arrays["location"].reshape(-1)[: arrays[other].size]
    arrays[other] = (
        arrays[other].reshape(-1, 1, P) if other == "data" else arrays[other]
    )
    if other in ("scale", "offset"):
        arrays[other] = arrays["location"]
    offset = arrays.pop("offset")
    with pytest.raises(ValueError, match=f"location shares memory with {other}"):
        kernels.gaussian_head(*arrays.values(), None, 1, False, offset, None)


def test_a_floor_of_the_variance_is_positive(rng):
    location, scale = rng.standard_normal((2, 3, 2))
    rest = onp.zeros(2), onp.zeros(2), onp.zeros((3, 1, 2)), None, 1, False, None
    with pytest.raises(ValueError, match=r"floor\[1\] is -2.*, wanted positive"):
        kernels.gaussian_head(location, scale, *rest, onp.array([1.0, -2.0]))


def test_new_moments_share_no_memory(rng):
    x, memory = rng.standard_normal((4, 9)), onp.zeros(10)
    new = memory[1:], memory[:-1], onp.zeros(9)
    with pytest.raises(ValueError, match="new_vector shares memory with new_mean"):
        kernels.adam([x[0]], [x[1]], x[2], x[3] ** 2, 0.1, 1e-8, 0.9, 0.99, *new)
    new = onp.zeros(9), onp.zeros(9), onp.zeros(9)
    with pytest.raises(ValueError, match=r"mean has shape \(8,\), wanted \(9,\)"):
        kernels.adam([x[0]], [x[1]], x[2, :8], x[3] ** 2, 0.1, 1e-8, 0.9, 0.99, *new)
