"""Where q(theta) starts from: coordinate ascent from clusterings of known latents."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import autograd.numpy as np
import numpy as onp
import scipy

from svae.conjugate.ascent import ascend, climb
from svae.data import Windows

__all__ = [
    "initialize",
]


NEW_SCIPY = onp.lib.NumpyVersion(scipy.__version__) >= "1.15.0"
"""Whether functions take a generator as ``rng``, not as ``seed``."""
BLOCKS = (10, 25, 50)
"""Lengths of the stretches whose dynamics are clustered."""
SPANS = (5, 11, 21)
"""Frames over which what a regression leaves of the steps is averaged."""
HEATS = ((10, 8), (40, 3))
"""Steps of the ascents after which only so many of them go on."""
WORTH_FRAMES = 10000
"""Frames that all restarts of a clustering of dynamics may have together."""
MAX_FRAMES = 20000
"""Frames that are enough to start from."""


def initialize(
    latent: Any,
    prior: Any,
    points: Windows,
    rng: onp.random.Generator,
    num_restarts: int | None = None,
    max_iterations: int = 200,
) -> tuple[Any, float]:
    """Fit q(theta) to known latents by coordinate ascent from clusterings of them.

    Parameters
    ----------
    latent : LatentModel
    prior : dict
    points : Windows
        The latents, their ``values``.
    rng : numpy.random.Generator
    num_restarts : int, optional
        Of each way to cluster.  By default 3, and up to 9 of dynamics with few frames.
    max_iterations : int
        Steps of each ascent.

    Returns
    -------
    natparams : dict
    bound : float
        On the log evidence of the latents.
    """
    density = density_of(latent, points)

    def local(stats: Any) -> Any:
        return np.sum(density(stats))

    def ends(begun: Iterable[Any], num_steps: int) -> list[tuple[Any, float]]:
        sure = getattr(latent, "ascends", True)
        climbed = [
            ascend(
                local,
                latent.family,
                start,
                prior,
                max_iterations=num_steps,
                ascends=sure,
            )
            for start in begun
        ]
        return sorted(climbed, key=lambda end: _rounded(end[1]), reverse=True)

    if num_restarts is None:
        num_frames = max(int(points.scored_frames.sum()), 1)
        number = WORTH_FRAMES // num_frames if latent.coupled else 0
        num_restarts = min(max(number, 3), 9)
    if not hasattr(latent, "num_states"):
        return ends([prior], max_iterations)[0]
    begun: Iterable[Any] = starts(latent, prior, points, rng, num_restarts)
    if latent.coupled:  # of many starts those go on that have come far
        for num_steps, kept in HEATS:
            begun = [start for start, _ in ends(begun, num_steps)[:kept]]
    return ends(begun, max_iterations)[0]


def _rounded(bound: float) -> float:
    """Round, so that of ends that differ in the names of states the first is kept."""
    return float(f"{bound:.9g}")


def density_of(latent: Any, points: Windows) -> Callable[..., Any]:
    """Return log p(x | theta) of known latents, (N,), as a function of t(theta).

    See `LatentModel.log_density`.  A class that defines it may also define
    ``density_of``, which makes once what depends on the latents alone; a subclass with
    a density of its own is asked for that.
    """
    known = points.values, points.lengths, points.observed_frames
    defining = next(c for c in type(latent).__mro__ if "log_density" in vars(c))
    if "density_of" in vars(defining):
        return latent.density_of(*known)
    return lambda stats, **options: latent.log_density(stats, *known, **options)


def starts(
    latent: Any,
    prior: Any,
    points: Windows,
    rng: onp.random.Generator,
    num_restarts: int,
) -> Iterator[Any]:
    """Yield natural parameters of q(theta) given the labels of each clustering."""
    density, sure = density_of(latent, points), latent.ascends
    for _ in range(num_restarts):
        for labels in clusterings(latent, points, rng):
            states = onp.eye(latent.num_states, dtype=bool)[labels]

            def complete(stats: Any, states: onp.ndarray = states) -> Any:
                return np.sum(density(stats, states=states))

            yield climb(complete, latent.family, prior, prior, ascends=sure)[0]


def clusterings(
    latent: Any, points: Windows, rng: onp.random.Generator
) -> Iterator[onp.ndarray]:
    """Yield labels (N, T): by where x is and, for dynamics, by how it moves.

    Where no two neighbours are observed it does not move: it is where it is.
    """
    features = latents = points.values
    scored = points.scored_frames
    moves = latent.coupled and bool((scored[:, 1:] & scored[:, :-1]).any())
    if moves:
        steps = onp.diff(latents, axis=1, prepend=latents[:, :1])
        before = onp.concatenate([scored[:, :1], scored[:, :-1]], axis=1)
        steps = onp.where(before[..., None], steps, 0.0)
        features = onp.concatenate([latents, steps], axis=-1)
    yield spread(cluster(features[scored], latent.num_states, rng), scored)
    if moves:
        for size in BLOCKS:
            if size < latents.shape[1]:
                yield by_dynamics(latent, latents, scored, size, rng)
        yield from by_residuals(latent, latents, scored, rng)


def by_dynamics(
    latent: Any,
    latents: onp.ndarray,
    scored: onp.ndarray,
    size: int,
    rng: onp.random.Generator,
) -> onp.ndarray:
    """Label stretches of ``size`` steps by the regressions of x_t on x_{t-1} in them.

    Each regression is drawn to that of all data, with the weight of D + 1 steps.
    """
    pairs = scored[:, 1:] & scored[:, :-1]
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


def by_residuals(
    latent: Any,
    latents: onp.ndarray,
    scored: onp.ndarray,
    rng: onp.random.Generator,
) -> Iterator[onp.ndarray]:
    """Yield labels of steps by what the regression of all data leaves around them.

    By its mean, where x is driven to, and the log of its mean square, how noisily: that
    of each dimension, or one of all.
    """
    pairs = scored[:, 1:] & scored[:, :-1]
    before, after = latents[:, :-1], latents[:, 1:]
    x = onp.concatenate([before, onp.ones((*before.shape[:2], 1))], axis=-1)
    regression = onp.linalg.lstsq(x[pairs], after[pairs], rcond=None)[0]
    left = onp.where(pairs[..., None], after - x @ regression, 0.0)
    deviation = onp.sqrt(onp.mean(left[pairs] ** 2, axis=0))
    left = left / onp.where(deviation > 0, deviation, 1.0)
    # a pair belongs to its later step
    steps = onp.maximum(onp.arange(latents.shape[1]) - 1, 0)
    for span in SPANS:

        def around(values: onp.ndarray, span: int = span) -> onp.ndarray:
            smooth = scipy.ndimage.uniform_filter1d
            return smooth(values, span, axis=1, mode="constant")

        share = onp.maximum(around(pairs[..., None].astype(float)), 0.5 / span)
        mean, square = around(left) / share, around(left**2) / share
        of_each = 0.5 * onp.log(square + 1e-2)
        of_all = 2.0 * onp.log(square.mean(axis=-1, keepdims=True) + 1e-3)
        for noise in (of_each, of_all):
            features = onp.concatenate([mean, noise], axis=-1)[pairs]
            labels = cluster(features, latent.num_states, rng, standardized=False)
            yield spread(labels, pairs)[:, steps]


def spread(labels: onp.ndarray, mask: onp.ndarray) -> onp.ndarray:
    """Put labels where the mask is True, 0 elsewhere."""
    everywhere = onp.zeros(mask.shape, dtype=onp.int64)
    everywhere[mask] = labels
    return everywhere


def cluster(
    points: onp.ndarray,
    num_clusters: int,
    rng: onp.random.Generator,
    standardized: bool = True,
) -> onp.ndarray:
    """Cluster points (M, F) by k-means, with columns standardised; labels (M,).

    Centres start at points drawn with probability proportional to the squared distance
    from those before them (Arthur and Vassilvitskii 2007).  Of no points there are no
    labels.
    """
    if not len(points):
        return onp.zeros(0, dtype=onp.int64)
    if standardized:
        deviation = points.std(axis=0)
        deviation = onp.where(deviation > 0, deviation, 1.0)
        points = (points - points.mean(axis=0)) / deviation
    source: Any = {"rng" if NEW_SCIPY else "seed": rng}
    # where fewer points than centres differ, the last of these are drawn with a
    # probability of 0 / 0 and coincide with the first point
    with warnings.catch_warnings(), onp.errstate(invalid="ignore"):
        # an empty cluster keeps its centre, and scipy says so: the ascent fills it
        warnings.simplefilter("ignore", UserWarning)
        labels = scipy.cluster.vq.kmeans2(points, num_clusters, minit="++", **source)[1]
    return onp.asarray(labels, dtype=onp.int64)
