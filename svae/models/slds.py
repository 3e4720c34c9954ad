r"""Switching linear dynamical system with a conjugate prior.

.. math::
    \pi, \pi_k \sim \mathrm{Dir}, \quad (\mu_k, \Sigma_k) \sim \mathrm{NIW}, \quad
    (A_k, Q_k) \sim \mathrm{MNIW}, \quad z \sim \mathrm{Markov}(\pi), \\
    x_1 \sim \mathcal{N}(\mu_{z_1}, \Sigma_{z_1}), \quad
    x_t = A_{z_t} x_{t-1} + b_{z_t} + u_t,\; u_t \sim \mathcal{N}(0, Q_{z_t}),

Johnson et al. (2016), Section 2.2, where the state is written one step earlier; here
z_t selects how x_t follows from x_{t-1}, and z_1 the initial factor.  The bias b is
there for ``affine=True``.  The local factor is mean field, q(z_{1:T}) q(x_{1:T}), a
Markov chain and a Gaussian chain (Section 4.2).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as onp

from svae.data.masks import Windows
from svae.families import dirichlet, mniw, niw
from svae.models.hmm import check_markov_prior, markov_prior
from svae.models.inference.switches import Dynamics
from svae.models.inference.switching import Switching
from svae.models.lds import DATA, check_noise_variance, dynamics_prior, empirical_prior
from svae.priors import PriorArgument

__all__ = ["SLDS"]

DURATION = 10.0
"""Steps that a state lasts under a prior that is centred on the data."""


@dataclass(frozen=True)
class SLDS(Switching):
    r"""Latent switching linear dynamical system.

    With one state it is the `LDS`; each state has its prior.

    Parameters
    ----------
    num_states : int
        K.
    latent_dim : int
        D.
    affine : bool
        Whether dynamics have a bias b.
    concentration : float
        Dirichlet parameter alpha of every initial state and transition.
    sticky : float, optional
        Added to alpha of each state's transition to itself, a pseudo-count of steps on
        which it stayed (Fox et al. 2011).  The prior's mean probability to stay is
        ``(alpha + sticky) / (K alpha + sticky)``, at which a state lasts
        ``(K alpha + sticky) / ((K - 1) alpha)`` steps: for alpha = 1 and a wanted
        duration d take ``sticky = d (K - 1) - K``.  By default that of 10 steps where
        the prior is centred on the data, and else 0.
    noise_variance : float or "data"
        Of the prior of Q: scale ``noise_variance * (D + 1) I`` with D + 1 degrees of
        freedom; or centred on the data, as for the `LDS`.  Of several states every A is
        then around the pooled regression of x_t on x_{t-1}.
    column_precision : float, optional
        Of the prior of A, as for the `LDS`; by default 2 D for several states.
    initial_spread : float
        Standard deviation around I of the entries of each E[A_k] in the initial
        q(theta), if there are several states.
    tolerance : float
        Largest change of a state's probability at which a sequence has converged.
    max_iterations : int
        Block updates after which inference stops with a `ConvergenceWarning`.
    starts : tuple of {"data", "prior"}
        Where inference starts from, the evidence of single frames or the prior of the
        states; of several the best end is kept.
    prior : dict from factor to an object of `svae.priors`, optional
        Factors of the prior, ``"weights"``, ``"transitions"``, ``"init"`` and
        ``"dynamics"``, or numbers of them, in the place of the default's.
    """

    num_states: int = 10
    latent_dim: int = 10
    affine: bool = False
    concentration: float = 1.0
    sticky: float | None = None
    noise_variance: float | str = DATA
    column_precision: float | None = None
    initial_spread: float = 0.1
    tolerance: float = 1e-6
    max_iterations: int = 1000
    starts: tuple[str, ...] = ("data",)
    prior: PriorArgument["SLDS"] = PriorArgument()

    coupled: ClassVar[bool] = True
    independent: ClassVar[bool] = False
    family: ClassVar[dict[str, Any]] = {
        "weights": dirichlet,
        "transitions": dirichlet,
        "init": niw,
        "dynamics": mniw,
    }

    def __post_init__(self) -> None:
        """Refuse sizes and priors that make no sense."""
        super().__post_init__()
        check_markov_prior(self)
        check_noise_variance(self)

    def default_prior(self) -> dict[str, Any]:
        """Return natural parameters of every factor of p(theta)."""
        sticky = self.sticky or 0.0
        markov = markov_prior(self.num_states, self.concentration, sticky)
        one = dynamics_prior(self)
        return markov | {
            name: tuple(
                onp.repeat(onp.asarray(part)[None], self.num_states, axis=0)
                for part in factor
            )
            for name, factor in one.items()
        }

    def empirical_prior(self, points: Windows) -> dict[str, Any]:
        """Return the prior, on known latents if ``noise_variance`` is "data".

        Its states last, if ``sticky`` does not say how long: states of which each frame
        may have another explain noise.
        """
        natparams = empirical_prior(self, points)
        said = self.sticky is not None or "transitions" in self.prior
        if self.noise_variance != DATA or said:
            return natparams
        others = self.num_states - 1
        sticky = max(DURATION * others - self.num_states, 0.0) * self.concentration
        markov = markov_prior(self.num_states, self.concentration, sticky)
        return natparams | {"transitions": markov["transitions"]}

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the prior, with E[A_k] apart from each other."""
        start = self.prior()
        mean, column_cov, scale, dof = mniw.to_standard(start["dynamics"])
        if self.num_states > 1:
            mean = mean + self.initial_spread * rng.standard_normal(mean.shape)
        return start | {"dynamics": mniw.from_standard(mean, column_cov, scale, dof)}

    @property
    def switch(self) -> Dynamics:
        """A state selects the dynamics of its step."""
        return Dynamics(self.latent_dim, self.affine)
