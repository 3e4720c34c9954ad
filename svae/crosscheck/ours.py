"""The answers of this package, an adapter like that of any other.

A function for each kind, from a case's inputs to its quantities, made of what is
public: `svae.kernels` for chains; the rest is in `svae.crosscheck.our_models`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import svae
from svae import kernels
from svae.autodiff.vjp import trace
from svae.crosscheck.cases import nested, sections
from svae.crosscheck.our_models import (
    FEWER_DIGITS,
    family,
    inference_network,
    mixture_bound,
    natural_gradient,
    switching_bound,
)

__all__ = [
    "expected_failures",
    "family",
    "gaussian_chain",
    "inference_network",
    "markov_chain",
    "mixture_bound",
    "name",
    "natural_gradient",
    "switching_bound",
    "version",
    "viterbi",
]

name = "svae"
version = svae.__version__
expected_failures: dict[str, str] = {
    f"{case}:{quantity}": reason
    for case, reasons in FEWER_DIGITS.items()
    for quantity, reason in reasons.items()
}

Inputs = Mapping[str, Any]
Answers = dict[str, Any]

GAUSSIAN = {
    "init.J": "stats.init.ExxT",
    "init.h": "stats.init.Ex",
    "pair.J11": "stats.pair.ExxT",
    "pair.J12": "stats.pair.ExxnT",
    "pair.J22": "stats.pair.ExnxnT",
    "node.J": "stats.node.ExxT",
    "node.h": "stats.node.Ex",
}
MARKOV = {"init": "stats.init", "pair": "stats.pair", "node": "stats.node"}


def gaussian_chain(inputs: Inputs) -> Answers:
    """Log normalizer, statistics, samples and their gradients."""
    potentials = sections(inputs, "natural")
    lengths = potentials.get("lengths")
    arguments = [*GAUSSIAN, *(("noise",) if "noise" in potentials else ())]

    def outputs(*boxes: Any) -> tuple[Any, ...]:
        given = dict(zip(arguments, boxes, strict=True))
        init = nested(given, "init", "J", "h")
        pair = nested(given, "pair", "J11", "J12", "J22")
        node = nested(given, "node", "J", "h")
        noise = given.get("noise")
        logZ, stats, samples = kernels.gaussian_chain(init, pair, node, noise, lengths)
        flat = [x for part in stats for x in part]
        return logZ, *flat, *(() if samples is None else (samples,))

    quantities = ["logZ", *GAUSSIAN.values(), "samples"][: len(arguments) + 1]
    return _chain(inputs, outputs, potentials, arguments, quantities, GAUSSIAN)


def markov_chain(inputs: Inputs) -> Answers:
    """Log normalizer, statistics and their gradients."""
    potentials = sections(inputs, "natural")
    lengths = potentials.get("lengths")

    def outputs(init: Any, pair: Any, node: Any) -> tuple[Any, ...]:
        logZ, stats = kernels.markov_chain(init, pair, node, lengths)
        return logZ, *stats

    quantities = ["logZ", *MARKOV.values()]
    return _chain(inputs, outputs, potentials, list(MARKOV), quantities, MARKOV)


def _chain(
    inputs: Inputs,
    outputs: Callable[..., tuple[Any, ...]],
    potentials: Mapping[str, Any],
    arguments: Sequence[str],
    quantities: Sequence[str],
    statistics: Mapping[str, str],
) -> Answers:
    """Evaluate a chain and pull back the cotangents that a case has.

    A Hessian-vector product of log Z is what the direction, as a cotangent of the
    statistics, is pulled back to.
    """
    bars, direction = sections(inputs, "cotangent"), sections(inputs, "direction")
    if not bars and not direction:
        values = outputs(*(potentials[name] for name in arguments))
        return dict(zip(quantities, values, strict=True))
    pull_back, values = trace(outputs, [potentials[name] for name in arguments])
    found = dict(zip(quantities, values, strict=True))
    if bars:
        gradient = pull_back(*(bars[quantity] for quantity in quantities))
        found |= _named("vjp", arguments, gradient)
    if direction:
        as_bars = {statistics[name]: x for name, x in direction.items()}
        product = pull_back(*(as_bars.get(quantity) for quantity in quantities))
        found |= _named("hvp", statistics, product[: len(statistics)])
    return found


def _named(prefix: str, names: Any, arrays: Any) -> Answers:
    return {f"{prefix}.{name}": x for name, x in zip(names, arrays, strict=True)}


def viterbi(inputs: Inputs) -> Answers:
    """Return the most likely paths and their log potentials."""
    potentials = sections(inputs, "natural")
    init, pair, node = (potentials[name] for name in MARKOV)
    paths, logprob = kernels.viterbi(init, pair, node, potentials.get("lengths"))
    return {"logprob": logprob, "paths": paths}
