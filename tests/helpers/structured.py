"""Graphs, potentials and their enumerations."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from svae.families import product
from svae.models.evidence import Evidence
from svae.models.inference import structured
from svae.testing import (
    enumerated,
    latent_model,
    random_belief,
    typical_graph,
    typical_natparams,
)

NAMES = ("gmm", "hmm", "lds", "affine-lds")


MIXTURES = ("gmm", "hmm")


KINDS = ("plain", "dense", "ragged", "gaps", "silent", "belief", "single", "zero")


class Case(NamedTuple):
    """Arguments of `structured.infer`."""

    latent: Any
    graph: Any
    stats: Any
    node: Any
    lengths: Any = None
    known: Any = {}

    def infer(self, noise=None, **changes):
        """Return the local factor."""
        return structured.infer(
            self.latent,
            changes.get("graph", self.graph),
            changes.get("stats", self.stats),
            self.evidence(changes.get("node", self.node)),
            noise,
            uniforms=changes.get("uniforms"),
        )

    def evidence(self, node):
        """Return node potentials with what is known of the sequences."""
        return Evidence(*node, self.lengths, **self.known)

    def laws(self):
        """Return the enumeration of every sequence."""
        arguments = self.graph, self.stats, self.node, self.lengths
        return enumerated(self.latent, *arguments, **self.known)

    @property
    def live(self):
        """Mask (N, T) of the steps within the lengths."""
        number, steps = self.node[1].shape[:2]
        lengths = np.full(number, steps) if self.lengths is None else self.lengths
        return np.arange(steps) < lengths[:, None]


def case(name, kind="plain", seed=0):
    """A random graph, message and evidence; ``kind`` says what is special."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    latent = latent_model(name)
    family = latent.family
    stats = product.expected_stats(family, typical_natparams(latent, rng))
    graph = product.from_free(family, typical_graph(latent, rng))
    number, steps = 3, 1 if latent.independent or kind == "single" else 4
    shape = number, steps, latent.latent_dim
    J = -rng.uniform(0.1, 1.0, shape)
    if kind == "dense":
        root = rng.standard_normal((*shape, shape[-1]))
        J = -0.3 * root @ np.swapaxes(root, -1, -2)
    h = rng.standard_normal(shape)
    lengths, known = None, {}
    if kind == "ragged":
        lengths = np.array([min(n, steps) for n in (2, 4, 1)])
        past = np.arange(steps) >= lengths[:, None]
        J[past] = h[past] = np.nan
    if kind in ("gaps", "silent"):
        observed = rng.random(shape[:2]) < 0.5 * (kind == "gaps")
        observed[0, 0], observed[2, -1] = False, kind == "gaps"
        J[~observed], h[~observed] = 0.0, 0.0
        known["observed"] = observed
    if kind == "belief":
        num_states = getattr(latent, "num_states", None)
        belief = random_belief(rng, [True, False, True], 2, num_states)
        observed = np.ones(shape[:2], dtype=bool)
        observed[belief.given, 0] = False
        J[~observed], h[~observed] = 0.0, 0.0
        known = {"belief": belief, "observed": observed}
    if kind == "zero":
        J, h = 0 * J, 0 * h
    return Case(latent, graph, stats, (J, h), lengths, known)


def cases(*without):
    """Parametrize a test over the models and what is special about the evidence."""
    pairs = [
        (name, kind)
        for name in NAMES
        for kind in KINDS
        if kind not in without and not (name == "gmm" and kind in ("belief", "single"))
    ]
    return pytest.mark.parametrize(("name", "kind"), pairs)
