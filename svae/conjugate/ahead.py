r"""One step ahead without networks: every density is exact.

At a point theta the frames of a linear dynamical system have Gaussian laws given the
past, those of `svae.models.inference.filtering` seen through the emission.  Where the
data are x themselves only z is filtered, and a frame is a mixture over it, of
components or, autoregressive, of what each state makes of the frame before.  By the
chain rule log densities add up to the log likelihood, ``SVI.score(theta="mean")``.
"""

from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.conjugate.exact_models import Emitted, Known
from svae.data import Windows
from svae.families import product
from svae.families.arrays import matvec
from svae.models import Evidence
from svae.models.inference.filtering import filtering, first_law
from svae.models.inference.prediction import laws
from svae.models.inference.switching import markov_potentials
from svae.models.transport import inflations
from svae.types import Message

__all__ = ["OneStep", "one_step_ahead"]


class OneStep(NamedTuple):
    """What is known of every step of N sequences given the steps before it."""

    mean: np.ndarray
    """(N, T, P), of the frames."""
    var: np.ndarray
    """(N, T, P), infinite where a component without a second moment is possible."""
    log_density: np.ndarray
    """(N, T), 0 of frames without data."""
    predicted: Any
    """Mean (N, T, D) and covariance (N, T, D, D) of x, or None of both, and
    probabilities (N, T, K) of z, or None."""
    filtered: Any
    """The same given the frame itself too."""


def one_step_ahead(model: Known | Emitted, theta: Any, points: Windows) -> OneStep:
    """Predict every frame of some sequences from those before it, at one theta.

    Parameters
    ----------
    model : Known or Emitted
    theta : dict
        As draws of q(theta) are.
    points : Windows
        Whole sequences; of independent rows, each is one.
    """
    stats = product.stats(model.family, theta)
    if isinstance(model, Emitted):
        return _of_emission(model, theta, stats, points)
    return _of_mixture(model, theta, stats, points)


def _of_emission(
    model: Emitted, theta: Any, stats: Message, points: Windows
) -> OneStep:
    """Predict frames that are linear in x, by the filter of x."""
    scored, of_frames = points.scored_frames, stats["emission"]
    (J, h), _ = model.emission.node(of_frames, points.values, scored)
    found = filtering(model.latent, theta, Evidence(J, h, points.lengths))
    weights, precision = theta["emission"]
    C, d = weights[:, :-1], weights[:, -1]
    before = found.predicted
    constants = model.emission.constants(of_frames, points.values)
    return OneStep(
        matvec(C, before.mean) + d,
        np.einsum("pi,ntij,pj->ntp", C, before.cov, C, optimize=True)
        + np.diagonal(np.linalg.inv(precision)),
        np.where(scored, found.log_evidence + constants, 0.0),
        (before.mean, before.cov, None),
        (found.filtered.mean, found.filtered.cov, None),
    )


def _of_mixture(model: Known, theta: Any, stats: Message, points: Windows) -> OneStep:
    """Predict frames that z selects the law of, by the filter of z."""
    latent = model.latent
    potentials = latent.state_potentials(stats, points.values, points.observed_frames)
    chain = *markov_potentials(stats), potentials, points.lengths
    (log_after, filtered), (log_before, predicted) = kernels.markov_filter(*chain)
    first, (A, b, Q) = first_law(latent, theta), laws(latent, theta)
    values = points.values
    # location (N, T, K, P) and variance (T, K, P) of a frame given its state
    location = np.broadcast_to(b, (*values.shape[:2], *b.shape)).copy()
    location[:, 1:] += np.einsum("kij,ntj->ntki", A, values[:, :-1])
    location[:, 0] = first.means
    var = np.repeat(np.diagonal(Q, axis1=1, axis2=2)[None], values.shape[1], axis=0)
    var[0] = np.diagonal(first.covs, axis1=1, axis2=2)
    var = _with_tails(latent, stats, var)
    mean = np.einsum("ntk,ntkp->ntp", predicted, location)
    apart = (location - mean[:, :, None]) ** 2
    # a state that is impossible has no part in it, whatever its variance
    possible = predicted[..., None] > 0
    terms = np.where(possible, predicted[..., None] * (var + apart), 0.0)
    log_density = np.where(points.scored_frames, log_after - log_before, 0.0)
    return OneStep(
        mean,
        terms.sum(axis=2),
        log_density,
        (None, None, predicted),
        (None, None, filtered),
    )


def _with_tails(latent: Any, stats: Message, var: np.ndarray) -> np.ndarray:
    """Return variances (T, K, P) of scale matrices whose diagonals are given."""
    switch = latent.switch
    if not hasattr(switch, "dofs"):
        return var
    inflation, heavy = inflations(switch.dofs(switch.natparams(stats)))
    return var * np.where(heavy, np.inf, inflation)[:, None]
