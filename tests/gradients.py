"""Gradient checks with a relative error of their own.

`autograd.test_util.check_grads` accepts any difference below 1e-6, so a wrong gradient
of that size passes. Here errors are relative, and the problems have gradients of order
one. A function under test takes flat arguments and returns a list of arrays.
"""

import autograd.numpy as np
from autograd import make_vjp

# Central differences of order six: error h^6 f'''''''/140, rounding about 1e-16 f/h.
STEP = 2e-3
STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


def relative_error(got, want):
    """Largest difference, relative to the largest magnitude of what is wanted."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    error = np.max(np.abs(got - want), initial=0.0)
    scale = np.max(np.abs(want), initial=0.0)
    return error / scale if scale else error


def assert_close(got, want, rtol):
    """Compare two trees of arrays, each array by its own relative error."""
    for k, (a, b) in enumerate(zip(leaves(got), leaves(want), strict=True)):
        assert relative_error(a, b) <= rtol, f"output {k}: {relative_error(a, b)}"


def assert_identical(got, want):
    """Compare two trees of arrays bit for bit."""
    for k, (a, b) in enumerate(zip(leaves(got), leaves(want), strict=True)):
        assert np.array_equal(a, b), f"output {k} differs by {np.max(np.abs(a - b))}"


def leaves(tree):
    """Arrays of nested tuples in order, None left out."""
    if tree is None:
        return []
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def random_like(rng, arrays):
    """Draw standard normal arrays of these shapes: cotangents, or directions."""
    return [rng.standard_normal(np.shape(x)) for x in arrays]


def cotangents(f, args, outputs_bar):
    """Cotangent of every argument, for the cotangents of all outputs together."""

    def paired(args):
        return sum(np.sum(y * g) for y, g in zip(f(*args), outputs_bar, strict=True))

    vjp, _ = make_vjp(paired)(tuple(args))
    return vjp(1.0)


def hessian_vector_product(f, args, direction):
    """Second derivative of a scalar function of flat arguments, along a direction."""
    return cotangents(
        lambda *args: cotangents(lambda *a: [f(*a)], args, [1.0]), args, direction
    )


def check_gradients(f, args, rng, rtol=1e-9):
    """Compare the gradient of every output in every argument with differences.

    Each output gets a random cotangent, each argument a random direction.
    """
    outputs = f(*args)
    outputs_bar, directions = random_like(rng, outputs), random_like(rng, args)
    got = np.zeros((len(outputs), len(args)))
    for o, y_bar in enumerate(outputs_bar):
        args_bar = cotangents(lambda *a, o=o: [f(*a)[o]], args, [y_bar])
        for a, (g, d) in enumerate(zip(args_bar, directions, strict=True)):
            got[o, a] = np.sum(g * d)
    for a, d in enumerate(directions):
        slopes = differences(lambda x, a=a: f(*args[:a], x, *args[a + 1 :]), args[a], d)
        for o, (slope, y_bar) in enumerate(zip(slopes, outputs_bar, strict=True)):
            terms = slope * y_bar
            want, scale = np.sum(terms), np.sum(np.abs(terms))  # terms may cancel
            assert abs(got[o, a] - want) <= rtol * scale, (
                f"output {o}, argument {a}: {got[o, a]}, by differences {want}"
            )


def differences(f, x, direction):
    """Directional derivative of every output of f at x."""
    terms = [
        (sign * weight / STEP, f(x + sign * k * STEP * direction))
        for k, weight in STENCIL
        for sign in (1, -1)
    ]
    return [
        sum(w * outputs[o] for w, outputs in terms) for o in range(len(terms[0][1]))
    ]
