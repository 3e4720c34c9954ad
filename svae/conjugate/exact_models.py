r"""Graphical models of the data themselves, whose local factors are all exact.

Without networks a latent model meets data in one of two ways.  The data are its x
(`Known`): of a mixture, a hidden Markov model, or, with dynamics, an autoregressive
one; what is left to infer is z.  Or they are linear in its x (`Emitted`), as frames of
a linear dynamical system.  Either way the local log normalizer ``l(m)``, a function of
the expected statistics m of q(theta), is all that learning needs; see `svae.conjugate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp

from svae import conjugate, data, kernels
from svae.autodiff.trees import tree_map
from svae.conjugate.initialization import density_of
from svae.data import Windows
from svae.families.arrays import outer
from svae.models import LDS, Evidence, LinearEmission
from svae.models.base import draw_latents
from svae.models.inference.switching import markov_potentials
from svae.types import Array, Message

__all__ = ["Emitted", "Known", "check_missing", "observed_model"]

START_ITERATIONS = 10
"""Of coordinate ascent from each clustering, before the best is kept."""


@dataclass(frozen=True)
class Known:
    """Data that are the x of a latent model with discrete states."""

    latent: Any

    @property
    def family(self) -> Any:
        """Name of each factor of p(theta) -> module of `svae.families`."""
        return self.latent.family

    @property
    def ascends(self) -> bool:
        """Whether steps are certain not to lower the bound."""
        return bool(self.latent.ascends)

    def prior(self, obs_dim: int) -> Message:
        """Return the natural parameters of p(theta).

        Raises
        ------
        ValueError
            If the data have another dimension than x.
        """
        if obs_dim != self.latent.latent_dim:
            raise ValueError(
                f"data has {obs_dim} dimensions, but {type(self.latent).__name__} has "
                f"latent_dim={self.latent.latent_dim}: they must be equal"
            )
        return self.latent.prior()

    def prior_given(self, points: Windows) -> Message:
        """Return the prior, in which data may have a part; see `svae.SLDS`."""
        if not hasattr(self.latent, "empirical_prior"):
            return self.prior(points.values.shape[-1])
        return self.latent.empirical_prior(points)

    def start(
        self,
        prior: Message,
        points: Windows,
        rng: onp.random.Generator,
        num_restarts: int,
    ) -> Message:
        """Return natural parameters after some ascent from clusterings, the best."""
        if self.latent.independent and points.observed is not None:
            here = points.scored_frames[:, 0]
            points = Windows(points.values[here])
        return conjugate.initialize(
            self.latent, prior, points, rng, num_restarts, START_ITERATIONS
        )[0]

    def local(self, stats: Message, points: Windows) -> Any:
        """Return l(m) of each sequence, (N,), differentiable in m = ``stats``."""
        return self._scored(density_of(self.latent, points)(stats), points)

    def posterior(self, stats: Message, points: Windows) -> tuple[Any, Any, Any, Any]:
        """Return mean and covariance of x, unknown nowhere, p(z) and l(m)."""
        potentials = self._state_potentials(stats, points)
        logZ, (_, _, states) = kernels.markov_chain(
            *markov_potentials(stats), potentials, points.lengths
        )
        return None, None, states, self._scored(logZ, points)

    def most_likely_states(self, stats: Message, points: Windows) -> onp.ndarray:
        """Return the most likely path of each sequence, (N, T) int64."""
        potentials = self._state_potentials(stats, points)
        return self.latent.most_likely_states(stats, potentials, points.lengths)

    def draw(self, theta: Any, num_steps: int, rng: onp.random.Generator) -> Any:
        """Draw frames (num_steps, P) given theta."""
        drawn = draw_latents(self.latent, theta, num_steps, rng)
        return drawn.latents.reshape(num_steps, -1)

    def _state_potentials(self, stats: Message, points: Windows) -> Array:
        return self.latent.state_potentials(
            stats, points.values, points.observed_frames
        )

    def _scored(self, values: Array, points: Windows) -> Any:
        """Sum missing points of independent ones out, their z included: log 1."""
        if not self.latent.independent or points.observed is None:
            return values
        return np.where(points.scored_frames[:, 0], values, 0.0)


@dataclass(frozen=True)
class Emitted:
    """Data that are linear in the x of a linear dynamical system."""

    latent: LDS
    emission: LinearEmission
    ascends: ClassVar[bool] = True

    @property
    def family(self) -> Any:
        """Name of each factor of p(theta) -> module of `svae.families`."""
        return self.latent.family | {"emission": self.emission.family}

    def prior(self, obs_dim: int) -> Message:
        """Return the natural parameters of p(theta)."""
        emission = self.emission.prior(self.latent.latent_dim, obs_dim)
        return self.latent.prior() | {"emission": emission}

    def prior_given(self, points: Windows) -> Message:
        """Return the prior: x is not known before training, and has no part in it."""
        return self.prior(points.values.shape[-1])

    def start(
        self,
        prior: Message,
        points: Windows,
        rng: onp.random.Generator,
        num_restarts: int,
    ) -> Message:
        """Return natural parameters given principal components in the place of x."""
        latents = components_of_stretches(points, self.latent.latent_dim, rng)
        latents = self._to_prior_scale(latents, points.valid)

        def complete(stats: Message) -> Any:
            dynamics = self.latent.log_density(stats, latents, points.lengths)
            emission = self.emission.log_density(
                stats["emission"], latents, points.values, points.scored_frames
            )
            return np.sum(dynamics) + np.sum(emission)

        _, natural = conjugate.direction(complete, self.family, prior, prior)
        return tree_map(onp.add, prior, natural)

    def local(self, stats: Message, points: Windows) -> Any:
        """Return l(m) of each sequence, (N,), differentiable in m = ``stats``."""
        local, constant = self._infer(stats, points)
        return local.log_normalizer + constant

    def posterior(self, stats: Message, points: Windows) -> tuple[Any, Any, Any, Any]:
        """Return mean and covariance of x, no states, and l(m)."""
        local, constant = self._infer(stats, points)
        cov = local.second_moment - outer(local.mean, local.mean)
        return local.mean, cov, None, local.log_normalizer + constant

    def draw(self, theta: Any, num_steps: int, rng: onp.random.Generator) -> Any:
        """Draw frames (num_steps, P) given theta."""
        drawn = draw_latents(self.latent, theta, num_steps, rng)
        latents = drawn.latents.reshape(num_steps, -1)
        obs_dim = len(theta["emission"][1])
        noise = rng.standard_normal((num_steps, obs_dim))
        return self.emission.draw(theta["emission"], latents, noise)

    def _infer(self, stats: Message, points: Windows) -> tuple[Any, Any]:
        (J, h), constant = self.emission.node(
            stats["emission"], points.values, points.scored_frames
        )
        return self.latent.infer(stats, Evidence(J, h, points.lengths)), constant

    def _to_prior_scale(self, latents: onp.ndarray, valid: onp.ndarray) -> Any:
        """Scale x so that its steps have about the variance that the prior expects."""
        steps = onp.diff(latents, axis=1)[valid[:, 1:]]
        variance = onp.mean(steps**2) if steps.size else 0.0
        if not variance > 0:
            return latents
        return latents * onp.sqrt(self.latent.step_variance / variance)


def observed_model(latent: Any, emission: LinearEmission | None) -> Known | Emitted:
    """Return how the data meet a latent model.

    Raises
    ------
    TypeError
        If the latent model is none that can be fitted to data without networks, or the
        emission is none.
    ValueError
        If there is an emission and the data are x.
    """
    if emission is not None and not isinstance(emission, LinearEmission):
        raise TypeError(f"emission must be svae.LinearEmission(...), got {emission!r}")
    if isinstance(latent, LDS):
        return Emitted(latent, LinearEmission() if emission is None else emission)
    if not hasattr(latent, "num_states") or isinstance(latent, type):
        raise TypeError(
            "latent must be svae.GMM(...), svae.StudentMixture(...), svae.HMM(...), "
            f"svae.LDS(...) or svae.SLDS(...), got {latent!r}"
        )
    if emission is not None:
        name = type(latent).__name__
        raise ValueError(f"emission: the data themselves are the x of {name}")
    return Known(latent)


def check_missing(model: Known | Emitted, sequences: Sequence[Any]) -> None:
    """Raise ValueError, naming the place, where a missing value leaves no exact q.

    Whole frames may be missing, but not single entries; beside known x that are coupled
    nothing may.
    """
    refused = isinstance(model, Known) and model.latent.coupled
    for index, start, frames in data.stretches(sequences):
        missing = onp.isnan(frames)
        wrong = missing if refused else missing & ~missing.all(axis=1, keepdims=True)
        if wrong.any():
            step, dimension = onp.argwhere(wrong)[0]
            advice = (
                "the dynamics of the data are not known around it, so cut the "
                "sequence there"
                if refused
                else "whole frames may be missing (NaN in every dimension), single "
                "entries may not"
            )
            raise ValueError(
                f"data is missing at sequence {index}, step {start + step}, dimension "
                f"{dimension}: {advice}"
            )


def components_of_stretches(
    points: Windows, dim: int, rng: onp.random.Generator
) -> onp.ndarray:
    """Return D leading principal components (N, T, D) of stretches of frames.

    A stretch that begins with frame t has at least 2 D numbers: noise-free frames of an
    observable system tell x_t, even where they have fewer dimensions than x.  The
    components have unit variance; noise takes the place of those that do not vary.
    """
    frames, valid, scored = points.values, points.valid, points.scored_frames
    centred = onp.where(scored[..., None], frames - frames[scored].mean(axis=0), 0.0)
    for row, observed, length in zip(centred, scored, points.num_steps, strict=True):
        fill_gaps(row[:length], observed[:length])
    size = -(-2 * dim // frames.shape[2])
    later = onp.arange(frames.shape[1])[:, None] + onp.arange(size)
    later = onp.minimum(later, points.num_steps[:, None, None] - 1)
    rows = onp.arange(len(frames))[:, None, None]
    stretches = centred[rows, later].reshape(*valid.shape, -1)
    _, variances, axes = onp.linalg.svd(
        onp.cov(stretches[valid], rowvar=False, bias=True), hermitian=True
    )
    varies = variances[:dim] > 1e-12 * variances[0]
    components = rng.standard_normal((*valid.shape, dim))
    scores = stretches @ axes[:dim].T
    components[..., varies] = scores[..., varies] / onp.sqrt(variances[:dim][varies])
    return components


def fill_gaps(frames: onp.ndarray, observed: onp.ndarray) -> None:
    """Put linear interpolations where frames (T, P) are not observed."""
    if observed.all() or not observed.any():
        return
    (here,), (gaps,) = onp.nonzero(observed), onp.nonzero(~observed)
    for column in frames.T:
        column[gaps] = onp.interp(gaps, here, column[here])
