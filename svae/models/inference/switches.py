r"""What a discrete state selects of a Gaussian chain: a node, or a pair.

Given z, natural parameters of x are a row of a matrix P, which has one for each state;
given x, the potentials of z are features of x times P'.

.. math:: \eta_x = P' s_z + r, \qquad u_z = P\, \mathbb{E}[f(x)] + c .

The switch has P and c; what it makes of P f are the potentials, c added.

With `Emission` the state selects the node, x_t ~ N(mu_z, Sigma_z), and given z the x_t
are independent (GMM, HMM); with `Dynamics` it selects the pair, x_t = A_z x_{t-1} +
noise, and z_1 the initial factor (SLDS).  In both, z_t selects the law of x_t given
x_{t-1} (Fox et al. 2009 and the authors' code; Johnson et al. 2016 write A_{z_n} x_n in
Section 2.2, the same model with the index of z shifted by one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, primitive

from svae import kernels
from svae.autodiff.operations import cut, joined, multiply, value_of
from svae.families.arrays import matvec, outer
from svae.models.base import LOG_2PI, half_log_det
from svae.models.evidence import Belief, Evidence
from svae.models.inference import ancestral
from svae.models.inference.potentials import (
    begin,
    dense,
    gaussian_natparams,
    log_normalizer_of,
    mixed,
    moments,
    pair_natparams,
    shift,
    split,
    split_pair,
)
from svae.models.transport import select
from svae.types import Array, Mask, Message

__all__ = ["Dynamics", "Emission", "Factor"]


class Factor(NamedTuple):
    """q(x), optimal for given probabilities of the states."""

    log_normalizer: Array
    """(N,)"""
    linear: Array
    """P f of every step, (N, T, K)."""
    mean: Array
    """(N, T, D)"""
    second_moment: Array
    """(N, T, D, D), or its diagonal (N, T, D) for diagonal node potentials."""
    samples: Any
    half_log_det: Array
    """(N,)"""


@dataclass(frozen=True)
class Emission:
    """The state selects the Gaussian of its step.

    ``natparams`` are P (K, D D + D), natural parameters (J, h), and c (K,).  A step
    without data has no part in the law of z, and its x given z is the prior's.
    """

    dim: int
    num_natparams: ClassVar[int] = 2
    conjugate: ClassVar[bool] = True
    """Whether the potentials of z are linear in P f."""

    def natparams(self, stats: Message) -> tuple[Any, ...]:
        """Return P and c of expected statistics, leading axes kept."""
        return gaussian_natparams(stats["components"])

    def factor(
        self,
        states: Array,
        natparams: Sequence[Any],
        evidence: Evidence,
        noise: Array | None = None,
    ) -> Factor:
        """Return q(x): a chain without couplings."""
        J, h = mixed(states, split(natparams[0], self.dim))
        if (observed := evidence.observed) is not None:
            J = np.where(observed[..., None, None], J, -0.5 * onp.eye(self.dim))
            h = np.where(observed[..., None], h, 0.0)
        J, h = J + dense(evidence.J), h + evidence.h
        nothing = onp.zeros((self.dim, self.dim))
        logZ, stats, samples = kernels.unchecked_gaussian_chain(
            (nothing, nothing[0]), (nothing,) * 3, (J, h), noise, evidence.lengths
        )
        second_moment, mean = stats[2]
        features = self.features(second_moment, mean)
        linear = self.linear_potentials(features, natparams)
        half = half_log_det(logZ, h, mean, evidence.lengths)
        factor = Factor(logZ, linear, mean, second_moment, samples, half)
        if observed is None:
            return factor
        logZ = logZ - 0.5 * self.dim * LOG_2PI * evidence.missing.sum(axis=1)
        return factor._replace(log_normalizer=logZ)

    def unobserved(
        self, states: onp.ndarray, natparams: Sequence[Any], noise: Array | None
    ) -> tuple[Any, Any, Any]:
        """Return means, second moments and samples of x of which there are no data.

        Their law is the mixture of all components, from ``states`` (n, K): samples
        (S, n, D), if there is noise, have drawn a state first.
        """
        covs, means = moments(*split(natparams[0], self.dim))
        mean = states @ means
        second_moment = onp.tensordot(states, covs + outer(means, means), 1)
        if noise is None:
            return mean, second_moment, None
        chosen, first = select(states, noise[..., 0])
        noise = onp.concatenate([first[..., None], noise[..., 1:]], axis=-1)
        samples = onp.empty(noise.shape)
        for state, root in enumerate(onp.linalg.cholesky(covs)):
            where = chosen == state
            deviation = self.deviation(noise[where], natparams, state)
            samples[where] = means[state] + deviation @ root.T
        return mean, second_moment, samples

    def deviation(
        self, noise: onp.ndarray, natparams: Sequence[Any], state: int
    ) -> onp.ndarray:
        """Return draws (..., D) of x given a state, of mean 0 and scale 1."""
        return noise

    def conditionals(self, natparams: Sequence[Any]) -> tuple[Any, ...]:
        """Return P, c and the law of tails (b, nu, weights), as `kernels.mixture`."""
        return (*natparams, None, None, None)

    def features(self, second_moment: Array, mean: Array) -> Array:
        """Return f (..., F), what P multiplies, of moments of x."""
        return joined(mean.ndim - 1, second_moment, mean)

    def linear_potentials(self, features: Any, natparams: Sequence[Any]) -> Array:
        """Return P f, (N, T, K)."""
        return multiply(features, natparams[0].T)

    def linear_potentials_given(
        self, states: Array, natparams: Sequence[Any], evidence: Evidence
    ) -> Array:
        """Return P f, (N, T, K), of x given probabilities of the states."""
        return kernels.unchecked_mixture_evidence(
            natparams[0], evidence.node, evidence.scored, states
        )[0]

    def linear_potentials_of_each(
        self, features: Any, natparams: Sequence[Any]
    ) -> Array:
        """Return P f, (..., K), of features (..., K, F) given each state."""
        return np.sum(features * natparams[0], axis=-1)

    def state_potentials(self, linear: Array, natparams: Sequence[Any]) -> Array:
        """Return the potentials of z (..., K) of linear ones, P f."""
        return linear + natparams[1]

    def scored(self, evidence: Evidence) -> Mask | None:
        """Mask (N, T) of the steps that tell of z, or None if all do."""
        return evidence.observed

    def of_points(self, latents: Array) -> Any:
        """Return the features of known x."""
        return self.features(outer(latents, latents), latents)

    def scored_points(self, observed: Mask | None) -> Mask | None:
        """Mask (N, T) of the known x that tell of z."""
        return observed

    def start(self, natparams: Sequence[Any], evidence: Evidence) -> onp.ndarray:
        """Return P f for a start: x integrated out, exact for known components."""
        return kernels.mixture_evidence(natparams[0], evidence.node, None, None)[0]

    def path(
        self,
        states: onp.ndarray,
        natparams: Sequence[Any],
        noise: Array,
        belief: Belief | None,
    ) -> tuple[Any, Any, Any]:
        """Return samples, mean and covariance of x on paths of states (S, H)."""
        law = ancestral.gaussian_law(*split(natparams[0], self.dim))
        mean = ancestral.of_path(law.mean, states)
        root = ancestral.of_path(law.root, states, axes=2)
        return mean + matvec(root, noise), mean, ancestral.square(root)


@dataclass(frozen=True)
class Dynamics:
    """The state selects the law of x_t given x_{t-1}, at the first step that of x_1.

    ``natparams`` are P (K, D D + D) and c of the initial factor, then P (K, 3 D D), or
    (K, 3 D D + 2 D) for affine dynamics, and c of the pairs.
    """

    dim: int
    affine: bool = False
    num_natparams: ClassVar[int] = 4
    conjugate: ClassVar[bool] = True

    def natparams(self, stats: Message) -> tuple[Any, Any, Any, Any]:
        """Return P and c of initial factors and of pairs, leading axes kept."""
        return (
            *gaussian_natparams(stats["init"]),
            *pair_natparams(stats["dynamics"], self.dim),
        )

    def factor(
        self,
        states: Array,
        natparams: Sequence[Any],
        evidence: Evidence,
        noise: Array | None = None,
    ) -> Factor:
        """Return q(x): a chain whose pair potentials change from step to step."""
        init, (logZ, linear, moments, samples) = self._chain(
            states, natparams, evidence, noise
        )
        second_moment, mean = moments
        h = self._linear_terms(init, states, natparams, evidence)
        half = half_log_det(logZ, h, mean, evidence.lengths)
        logZ = logZ - log_normalizer_of(evidence.belief)
        return Factor(logZ, linear, mean, second_moment, samples, half)

    def _chain(
        self,
        states: Array,
        natparams: Sequence[Any],
        evidence: Evidence,
        noise: Array | None = None,
    ) -> tuple[Any, Any]:
        """Return initial potentials of x; its log Z, P f, moments and samples."""
        init = split(np.dot(states[:, 0], natparams[0]), self.dim)
        init = begin(init, evidence.belief)
        later = cut(states, 1, 1, states.shape[1])
        logZ, stats, of_later, samples = kernels.unchecked_switching_gaussian_chain(
            init, natparams[2], later, evidence.node, noise, evidence.lengths
        )
        of_first = multiply(joined(1, *stats[0]), natparams[0].T)[:, None]
        linear = np.concatenate([of_first, of_later], axis=1)
        return init, (logZ, linear, stats[2], samples)

    def _linear_terms(
        self, init: Any, states: Array, natparams: Sequence[Any], evidence: Evidence
    ) -> onp.ndarray:
        """Return what multiplies x in the chain, (N, T, D), a constant."""
        shifts = None
        if self.affine:
            later, rows = value_of(states)[:, 1:], value_of(natparams[2])
            shifts = mixed(later, split_pair(rows, self.dim)[1])
        h = shift(value_of(evidence.h), shifts) + 0.0
        h[:, 0] += value_of(init[1])
        return h

    def linear_potentials(self, features: Any, natparams: Sequence[Any]) -> Array:
        """Return P f, (N, T, K)."""
        first, later = features
        linear = [
            multiply(first, natparams[0].T)[:, None],
            multiply(later, natparams[2].T),
        ]
        return np.concatenate(linear, axis=1)

    def linear_potentials_given(
        self, states: Array, natparams: Sequence[Any], evidence: Evidence
    ) -> Array:
        """Return P f, (N, T, K), of x given probabilities of the states."""
        _, (_, linear, *_) = self._chain(states, natparams, evidence)
        return where_scored(self.scored(evidence), linear)

    def state_potentials(self, linear: Array, natparams: Sequence[Any]) -> Array:
        """Return the potentials of z (N, T, K) of linear ones, P f."""
        return _with_constants(linear, natparams[1], natparams[3])

    def scored(self, evidence: Evidence) -> Mask | None:
        """Mask (N, T) of the steps that tell of z, or None if all do.

        The first step of a sequence that begins with a belief does not: its x has the
        law of the belief.  Frames without data are tied to their neighbours' x and do.
        """
        if evidence.belief is None:
            return None
        later = onp.arange(evidence.h.shape[1]) > 0
        return later | ~evidence.belief.given[:, None]

    def of_points(self, latents: Array) -> Any:
        """Return the features of known x."""
        x, y = latents[:, :-1], latents[:, 1:]
        first = latents[:, 0]
        features = [outer(x, x), outer(x, y), outer(y, y)]
        if self.affine:
            features += [x, y]
        return joined(1, outer(first, first), first), joined(2, *features)

    def scored_points(self, observed: Mask | None) -> Mask | None:
        """Mask (N, T) of the known x that tell of z: a pair needs both of its own."""
        if observed is None:
            return None
        both = observed[:, 1:] & observed[:, :-1]
        return onp.concatenate([observed[:, :1], both], axis=1)

    def start(self, natparams: Sequence[Any], evidence: Evidence) -> onp.ndarray:
        """Return P f for a start, as if x were known, at means of the frames alone.

        A frame's x_t has the initial factor, averaged over states, and its evidence.
        The variances stay out: they would speak for the state of largest noise.
        """
        average = onp.mean(natparams[0], axis=0, keepdims=True)
        one = onp.ones((*evidence.node[1].shape[:-1], 1))
        mean = kernels.mixture_evidence(average, evidence.node, None, one)[2]
        assert mean is not None
        return self.linear_potentials(self.of_points(mean), natparams)

    def path(
        self,
        states: onp.ndarray,
        natparams: Sequence[Any],
        noise: Array,
        belief: Belief | None,
    ) -> tuple[Any, Any, Any]:
        """Return samples, mean and covariance of x on paths of states (S, H)."""
        first = split(ancestral.of_path(natparams[0], states[:, 0]), self.dim)
        transitions = ancestral.transition(*split_pair(natparams[2], self.dim))
        law = ancestral.gaussian_law(*begin(first, belief))
        return ancestral.gaussian_path(law, transitions, states, noise)


@primitive
def _with_constants(linear: Array, first: Array, later: Array) -> Array:
    """Add a constant (K,) to the first row of each (N, T, K), another to the others."""
    potentials = linear + later
    potentials[:, 0] = linear[:, 0] + first
    return potentials


defvjp(
    _with_constants,
    lambda ans, *_: lambda g: g,
    lambda ans, *_: lambda g: np.sum(g[:, 0], axis=0),
    lambda ans, *_: lambda g: np.sum(np.sum(g, axis=0)[1:], axis=0),
)


def linear_potentials_of_factor(
    switch: Any, states: Array, natparams: Sequence[Any], evidence: Evidence
) -> Array:
    """Return P f, (N, T, K), of q(x) that is optimal for probabilities of states."""
    factor = switch.factor(states, natparams, evidence)
    return where_scored(switch.scored(evidence), factor.linear)


def where_scored(scored: Mask | None, potentials: Array) -> Array:
    """Set the potentials (N, T, K) of steps that tell nothing of z to zero."""
    if scored is None:
        return potentials
    return np.where(scored[..., None], potentials, 0.0)
