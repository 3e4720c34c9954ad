"""The chains of this package."""

from typing import Any

from svae import kernels
from svae.autodiff.vjp import trace
from svae.profile.packages.prepared import Answers, Model, Prepared, weights
from svae.profile.systems import log_constant, potentials

__all__ = ["hmm", "hmm_gradient", "lds", "lds_gradient"]


def lds(model: Model) -> Prepared:
    """Return what the chain returns, samples aside."""
    arguments, constant = potentials(model), log_constant(model)

    def answers(result: Any) -> Answers:
        logZ, (_, _, (square, mean)), _ = result
        return logZ + constant, mean, square - mean**2

    return Prepared(lambda: kernels.gaussian_chain(*arguments), answers)


def lds_gradient(model: Model) -> Prepared:
    """Differentiate a weighted sum of means and variances in all potentials."""
    init, pair, node = potentials(model)
    of_mean, of_variance = weights(model["y"].shape)

    def value(*flat: Any) -> tuple[Any]:
        _, (_, _, (square, mean)), _ = kernels.gaussian_chain(
            flat[:2], flat[2:5], flat[5:]
        )
        return ((of_mean * mean + of_variance * (square - mean**2)).sum(),)

    def call() -> Any:
        pull_back, _ = trace(value, (*init, *pair, *node))
        return pull_back(1.0)

    # h_t = y_t / R_t is the last potential
    return Prepared(call, lambda potentials_bar: (potentials_bar[6] / model["R"],))


def hmm(model: Model) -> Prepared:
    """Return what the chain returns, samples aside."""
    arguments = potentials(model)
    return Prepared(
        lambda: kernels.markov_chain(*arguments),
        lambda result: (result[0], result[1][2]),
    )


def hmm_gradient(model: Model) -> Prepared:
    """Differentiate the log likelihood in all potentials."""
    start, transition, nodes = potentials(model)

    def value(*flat: Any) -> tuple[Any]:
        return (kernels.markov_chain(*flat)[0].sum(),)

    def call() -> Any:
        pull_back, _ = trace(value, (start, transition, nodes))
        return pull_back(1.0)

    # the log likelihoods of states are the last potential
    return Prepared(call, lambda potentials_bar: (potentials_bar[2],))
