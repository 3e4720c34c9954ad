"""Random models in everyday parameters, and their potentials.

Other packages can be given the same problem: a linear dynamical system that observes
its state in noise of known, changing variance (``C = I`` and a diagonal ``R_t``, hence
diagonal node potentials ``J_t = -1 / (2 R_t)``, ``h_t = y_t / R_t``), or a hidden
Markov model.
"""

import math
from typing import Any

import numpy as np

from svae.profile.cases import SWITCHED_STATES, Case

__all__ = ["hidden_markov_model", "linear_system", "log_constant", "potentials"]


def potentials(model: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Return the potentials (init, pair, node) of a model in everyday parameters."""
    if "start" in model:
        start, transition = np.log(model["start"]), np.log(model["transition"])
        return start, transition, model["log_likelihoods"]
    A, precision = model["A"], np.linalg.inv(model["Q"])
    coupling = np.swapaxes(A, -1, -2) @ precision
    init_precision = np.linalg.inv(model["V1"])
    init = (-0.5 * init_precision, init_precision @ model["m1"])
    pair = (-0.5 * coupling @ A, coupling, -0.5 * precision + np.zeros(A.shape))
    y, R = model["y"], model["R"]
    if R.ndim == y.ndim:
        return init, pair, (-0.5 / R, y / R)
    weights = np.linalg.inv(R)
    return init, pair, (-0.5 * weights, np.squeeze(weights @ y[..., None], -1))


def log_constant(model: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the potentials of a linear system leave out, with `R` diagonal.

    Log density of the data less the log normalizer of the chain, (N,).
    """
    y, R, m1 = model["y"], model["R"], model["m1"]
    constant = -0.5 * np.sum(np.log(2 * math.pi * R) + y**2 / R, axis=(-2, -1))
    quadratic = m1 @ np.linalg.solve(model["V1"], m1)
    init = np.linalg.slogdet(2 * math.pi * model["V1"])[1] + quadratic
    pair = np.linalg.slogdet(2 * math.pi * model["Q"])[1]
    return constant - 0.5 * (init + (y.shape[1] - 1) * pair)


def linear_system(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a turning, well-conditioned system, and observations of any kind."""
    N, T, D = case.num_sequences, case.num_timesteps, case.size
    A = 0.95 * np.linalg.qr(rng.standard_normal((D, D)))[0]
    if case.variant == "varying pairs":
        A = A * (1 + 0.05 * rng.standard_normal((N, T - 1, 1, 1)))
    more = {}
    if case.variant == "switching":
        A = A * (1 + 0.05 * rng.standard_normal((SWITCHED_STATES, 1, 1)))
        more["weights"] = rng.dirichlet(np.ones(SWITCHED_STATES), (N, T - 1))
    factor = np.eye(D) + 0.2 * rng.standard_normal((D, D)) / math.sqrt(D)
    R = np.exp(0.5 * rng.standard_normal((N, T, D)))
    if case.variant == "dense nodes":
        mixing = 0.3 * rng.standard_normal((D, D)) / math.sqrt(D)
        R = R[..., None] * np.eye(D) + mixing @ mixing.T
    return {
        "m1": rng.standard_normal(D),
        "V1": np.eye(D),
        "A": A,
        "Q": 0.1 * factor @ factor.T,
        "y": rng.standard_normal((N, T, D)),
        "R": R,
        **more,
    }


def hidden_markov_model(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a model that tends to stay in its states, and log likelihoods of these."""
    N, T, K = case.num_sequences, case.num_timesteps, case.size
    transition = rng.random((K, K)) + K * 0.5 * np.eye(K)
    return {
        "start": np.full(K, 1 / K),
        "transition": transition / transition.sum(axis=1, keepdims=True),
        "log_likelihoods": -0.5 * rng.standard_normal((N, T, K)) ** 2,
    }
