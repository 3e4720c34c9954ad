"""Checks that need no truth: what happens to answers when a problem is changed.

A *relation* changes the inputs of a case in a way whose effect on the answers is known:
log potentials shifted by a constant, other units, states in another order, time run
backwards, an unobserved last step left out, sequences on their own, systems side by
side.  Any implementation can be asked both problems; where its two answers are not
related as they must be, one of them is wrong, and nobody had to know which is right.
Changes of units are by powers of two, which no rounding can see.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from svae.crosscheck.cases import Case
from svae.crosscheck.scores import PASSES_BELOW, ROUNDOFF, Score, score
from svae.types import Array

__all__ = ["RELATIONS", "Relation", "check", "relations_of"]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]
Implementation = Callable[[dict[str, Any]], Answers]
SLACK = 2.0
"""An error of each of two answers may be seen."""
LIKELIHOODS = ("logZ", "log_likelihood", "logprob")


class Relation(NamedTuple):
    """A change of a problem, and what becomes of its answers."""

    name: str
    says: str
    kinds: tuple[str, ...]
    change: Callable[[Inputs], dict[str, Any] | None]
    """Returns other inputs, or None where the change does not apply."""
    expected: Callable[[Inputs, Answers], Answers]
    """Returns, of the first inputs and their answers, the answers to the others."""


def check(case: Case, implementation: Implementation) -> dict[str, list[Score]]:
    """Try all relations that apply to a case on an implementation.

    Parameters
    ----------
    case : Case
        Its inputs are used, and the condition numbers of its answers; the certified
        answers are not.
    implementation : callable
        Takes inputs and returns answers, as a function of an adapter does; a change
        that it does not take, with NotImplementedError, is passed over.

    Returns
    -------
    dict of str to list of Score
        By the name of the relation, for each quantity that it has something to say of.

    Examples
    --------
    >>> from svae.crosscheck import cases, ours
    >>> found = check(cases.load("markov-chain-small"), ours.markov_chain)
    >>> all(score.right for scores in found.values() for score in scores)
    True
    """
    inputs = {
        name: x
        for name, x in case.inputs.items()
        if name.startswith(("natural.", "standard."))
    }
    several = list(relations_of(case.kind))
    before = implementation(dict(inputs)) if several else {}
    found = {}
    for relation in several:
        changed = relation.change(inputs)
        if changed is None:
            continue
        try:
            after = implementation(changed)
        except NotImplementedError:  # it may not take what the problem has become
            continue
        wanted = relation.expected(inputs, before)
        found[relation.name] = [
            _compared(case, name, after[name], x)
            for name, x in wanted.items()
            if name in after
        ]
    return found


def relations_of(kind: str) -> Iterator[Relation]:
    """Yield the relations that apply to a kind of case."""
    yield from (one for one in RELATIONS if kind in one.kinds)


def _compared(case: Case, name: str, answer: Any, wanted: Any) -> Score:
    """Score an answer; of one with a step more its beginning counts."""
    answer, wanted = np.asarray(answer), np.asarray(wanted)
    if answer.ndim > 1 and answer.shape[1:2] == (wanted.shape[1] + 1,):
        answer = answer[:, : wanted.shape[1]]
    known = case.quantities.get(name, {}).get("condition", 1.0)
    # a change may worsen the condition, in units of the size of what it adds
    error = score(name, answer, wanted, condition=SLACK * max(known, 1.0))
    if error.place is None or name not in LIKELIHOODS:
        return error
    terms = PASSES_BELOW * ROUNDOFF * 2.0**10
    return error._replace(right=error.right or error.error < terms)


RELATIONS: list[Relation] = []
"""All of them; of one name there may be several, for different kinds."""


def _relation(
    name: str, says: str, *kinds: str
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register the pair of functions that a function returns."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        RELATIONS.append(Relation(name, says, kinds, *make()))
        return make

    return register


def _without(inputs: Inputs, *prefixes: str) -> dict[str, Any]:
    return {k: x for k, x in inputs.items() if not k.startswith(prefixes)}


def _lengths(inputs: Inputs) -> Array:
    """Return the lengths of the sequences (N,)."""
    for name, data in DATA.items():
        if name in inputs:
            N, T = np.shape(inputs[name])[:2]
            given = inputs.get(f"{data}.lengths", np.full(N, T))
            return np.asarray(given)
    raise KeyError("inputs without data")


DATA = {
    "standard.y": "standard",
    "standard.log_likelihoods": "standard",
    "natural.node": "natural",
    "natural.node.h": "natural",
}
"""The data of every kind, and the words of its parameters."""


@_relation(
    "shift",
    "a constant added to the log potentials of a step is added to log Z alone",
    *("markov_chain", "viterbi", "hmm"),
)
def _shift() -> Any:
    def key(inputs: Inputs) -> str:
        return DATA_OF_HMM if DATA_OF_HMM in inputs else "natural.node"

    def change(inputs: Inputs) -> dict[str, Any]:
        node = np.array(inputs[key(inputs)], float)
        node[:, 0] += 8.0
        return {**inputs, key(inputs): node}

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        found = {k: x for k, x in answers.items() if not k.startswith("grad.")}
        for name in LIKELIHOODS:
            if name in found:
                found[name] = np.asarray(found[name]) + 8.0
        return found

    return change, expected


@_relation(
    "units",
    "with y and x in units of 1/4 and of 1/8 only the Jacobian of y is added",
    "lds",
)
def _units_of_system() -> Any:
    # y in units of 1/4, x in units of 1/8
    y_, x_ = 4.0, 8.0
    factors = {
        **{"A": 1.0, "B": x_, "Q": x_**2, "C": y_ / x_, "D": y_, "R": y_**2},
        **{"m0": x_, "P0": x_**2, "y": y_},
    }

    def change(inputs: Inputs) -> dict[str, Any]:
        changed = _without(inputs, "natural")
        for name, factor in factors.items():
            key = f"standard.{name}"
            if key in changed:
                changed[key] = np.asarray(changed[key], float) * factor
        return changed

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        y = np.asarray(inputs["standard.y"])
        live = np.arange(y.shape[1]) < _lengths(inputs)[:, None]
        seen = (np.isfinite(y) & live[..., None]).sum((1, 2))
        found = {}
        for name, x in answers.items():
            x = np.asarray(x)
            if name == "log_likelihood":
                found[name] = x - seen * np.log(y_)
            elif name.endswith(".mean"):
                found[name] = x * x_
            elif name.endswith(("cov", "cross_cov")):
                found[name] = x * x_**2
            elif name.startswith("grad."):
                found[name] = x / factors.get(name[5:], 1.0)
        return found

    return change, expected


@_relation(
    "units",
    "with x in units of 1/8 only the Jacobian is added to log Z",
    "gaussian_chain",
)
def _units_of_chain() -> Any:
    x_ = 8.0

    def change(inputs: Inputs) -> dict[str, Any]:
        changed = dict(inputs)
        for key in inputs:
            last = key.rpartition(".")[2]
            power = 2 if last.startswith("J") else 1 if last == "h" else 0
            changed[key] = inputs[key] / x_**power if power else inputs[key]
        return changed

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        D = np.shape(inputs["natural.node.h"])[-1]
        found = {}
        for name, x in answers.items():
            x = np.asarray(x)
            if name == "logZ":
                found[name] = x + _lengths(inputs) * D * np.log(x_)
            elif name == "samples" or name.endswith("Ex"):
                found[name] = x * x_
            elif name.startswith("stats."):
                found[name] = x * x_**2
        return found

    return change, expected


@_relation(
    "permuted",
    "states in the opposite order have the same probabilities, in that order",
    *("markov_chain", "hmm"),
)
def _permuted() -> Any:
    axes = {
        "natural.init": (-1,),
        "natural.pair": (-1, -2),
        "natural.node": (-1,),
        "standard.start": (-1,),
        "standard.transition": (-1, -2),
        "standard.log_likelihoods": (-1,),
    }
    of_answers = {
        **{"stats.init": (-1,), "stats.pair": (-1, -2), "stats.node": (-1,)},
        **{name: (-1,) for name in ("filtered", "predicted", "smoothed")},
        **{"pairs": (-1, -2), "grad.start": (-1,), "grad.transition": (-1, -2)},
        **{"grad.log_likelihoods": (-1,), "logZ": (), "log_likelihood": ()},
    }

    def change(inputs: Inputs) -> dict[str, Any]:
        return {
            name: np.ascontiguousarray(np.flip(x, axes[name])) if name in axes else x
            for name, x in inputs.items()
            if name in axes or name.endswith("lengths")
        }

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        return {
            name: np.flip(x, of_answers[name])
            for name, x in answers.items()
            if name in of_answers
        }

    return change, expected


@_relation(
    "reordered",
    "coordinates of x in the opposite order have the same law, in that order",
    "lds",
)
def _coordinates() -> Any:
    rows = {"A": (-1, -2), "B": (-2,), "Q": (-1, -2), "C": (-1,), "P0": (-1, -2)}
    axes = {f"standard.{name}": axis for name, axis in rows.items()}
    axes["standard.m0"] = (-1,)

    def change(inputs: Inputs) -> dict[str, Any]:
        changed = _without(inputs, "natural")
        for name, axis in axes.items():
            if name in changed:
                changed[name] = np.ascontiguousarray(np.flip(changed[name], axis))
        return changed

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        found = {}
        for name, x in answers.items():
            if name == "log_likelihood":
                found[name] = np.asarray(x)
            elif name.endswith(".mean"):
                found[name] = np.flip(x, -1)
            elif name.endswith("cov"):
                found[name] = np.flip(x, (-1, -2))
            elif name.startswith("grad."):
                axis = axes.get(f"standard.{name[5:]}", ())
                found[name] = np.flip(x, axis)
        return found

    return change, expected


@_relation(
    "reversed",
    "time run backwards, each transition transposed, has the same statistics, reversed",
    "markov_chain",
)
def _reversed_markov() -> Any:
    def change(inputs: Inputs) -> dict[str, Any] | None:
        if "natural.lengths" in inputs:
            return None
        node = np.array(inputs["natural.node"], float)[:, ::-1].copy()
        pair, init = inputs["natural.pair"], np.asarray(inputs["natural.init"])
        node[:, -1] += init  # what began the chain now ends it
        if np.ndim(pair) == 4:
            pair = np.asarray(pair)[:, ::-1]
        return {
            "natural.init": np.zeros(init.shape),
            "natural.pair": np.ascontiguousarray(np.swapaxes(pair, -1, -2)),
            "natural.node": node,
        }

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        pair = np.swapaxes(answers["stats.pair"], -1, -2)
        return {
            "logZ": answers["logZ"],
            "stats.node": np.asarray(answers["stats.node"])[:, ::-1],
            "stats.pair": pair[:, ::-1] if pair.ndim == 4 else pair,
        }

    return change, expected


@_relation(
    "reversed",
    "time run backwards, J12 transposed, has the same statistics, reversed",
    "gaussian_chain",
)
def _reversed_gaussian() -> Any:
    def change(inputs: Inputs) -> dict[str, Any] | None:
        given = {k.removeprefix("natural."): np.asarray(x) for k, x in inputs.items()}
        if "lengths" in given:
            return None
        J, h = given["node.J"][:, ::-1], np.array(given["node.h"][:, ::-1])
        D = h.shape[-1]
        J = np.array(J if J.ndim == 4 else J[..., None] * np.eye(D))
        J[:, -1] += given["init.J"]
        h[:, -1] += given["init.h"]
        first = np.zeros(D)
        backwards = {
            "pair.J11": given["pair.J22"],
            "pair.J12": np.swapaxes(given["pair.J12"], -1, -2),
            "pair.J22": given["pair.J11"],
        }
        changed = {"init.J": np.diag(first), "init.h": first, "node.J": J, "node.h": h}
        changed |= {
            name: np.ascontiguousarray(x[:, ::-1] if x.ndim == 4 else x)
            for name, x in backwards.items()
        }
        return {f"natural.{name}": x for name, x in changed.items()}

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        def back(x: Any) -> Array:
            return x[:, ::-1] if np.ndim(x) == 4 else np.asarray(x)

        return {
            "logZ": answers["logZ"],
            "stats.node.Ex": np.asarray(answers["stats.node.Ex"])[:, ::-1],
            "stats.pair.ExxT": back(answers["stats.pair.ExnxnT"]),
            "stats.pair.ExxnT": np.swapaxes(back(answers["stats.pair.ExxnT"]), -1, -2),
            "stats.pair.ExnxnT": back(answers["stats.pair.ExxT"]),
        }

    return change, expected


@_relation(
    "unobserved end",
    "a last step without data changes nothing before it",
    *("lds", "hmm"),
)
def _unobserved() -> Any:
    def change(inputs: Inputs) -> dict[str, Any] | None:
        changed = _without(inputs, "natural")
        if any(name.endswith("lengths") for name in inputs):
            return None
        for name in ("A", "B", "Q", "C", "D", "R", "transition"):
            event = 2
            if np.ndim(changed.get(f"standard.{name}", 0.0)) > event:
                return None  # there is nothing to take for the new step
        for name, filler in (("y", np.nan), ("log_likelihoods", 0.0), ("u", 0.0)):
            key = f"standard.{name}"
            if key in changed:
                x = np.asarray(changed[key], float)
                axis = x.ndim - 2
                shape = [*x.shape]
                shape[axis] = 1
                end = np.full(shape, filler)
                changed[key] = np.concatenate([x, end], axis)
        return changed

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        return {
            name: np.asarray(x)
            for name, x in answers.items()
            if not name.startswith("grad.") and name not in ("pairs", "viterbi")
        }

    return change, expected


@_relation(
    "alone",
    "each sequence has alone what it has beside the others",
    *("lds", "hmm", "gaussian_chain", "markov_chain", "viterbi"),
)
def _alone() -> Any:
    def first(x: Any, count: int, event_ndim: int) -> Any:
        return x[:1] if np.ndim(x) > event_ndim and len(x) == count else x

    events = {
        **{"natural.init": 1, "natural.pair": 2, "natural.node": 1},
        **{"natural.init.J": 2, "natural.init.h": 1, "natural.node.J": 2},
        **{f"natural.pair.{J}": 2 for J in ("J11", "J12", "J22")},
        **{"natural.node.h": 2, "natural.noise": 3, "natural.lengths": 0},
        **{"standard.y": 2, "standard.log_likelihoods": 2, "standard.u": 2},
        **{"standard.lengths": 0, "standard.start": 1, "standard.transition": 3},
    }

    def change(inputs: Inputs) -> dict[str, Any] | None:
        count = len(_lengths(inputs))
        if count == 1:
            return None
        kept = inputs
        if any(name.startswith("standard.") for name in inputs):
            kept = _without(inputs, "natural")
        return {name: first(x, count, events.get(name, 9)) for name, x in kept.items()}

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        by_sequence = (
            *(*LIKELIHOODS, "samples", "paths", "stats.node", "stats.node.ExxT"),
            *("stats.node.Ex", "filtered", "predicted", "smoothed"),
        )
        return {
            name: np.asarray(x)[:1]
            for name, x in answers.items()
            if name in by_sequence or name.endswith((".mean", ".cov", ".cross_cov"))
        }

    return change, expected


@_relation(
    "side by side",
    "two systems that know nothing of each other have the sum of their likelihoods",
    "lds",
)
def _side_by_side() -> Any:
    def diagonal(x: Array) -> Array:
        rows, columns = x.shape[-2:]
        found = np.zeros((*x.shape[:-2], 2 * rows, 2 * columns))
        found[..., :rows, :columns] = found[..., rows:, columns:] = x
        return found

    def change(inputs: Inputs) -> dict[str, Any]:
        changed = _without(inputs, "natural")
        for name in ("A", "Q", "C", "R", "P0"):
            changed[f"standard.{name}"] = diagonal(
                np.asarray(inputs[f"standard.{name}"])
            )
        for name, axis in (("B", -2), ("D", -2), ("m0", -1), ("y", -1)):
            key = f"standard.{name}"
            if key in inputs:
                changed[key] = np.concatenate([inputs[key]] * 2, axis)
        return changed

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        found: Answers = {}
        for name, x in answers.items():
            x = np.asarray(x)
            if name == "log_likelihood":
                found[name] = 2 * x
            elif name.endswith(".mean"):
                found[name] = np.concatenate([x, x], -1)
            elif name.endswith("cov"):
                found[name] = diagonal(x)
        return found

    return change, expected


@_relation(
    "joined",
    "two sequences joined by a pair that says nothing have the sum of their log Z",
    "markov_chain",
)
def _joined() -> Any:
    def change(inputs: Inputs) -> dict[str, Any] | None:
        node, init = np.asarray(inputs["natural.node"]), inputs["natural.init"]
        if "natural.lengths" in inputs or np.ndim(init) > 1:
            return None
        N, T, K = node.shape
        pair = np.broadcast_to(inputs["natural.pair"], (N, T - 1, K, K))
        second = node.copy()
        second[:, 0] += init
        between = np.zeros((N, 1, K, K))
        return {
            "natural.init": init,
            "natural.pair": np.concatenate([pair, between, pair], 1),
            "natural.node": np.concatenate([node, second], 1),
        }

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        node = np.asarray(answers["stats.node"])
        return {
            "logZ": 2 * np.asarray(answers["logZ"]),
            "stats.node": np.concatenate([node, node], 1),
        }

    return change, expected


@_relation(
    "one state",
    "of a single state log Z is the sum of its potentials",
    *("markov_chain", "hmm"),
)
def _one_state() -> Any:
    def change(inputs: Inputs) -> dict[str, Any] | None:
        if any(name.endswith("lengths") for name in inputs):
            return None
        if DATA_OF_HMM not in inputs:
            node = np.array(inputs["natural.node"], float)[..., :1]
            zero = np.zeros((1, 1))
            names = ("natural.init", "natural.pair", "natural.node")
            parts = zero[0], zero, np.where(np.isfinite(node), node, 0.0)
        else:
            node = np.array(inputs["standard.log_likelihoods"], float)[..., :1]
            one = np.ones((1, 1))
            names = ("standard.start", "standard.transition", DATA_OF_HMM)
            parts = one[0], one, np.where(np.isfinite(node), node, 0.0)
        return dict(zip(names, parts, strict=True))

    def expected(inputs: Inputs, answers: Answers) -> Answers:
        name = DATA_OF_HMM if DATA_OF_HMM in inputs else "natural.node"
        node = np.array(inputs[name], float)[..., 0]
        total = np.where(np.isfinite(node), node, 0.0).sum(1)
        return {"logZ" if name == "natural.node" else "log_likelihood": total}

    return change, expected


DATA_OF_HMM = "standard.log_likelihoods"
