r"""Frames that are a linear function of x, with noise: the emission of a plain LDS.

.. math:: y_t = C x_t + d + v_t,\; v_t \sim \mathcal{N}(0, R), \qquad
          ([C\, d], R) \sim \mathrm{MNIW}.

With ``[x; 1]`` for x it is the regression of `svae.families.mniw`, so log p(y | x) is
linear in its statistics, and quadratic in x.  Their expectations are therefore node
potentials of x: one J for all frames, an h for each, and a constant.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp

from svae.autodiff.operations import inner, multiply
from svae.families import mniw
from svae.families.arrays import matvec, transpose
from svae.models.base import LOG_2PI
from svae.types import Array

__all__ = ["LinearEmission"]


@dataclass(frozen=True)
class LinearEmission:
    r"""Linear observations with Gaussian noise, for data of about unit variance.

    The prior is ``MNIW(0, spread I, noise_variance (P + 1) I, P + 1)``.

    Parameters
    ----------
    noise_variance : float
        Of the prior of R, whose weight is that of P + 1 frames.
    spread : float
        Prior variance of the entries of C and d, in units of R.
    """

    noise_variance: float = 0.1
    spread: float = 100.0

    family: ClassVar[Any] = mniw

    def __post_init__(self) -> None:
        """Refuse variances that are not positive."""
        for name in ("noise_variance", "spread"):
            variance = getattr(self, name)
            if not 0 < variance < onp.inf:
                raise ValueError(f"{name} must be positive, got {variance!r}")

    def prior(self, latent_dim: int, obs_dim: int) -> Any:
        """Return natural parameters of p([C d], R)."""
        dof = obs_dim + 1.0
        return mniw.from_standard(
            onp.zeros((obs_dim, latent_dim + 1)),
            self.spread * onp.eye(latent_dim + 1),
            self.noise_variance * dof * onp.eye(obs_dim),
            dof,
        )

    def node(
        self, stats: tuple[Array, ...], frames: Array, scored: onp.ndarray
    ) -> tuple[Any, Any]:
        """Return potentials of x and constants: log p(y | x) of each frame.

        Parameters
        ----------
        stats : tuple
            t([C d], R), or their expectation.
        frames : (N, T, P)
        scored : (N, T) bool
            Frames of which there are data; the others say nothing.

        Returns
        -------
        (J, h) : (N, T, D, D), (N, T, D)
        constant : (N,)
            Summed over the frames.
        """
        J11, J12 = stats[:2]
        dim = J12.shape[0] - 1
        h = multiply(frames, transpose(J12[:dim])) + J11[:dim, dim] + J11[dim, :dim]
        return (
            (scored[..., None, None] * J11[:dim, :dim], scored[..., None] * h),
            np.sum(scored * self.constants(stats, frames), axis=1),
        )

    def constants(self, stats: tuple[Array, ...], frames: Array) -> Any:
        """Return what log p(y | x) has beside the potentials of x, (N, T)."""
        J11, J12, J22, half_log_det = stats
        dim, obs_dim = J12.shape[0] - 1, J12.shape[1]
        return (
            np.sum((multiply(frames, J22) + J12[dim]) * frames, axis=-1)
            + J11[dim, dim]
            + half_log_det
            - 0.5 * obs_dim * LOG_2PI
        )

    def log_density(
        self,
        stats: tuple[Array, ...],
        latents: Array,
        frames: Array,
        scored: onp.ndarray,
    ) -> Array:
        """Return log p(y | x), (N,), of known x (N, T, D)."""
        (J, h), constant = self.node(stats, frames, scored)
        return inner(matvec(J, latents) + h, latents) + constant

    def draw(
        self, theta: tuple[Array, Array], latents: Array, noise: Array | None
    ) -> Any:
        """Return frames (..., P) given x (..., D), theta = ([C d], R^-1) and noise."""
        weights, precision = theta
        root = onp.linalg.inv(onp.linalg.cholesky(precision))
        return latents @ weights[:, :-1].T + weights[:, -1] + noise @ root
