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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import combination, inner, value_of
from svae.data.masks import Windows, valid_steps
from svae.families import mniw, niw
from svae.models.base import (
    LOG_2PI,
    Draw,
    Exact,
    Local,
    check_positive_int,
    exact_local,
    half_log_det,
)
from svae.models.evidence import Belief, Evidence
from svae.models.inference.filtering import chain_filter, one_state
from svae.models.inference.potentials import (
    begin,
    each_sequence,
    log_normalizer_of,
    shift,
)
from svae.models.inference.prediction import ByState
from svae.models.inference.switches import Dynamics
from svae.priors import HasPrior, PriorArgument, check_said_once
from svae.types import Array, Integers, Mask, Message

__all__ = ["LDS", "dynamics_prior", "empirical_prior"]

DATA = "data"
"""The noise variance of an empirical prior."""
WITHOUT_DATA = 2.0
"""What it is where no latents are known before training."""
POOLED_WEIGHT = 20.0
"""Times D, the frames by whose weight an empirical prior has dynamics around I."""
LEAST_SHARE = 1e-5
"""Of the mean variance of x: no direction has less in the prior's centre."""
ROUNDING = 1e-12
"""Of the mean square of x, what varies by rounding alone."""


@dataclass(frozen=True)
class LDS(HasPrior):
    r"""Latent linear dynamical system.

    The defaults are the prior of the dots experiment of Johnson et al. (2016):
    ``NIW(0, 1/(2D), 2(D+1) I, D+1)`` and ``MNIW(I, I/(2D), 2(D+1) I, D+1)``.

    Parameters
    ----------
    latent_dim : int
        D.
    affine : bool
        Whether dynamics have a bias b; its prior is ``N(0, Q)``.
    noise_variance : float or "data"
        Of the prior of Q: scale ``noise_variance * (D + 1) I`` with D + 1 degrees of
        freedom.  With "data" the prior of Q is centred on what the regression of x_t on
        x_{t-1} leaves, with D + 3 degrees of freedom, and that of Sigma likewise on the
        covariance of x: empirical Bayes, for latents that are known before training,
        those of a linear start.  Without such latents it is 2.
    column_precision : float, optional
        Prior precision of the columns of A around those of I, in units of Q^-1: the
        weight of the prior in frames in which a dimension of x has variance 1.  By
        default 2 D, and 20 D with a ``noise_variance`` from the data.
    prior : dict from factor to an object of `svae.priors`, optional
        Factors of the prior, ``"init"`` and ``"dynamics"``, or numbers of them, in the
        place of the default's.
    """

    latent_dim: int = 10
    affine: bool = False
    noise_variance: float | str = DATA
    column_precision: float | None = None
    prior: PriorArgument["LDS"] = PriorArgument()

    coupled: ClassVar[bool] = True
    independent: ClassVar[bool] = False
    family: ClassVar[dict[str, Any]] = {"init": niw, "dynamics": mniw}

    def __post_init__(self) -> None:
        """Refuse a latent dimension that is not a positive integer."""
        check_positive_int(latent_dim=self.latent_dim)
        self.prior.check()
        check_noise_variance(self)

    def default_prior(self) -> dict[str, Any]:
        """Return natural parameters of ``init`` and ``dynamics``."""
        return dynamics_prior(self)

    def empirical_prior(self, points: Windows) -> dict[str, Any]:
        """Return the prior, on known latents if ``noise_variance`` is "data"."""
        return empirical_prior(self, points)

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the prior: q(theta) starts there."""
        return self.prior()

    @property
    def step_variance(self) -> float:
        """Variance of a dimension of Q at the prior's mean of its inverse."""
        dynamics = self.prior.get("dynamics")
        if dynamics is None and self.noise_variance != DATA:
            return float(self.noise_variance)
        *_, scale, dof = mniw.to_standard(self.prior()["dynamics"])
        return float(onp.mean(onp.diagonal(scale) / dof))

    @property
    def graph(self) -> "LDS":
        """Itself; see `StructuredModel`."""
        return self

    def infer(
        self,
        message: Message,
        evidence: Evidence,
        noise: Array | None = None,
        starts: Any = None,
    ) -> Local:
        """Run exact inference in the chain; see `LatentModel.infer`.

        Raises
        ------
        NotPositiveDefinite
            If the chain has no proper Gaussian, naming sequence and step.
        """
        return exact_local(self.exact(message, evidence, noise))

    def exact(
        self,
        graph: Any,
        evidence: Evidence,
        noise: Array | None = None,
        *,
        uniforms: Array | None = None,
        without_data: Any = None,
    ) -> Exact:
        """Return the chain with evidence; see `svae.models.inference.structured`."""
        chain = ChainPotentials.of(graph)
        evidence, belief, valid = evidence.cleared(), evidence.belief, evidence.valid
        h = evidence.h
        if chain.linear is not None:
            at_pairs = valid[:, 1:, None]
            h = shift(h, tuple(at_pairs * part for part in chain.linear))
        # one each, so that every sequence has statistics of its own
        init = begin([each_sequence(part, valid) for part in chain.init], belief)
        pair = tuple(each_sequence(part, valid, per_step=True) for part in chain.pair)
        logZ, chain_stats, samples = kernels.gaussian_chain(
            init, pair, (evidence.J, h), noise, evidence.lengths
        )
        second_moment, mean = chain_stats[2]
        linear = value_of(h) + 0.0
        linear[:, 0] += value_of(init[1])
        return Exact(
            logZ + chain.constant(valid, belief, -log_normalizer_of(belief)),
            inner(evidence.J, second_moment, evidence.h, mean),
            mean,
            second_moment,
            samples,
            weights=None,
            statistics=ChainStatistics(*chain_stats[:2], mean, valid, belief),
            half_log_det=half_log_det(logZ, linear, mean, evidence.lengths),
        )

    def prefixes(self, graph: Any, evidence: Evidence) -> ByState:
        """Return what the chain up to each step says of it; see `filtering`."""
        chain = ChainPotentials.of(graph)
        filtered, _ = chain_filter(chain.init, chain.pair, chain.linear, evidence)
        return one_state(*filtered[1:])

    def without_data(self, stats: Message) -> None:
        """Return None: a step without data is one of zero node potential."""

    def expected_log_density(self, stats: Message, q: Exact) -> Array:
        """Return the expectation of E log p(x | theta), (N,), under an exact q.

        Of a sequence with a belief: of what follows x_1.
        """
        chain, of = ChainPotentials.of(stats), q.statistics
        first, later = (
            sum(
                inner(each_sequence(part, of.valid), stat)
                for part, stat in zip(potentials, statistics, strict=True)
            )
            for potentials, statistics in (
                (chain.init, of.init),
                ([part[None] for part in chain.pair], of.pair),
            )
        )
        if of.belief is not None:
            first = np.where(of.belief.given, 0.0, first)
        if chain.linear is not None:
            pairs = of.valid[:, 1:, None]
            later = later + np.dot(np.sum(pairs * of.mean[:, :-1], 1), chain.linear[0])
            later = later + np.dot(np.sum(pairs * of.mean[:, 1:], 1), chain.linear[1])
        return first + later + chain.constant(of.valid, of.belief)

    def log_density(
        self,
        stats: Message,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
    ) -> Array:
        """Return log p(x | theta), (N,); see `LatentModel.log_density`."""
        return self.density_of(latents, lengths, observed)(stats)

    def density_of(
        self,
        latents: Array,
        lengths: Integers | None = None,
        observed: Mask | None = None,
    ) -> Callable[[Message], Array]:
        """Return `log_density` of these latents, a function of stats."""
        switch = Dynamics(self.latent_dim, self.affine)
        features = switch.of_points(latents)
        scored = valid_steps(lengths, latents)
        if observed is not None:
            scored = scored & switch.scored_points(observed)

        def density(stats: Message) -> Array:
            natparams = switch.natparams(_one_state(stats))
            linear = switch.linear_potentials(features, natparams)
            densities = switch.state_potentials(linear, natparams)[..., 0]
            return np.sum(np.where(scored, densities, 0.0), axis=1)

        return density

    def draw(
        self,
        stats: Message,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw paths; see `LatentModel.draw`."""
        switch = Dynamics(self.latent_dim, self.affine)
        states = onp.zeros(uniforms.shape, dtype=onp.int64)
        natparams = switch.natparams(_one_state(stats))
        return Draw(None, *switch.path(states, natparams, noise, belief))


class ChainPotentials(NamedTuple):
    """What E log p(x | theta) adds to a Gaussian chain."""

    init: tuple[Any, Any]
    """J (D, D) and h (D,) of x_1."""
    pair: tuple[Any, Any, Any]
    """J11, J12 and J22 (D, D)."""
    linear: Any
    """What the bias adds to h of either end of every pair, (D,) each, or None.

    ``-(Ax + b)'L(Ax + b)/2 + (Ax + b)'Lx'`` has the linear terms ``-A'Lb`` in x, the
    last column of J11 plus its last row, and ``Lb`` in x', the last row of J12.
    """
    init_constants: tuple[Any, ...]
    """What every initial factor adds to the exponent, beside its 2 pi."""
    pair_constants: tuple[Any, ...]
    """The same of every pair."""

    @classmethod
    def of(cls, stats: Message) -> "ChainPotentials":
        """Read them from expected statistics of NIW and MNIW."""
        J, h, quadratic, half_log_det = stats["init"]
        J11, J12, J22, half_log_det_Q = stats["dynamics"]
        dim, linear = len(h), None
        init_constants = quadratic, half_log_det
        pair_constants: tuple[Any, ...] = (half_log_det_Q,)
        if len(J11) > dim:
            linear = J11[:dim, dim] + J11[dim, :dim], J12[dim]
            pair_constants = half_log_det_Q, J11[dim, dim]
            J11, J12 = J11[:dim, :dim], J12[:dim]
        return cls((J, h), (J11, J12, J22), linear, init_constants, pair_constants)

    def constant(
        self, valid: onp.ndarray, belief: Belief | None, beside: Any = 0.0
    ) -> Any:
        """Return the constants of all factors of each sequence, (N,).

        And what stands ``beside`` them, a constant to the gradient too.
        """
        inits = onp.ones(len(valid)) if belief is None else 1.0 - belief.given
        pairs = valid.sum(axis=1) - 1.0
        counts = [inits for _ in self.init_constants]
        counts += [pairs for _ in self.pair_constants]
        beside = beside - 0.5 * len(self.init[1]) * LOG_2PI * (inits + pairs)
        constants = *self.init_constants, *self.pair_constants
        return combination(beside, counts, *constants)


class ChainStatistics(NamedTuple):
    """Expected statistics of x, sequence by sequence."""

    init: tuple[Any, Any]
    """E[x_1 x_1'] (N, D, D) and E[x_1] (N, D)."""
    pair: tuple[Any, Any, Any]
    """Second moments of pairs, summed over time, (N, 1, D, D) each."""
    mean: Array
    """(N, T, D)"""
    valid: onp.ndarray
    """(N, T) bool"""
    belief: Belief | None


def dynamics_prior(model: Any) -> dict[str, Any]:
    """Return natural parameters of ``init`` (NIW) and ``dynamics`` (MNIW).

    Those of one state, of a model with the fields of `LDS`.
    """
    dim, variance = model.latent_dim, model.noise_variance
    identity, dof = onp.eye(dim), dim + 1.0
    scale = (WITHOUT_DATA if variance == DATA else variance) * dof * identity
    return {
        "init": niw.from_standard(
            onp.zeros(dim), 1 / (2 * dim), 2.0 * dof * identity, dof
        ),
        "dynamics": mniw.from_standard(*_around_identity(model), scale, dof),
    }


def _around_identity(model: Any, precision: float | None = None) -> tuple[Any, Any]:
    """Return mean (D, Din) and column covariance (Din, Din) of a prior around I."""
    dim = model.latent_dim
    mean = onp.eye(dim)
    column_cov = mean / (precision or model.column_precision or 2 * dim)
    if model.affine:
        mean = onp.concatenate([mean, onp.zeros((dim, 1))], axis=1)
        column_cov = onp.diag([*onp.diagonal(column_cov), 1.0])
    return mean, column_cov


def empirical_prior(model: Any, points: Windows) -> dict[str, Any]:
    r"""Return the prior of a model of known latents, centred on these if it is to be.

    With ``noise_variance="data"`` the inverse Wisharts of ``init`` and ``dynamics``
    have D + 3 degrees of freedom, so that ``S = 2 C`` has the mean C: the covariance of
    x, or of what the regression of x_t on x_{t-1} leaves.  That regression is drawn to
    I by the weight of 20 D frames, without which many dimensions predict badly from few
    frames.  So is A of the only state; of several states each is around the pooled
    regression.

    Parameters
    ----------
    model : LDS or SLDS
    points : Windows
        The latents, their ``values``; every step counts, whatever its state.
    """
    natparams: dict[str, Any] = model.prior()
    if model.noise_variance != DATA:
        return natparams
    dim, several = model.latent_dim, getattr(model, "num_states", 1) > 1
    pooled = POOLED_WEIGHT * dim
    prior_of_A = _around_identity(
        model, pooled if several else model.column_precision or pooled
    )
    mean, cov, regression, residual = _pooled(points, *prior_of_A)
    if several:
        prior_of_A = regression, _around_identity(model)[1]
    dof = dim + 3.0
    centred = {
        "init": niw.from_standard(mean, 1 / (2 * dim), 2.0 * cov, dof),
        "dynamics": mniw.from_standard(*prior_of_A, 2.0 * residual, dof),
    }
    for name, factor in centred.items():
        if name not in model.prior:
            natparams[name] = tuple(
                onp.broadcast_to(part, onp.shape(like)).copy()
                for part, like in zip(factor, natparams[name], strict=True)
            )
    return natparams


def _pooled(
    points: Windows, mean: onp.ndarray, column_cov: onp.ndarray
) -> tuple[Any, Any, Any, Any]:
    """Return mean and covariance of x, [A b] of its regression, and what that leaves.

    The regression is the posterior mean under a prior MN(``mean``, Q, ``column_cov``).
    """
    scored = points.scored_frames
    x = points.values[scored]
    dim = x.shape[-1]
    center, cov = x.mean(axis=0), onp.atleast_2d(onp.cov(x.T, bias=True))
    variance, square = onp.trace(cov) / dim, onp.mean(x**2)
    if variance <= ROUNDING * square:  # nothing varies, and says nothing of a scale
        variance = (square or 1.0) / LEAST_SHARE
    least = LEAST_SHARE * variance
    cov = cov + least * onp.eye(dim)
    pairs = scored[:, 1:] & scored[:, :-1]
    before, after = points.values[:, :-1][pairs], points.values[:, 1:][pairs]
    if not len(before):
        return center, cov, mean, cov
    if mean.shape[1] > dim:
        before = onp.concatenate([before, onp.ones((len(before), 1))], axis=1)
    precision = onp.linalg.inv(column_cov)
    moments = before.T @ before + precision
    regression = onp.linalg.solve(moments, before.T @ after + precision @ mean.T)
    left = after - before @ regression
    residual = left.T @ left / len(left) + least * onp.eye(dim)
    return center, cov, regression.T, residual


def check_noise_variance(model: Any) -> None:
    """Raise ValueError unless the variance is positive, and has an effect if given."""
    noise_variance, dynamics = model.noise_variance, model.prior.get("dynamics")
    is_number = not isinstance(noise_variance, str)
    if not (noise_variance == DATA or is_number and 0 < noise_variance < onp.inf):
        raise ValueError(
            f"noise_variance must be positive or {DATA!r}, got {noise_variance!r}"
        )
    precision = model.column_precision
    if precision is not None and not 0 < precision < onp.inf:
        raise ValueError(f"column_precision must be positive, got {precision!r}")
    replaced = getattr(dynamics, "scale", None) is not None
    columns = getattr(dynamics, "column_cov", None) is not None
    check_said_once(model, {"noise_variance": replaced, "column_precision": columns})


def _one_state(stats: Message) -> dict[str, Any]:
    """Give every statistic an axis of one state, behind any axis of paths."""
    axis = np.ndim(stats["init"][2])
    return {
        name: tuple(np.expand_dims(part, axis) for part in factor)
        for name, factor in stats.items()
    }
