"""Arguments of layers: empty axes, memory, and what is refused."""

import numpy as onp
import pytest

from svae import reference
from svae.autodiff.trees import leaves
from svae.kernels import layers, passes
from svae.testing import (
    cotangents,
)
from tests.helpers.layers import SHAPE, head_of, head_problem


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
    first = passes.empty((300, 700))
    first[:] = 1.0
    view, place = first[7], first.ctypes.data
    del first
    other = passes.empty((300, 700))
    assert other.ctypes.data != place
    other[:] = 2.0
    assert onp.all(view == 1.0)
    del view
    assert passes.empty((300, 700)).ctypes.data == place


def test_malformed_arrays_are_refused(rng):
    a, s = rng.standard_normal((2, 6, 3))
    bias, data = onp.zeros(3), onp.zeros((2, 3, 3))
    rest = None, 1, False, None, None
    with pytest.raises(ValueError, match=r"scale has shape \(5, 3\)"):
        passes.gaussian_head(a, s[:5].copy(), bias, bias, data, *rest)
    with pytest.raises(ValueError, match="scale_bias"):
        passes.gaussian_head(a, s, bias, bias[:2].copy(), data, *rest)
    with pytest.raises(ValueError, match="data"):
        passes.gaussian_head(a, s, bias, bias, data[..., :2].copy(), *rest)
    with pytest.raises(ValueError, match="6 rows, wanted 6 times 2"):
        passes.gaussian_head(a, s, bias, bias, data, None, 2, *rest[2:])
    with pytest.raises(TypeError):
        passes.gaussian_head(a[:, ::2], s, bias, bias, data, *rest)
    with pytest.raises(ValueError, match="bias"):
        passes.tanh_layer(a, bias)
    with pytest.raises(ValueError, match="outputs_bar"):
        passes.tanh_layer_vjp(a, s[:, :2].copy())


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
    for function in (passes.exp, passes.tanh, passes.logistic, passes.softplus):
        with pytest.raises(ValueError, match="x is not aligned"):
            function(askew(x))
    with pytest.raises(ValueError, match="bias is not aligned"):
        passes.tanh_layer(x.copy(), askew(bias))
    with pytest.raises(ValueError, match="values is read-only"):
        values = x.copy()
        values.flags.writeable = False
        passes.tanh_layer(values, bias)
    with pytest.raises(ValueError, match="argument 1 of tanh_layer_vjp has masked"):
        passes.tanh_layer_vjp(x, onp.ma.masked_less(x, 0.0))
    passes.tanh_layer_vjp(x, onp.ma.array(x))  # no entry is masked
    with pytest.raises(ValueError, match="x holds -1.* no logarithm"):
        passes.log(onp.array([2.0, -1.0]))
    with pytest.raises(ValueError, match="negative size"):
        passes.empty((3, -1))


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
    passes.gaussian_head(*arrays.values(), None, 1, False, offset, None)
    arrays["offset"] = offset
    arrays[other] = arrays["location"].reshape(-1)[: arrays[other].size]
    arrays[other] = (
        arrays[other].reshape(-1, 1, P) if other == "data" else arrays[other]
    )
    if other in ("scale", "offset"):
        arrays[other] = arrays["location"]
    offset = arrays.pop("offset")
    with pytest.raises(ValueError, match=f"location shares memory with {other}"):
        passes.gaussian_head(*arrays.values(), None, 1, False, offset, None)


def test_a_floor_of_the_variance_is_positive(rng):
    location, scale = rng.standard_normal((2, 3, 2))
    rest = onp.zeros(2), onp.zeros(2), onp.zeros((3, 1, 2)), None, 1, False, None
    with pytest.raises(ValueError, match=r"floor\[1\] is -2.*, wanted positive"):
        passes.gaussian_head(location, scale, *rest, onp.array([1.0, -2.0]))


def test_new_moments_share_no_memory(rng):
    x, memory = rng.standard_normal((4, 9)), onp.zeros(10)
    new = memory[1:], memory[:-1], onp.zeros(9)
    with pytest.raises(ValueError, match="new_vector shares memory with new_mean"):
        passes.adam([x[0]], [x[1]], x[2], x[3] ** 2, 0.1, 1e-8, 0.9, 0.99, *new)
    new = onp.zeros(9), onp.zeros(9), onp.zeros(9)
    with pytest.raises(ValueError, match=r"mean has shape \(8,\), wanted \(9,\)"):
        passes.adam([x[0]], [x[1]], x[2, :8], x[3] ** 2, 0.1, 1e-8, 0.9, 0.99, *new)
