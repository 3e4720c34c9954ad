r"""Linear dynamical system with a conjugate prior.

.. math::
    x_1 \sim \mathcal{N}(\mu, \Sigma), \quad
    x_{t+1} = A x_t + u_t,\; u_t \sim \mathcal{N}(0, Q), \qquad
    (\mu, \Sigma) \sim \mathrm{NIW}, \quad (A, Q) \sim \mathrm{MNIW},

Johnson et al. (2016), Section 2.2, with Q = BB'.  Expected statistics of q(theta) are
the initial and pair potentials of a Gaussian chain, so q(x) is exact: one call of
`svae.kernels.gaussian_chain`, differentiable in all its potentials.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.families import mniw, niw, product
from svae.models.base import Local, check_positive_int, color, exact_local, inner

__all__ = ["LDS"]


@dataclass(frozen=True)
class LDS:
    r"""Latent linear dynamical system.

    The defaults are the prior of the dots experiment of Johnson et al. (2016):
    ``NIW(0, 1/(2D), 2(D+1) I, D+1)`` and ``MNIW(I, I/(2D), 2(D+1) I, D+1)``.

    Parameters
    ----------
    latent_dim : int
        D.
    """

    latent_dim: int = 10

    independent: ClassVar[bool] = False
    family: ClassVar[dict[str, Any]] = {"init": niw, "dynamics": mniw}

    def __post_init__(self) -> None:
        """Refuse a latent dimension that is not a positive integer."""
        check_positive_int(latent_dim=self.latent_dim)

    def prior(self) -> dict[str, Any]:
        """Return the natural parameters of p(theta), ``init`` and ``dynamics``."""
        dim = self.latent_dim
        identity, dof = onp.eye(dim), dim + 1.0
        scale = 2.0 * dof * identity
        return {
            "init": niw.from_standard(onp.zeros(dim), 1 / (2 * dim), scale, dof),
            "dynamics": mniw.from_standard(identity, identity / (2 * dim), scale, dof),
        }

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the prior: q(theta) starts there."""
        return self.prior()

    def infer(
        self, stats: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Local:
        """Run exact inference in the chain; see `LatentModel.infer`.

        Parameters
        ----------
        stats : dict
            Expected statistics of ``init`` (NIW) and ``dynamics`` (MNIW).
        node : (J, h)
            (N, T, D) each, or J (N, T, D, D).
        noise : (N, S, T, D) array or None
        lengths : (N,) int array or None

        Returns
        -------
        Local

        Raises
        ------
        NotPositiveDefinite
            If the chain has no proper Gaussian, naming sequence and step.
        """
        init_J, init_h, *init_constants = stats["init"]
        J11, J12, J22, half_log_det = stats["dynamics"]
        logZ, chain_stats, samples = kernels.gaussian_chain(
            (init_J, init_h), (J11, J12, J22), node, noise, lengths
        )
        second_moment, mean = chain_stats[2]
        steps = np.full(len(logZ), node[1].shape[1]) if lengths is None else lengths
        half_log_2pi = 0.5 * self.latent_dim * np.log(2 * np.pi)
        log_normalizer = (
            logZ
            + (init_constants[0] + init_constants[1] - half_log_2pi)
            + (steps - 1) * (half_log_det - half_log_2pi)
        )
        evidence = inner(node[0], second_moment) + inner(node[1], mean)
        return exact_local(samples, mean, second_moment, log_normalizer, evidence)

    def simulate(
        self, natparams: Any, num_steps: int, rng: onp.random.Generator
    ) -> Any:
        """Draw dynamics from q(theta) and a path x (num_steps, D) of them."""
        draws = product.sample(self.family, natparams, rng)
        mean, precision = draws["init"]
        dynamics, noise_precision = draws["dynamics"]
        noise = rng.standard_normal((num_steps, self.latent_dim))
        latents = onp.empty_like(noise)
        latents[0] = mean + color(precision, noise[0])
        for t in range(1, num_steps):
            latents[t] = dynamics @ latents[t - 1] + color(noise_precision, noise[t])
        return latents
