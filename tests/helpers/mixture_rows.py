"""Rows of mixtures, and the alternation that defines their local problem."""

from functools import partial

import numpy as np
import pytest

from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.models.evidence import Evidence
from svae.models.inference.mixture import filled
from svae.models.inference.switching import Switching
from svae.testing import (
    local_problem,
    relative_error,
)

every_mixture = pytest.mark.parametrize("name", ["gmm", "student", "learned-student"])


OUTPUTS = (
    "kl",
    "mean",
    "second_moment",
    "states",
    "samples",
    "log_normalizer",
    "state_potentials",
)


def problem(latent, rng, number=11, dense=False, num_samples=2):
    """Return the message m, node potentials of rows, and noise."""
    stats, node, _ = local_problem(latent, rng, (1,) * number, dense=dense)
    return stats, node, rng.standard_normal((number, num_samples, 1, latent.latent_dim))


def by_definition(latent, stats, node, noise=None, **known):
    """Return the local factor that the alternation of chains finds."""
    evidence, starts = evidence_of(node, **known)
    local = Switching.infer(latent, stats, evidence, noise, starts)
    if evidence.observed is None:
        return local
    return filled(latent.switch, latent.switch.natparams(stats), local, noise, evidence)


def by_kernel(latent, stats, node, noise=None, **known):
    """Return the local factor that the model finds."""
    evidence, starts = evidence_of(node, **known)
    return latent.infer(stats, evidence, noise, starts)


def evidence_of(node, starts=None, **known):
    """Return the evidence of points, and where to start."""
    return Evidence(*node, np.ones(len(node[1]), dtype=np.int64), **known), starts


def assert_same_local(got, want, tolerance=1e-11):
    for field, wanted in want._asdict().items():
        for a, b in zip(leaves(getattr(got, field)), leaves(wanted), strict=True):
            assert relative_error(a, b) < tolerance, field


def gradients(infer, stats, node, noise, bars, **known):
    """Cotangents of m, of the node potentials and of noise."""
    inputs = stats, node, noise

    def outputs(*boxes):
        stats, node, noise = rebuild(inputs, boxes)
        local = infer(stats, node, noise, **known)
        return tuple(getattr(local, output) for output in OUTPUTS)

    pull_back, values = trace(outputs, leaves(inputs))
    return [
        pull_back(*[None] * k, bar.reshape(np.shape(value)))
        for k, (bar, value) in enumerate(zip(bars(values), values, strict=True))
    ]


def assert_same_gradients(latent, stats, node, noise, rng, tolerance=1e-8, **known):
    """Compare all but node potentials of rows without data."""
    drawn, observed = [], known.get("observed")
    rows = slice(None) if observed is None else observed[:, 0]

    def bars(values):
        if not drawn:
            drawn.extend(rng.standard_normal(np.shape(value)) for value in values)
        return drawn

    def definition(*args, **options):
        return by_definition(latent, *args, **options)

    want = gradients(definition, stats, node, noise, bars, **known)
    compiled = partial(by_kernel, latent)
    got = gradients(compiled, stats, node, noise, bars, **known)
    for output, of_got, of_want in zip(OUTPUTS, got, want, strict=True):
        scale = max(np.max(np.abs(x), initial=0.0) for x in of_want)
        pairs = zip(of_got, of_want, strict=True)
        for position, (a, b) in enumerate(pairs):
            if len(a) == len(node[1]):
                a, b = a[rows], b[rows]
            close = np.max(np.abs(a - b), initial=0.0) < tolerance * (1 + scale)
            assert close, (output, position)
