"""Calls of the chains in flat arguments and results, for every door alike."""

from typing import Any, NamedTuple

import numpy as np

from svae.interop.rules import (
    GAUSSIAN_CHAIN,
    GAUSSIAN_CHAIN_WITH_SAMPLES,
    MARKOV_CHAIN,
    Chain,
)
from svae.testing import gaussian_problem, markov_problem

NAMES = ["diagonal", "dense", "samples", "markov"]
LENGTHS = np.array([5, 2, 4])


class Case(NamedTuple):
    """A chain, and arguments of it as a user has them."""

    chain: Chain
    arguments: list[Any]
    lengths: Any

    @property
    def inputs(self):
        """The arguments with the axes that the rules want."""
        pairs = zip(self.chain.ndims, self.arguments, strict=True)
        return [x.reshape((1,) * max(ndim - x.ndim, 0) + x.shape) for ndim, x in pairs]

    def outputs(self, door):
        """Return flat outputs of a door as a function of flat arguments."""
        if self.chain is MARKOV_CHAIN:

            def call(*x):
                logZ, stats = door.markov_chain(*x, self.lengths)
                return [logZ, *stats]

            return call

        def call(*x):
            noise = x[7] if len(x) > 7 else None
            found = door.gaussian_chain(x[:2], x[2:5], x[5:7], noise, self.lengths)
            logZ, (init, pair, node), samples = found
            return [logZ, *init, *pair, *node, *([] if noise is None else [samples])]

        return call


def case(rng, name, sharing="shared", lengths=LENGTHS):
    """Draw a problem of three sequences, five steps and two dimensions."""
    if name == "markov":
        problem = markov_problem(rng, 3, 5, 2, sharing=sharing, lengths=lengths)
        return Case(MARKOV_CHAIN, list(problem[:3]), lengths)
    problem = gaussian_problem(
        rng, 3, 5, 2, sharing=sharing, dense=name == "dense", lengths=lengths
    )
    init, pair, node, noise, _ = problem
    flat = [*init, *pair, *node]
    if name == "samples":
        return Case(GAUSSIAN_CHAIN_WITH_SAMPLES, [*flat, noise], lengths)
    return Case(GAUSSIAN_CHAIN, flat, lengths)
