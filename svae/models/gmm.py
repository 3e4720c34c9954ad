r"""Gaussian mixture with a conjugate prior: warped mixtures, once decoded.

.. math::
    \pi \sim \mathrm{Dir}(\alpha), \quad (\mu_k, \Sigma_k) \sim \mathrm{NIW}, \quad
    z_n \mid \pi \sim \pi, \quad x_n \mid z_n \sim \mathcal{N}(\mu_{z_n}, \Sigma_{z_n}),

Johnson et al. (2016), Section 2.1.  The local factor is mean field, q(z_n) q(x_n), and
its fixed point is found and differentiated by `svae.models.inference.fixed_point`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as onp

from svae.families import dirichlet, niw
from svae.models.inference.mixture import Mixture
from svae.models.inference.switches import Emission
from svae.priors import PriorArgument

__all__ = ["GMM", "spread_components", "unit_components"]


@dataclass(frozen=True)
class GMM(Mixture):
    r"""Latent Gaussian mixture.

    The default prior is that of the warped mixtures of Johnson et al. (2016) and their
    code: Dirichlet natural parameter ``0.05 / K`` (that is, alpha = 1 + 0.05 / K) and
    ``NIW(0, 1/2, (D + 1/2) I, D + 1/2)`` for each component.

    Parameters
    ----------
    num_states : int
        K, the number of components.
    latent_dim : int
        D.
    initial_spread : float
        Standard deviation of the initial component means in q(theta).
    tolerance : float
        Largest change of a responsibility at which a point's inference has converged.
    max_iterations : int
        Block updates after which inference stops with a `ConvergenceWarning`.
    starts : tuple of {"data", "prior"}
        Where inference starts from, the evidence of single frames or the prior of the
        states; of several the best end is kept.
    prior : dict from factor to an object of `svae.priors`, optional
        Factors of the prior, ``"weights"`` and ``"components"``, or numbers of them, in
        the place of the default's.
    """

    num_states: int = 15
    latent_dim: int = 2
    initial_spread: float = 3.0
    tolerance: float = 1e-6
    max_iterations: int = 1000
    starts: tuple[str, ...] = ("data",)
    prior: PriorArgument["GMM"] = PriorArgument()

    coupled: ClassVar[bool] = False
    independent: ClassVar[bool] = True
    family: ClassVar[dict[str, Any]] = {"weights": dirichlet, "components": niw}

    def default_prior(self) -> dict[str, Any]:
        """Return natural parameters of ``weights`` and ``components``."""
        return {
            "weights": (onp.full(self.num_states, 0.05 / self.num_states),),
            "components": unit_components(self.num_states, self.latent_dim),
        }

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return q(theta) with random component means and near-uniform weights."""
        components = spread_components(self, rng)
        return {"weights": (rng.random(self.num_states),), "components": components}

    @property
    def switch(self) -> Emission:
        """A state selects the component."""
        return Emission(self.latent_dim)


def unit_components(num_states: int, dim: int) -> Any:
    """Return ``NIW(0, 1/2, (D + 1/2) I, D + 1/2)`` for each of K components."""
    return niw.from_standard(
        onp.zeros((num_states, dim)),
        onp.full(num_states, 0.5),
        onp.tile((dim + 0.5) * onp.eye(dim), (num_states, 1, 1)),
        onp.full(num_states, dim + 0.5),
    )


def spread_components(model: Any, rng: onp.random.Generator) -> Any:
    """Return NIW parameters of K unit components around random means.

    Their means are around those of the prior, ``model.initial_spread`` apart.
    """
    num_states, dim = model.num_states, model.latent_dim
    mean, *_ = niw.to_standard(model.prior()["components"])
    return niw.from_standard(
        mean + model.initial_spread * rng.standard_normal((num_states, dim)),
        onp.ones(num_states),
        onp.tile((dim + 1.0) * onp.eye(dim), (num_states, 1, 1)),
        onp.full(num_states, dim + 1.0),
    )
