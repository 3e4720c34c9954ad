r"""Conjugate updates of q(theta): what is left of learning when x is known.

Let ``l(m)`` be the log normalizer of the local factors, of z given known x, say.  The
bound is ``l(m) - KL(q(theta) || p(theta))``, and its natural gradient

.. math:: \tilde\nabla_\eta \mathcal{L} = \eta^0 - \eta + \nabla_m l(m)

holds the expected statistics ``grad l(m) = E[(t(z, x), 1)]``: a step of size 1 is
coordinate ascent, and never lowers the bound (Johnson et al. 2016, Eq. 2; Hoffman et
al. 2013).  All that this needs is that l is convex in m: its tangent, which is linear
in m and touches it, is a bound on the bound, and the step is where that is highest.  So
it holds for Student-t mixtures of known degrees of freedom too, whose l is a maximum
over q(z) and q(u) of functions that are linear in m.  Degrees of freedom that are
learned have no such l; their steps are halved until they raise the bound.

`initialize` finds a q(theta) to start a structured autoencoder from: coordinate ascent
on encoded latents, from several clusterings of them, of which the best end is kept.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp
from scipy.cluster.vq import kmeans2

from svae.families import product
from svae.models.base import live_steps
from svae.optim import natural_step
from svae.trees import leaves, rebuild, tree_map
from svae.vjp import trace

__all__ = ["Points", "ascend", "climb", "direction", "extrapolate", "initialize"]

BLOCKS = (10, 25, 50)
"""Lengths of the stretches whose dynamics are clustered."""


MAX_FRAMES = 20000
"""Frames that are enough to start from."""

ROUNDING = 1e-9
"""Relative size of a fall of the bound that is rounding."""


class Points(NamedTuple):
    """Latents that are known."""

    latents: onp.ndarray
    """(N, T, D), finite."""
    lengths: onp.ndarray
    """(N,)"""
    observed: Any
    """(N, T) bool array, or None where all are known."""

    def known(self) -> onp.ndarray:
        """Mask (N, T) of the steps that are known."""
        live = live_steps(self.lengths, self.latents)
        return live if self.observed is None else live & self.observed


def direction(
    local: Callable[[Any], Any], family: Any, natparams: Any, prior: Any
) -> tuple[float, Any]:
    """Return the bound and its natural gradient.

    Parameters
    ----------
    local : callable
        m -> l(m), a scalar for the whole data.
    family : dict of modules of `svae.families`
    natparams, prior : dict
        Of q(theta) and p(theta).
    """
    message = product.expected_stats(family, natparams)
    pull_back, (value,) = trace(
        lambda *boxes: (local(rebuild(message, boxes)),), leaves(message)
    )
    natural = tree_map(
        lambda eta0, eta, stat: eta0 - eta + stat,
        prior,
        natparams,
        rebuild(message, pull_back(1.0)),
    )
    return float(value - product.kl(family, natparams, prior)), natural


def climb(
    local: Callable[[Any], Any],
    family: Any,
    natparams: Any,
    prior: Any,
    step_size: float = 1.0,
    ascends: bool = True,
) -> tuple[Any, float, int]:
    """Take a step along the natural gradient that does not lower the bound.

    Parameters
    ----------
    local, family, natparams, prior
        As in `direction`.
    step_size : float
        At most 1.
    ascends : bool
        Whether that is certain; if not, the step is halved until it is so.

    Returns
    -------
    natparams : dict
    bound : float
        Before the step.
    num_backtracks : int
        How often the step was halved.

    Raises
    ------
    FloatingPointError
        If the bound is not finite, or no step stays in the domain.
    """
    bound, natural = direction(local, family, natparams, prior)
    if not onp.isfinite(bound):
        raise FloatingPointError(f"the bound is {bound}")

    def accepted(moved: Any) -> bool:
        if not product.in_domain(family, moved):
            return False
        if ascends:
            return True
        with onp.errstate(all="ignore"):  # a step that is far too long may overflow
            stats = product.expected_stats(family, moved)
            reached = local(stats) - product.kl(family, moved, prior)
        return bool(reached >= bound - ROUNDING * abs(bound))

    moved, num_backtracks = natural_step(natparams, natural, step_size, accepted)
    return moved, bound, num_backtracks


def ascend(
    local: Callable[[Any], Any],
    family: Any,
    natparams: Any,
    prior: Any,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    ascends: bool = True,
) -> tuple[Any, float]:
    """Climb in steps of size 1 until the bound rises by less than a relative tolerance.

    Returns natural parameters and the bound before the last step.
    """
    last = -onp.inf
    for _ in range(max_iterations):
        natparams, bound, _ = climb(local, family, natparams, prior, ascends=ascends)
        if bound - last <= tolerance * abs(bound):
            break
        last = bound
    return natparams, bound


def initialize(
    latent: Any,
    prior: Any,
    points: Points,
    rng: onp.random.Generator,
    num_restarts: int = 3,
    max_iterations: int = 200,
) -> tuple[Any, float]:
    """Fit q(theta) to known latents by coordinate ascent from clusterings of them.

    Parameters
    ----------
    latent : LatentModel
    prior : dict
    points : Points
    rng : numpy.random.Generator
    num_restarts : int
        Of each way to cluster.
    max_iterations : int
        Steps of each ascent.

    Returns
    -------
    natparams : dict
    bound : float
        On the log evidence of the latents.
    """

    def local(stats: Any) -> Any:
        return np.sum(latent.log_density(stats, *points))

    if not hasattr(latent, "num_states"):
        return ascend(local, latent.family, prior, prior, max_iterations=max_iterations)
    ends = [
        ascend(
            local,
            latent.family,
            start,
            prior,
            max_iterations=max_iterations,
            ascends=latent.ascends,
        )
        for start in starts(latent, prior, points, rng, num_restarts)
    ]
    return max(ends, key=lambda end: end[1])


def extrapolate(family: Any, prior: Any, natparams: Any, scale: float) -> Any:
    """Return q(theta) as if the data it has seen were ``scale`` times as many."""
    gained = tree_map(onp.subtract, natparams, prior)
    return natural_step(
        prior, gained, scale, lambda moved: product.in_domain(family, moved)
    )[0]


def starts(
    latent: Any,
    prior: Any,
    points: Points,
    rng: onp.random.Generator,
    num_restarts: int,
) -> Iterator[Any]:
    """Yield natural parameters of q(theta) given the labels of each clustering."""
    for _ in range(num_restarts):
        for labels in clusterings(latent, points, rng):
            states = onp.eye(latent.num_states, dtype=bool)[labels]

            def complete(stats: Any, states: onp.ndarray = states) -> Any:
                return np.sum(latent.log_density(stats, *points, states=states))

            sure = latent.ascends
            yield climb(complete, latent.family, prior, prior, ascends=sure)[0]


def clusterings(
    latent: Any, points: Points, rng: onp.random.Generator
) -> Iterator[onp.ndarray]:
    """Yield labels (N, T): by where x is and, for dynamics, by how it moves.

    Where no two neighbours are known it does not move: it is where it is.
    """
    features = latents = points.latents
    known = points.known()
    moves = latent.coupled and bool((known[:, 1:] & known[:, :-1]).any())
    if moves:
        steps = onp.diff(latents, axis=1, prepend=latents[:, :1])
        before = onp.concatenate([known[:, :1], known[:, :-1]], axis=1)
        steps = onp.where(before[..., None], steps, 0.0)
        features = onp.concatenate([latents, steps], axis=-1)
    yield spread(cluster(features[known], latent.num_states, rng), known)
    if moves:
        for size in BLOCKS:
            if size < latents.shape[1]:
                yield by_dynamics(latent, latents, known, size, rng)


def by_dynamics(
    latent: Any,
    latents: onp.ndarray,
    known: onp.ndarray,
    size: int,
    rng: onp.random.Generator,
) -> onp.ndarray:
    """Label stretches of ``size`` steps by the regressions of x_t on x_{t-1} in them.

    Each regression is drawn to that of all data, with the weight of D + 1 steps.
    """
    pairs = known[:, 1:] & known[:, :-1]
    x = onp.where(pairs[..., None], latents[:, :-1], 0.0)
    if latent.affine:
        x = onp.concatenate([x, pairs[..., None]], axis=-1)
    y = onp.where(pairs[..., None], latents[:, 1:], 0.0)
    edges = onp.arange(0, x.shape[1], size)
    xx = onp.add.reduceat(onp.einsum("nti,ntj->ntij", x, x), edges, axis=1)
    xy = onp.add.reduceat(onp.einsum("nti,ntj->ntij", x, y), edges, axis=1)
    total, count = xx.sum(axis=(0, 1)), max(int(pairs.sum()), 1)
    shared = onp.linalg.lstsq(total, xy.sum(axis=(0, 1)), rcond=None)[0]
    pull = (x.shape[-1] + 1) / count * total
    coefficients = onp.array(
        [
            onp.linalg.lstsq(a + pull, b + pull @ shared, rcond=None)[0]
            for a, b in zip(
                xx.reshape(-1, *xx.shape[2:]),
                xy.reshape(-1, *xy.shape[2:]),
                strict=True,
            )
        ]
    )
    filled = onp.add.reduceat(pairs, edges, axis=1).ravel() > 0
    labels = spread(
        cluster(
            coefficients.reshape(len(coefficients), -1)[filled], latent.num_states, rng
        ),
        filled,
    ).reshape(len(latents), -1)
    # a pair belongs to its later step
    steps = onp.maximum(onp.arange(latents.shape[1]) - 1, 0) // size
    return labels[:, steps]


def spread(labels: onp.ndarray, mask: onp.ndarray) -> onp.ndarray:
    """Put labels where the mask is True, 0 elsewhere."""
    everywhere = onp.zeros(mask.shape, dtype=onp.int64)
    everywhere[mask] = labels
    return everywhere


def cluster(
    points: onp.ndarray, num_clusters: int, rng: onp.random.Generator
) -> onp.ndarray:
    """Cluster points (M, F) of standardised columns by k-means; labels (M,).

    Centres start at points drawn with probability proportional to the squared distance
    from those before them (Arthur and Vassilvitskii 2007).  Of no points there are no
    labels.
    """
    if not len(points):
        return onp.zeros(0, dtype=onp.int64)
    deviation = points.std(axis=0)
    points = (points - points.mean(axis=0)) / onp.where(deviation > 0, deviation, 1.0)
    centres = points[[rng.integers(len(points))]]
    distance = onp.full(len(points), onp.inf)
    for _ in range(num_clusters - 1):
        new = onp.sum((points - centres[-1]) ** 2, axis=1)
        distance = onp.minimum(distance, new)
        total = distance.sum()
        law = distance / total if total > 0 else None
        centres = onp.append(centres, points[rng.choice(len(points), 1, p=law)], axis=0)
    # an empty cluster keeps its centre, and scipy says so: the ascent fills it or not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return onp.asarray(kmeans2(points, centres, minit="matrix")[1], dtype=onp.int64)
