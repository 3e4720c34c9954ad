"""Our answers to the cases of families and latent models.

A function for each kind, from a case's inputs to its quantities, made of what is
public: `svae.families`, the ``infer`` and ``exact`` of `svae.models`, `svae.kernels`,
and `svae.objective`.
"""

import warnings
from collections.abc import Mapping
from itertools import product
from typing import Any

import autograd.numpy as anp
import numpy as np
from scipy.special import logsumexp

from svae import families, kernels, likelihoods
from svae.autodiff.operations import inner, value_of
from svae.autodiff.vjp import trace
from svae.crosscheck.cases import sections
from svae.crosscheck.factors import FACTORS, natparams_of, statistics_of
from svae.families import (
    categorical,
    dirichlet,
    gaussian,
    mniw,
    niw,
    wishart,
)
from svae.families import (
    product as product_of_families,
)
from svae.models import GMM, HMM, LDS, SLDS, Evidence, Gaussian, StudentMixture
from svae.models.inference import structured
from svae.models.inference.fixed_point import ConvergenceWarning
from svae.models.inference.potentials import dense
from svae.models.inference.switching import expected_evidence, markov_potentials
from svae.networks import log_likelihood
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound_and_gradients
from svae.objective.local import expected, infer
from svae.objective.model import Generative, Parameters

__all__ = [
    "FEWER_DIGITS",
    "family",
    "inference_network",
    "mixture_bound",
    "natural_gradient",
    "switching_bound",
]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]

_OF_EVIDENCE = (
    "the KL divergence is the difference of expected evidence and log normalizer, here "
    "of order 10^4 both: it has four digits fewer than they have"
)
_OF_CERTAIN_STATES = (
    "the gradient in the potentials of a nearly certain state is minus that of all "
    "others, 1e-6 or less, with the rounding of a number of order one"
)
_OF_GRAPH = (
    "weights",
    "transitions",
    "components.quadratic",
    "components.half_log_det",
)
FEWER_DIGITS = {
    "student-bound-outlier": dict.fromkeys(("given.kl", "fixed.kl"), _OF_EVIDENCE),
    "hmm-inference-network-certain": {
        f"grad.graph.{name}": _OF_CERTAIN_STATES for name in _OF_GRAPH
    },
}
"""Quantities of cases of which rounding leaves fewer digits than there are, and why."""

FAMILIES = {
    ("J", "h"): gaussian,
    ("log_potentials",): categorical,
    ("alpha_minus_1",): dirichlet,
    ("S", "nu"): wishart,
    ("second", "weighted_mean", "kappa", "nu"): niw,
    ("column_precision", "weighted_mean", "second", "nu"): mniw,
}
"""The family of the names of its parameters, in the order of its tuples."""
FAMILY_OF = {"dirichlet": dirichlet, "niw": niw, "mniw": mniw}


def family(inputs: Inputs) -> Answers:
    """Log normalizer, expected statistics, KL and their gradients."""
    q = sections(inputs, "natural.q")
    names, module = next((n, f) for n, f in FAMILIES.items() if set(n) == set(q))
    arguments = {
        f"{role}.{name}": inputs[f"natural.{role}.{name}"]
        for role in "qp"
        for name in names
    }
    quantities = [f"expected_stats.{name}" for name in names]
    quantities += ["log_normalizer", "kl"]

    def answers(*boxes: Any) -> tuple[Any, ...]:
        q, p = boxes[: len(names)], boxes[len(names) :]
        stats = module.expected_stats(q)
        return *stats, module.log_normalizer(q), families.kl(module, q, p)

    pull_back, values = trace(answers, list(arguments.values()))
    gradient = pull_back(*(inputs[f"cotangent.{name}"] for name in quantities))
    found = dict(zip(quantities, values, strict=True))
    return found | {
        f"vjp.{name}": g for name, g in zip(arguments, gradient, strict=True)
    }


def mixture_bound(inputs: Inputs) -> Answers:
    """Bounds of mean-field inference: at given states, and at the fixed point."""
    potentials = sections(inputs, "natural")
    states = potentials.pop("states")
    model = latent_model(potentials)
    names = [name for name in potentials if name != "dof"]

    def local(*boxes: Any) -> Any:
        by_name = potentials | dict(zip(names, boxes, strict=True))
        return model.infer(
            statistics_of(by_name), evidence_of(by_name), starts=[states]
        )

    def bound(*boxes: Any) -> tuple[Any, ...]:
        found = local(*boxes)
        return found.log_normalizer, found

    with warnings.catch_warnings():
        # it goes on until nothing moves, or as long as it may
        warnings.simplefilter("ignore", ConvergenceWarning)
        pull_back, (_, fixed) = trace(bound, [potentials[name] for name in names])
        gradient = pull_back(np.ones(len(states)))
    found = {f"grad.{name}": g for name, g in zip(names, gradient, strict=True)}
    found |= {
        f"fixed.{name}": value_of(x)
        for name, x in {
            "bound": fixed.log_normalizer,
            "kl": fixed.kl,
            "expected_evidence": fixed.log_normalizer + fixed.kl,
            "mean": fixed.mean,
            "second_moment": fixed.second_moment,
            "state_potentials": fixed.state_potentials,
            "states": fixed.states,
        }.items()
    }
    found |= after_one_sweep(model, potentials, states)
    return found | exact_evidence(model, potentials)


switching_bound = mixture_bound


def after_one_sweep(model: Any, potentials: Mapping[str, Any], states: Any) -> Answers:
    """Return what one sweep finds: q(x) given states, then q(z) given q(x)."""
    evidence = evidence_of(potentials)
    switch, message = model.switch, statistics_of(potentials)
    natparams = switch.natparams(message)
    factor = switch.factor(states, natparams, evidence)
    u = switch.state_potentials(factor.linear, natparams)
    logZ, (_, _, updated) = kernels.markov_chain(*markov_potentials(message), u)
    expected = expected_evidence(evidence, factor)
    bound = factor.log_normalizer + logZ - inner(states, factor.linear)
    return {
        "given.bound": bound,
        "given.kl": expected - bound,
        "given.expected_evidence": expected,
        "given.mean": factor.mean,
        "given.second_moment": factor.second_moment,
        "given.state_potentials": u,
        "given.states": updated,
    }


def exact_evidence(model: Any, potentials: Mapping[str, Any]) -> Answers:
    """Return the log evidence that is bounded: of mixtures, exactly.

    A switching model has no way to it but this, path by path.
    """
    message = statistics_of(potentials)
    evidence = evidence_of(potentials)
    if isinstance(model, StudentMixture):
        return {}
    if not isinstance(model, SLDS):
        return {"log_evidence": model.exact(message, evidence).log_normalizer}
    N, T, _ = evidence.h.shape
    paths = np.array(list(product(range(model.num_states), repeat=T)))
    states = np.eye(model.num_states)[paths]
    switch, natparams = model.switch, model.switch.natparams(message)
    init, pair = markov_potentials(message)
    linear = np.zeros(states.shape)
    scores = (states * switch.state_potentials(linear, natparams)).sum((1, 2))
    scores += init[paths[:, 0]] + pair[paths[:, :-1], paths[:, 1:]].sum(1)
    log_evidence = []
    for n in range(N):
        J, h = (np.repeat(part[n : n + 1], len(paths), 0) for part in evidence.node)
        factor = switch.factor(states, natparams, Evidence(J, h))
        log_evidence.append(logsumexp(factor.log_normalizer + scores))
    return {"log_evidence": np.array(log_evidence)}


def evidence_of(potentials: Mapping[str, Any]) -> Evidence:
    """Return node potentials; J as matrices, as second moments are wanted whole."""
    return Evidence(dense(potentials["node.J"]), potentials["node.h"])


def latent_model(potentials: Mapping[str, Any]) -> Any:
    """Return the latent model whose potentials these are, as exact as it can be."""
    names, dim = set(potentials), potentials["node.h"].shape[-1]
    exactly: dict[str, Any] = {"tolerance": 1e-15, "max_iterations": 20000}
    if "weights" not in names:
        if "dynamics.J11" not in names:
            return Gaussian(dim)
        return LDS(dim, affine=potentials["dynamics.J11"].shape[-1] > dim)
    states = len(potentials["weights"])
    if "dynamics.J11" in names:
        affine = potentials["dynamics.J11"].shape[-1] > dim
        return SLDS(states, dim, affine=affine, **exactly)
    if "dof" in names:
        dof = float(potentials["dof"][0])
        return StudentMixture(states, dim, dof=dof, **exactly)
    kind = HMM if "transitions" in names else GMM
    return kind(states, dim, **exactly)


class Given:
    """A recognition network whose weights are what it says, whatever the data."""

    def init(self, rng: Any, in_dim: int, out_dim: int) -> Any:
        """Return nothing that matters: weights are given."""
        return {"location": np.zeros(out_dim), "scale": np.ones(out_dim)}

    def apply(self, weights: Any, inputs: Any) -> tuple[Any, Any]:
        """Return location and scale of the node potentials."""
        return weights["location"], weights["scale"]


class Layers:
    """A decoder of given weights: linear, after a layer of tanh if it has one."""

    def init(self, rng: Any, in_dim: int, out_dim: int) -> Any:
        """Return nothing that matters: weights are given."""
        return {"W": np.zeros((in_dim, out_dim)), "b": np.zeros(out_dim)}

    def apply(self, weights: Any, inputs: Any) -> tuple[Any, Any]:
        """Return mean and variance of frames."""
        x = inputs
        if "hidden.W" in weights:
            x = anp.tanh(anp.dot(x, weights["hidden.W"]) + weights["hidden.b"])
        mean = anp.dot(x, weights["W"]) + weights["b"]
        return mean, weights["variance"] + 0.0 * mean


def natural_gradient(inputs: Inputs) -> Answers:
    """Return the objective, its parts, and all of its gradients."""
    given = sections(inputs, "natural")
    posterior, prior = (
        natparams_of(sections(given, role)) for role in ("posterior", "prior")
    )
    stats = product_of_families.expected_stats(
        {name: FAMILY_OF[FACTORS[name].family] for name in posterior}, posterior
    )
    potentials = {
        name + word: x
        for name, factor in stats.items()
        for word, x in zip(FACTORS[name].statistics, factor, strict=True)
    }
    potentials |= {name: given[name] for name in given if name.startswith("node.")}
    potentials |= {"dof": given["dof"]} if "dof" in given else {}
    latent = latent_model(potentials)
    likelihood = likelihoods.Gaussian()
    model = Generative(latent, Given(), Layers(), likelihood, "point")
    encoder = {"location": given["node.h"], "scale": -2.0 * given["node.J"]}
    parameters = Parameters(posterior, encoder, sections(given, "decoder"))
    several = hasattr(latent, "num_states")
    batch = Batch(
        given["y"],
        scale=float(given["scale"][0]),
        starts=[given["states"]] if several else None,
    )
    noise = Noise(given["noise"], np.zeros(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        full, conjugate = (
            bound_and_gradients(model, parameters, prior, batch, noise, kind)
            for kind in ("full", "conjugate")
        )
        local = infer(model, stats, encoder, batch, noise.latents)
    found = {
        name: np.asarray([getattr(full.bound, name)])
        for name in ("objective", "reconstruction", "local_kl", "global_kl")
    }
    for word, step in (("natgrad", full), ("conjugate", conjugate)):
        for factor, parts in step.gradients.natparams.items():
            for name, x in zip(FACTORS[factor].parameters, parts, strict=True):
                found[f"{word}.{factor}{name}"] = x
    of_encoder = full.gradients.encoder
    found["grad.node.J"] = -2.0 * of_encoder["scale"]
    found["grad.node.h"] = of_encoder["location"]
    of_decoder = full.gradients.decoder
    found |= {f"grad.decoder.{name}": x for name, x in of_decoder.items()}
    found |= {"mean": local.mean, "samples": local.samples}
    states = local.states
    found["states"] = np.ones((*local.mean.shape[:2], 1)) if states is None else states
    return found


def inference_network(inputs: Inputs) -> Answers:
    """Log normalizer, moments, bound and gradients of an inference network."""
    given = sections(inputs, "natural")
    parts = {role: sections(given, role) for role in ("graph", "message", "decoder")}
    nodes = {name: given[name] for name in ("node.J", "node.h")}
    dof = {"dof": given["dof"]} if "dof" in given else {}
    latent = latent_model(parts["message"] | nodes | dof)
    arguments = {
        f"{role}.{name}": x for role, of in parts.items() for name, x in of.items()
    } | nodes
    ones = np.ones(len(given["y"]))

    def answers(*boxes: Any) -> tuple[Any, ...]:
        by_name = dict(zip(arguments, boxes, strict=True))
        graph, message, weights = (sections(by_name, role) for role in parts)
        local = structured.infer(
            latent,
            statistics_of(graph),
            statistics_of(message),
            evidence_of(by_name),
            given["noise"],
        )
        frames = log_likelihood(
            likelihoods.Gaussian(), Layers(), weights, local.samples, given["y"]
        )
        reconstruction = expected(frames, local.weights)
        return reconstruction - local.kl, local.log_normalizer, reconstruction, local

    pull_back, (bound, logZ, reconstruction, local) = trace(
        answers, list(arguments.values())
    )
    gradient = dict(zip(arguments, pull_back(ones), strict=True))
    stats = dict(zip(arguments, pull_back(None, ones), strict=True))
    found = {
        "log_normalizer": logZ,
        "kl": value_of(local.kl),
        "reconstruction": reconstruction,
        "bound": bound,
        "mean": value_of(local.mean),
        "second_moment": value_of(local.second_moment),
    }
    states = value_of(local.states)
    found["states"] = np.ones((*given["y"].shape[:2], 1)) if states is None else states
    found |= {f"grad.{name}": g for name, g in gradient.items()}
    graph = [name for name in arguments if name.startswith("graph.")]
    return found | {f"stats.{n.removeprefix('graph.')}": stats[n] for n in graph}
