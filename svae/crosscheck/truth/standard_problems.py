"""Problems of chains in standard parameters."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from svae.crosscheck.cases import GENERATORS
from svae.crosscheck.truth.problems import (
    Problem,
    covariance,
    dyadic,
    generator_of,
    stable,
)

__all__ = ["problems"]

NAN = np.nan


def problems() -> Iterator[Problem]:
    """Yield all problems of this module."""
    yield from lds_problems()
    yield from hmm_problems()


def lds(rng: np.random.Generator, N: int, T: int, D: int, P: int) -> dict[str, Any]:
    """Return parameters of order one, constant in time, and observations."""
    return {
        "A": stable(rng, D),
        "Q": covariance(rng, D),
        "C": dyadic(rng.standard_normal((P, D)), 8),
        "R": covariance(rng, P),
        "m0": dyadic(rng.standard_normal(D), 8),
        "P0": covariance(rng, D),
        "y": rng.standard_normal((N, T, P)),
    }


def case(
    kind: str, name: str, parameters: Any, origin: str, *catches: str, **more: Any
) -> Problem:
    """Return a problem in standard parameters."""
    inputs = {f"standard.{k}": np.asarray(x) for k, x in parameters.items()}
    return Problem(name, kind, inputs | more.pop("inputs", {}), origin, catches, **more)


def lds_problems() -> Iterator[Problem]:
    """Yield linear-Gaussian state space models."""

    def draw(name: str, *sizes: int) -> tuple[np.random.Generator, dict[str, Any]]:
        rng = generator_of(name)
        return rng, lds(rng, *sizes)

    name = "lds-small"
    _, model = draw(name, 2, 5, 2, 3)
    yield case(
        "lds",
        name,
        model,
        "A rotation that shrinks, three noisy sensors, all of order one.",
        "transposed-dynamics",
        "extra-predict-step",
        "second-moment-for-covariance",
        "missing-two-pi",
        "t-minus-2-pairs",
    )
    name = "lds-exact-naturals"
    rng = generator_of(name)
    A, C = dyadic(rng.normal(0, 0.5, (2, 2)), 3), dyadic(rng.normal(0, 1, (2, 2)), 3)
    model = {
        "A": A,
        "Q": np.diag([0.5, 0.25]),
        "C": C,
        "R": np.diag([2.0, 0.5]),
        "m0": np.array([1.0, -0.5]),
        "P0": np.diag([4.0, 1.0]),
        "y": dyadic(rng.standard_normal((2, 5, 2)), 6),
    }
    yield case(
        "lds",
        name,
        model,
        "Numbers of few bits and variances that are powers of two, so that natural "
        "parameters are the same problem exactly.",
        "precision-for-J",
        "node-of-first-step-lost",
        natural="exact: log_likelihood = logZ of natural + natural.constant",
        inputs={f"natural.{k}": x for k, x in natural_lds(model).items()},
    )
    name = "lds-inputs"
    rng, model = draw(name, 2, 5, 2, 2)
    model |= {
        "B": dyadic(rng.standard_normal((2, 3)), 8),
        "D": dyadic(rng.standard_normal((2, 3)), 8),
        "u": rng.standard_normal((2, 5, 3)),
    }
    yield case(
        "lds",
        name,
        model,
        "Inputs that move the state and ones that are seen directly; u of the last "
        "step moves no state.",
        "inputs-a-step-late",
        "bias-ignored",
    )
    name = "lds-per-step"
    rng, model = draw(name, 2, 4, 2, 3)
    model |= {
        "A": stable(rng, 3, 2),
        "Q": covariance(rng, 3, 2),
        "C": dyadic(rng.standard_normal((4, 3, 2)), 8),
        "R": covariance(rng, 4, 3),
        "B": dyadic(rng.standard_normal((3, 2, 1)), 8),
        "D": dyadic(rng.standard_normal((4, 3, 1)), 8),
        "u": rng.standard_normal((2, 4, 1)),
    }
    yield case(
        "lds",
        name,
        model,
        "Every matrix changes from step to step.",
        "pair-of-wrong-step",
        "first-matrices-for-all",
    )
    name = "lds-missing-steps"
    _, model = draw(name, 2, 6, 2, 2)
    model["y"][0, [0, 2, 3]] = model["y"][1, [1, 5]] = NAN
    yield case(
        "lds",
        name,
        model,
        "Whole steps without observations, the first and the last among them.",
        "missing-counts-two-pi",
        "missing-as-zero",
    )
    name = "lds-partial-masks"
    rng, model = draw(name, 2, 6, 2, 3)
    root = dyadic(rng.standard_normal((3, 3)), 6)
    model["R"] = root @ root.T + 0.25 * np.eye(3)
    model["y"][rng.uniform(size=(2, 6, 3)) < 0.45] = NAN
    yield case(
        "lds",
        name,
        model,
        "Single entries are missing while their noise is correlated with that of the "
        "others: the rows of R, not those of its inverse, are left out.",
        "missing-rows-of-inverse",
        "missing-as-zero",
        "missing-as-large-variance",
    )
    name = "lds-unobserved"
    _, model = draw(name, 2, 4, 2, 2)
    model["y"][:] = NAN
    yield case(
        "lds",
        name,
        model,
        "Nothing is observed: the likelihood is one, and smoothing is the prior.",
        "missing-counts-two-pi",
        "nan-from-nothing",
    )
    name = "lds-ragged"
    _, model = draw(name, 3, 5, 2, 2)
    lengths = np.array([5, 1, 3])
    model["y"][np.arange(5) >= lengths[:, None]] = 7.0
    yield case(
        "lds",
        name,
        model | {"lengths": lengths},
        "Sequences of 5, 1 and 3 steps; what stands past their ends is not theirs.",
        "reads-past-length",
    )
    name = "lds-one-step"
    _, model = draw(name, 2, 1, 2, 2)
    yield case(
        "lds",
        name,
        model,
        "One step: no dynamics.",
        "extra-predict-step",
    )
    name = "lds-one-dimension"
    _, model = draw(name, 1, 10, 1, 1)
    yield case(
        "lds",
        name,
        model,
        "A local level with scalars throughout.",
        "broadcast-of-one",
        "extra-predict-step",
    )
    name = "lds-many-sensors"
    _, model = draw(name, 1, 4, 2, 8)
    yield case(
        "lds",
        name,
        model,
        "More sensors than states, their noise correlated.",
        "diagonal-of-dense-noise",
    )
    name = "lds-few-sensors"
    _, model = draw(name, 1, 8, 4, 1)
    yield case(
        "lds",
        name,
        model,
        "Four states behind one sensor.",
        "hidden-diagonal-boost",
    )
    name = "lds-companion"
    rng, model = draw(name, 1, 8, 3, 1)
    model |= {
        "A": np.array([[0.5, 0.25, -0.125], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        "Q": np.diag([1.0, 0.0, 0.0]),
        "C": np.array([[1.0, 0.0, 0.0]]),
        "R": np.array([[0.25]]),
    }
    yield case(
        "lds",
        name,
        model,
        "An autoregression of order three as a companion matrix: Q has rank one.",
        "needs-inverse-of-Q",
        "psd-jitter",
    )
    name = "lds-no-process-noise"
    _, model = draw(name, 1, 6, 2, 2)
    model["Q"] = np.zeros((2, 2))
    yield case(
        "lds",
        name,
        model,
        "Q = 0: regression on an unknown initial state.",
        "needs-inverse-of-Q",
        "psd-jitter",
    )
    name = "lds-known-start"
    _, model = draw(name, 1, 6, 2, 2)
    model["P0"] = np.zeros((2, 2))
    yield case(
        "lds",
        name,
        model,
        "P0 = 0: the first state is known.",
        "needs-inverse-of-P0",
        "psd-jitter",
    )
    name = "lds-perfect-sensor"
    _, model = draw(name, 1, 6, 2, 2)
    model["R"] = np.array([[0.5, 0.0], [0.0, 0.0]])
    yield case(
        "lds",
        name,
        model,
        "One of two sensors has no noise: R is singular.",
        "needs-inverse-of-R",
        "psd-jitter",
        "hidden-diagonal-boost",
    )
    name = "lds-perfect-sensors"
    _, model = draw(name, 1, 5, 3, 2)
    model["R"] = np.zeros((2, 2))
    yield case(
        "lds",
        name,
        model,
        "No sensor has noise, and there are fewer than states.",
        "needs-inverse-of-R",
        "psd-jitter",
    )
    name = "lds-R-1e-12"
    _, model = draw(name, 1, 6, 2, 2)
    model["R"] = 1e-12 * np.eye(2)
    yield case(
        "lds",
        name,
        model,
        "Sensors with noise of variance 1e-12.",
        "hidden-diagonal-boost",
        "psd-jitter",
        "subtracted-covariances",
    )
    name = "lds-R-1e-12-one-sensor"
    _, model = draw(name, 1, 8, 3, 1)
    model["R"] = np.array([[1e-12]])
    yield case(
        "lds",
        name,
        model,
        "One sensor with noise of variance 1e-12 before three states.",
        "hidden-diagonal-boost",
        "subtracted-covariances",
    )
    for variance in (1e6, 1e10):
        name = f"lds-diffuse-{variance:.0e}".replace("+", "")
        _, model = draw(name, 1, 6, 2, 1)
        model["P0"] = variance * np.eye(2)
        yield case(
            "lds",
            name,
            model,
            f"A start of variance {variance:.0e}".replace("+", "")
            + ", two states behind one sensor.",
            "subtracted-covariances",
            "diffuse-approximation",
        )
    name = "lds-initial-mean-100"
    _, model = draw(name, 1, 6, 2, 2)
    model["m0"] = np.array([100.0, 100.0])
    yield case(
        "lds",
        name,
        model,
        "An initial mean of 100, where observations are of order one.",
        "initial-mean-lost",
        "second-moment-for-covariance",
    )
    for unit in (1e-6, 1e6):
        name = f"lds-units-{unit:.0e}".replace("+", "")
        _, model = draw("lds-units", 1, 6, 2, 2)
        for key, power in {"Q": 2, "m0": 1, "P0": 2, "R": 2, "y": 1}.items():
            model[key] = model[key] * unit**power
        yield case(
            "lds",
            name,
            model,
            f"States and observations in units of {unit:.0e}.".replace("+", ""),
            "hidden-diagonal-boost",
            "psd-jitter",
            "floor-under-variance",
        )
    name = "lds-unstable"
    _, model = draw(name, 1, 8, 2, 2)
    model["A"] = np.array([[1.5, 0.25], [0.0, 1.25]])
    yield case(
        "lds",
        name,
        model,
        "Dynamics that grow.",
        "stationary-start",
        "steady-state-from-the-start",
    )
    name = "lds-random-walk"
    _, model = draw(name, 1, 25, 1, 1)
    model |= {
        "A": np.array([[1.0]]),
        "Q": np.array([[1e-6]]),
        "C": np.array([[1.0]]),
        "R": np.array([[1.0]]),
        "P0": np.array([[1.0]]),
    }
    yield case(
        "lds",
        name,
        model,
        "A random walk with little noise: the gain takes long to settle.",
        "steady-state-from-the-start",
    )
    name = "lds-150-steps"
    _, model = draw(name, 1, 150, 2, 2)
    yield case(
        "lds",
        name,
        model,
        "A constant system without gaps that reaches its steady state.",
        "steady-state-from-the-start",
        "drift-over-time",
    )
    name = "lds-1e5-steps"
    rule: dict[str, Any] = {
        "name": "long_observations",
        "arguments": {"T": 10**5, "seed": 9, "bits": 14},
    }
    model = {
        "A": np.array([[0.75]]),
        "Q": np.array([[0.5]]),
        "C": np.array([[1.0]]),
        "R": np.array([[0.25]]),
        "m0": np.array([0.5]),
        "P0": np.array([[2.0]]),
    }
    yield case(
        "lds",
        name,
        model,
        "A hundred thousand steps of a scalar; the observations are made by integers. "
        "A digest: what is of single steps is left out.",
        "drift-over-time",
        "recursion-limit",
        tags=("digest",),
        inputs=GENERATORS["long_observations"](**rule["arguments"]),
        generator=rule,
    )


def natural_lds(model: Any) -> dict[str, Any]:
    """Return natural parameters of a model without inputs or gaps, in floats."""
    Q, R, P0 = (np.linalg.inv(model[k]) for k in ("Q", "R", "P0"))
    A, C, y = model["A"], model["C"], model["y"]
    D = len(A)
    return {
        "init.J": -P0 / 2,
        "init.h": P0 @ model["m0"],
        "pair.J11": -A.T @ Q @ A / 2,
        "pair.J12": A.T @ Q,
        "pair.J22": -Q / 2,
        "node.J": np.broadcast_to(-C.T @ R @ C / 2, (*y.shape[:2], D, D)).copy(),
        "node.h": y @ R @ C,
    }


def hmm(rng: np.random.Generator, N: int, T: int, K: int) -> dict[str, Any]:
    """Return probabilities of eight bits, whose rows have sums of one exactly."""
    return {
        "start": probabilities(rng, K),
        "transition": probabilities(rng, K, K),
        "log_likelihoods": rng.standard_normal((N, T, K)),
    }


def probabilities(rng: np.random.Generator, *shape: int) -> Any:
    """Draw multiples of 2^-8 whose sums are one."""
    counts = rng.multinomial(
        256 - shape[-1], np.full(shape[-1], 1 / shape[-1]), shape[:-1]
    )
    return (counts + 1) / 256.0


def hmm_problems() -> Iterator[Problem]:
    """Yield hidden Markov models."""

    def draw(name: str, *sizes: int) -> tuple[np.random.Generator, dict[str, Any]]:
        rng = generator_of(name)
        return rng, hmm(rng, *sizes)

    name = "hmm-small"
    _, model = draw(name, 2, 5, 3)
    with np.errstate(divide="ignore"):
        logs = {
            "natural.init": np.log(model["start"]),
            "natural.pair": np.log(model["transition"]),
            "natural.node": model["log_likelihoods"],
        }
    yield case(
        "hmm",
        name,
        model,
        "Three states, a transition matrix that is far from symmetric.",
        "transposed-transitions",
        "extra-predict-step",
        "t-minus-2-pairs",
        natural="rounded: the logarithms of probabilities, each within one unit of its "
        "last place, so answers to them differ by about their condition times 2^-53",
        inputs=logs,
    )
    name = "hmm-sticky"
    rng, model = draw(name, 1, 10, 2)
    leave = 1e-10
    model["transition"] = np.array([[1 - leave, leave], [leave, 1 - leave]])
    model["log_likelihoods"] = rng.normal(0, 4, (1, 10, 2))
    yield case(
        "hmm",
        name,
        model,
        "States that are left with probability 1e-10.",
        "floor-of-1e-15",
        "transition-pseudocounts",
    )
    name = "hmm-very-sticky"
    rng, model = draw(name, 1, 8, 2)
    leave = 2.0**-60
    model["start"] = np.array([1.0, 0.0])
    model["transition"] = np.array([[1.0, leave], [leave, 1.0]])
    model["log_likelihoods"] = np.zeros((1, 8, 2))
    model["log_likelihoods"][0, 4:] = [-20.0, 0.0]
    yield case(
        "hmm",
        name,
        model,
        "Transitions of probability 2^-60, which the evidence demands.",
        "floor-of-1e-15",
    )
    name = "hmm-forbidden"
    rng, model = draw(name, 2, 6, 3)
    model["start"] = np.array([0.5, 0.5, 0.0])
    model["transition"] = np.array(
        [[0.5, 0.5, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]]
    )
    yield case(
        "hmm",
        name,
        model,
        "Zeros among the probabilities; the gradient in an entry that is zero is not.",
        "floor-of-1e-15",
        "nan-from-minus-infinity",
    )
    name = "hmm-left-right"
    rng, model = draw(name, 1, 6, 4)
    model["start"] = np.array([1.0, 0.0, 0.0, 0.0])
    model["transition"] = 0.5 * np.eye(4) + 0.5 * np.eye(4, k=1)
    model["transition"][-1, -1] = 1.0
    yield case(
        "hmm",
        name,
        model,
        "States in order, of which the last absorbs.",
        "transposed-transitions",
        "nan-from-minus-infinity",
    )
    name = "hmm-spread-1000"
    rng, model = draw(name, 1, 6, 3)
    model["log_likelihoods"] = rng.uniform(-1000, 0, (1, 6, 3))
    model["transition"] = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]])
    yield case(
        "hmm",
        name,
        model,
        "Log likelihoods of spread 1000 with forbidden transitions.",
        "scaled-sums-underflow",
        "underflow-of-exp",
    )
    name = "hmm-low-likelihood"
    rng, model = draw(name, 1, 6, 3)
    model["log_likelihoods"] = model["log_likelihoods"] - 1e4
    yield case(
        "hmm",
        name,
        model,
        "Log likelihoods about -10000, as those of many observed dimensions are.",
        "underflow-of-exp",
    )
    name = "hmm-one-step"
    _, model = draw(name, 2, 1, 3)
    yield case("hmm", name, model, "One step: no transition.", "extra-predict-step")
    name = "hmm-one-state"
    _, model = draw(name, 2, 5, 1)
    model["start"], model["transition"] = np.ones(1), np.ones((1, 1))
    yield case(
        "hmm",
        name,
        model,
        "One state: the log likelihood is a sum.",
        "broadcast-of-one",
    )
    name = "hmm-ragged"
    _, model = draw(name, 3, 5, 3)
    lengths = np.array([5, 1, 3])
    model["log_likelihoods"][np.arange(5) >= lengths[:, None]] = 7.0
    yield case(
        "hmm",
        name,
        model | {"lengths": lengths},
        "Sequences of 5, 1 and 3 steps; what stands past their ends is not theirs.",
        "reads-past-length",
    )
    name = "hmm-missing-steps"
    _, model = draw(name, 1, 6, 3)
    model["log_likelihoods"][0, [0, 2, 3, 5]] = 0.0
    yield case(
        "hmm",
        name,
        model,
        "Steps without evidence: log likelihoods of zero.",
        "extra-predict-step",
        "unobserved-step-dropped",
    )
    name = "hmm-200-steps"
    _, model = draw(name, 1, 200, 4)
    yield case(
        "hmm",
        name,
        model,
        "Two hundred steps of four states.",
        "underflow-over-time",
    )
