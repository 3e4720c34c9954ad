"""Problems of latent models: bounds of mean-field inference at messages of q(theta).

The potentials are expected statistics of posteriors of order one, rounded: as inputs
they are exact, whatever they were made of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from svae.crosscheck.factors import FACTORS
from svae.crosscheck.truth.problems import (
    Problem,
    covariance,
    dyadic,
    generator_of,
    stable,
)
from svae.families import dirichlet, mniw, niw
from svae.types import Array

__all__ = ["problems"]

FAMILIES = {"dirichlet": dirichlet, "niw": niw, "mniw": mniw}
OF_MODEL = {
    "gmm": ("weights", "components"),
    "student": ("weights", "components"),
    "hmm": ("weights", "transitions", "components"),
    "lds": ("init", "dynamics"),
    "slds": ("weights", "transitions", "init", "dynamics"),
    "gaussian": (),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a latent model and of its data."""

    model: str
    N: int
    T: int
    D: int
    K: int = 1
    affine: bool = False


def standard(
    rng: np.random.Generator,
    shape: Shape,
    spread: float = 2.0,
    sticky: float = 0.0,
    more: float | None = None,
) -> dict[str, dict[str, Array]]:
    """Return standard parameters of a q(theta) of order one, factor by factor.

    Of few bits, so that natural parameters are made of them without rounding.
    ``spread`` is the standard deviation of locations, ``sticky`` is added to the
    concentrations of transitions of states to themselves, and ``more`` is what degrees
    of freedom have above D - 1.
    """
    K, D = shape.K, shape.D
    dim_in = D + shape.affine
    dof = D + 1 + dyadic(rng.uniform(0.5, 4.0, K), 3)
    if more is not None:
        dof = np.full(K, D - 1 + more)
    scale = covariance(rng, K, D) * dof[:, None, None]
    normal = {
        "mean": dyadic(spread * rng.standard_normal((K, D)), 4),
        "kappa": dyadic(rng.uniform(1.0, 8.0, K), 3),
        "scale": dyadic(scale),
        "dof": dof,
    }
    A = np.concatenate([stable(rng, K, D), dyadic(rng.standard_normal((K, D, 1)))], 2)
    linear = {
        "mean": A[..., :dim_in],
        "column_precision": 4.0 * covariance(rng, K, dim_in) + 2.0 * np.eye(dim_in),
        "scale": dyadic(scale / 4),
        "dof": dof,
    }
    alpha = dyadic(rng.uniform(0.5, 4.0, (K + 1, K)), 3)
    every = {
        "weights": {"alpha": alpha[0]},
        "transitions": {"alpha": alpha[1:] + sticky * np.eye(K)},
        "init": normal,
        "components": normal,
        "dynamics": linear,
    }
    found = {name: every[name] for name in OF_MODEL[shape.model]}
    if shape.model == "lds":  # no axis of states
        return {
            name: {word: x[0] for word, x in factor.items()}
            for name, factor in found.items()
        }
    return found


NATURAL = (
    "weights, transitions: alpha - 1; init, components: second = scale + kappa mean "
    "mean', weighted_mean = kappa mean; dynamics: weighted_mean = column_precision "
    "mean', second = scale + mean weighted_mean; all without rounding"
)


def natural(factors: Mapping[str, Mapping[str, Array]]) -> dict[str, tuple[Any, ...]]:
    """Return natural parameters of standard ones, factor by factor."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, of in factors.items():
        if "alpha" in of:
            found[name] = (of["alpha"] - 1.0,)
        elif "kappa" in of:
            kappa = of["kappa"]
            weighted = kappa[..., None] * of["mean"]
            second = of["scale"] + weighted[..., :, None] * of["mean"][..., None, :]
            found[name] = second, weighted, kappa, of["dof"]
        else:
            V = of["column_precision"]
            weighted = V @ np.swapaxes(of["mean"], -1, -2)
            second = of["scale"] + of["mean"] @ weighted
            found[name] = V, weighted, second, of["dof"]
    return found


def posterior(
    rng: np.random.Generator, shape: Shape, **options: Any
) -> dict[str, tuple[Any, ...]]:
    """Return natural parameters of `standard`."""
    return natural(standard(rng, shape, **options))


def symmetric_part(x: Any) -> Array:
    """Remove the asymmetry of rounding from matrices that are symmetric but for it."""
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        return x
    flipped = np.swapaxes(x, -1, -2)
    return (x + flipped) / 2 if np.allclose(x, flipped, rtol=1e-9) else x


def message(natparams: Mapping[str, Any]) -> dict[str, tuple[Array, ...]]:
    """Return the expected statistics of q(theta), rounded to 16 bits after the point.

    So they are the same wherever they are made.
    """
    return {
        name: tuple(
            dyadic(symmetric_part(x), 16)
            for x in FAMILIES[FACTORS[name].family].expected_stats(factor)
        )
        for name, factor in natparams.items()
    }


def named(factors: Mapping[str, Any]) -> dict[str, Array]:
    """Return statistics by the names of inputs."""
    return {
        name + word: np.asarray(x)
        for name, factor in factors.items()
        for word, x in zip(FACTORS[name].statistics, factor, strict=True)
    }


def evidence(rng: np.random.Generator, shape: Shape) -> dict[str, Array]:
    """Return diagonal node potentials of precisions of order one."""
    size = (shape.N, shape.T, shape.D)
    precision = rng.uniform(0.5, 4.0, size)
    return {
        "node.J": -precision / 2,
        "node.h": precision * 2.0 * rng.standard_normal(size),
    }


def start(rng: np.random.Generator, shape: Shape) -> Array:
    """Return probabilities of states (N, T, K) of few bits, whose sums are exact."""
    drawn = rng.dirichlet(np.full(shape.K, 2.0), (shape.N, shape.T))
    few = dyadic(drawn, 5)
    few[..., -1] += 1.0 - few.sum(-1)
    return few


def potentials(name: str, shape: Shape, **options: Any) -> dict[str, Array]:
    """Return a message, evidence and states to start from."""
    rng = generator_of(name)
    found = named(message(posterior(rng, shape, **options)))
    if shape.model == "student":
        found["dof"] = np.array([5.0])
    return found | evidence(rng, shape) | {"states": start(rng, shape)}


def case(
    name: str, shape: Shape, inputs: Mapping[str, Any], origin: str, *catches: str
) -> Problem:
    """Return a problem of bounds."""
    sizes = {"N": shape.N, "T": shape.T, "D": shape.D, "K": shape.K}
    kind = "switching_bound" if shape.model == "slds" else "mixture_bound"
    arrays = {f"natural.{key}": np.asarray(x, float) for key, x in inputs.items()}
    return Problem(name, kind, arrays, origin, catches, model=shape.model, sizes=sizes)


def problems() -> Iterator[Problem]:
    """Yield all bounds."""
    yield from mixture_problems()
    yield from switching_problems()
    yield from natural_gradient_problems()
    yield from inference_network_problems()


COMMON = (
    "bound-counts-a-term-twice",
    "missing-two-pi",
    "potentials-without-variance",
)


def mixture_problems() -> Iterator[Problem]:
    """Yield Gaussian and Student-t mixtures and hidden Markov models."""
    name, shape = "gmm-bound", Shape("gmm", 3, 1, 2, 3)
    yield case(
        name,
        shape,
        potentials(name, shape),
        "Three points of a Gaussian mixture, with a posterior of order one.",
        *COMMON,
        "digammas-of-nu-plus-i",
    )
    name = "gmm-bound-overlapping"
    yield case(
        name,
        shape,
        potentials(name, shape, spread=0.25),
        "Components that overlap: coordinate ascent is slow, and ends far from labels.",
        "too-few-sweeps",
        "loose-tolerance",
    )
    name = "gmm-bound-nothing-observed"
    inputs = potentials(name, shape)
    for key in ("node.J", "node.h"):
        inputs[key][1] = 0.0
    yield case(
        name,
        shape,
        inputs,
        "The second point has potentials of zero: only the prior speaks of it.",
        "fake-evidence-for-missing",
    )
    name, one = "gmm-bound-one-state", Shape("gmm", 2, 1, 2, 1)
    yield case(
        name,
        one,
        potentials(name, one),
        "One component: the bound is the evidence itself.",
        *COMMON,
    )
    name = "gmm-bound-dense-evidence"
    inputs = potentials(name, shape)
    inputs["node.J"] = -covariance(generator_of(name + " J"), 3, 1, 2)
    yield case(
        name,
        shape,
        inputs,
        "Evidence whose precisions are full matrices.",
        "diagonal-alone",
    )
    name, tails = "student-bound", Shape("student", 3, 1, 2, 3)
    yield case(
        name,
        tails,
        potentials(name, tails),
        "Three points of a Student-t mixture of five degrees of freedom.",
        *COMMON,
        "tails-without-log1p-mahalanobis",
    )
    name, one_tail = "student-bound-one-state", Shape("student", 2, 1, 2, 1)
    yield case(
        name,
        one_tail,
        potentials(name, one_tail),
        "One Student-t: what is iterated is the scale u alone.",
        "tails-without-log1p-mahalanobis",
    )
    name = "student-bound-outlier"
    inputs = potentials(name, tails)
    inputs["dof"] = np.array([1.5])
    inputs["node.h"][0] = -2.0 * inputs["node.J"][0] * np.array([128.0, -64.0])
    yield case(
        name,
        tails,
        inputs,
        "Tails of 1.5 degrees of freedom, and a point at a distance of about 100.",
        "tails-without-log1p-mahalanobis",
    )
    name, chain = "hmm-bound", Shape("hmm", 2, 4, 2, 2)
    yield case(
        name,
        chain,
        potentials(name, chain),
        "Two sequences of four steps of a hidden Markov model.",
        *COMMON,
        "transposed-transition",
    )
    name, three = "hmm-bound-sticky", Shape("hmm", 2, 4, 1, 3)
    yield case(
        name,
        three,
        potentials(name, three, sticky=1000.0),
        "Three states that last a thousand steps.",
        "probability-floor",
        "transposed-transition",
    )


def switching_problems() -> Iterator[Problem]:
    """Yield switching linear dynamical systems."""
    common = (*COMMON, "transposed-transition", "transposed-dynamics")
    name, shape = "slds-bound", Shape("slds", 2, 4, 2, 2)
    yield case(
        name,
        shape,
        potentials(name, shape),
        "Two sequences of four steps; z_t selects how x_t follows from x_{t-1}.",
        *common,
        "state-index-shifted",
    )
    name, affine = "slds-bound-affine", Shape("slds", 1, 3, 1, 3, True)
    yield case(
        name,
        affine,
        potentials(name, affine),
        "Dynamics with a bias.",
        *common,
        "bias-ignored",
    )
    name, one = "slds-bound-one-state", Shape("slds", 2, 4, 2, 1)
    yield case(
        name,
        one,
        potentials(name, one),
        "One state: a linear dynamical system, whose bound is its evidence.",
        *COMMON,
    )
    name, short = "slds-bound-one-step", Shape("slds", 2, 1, 2, 3)
    yield case(
        name,
        short,
        potentials(name, short),
        "Sequences of one step, which have no dynamics.",
        "extra-predict-step",
    )
    name = "slds-bound-gap"
    inputs = potentials(name, shape)
    for key in ("node.J", "node.h"):
        inputs[key][:, 1:3] = 0.0
    yield case(
        name,
        shape,
        inputs,
        "Two steps in the middle have potentials of zero.",
        "fake-evidence-for-missing",
        "gap-without-dynamics",
    )


def decoder(rng: np.random.Generator, D: int, P: int, hidden: int) -> dict[str, Array]:
    """Return weights of order one, of a linear map if there is no hidden layer."""
    width = hidden or D
    found = {
        "W": dyadic(rng.standard_normal((width, P))),
        "b": dyadic(rng.standard_normal(P)),
        "variance": dyadic(rng.uniform(0.25, 1.0, P)),
    }
    if hidden:
        found["hidden.W"] = dyadic(0.5 * rng.standard_normal((D, hidden)))
        found["hidden.b"] = dyadic(0.5 * rng.standard_normal(hidden))
    return found


def natural_gradient(
    name: str,
    shape: Shape,
    origin: str,
    *catches: str,
    hidden: int = 0,
    samples: int = 2,
    observed: int = 2,
    scale: float = 2.5,
    **options: Any,
) -> Problem:
    """Return the problem of a batch: q(theta), its prior, evidence and a likelihood."""
    rng = generator_of(name)
    both = {
        "posterior": standard(rng, shape, **options),
        "prior": standard(rng, shape),
    }
    inputs: dict[str, Any] = {}
    for role, factors in both.items():
        inputs |= {
            f"{role}.{factor}{word}": x
            for factor, natparams in natural(factors).items()
            for word, x in zip(FACTORS[factor].parameters, natparams, strict=True)
        }
    if shape.model == "student":
        inputs["dof"] = np.array([5.0])
    inputs |= evidence(rng, shape)
    inputs["states"] = start(rng, shape)
    size = shape.N, samples, shape.T, shape.D
    inputs["noise"] = dyadic(rng.standard_normal(size))
    inputs |= {
        f"decoder.{word}": x
        for word, x in decoder(rng, shape.D, observed, hidden).items()
    }
    inputs["y"] = dyadic(2.0 * rng.standard_normal((shape.N, shape.T, observed)))
    inputs["scale"] = np.array([scale])
    problem = case(name, shape, inputs, origin, *catches)
    exact = {
        f"standard.{role}.{factor}.{word}": x
        for role, factors in both.items()
        for factor, parts in factors.items()
        for word, x in parts.items()
    }
    return replace(
        problem,
        kind="natural_gradient",
        sizes={**problem.sizes, "P": observed, "S": samples},
        inputs=dict(problem.inputs) | exact,
        natural=NATURAL if exact else "",
    )


def natural_gradient_problems() -> Iterator[Problem]:
    """Yield a problem of every latent model, and harder ones."""
    common = (
        "minibatch-not-scaled",
        "global-divergence-forgotten",
        "sign-of-the-local-divergence",
    )
    full = (*common, "correction-dropped", "algorithm-1-as-printed")
    mean_field = (*full, "solve-skipped", "series-cut-short")
    yield natural_gradient(
        "gaussian-natural-gradient",
        Shape("gaussian", 2, 1, 2),
        "A variational autoencoder: there is no q(theta), but gradients of evidence.",
        "samples-without-gradient",
        "sign-of-the-local-divergence",
        hidden=3,
    )
    yield natural_gradient(
        "gmm-natural-gradient",
        Shape("gmm", 3, 1, 2, 3),
        "Three points of a mixture, whose decoder has a layer of tanh.",
        *mean_field,
        hidden=3,
    )
    yield natural_gradient(
        "gmm-natural-gradient-overlapping",
        Shape("gmm", 2, 1, 2, 2),
        "Components that overlap: half of the gradient goes through the labels.",
        *mean_field,
        spread=0.5,
    )
    yield natural_gradient(
        "lds-natural-gradient",
        Shape("lds", 2, 3, 2),
        "Two sequences of three steps of a linear dynamical system.",
        *full,
        "dropped-pair-gradient",
        "transposed-dynamics",
        hidden=3,
    )
    yield natural_gradient(
        "lds-natural-gradient-affine",
        Shape("lds", 1, 3, 1, affine=True),
        "Dynamics with a bias.",
        *full,
        "bias-ignored",
    )
    yield natural_gradient(
        "slds-natural-gradient",
        Shape("slds", 1, 3, 2, 2),
        "Three steps of a switching linear dynamical system.",
        *mean_field,
        "dropped-pair-gradient",
        "state-index-shifted",
        hidden=2,
        samples=1,
    )
    yield natural_gradient(
        "hmm-natural-gradient",
        Shape("hmm", 2, 3, 2, 2),
        "Two sequences of three steps of a hidden Markov model.",
        *mean_field,
        "transposed-transition",
        hidden=2,
        samples=1,
    )
    yield natural_gradient(
        "student-natural-gradient",
        Shape("student", 3, 1, 2, 2),
        "Three points of a Student-t mixture of five degrees of freedom.",
        *mean_field,
        "tails-without-log1p-mahalanobis",
        hidden=3,
    )
    yield in_units(
        natural_gradient(
            "gmm-natural-gradient-units",
            Shape("gmm", 2, 1, 2, 2),
            "A mixture whose x is measured in a unit 2^20 times as large.",
            *mean_field,
            "diagonal-boost",
            spread=1.0,
        )
    )
    yield natural_gradient(
        "gmm-natural-gradient-barely-proper",
        Shape("gmm", 2, 1, 2, 2),
        "Posteriors and priors whose degrees of freedom are just above D - 1.",
        *mean_field,
        "digammas-of-nu-plus-i",
        more=2.0**-6,
    )
    gap = natural_gradient(
        "lds-natural-gradient-gap",
        Shape("lds", 1, 4, 2),
        "Two steps in the middle have no evidence, and count in the likelihood.",
        *full,
        "fake-evidence-for-missing",
    )
    yield without_evidence(gap, (slice(None), slice(1, 3)))
    yield natural_gradient(
        "lds-natural-gradient-one-step",
        Shape("lds", 2, 1, 2),
        "Sequences of one step say nothing of the dynamics.",
        *full,
        "extra-predict-step",
    )
    yield natural_gradient(
        "slds-natural-gradient-one-state",
        Shape("slds", 1, 3, 2, 1),
        "With one state it is a linear dynamical system.",
        *full,
    )
    yield natural_gradient(
        "slds-natural-gradient-affine",
        Shape("slds", 1, 3, 1, 2, True),
        "Switching dynamics with a bias.",
        *mean_field,
        "bias-ignored",
    )
    yield natural_gradient(
        "hmm-natural-gradient-sticky",
        Shape("hmm", 1, 4, 1, 2),
        "States that last a hundred steps, and overlap.",
        *mean_field,
        "transposed-transition",
        spread=0.5,
        sticky=100.0,
    )


UNIT = 2.0**-20
POWERS = {
    ".second": 2,
    ".weighted_mean": 1,
    ".mean": 1,
    "components.scale": 2,
    "node.J": -2,
    "node.h": -1,
    "decoder.W": -1,
    "hidden.W": -1,
}
"""Powers of the unit of x in inputs, by the ends of their names."""


def in_units(problem: Problem) -> Problem:
    """Return the problem of a mixture with x measured in a much larger unit."""
    inputs = {
        name: x * UNIT ** next((p for e, p in POWERS.items() if name.endswith(e)), 0)
        for name, x in problem.inputs.items()
    }
    return replace(problem, inputs=inputs)


def without_evidence(problem: Problem, place: Any) -> Problem:
    """Return the problem with node potentials of zero at a place (N, T)."""
    inputs = dict(problem.inputs)
    for key in ("natural.node.J", "natural.node.h"):
        inputs[key] = inputs[key].copy()
        inputs[key][place] = 0.0
    return replace(problem, inputs=inputs)


def inference_network(
    name: str,
    shape: Shape,
    origin: str,
    *catches: str,
    hidden: int = 0,
    samples: int = 2,
    observed: int = 2,
    **options: Any,
) -> Problem:
    """Return the problem of a graph with evidence, under a message of q(theta)."""
    rng = generator_of(name)
    inputs: dict[str, Any] = {}
    for role in ("graph", "message"):
        factors = named(message(posterior(rng, shape, **options)))
        inputs |= {f"{role}.{key}": x for key, x in factors.items()}
    if shape.model == "student":
        inputs["dof"] = np.array([5.0])
    inputs |= evidence(rng, shape)
    size = shape.N, samples, shape.T, shape.D
    inputs["noise"] = dyadic(rng.standard_normal(size))
    inputs |= {
        f"decoder.{word}": x
        for word, x in decoder(rng, shape.D, observed, hidden).items()
    }
    inputs["y"] = dyadic(2.0 * rng.standard_normal((shape.N, shape.T, observed)))
    problem = case(name, shape, inputs, origin, *catches)
    sizes = {**problem.sizes, "P": observed, "S": samples}
    return replace(problem, kind="inference_network", sizes=sizes)


def inference_network_problems() -> Iterator[Problem]:
    """Yield structured inference networks of all models that have one."""
    common = "samples-of-the-marginal", "graph-gradient-dropped", "missing-two-pi"
    gmm = Shape("gmm", 3, 1, 2, 3)
    yield inference_network(
        "gmm-inference-network",
        gmm,
        "Three points of a mixture; every state has its own samples.",
        *common,
        hidden=3,
    )
    name = "gmm-inference-network-nothing-observed"
    problem = inference_network(
        name,
        gmm,
        "A point of potentials zero: q(z) is that of the graph alone.",
        *common,
        "inverse-of-encoder-precision",
    )
    yield without_evidence(problem, 1)
    yield inference_network(
        "hmm-inference-network",
        Shape("hmm", 2, 3, 2, 2),
        "Two sequences of three steps of a hidden Markov model.",
        *common,
        "transposed-transition",
        samples=1,
        hidden=2,
        spread=0.5,
    )
    yield inference_network(
        "hmm-inference-network-certain",
        Shape("hmm", 2, 3, 1, 2),
        "Evidence for one path: other states have probabilities of 1e-8 and less.",
        *common,
        "probability-floor",
        samples=1,
        spread=8.0,
    )
    yield inference_network(
        "lds-inference-network",
        Shape("lds", 2, 3, 2),
        "Two sequences of three steps of a linear dynamical system.",
        "graph-gradient-dropped",
        "missing-two-pi",
        "normalizer-of-t-transitions",
        hidden=2,
    )
    yield inference_network(
        "lds-inference-network-affine",
        Shape("lds", 1, 3, 1, affine=True),
        "Dynamics with a bias.",
        "graph-gradient-dropped",
        "bias-ignored",
    )
    gap = inference_network(
        "lds-inference-network-gap",
        Shape("lds", 1, 4, 2),
        "Two steps in the middle have no evidence.",
        "graph-gradient-dropped",
        "fake-evidence-for-missing",
    )
    yield without_evidence(gap, (slice(None), slice(1, 3)))
    yield inference_network(
        "student-inference-network",
        Shape("student", 2, 1, 2, 2),
        "A Gaussian graph under a Student-t mixture of five degrees of freedom.",
        *common,
        "tails-without-log1p-mahalanobis",
        hidden=2,
    )
