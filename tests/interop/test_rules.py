"""The rules in NumPy say what autograd says of the kernels."""

import numpy as np
import pytest

from svae import kernels
from svae.errors import NotPositiveDefinite
from svae.interop.rules import hessian_product, pull_back
from svae.testing import (
    assert_close,
    cotangents,
    hessian_vector_product,
    random_like,
)
from svae.testing.chains import SHARING
from tests.helpers.interop import NAMES, case

each_case = pytest.mark.parametrize("name", NAMES)
each_sharing = pytest.mark.parametrize("sharing", SHARING)


def summed(per_sequence, shapes):
    """Sum what has all sequences over those that share an argument."""
    return [
        x.reshape(shape) if x.size == np.prod(shape) else x.sum(0).reshape(shape)
        for x, shape in zip(per_sequence, shapes, strict=True)
    ]


@each_case
@each_sharing
def test_outputs_are_those_of_the_kernels(rng, name, sharing):
    problem = case(rng, name, sharing)
    logZ, *found = problem.chain.forward(problem.inputs, problem.lengths)
    want = problem.outputs(kernels)(*problem.arguments)
    shapes = [x.shape for x in problem.arguments]
    assert_close([logZ, *summed(found, shapes)], want, rtol=1e-12)


@each_case
def test_shapes_are_known_before(rng, name):
    problem = case(rng, name)
    found = problem.chain.forward(problem.inputs, problem.lengths)
    shapes = problem.chain.shapes([x.shape for x in problem.inputs])
    assert [x.shape for x in found] == shapes


@each_case
@each_sharing
@pytest.mark.parametrize("which", ["log normalizer", "others", "all"])
def test_cotangents_are_those_of_autograd(rng, name, sharing, which):
    problem = case(rng, name, sharing)
    of_kernels = problem.outputs(kernels)
    bars = random_like(rng, of_kernels(*problem.arguments))
    for k in range(len(bars)):
        if which == ("others" if k == 0 else "log normalizer"):
            bars[k] = np.zeros_like(bars[k])
    want = cotangents(of_kernels, problem.arguments, bars)
    inputs, N = problem.inputs, 3
    given = [bars[0]] + [
        np.broadcast_to(bar.reshape(x.shape), (N, *x.shape[1:])).copy()
        for x, bar in zip(inputs, bars[1:], strict=True)
    ]
    given = [bar if bar.any() else None for bar in given]
    outputs = problem.chain.forward(inputs, problem.lengths)
    found = pull_back(problem.chain, inputs, outputs, given, problem.lengths)
    assert_close(
        [x.reshape(y.shape) for x, y in zip(found, want, strict=True)],
        list(want),
        rtol=1e-11,
    )


@each_sharing
@pytest.mark.parametrize("name", ["diagonal", "dense", "markov"])
def test_the_hessian_is_that_of_autograd(rng, name, sharing):
    problem = case(rng, name, sharing)
    directions = random_like(rng, problem.arguments)
    want = hessian_vector_product(
        lambda *x: problem.outputs(kernels)(*x)[0].sum(), problem.arguments, directions
    )
    pairs = zip(problem.inputs, directions, strict=True)
    along = [direction.reshape(x.shape) for x, direction in pairs]
    found = hessian_product(problem.chain, problem.inputs, along, problem.lengths)
    assert_close(
        [x.reshape(y.shape) for x, y in zip(found, want, strict=True)],
        list(want),
        rtol=1e-11,
    )


def test_no_adjoint_is_called_for_the_gradient_of_log_normalizers(rng):
    problem = case(rng, "samples")
    outputs = problem.chain.forward(problem.inputs, problem.lengths)

    def refuse(*arguments):
        raise AssertionError

    chain = problem.chain._replace(adjoint=refuse)
    bars = [np.array([1.0, 2.0, 3.0]), *[None] * 8]
    found = pull_back(chain, problem.inputs, outputs, bars, problem.lengths)
    assert_close(found[6], bars[0][:, None, None] * outputs[7], rtol=1e-15)
    with pytest.raises(AssertionError):
        pull_back(chain, problem.inputs, outputs, [None, *outputs[1:]])


def test_cotangents_of_sequences_may_differ_where_a_potential_is_shared(rng):
    problem = case(rng, "markov")
    outputs = problem.chain.forward(problem.inputs, problem.lengths)
    logZ_bar = np.array([1.0, -2.0, 0.5])
    bars = [logZ_bar, None, None, None]
    found = pull_back(problem.chain, problem.inputs, outputs, bars, problem.lengths)
    want = 0
    for n in range(3):
        init, pair, node = problem.arguments
        alone = kernels.markov_chain(
            init, pair, node[n : n + 1], problem.lengths[n : n + 1]
        )
        want = want + logZ_bar[n] * alone[1][1]
    assert_close(found[1][0, 0], want, rtol=1e-12)


@pytest.mark.parametrize(
    "name, argument, message",
    [
        ("diagonal", 0, r"init J\[0, 0\] is nan"),
        ("diagonal", 6, r"node h\[0, 0, 0\] is nan"),
        ("samples", 7, r"noise\[0, 0, 0, 0\] is nan"),
        ("markov", 1, r"pair\[0, 0, 0, 0\] is nan"),
    ],
)
def test_what_is_no_number_is_refused_by_name(rng, name, argument, message):
    problem = case(rng, name)
    problem.arguments[argument].flat[0] = np.nan
    with pytest.raises(ValueError, match=message):
        problem.chain.forward(problem.inputs, problem.lengths)


def test_other_shapes_are_refused_by_name(rng):
    problem = case(rng, "markov")
    init, pair, node = problem.inputs
    with pytest.raises(ValueError, match="pair has shape"):
        problem.chain.forward([init, pair[..., :1], node], problem.lengths)


def test_what_is_not_positive_definite_is_named(rng):
    problem = case(rng, "diagonal")
    problem.arguments[5][1] = 9.0
    with pytest.raises(NotPositiveDefinite) as caught:
        problem.chain.forward(problem.inputs, problem.lengths)
    assert caught.value.sequence == 1
