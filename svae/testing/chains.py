"""Problems for the chains of `svae.kernels` and `svae.reference`, of order one.

Leading axes of potentials may be shared: by all sequences and steps ("shared"), by the
steps of a sequence ("sequence"), by the sequences at a step ("time"), by none ("step"),
or by different ones for each potential ("mixed").
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from svae.types import Array, Integers

__all__ = [
    "SHARING",
    "GaussianProblem",
    "MarkovProblem",
    "SwitchingProblem",
    "describe",
    "fill_past_lengths",
    "gaussian_problem",
    "lds_pair_potentials",
    "markov_problem",
    "mirror",
    "sequence",
    "switching_problem",
]

SHARING = ("shared", "sequence", "time", "step", "mixed")


class GaussianProblem(NamedTuple):
    """Arguments of `gaussian_chain`, in order: N sequences of T steps of D numbers."""

    init: Any
    """J0 (..., D, D) and h0 (..., D)."""
    pair: Any
    """J11, J12 and J22 (..., D, D), with leading axes of sequences and steps if any."""
    node: Any
    """J (N, T, D), or dense (N, T, D, D), and h (N, T, D)."""
    noise: Any = None
    """(N, S, T, D), or None without samples."""
    lengths: Any = None
    """(N,), or None if all sequences have T steps."""


class MarkovProblem(NamedTuple):
    """Arguments of `markov_chain`, in order: N sequences of T steps among K states."""

    init: Any
    """Log potentials (..., K) of the first state."""
    pair: Any
    """Log potentials (..., K, K) of transitions."""
    node: Any
    """Log potentials (N, T, K)."""
    lengths: Any = None
    """(N,), or None if all sequences have T steps."""


class SwitchingProblem(NamedTuple):
    """Arguments of `switching_gaussian_chain`, in order: K states."""

    init: Any
    """As of a `GaussianProblem`."""
    pairs: Any
    """J11, J12 and J22 (K, D, D) and, of affine dynamics, h1 and h2 (K, D)."""
    weights: Any
    """(N, T-1, K), positive, with sums of one."""
    node: Any
    noise: Any = None
    lengths: Any = None


def gaussian_problem(
    rng: np.random.Generator,
    N: int = 3,
    T: int = 5,
    D: int = 2,
    *,
    sharing: str = "shared",
    dense: bool = False,
    S: int = 2,
    lengths: Integers | None = None,
) -> GaussianProblem:
    """Draw random linear dynamics, observed through random node potentials.

    Parameters
    ----------
    rng : numpy.random.Generator
    N, T, D : int
        Sequences, steps and dimensions.
    sharing : str
        One of `SHARING`.
    dense : bool
        Whether node potentials are matrices (N, T, D, D).
    S : int
        Samples for each sequence; 0 for no noise.
    lengths : (N,) int array, optional

    Examples
    --------
    >>> problem = gaussian_problem(np.random.default_rng(0), N=4, T=3, D=2, S=1)
    >>> problem.pair[0].shape, problem.node[0].shape, problem.noise.shape
    ((2, 2), (4, 3, 2), (4, 1, 3, 2))
    """
    (J0_lead, h0_lead), pair_leads = _leading_axes(sharing, N, T)
    A = 0.3 * np.eye(D) + 0.6 * rng.standard_normal((D, D)) / np.sqrt(D)
    J11, J12, J22 = lds_pair_potentials(A, _positive_definite(rng, D))
    # weaker couplings and stronger precisions than the dynamics': positive definite
    scales = (1.0, 1.4), (0.6, 1.0), (1.0, 1.4)
    pair = tuple(
        J * rng.uniform(*scale, (*lead, 1, 1))
        for J, scale, lead in zip((J11, J12, J22), scales, pair_leads, strict=True)
    )
    J0 = -_positive_definite(rng, *J0_lead, D) / 2
    h0 = rng.standard_normal((*h0_lead, D))
    Jn = -rng.uniform(0.5, 1.5, (N, T, D))
    if dense:
        Jn = -_positive_definite(rng, N, T, D) / 2
    noise = rng.standard_normal((N, S, T, D)) if S else None
    node = Jn, rng.standard_normal((N, T, D))
    return GaussianProblem((J0, h0), pair, node, noise, lengths)


def switching_problem(
    rng: np.random.Generator,
    N: int = 3,
    T: int = 5,
    D: int = 2,
    K: int = 3,
    *,
    affine: bool = False,
    **options: Any,
) -> SwitchingProblem:
    """Draw dynamics of K states, and how much each counts at every pair.

    Parameters
    ----------
    rng : numpy.random.Generator
    N, T, D, K : int
        Sequences, steps, dimensions and states.
    affine : bool
        Whether pairs have linear terms.
    **options
        ``dense``, ``S`` and ``lengths`` of `gaussian_problem`.
    """
    chain = gaussian_problem(rng, N, T, D, **options)
    of_states = [gaussian_problem(rng, 1, 1, D).pair for _ in range(K)]
    pairs = [np.stack(part) for part in zip(*of_states, strict=True)]
    if affine:
        pairs += list(rng.standard_normal((2, K, D)))
    weights = rng.dirichlet(np.ones(K), (N, max(T - 1, 0)))
    return SwitchingProblem(
        chain.init, tuple(pairs), weights, chain.node, chain.noise, chain.lengths
    )


def markov_problem(
    rng: np.random.Generator,
    N: int = 3,
    T: int = 4,
    K: int = 3,
    *,
    sharing: str = "shared",
    scale: float = 1.0,
    lengths: Integers | None = None,
) -> MarkovProblem:
    """Draw normal log potentials.

    Parameters
    ----------
    rng : numpy.random.Generator
    N, T, K : int
        Sequences, steps and states.
    sharing : str
        One of `SHARING`.
    scale : float
        Standard deviation of the log potentials.
    lengths : (N,) int array, optional
    """
    (init_lead, _), (_, pair_lead, _) = _leading_axes(sharing, N, T)
    return MarkovProblem(
        scale * rng.standard_normal((*init_lead, K)),
        scale * rng.standard_normal((*pair_lead, K, K)),
        scale * rng.standard_normal((N, T, K)),
        lengths,
    )


def lds_pair_potentials(A: Array, precision: Array) -> tuple[Any, Any, Any]:
    """Return the pair potentials of x_{t+1} = A x_t + noise.

    Parameters
    ----------
    A : (D, D) array
    precision : (D, D) array
        Inverse covariance of the noise.

    Returns
    -------
    J11, J12, J22 : (D, D) arrays
    """
    return -A.T @ precision @ A / 2, A.T @ precision, -precision / 2


def sequence(problem: Any, n: int) -> Any:
    """Return sequence n of a problem alone, cut to its length.

    Parameters
    ----------
    problem : GaussianProblem or MarkovProblem
    n : int

    Returns
    -------
    GaussianProblem or MarkovProblem
        With one sequence and no lengths.
    """
    node_h = problem.node[-1] if isinstance(problem.node, tuple) else problem.node
    T = node_h.shape[1] if problem.lengths is None else int(problem.lengths[n])

    def alone(x: Array, event_ndim: int, steps: int = T) -> Any:
        if x.ndim > event_ndim:
            x = x[n : n + 1] if len(x) > 1 else x
        return x[:, :steps] if x.ndim == event_ndim + 2 else x

    if isinstance(problem, MarkovProblem):
        init, pair, node, _ = problem
        return MarkovProblem(alone(init, 1), alone(pair, 2, T - 1), alone(node, 1))
    (J0, h0), pair, (Jn, hn), noise, _ = problem
    return GaussianProblem(
        (alone(J0, 2), alone(h0, 1)),
        tuple(alone(J, 2, T - 1) for J in pair),
        (alone(Jn, Jn.ndim - 2), alone(hn, 1)),
        None if noise is None else noise[n : n + 1, :, :T],
    )


def fill_past_lengths(problem: Any, filler: float) -> Any:
    """Replace whatever a problem with lengths holds past the ends of its sequences."""
    node_h = problem.node[-1] if isinstance(problem.node, tuple) else problem.node
    live = np.arange(node_h.shape[1]) < problem.lengths[:, None]

    def fill(x: Array, live: Any) -> Any:
        live = live.reshape(live.shape + (1,) * (x.ndim - live.ndim))
        return np.where(live, x, filler)

    def fill_pair(x: Array) -> Any:
        return fill(x, live[:, 1:]) if x.ndim == 4 else x

    if isinstance(problem, MarkovProblem):
        pair, node = fill_pair(problem.pair), fill(problem.node, live)
        return problem._replace(pair=pair, node=node)
    pair = tuple(fill_pair(J) for J in problem.pair)
    node = tuple(fill(x, live) for x in problem.node)
    noise = fill(problem.noise, live[:, None])
    return problem._replace(pair=pair, node=node, noise=noise)


def describe(shape: Mapping[str, Any]) -> str:
    """Name a problem's shape in a test's id."""
    sizes = [f"{name}{size}" for name, size in shape.items() if name in "NTDK"]
    dense, ragged = "dense" * ("dense" in shape), "ragged" * ("lengths" in shape)
    return "-".join(word for word in (*sizes, dense, ragged) if word)


def mirror(potential: Array, stat: Array) -> Any:
    """Sum a statistic per sequence and step over the axes that the potential shares."""
    shape = (1,) * (stat.ndim - potential.ndim) + potential.shape
    shared = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return stat.sum(shared, keepdims=True).reshape(potential.shape)


def _leading_axes(sharing: str, N: int, T: int) -> Any:
    """Leading axes of J0 and h0, and of J11, J12 and J22."""
    if sharing == "mixed":
        return ((N,), ()), ((), (N, T - 1), (N, 1))
    pair: dict[str, tuple[int, ...]] = {
        "shared": (),
        "sequence": (N, 1),
        "time": (1, T - 1),
        "step": (N, T - 1),
    }
    return ((), (N,) if sharing == "step" else ()), (pair[sharing],) * 3


def _positive_definite(rng: np.random.Generator, *shape: int) -> Array:
    """Random matrices (..., D, D) with eigenvalues of order one."""
    root = rng.standard_normal((*shape, shape[-1])) / np.sqrt(shape[-1])
    return root @ np.swapaxes(root, -1, -2) + np.eye(shape[-1])
