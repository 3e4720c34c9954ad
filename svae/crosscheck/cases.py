"""Cases: problems, their certified answers, and the folders that hold them.

A case is a folder of three files. ``case.json`` says what the problem is and by which
conventions; ``inputs.npz`` holds its inputs, exact float64 numbers; ``expected.npz``
holds each answer as a pair of doubles and a certified radius. `load` reads one,
`write` writes one, `names` lists those of the package. docs/certified.md defines the
format.

>>> case = load("gaussian-chain-small")
>>> case.kind, case.inputs["natural.node.h"].shape
('gaussian_chain', (2, 4, 2))
>>> case.expected["logZ"].hi.shape
(2,)
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae.types import Array

__all__ = [
    "CERTIFIED",
    "CONVENTIONS",
    "GENERATORS",
    "KINDS",
    "SCHEMA",
    "Case",
    "Certified",
    "load",
    "names",
    "nested",
    "sections",
    "write",
]

SCHEMA = 1
CERTIFIED = Path(__file__).parent / "certified"
"""The folder of the cases that come with the package."""
DOCUMENT = (
    "name",
    "kind",
    "sizes",
    "tags",
    "origin",
    "catches",
    "conventions",
    "quantities",
    "derivations",
    "natural",
    "family",
    "model",
    "generator",
)
"""Keys of case.json besides "schema", in order; those without a value are left out."""

SHAPE = re.compile(r"\[[\d,\s]*\]")

_EVERY: dict[str, Any] = {
    "axes": "(sequence, step, ...)",
    "lengths": "steps from the length of a sequence on are not read; zero is returned",
    "pairs": "T-1",
    "symmetric_gradient": "G = G' with dF = sum(G * dX) for symmetric dX",
}
_DISCRETE: dict[str, Any] = _EVERY | {
    "transition": "[i, j] from state i to state j",
    "first_state": "init or start is of z_1, whose node or likelihood counts as well",
    "forbidden": "a log potential of -inf, a probability of 0",
}
_MEAN_FIELD: dict[str, Any] = _DISCRETE | {
    "message": "E log of probabilities (weights, transitions); of a Gaussian (-E[L]/2, "
    "E[L mu], -E[mu'L mu]/2, E[log|L|]/2), which multiply (x x', x, 1, 1)",
    "two_pi": "included, -D/2 log(2 pi) for each x given z",
    "node_J": "(N, T, D) is the diagonal of a diagonal J; -precision/2",
    "bound": "E log p(x, z) + E <node, (x x', x)> - E log q(x) - E log q(z)",
    "expected_evidence": "E <node, (x x', x)>",
    "kl": "expected_evidence - bound",
    "given": "q(x) optimal for natural.states, then q(z) optimal for q(x)",
    "fixed": "the fixed point to which coordinate ascent from natural.states leads",
    "student": "states that mix potentials are probabilities times E[u]; dof is nu",
    "log_evidence": "log of the sum over z of the integral over x",
    "gradient": "of the sum of fixed.bound over sequences",
}
CONVENTIONS: dict[str, dict[str, Any]] = {
    "gaussian_chain": _EVERY
    | {
        "density": "exp(sum of <potential, statistic>) / Z",
        "logZ": "log of the integral over all steps of a sequence",
        "two_pi": "included",
        "J": "-precision/2",
        "h": "precision @ mean",
        "pair": "<J11, x_t x_t'> + x_t' J12 x_{t+1} + <J22, x_{t+1} x_{t+1}'>",
        "first_state": "init is of x_1, whose node counts as well",
        "node_J": "(N, T, D) is the diagonal of a diagonal J",
        "shared": "the statistic of a shared potential is the sum over what shares it",
        "samples": "mean + inverse(L') noise, L the lower Cholesky factor of the joint "
        "precision in the order of time",
    },
    "markov_chain": _DISCRETE
    | {
        "density": "exp(init[z_1] + sum node[t, z_t] + sum pair[z_t, z_{t+1}]) / Z",
        "logZ": "log of the sum over all paths of a sequence",
        "shared": "the statistic of a shared potential is the sum over what shares it",
    },
    "viterbi": _DISCRETE
    | {
        "logprob": "the largest log potential of a path, not normalised",
        "ties": "where unique is false, any path that attains logprob is right",
        "past_length": -1,
    },
    "lds": _EVERY
    | {
        "model": "x_{t+1} = A_t x_t + B_t u_t + N(0, Q_t), "
        "y_t = C_t x_t + D_t u_t + N(0, R_t)",
        "first_state": "x_1 ~ N(m0, P0), before y_1",
        "covariances": "Q, R and P0 are covariances",
        "two_pi": "included, once for each observed number",
        "missing": "NaN in y; other entries of that step count with their part of R",
        "predicted": "x_t given y_1 .. y_{t-1}; of x_1 m0 and P0",
        "filtered": "x_t given y_1 .. y_t",
        "smoothed": "x_t given all y",
        "cross_cov": "[t] = Cov(x_t, x_{t+1} | all y), a covariance, not E[x x']",
        "gradient": "of the sum of log_likelihood over sequences",
    },
    "hmm": _DISCRETE
    | {
        "model": "z_1 ~ start, z_{t+1} ~ transition[z_t], log_likelihoods[t, k] = "
        "log p(y_t | z_t = k)",
        "predicted": "z_t given y_1 .. y_{t-1}; of z_1 start",
        "filtered": "z_t given y_1 .. y_t",
        "smoothed": "z_t given all y",
        "expected_transitions": "pairs[i, j] = sum over sequences and steps of "
        "P(z_t = i, z_{t+1} = j | y)",
        "gradient": "of the sum of log_likelihood, each entry by itself: no row is "
        "held to a sum of one",
    },
    "family": {
        "members": "axis 0",
        "density": "h(x) exp(<natural, t(x)> - log_normalizer)",
        "two_pi": "included",
        "symmetric_gradient": "G = G' with dF = sum(G * dX) for symmetric dX",
        "kl": "KL(q || p)",
        "expected_stats": "of q; each is named by the parameter that multiplies it",
        "gaussian": "t = (x x', x), J = -precision/2, h = precision @ mean",
        "categorical": "t = one-hot, log_potentials not normalised, -inf forbids",
        "dirichlet": "t = log pi, Lebesgue's measure on all but the last entry",
        "wishart": "t = (-L/2, log|L|/2), L ~ W(S^-1, nu), h = |L|^(-(D+1)/2)",
        "niw": "t = (-L/2, L mu, -mu'L mu/2, log|L|/2), natural (S + kappa m m', "
        "kappa m, kappa, nu), mu | L ~ N(m, (kappa L)^-1), h = |L|^(-D/2)",
        "mniw": "t = (-A'LA/2, A'L, -L/2, log|L|/2), natural (V, V M', S + M V M', "
        "nu), A | L ~ MN(M, L^-1, V^-1), h = |L|^((Din-D-1)/2)",
    },
    "mixture_bound": _MEAN_FIELD,
    "switching_bound": _MEAN_FIELD
    | {
        "switch": "z_t selects the law of x_t given x_{t-1}, z_1 that of x_1",
        "pair": "<J11, x_t x_t'> + x_t' J12 x_{t+1} + <J22, x_{t+1} x_{t+1}'>; affine "
        "dynamics are those of [x_t; 1], their bias in the last row and column",
    },
    "natural_gradient": _MEAN_FIELD
    | {
        "objective": "reconstruction - local_kl - global_kl",
        "reconstruction": "scale * sum over sequences of the mean over samples of "
        "log p(y | x)",
        "local_kl": "scale * sum of KL(q(x) q(z) || exp E log p(x, z | theta))",
        "global_kl": "KL(posterior || prior) of theta, not scaled",
        "scale": "N / M, data over batch",
        "decoder": "y ~ N(x W + b, variance), x of a row; with a hidden layer "
        "tanh(x hidden.W + hidden.b) in the place of x",
        "samples": "mean + inverse(L') noise, L the lower Cholesky factor of the "
        "precision of q(x) in the order of time",
        "natgrad": "prior - posterior + scale * d(sum of local terms)/d(message), an "
        "ascent direction in natural parameters, inference differentiated through",
        "conjugate": "the same without the correction: expected statistics alone",
        "gradient": "of the objective: to evidence (grad.node) and decoder weights",
        "dirichlet": "alpha - 1",
        "gaussian": "no theta; x ~ N(0, I)",
    },
    "inference_network": _MEAN_FIELD
    | {
        "density": "q(x, z) = exp(<graph, t(z, x)> + <node, (x x', x)>) / Z",
        "graph": "laid out as the message; its constants count in log_normalizer",
        "kl": "E <graph + node, t> - log_normalizer - E log p, the message in the "
        "place of its parameters",
        "bound": "reconstruction - kl",
        "reconstruction": "E of the mean over samples of log p(y | x); samples of x "
        "given every state, mean + inverse(L') noise, weighted by probabilities",
        "stats": "the gradient of the sum of log_normalizer in the graph, E_q[t]",
        "gradient": "of the sum of bound over sequences",
        "student": "E log p by -(dof + D)/2 E log(1 + g/dof), g = E (x - mu)' L (x - "
        "mu) given z; dof is nu",
    },
}
"""How the numbers of each kind are meant, for a program to read."""
KINDS = tuple(CONVENTIONS)


class Certified(NamedTuple):
    """A value known to about 32 digits: |hi + lo - truth| <= radius, elementwise.

    Integers and truth values are exact; of them `lo` and `radius` are zeros.
    """

    hi: Any
    """The truth, rounded to float64."""
    lo: Any
    """What is to be added to it."""
    radius: Any

    def difference(self, answer: Any) -> Array:
        """Return answer - truth where it is certain, towards zero by the radius."""
        with np.errstate(invalid="ignore"):
            gap = (np.asarray(answer, float) - self.hi) - self.lo
            short = np.maximum(np.abs(gap) - self.radius, 0.0)
        return np.copysign(short, gap)


@dataclass(frozen=True)
class Case:
    """A problem and its certified answers."""

    name: str
    kind: str
    sizes: dict[str, int]
    """N sequences, T steps, D dimensions, K states, P observed numbers."""
    inputs: dict[str, Any] = field(repr=False)
    """Arrays by dotted name: ``natural.*``, ``standard.*``, ``cotangent.*`` and
    ``direction.*``."""
    expected: dict[str, Certified] = field(repr=False)
    quantities: dict[str, dict[str, Any]] = field(repr=False)
    """The shape of every quantity and the condition number of its real values."""
    origin: str = ""
    """Where the problem comes from, a sentence."""
    catches: tuple[str, ...] = ()
    """Mistakes that this case shows."""
    tags: tuple[str, ...] = ()
    derivations: tuple[str, ...] = ()
    """The independent ways by which the answers were found."""
    conventions: dict[str, Any] = field(default_factory=dict, repr=False)
    natural: str = ""
    """How the natural parameters of a standard problem relate to it."""
    family: str = ""
    model: str = ""
    generator: dict[str, Any] = field(default_factory=dict)
    """Of a digest: the function in `GENERATORS` that makes inputs, and arguments."""

    def condition(self, quantity: str) -> float:
        """Return the relative change of an answer over that of all inputs.

        It is at least the root of the number of steps: so many rounding errors, each
        of the size of the answer and of either sign, meet in a sum over time.
        """
        stored = float(self.quantities[quantity].get("condition", 1.0))
        return max(stored, math.sqrt(self.sizes.get("T", 1)))


def names(folder: str | Path = CERTIFIED) -> list[str]:
    """Return the names of the cases in a folder, in alphabetical order."""
    return sorted(path.parent.name for path in Path(folder).glob("*/case.json"))


def load(name: str | Path) -> Case:
    """Read a case.

    Parameters
    ----------
    name : str or Path
        The name of a case of the package, or a folder that holds one.

    Returns
    -------
    Case
        Of a digest the inputs that its generator makes are among the inputs.

    Raises
    ------
    ValueError
        If there is no such case, or if its schema is not `SCHEMA`.
    """
    folder = next(
        (path for path in (CERTIFIED / name, Path(name)) if path.is_dir()), None
    )
    if folder is None or not (folder / "case.json").is_file():
        raise ValueError(
            f"{str(name)!r} is neither one of the {len(names())} certified cases "
            "(`svae crosscheck list`) nor a folder with a case.json"
        )
    document = json.loads((folder / "case.json").read_text())
    if document.pop("schema", None) != SCHEMA:
        raise ValueError(f"{folder / 'case.json'} has another schema than {SCHEMA}")
    for key in ("tags", "catches", "derivations"):
        document[key] = tuple(document.get(key, ()))
    inputs = _read(folder / "inputs.npz")
    if rule := document.get("generator"):
        inputs |= GENERATORS[rule["name"]](**rule.get("arguments", {}))
    arrays = _read(folder / "expected.npz")
    expected = {}
    for quantity in document["quantities"]:
        hi = arrays[f"{quantity}.hi"]
        zero = np.zeros(hi.shape)
        lo, radius = (
            arrays.get(f"{quantity}.{part}", zero) for part in ("lo", "radius")
        )
        expected[quantity] = Certified(hi, lo, radius)
    return Case(inputs=inputs, expected=expected, **document)


def write(case: Case, folder: str | Path) -> None:
    """Write a case into a folder, which is made if it is not there.

    Parameters
    ----------
    case : Case
    folder : str or Path
        The folder of the case itself, not that of all cases.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA}
    document |= {key: getattr(case, key) for key in DOCUMENT if getattr(case, key)}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    text = SHAPE.sub(lambda found: "".join(found[0].split()).replace(",", ", "), text)
    (folder / "case.json").write_text(text + "\n", encoding="utf-8")
    rule = case.generator
    made = GENERATORS[rule["name"]](**rule.get("arguments", {})) if rule else {}
    kept = {name: x for name, x in case.inputs.items() if name not in made}
    np.savez_compressed(folder / "inputs.npz", **kept)
    arrays = {}
    for quantity, (hi, lo, radius) in case.expected.items():
        arrays[f"{quantity}.hi"] = hi
        if np.asarray(hi).dtype == float:
            arrays |= {f"{quantity}.lo": lo, f"{quantity}.radius": radius}
    np.savez_compressed(folder / "expected.npz", **arrays)


def sections(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the arrays whose dotted names begin with a word, by what follows it.

    Examples
    --------
    >>> sections({"natural.init.J": 1, "standard.A": 2}, "natural")
    {'init.J': 1}
    """
    start = prefix + "."
    return {
        name.removeprefix(start): x
        for name, x in arrays.items()
        if name.startswith(start)
    }


def nested(arrays: Mapping[str, Any], prefix: str, *parts: str) -> tuple[Any, ...]:
    """Return arrays of one dotted prefix in the order of their last words.

    Examples
    --------
    >>> nested({"natural.init.J": 1, "natural.init.h": 2}, "natural.init", "J", "h")
    (1, 2)
    """
    return tuple(arrays[f"{prefix}.{part}"] for part in parts)


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def quadratic_residues(steps: int, width: int, seed: int, bits: int) -> Array:
    """Return (steps, width) integers r < 65521, as (r - 32760) / 2**bits exactly.

    r[t, k] = (a t^2 + b t + c) mod 65521 with a, b, c = seed + 2k + 1, 7 seed + 11k,
    13 seed + 101k: every operation is one of integers, so any language makes them.
    """
    prime = 65521
    t, k = np.arange(steps, dtype=np.int64)[:, None] % prime, np.arange(width)
    a, b, c = seed + 2 * k + 1, 7 * seed + 11 * k, 13 * seed + 101 * k
    r = ((t * t % prime) * a + b * t + c) % prime
    return (r - 32760) / 2.0**bits


def _long_nodes(T: int, K: int, seed: int, bits: int) -> dict[str, Any]:
    return {"natural.node": quadratic_residues(T, K, seed, bits)[None]}


def _long_observations(T: int, seed: int, bits: int) -> dict[str, Any]:
    return {"standard.y": quadratic_residues(T, 1, seed, bits)[None]}


def _long_evidence(T: int, seed: int, bits: int) -> dict[str, Any]:
    residues = quadratic_residues(T, 2, seed, bits)[None]
    precision = (residues[..., :1] + 32760 / 2.0**bits) + 2.0**-3
    return {"natural.node.J": -precision / 2, "natural.node.h": residues[..., 1:]}


GENERATORS: dict[str, Callable[..., dict[str, Any]]] = {
    "long_nodes": _long_nodes,
    "long_observations": _long_observations,
    "long_evidence": _long_evidence,
}
"""Makers of the inputs of digests, from `quadratic_residues`."""
