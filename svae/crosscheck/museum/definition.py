"""The chains of `svae.reference`, asked as a case asks: values, adjoints, Hessians.

Every function here looks the chain up when it is called, so that a mistake that
replaces a part of the reference is felt.
"""

from collections.abc import Callable, Mapping
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd import grad, make_vjp

from svae import reference
from svae.types import Array

__all__ = ["gaussian_chain", "markov_chain", "viterbi"]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]
GAUSSIAN = ("init.J", "init.h", "pair.J11", "pair.J12", "pair.J22", "node.J", "node.h")
STATS = (
    *("init.ExxT", "init.Ex", "pair.ExxT", "pair.ExxnT", "pair.ExnxnT"),
    *("node.ExxT", "node.Ex"),
)
MARKOV = ("init", "pair", "node")
SYMMETRIC = ("init.J", "pair.J11", "pair.J22")


def gaussian_chain(inputs: Inputs, slopes: bool = True) -> Answers:
    """Answer a case of kind ``gaussian_chain``."""
    named = _natural(inputs, (*GAUSSIAN, "noise"))
    lengths = inputs.get("natural.lengths")
    return _answers(lambda x: _gaussian(x, lengths), named, inputs if slopes else {})


def _gaussian(x: Mapping[str, Any], lengths: Any) -> Answers:
    init, pair, node = (
        tuple(x[name] for name in GAUSSIAN[part])
        for part in (slice(2), slice(2, 5), slice(5, 7))
    )
    noise = x.get("noise") if "noise" in x.keys() else None
    logZ, stats, samples = reference.gaussian_chain(init, pair, node, noise, lengths)
    (Jo, ho), (S11, S12, S22), (Jn, hn) = stats
    answers: Answers = {
        f"stats.{name}": stat
        for name, stat in zip(STATS, (Jo, ho, S11, S12, S22, Jn, hn), strict=True)
    }
    answers["logZ"] = logZ
    if samples is not None:
        answers["samples"] = samples
    return answers


def markov_chain(inputs: Inputs, slopes: bool = True) -> Answers:
    """Answer a case of kind ``markov_chain``."""
    named = _natural(inputs, MARKOV)
    lengths = inputs.get("natural.lengths")
    return _answers(lambda x: _markov(x, lengths), named, inputs if slopes else {})


def _markov(x: Mapping[str, Any], lengths: Any) -> Answers:
    init, pair, node = (x[name] for name in MARKOV)
    logZ, stats = reference.markov_chain(init, pair, node, lengths)
    answers = {f"stats.{n}": s for n, s in zip(MARKOV, stats, strict=True)}
    return answers | {"logZ": logZ}


def viterbi(inputs: Inputs, slopes: bool = True) -> Answers:
    """Answer a case of kind ``viterbi``."""
    named = _natural(inputs, MARKOV)
    lengths = inputs.get("natural.lengths")
    init, pair, node = (named[name] for name in MARKOV)
    paths, logprob = reference.viterbi(init, pair, node, lengths)
    return {"paths": paths, "logprob": logprob}


def _natural(inputs: Inputs, names: tuple[str, ...]) -> dict[str, Array]:
    keys = {name: f"natural.{name}" for name in names}
    return {
        name: onp.asarray(inputs[key], float)
        for name, key in keys.items()
        if key in inputs
    }


def _answers(
    values: Callable[[Mapping[str, Any]], Answers],
    named: dict[str, Array],
    inputs: Inputs,
) -> Answers:
    """Return values and, as far as the case has cotangents and directions, slopes."""
    answers = values(named)
    names = list(named)

    def of_list(arrays: Any) -> Answers:
        return values(dict(zip(names, arrays, strict=True)))

    weights = {
        q: onp.asarray(inputs[f"cotangent.{q}"])
        for q in answers
        if f"cotangent.{q}" in inputs
    }

    def combined(arrays: Any) -> Any:
        found = of_list(arrays)
        return sum(np.sum(weight * found[q]) for q, weight in weights.items())

    arrays = list(named.values())
    if weights:
        for name, slope in zip(names, grad(combined)(arrays), strict=True):
            answers[f"vjp.{name}"] = _symmetric(name, slope)
    if any(f"direction.{name}" in inputs for name in names):
        products = _hessian(of_list, arrays, names, inputs)
        for name, product in zip(names, products, strict=True):
            if name != "noise":
                answers[f"hvp.{name}"] = _symmetric(name, product)
    return answers


def _hessian(
    of_list: Callable[[Any], Answers], arrays: Any, names: list[str], inputs: Inputs
) -> Any:
    """Return the Hessian of the sum of log Z times the directions."""
    directions = [
        onp.asarray(inputs.get(f"direction.{n}", onp.zeros(x.shape)))
        for n, x in zip(names, arrays, strict=True)
    ]

    def along(arrays: Any) -> Any:
        pull_back, _ = make_vjp(lambda x: np.sum(of_list(x)["logZ"]))(arrays)
        slopes = pull_back(1.0)
        pairs = zip(slopes, directions, strict=True)
        return sum(np.sum(slope * d) for slope, d in pairs)

    return grad(along)(arrays)


def _symmetric(name: str, slope: Array) -> Array:
    if name in SYMMETRIC or (name == "node.J" and slope.ndim == 4):
        return (slope + onp.swapaxes(slope, -1, -2)) / 2
    return slope
