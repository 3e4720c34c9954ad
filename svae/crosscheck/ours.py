"""The answers of this package, an adapter like that of any other.

A function for each kind, from a case's inputs to its quantities, made of what is
public: `svae.kernels` and `svae.standard` for chains; those of families and of latent
models are in `svae.crosscheck.our_models`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import autograd.numpy as np

import svae
from svae import kernels, standard
from svae.autodiff.vjp import trace
from svae.crosscheck import our_models
from svae.crosscheck.cases import nested, sections
from svae.crosscheck.our_models import (
    family,
    inference_network,
    mixture_bound,
    natural_gradient,
    switching_bound,
)

__all__ = [
    "FEWER_DIGITS",
    "expected_failures",
    "family",
    "gaussian_chain",
    "hmm",
    "inference_network",
    "lds",
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

_OF_LOGARITHMS = (
    "a state of probability e^-8000 counts at every step, so the sums are done in "
    "logarithms, of which numbers near 8000 have four digits fewer"
)
FEWER_DIGITS = our_models.FEWER_DIGITS | {
    "markov-chain-late-surprise": dict.fromkeys(
        (
            "stats.node",
            "stats.pair",
            "vjp.node",
            "vjp.pair",
            "hvp.node",
            "hvp.pair",
        ),
        _OF_LOGARITHMS,
    ),
}
"""Quantities of cases of which we have fewer digits than there are, and why."""
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
LDS = ("A", "Q", "C", "R", "m0", "P0", "B", "D")


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


def lds(inputs: Inputs) -> Answers:
    """Log likelihood, its gradient, and what is known of every state."""
    given = sections(inputs, "standard")
    lengths, y, u = given.pop("lengths", None), given["y"], given.get("u")
    model = standard.LinearGaussian(**{k: given[k] for k in LDS if k in given})

    def log_likelihood(*boxes: Any) -> tuple[Any, ...]:
        arguments = dict(zip(given, boxes, strict=True))
        of = standard.LinearGaussian(**{k: arguments[k] for k in LDS if k in given})
        y, u = arguments["y"], arguments.get("u")
        return (standard.log_likelihood(of, y, u, lengths),)

    pull_back, (total,) = trace(log_likelihood, list(given.values()))
    found = {"log_likelihood": total}
    found |= _named("grad", given, pull_back(np.ones(len(total))))
    laws: dict[str, Any] = {
        "filtered": standard.kalman_filter(model, y, u, lengths),
        "predicted": standard.kalman_predict(model, y, u, lengths),
        "smoothed": standard.kalman_smoother(model, y, u, lengths),
    }
    for when, law in laws.items():
        found |= {f"{when}.mean": law.mean, f"{when}.cov": law.cov}
    return found | {"smoothed.cross_cov": laws["smoothed"].cross_cov}


def hmm(inputs: Inputs) -> Answers:
    """Log likelihood, its gradient, probabilities of states, and the likeliest path."""
    given = sections(inputs, "standard")
    lengths = given.pop("lengths", None)
    names = ("start", "transition", "log_likelihoods")
    start, transition, logs = (given[name] for name in names)

    def log_likelihood(start: Any, transition: Any, logs: Any) -> tuple[Any, ...]:
        return (standard.hmm_log_likelihood(start, transition, logs, lengths),)

    pull_back, (total,) = trace(log_likelihood, [start, transition, logs])
    found = {"log_likelihood": total}
    found |= _named("grad", names, pull_back(np.ones(len(total))))
    smoothed = standard.hmm_smoother(start, transition, logs, lengths)
    filtered = standard.hmm_filter(start, transition, logs, lengths)
    predicted = standard.hmm_predict(start, transition, logs, lengths)
    paths, _ = standard.hmm_viterbi(start, transition, logs, lengths)
    return found | {
        "filtered": filtered.probabilities,
        "predicted": predicted.probabilities,
        "smoothed": smoothed.probabilities,
        "pairs": smoothed.transitions,
        "viterbi": paths,
    }
