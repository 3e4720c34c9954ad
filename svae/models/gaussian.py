r"""Independent standard Gaussians: the latent model of the variational autoencoder.

.. math:: x_n \sim \mathcal{N}(0, I), \qquad
          y_n \mid x_n \sim \mathcal{N}(\mu(x_n; \gamma), \Sigma(x_n; \gamma)),

the density network of Johnson et al. (2016), Eq. (1), fitted with a recognition
network (Kingma and Welling 2014).  There is no q(theta): the message m is empty.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp

from svae.autodiff.operations import value_of
from svae.data.masks import valid_steps
from svae.families import gaussian
from svae.models.base import (
    LOG_2PI,
    Draw,
    Exact,
    Local,
    check_positive_int,
    exact_local,
)
from svae.models.evidence import Belief, Evidence
from svae.types import Array, Integers, Mask, Message

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian:
    """Independent standard Gaussian latent variables.

    Parameters
    ----------
    latent_dim : int
    """

    latent_dim: int = 2

    coupled: ClassVar[bool] = False
    independent: ClassVar[bool] = True
    family: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        """Refuse a latent dimension that is not a positive integer."""
        check_positive_int(latent_dim=self.latent_dim)

    def prior(self) -> dict[str, Any]:
        """Return the empty parameters: the prior of x is fixed."""
        return {}

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the empty parameters."""
        return {}

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Combine N(0, I) with diagonal node potentials; see `LatentModel.infer`.

        Steps are independent in sequences of any length.
        """
        node_J, node_h = evidence.node
        natparams = (node_J - 0.5, node_h)
        second_moment, mean = gaussian.expected_stats(natparams)
        # log of the integral of N(x; 0, I) exp<r, t(x)>, one for each step
        log_normalizers = gaussian.log_normalizer(natparams) - (
            0.5 * self.latent_dim * LOG_2PI
        )
        terms = node_J * second_moment + node_h * mean
        half_log_dets = 0.5 * onp.log(-2.0 * value_of(natparams[0])).sum(axis=-1)
        if evidence.lengths is not None:
            valid = evidence.valid
            log_normalizers = np.where(valid, log_normalizers, 0.0)
            terms = np.where(valid[..., None], terms, 0.0)
            half_log_dets = onp.where(valid, half_log_dets, 0.0)
        samples = None
        if noise is not None:
            deviation = np.sqrt(-0.5 / natparams[0])
            samples = mean[:, None] + deviation[:, None] * noise
        return exact_local(
            Exact(
                np.sum(log_normalizers, axis=-1),
                np.sum(terms, axis=(-2, -1)),
                mean,
                second_moment,
                samples,
                weights=None,
                statistics=None,
                half_log_det=half_log_dets.sum(axis=1),
            )
        )

    def log_density(
        self,
        stats: Message,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
    ) -> Array:
        """Return log N(x; 0, I), (N,); see `LatentModel.log_density`."""
        frames = -0.5 * np.sum(latents**2 + LOG_2PI, axis=-1)
        scored = valid_steps(lengths, latents)
        if observed is not None:
            scored = scored & observed
        return np.sum(np.where(scored, frames, 0.0), axis=1)

    def draw(
        self,
        stats: Message,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw x from N(0, I); see `LatentModel.draw`."""
        cov = onp.broadcast_to(
            onp.eye(self.latent_dim), (*noise.shape, self.latent_dim)
        )
        return Draw(None, noise, onp.zeros(noise.shape), cov)
