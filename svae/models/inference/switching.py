r"""Mean-field inference in Gaussian chains that a discrete state switches.

What GMM, HMM and SLDS share: the discrete factor q(z) is a Markov chain, the continuous
one q(x) a Gaussian chain, and a *switch*, `Emission` or `Dynamics`, says how the one
makes potentials for the other.  Sequences of length 1 are independent, which makes a
GMM an HMM.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import inner
from svae.models.base import (
    Diagnostics,
    Draw,
    Local,
    check_positive_int,
)
from svae.models.evidence import Belief, Evidence, first_states
from svae.models.inference import ancestral
from svae.models.inference.fixed_point import Alternation, fixed_point
from svae.models.inference.switches import Factor, where_scored
from svae.priors import HasPrior
from svae.types import Array, Integers, Mask, Message

__all__ = ["Switching", "markov_potentials"]

STARTS = ("data", "prior")


class Switching(HasPrior):
    """Mean-field inference, densities and draws of a model with switched potentials.

    A model, a dataclass, adds its prior, ``switch``, its sizes and the fields
    ``tolerance``, ``max_iterations`` and ``starts`` of the alternation.
    """

    num_states: int
    latent_dim: int
    tolerance: float
    max_iterations: int
    starts: tuple[str, ...]
    prior: Any

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive integers, and unknown starts."""
        check_positive_int(
            num_states=self.num_states,
            latent_dim=self.latent_dim,
            max_iterations=self.max_iterations,
        )
        check_starts(self.starts)
        self.prior.check()

    @property
    def switch(self) -> Any:
        """What the state selects: an `Emission` or `Dynamics`."""
        raise NotImplementedError

    @property
    def ascends(self) -> bool:
        """Whether natural steps of q(theta) given x never lower the bound.

        The log density of x is then convex in m; see `svae.conjugate`.
        """
        return True

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Find the mean-field fixed point; see `LatentModel.infer`."""
        switch, evidence = self.switch, evidence.cleared()
        solve = solver(switch, self.tolerance, self.max_iterations, self.starts)
        init, pair = markov_potentials(message)
        natparams = switch.natparams(message)
        # once: the ascent reads them again in every iteration, and does not look
        require_numbers(init, pair, natparams)
        node, noise, lengths = kernels.as_nodes(evidence.node, noise, evidence.lengths)
        evidence = evidence.with_node(*node)._replace(lengths=lengths)
        fixed, iterations, residual = solve(
            starts, evidence.constants(), init, pair, *natparams, *evidence.node
        )

        factor = switch.factor(fixed, natparams, evidence, noise)
        linear, potentials = state_potentials(
            switch, factor.linear, natparams, evidence
        )
        logZ, (_, _, states) = kernels.markov_chain(
            first_states(init, evidence.belief), pair, potentials, evidence.lengths
        )
        # KL(q(x) q(z) || exp E log p), with q(z) the optimal factor given q(x):
        # log q(x) = <P's + r, t(x)> - logZ_x, and q(z)'s terms are -logZ_z
        expected = expected_evidence(evidence, factor)
        kl = inner(fixed, linear) + expected - factor.log_normalizer - logZ
        return Local(
            factor.samples,
            kl,
            factor.mean,
            factor.second_moment,
            expected - kl,
            states,
            potentials,
            factor.half_log_det,
            Diagnostics(iterations, residual),
        )

    def log_density(
        self,
        stats: Message,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
        states: Array | None = None,
    ) -> Array:
        """Log of the sum over z of exp <stats, t(z, x)>, (N,); see `LatentModel`.

        ``states`` (N, T, K) bool says which states are possible; all by default.
        """
        return self.density_of(latents, lengths, observed)(stats, states)

    def density_of(
        self,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
    ) -> Callable[..., Array]:
        """Return `log_density` of these latents, a function of stats and ``states``.

        Their features are made once: an ascent asks again and again.
        """
        features = self.switch.of_points(latents)
        scored = self.switch.scored_points(observed)

        def density(stats: Message, states: Array | None = None) -> Array:
            init, pair = markov_potentials(stats)
            potentials = self._state_potentials(stats, features, scored)
            if states is not None:
                potentials = np.where(states, potentials, -onp.inf)
            return kernels.markov_chain(init, pair, potentials, lengths)[0]

        return density

    def state_potentials(
        self, stats: Message, latents: Array, observed: Mask | None = None
    ) -> Array:
        """Return the node potentials (N, T, K) of z given x (N, T, D)."""
        features = self.switch.of_points(latents)
        scored = self.switch.scored_points(observed)
        return self._state_potentials(stats, features, scored)

    def _state_potentials(
        self, stats: Message, features: Any, scored: Mask | None
    ) -> Array:
        switch, natparams = self.switch, self.switch.natparams(stats)
        linear = switch.linear_potentials(features, natparams)
        return where_scored(scored, switch.state_potentials(linear, natparams))

    def most_likely_states(
        self, stats: Message, state_potentials: Any, lengths: Integers | None = None
    ) -> onp.ndarray:
        """Return the most likely path of each sequence, (N, T) int64, -1 past it."""
        init, pair = markov_potentials(stats)
        return kernels.viterbi(init, pair, state_potentials, lengths)[0]

    def draw(
        self,
        stats: Message,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw paths of states, then x given them; see `LatentModel.draw`."""
        init, pair = markov_potentials(stats)
        states = ancestral.state_path(first_states(init, belief), pair, uniforms)
        natparams = self.switch.natparams(stats)
        return Draw(states, *self.switch.path(states, natparams, noise, belief))


def check_starts(starts: Sequence[str]) -> None:
    """Raise ValueError unless there is a start, and each has a known name."""
    if not starts or not set(starts) <= set(STARTS):
        raise ValueError(f"starts must be some of {STARTS}, got {starts!r}")


def state_potentials(
    switch: Any, linear: Array, natparams: Sequence[Any], evidence: Evidence
) -> tuple[Array, Array]:
    """Return what x says of z: P f (N, T, K), and the potentials made of it."""
    scored = switch.scored(evidence)
    potentials = switch.state_potentials(linear, natparams)
    return where_scored(scored, linear), where_scored(scored, potentials)


@lru_cache
def solver(
    switch: Any, tolerance: float, max_iterations: int, names: tuple[str, ...]
) -> Any:
    """Return the differentiable map to the probabilities of the states.

    Its arguments are the potentials of the Markov chain, the natural parameters by
    state, and potentials of nodes; its constants the evidence without these.
    """

    def linear_potentials(states: Array, known: Evidence, *arguments: Any) -> Array:
        natparams, evidence = arguments[2:-2], known.with_node(*arguments[-2:])
        return switch.linear_potentials_given(states, natparams, evidence)

    def statistics(linear: Array, known: Evidence, *arguments: Any) -> Any:
        natparams, evidence = arguments[2:-2], known.with_node(*arguments[-2:])
        scored = switch.scored(evidence)
        potentials = where_scored(scored, switch.state_potentials(linear, natparams))
        states = chain(potentials, known, *arguments)[1][2]
        if switch.conjugate:
            return states
        gain = switch.gain(linear, natparams)
        if scored is not None:
            gain = np.where(scored[..., None], gain, 1.0)
        return states * gain

    def surrogate(states: Array, known: Evidence, *arguments: Any) -> Array:
        natparams, evidence = arguments[2:-2], known.with_node(*arguments[-2:])
        factor = switch.factor(states, natparams, evidence)
        linear, potentials = state_potentials(
            switch, factor.linear, natparams, evidence
        )
        logZ = chain(potentials, known, *arguments)[0]
        return factor.log_normalizer + logZ - inner(states, linear)

    def starts(known: Evidence, *arguments: Any) -> list[Array]:
        natparams, evidence = arguments[2:-2], known.with_node(*arguments[-2:])
        of_data = switch.start(natparams, evidence)
        silent = onp.zeros(of_data.shape)
        choices: dict[str, Callable[[], Array]] = {
            "data": lambda: statistics(of_data, known, *arguments),
            "prior": lambda: chain(silent, known, *arguments)[1][2],
        }
        return [choices[name]() for name in names]

    def chain(
        potentials: Array, known: Evidence, init: Array, pair: Array, *_: Any
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        init = first_states(init, known.belief)
        return kernels.unchecked_markov_chain(init, pair, potentials, known.lengths)

    per_sequence = (False,) * (2 + switch.num_natparams) + (True, True)
    blocks = Alternation(
        linear_potentials,
        statistics,
        surrogate,
        starts,
        per_sequence,
        switch.conjugate,
    )
    return fixed_point(blocks, tolerance, max_iterations)


def require_numbers(init: Array, pair: Array, natparams: Sequence[Any]) -> None:
    """Refuse a message of which a potential is not a number."""
    kernels.require_all_finite({"init": init, "pair": pair}, log=True)
    kernels.require_all_finite(
        {f"natparams {k}": part for k, part in enumerate(natparams)}
    )


def markov_potentials(stats: Message) -> tuple[Any, Any]:
    """Return the initial and pair potentials of z; a mixture's z have no pairs."""
    (init,) = stats["weights"]
    if "transitions" in stats:
        return init, stats["transitions"][0]
    return init, onp.zeros((init.shape[-1],) * 2)


def expected_evidence(evidence: Evidence, factor: Factor) -> Array:
    """Return the expectation of <r, t(x)> of each sequence, (N,)."""
    J, second_moment = evidence.J, factor.second_moment
    if J.ndim < second_moment.ndim:
        second_moment = np.diagonal(second_moment, axis1=-1, axis2=-2)
    return inner(J, second_moment) + inner(evidence.h, factor.mean)
