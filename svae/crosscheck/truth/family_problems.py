"""Problems of the families: members q and p, ordinary and hard ones.

Every array has an axis of two members in front.  Natural parameters are made of
standard ones of few bits, so that both are exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from svae.crosscheck.truth.families import FAMILIES
from svae.crosscheck.truth.problems import (
    Problem,
    covariance,
    dyadic,
    generator_of,
    random_like,
)
from svae.types import Array

__all__ = ["problems"]

MEMBERS = 2
UNIT = 2.0**-20
"""About 1e-6: the unit in which x is measured, times this."""
JUST = 2.0**-10
"""Degrees of freedom above the least, D - 1."""
Standard = Mapping[str, Any]


def problems() -> Iterator[Problem]:
    """Yield all problems of this module."""
    yield from gaussian_problems()
    yield from categorical_problems()
    yield from dirichlet_problems()
    yield from wishart_problems()
    yield from niw_problems()
    yield from mniw_problems()


def nearly_singular(rng: np.random.Generator, dim: int, condition: int = 24) -> Array:
    """Draw matrices of 44 bits after the point, of condition number 2**condition."""
    turn = np.linalg.qr(rng.standard_normal((MEMBERS, dim, dim)))[0]
    scales = np.where(np.arange(dim) == dim - 1, 2.0**-condition, 1.0)
    drawn = (turn * scales) @ np.swapaxes(turn, -1, -2)
    return dyadic(drawn + np.swapaxes(drawn, -1, -2), 44) / 2


def nearly_singular_exact(rng: np.random.Generator, dim: int, condition: int) -> Array:
    """Draw such matrices of few bits: a unit triangular factor around the scales."""
    factor = np.tril(dyadic(rng.standard_normal((MEMBERS, dim, dim)), 3), -1)
    factor = factor + np.eye(dim)
    scales = np.where(np.arange(dim) == dim - 1, 2.0**-condition, 1.0)
    return (factor * scales) @ np.swapaxes(factor, -1, -2)


def case(
    name: str,
    family: str,
    members: Sequence[Sequence[Any]],
    origin: str,
    *catches: str,
    standard: Standard | None = None,
    natural: str = "",
) -> Problem:
    """Return the problem of two members q and p, with cotangents of everything."""
    names = FAMILIES[family].names
    inputs = {
        f"natural.{role}.{part}": np.asarray(x, float)
        for role, member in zip("qp", members, strict=True)
        for part, x in zip(names, member, strict=True)
    }
    inputs |= {f"standard.{key}": x for key, x in (standard or {}).items()}
    outputs: dict[str, Any] = {
        f"expected_stats.{part}": x for part, x in zip(names, members[0], strict=True)
    }
    numbers = np.zeros(len(members[0][0]))
    outputs |= {"log_normalizer": numbers, "kl": numbers}
    cotangents = random_like(generator_of(name + " cotangents"), outputs, "cotangent")
    dim = np.shape(members[0][0])[-1]
    return Problem(
        name,
        "family",
        inputs | cotangents,
        origin,
        catches,
        natural=natural,
        family=family,
        sizes={"N": len(numbers), "K" if family in DISCRETE else "D": dim},
    )


DISCRETE = ("categorical", "dirichlet")


def gaussian_problems() -> Iterator[Problem]:
    """Yield Gaussians."""

    def members(rng: np.random.Generator, dim: int) -> list[list[Array]]:
        return [
            [
                -covariance(rng, MEMBERS, dim) / 2,
                dyadic(rng.standard_normal((MEMBERS, dim))),
            ]
            for _ in range(2)
        ]

    common = "missing-two-pi", "half-J", "inverse-for-precision"
    name = "family-gaussian-one-dimension"
    yield case(
        name,
        "gaussian",
        members(generator_of(name), 1),
        "Gaussians of one dimension, whose normalizers are integrals enclosed as such.",
        *common,
    )
    name = "family-gaussian"
    yield case(
        name,
        "gaussian",
        members(generator_of(name), 2),
        "Correlated Gaussians of two dimensions.",
        *common,
        "diagonal-alone",
    )
    name = "family-gaussian-units"
    yield case(
        name,
        "gaussian",
        [[J / UNIT**2, h / UNIT] for J, h in members(generator_of(name), 2)],
        "The same kind with x measured in a unit 2^20 times as large.",
        "diagonal-boost",
        "log-determinant-floor",
    )
    name = "family-gaussian-nearly-singular"
    rng = generator_of(name)
    yield case(
        name,
        "gaussian",
        [[-nearly_singular(rng, 2) / 2, h] for _, h in members(rng, 2)],
        "Precisions of condition numbers of about 2^24.",
        "diagonal-boost",
    )


def categorical_problems() -> Iterator[Problem]:
    """Yield categoricals."""
    name = "family-categorical"
    rng = generator_of(name)
    yield case(
        name,
        "categorical",
        [[3.0 + rng.standard_normal((1, 4))] for _ in range(2)],
        "Log potentials that are not normalised.",
        "normalised-potentials",
    )
    name = "family-categorical-spread"
    q = np.array([[900.0, -100.0, -np.inf, 899.25]])
    p = np.array([[-500.0, 400.0, -np.inf, -500.5]])
    yield case(
        name,
        "categorical",
        [[q], [p]],
        "Log potentials of spread 1000, and a state that neither member allows.",
        "probability-floor",
        "log-sum-exp-without-maximum",
        "zero-times-log-of-zero",
    )


def dirichlet_problems() -> Iterator[Problem]:
    """Yield Dirichlets."""

    def problem(name: str, alphas: Any, origin: str, *catches: str) -> Problem:
        members = [np.asarray(alpha) - 1.0 for alpha in alphas]
        exact = {
            f"{r}.alpha": member + 1.0 for r, member in zip("qp", members, strict=True)
        }
        return case(
            name,
            "dirichlet",
            [[member] for member in members],
            origin,
            *catches,
            standard=exact,
            natural="alpha_minus_1 = alpha - 1, without rounding",
        )

    yield problem(
        "family-dirichlet",
        [[[0.5, 1.25, 2.0], [3.0, 0.75, 1.0]], [[1.0, 1.0, 1.0], [2.5, 0.5, 0.25]]],
        "Concentrations of order one.",
        "alpha-for-its-natural-parameter",
        "digamma-of-natural",
    )
    yield problem(
        "family-dirichlet-sparse",
        [
            [[1e-3, 1e-3, 2e-3], [1e-3, 1.5, 1e-3]],
            [[2e-3, 1e-3, 1e-3], [0.5, 0.5, 1.0]],
        ],
        "Concentrations of 1e-3, as sparse mixtures have them.",
        "alpha-for-its-natural-parameter",
        "digamma-floor",
    )
    yield problem(
        "family-dirichlet-concentrated",
        [[[1e6, 2e6, 5e5], [1e6, 1e6, 3.0]], [[1.5e6, 2e6, 5e5], [1e6, 2e6, 4.0]]],
        "Concentrations of 1e6, as a million data make them.",
        "cancelling-log-gammas",
    )


def wishart_members(
    rng: np.random.Generator, dim: int, extra: Any = None
) -> list[list[Array]]:
    """Return (S, nu) of q and p."""
    return [
        [
            covariance(rng, MEMBERS, dim),
            dim
            - 1
            + (dyadic(rng.uniform(0.5, 6, MEMBERS)) if extra is None else extra),
        ]
        for _ in range(2)
    ]


def wishart_problems() -> Iterator[Problem]:
    """Yield Wisharts."""

    def problem(name: str, members: Any, origin: str, *catches: str) -> Problem:
        words = ("scale", "dof")
        exact = {
            f"{role}.{word}": x
            for role, member in zip("qp", members, strict=True)
            for word, x in zip(words, member, strict=True)
        }
        relation = "S is the inverse scale, nu the degrees of freedom, as they are"
        return case(
            name, "wishart", members, origin, *catches, standard=exact, natural=relation
        )

    common = "scale-for-inverse-scale", "one-more-degree-of-freedom"
    name = "family-wishart-one-dimension"
    yield problem(
        name,
        wishart_members(generator_of(name), 1),
        "Gammas, whose normalizers are integrals enclosed as such.",
        *common,
    )
    name = "family-wishart"
    yield problem(
        name,
        wishart_members(generator_of(name), 2),
        "Precision matrices of two dimensions.",
        *common,
        "digammas-of-nu-plus-i",
    )
    name = "family-wishart-barely-proper"
    yield problem(
        name,
        wishart_members(generator_of(name), 2, JUST * np.array([1.0, 3.0])),
        "Degrees of freedom just above D - 1.",
        "digammas-of-nu-plus-i",
        "one-more-degree-of-freedom",
    )
    name = "family-wishart-nearly-singular"
    rng = generator_of(name)
    yield problem(
        name,
        [[nearly_singular(rng, 2), nu] for _, nu in wishart_members(rng, 2)],
        "Scale matrices of condition numbers of about 2^24.",
        "diagonal-boost",
    )


def niw_problems() -> Iterator[Problem]:
    """Yield normal-inverse-Wisharts."""

    def problem(
        name: str,
        dim: int,
        origin: str,
        *catches: str,
        mean: float = 1.0,
        unit: float = 1.0,
        extra: Any = None,
    ) -> Problem:
        rng = generator_of(name)
        members: list[Any] = []
        exact: dict[str, Any] = {}
        for role, (S, nu) in zip("qp", wishart_members(rng, dim, extra), strict=True):
            m = mean * unit * dyadic(rng.standard_normal((MEMBERS, dim)), 4)
            kappa, S = dyadic(rng.uniform(0.25, 4, MEMBERS), 3), S * unit**2
            weighted = kappa[:, None] * m
            second = S + weighted[:, :, None] * m[:, None, :]
            members.append([second, weighted, kappa, nu])
            words = {"mean": m, "kappa": kappa, "scale": S, "dof": nu}
            exact |= {f"{role}.{word}": x for word, x in words.items()}
        return case(
            name,
            "niw",
            members,
            origin,
            *catches,
            standard=exact,
            natural="second = scale + kappa mean mean', weighted_mean = kappa mean, "
            "without rounding",
        )

    common = "one-more-degree-of-freedom", "digammas-of-nu-plus-i", "missing-two-pi"
    yield problem("family-niw-one-dimension", 1, "A mean and a variance.", *common)
    yield problem(
        "family-niw", 2, "A mean and a covariance of two dimensions.", *common
    )
    yield problem(
        "family-niw-barely-proper",
        2,
        "Degrees of freedom just above D - 1.",
        *common,
        extra=JUST * np.array([1.0, 3.0]),
    )
    yield problem(
        "family-niw-far-mean",
        2,
        "A mean of about 100 standard deviations: S is a small difference.",
        "outer-product-forgotten",
        mean=128.0,
    )
    yield problem(
        "family-niw-units",
        2,
        "The same kind with x measured in a unit 2^20 times as large.",
        "diagonal-boost",
        unit=UNIT,
    )


def mniw_problems() -> Iterator[Problem]:
    """Yield matrix-normal-inverse-Wisharts."""

    def problem(
        name: str,
        dim: int,
        dim_in: int,
        origin: str,
        *catches: str,
        extra: Any = None,
        singular: bool = False,
    ) -> Problem:
        rng = generator_of(name)
        members: list[Any] = []
        exact: dict[str, Any] = {}
        for role, (S, nu) in zip("qp", wishart_members(rng, dim, extra), strict=True):
            V = covariance(rng, MEMBERS, dim_in)
            if singular:
                V = nearly_singular_exact(rng, dim_in, 16)
            M = dyadic(rng.standard_normal((MEMBERS, dim, dim_in)), 4)
            weighted = V @ np.swapaxes(M, -1, -2)
            members.append([V, weighted, S + M @ weighted, nu])
            words = {"mean": M, "column_precision": V, "scale": S, "dof": nu}
            exact |= {f"{role}.{word}": x for word, x in words.items()}
        return case(
            name,
            "mniw",
            members,
            origin,
            *catches,
            standard=exact,
            natural="weighted_mean = column_precision mean', second = scale + mean "
            "column_precision mean', without rounding",
        )

    common = "one-more-degree-of-freedom", "transposed-dynamics", "missing-two-pi"
    yield problem("family-mniw-one-dimension", 1, 1, "Scalar autoregressions.", *common)
    yield problem("family-mniw", 2, 2, "Linear dynamics of two dimensions.", *common)
    yield problem(
        "family-mniw-affine",
        2,
        3,
        "Linear dynamics with a bias: A has one more column than rows.",
        *common,
        "columns-for-rows",
    )
    yield problem(
        "family-mniw-barely-proper",
        2,
        2,
        "Degrees of freedom just above D - 1.",
        *common,
        "digammas-of-nu-plus-i",
        extra=JUST * np.array([1.0, 3.0]),
    )
    yield problem(
        "family-mniw-nearly-singular",
        2,
        2,
        "Column precisions of condition numbers of about 2^16.",
        "diagonal-boost",
        singular=True,
    )
