"""`switching_gaussian_chain` of flat arguments, and what it is held to."""

from svae.autodiff.trees import leaves
from svae.testing import assert_close, cotangents, random_like


def chain(module, problem):
    """Return `switching_gaussian_chain` from flat arguments to flat outputs."""
    count = len(problem.pairs)

    def outputs(J0, h0, *rest):
        pairs, weights, node = rest[:count], rest[count], rest[count + 1 : count + 3]
        noise = rest[count + 3] if problem.noise is not None else None
        return leaves(
            module.switching_gaussian_chain(
                (J0, h0), pairs, weights, node, noise, problem.lengths
            )
        )

    return outputs


def arguments(problem):
    """Flat arguments of `chain`."""
    return leaves(problem[:5])


def check(problem, f, definition, rng, rtol=1e-10):
    """Outputs and cotangents of all arguments."""
    args = arguments(problem)
    want = definition(*args)
    assert_close(f(*args), want, rtol)
    outputs_bar = random_like(rng, want)
    got, want = (cotangents(g, args, outputs_bar) for g in (f, definition))
    assert_close(got, want, 10 * rtol)
