"""The script that makes the certified set anew, and checks the one that is here.

::

    python -m svae.crosscheck.truth [NAME ...]           # derive and compare
    python -m svae.crosscheck.truth --write [NAME ...]   # derive and replace
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae.crosscheck.cases import CERTIFIED, CONVENTIONS, Case, load, names, write
from svae.crosscheck.truth import (
    chain_problems,
    chains,
    digests,
    families,
    family_problems,
    inference_networks,
    mixtures,
    model_problems,
    natural_gradients,
    standard,
    standard_problems,
)
from svae.crosscheck.truth.balls import Derivation, certify, condition, exact
from svae.crosscheck.truth.problems import Problem

__all__ = ["KINDS", "differences", "made", "main", "problems"]

Derive = Callable[[Mapping[str, Any]], Iterator[Derivation]]

KINDS: dict[str, Derive] = {
    "gaussian_chain": chains.gaussian_chain,
    "markov_chain": chains.markov_chain,
    "viterbi": chains.viterbi,
    "family": families.derivations,
    "mixture_bound": mixtures.bounds,
    "switching_bound": mixtures.bounds,
    "natural_gradient": natural_gradients.natural_gradients,
    "inference_network": inference_networks.inference_networks,
    "lds": standard.lds,
    "hmm": standard.hmm,
}
DIGESTS: dict[str, Derive] = {
    "gaussian_chain": digests.gaussian_chain,
    "markov_chain": digests.markov_chain,
    "lds": digests.lds,
}
"""How cases of a kind are derived, from inputs: floats as balls, integers as such."""


def problems() -> Iterator[Problem]:
    """Yield the problems of the set."""
    yield from chain_problems.problems()
    yield from family_problems.problems()
    yield from model_problems.problems()
    yield from standard_problems.problems()


def made(problem: Problem) -> Case:
    """Derive the answers of a problem.

    Raises
    ------
    Disagreement
        If two derivations exclude each other.
    """
    derive = (DIGESTS if problem.generator else KINDS)[problem.kind]
    inputs = {name: np.asarray(x) for name, x in problem.inputs.items()}
    real = {name: x for name, x in inputs.items() if x.dtype == float}
    others = {name: x for name, x in inputs.items() if name not in real}
    at = others | {name: exact(x) for name, x in real.items()}
    expected, ways = certify(lambda: derive(at), problem.name)
    conditions = condition(
        lambda moved: derive({**others, **moved}),
        real,
        expected,
        draws=1 if problem.generator else 8,
    )
    quantities = {
        name: {"shape": list(x.hi.shape)}
        | ({"condition": conditions[name]} if name in conditions else {})
        for name, x in expected.items()
    }
    return Case(
        name=problem.name,
        kind=problem.kind,
        sizes=dict(problem.sizes) or sizes_of(inputs),
        inputs=inputs,
        expected=expected,
        quantities=quantities,
        origin=problem.origin,
        catches=problem.catches,
        tags=problem.tags,
        derivations=ways,
        conventions=CONVENTIONS.get(problem.kind, {}),
        natural=problem.natural,
        family=problem.family,
        model=problem.model,
        generator=dict(problem.generator),
    )


def sizes_of(inputs: Mapping[str, Any]) -> dict[str, int]:
    """Read N, T and D, K or P off the inputs of a chain."""
    for name, letters in {
        "natural.node.h": "NTD",
        "natural.node": "NTK",
        "standard.log_likelihoods": "NTK",
        "standard.y": "NTP",
    }.items():
        if name in inputs:
            found = dict(zip(letters, inputs[name].shape, strict=True))
            if "standard.m0" in inputs:
                found["D"] = inputs["standard.m0"].shape[-1]
            return found
    return {}


def differences(found: Case, kept: Case) -> list[str]:
    """Return what differs between a case made anew and one that was kept."""
    wrong = [
        key
        for key in Case.__dataclass_fields__
        if key not in ("inputs", "expected", "quantities")
        and getattr(found, key) != getattr(kept, key)
    ]
    if found.inputs.keys() != kept.inputs.keys():
        wrong.append("the names of inputs")
    wrong += [
        name
        for name in found.inputs.keys() & kept.inputs.keys()
        if not np.array_equal(
            found.inputs[name],
            kept.inputs[name],
            equal_nan=found.inputs[name].dtype == float,
        )
    ]
    if list(found.quantities) != list(kept.quantities):
        wrong.append("the names of quantities")
    for name in found.quantities.keys() & kept.quantities.keys():
        if found.quantities[name] != kept.quantities[name]:
            wrong.append(f"the condition of {name}")
        if not all(
            np.array_equal(a, b)
            for a, b in zip(found.expected[name], kept.expected[name], strict=True)
        ):
            wrong.append(name)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Make cases; return 0 if those that were kept are the same, or were written."""
    parser = argparse.ArgumentParser(prog="python -m svae.crosscheck.truth")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases; all if none")
    parser.add_argument("--write", action="store_true", help="replace what is kept")
    parser.add_argument("--new", action="store_true", help="only what is not there")
    parser.add_argument("--folder", type=Path, default=CERTIFIED)
    options = parser.parse_args(arguments)
    every = {problem.name: problem for problem in problems()}
    if unknown := set(options.names) - every.keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    status = 0
    kept = set(names(options.folder)) if options.new else set()
    for name in [name for name in options.names or every if name not in kept]:
        began = time.perf_counter()
        case = made(every[name])
        if options.write:
            shutil.rmtree(options.folder / name, ignore_errors=True)
            write(case, options.folder / name)
            verdict = "written"
        elif name not in names(options.folder):
            verdict, status = "is not in the folder", 1
        else:
            wrong = differences(case, load(options.folder / name))
            verdict = f"differs: {', '.join(wrong)}" if wrong else "the same"
            status = status or int(bool(wrong))
        print(f"{name:40} {time.perf_counter() - began:6.1f} s  {verdict}", flush=True)
    if not options.names and (stale := set(names(options.folder)) - every.keys()):
        print(f"in the folder, but made by nothing: {', '.join(sorted(stale))}")
        status = 1
    return status
