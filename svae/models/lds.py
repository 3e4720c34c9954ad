r"""Linear dynamical system with a conjugate prior.

.. math::
    x_1 \sim \mathcal{N}(\mu, \Sigma), \quad
    x_{t+1} = A x_t + b + u_t,\; u_t \sim \mathcal{N}(0, Q), \qquad
    (\mu, \Sigma) \sim \mathrm{NIW}, \quad ([A\, b], Q) \sim \mathrm{MNIW},

Johnson et al. (2016), Section 2.2, with Q = BB'; the bias b is there for
``affine=True``.  Expected statistics of q(theta) are the initial and pair potentials of
a Gaussian chain, so q(x) is exact: one call of `svae.kernels.gaussian_chain`,
differentiable in all its potentials.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.families import mniw, niw
from svae.models.base import (
    LOG_2PI,
    Belief,
    Draw,
    Local,
    check_positive_int,
    exact_local,
    half_log_det,
    inner,
    live_steps,
    where_given,
)
from svae.models.potentials import begin, log_normalizer_of, shift
from svae.models.switches import Dynamics
from svae.primitives import value_of

__all__ = ["LDS", "dynamics_prior"]


@dataclass(frozen=True)
class LDS:
    r"""Latent linear dynamical system.

    The defaults are the prior of the dots experiment of Johnson et al. (2016):
    ``NIW(0, 1/(2D), 2(D+1) I, D+1)`` and ``MNIW(I, I/(2D), 2(D+1) I, D+1)``.

    Parameters
    ----------
    latent_dim : int
        D.
    affine : bool
        Whether dynamics have a bias b; its prior is ``N(0, Q)``.
    noise_variance : float
        Of the prior of Q: scale ``noise_variance * (D + 1) I`` with D + 1 degrees of
        freedom.
    """

    latent_dim: int = 10
    affine: bool = False
    noise_variance: float = 2.0

    coupled: ClassVar[bool] = True
    independent: ClassVar[bool] = False
    family: ClassVar[dict[str, Any]] = {"init": niw, "dynamics": mniw}

    def __post_init__(self) -> None:
        """Refuse a latent dimension that is not a positive integer."""
        check_positive_int(latent_dim=self.latent_dim)
        check_noise_variance(self.noise_variance)

    def prior(self) -> dict[str, Any]:
        """Return the natural parameters of p(theta), ``init`` and ``dynamics``."""
        return dynamics_prior(self.latent_dim, self.affine, self.noise_variance)

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the prior: q(theta) starts there."""
        return self.prior()

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
        report: Any = None,
    ) -> Local:
        """Run exact inference in the chain; see `LatentModel.infer`.

        Raises
        ------
        NotPositiveDefinite
            If the chain has no proper Gaussian, naming sequence and step.
        """
        J0, h0, *init_constants = stats["init"]
        J11, J12, J22, half_log_det_Q = stats["dynamics"]
        dim = self.latent_dim
        node_J, node_h = node
        init_constant = init_constants[0] + init_constants[1] - 0.5 * dim * LOG_2PI
        pair_constant = half_log_det_Q - 0.5 * dim * LOG_2PI
        live = live_steps(lengths, node_h)
        if self.affine:
            node_h = shift(node_h, linear_terms(J11, J12, live))
            pair_constant = pair_constant + J11[dim, dim]
            J11, J12 = J11[:dim, :dim], J12[:dim]
        if belief is not None:
            nothing = onp.zeros(len(live))
            init_constant = where_given(belief, nothing, init_constant)
        init = begin((J0, h0), belief)
        logZ, chain_stats, samples = kernels.gaussian_chain(
            init, (J11, J12, J22), (node_J, node_h), noise, lengths
        )
        second_moment, mean = chain_stats[2]
        log_normalizer = (
            logZ
            - log_normalizer_of(belief)
            + init_constant
            + (live.sum(axis=1) - 1) * pair_constant
        )
        evidence = inner(node[0], second_moment) + inner(node[1], mean)
        linear = value_of(node_h) + 0.0
        linear[:, 0] += value_of(init[1])
        half = half_log_det(logZ, linear, mean, lengths)
        return exact_local(samples, mean, second_moment, log_normalizer, evidence, half)

    def log_density(
        self, stats: Any, latents: Any, lengths: Any = None, observed: Any = None
    ) -> Any:
        """Return log p(x | theta), (N,); see `LatentModel.log_density`."""
        switch = Dynamics(self.latent_dim, self.affine)
        rows = switch.rows(_one_state(stats))
        linear, constant = switch.evidence(switch.of_points(latents), rows)
        kept = live_steps(lengths, latents)
        if observed is not None:
            kept = kept & switch.points_kept(observed)
        return np.sum(np.where(kept, (linear + constant)[..., 0], 0.0), axis=1)

    def draw(
        self,
        stats: Any,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw paths; see `LatentModel.draw`."""
        switch = Dynamics(self.latent_dim, self.affine)
        states = onp.zeros(uniforms.shape, dtype=onp.int64)
        rows = switch.rows(_one_state(stats))
        return Draw(None, *switch.path(states, rows, noise, belief))


def dynamics_prior(dim: int, affine: bool, noise_variance: float) -> dict[str, Any]:
    """Return natural parameters of ``init`` (NIW) and ``dynamics`` (MNIW)."""
    identity, dof = onp.eye(dim), dim + 1.0
    mean, column_cov = identity, identity / (2 * dim)
    if affine:
        mean = onp.concatenate([mean, onp.zeros((dim, 1))], axis=1)
        column_cov = onp.diag([*onp.diagonal(column_cov), 1.0])
    scale = noise_variance * dof * identity
    return {
        "init": niw.from_standard(
            onp.zeros(dim), 1 / (2 * dim), 2.0 * dof * identity, dof
        ),
        "dynamics": mniw.from_standard(mean, column_cov, scale, dof),
    }


def check_noise_variance(noise_variance: float) -> None:
    """Raise ValueError unless the variance is positive."""
    if not 0 < noise_variance < onp.inf:
        raise ValueError(f"noise_variance must be positive, got {noise_variance!r}")


def linear_terms(J11: Any, J12: Any, live: onp.ndarray) -> tuple[Any, Any]:
    """Return what the bias adds to h of either end of every pair, (N, T-1, D) each.

    ``-(Ax + b)'L(Ax + b)/2 + (Ax + b)'Lx'`` has the linear terms ``-A'Lb`` in x, the
    last column of J11 plus its last row, and ``Lb`` in x', the last row of J12.
    """
    dim, pairs = J12.shape[1], live[:, 1:, None]
    return pairs * (J11[:dim, dim] + J11[dim, :dim]), pairs * J12[dim]


def _one_state(stats: Any) -> dict[str, Any]:
    """Give every statistic an axis of one state, behind any axis of paths."""
    axis = np.ndim(stats["init"][2])
    return {
        name: tuple(np.expand_dims(part, axis) for part in factor)
        for name, factor in stats.items()
    }
