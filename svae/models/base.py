r"""What every latent model provides.

A latent model is ``p(theta) p(x | theta)`` with ``x`` continuous, perhaps with discrete
``z`` beside it.  It knows its global family (a dict from factor to
`svae.families` module), its prior, and how to combine the *prior's message*

.. math:: m = \mathbb{E}_{q(\theta)}[t(\theta)]

with node potentials ``r(y; phi)`` into the local factor ``q(x)`` (Johnson et al. 2016,
Section 4).  The message m *is* the natural parameter of the local model, so everything
a model does is a differentiable function of m and of the node potentials.
"""

from typing import Any, NamedTuple, Protocol

import autograd.numpy as np
import numpy as onp

__all__ = [
    "Diagnostics",
    "LatentModel",
    "Local",
    "check_positive_int",
    "color",
    "exact_local",
    "inner",
]


class Diagnostics(NamedTuple):
    """How the iterations of inference ended, one entry for each sequence."""

    iterations: onp.ndarray
    """(N,), block updates until the fixed point; 0 where inference is exact."""
    residual: onp.ndarray
    """(N,), largest change of a state's probability in the last update."""


class Local(NamedTuple):
    r"""The local factor q(x) (and q(z)) for a batch of N sequences.

    All but ``diagnostics`` are differentiable in m and in the node potentials.
    """

    samples: Any
    """(N, S, T, D), reparameterised samples of q(x), or None without noise."""
    kl: Any
    r"""(N,), :math:`\mathrm{KL}(q(x) q(z) \| \exp \mathbb{E} \log p(x, z|\theta))`."""
    mean: Any
    """(N, T, D), posterior means of x."""
    second_moment: Any
    """(N, T, D, D) or its diagonal (N, T, D): E[x x']."""
    log_normalizer: Any
    r"""(N,), log of the integral of ``exp(E log p(x|theta) + <r, t(x)>)``; where q is
    a mean-field factor, its lower bound."""
    states: Any
    """(N, T, K), probabilities of the discrete states, or None."""
    diagnostics: Diagnostics


def exact_local(
    samples: Any, mean: Any, second_moment: Any, log_normalizer: Any, evidence: Any
) -> Local:
    """Return a local factor that inference finds without iterations.

    ``evidence`` (N,) is the inner product of the node potentials with their statistics.
    """
    no_iterations = onp.zeros(len(evidence))
    return Local(
        samples,
        evidence - log_normalizer,
        mean,
        second_moment,
        log_normalizer,
        None,
        Diagnostics(no_iterations, no_iterations),
    )


class LatentModel(Protocol):
    """A latent graphical model with a conjugate prior."""

    latent_dim: int
    independent: bool
    """Whether the rows of the data are independent (each a sequence of length 1)."""
    family: dict[str, Any]
    """Name of each factor of p(theta) -> module of `svae.families`."""

    def prior(self) -> dict[str, Any]:
        """Return the natural parameters of p(theta)."""

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return natural parameters of q(theta) to start from."""

    def infer(
        self, stats: Any, node: Any, noise: Any = None, lengths: Any = None
    ) -> Local:
        """Return the local factor given m = ``stats`` and node potentials (J, h)."""

    def simulate(
        self, natparams: Any, num_steps: int, rng: onp.random.Generator
    ) -> Any:
        """Draw theta from q(theta), then x (num_steps, D) from p(x | theta)."""


def check_positive_int(**arguments: int) -> None:
    """Raise ValueError naming the first argument that is not a positive integer."""
    for name, value in arguments.items():
        if not isinstance(value, (int, onp.integer)) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def inner(potential: Any, statistic: Any) -> Any:
    """Inner product over all axes but the first."""
    return np.sum(potential * statistic, axis=tuple(range(1, np.ndim(potential))))


def color(precision: Any, noise: Any) -> Any:
    """Turn standard normal ``noise`` (..., D) into noise of the given precision."""
    # precision = L L', so L^-T noise has covariance (L L')^-1
    return onp.linalg.solve(onp.linalg.cholesky(precision).T, noise.T).T
