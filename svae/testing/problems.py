"""Small latent models with posteriors, messages and potentials of no special values.

Nothing in these problems vanishes or is alike by chance of a start, so that a wrong
term shows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from svae.autodiff.trees import tree_map
from svae.families import product
from svae.models import (
    GMM,
    HMM,
    LDS,
    SLDS,
    Belief,
    Gaussian,
    StudentMixture,
)
from svae.types import Mask

__all__ = [
    "LATENT",
    "MEAN_FIELD",
    "SMALL_STUDENT",
    "STUDENT",
    "latent_model",
    "local_problem",
    "random_belief",
    "typical_graph",
    "typical_natparams",
    "typical_theta",
]

LATENT: dict[str, tuple[Any, dict[str, Any]]] = {
    "gaussian": (Gaussian, {"latent_dim": 2}),
    "gmm": (GMM, {"num_states": 3, "latent_dim": 2, "initial_spread": 1.0}),
    "hmm": (HMM, {"num_states": 3, "latent_dim": 2, "initial_spread": 1.0}),
    "lds": (LDS, {"latent_dim": 2}),
    "affine-lds": (LDS, {"latent_dim": 2, "affine": True}),
    "slds": (SLDS, {"num_states": 3, "latent_dim": 2, "initial_spread": 0.5}),
    "affine-slds": (
        SLDS,
        {"num_states": 3, "latent_dim": 2, "affine": True, "initial_spread": 0.5},
    ),
}
SMALL_STUDENT = LATENT["gmm"][1] | {"dof": 4.0}
STUDENT: dict[str, tuple[Any, dict[str, Any]]] = {  # x given z is not Gaussian
    "student": (StudentMixture, SMALL_STUDENT),
    "learned-student": (StudentMixture, SMALL_STUDENT | {"learn_dof": True}),
}
MEAN_FIELD = ("gmm", "hmm", "slds", "affine-slds")


def latent_model(name: str, tolerance: float = 1e-13, **options: Any) -> Any:
    """Return a small latent model; those that iterate do so down to rounding.

    Parameters
    ----------
    name : str
        A key of `LATENT` or `STUDENT`, such as ``"affine-slds"``.
    tolerance : float
        Of models whose local problem is solved by iterations.
    **options
        Of the model, in the place of the small ones here.

    Examples
    --------
    >>> latent_model("lds", latent_dim=3).latent_dim
    3
    """
    kind, defaults = (LATENT | STUDENT)[name]
    if name in (*MEAN_FIELD, *STUDENT):
        options["tolerance"] = tolerance
    return kind(**(defaults | options))


def local_problem(
    latent: Any,
    rng: np.random.Generator,
    lengths: Sequence[int] = (5, 3, 1, 4),
    dense: bool = False,
) -> tuple[Any, Any, Any]:
    """Return what the local problem of a batch of sequences is given.

    Parameters
    ----------
    latent : latent model
    rng : numpy.random.Generator
    lengths : sequence of N ints
        An independent model has one step for each.
    dense : bool
        Whether precisions of node potentials are matrices.

    Returns
    -------
    message : dict
        Expected statistics of theta.
    node : (J, h)
        J (N, T, D), or dense (N, T, D, D), and h (N, T, D).
    lengths : (N,) int array, or None of independent models
    """
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    number, steps = len(lengths), 1 if latent.independent else max(lengths)
    shape = (number, steps, latent.latent_dim)
    J = -rng.uniform(0.1, 0.5, shape)
    if dense:
        root = rng.standard_normal((*shape, shape[-1]))
        J = -0.1 * (root @ np.swapaxes(root, -1, -2) + np.eye(shape[-1]))
    h = 0.5 * rng.standard_normal(shape)
    return stats, (J, h), None if latent.independent else np.array(lengths)


def typical_natparams(latent: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Return a posterior after some data: the start plus random statistics.

    Parameters
    ----------
    latent : latent model
        With factors among ``dof``, ``weights``, ``transitions``, ``components``,
        ``init`` and ``dynamics``.
    rng : numpy.random.Generator

    Returns
    -------
    dict
        Natural parameters by the name of the factor.
    """
    dim = latent.latent_dim

    def gaussians(eta: Any) -> tuple[Any, ...]:
        x = rng.standard_normal((*eta[2].shape, 6, dim))
        count = np.full(eta[2].shape, 6.0)
        return np.swapaxes(x, -1, -2) @ x, x.sum(-2), count, count

    def pairs(eta: Any) -> tuple[Any, ...]:
        x, y = rng.standard_normal((2, *np.shape(eta[3]), 8, dim))
        if latent.affine:
            x = np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)
        xT, yT = np.swapaxes(x, -1, -2), np.swapaxes(y, -1, -2)
        return xT @ x, xT @ y, yT @ y, np.full(np.shape(eta[3]), 8.0)

    def curved(eta: Any) -> tuple[Any, ...]:
        return -rng.uniform(1, 4, eta[0].shape), rng.uniform(1, 8, eta[1].shape)

    draws: dict[str, Any] = {
        "dof": curved,
        "weights": lambda eta: (3 * rng.random(eta[0].shape),),
        "transitions": lambda eta: (3 * rng.random(eta[0].shape),),
        "components": gaussians,
        "init": gaussians,
        "dynamics": pairs,
    }
    return {
        name: tuple(e + d for e, d in zip(eta, draws[name](eta), strict=True))
        for name, eta in latent.initial_posterior(rng).items()
    }


def typical_graph(latent: Any, rng: np.random.Generator) -> Any:
    """Return free coordinates of a graph, none of whose factors is normalised."""
    message = product.expected_stats(latent.family, typical_natparams(latent, rng))
    coordinates = product.to_free(latent.family, message)
    return tree_map(
        lambda part: part + 0.2 * rng.standard_normal(part.shape), coordinates
    )


def typical_theta(
    latent: Any,
    rng: np.random.Generator,
    precision: float = 1.0,
    spread: float = 1.0,
) -> dict[str, Any]:
    """Return a theta as `product.sample` draws it: distinct states, stable dynamics.

    Parameters
    ----------
    latent : latent model
    rng : numpy.random.Generator
    precision : float
        Of the noise.
    spread : float
        How far means and biases are apart.

    Returns
    -------
    dict
        Draws by the name of the factor.
    """
    K, D = getattr(latent, "num_states", 1), latent.latent_dim
    lead = (K,) if hasattr(latent, "num_states") else ()
    root = rng.standard_normal((2, *lead, D, D)) / np.sqrt(D)
    noise = precision * (root @ np.swapaxes(root, -1, -2) + np.eye(D))
    means = spread * rng.standard_normal((*lead, D))
    rotations = np.linalg.qr(rng.standard_normal((*lead, D, D)))[0]
    A = 0.9 * rotations
    if getattr(latent, "affine", False):
        A = np.concatenate([A, spread * rng.standard_normal((*lead, D, 1))], axis=-1)
    theta: dict[str, Any] = {
        "dof": lambda: np.log(rng.uniform(3.0, 9.0, (K, 1))),
        "weights": lambda: rng.dirichlet(np.full(K, 2.0)),
        "transitions": lambda: rng.dirichlet(np.full(K, 2.0), K),
        "components": lambda: (means, noise[0]),
        "init": lambda: (means, noise[0]),
        "dynamics": lambda: (A, noise[1]),
    }
    return {name: theta[name]() for name in latent.family}


def random_belief(
    rng: np.random.Generator, given: Mask, dim: int, num_states: int | None = None
) -> Belief:
    """Draw a belief about the first steps of sequences.

    Parameters
    ----------
    rng : numpy.random.Generator
    given : (N,) bool array
        Which sequences have one.
    dim : int
        Of x at a step.
    num_states : int, optional
        For a belief about states, too.
    """
    given = np.array(given)
    root = rng.standard_normal((len(given), dim, dim))
    J = -0.5 * (root @ np.swapaxes(root, -1, -2) + np.eye(dim))
    states = None
    if num_states is not None:
        states = np.log(rng.dirichlet(np.ones(num_states), len(given)))
    return Belief(given, J, rng.standard_normal((len(given), dim)), states)
