r"""Mean-field inference in Gaussian chains that a discrete state switches.

What GMM, HMM and SLDS share: the discrete factor q(z) is a Markov chain, the continuous
one q(x) a Gaussian chain, and a *switch*, `Emission` or `Dynamics`, says how the one
makes potentials for the other.  Sequences of length 1 are independent, which makes a
GMM an HMM.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import inner
from svae.data.masks import valid_steps
from svae.models.base import (
    Belief,
    Diagnostics,
    Draw,
    Local,
    check_positive_int,
    where_given,
)
from svae.models.inference import ancestral
from svae.models.inference.fixed_point import Alternation, fixed_point
from svae.models.inference.potentials import of_live
from svae.models.inference.switches import Factor, Given, where_kept
from svae.priors import HasPrior

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
        stats: Any,
        node: Any,
        noise: Any = None,
        lengths: Any = None,
        *,
        observed: Any = None,
        belief: Belief | None = None,
        starts: Any = None,
    ) -> Local:
        """Find the mean-field fixed point; see `LatentModel.infer`."""
        if lengths is None:
            lengths = onp.full(len(node[1]), node[1].shape[1])
        node = of_live(node, valid_steps(lengths, node[1]))
        given = Given(onp.asarray(lengths), observed, belief)
        return self.local_factor(stats, node, noise, given, starts)

    def local_factor(
        self, stats: Any, node: Any, noise: Any, given: Given, starts: Any
    ) -> Local:
        """Return the local factor; see `infer`."""
        solve = solver(self.switch, self.tolerance, self.max_iterations, self.starts)
        return local_factor(self.switch, solve, stats, node, noise, given, starts)

    def log_density(
        self,
        stats: Any,
        latents: Any,
        lengths: Any = None,
        observed: Any = None,
        states: Any = None,
    ) -> Any:
        """Log of the sum over z of exp <stats, t(z, x)>, (N,); see `LatentModel`.

        ``states`` (N, T, K) bool says which states are possible; all by default.
        """
        init, pair = markov_potentials(stats)
        potentials = self.state_potentials(stats, latents, observed)
        if states is not None:
            potentials = np.where(states, potentials, -onp.inf)
        return kernels.markov_chain(init, pair, potentials, lengths)[0]

    def state_potentials(self, stats: Any, latents: Any, observed: Any = None) -> Any:
        """Return the node potentials (N, T, K) of z given x (N, T, D)."""
        switch, rows = self.switch, self.switch.rows(stats)
        evidence = switch.evidence(switch.of_points(latents), rows)
        kept = switch.points_kept(observed)
        return where_kept(kept, switch.potentials(evidence, rows))

    def most_likely_states(
        self, stats: Any, state_potentials: Any, lengths: Any = None
    ) -> onp.ndarray:
        """Return the most likely path of each sequence, (N, T) int64, -1 past it."""
        init, pair = markov_potentials(stats)
        return kernels.viterbi(init, pair, state_potentials, lengths)[0]

    def draw(
        self,
        stats: Any,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw paths of states, then x given them; see `LatentModel.draw`."""
        init, pair = markov_potentials(stats)
        states = ancestral.state_path(first_states(init, belief), pair, uniforms)
        rows = self.switch.rows(stats)
        return Draw(states, *self.switch.path(states, rows, noise, belief))


def check_starts(starts: Sequence[str]) -> None:
    """Raise ValueError unless there is a start, and each has a known name."""
    if not starts or not set(starts) <= set(STARTS):
        raise ValueError(f"starts must be some of {STARTS}, got {starts!r}")


def local_factor(
    switch: Any,
    solve: Any,
    stats: Any,
    node: Any,
    noise: Any,
    given: Given,
    starts: Any,
) -> Local:
    """Solve for q(z), and build q(x) and the divergence of both from it."""
    init, pair = markov_potentials(stats)
    rows = switch.rows(stats)
    fixed, iterations, residual = solve(starts, given, init, pair, *rows, *node)

    factor = switch.factor(fixed, rows, node, given, noise)
    linear, potentials = state_potentials(switch, factor.features, rows, given)
    logZ, (_, _, states) = kernels.markov_chain(
        first_states(init, given.belief), pair, potentials, given.lengths
    )
    # KL(q(x) q(z) || exp E log p), with q(z) the optimal factor given q(x):
    # log q(x) = <P's + r, t(x)> - logZ_x, and q(z)'s terms are -logZ_z
    evidence = node_evidence(node, factor)
    kl = inner(fixed, linear) + evidence - factor.log_normalizer - logZ
    return Local(
        factor.samples,
        kl,
        factor.mean,
        factor.second_moment,
        evidence - kl,
        states,
        potentials,
        factor.half_log_det,
        Diagnostics(iterations, residual),
    )


def state_potentials(
    switch: Any, features: Any, rows: Sequence[Any], given: Given
) -> Any:
    """Return what x says of z: evidence P f (N, T, K), and potentials of it."""
    evidence = switch.evidence(features, rows)
    kept = switch.kept(given, evidence.shape[1])
    potentials = switch.potentials(evidence, rows)
    return where_kept(kept, evidence), where_kept(kept, potentials)


@lru_cache
def solver(
    switch: Any, tolerance: float, max_iterations: int, names: tuple[str, ...]
) -> Any:
    """Return the differentiable map to the probabilities of the states.

    Its arguments are the potentials of the Markov chain, ``rows``, and those of nodes.
    """

    def evidence(states: Any, given: Given, *arguments: Any) -> Any:
        rows, node = arguments[2:-2], arguments[-2:]
        return switch.evidence_given(states, rows, node, given)

    def statistics(evidence: Any, given: Given, *arguments: Any) -> Any:
        rows = arguments[2:-2]
        kept = switch.kept(given, evidence.shape[1])
        potentials = where_kept(kept, switch.potentials(evidence, rows))
        states = chain(potentials, given, *arguments)[1][2]
        if switch.conjugate:
            return states
        gain = switch.gain(evidence, rows)
        return states * (gain if kept is None else np.where(kept[..., None], gain, 1.0))

    def surrogate(states: Any, given: Given, *arguments: Any) -> Any:
        rows, node = arguments[2:-2], arguments[-2:]
        factor = switch.factor(states, rows, node, given)
        linear, natparams = state_potentials(switch, factor.features, rows, given)
        logZ = chain(natparams, given, *arguments)[0]
        return factor.log_normalizer + logZ - inner(states, linear)

    def starts(given: Given, *arguments: Any) -> Any:
        rows, node = arguments[2:-2], arguments[-2:]
        of_data = switch.start(rows, node)
        silent = onp.zeros(of_data.shape)
        choices = {
            "data": lambda: statistics(of_data, given, *arguments),
            "prior": lambda: chain(silent, given, *arguments)[1][2],
        }
        return [choices[name]() for name in names]

    def chain(natparams: Any, given: Given, init: Any, pair: Any, *_: Any) -> Any:
        init = first_states(init, given.belief)
        return kernels.markov_chain(init, pair, natparams, given.lengths)

    per_sequence = (False,) * (2 + switch.num_rows) + (True, True)
    blocks = Alternation(
        evidence, statistics, surrogate, starts, per_sequence, switch.conjugate
    )
    return fixed_point(blocks, tolerance, max_iterations)


def markov_potentials(stats: Any) -> tuple[Any, Any]:
    """Return the initial and pair potentials of z; a mixture's z have no pairs."""
    (init,) = stats["weights"]
    if "transitions" in stats:
        return init, stats["transitions"][0]
    return init, onp.zeros((init.shape[-1],) * 2)


def first_states(init: Any, belief: Belief | None) -> Any:
    """Return the initial potentials (K,) of z, or (N, K) where some have a belief."""
    if belief is None:
        return init
    assert belief.states is not None
    return where_given(belief, belief.states, init)


def node_evidence(node: Any, factor: Factor) -> Any:
    """Inner products (N,) of the node potentials with their statistics."""
    J, h = node
    second_moment = factor.second_moment
    if J.ndim < second_moment.ndim:
        second_moment = np.diagonal(second_moment, axis1=-1, axis2=-2)
    return inner(J, second_moment) + inner(h, factor.mean)
