"""A check of an installation: the gradients of both chains.

The adjoints of the compiled chains are compared with central differences along one
random direction in all potentials at once.  A wrong build shows; it is no proof.
"""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd import grad

from svae import kernels
from svae.autodiff.trees import from_vector, leaves, to_vector

__all__ = ["TOLERANCE", "gradient_errors"]

TOLERANCE = 1e-7
"""Relative error of a directional derivative that passes as right."""


def gradient_errors(rng: Any = 0) -> dict[str, float]:
    """Return, for each chain, the relative error of a directional derivative.

    Each differentiates a random combination of everything that the chain returns.
    """
    rng = onp.random.default_rng(rng)
    chains: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "gaussian_chain": (kernels.gaussian_chain, _gaussian_potentials(rng)),
        "markov_chain": (kernels.markov_chain, _markov_potentials(rng)),
    }
    return {
        name: _directional_error(chain, potentials, rng)
        for name, (chain, potentials) in chains.items()
    }


def _gaussian_potentials(rng: onp.random.Generator) -> tuple[Any, ...]:
    """Potentials of a stable system, then noise for two samples."""
    shape = sequences, steps, dim = 3, 6, 2
    A = 0.9 * onp.linalg.qr(rng.standard_normal((dim, dim)))[0]
    identity = onp.eye(dim)
    init = (-0.5 * identity, rng.standard_normal(dim))
    pair = (-0.5 * A.T @ A, A.T.copy(), -0.5 * identity)
    node = (-0.5 * onp.exp(rng.standard_normal(shape)), rng.standard_normal(shape))
    return init, pair, node, rng.standard_normal((sequences, 2, steps, dim))


def _markov_potentials(rng: onp.random.Generator) -> tuple[Any, ...]:
    shape = _, _, states = 3, 6, 4
    return (
        rng.standard_normal(states),
        rng.standard_normal((states, states)),
        rng.standard_normal(shape),
    )


def _directional_error(
    chain: Callable[..., Any], arguments: tuple[Any, ...], rng: onp.random.Generator
) -> float:
    start = to_vector(arguments)
    weights = [rng.standard_normal(onp.shape(x)) for x in leaves(chain(*arguments))]

    def combination(vector: Any) -> Any:
        outputs = leaves(chain(*from_vector(arguments, vector)))
        pairs = zip(weights, outputs, strict=True)
        return sum(np.sum(weight * output) for weight, output in pairs)

    direction = rng.standard_normal(start.shape) / onp.sqrt(start.size)
    step = 1e-4
    # four points: the error of the quotient is of order step**4
    difference = sum(
        weight * combination(start + offset * step * direction)
        for weight, offset in ((1, -2), (-8, -1), (8, 1), (-1, 2))
    ) / (12 * step)
    derivative = grad(combination)(start) @ direction
    return float(abs(derivative - difference) / abs(difference))
