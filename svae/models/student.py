r"""Student-t mixture with a conjugate prior: clusters with heavy tails.

.. math::
    \pi \sim \mathrm{Dir}(\alpha), \quad (\mu_k, \Sigma_k) \sim \mathrm{NIW}, \quad
    z_n \mid \pi \sim \pi, \quad x_n \mid z_n \sim
    \mathrm{St}(\mu_{z_n}, \Sigma_{z_n}, \nu_{z_n}),

Lin, Hubacher and Khan (2018), Section 5.  A Student-t is a scale mixture of Gaussians,

.. math::
    \mathrm{St}(x; \mu, \Sigma, \nu) = \int \mathcal{N}(x; \mu, \Sigma / u)\,
    \mathrm{Gam}(u; \tfrac\nu2, \tfrac\nu2)\, du ,

and given u everything is conjugate.  The optimal q(u) given z is known,

.. math::
    q(u) = \mathrm{Gam}(\tfrac{\nu + D}2, \tfrac{\nu + g}2), \qquad
    \mathbb{E}\,u = \frac{\nu + D}{\nu + g}, \qquad
    g = \mathbb{E}\,(x - \mu)' \Sigma^{-1} (x - \mu),

so that u never appears: what is left of its terms of the bound is

.. math::
    \log\Gamma(\tfrac{\nu + D}2) - \log\Gamma(\tfrac\nu2) - \tfrac D2 \log \nu\pi
    + \tfrac12 \mathbb{E} \log|\Sigma^{-1}| - \tfrac{\nu + D}2 \log(1 + g / \nu)

(Archambeau and Verleysen 2007), with derivative ``E u`` in ``-g/2``.  Where the
expectation in g is over q(theta) and q(x), this is the conjugate treatment; taken over
q(theta) alone, for each sample of x, it has a u for each x and is a tighter bound,
estimated by Monte Carlo.

Degrees of freedom that are learned have a normal prior of ``log nu_k``, to which no
term of the model is conjugate.  Its terms are expectations over q(log nu), functions of
mean parameters m like all others; a natural gradient step is still along their gradient
in m (Khan and Lin 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp
import scipy

from svae.autodiff.operations import cut, joined
from svae.autodiff.special import gammaln
from svae.families import categorical, dirichlet, gaussian, niw
from svae.families.arrays import outer
from svae.models.base import Draw, Local
from svae.models.evidence import Belief, Evidence, first_states
from svae.models.gmm import GMM
from svae.models.inference.ancestral import of_path
from svae.models.inference.mixture import Mixture, MixtureStatistics
from svae.models.inference.potentials import dense, independent, moments, split
from svae.models.inference.switches import Emission, Factor, linear_potentials_of_factor
from svae.models.inference.switching import markov_potentials
from svae.models.transport import inflations, student
from svae.priors import PriorArgument
from svae.types import Array, Message

__all__ = ["StudentEmission", "StudentMixture"]

LOG_PI = onp.log(onp.pi)
TAILS = ("augmented", "sampled")


@cache
def quadrature() -> tuple[Array, Array]:
    """Return nodes and weights (Q,) of the average over a standard normal law."""
    nodes, weights = onp.polynomial.hermite_e.hermegauss(8)
    return nodes, weights / weights.sum()


@dataclass(frozen=True)
class StudentEmission(Emission):
    """The state selects the Student-t distribution of its step.

    ``natparams`` are P (K, D D + D + 1), which multiplies x x', x and 1 so that
    P f is -g/2; E log|Lambda|/2 (K,); and log nu, its values (K, Q) at the nodes
    of a quadrature over q(log nu).
    """

    fixed: float | None = None
    """nu, or None where it is learned."""
    num_natparams: ClassVar[int] = 3
    conjugate: ClassVar[bool] = False

    def natparams(self, stats: Message) -> tuple[Any, Any, Any]:
        """Return P, E log|Lambda|/2 and log nu, leading axes kept."""
        J, h, quadratic, half_log_det = stats["components"]
        P = joined(quadratic.ndim, J, h, quadratic)
        return P, half_log_det, self._log_dof(stats)

    def factor(
        self,
        states: Array,
        natparams: Sequence[Any],
        evidence: Evidence,
        noise: Array | None = None,
    ) -> Factor:
        """Return q(x) of probabilities of states, times E u."""
        factor = super().factor(states, natparams, evidence, noise)
        if evidence.observed is not None:
            states = np.where(evidence.observed[..., None], states, 0.0)
        constant = np.sum(np.dot(states, natparams[0][:, -1]), axis=1)
        return factor._replace(log_normalizer=factor.log_normalizer + constant)

    def linear_potentials_given(
        self, states: Array, natparams: Sequence[Any], evidence: Evidence
    ) -> Array:
        """Return P f, (N, T, K), of x given probabilities of states, times E u."""
        return linear_potentials_of_factor(self, states, natparams, evidence)

    def linear_potentials_of_each(
        self, features: Any, natparams: Sequence[Any]
    ) -> Array:
        """Return P f of features without their 1."""
        P = natparams[0]
        return np.sum(features * P[:, :-1], axis=-1) + P[:, -1]

    def conditionals(self, natparams: Sequence[Any]) -> tuple[Any, ...]:
        """Return P, c and the law of tails (b, nu, weights), as `kernels.mixture`."""
        P, constants, dof = (
            natparams[0],
            self.constants(natparams),
            np.exp(natparams[2]),
        )
        weights = quadrature()[1] if dof.shape[-1] > 1 else onp.ones(1)
        width = P.shape[1] - 1
        return cut(P, 1, 0, width), constants, P[:, width], dof, weights

    def constants(self, natparams: Sequence[Any]) -> Any:
        """Return E log St, (..., K), where P f is 0."""
        _, half_log_det, log_dof = natparams
        dof, dim = np.exp(log_dof), self.dim
        constant = gammaln(0.5 * (dof + dim)) - gammaln(0.5 * dof)
        return half_log_det + average(constant - 0.5 * dim * (log_dof + LOG_PI))

    def state_potentials(self, linear: Array, natparams: Sequence[Any]) -> Array:
        """Return E log St, (..., K), where P f is -g/2."""
        dof = np.exp(natparams[2])
        tails = 0.5 * (dof + self.dim) * np.log1p(-2.0 * linear[..., None] / dof)
        return self.constants(natparams) - average(tails)

    def gain(self, linear: Array, natparams: Sequence[Any]) -> Array:
        """Return E u, the derivative of the potentials in P f."""
        dof = np.exp(natparams[2])
        return average((dof + self.dim) / (dof - 2.0 * linear[..., None]))

    def features(self, second_moment: Array, mean: Array) -> Array:
        """Return f (..., F), what P multiplies, of moments of x."""
        return with_one(super().features(second_moment, mean))

    def dofs(self, natparams: Sequence[Any]) -> Array:
        """Return nu (..., K) of each component; of those that are learned, medians."""
        return np.exp(average(natparams[2]))

    def unobserved(
        self, states: onp.ndarray, natparams: Sequence[Any], noise: Array | None
    ) -> tuple[Any, Any, Any]:
        """Return means, second moments and samples; see `Emission.unobserved`.

        Second moments are infinite where a component of a frame has none.
        """
        mean, second_moment, samples = super().unobserved(states, natparams, noise)
        inflation, heavy = inflations(self.dofs(natparams))
        covs, _ = moments(*split(natparams[0], self.dim))
        excess = (inflation - 1.0)[:, None, None] * covs
        second_moment = second_moment + onp.tensordot(states, excess, 1)
        second_moment[onp.any(states[:, heavy] > 0, axis=1)] = onp.inf
        return mean, second_moment, samples

    def deviation(
        self, noise: onp.ndarray, natparams: Sequence[Any], state: int
    ) -> onp.ndarray:
        """Return draws (..., D) of x given a state, of location 0 and scale 1."""
        return student(noise, self.dofs(natparams)[state])

    def start(self, natparams: Sequence[Any], evidence: Evidence) -> onp.ndarray:
        """Return P f for a start, at what each component makes of the node."""
        J, h = split(natparams[0], self.dim)
        of_each = dense(evidence.J)[:, :, None] + J, evidence.h[:, :, None] + h
        _, second, mean, _ = independent(*of_each)
        return self.linear_potentials_of_each(joined(3, second, mean), natparams)

    def _log_dof(self, stats: Message) -> Array:
        if self.fixed is not None:
            shape = (*stats["components"][3].shape, 1)
            return onp.full(shape, onp.log(self.fixed))
        square, mean = stats["dof"][0][..., 0], stats["dof"][1]
        # of a single theta nothing is left but the rounding
        return mean + np.sqrt(np.maximum(square - mean * mean, 0.0)) * quadrature()[0]


@dataclass(frozen=True)
class StudentMixture(Mixture):
    r"""Latent Student-t mixture.

    The default prior of weights and components is that of `GMM`; Sigma_k is the scale
    matrix of a component, its covariance is nu / (nu - 2) times that.

    Parameters
    ----------
    num_states : int
        K, the number of components.
    latent_dim : int
        D.
    dof : float
        nu, degrees of freedom; where they are learned, their prior median.
    learn_dof : bool
        Whether each component has a nu_k of its own, with ``log nu_k ~ N(log dof, 1)``.
    tails : {"augmented", "sampled"}
        Whether the scale u_n of a point has one q(u_n) given z_n, or one for each
        sample of x_n: a tighter bound, of which there is only an estimate.  The latter
        is for structured inference networks (``inference="sin"``).
    initial_spread : float
        Standard deviation of the initial component means in q(theta).
    tolerance, max_iterations, starts
        Of mean-field inference, as in `GMM`.
    prior : dict from factor to an object of `svae.priors`, optional
        Factors of the prior, ``"weights"``, ``"components"`` and, where it is learned,
        ``"dof"`` (a `svae.priors.Normal` of log nu), or numbers of them, in the place
        of the default's.
    """

    num_states: int = 15
    latent_dim: int = 2
    dof: float = 5.0
    learn_dof: bool = False
    tails: str = "augmented"
    initial_spread: float = 3.0
    tolerance: float = 1e-6
    max_iterations: int = 1000
    starts: tuple[str, ...] = ("data",)
    prior: PriorArgument["StudentMixture"] = PriorArgument()

    coupled: ClassVar[bool] = False
    independent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse sizes, words and degrees of freedom that make no sense."""
        super().__post_init__()
        if not 0 < self.dof < onp.inf:
            raise ValueError(f"dof must be a positive number, got {self.dof!r}")
        if self.tails not in TAILS:
            raise ValueError(f"tails must be one of {TAILS}, got {self.tails!r}")

    @property
    def family(self) -> dict[str, Any]:
        """Name of each factor of p(theta) -> module of `svae.families`."""
        known = {"weights": dirichlet, "components": niw}
        return known | {"dof": gaussian} if self.learn_dof else known

    @property
    def ascends(self) -> bool:
        """Whether natural steps of q(theta) given x never lower the bound."""
        return not self.learn_dof

    @property
    def graph(self) -> GMM:
        """The Gaussian mixture with as many components."""
        return GMM(self.num_states, self.latent_dim, initial_spread=self.initial_spread)

    @property
    def switch(self) -> StudentEmission:
        """A state selects the component."""
        return StudentEmission(self.latent_dim, None if self.learn_dof else self.dof)

    def default_prior(self) -> dict[str, Any]:
        """Return natural parameters of every factor of p(theta)."""
        return self.graph.prior() | self._prior_of_dof()

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return q(theta) with random component means and near-uniform weights."""
        return self.graph.initial_posterior(rng) | self._prior_of_dof()

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Find the mean-field fixed point; see `LatentModel.infer`."""
        if self.tails == "sampled":
            raise ValueError(
                "tails 'sampled' needs a structured inference network: inference='sin'"
            )
        return super().infer(message, evidence, noise, starts)

    def expected_emissions(self, stats: Message, of: MixtureStatistics) -> Array:
        """Return the expectation of E log p(x_t | z_t = k, theta), (N, T, K)."""
        if self.tails == "augmented":
            return super().expected_emissions(stats, of)
        if of.samples is None:
            raise ValueError("tails 'sampled' needs noise, which makes samples of x")
        switch, natparams = self.switch, self.switch.natparams(stats)
        x = of.samples
        features = joined(x.ndim - 1, outer(x, x), x)
        linear = switch.linear_potentials_of_each(features, natparams)
        return np.mean(switch.state_potentials(linear, natparams), axis=0)

    def without_data(self, stats: Message) -> tuple[Any, Any]:
        """Return P of x given each state, and degrees of freedom (K,)."""
        return super().without_data(stats)[0], self.dofs(stats)

    def dofs(self, stats: Message) -> Array:
        """Return nu (..., K) of each component; of those that are learned, medians."""
        return self.switch.dofs(self.switch.natparams(stats))

    def draw(
        self,
        stats: Message,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw points; see `LatentModel.draw`.

        Where in its interval of the distribution function of z a uniform falls is
        uniform again, and draws u.
        """
        drawn = super().draw(stats, uniforms, noise, belief)
        init = first_states(markov_potentials(stats)[0], belief)
        (probs,) = categorical.expected_stats((init,))
        upper = of_path(onp.cumsum(probs, axis=-1)[..., None], drawn.states)[..., 0]
        width = of_path(probs[..., None], drawn.states)[..., 0]
        rest = onp.clip(1.0 - (upper - uniforms) / width, 0.0, 1.0)
        dof = of_path(self.dofs(stats)[..., None], drawn.states)[..., 0]
        scales = scipy.special.gammaincinv(0.5 * dof, rest) / (0.5 * dof)
        deviation = (drawn.latents - drawn.mean) / onp.sqrt(scales)[..., None]
        inflation, heavy = inflations(dof)
        cov = inflation[..., None, None] * drawn.cov
        return drawn._replace(
            latents=drawn.mean + deviation,
            cov=onp.where(heavy[..., None, None], onp.inf, cov),
        )

    def _prior_of_dof(self) -> dict[str, Any]:
        if not self.learn_dof:
            return {}
        mean = onp.full((self.num_states, 1), onp.log(self.dof))
        return {"dof": gaussian.from_standard(mean, onp.ones((self.num_states, 1, 1)))}


def with_one(features: Any) -> Array:
    """Append a 1 to features (..., F)."""
    return np.concatenate([features, onp.ones((*features.shape[:-1], 1))], axis=-1)


def average(values: Array) -> Array:
    """Average (..., Q) over the nodes of the quadrature, or the only value (..., 1)."""
    if values.shape[-1] == 1:
        return values[..., 0]
    return np.dot(values, quadrature()[1])
