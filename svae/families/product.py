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
    "Measured",
    "expected_stats",
    "from_free",
    "in_domain",
    "kl",
    "log_normalizer",
    "mean",
    "measured_stats",
    "natural_step",
    "proper_step",
    "sample",
    "stats",
    "to_free",
    "with_log_normalizers",
]


Family = dict[str, Any]
Tree = dict[str, Any]


class Measured(dict[str, Any]):
    """Natural parameters, or statistics, with the log normalizers of their factors.

    A divergence needs these: of a prior they are the same in every step of training,
    and those of q(theta) come from what its statistics come from.
    """

    def __init__(self, tree: Tree, log_normalizers: Tree) -> None:
        super().__init__(tree)
        self.log_normalizers = log_normalizers


def with_log_normalizers(family: Family, natparams: Tree) -> Measured:
    """Return natural parameters with their log normalizers."""
    items = family.items()
    return Measured(natparams, {k: f.log_normalizer(natparams[k]) for k, f in items})


def measured_stats(family: Family, natparams: Tree) -> Measured:
    """Return what `expected_stats` does, with the log normalizers of q."""
    measured = {name: _measure(f, natparams[name]) for name, f in family.items()}
    return Measured(
        {name: stats for name, (stats, _) in measured.items()},
        {name: log_normalizer for name, (_, log_normalizer) in measured.items()},
    )


def _measure(factor: Any, natparams: Any) -> tuple[Any, Any]:
    """Return expected statistics and log normalizer, at once where a family can."""
    if hasattr(factor, "measure"):
        return factor.measure(natparams)
    return factor.expected_stats(natparams), factor.log_normalizer(natparams)


def log_normalizer(family: Family, natparams: Tree) -> Any:
    """Return the log normalizer of the whole product, a scalar."""
    terms = (np.sum(f.log_normalizer(natparams[name])) for name, f in family.items())
    return sum(terms, 0.0)


def expected_stats(family: Family, natparams: Tree) -> Tree:
    """Return the expected statistics of each factor."""
    return {name: f.expected_stats(natparams[name]) for name, f in family.items()}


def kl(family: Family, q: Tree, p: Tree, stats: Tree | None = None) -> Any:
    """Return KL(q || p), summed over factors and batches, a scalar.

    ``stats`` are the expected statistics of q, if they are known already. The log
    normalizers of q and p are, if ``stats`` and p are `Measured`.
    """
    known: Tree = {} if stats is None else stats
    of_q, of_p = map(_known_log_normalizers, (stats, p))
    terms = []
    for name, f in family.items():
        normalizers = of_q.get(name), of_p.get(name)
        known_stats = known.get(name)
        divergence = families.kl(f, q[name], p[name], known_stats, normalizers)
        terms.append(divergence.sum() if onp.ndim(divergence) else divergence)
    return sum(terms, 0.0)


def _known_log_normalizers(tree: Tree | None) -> Tree:
    return tree.log_normalizers if isinstance(tree, Measured) else {}


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


def proper_step(
    family: Family,
    natparams: Tree,
    direction: Tree,
    step_size: float,
    accepted: Callable[[Tree], bool] | None = None,
) -> tuple[Tree, int]:
    """Move q(theta) along a direction, no part of it further than it may go.

    The step of each member of a factor, a state for example, is halved on its own until
    the member is proper: one that is about to leave its domain holds up no other.  Such
    a step still ascends: the Fisher matrix has a block for each member, so that each
    adds what is not negative to the slope, whatever the length of its step.  If all of
    that is too far for `accepted`, the steps of all members are halved together.

    Parameters
    ----------
    family : dict of modules of `svae.families`
    natparams, direction : dict
        Of q(theta), which is proper, and an ascent direction.
    step_size : float
        The step tried first.
    accepted : callable, optional
        Whether natural parameters, which are proper, are not too far; default: always.

    Returns
    -------
    natparams : dict
    num_backtracks : int
        Halvings of the member with the most of them.

    Raises
    ------
    FloatingPointError
        If the direction is not finite, or no step is valid, however short; names the
        factor.
    """
    steps, moved, most = {}, dict.fromkeys(natparams), 0
    for name, factor in family.items():
        eta, whole = natparams[name], [step_size * part for part in direction[name]]
        steps[name], moved[name] = whole, tuple(map(onp.add, eta, whole))
        if not factor.in_domain(moved[name]):
            shares = _shares(name, factor, eta, direction[name], step_size)
            steps[name] = [_times(shares, part) for part in whole]
            moved[name] = tuple(map(onp.add, eta, steps[name]))
            most = max(most, int(-onp.log2(shares.min())))
    if accepted is None:
        return moved, most
    moved, more = natural_step(natparams, steps, 1.0, accepted)
    return moved, most + more


def _shares(
    name: str, factor: Any, natparams: Any, direction: Any, step_size: float
) -> onp.ndarray:
    """Return the share of its step that each member of a factor can take, (batch)."""
    shares = onp.ones(onp.shape(factor.log_normalizer(natparams)))
    for index in onp.ndindex(shares.shape):
        own = tuple(eta[index] for eta in natparams)
        ahead = tuple(part[index] for part in direction)
        try:
            _, halvings = natural_step(own, ahead, step_size, factor.in_domain)
        except FloatingPointError as error:
            of_member = " ".join(map(str, (name, *index)))
            raise FloatingPointError(f"{of_member}: {error}") from None
        shares[index] = 0.5**halvings
    return shares


def _times(numbers: onp.ndarray, part: Any) -> Any:
    """Multiply an array (batch, ...) by a number for each member of the batch."""
    return numbers.reshape(numbers.shape + (1,) * (part.ndim - numbers.ndim)) * part


def natural_step(
    natparams: Any,
    direction: Any,
    step_size: float,
    in_domain: Callable[[Any], bool],
    max_halvings: int = 60,
) -> tuple[Any, int]:
    """Move natural parameters along a direction, halving until they are valid.

    All of them together; `proper_step` is for a q(theta) of factors.

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
