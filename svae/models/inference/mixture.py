r"""Mixtures whose labels are independent or a Markov chain, with evidence for each x.

.. math:: q(x, z) = \tfrac1Z\, q(z) \prod_t
          \mathcal{N}(x_t; \mu_{z_t}, \Sigma_{z_t})\, e^{\langle r_t, t(x_t) \rangle}

is a Gaussian for every state at every step and, the x integrated out, a Markov chain
whose node potentials are their log normalizers: exact, without a mean field (Lin et al.
2018, Section 3).  In information form evidence of zero is legal: it leaves q(z) as it
is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import joined, value_of
from svae.families.arrays import outer
from svae.models.base import Exact, Local
from svae.models.evidence import Belief, Evidence, first_states
from svae.models.inference.filtering import states_filter
from svae.models.inference.one_step import Ascent, local_factor
from svae.models.inference.potentials import (
    dense,
    each_sequence,
    gaussian_natparams,
    independent,
    split,
)
from svae.models.inference.prediction import ByState
from svae.models.inference.switches import where_scored
from svae.models.inference.switching import Switching, markov_potentials
from svae.models.transport import inflations, student
from svae.types import Array, Message

__all__ = ["Mixture", "MixtureStatistics"]


class MixtureStatistics(NamedTuple):
    """What E[t(z, x)] of each sequence is made of."""

    first: Array
    """(N, K), probabilities of z_1."""
    pairs: Array
    """(N, 1, K, K), expected transitions."""
    states: Array
    """(N, T, K), probabilities of z_t; zero at steps without data."""
    features: Array
    """(N, T, K, D D + D), E[x x'] and E[x] given z_t = k."""
    samples: Any
    """(S, N, T, K, D), samples of x given z_t = k, or None."""
    belief: Belief | None


class Mixture(Switching):
    """A model of which x_t is a Gaussian that z_t selects."""

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Find the mean-field fixed point; see `LatentModel.infer`.

        Sequences of one step are points.
        """
        if evidence.h.shape[1] > 1:
            local = super().infer(message, evidence, noise, starts)
        else:
            ascent = Ascent(self.tolerance, self.max_iterations, self.starts, starts)
            local = local_factor(self.switch, ascent, message, evidence, noise)
        if evidence.observed is None:
            return local
        return filled(
            self.switch, self.switch.natparams(message), local, noise, evidence
        )

    @property
    def graph(self) -> Any:
        """Itself; see `StructuredModel`."""
        return self

    def exact(
        self,
        graph: Any,
        evidence: Evidence,
        noise: Array | None = None,
        *,
        uniforms: Array | None = None,
        without_data: Any = None,
    ) -> Exact:
        """Return the graph with evidence; see `svae.models.inference.structured`."""
        valid, observed, belief = evidence.valid, evidence.observed, evidence.belief
        natparams, constant = gaussian_natparams(graph["components"])
        if noise is not None:
            noise = for_each_state(noise, self.num_states)
        dofs = None
        if observed is not None and without_data is not None:
            of_prior, dofs = map(value_of, without_data)
            # autograd's where does not sum what comes back for a broadcast argument
            everywhere = natparams + onp.zeros((*observed.shape, 1, 1))
            natparams = np.where(observed[..., None, None], everywhere, of_prior)
            if noise is not None and dofs is not None:
                noise = with_tails(noise, dofs, evidence.missing)
        x = given_states(split(natparams, self.latent_dim), evidence.cleared(), noise)
        init, pair = markov_potentials(graph)
        chain = (
            first_states(each_sequence(init, valid), belief),
            each_sequence(pair, valid, per_step=True),
            where_scored(observed, x.log_normalizer + constant),
        )
        lengths = evidence.lengths
        log_normalizer, (first, pairs, states) = kernels.markov_chain(*chain, lengths)
        samples, weights = x.samples, None
        if uniforms is not None:
            paths = kernels.sample_markov_chain(*chain, uniforms, lengths)
            samples = of_paths(value_of(x.samples), paths)
        elif samples is not None:
            samples, weights = stacked(samples, states)
        scored = states if observed is None else states * observed[..., None]
        features = joined(3, x.second_moment, x.mean)
        second_moment = (states[..., None, None] * x.second_moment).sum(axis=2)
        if dofs is not None:
            spread = x.second_moment - outer(x.mean, x.mean)
            second_moment = second_moment + excess(
                value_of(states), value_of(spread), dofs, evidence.missing
            )
        return Exact(
            log_normalizer,
            (scored * x.expected_evidence).sum(axis=(1, 2)),
            (states[..., None] * x.mean).sum(axis=2),
            second_moment,
            samples,
            weights,
            MixtureStatistics(first, pairs, scored, features, x.samples, belief),
            states,
            chain[2],
        )

    def prefixes(self, graph: Any, evidence: Evidence) -> ByState:
        """Return what the graph up to each step says of it; see `filtering`."""
        natparams, constant = gaussian_natparams(graph["components"])
        x = given_states(split(natparams, self.latent_dim), evidence, None)
        given = (
            x.log_normalizer + constant,
            x.mean,
            x.second_moment - outer(x.mean, x.mean),
        )
        return states_filter(*markov_potentials(graph), given, evidence)

    def without_data(self, stats: Message) -> tuple[Any, Any]:
        """Return P of x given each state, and degrees of freedom (K,) if it has any."""
        return gaussian_natparams(stats["components"])[0], None

    def expected_log_density(self, stats: Message, q: Exact) -> Array:
        """Return the expectation of E log p(x, z | theta), (N,), under an exact q."""
        emissions = self.expected_emissions(stats, q.statistics)
        return expected_log_chain(stats, q.statistics) + np.sum(
            q.statistics.states * emissions, axis=(1, 2)
        )

    def expected_emissions(self, stats: Message, of: MixtureStatistics) -> Array:
        """Return the expectation of E log p(x_t | z_t = k, theta), (N, T, K)."""
        switch, natparams = self.switch, self.switch.natparams(stats)
        linear = switch.linear_potentials_of_each(of.features, natparams)
        return switch.state_potentials(linear, natparams)


def filled(
    switch: Any,
    natparams: Sequence[Any],
    local: Local,
    noise: Array | None,
    evidence: Evidence,
) -> Local:
    """Give steps without data the law of the mixture, as constants."""
    missing = evidence.missing
    if not missing.any():
        return local
    if noise is not None:
        noise = onp.moveaxis(value_of(noise), 1, 0)[:, missing]
    natparams = [value_of(part) for part in natparams]
    found = switch.unobserved(value_of(local.states)[missing], natparams, noise)

    def put(steps: Any, values: Array) -> Array:
        """Replace those of (N, T, ...) steps that are missing."""
        full = onp.zeros(steps.shape)
        full[missing] = values
        where = missing.reshape(missing.shape + (1,) * (full.ndim - 2))
        return np.where(where, full, steps)

    mean, second_moment, samples = found
    local = local._replace(
        mean=put(local.mean, mean),
        second_moment=put(local.second_moment, second_moment),
    )
    if noise is None:
        return local
    drawn = put(np.moveaxis(local.samples, 1, 2), onp.moveaxis(samples, 0, 1))
    return local._replace(samples=np.moveaxis(drawn, 2, 1))


class GivenStates(NamedTuple):
    """x_t given z_t = k, with its evidence."""

    log_normalizer: Array
    """(N, T, K)"""
    expected_evidence: Array
    """(N, T, K), the expectation of <r_t, t(x_t)>."""
    second_moment: Array
    """(N, T, K, D, D)"""
    mean: Array
    """(N, T, K, D)"""
    samples: Any
    """(S, N, T, K, D), or None without noise."""


def for_each_state(noise: onp.ndarray, num_states: int) -> onp.ndarray:
    """Repeat the noise (N, S, T, D) of a step for all states: (S, N, T, K, D)."""
    return onp.repeat(onp.moveaxis(noise, 1, 0)[:, :, :, None], num_states, 3)


def with_tails(
    noise: onp.ndarray, dofs: onp.ndarray, missing: onp.ndarray
) -> onp.ndarray:
    """Give noise (S, N, T, K, D) of steps without data the tails of each state."""
    noise = noise.copy()
    for state, dof in enumerate(dofs):
        noise[:, missing, state] = student(noise[:, missing, state], dof)
    return noise


def excess(
    states: onp.ndarray, covs: onp.ndarray, dofs: onp.ndarray, missing: onp.ndarray
) -> onp.ndarray:
    """Return what tails add to second moments (N, T, D, D) of steps without data.

    Infinite where a state of finite probability has none.
    """
    inflation, heavy = inflations(dofs)
    weights = states * (inflation - 1.0) * missing[..., None]
    more = onp.einsum("ntk,ntkij->ntij", weights, covs)
    more[missing & onp.any(states[..., heavy] > 0, axis=-1)] = onp.inf
    return more


def given_states(graph: Any, evidence: Evidence, noise: Array | None) -> GivenStates:
    """Combine Gaussians (..., K, D, D), (..., K, D) with node potentials."""
    J, h = dense(evidence.J)[:, :, None], evidence.h[:, :, None]
    logZ, second, mean, samples = independent(graph[0] + J, graph[1] + h, noise)
    expected = (J * second).sum(axis=(-2, -1)) + (h * mean).sum(axis=-1)
    return GivenStates(logZ, expected, second, mean, samples)


def expected_log_chain(stats: Message, of: MixtureStatistics) -> Array:
    """Return the expectation of E log p(z | theta), (N,).

    Of a sequence with a belief: of what follows z_1.
    """
    init, pair = markov_potentials(stats)
    first = np.dot(of.first, init)
    if of.belief is not None:
        first = np.where(of.belief.given, 0.0, first)
    if "transitions" not in stats:
        return first
    return first + (of.pairs * pair).sum(axis=(1, 2, 3))


def stacked(samples: Array, states: Array) -> tuple[Any, Any]:
    """Line up samples (S, N, T, K, D) as (N, S K, T, D), with their probabilities."""
    number, _, steps, num_states, dim = samples.shape
    sequences = samples.shape[1]
    samples = np.reshape(
        np.transpose(samples, (1, 0, 3, 2, 4)),
        (sequences, number * num_states, steps, dim),
    )
    weights = np.transpose(states, (0, 2, 1)) / number
    return samples, np.concatenate([weights] * number, axis=1)


def of_paths(samples: onp.ndarray, paths: onp.ndarray) -> onp.ndarray:
    """Select from samples (S, N, T, K, D) those of paths (N, S, T): (N, S, T, D)."""
    states = onp.maximum(onp.moveaxis(paths, 1, 0), 0)[..., None, None]
    chosen = onp.take_along_axis(samples, states, axis=3)[..., 0, :]
    return onp.moveaxis(chosen, 0, 1)
