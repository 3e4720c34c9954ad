"""Any call of a mixture is refused by name, or agrees with `svae.reference`.

    python tests/fuzz/mixtures.py --calls 100000 --seed 0

`svae.testing.calls` makes and judges the calls.
"""

import re
from typing import Any

import numpy as np

from svae import kernels, reference
from svae.testing.calls import (
    AUTOGRAD,
    Case,
    close,
    flat,
    judged,
    same_gradients,
)
from svae.testing.campaign import main, one_of
from svae.testing.disguises import chance, disguised, negative_definite, numbers
from svae.testing.gradients import cotangents

Generator = np.random.Generator


def mixture_problem(rng: Generator) -> tuple[Any, ...]:
    """Return components, offsets, node, and which rows have data."""
    N = int(rng.choice([0, 1, 2, 4, 8, 9, 17], p=[0.04, *[0.16] * 6]))
    K, D = int(rng.integers(1, 5)), int(rng.choice([1, 2, 3, 4, 5, 9]))
    J, mean = negative_definite(rng, K, D), numbers(rng, K, D)
    h = -((J + np.swapaxes(J, -1, -2)) @ mean[..., None])[..., 0]
    offsets = -0.5 * np.sum(h * mean, -1)
    node_J = (
        negative_definite(rng, N, D)
        if chance(rng, 0.5)
        else -np.abs(numbers(rng, N, D))
    )
    observed = None
    if chance(rng, 0.4):
        observed = (rng.random(N) < 0.7).astype(float)
    components = np.concatenate([J.reshape(K, -1), h], 1)
    return components, offsets, (node_J, numbers(rng, N, D)), observed


MIXTURE_NAMES = {
    **{(0, 0): "init", (0, 1): "components", (0, 2): "constants", (1, 0): "offsets"},
    **{(1, 1): "degrees of freedom", (1, 2): "weights", (2, 0): "node J"},
    **{(2, 1): "node h", (3,): "noise", (4,): "observed", (5,): "starts"},
    **{(6,): "tolerance", (7,): "max_iterations"},
}


def mixture(rng: Generator) -> str:
    components, offsets, node, observed = mixture_problem(rng)
    (N, D), K = node[1].shape, len(components)
    init, constants = numbers(rng, N, K), numbers(rng, K)
    if chance(rng, 0.15):
        init[rng.random((N, K)) < 0.2] = -np.inf
        constants[rng.random(K) < 0.2] = -np.inf
    tails = None
    if chance(rng, 0.4):
        Q = int(rng.integers(1, 4))
        tails = offsets, rng.uniform(2.0, 9.0, (K, Q)), rng.dirichlet(np.ones(Q))
    noise = numbers(rng, N, rng.integers(3), D) if chance(rng, 0.5) else None
    starts = None
    if chance(rng, 0.3):
        starts = rng.dirichlet(np.ones(K), (N, rng.integers(4)))
    from_data, from_prior = chance(rng, 0.7), chance(rng, 0.4)
    if not (from_data or from_prior or (starts is not None and starts.shape[1])):
        from_data = True
    tolerance, max_iterations = float(rng.choice([1e-13, 1e-4])), 2000
    if chance(rng, 0.04):
        tolerance = [np.nan, -1.0, None, "small"][rng.integers(4)]
    if chance(rng, 0.04):
        max_iterations = [0, -3, 1.5, None][rng.integers(4)]

    how = from_data, from_prior, tolerance, max_iterations

    def call(*arguments):
        results = kernels.mixture(*arguments, *how)
        return flat((results[0], *results[3:], *results[1:3]))

    def define(potentials, tails, node, noise, observed, starts, got):
        given = potentials, tails, node, noise, observed
        if got is None:
            return flat(reference.mixture(*given, starts, *how))
        fixed, residual = got[0], got[-1]
        results = reference.mixture(*given, fixed[:, None], False, False, 1e-13, 0)
        (moved,) = reference.mixture(*given, fixed[:, None], False, False, 0.0, 1)[2:3]
        if np.all(residual < 1e-12):
            close(
                "no fixed point",
                moved,
                0.0,
                1e-8 * max(1.0, np.abs(fixed).max(initial=1.0)),
            )
        return flat((fixed, *results[3:], *got[-2:]))

    def gradient(rng):
        if tolerance != 1e-13 or not all(
            (x > -np.inf).all() for x in (init, constants)
        ):
            return
        potentials = init, components, constants
        same_mixture_gradients(potentials, tails, node, noise, observed, from_data, rng)

    arguments = (init, components, constants), tails, node, noise, observed, starts
    names = {p: name for p, name in MIXTURE_NAMES.items() if p[0] < len(arguments)}
    if tolerance not in (1e-13, 1e-4) or max_iterations != 2000:
        return refused_settings(call, arguments)
    case = Case("mixture", arguments, names, call, define, None, gradient)
    return judged(case, rng)


def refused_settings(call: Any, arguments: tuple) -> str:
    """A tolerance or a number of iterations that is none is named."""
    try:
        call(*arguments)
    except ValueError as error:
        assert re.search("tolerance|max_iterations", str(error)), error
        return "mixture: settings refused"
    raise AssertionError("the settings are wrong, and are taken")


def same_mixture_gradients(
    potentials: Any,
    tails: Any,
    node: Any,
    noise: Any,
    observed: Any,
    from_data: bool,
    rng: Generator,
) -> None:
    """Compare gradients at a fixed point, where there are digits to compare."""
    starts = from_data, not from_data, 1e-14, 5000
    found = kernels.mixture(potentials, tails, node, noise, observed, None, *starts)
    if (found.residual > 1e-13).any():
        return
    arrays = flat((potentials, (tails or ())[:2], node, noise))

    def of(module):
        def results(*x):
            laws = (*x[3:5], tails[2]) if tails else None
            of_x = x[5:] if tails else x[3:]
            draws = of_x[2] if len(of_x) > 2 else None
            there = found.fixed[:, None], False, False, 1e-13, 1000
            own = module.mixture(x[:3], laws, of_x[:2], draws, observed, *there)
            constants = "fixed", "iterations", "residual", "half_log_det"
            return flat([x for k, x in own._asdict().items() if k not in constants])

        return results

    same_gradients("mixture", of, arrays, rng, tolerance=1e-7)


def mixture_evidence(rng: Generator) -> str:
    components, _, node, observed = mixture_problem(rng)
    N, K = len(node[1]), len(components)
    states = rng.dirichlet(np.ones(K), N) if chance(rng, 0.7) else None

    def call(*arguments):
        return flat(kernels.mixture_evidence(*arguments))

    def define(components, node, observed, states, got):
        return flat(reference.mixture_evidence(components, node, observed, states))

    def gradient(rng):
        if states is None:
            return

        def of(module):
            return lambda c, J, h, s: [
                module.mixture_evidence(c, (J, h), observed, s)[0]
            ]

        arrays = [components, *node, states]
        same_gradients("mixture_evidence", of, arrays, rng)
        bar = rng.standard_normal((N, K))
        states_bar, J_bar, h_bar = kernels.mixture_evidence_vjp(
            components, node, observed, states, disguised(bar, rng)
        )
        with AUTOGRAD:
            _, *of_node, of_states = cotangents(of(reference), arrays, [bar])
        if node[0].ndim == 2:
            J_bar = np.einsum("ndd->nd", J_bar)
        for a, b in zip((J_bar, h_bar, states_bar), (*of_node, of_states), strict=True):
            close("mixture_evidence_vjp", a, b)

    names = {
        **{(0,): "components", (1, 0): "node J", (1, 1): "node h"},
        **{(2,): "observed", (3,): "states"},
    }
    arguments = components, node, observed, states
    case = Case("mixture_evidence", arguments, names, call, define, None, gradient)
    return judged(case, rng)


fuzz = one_of(mixture, mixture, mixture_evidence)


if __name__ == "__main__":
    main(fuzz, __doc__)
