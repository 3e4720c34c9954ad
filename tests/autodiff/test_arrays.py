"""Primitives on arrays, against autograd's own."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from svae.autodiff.operations import joined
from svae.families.arrays import inverse_and_log_det, log_det, symmetric
from svae.testing import check_gradients, hessian_vector_product, relative_error

every_batch = pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)


def positive_definite(rng, batch, dim=4):
    root = rng.standard_normal((*batch, dim, dim))
    return root @ np.swapaxes(root, -1, -2) + np.eye(dim)


@every_batch
def test_inverse_and_log_det_are_numpys(batch, rng):
    matrix = positive_definite(rng, batch)
    inverse, number = inverse_and_log_det(matrix)
    assert relative_error(inverse, np.linalg.inv(matrix)) < 1e-12
    assert relative_error(number, np.linalg.slogdet(matrix)[1]) < 1e-13
    np.testing.assert_array_equal(log_det(matrix), number)


@every_batch
def test_their_gradients_are_differences(batch, rng):
    def functions(matrix):
        matrix = symmetric(matrix)
        return [*inverse_and_log_det(matrix), log_det(matrix)]

    check_gradients(functions, [positive_definite(rng, batch)], rng)


@every_batch
def test_their_second_derivatives_are_autograds(batch, rng):
    matrix = positive_definite(rng, batch)
    direction = rng.standard_normal(matrix.shape)
    weights = rng.standard_normal(matrix.shape)

    def mine(matrix):
        inverse, number = inverse_and_log_det(symmetric(matrix))
        other = anp.sum(log_det(symmetric(matrix)) ** 2)
        return anp.sum(weights * inverse) + anp.sum(number**2) + other

    def theirs(matrix):
        number = anp.linalg.slogdet(symmetric(matrix))[1]
        inverse = anp.linalg.inv(symmetric(matrix))
        return anp.sum(weights * inverse) + 2 * anp.sum(number**2)

    got, want = (
        hessian_vector_product(f, [matrix], [direction])[0] for f in (mine, theirs)
    )
    assert relative_error(got, want) < 1e-10


def test_what_is_not_positive_definite_is_refused():
    for function in (inverse_and_log_det, log_det):
        with pytest.raises(np.linalg.LinAlgError):
            function(np.diag([1.0, -1.0]))


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_joined_arrays_and_their_gradients(axes, rng):
    lead = (2, 3)[:axes]
    shapes = [(*lead, 4, 4), lead, (*lead, 5)]
    parts = [rng.standard_normal(shape) for shape in shapes]
    got = joined(axes, *parts)
    want = np.concatenate(
        [x.reshape(*lead, x.size // got[..., 0].size) for x in parts], -1
    )
    np.testing.assert_array_equal(got, want)
    check_gradients(lambda *parts: [joined(axes, *parts) ** 2], parts, rng)
    curved = grad(
        lambda x: anp.sum(grad(lambda y: anp.sum(joined(axes, y, y) ** 3))(x))
    )
    np.testing.assert_allclose(curved(parts[0]), 12 * parts[0], rtol=1e-12)


def test_joined_arrays_may_be_empty():
    assert joined(2, np.zeros((2, 0, 3, 3)), np.zeros((2, 0, 3))).shape == (2, 0, 12)
