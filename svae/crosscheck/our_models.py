"""Our answers to the cases of families and latent models.

A function for each kind, from a case's inputs to its quantities, made of what is
public: `svae.families`, the ``infer`` and ``exact`` of `svae.models`, `svae.kernels`,
and `svae.objective`.
"""

from collections.abc import Mapping
from typing import Any

from svae import families
from svae.autodiff.vjp import trace
from svae.crosscheck.cases import sections
from svae.families import categorical, dirichlet, gaussian, mniw, niw, wishart

__all__ = ["family"]

Inputs = Mapping[str, Any]
Answers = dict[str, Any]

FAMILIES = {
    ("J", "h"): gaussian,
    ("log_potentials",): categorical,
    ("alpha_minus_1",): dirichlet,
    ("S", "nu"): wishart,
    ("second", "weighted_mean", "kappa", "nu"): niw,
    ("column_precision", "weighted_mean", "second", "nu"): mniw,
}
"""The family of the names of its parameters, in the order of its tuples."""


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
