"""Products of families: the q(theta) of a model, factor by factor.

A ``family`` here is a dict from the name of a factor to its module of `svae.families`;
natural parameters, statistics and draws are dicts with the same names.  Batch axes are
independent members too (one for each discrete state, say), so numbers are summed over
factors and batches.  The empty product is legal: it has no parameters and KL 0.
"""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import families
from svae.autodiff.trees import tree_map

__all__ = [
    "expected_stats",
    "from_free",
    "in_domain",
    "kl",
    "log_normalizer",
    "mean",
    "natural_step",
    "sample",
    "stats",
    "to_free",
]


Family = dict[str, Any]
Tree = dict[str, Any]


def log_normalizer(family: Family, natparams: Tree) -> Any:
    """Return the log normalizer of the whole product, a scalar."""
    terms = (np.sum(f.log_normalizer(natparams[name])) for name, f in family.items())
    return sum(terms, 0.0)


def expected_stats(family: Family, natparams: Tree) -> Tree:
    """Return the expected statistics of each factor."""
    return {name: f.expected_stats(natparams[name]) for name, f in family.items()}


def kl(family: Family, q: Tree, p: Tree, stats: Tree | None = None) -> Any:
    """Return KL(q || p), summed over factors and batches, a scalar.

    ``stats`` are the expected statistics of q, if they are known already.
    """
    known: Tree = {} if stats is None else stats
    terms = (
        np.sum(families.kl(f, q[name], p[name], known.get(name)))
        for name, f in family.items()
    )
    return sum(terms, 0.0)


def mean(family: Family, natparams: Tree) -> Tree:
    """Return the mean of what `sample` draws, factor by factor: one theta.

    The mean of theta in the coordinates of draws: probabilities, locations and dynamics
    are averaged, and of covariances their inverses, precisions.  `stats` of it are
    those of a point, which `expected_stats`, the mean of the statistics, are not.
    """
    return {name: f.mean(natparams[name]) for name, f in family.items()}


def stats(family: Family, draws: Tree) -> Tree:
    """Return t of what `sample` draws, factor by factor."""
    return {name: f.stats(draws[name]) for name, f in family.items()}


def sample(
    family: Family, natparams: Tree, rng: Any, size: int | tuple[int, ...] = ()
) -> Tree:
    """Draw every factor; see the ``sample`` of each family."""
    rng = onp.random.default_rng(rng)
    return {name: f.sample(natparams[name], rng, size) for name, f in family.items()}


def in_domain(family: Family, natparams: Tree) -> bool:
    """Whether every factor is proper."""
    return all(f.in_domain(natparams[name]) for name, f in family.items())


def to_free(family: Family, message: Tree) -> Tree:
    """Return free coordinates of the messages of all factors."""
    return {name: f.to_free(message[name]) for name, f in family.items()}


def from_free(family: Family, coordinates: Tree) -> Tree:
    """Return the messages of free coordinates."""
    return {name: f.from_free(coordinates[name]) for name, f in family.items()}


def natural_step(
    natparams: Any,
    direction: Any,
    step_size: float,
    in_domain: Callable[[Any], bool],
    max_halvings: int = 60,
) -> tuple[Any, int]:
    """Move natural parameters along a direction, halving until they are valid.

    Parameters
    ----------
    natparams, direction : trees of arrays, one structure
        A valid point and an ascent direction.
    step_size : float
        The step tried first.
    in_domain : callable
        Whether a tree of natural parameters is a proper distribution.
    max_halvings : int

    Returns
    -------
    natparams : tree
    num_backtracks : int
        How often the step was halved.

    Raises
    ------
    FloatingPointError
        If the direction is not finite, or no step of at least
        ``step_size / 2**max_halvings`` is valid.
    """
    scale = step_size
    for num_backtracks in range(max_halvings + 1):
        moved = tree_map(lambda e, d, s=scale: e + s * d, natparams, direction)
        if in_domain(moved):
            return moved, num_backtracks
        scale /= 2
    raise FloatingPointError(
        f"natural gradient step: no step between {scale * 2:.1e} and {step_size:.1e} "
        "stays in the domain of q(theta); the gradient may not be finite"
    )
