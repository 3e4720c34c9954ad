r"""Gaussian mixture with a conjugate prior: warped mixtures, once decoded.

.. math::
    \pi \sim \mathrm{Dir}(\alpha), \quad (\mu_k, \Sigma_k) \sim \mathrm{NIW}, \quad
    z_n \mid \pi \sim \pi, \quad x_n \mid z_n \sim \mathcal{N}(\mu_{z_n}, \Sigma_{z_n}),

Johnson et al. (2016), Section 2.1.  The local factor is mean field, q(z_n) q(x_n), and
its fixed point is found and differentiated by `svae.models.meanfield`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import logsumexp

from svae import kernels
from svae.families import categorical, dirichlet, gaussian, niw, product
from svae.models.base import Diagnostics, Local, check_positive_int, color, inner
from svae.models.meanfield import fixed_point

__all__ = ["GMM"]


@dataclass(frozen=True)
class GMM:
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
    """

    num_states: int = 15
    latent_dim: int = 2
    initial_spread: float = 3.0
    tolerance: float = 1e-6
    max_iterations: int = 1000

    independent: ClassVar[bool] = True
    family: ClassVar[dict[str, Any]] = {"weights": dirichlet, "components": niw}

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive integers."""
        check_positive_int(
            num_states=self.num_states,
            latent_dim=self.latent_dim,
            max_iterations=self.max_iterations,
        )

    def prior(self) -> dict[str, Any]:
        """Return the natural parameters of p(theta), ``weights`` and ``components``."""
        states, dim = self.num_states, self.latent_dim
        scale = onp.tile((dim + 0.5) * onp.eye(dim), (states, 1, 1))
        return {
            "weights": (onp.full(states, 0.05 / states),),
            "components": niw.from_standard(
                onp.zeros((states, dim)),
                onp.full(states, 0.5),
                scale,
                onp.full(states, dim + 0.5),
            ),
        }

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return q(theta) with random component means and near-uniform weights."""
        states, dim = self.num_states, self.latent_dim
        means = self.initial_spread * rng.standard_normal((states, dim))
        return {
            "weights": (rng.random(states),),
            "components": niw.from_standard(
                means,
                onp.ones(states),
                onp.tile((dim + 1.0) * onp.eye(dim), (states, 1, 1)),
                onp.full(states, dim + 1.0),
            ),
        }

    def infer(
        self, stats: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Local:
        """Find the mean-field fixed point; see `LatentModel.infer`.

        Parameters
        ----------
        stats : dict
            Expected statistics of ``weights`` (Dirichlet) and ``components`` (NIW).
        node : (J, h)
            (N, 1, D) each: every point is a sequence of length 1.
        noise : (N, S, 1, D) array or None
        lengths : None

        Returns
        -------
        Local
        """
        J, h, *constants = stats["components"]
        half_log_2pi = 0.5 * self.latent_dim * np.log(2 * np.pi)
        bias = stats["weights"][0] + constants[0] + constants[1] - half_log_2pi
        arguments = (bias, J, h, node[0], node[1])
        solve = solver(self.tolerance, self.max_iterations)
        fixed, iterations, residual = solve(*arguments)

        logZ, second_moment, mean, samples = continuous_factor(
            *arguments[1:], fixed, noise
        )
        states = discrete_potentials(bias, J, h, second_moment, mean)
        mixed_J, mixed_h = mix(J, h, fixed)
        # KL(q(x) q(z) || exp E log p), with q(z) the optimal factor given q(x):
        # log q(x) = <mixed + r, t(x)> - logZ, and q(z)'s terms are its -logsumexp
        node_second_moment = np.diagonal(second_moment, axis1=-1, axis2=-2)[:, None]
        evidence = inner(node[0], node_second_moment) + inner(node[1], mean[:, None])
        energy = inner(mixed_J, second_moment) + inner(mixed_h, mean)
        kl = energy + evidence - logZ - logsumexp(states, axis=-1)
        return Local(
            samples,
            kl,
            mean[:, None],
            second_moment[:, None],
            evidence - kl,
            categorical.expected_stats((states,))[0][:, None],
            Diagnostics(iterations, residual),
        )

    def simulate(
        self, natparams: Any, num_steps: int, rng: onp.random.Generator
    ) -> Any:
        """Draw a mixture from q(theta) and points x (num_steps, D) from it."""
        draws = product.sample(self.family, natparams, rng)
        means, precisions = draws["components"]
        states = rng.choice(self.num_states, size=num_steps, p=draws["weights"])
        latents = means[states]
        for k in onp.unique(states):
            chosen = states == k
            noise = rng.standard_normal((chosen.sum(), self.latent_dim))
            latents[chosen] += color(precisions[k], noise)
        return latents


@lru_cache
def solver(tolerance: float, max_iterations: int) -> Any:
    """Return the differentiable map to responsibilities, made by `fixed_point`."""
    return fixed_point(
        potentials,
        lambda natparams: categorical.expected_stats((natparams,))[0],
        collapsed_responsibilities,
        per_sequence=(False, False, False, True, True),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )


def mix(J: Any, h: Any, responsibilities: Any) -> Any:
    """Average potentials of x under q(z): (N, D, D) and (N, D)."""
    flat_J = np.reshape(J, (len(J), -1))
    mixed_J = np.dot(responsibilities, flat_J)
    return np.reshape(mixed_J, (-1, *J.shape[1:])), np.dot(responsibilities, h)


def continuous_factor(
    J: Any, h: Any, node_J: Any, node_h: Any, responsibilities: Any, noise: Any = None
) -> Any:
    """Return logZ (N,), E[xx'] (N, D, D), E[x] (N, D) and samples of q(x)."""
    # An independent Gaussian is a chain of length 1, whose pair potentials are unused.
    nothing = onp.zeros((len(node_h), 1, *J.shape[1:]))
    logZ, chain_stats, samples = kernels.gaussian_chain(
        mix(J, h, responsibilities),
        (nothing, nothing, nothing),
        (node_J, node_h),
        noise,
    )
    second_moment, mean = chain_stats[0]
    return logZ, second_moment, mean, samples


def discrete_potentials(
    bias: Any, J: Any, h: Any, second_moment: Any, mean: Any
) -> Any:
    """Return E_q(x) log p(x, z = k | theta), (N, K)."""
    dim = mean.shape[1]
    flat_J = np.reshape(J, (len(J), dim * dim))
    flat_moment = np.reshape(second_moment, (len(mean), dim * dim))
    return bias + np.dot(flat_moment, flat_J.T) + np.dot(mean, h.T)


def potentials(
    responsibilities: Any, bias: Any, J: Any, h: Any, node_J: Any, node_h: Any
) -> Any:
    """Potentials of q(z) after one update of q(x): the map U of `meanfield`."""
    _, second_moment, mean, _ = continuous_factor(
        J, h, node_J, node_h, responsibilities
    )
    return discrete_potentials(bias, J, h, second_moment, mean)


def collapsed_responsibilities(
    bias: Any, J: Any, h: Any, node_J: Any, node_h: Any
) -> Any:
    """Responsibilities with x integrated out, a start that looks at the evidence.

    ``p(z = k) = exp(bias_k) * integral of exp(<eta_k + r, t(x)>)``, the exact answer if
    the components were known.
    """
    diagonal = onp.eye(J.shape[-1]) * node_J[:, 0, None, :]
    natparams = (J + diagonal[:, None], h + node_h[:, 0, None, :])
    scores = bias + gaussian.log_normalizer(natparams)
    return categorical.expected_stats((scores,))[0]
