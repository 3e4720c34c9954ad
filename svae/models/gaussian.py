r"""Independent standard Gaussians: the latent model of the variational autoencoder.

.. math:: x_n \sim \mathcal{N}(0, I), \qquad
          y_n \mid x_n \sim \mathcal{N}(\mu(x_n; \gamma), \Sigma(x_n; \gamma)),

the density network of Johnson et al. (2016), Eq. (1), fitted with a recognition
network (Kingma and Welling 2014).  There is no q(theta): the message m is empty.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np

from svae.families import gaussian
from svae.models.base import Local, check_positive_int, exact_local

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian:
    """Independent standard Gaussian latent variables.

    Parameters
    ----------
    latent_dim : int
    """

    latent_dim: int = 2

    independent: ClassVar[bool] = True
    family: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        """Refuse a latent dimension that is not a positive integer."""
        check_positive_int(latent_dim=self.latent_dim)

    def prior(self) -> dict[str, Any]:
        """Return the empty parameters: the prior of x is fixed."""
        return {}

    def initial_posterior(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return the empty parameters."""
        return {}

    def infer(
        self, stats: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Local:
        """Combine N(0, I) with diagonal node potentials; see `LatentModel.infer`.

        Parameters
        ----------
        stats : {}
        node : (J, h)
            (N, T, D) each.
        noise : (N, S, T, D) array or None
        lengths : None
            Rows are independent, so all sequences have length 1.

        Returns
        -------
        Local
        """
        node_J, node_h = node
        natparams = (node_J - 0.5, node_h)
        second_moment, mean = gaussian.expected_stats(natparams)
        # log of the integral of N(x; 0, I) exp<r, t(x)>, one for each step
        log_normalizers = gaussian.log_normalizer(natparams) - (
            0.5 * self.latent_dim * np.log(2 * np.pi)
        )
        log_normalizer = np.sum(log_normalizers, axis=-1)
        evidence = np.sum(node_J * second_moment + node_h * mean, axis=(-2, -1))
        samples = None
        if noise is not None:
            deviation = np.sqrt(-0.5 / natparams[0])
            samples = mean[:, None] + deviation[:, None] * noise
        return exact_local(samples, mean, second_moment, log_normalizer, evidence)

    def simulate(self, natparams: Any, num_steps: int, rng: np.random.Generator) -> Any:
        """Draw x (num_steps, D) from N(0, I); see `LatentModel.simulate`."""
        return rng.standard_normal((num_steps, self.latent_dim))
