r"""Hidden Markov model with Gaussian latents and a conjugate prior.

.. math::
    \pi, \pi_k \sim \mathrm{Dir}, \quad (\mu_k, \Sigma_k) \sim \mathrm{NIW}, \quad
    z_1 \sim \pi, \quad z_t \mid z_{t-1} \sim \pi_{z_{t-1}}, \quad
    x_t \mid z_t \sim \mathcal{N}(\mu_{z_t}, \Sigma_{z_t}).

A Gaussian mixture whose labels are a Markov chain; where all rows of the transition
matrix equal the initial distribution it is the mixture.  The local factor is mean
field, q(z_{1:T}) prod_t q(x_t) (Johnson et al. 2016, Section 4.2).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as onp

from svae.families import dirichlet, niw
from svae.models.gmm import spread_components, unit_components
from svae.models.inference.mixture import Mixture
from svae.models.inference.switches import Emission
from svae.priors import PriorArgument, check_said_once

__all__ = ["HMM", "markov_prior"]


@dataclass(frozen=True)
class HMM(Mixture):
    r"""Latent hidden Markov model.

    The default prior has ``Dir(1, ..., 1)`` for the initial distribution and for each
    row of the transition matrix, and ``NIW(0, 1/2, (D + 1/2) I, D + 1/2)`` for each
    state.

    Parameters
    ----------
    num_states : int
        K.
    latent_dim : int
        D.
    concentration : float
        Dirichlet parameter alpha of every initial state and transition.
    sticky : float
        Added to alpha of each state's transition to itself, a pseudo-count of steps on
        which it stayed (Fox et al. 2011).  The prior's mean probability to stay is
        ``(alpha + sticky) / (K alpha + sticky)``, at which a state lasts
        ``(K alpha + sticky) / ((K - 1) alpha)`` steps: for alpha = 1 and a wanted
        duration d take ``sticky = d (K - 1) - K``.
    initial_spread : float
        Standard deviation of the initial component means in q(theta).
    tolerance : float
        Largest change of a state's probability at which a sequence has converged.
    max_iterations : int
        Block updates after which inference stops with a `ConvergenceWarning`.
    starts : tuple of {"data", "prior"}
        Where inference starts from, the evidence of single frames or the prior of the
        states; of several the best end is kept.
    prior : dict from factor to an object of `svae.priors`, optional
        Factors of the prior, ``"weights"``, ``"transitions"`` and ``"components"``, or
        numbers of them, in the place of the default's.
    """

    num_states: int = 10
    latent_dim: int = 2
    concentration: float = 1.0
    sticky: float = 0.0
    initial_spread: float = 3.0
    tolerance: float = 1e-6
    max_iterations: int = 1000
    starts: tuple[str, ...] = ("data",)
    prior: PriorArgument["HMM"] = PriorArgument()

    coupled: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    family: ClassVar[dict[str, Any]] = {
        "weights": dirichlet,
        "transitions": dirichlet,
        "components": niw,
    }

    def __post_init__(self) -> None:
        """Refuse sizes and priors that make no sense."""
        super().__post_init__()
        check_markov_prior(self)

    def default_prior(self) -> dict[str, Any]:
        """Return natural parameters of every factor of p(theta)."""
        markov = markov_prior(self.num_states, self.concentration, self.sticky)
        return markov | {
            "components": unit_components(self.num_states, self.latent_dim)
        }

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return q(theta) with random means, and the prior of the Markov chain."""
        return self.prior() | {"components": spread_components(self, rng)}

    @property
    def switch(self) -> Emission:
        """A state selects the component."""
        return Emission(self.latent_dim)


def markov_prior(num_states: int, concentration: float, sticky: float) -> Any:
    """Return Dirichlet parameters of the initial distribution and of transitions."""
    transitions = concentration + sticky * onp.eye(num_states)
    return {
        "weights": dirichlet.from_standard(onp.full(num_states, concentration)),
        "transitions": dirichlet.from_standard(transitions),
    }


def check_markov_prior(model: Any) -> None:
    """Raise ValueError unless the concentration is positive and sticky not negative.

    Neither may be given where it has no effect.
    """
    concentration, sticky = model.concentration, model.sticky
    if not 0 < concentration < onp.inf:
        raise ValueError(f"concentration must be positive, got {concentration!r}")
    left_out = sticky is None and type(model).sticky is None
    if not left_out and (sticky is None or not 0 <= sticky < onp.inf):
        raise ValueError(f"sticky must not be negative, got {sticky!r}")
    transitions = "transitions" in model.prior
    both = transitions and "weights" in model.prior
    check_said_once(model, {"sticky": transitions, "concentration": both})
