"""Points, medians and problems of Student-t mixtures."""

import numpy as np
import pytest
from scipy.special import digamma

from svae import data
from svae.autodiff.trees import tree_map
from svae.objective.model import initial_encoder
from svae.testing import (
    latent_model,
    typical_natparams,
)
from svae.testing.problems import STUDENT
from tests.helpers.problems import problem

both_students = pytest.mark.parametrize("name", STUDENT)


def student_points(rng, number, dofs, distance=8.0):
    """Points of two clusters with unit scale matrices, and their labels."""
    labels = rng.integers(2, size=number)
    nu = np.asarray(dofs)[labels]
    scales = rng.gamma(0.5 * nu) / (0.5 * nu)
    x = rng.standard_normal((number, 2)) / np.sqrt(scales)[:, None]
    x[:, 0] += distance * (labels - 0.5)
    return x, labels


def rows(x):
    """Rows of a mixture as one batch."""
    return data.batch([x], data.windows([x], 1))


def distance(x_mean, x_cov, component):
    """E (x - mu)' Lambda (x - mu) under a Gaussian q(x) and an NIW q(mu, Lambda)."""
    m, beta, S, n = component
    P = np.linalg.inv(S)
    d = x_mean - m
    return len(m) / beta + n * (d @ P @ d + np.trace(P @ x_cov))


def expected_half_log_det(component):
    _, _, S, n = component
    D = len(S)
    total = sum(digamma((n + 1 - i) / 2) for i in range(1, D + 1))
    return 0.5 * (total + D * np.log(2) - np.linalg.slogdet(S)[1])


def structured_problem(name, tails, seed=0):
    """Return a problem with a graph of its own, away from the message of q(theta)."""
    model, parameters, prior, batch, noise = problem(name, seed)
    rng = np.random.default_rng(seed + 10)
    latent = latent_model(name, tails=tails)
    model = model._replace(latent=latent, inference="sin")
    other = typical_natparams(latent, rng)
    encoder = initial_encoder(model, other, parameters.encoder)
    graph = tree_map(lambda x: x + 0.1 * rng.standard_normal(x.shape), encoder["graph"])
    parameters = parameters._replace(encoder=encoder | {"graph": graph})
    return model, parameters, prior, batch, noise


def any_problem(name, kind):
    return problem(name) if kind == "mean-field" else structured_problem(name, kind)


every_inference = pytest.mark.parametrize(
    "kind", ["mean-field", "augmented", "sampled"]
)
