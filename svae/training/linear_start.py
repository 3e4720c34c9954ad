r"""The linear start: networks that begin as the linear model of the data.

Random networks take hundreds of steps to what principal components give at once, and
until then a latent model learns from latents that mean little.  So the decoder begins
as the map of probabilistic principal components, the encoder as what these know of x
given a frame, which is a Gaussian with a diagonal precision, and q(theta) as the best
of several coordinate ascents on the latents so encoded.  The evidence of the encoder
then *is* the likelihood of the decoder, so that the correction of the natural gradient
is zero at first, and hidden layers add only what is not linear.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.conjugate.principal_components import (
    PrincipalComponents,
    principal_components,
)
from svae.likelihoods import label
from svae.models import ConvergenceWarning
from svae.networks.architectures import starts_affine
from svae.networks.units import Units
from svae.objective.batch import Batch, draw_noise
from svae.objective.bound import bound
from svae.objective.model import Generative, Parameters
from svae.training.batches import EXCERPT, spread
from svae.types import Array, Mask

__all__ = [
    "STARTS",
    "LinearStart",
    "first_record",
    "has_linear_start",
    "linear_networks",
    "linear_start",
]

STARTS = ("linear", "random")
MAX_FRAMES = 20000
"""Frames that are enough for principal components."""
MAX_NUMBERS = 2**26
"""Numbers that frames for them may have: half a gigabyte."""
LEAST_PRECISION = 1e-6
"""Of evidence about a dimension of x that the data have not."""
LOG_VARIANCES = -9.0, 9.0
"""Where log variances may start: nearer to their bounds of 10 they hardly move."""


class LinearStart(NamedTuple):
    """The linear model of the data, in the units that it has the networks see."""

    components: PrincipalComponents
    units: Units


def has_linear_start(model: Generative) -> bool:
    """Whether the networks and the likelihood can begin as a linear model."""
    return why_not(model) is None


def why_not(model: Generative) -> str | None:
    """Say what keeps a model from a linear start, None if nothing does."""
    for role in ("encoder", "decoder"):
        network = getattr(model, role)
        if not starts_affine(network):
            return (
                f"the {role} {network!r} cannot begin as a linear map; svae.Residual "
                "networks with mean='linear' can, and so can any with a method "
                "init_affine"
            )
    if not hasattr(model.likelihood, "rescaled"):
        return (
            f"the likelihood {label(model.likelihood)} has no linear model; "
            "svae.likelihoods.Gaussian has"
        )
    return None


def linear_start(
    model: Generative, sequences: Sequence[Any], windows: np.ndarray
) -> LinearStart:
    """Fit probabilistic principal components to frames from everywhere in the data.

    Parameters
    ----------
    model : Generative
    sequences : list of (T_n, P) arrays or recordings
    windows : (M, 3) int64 array
        Of training.

    Raises
    ------
    ValueError
        If ``model`` has no linear start, or the data do not vary.
    """
    reason = why_not(model)
    if reason is not None:
        raise ValueError(f"start='linear': {reason}; or choose start='random'")
    values, observed = _frames(data.batch(sequences, _few(sequences, windows)))
    count = np.maximum(observed.sum(axis=0), 1)
    center = np.where(observed, values, 0.0).sum(axis=0) / count
    squares = np.where(observed, values - center, 0.0) ** 2
    scale = float(np.sqrt(squares.sum() / observed.sum()))
    if not scale > 0:
        raise ValueError(
            "start='linear': no column of the data varies, so that there is nothing to "
            "start from; look at the data, or choose start='random'"
        )
    standardized = np.where(observed, values - center, 0.0) / scale
    components = principal_components(standardized, model.latent.latent_dim, observed)
    precision = np.maximum(components.precision, LEAST_PRECISION)
    return LinearStart(components, Units(center, scale, precision))


def _few(sequences: Sequence[Any], windows: np.ndarray) -> np.ndarray:
    """Return windows from everywhere in the data that are enough for components."""
    obs_dim = sequences[0].shape[1]
    limit = max(min(MAX_FRAMES, MAX_NUMBERS // obs_dim), 1)
    longest = int((windows[:, 2] - windows[:, 1]).max())
    if longest > limit // 8 and longest > 1:  # from everywhere, not from one stretch
        windows = data.windows(sequences, max(limit // 64, 1))
    return spread(windows, limit)


def _frames(windows: data.Windows) -> tuple[Array, Mask]:
    """Return frames with data (M, P), and what is observed of them."""
    values, observed = windows.values, windows.observed
    if observed is None:
        observed = np.ones(values.shape, dtype=bool)
    return values[windows.scored_frames], observed[windows.scored_frames]


def linear_networks(
    model: Generative, start: LinearStart, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Return weights of encoder and decoder with which they are the linear model.

    Parameters
    ----------
    model : Generative
        In the units of the start.
    start : LinearStart
    rng : numpy.random.Generator
        For hidden layers, which have no effect yet.
    """
    components, likelihood = start.components, model.likelihood
    weights = components.weights
    obs_dim, latent_dim = weights.shape
    # W'(y - mu) / sigma^2, in units of the precision W'W / sigma^2
    matrix = weights / (components.noise * start.units.precision)
    bias = -components.mean @ matrix
    mask = np.zeros((model.num_inputs(obs_dim) - obs_dim, latent_dim))
    encoder: Any = model.encoder
    recognition = encoder.init_affine(
        rng, np.concatenate([matrix, mask]), bias, np.ones(latent_dim)
    )
    variances = _start_variances(model, start)
    decoder: Any = model.decoder
    of_network = likelihood.scale_from == "network"
    network = decoder.init_affine(
        rng, weights.T, components.mean, variances if of_network else None
    )
    if of_network:
        return recognition, network
    own: Any = likelihood
    return recognition, {"network": network, "likelihood": own.init_at(variances)}


def _start_variances(model: Generative, start: LinearStart) -> Array:
    """Return the variances of each dimension given x, (P,), without the floor.

    The maximum-likelihood sigma^2 where all dimensions share it, and else what the
    components leave of each; in the units of the networks.
    """
    components, likelihood = start.components, model.likelihood
    variances = np.full(len(components.mean), components.noise)
    if getattr(likelihood, "variance", "shared") != "shared":
        variances = components.residual
    floor = getattr(likelihood, "floor", 0.0) / start.units.scale**2
    low, high = np.exp(LOG_VARIANCES)
    return np.clip(variances - floor, low, high)


def first_record(
    model: Generative,
    start: LinearStart,
    parameters: Parameters,
    prior: Any,
    sequences: Sequence[Any],
    windows: np.ndarray,
) -> dict[str, float]:
    """Return the bound before the first step beside the score of the linear model.

    Parameters
    ----------
    model : Generative
        In the units of the start.
    start : LinearStart
    parameters : Parameters
    prior : dict
        Natural parameters of p(theta).
    sequences : list of (T_n, P) arrays or recordings
    windows : (M, 3) int64 array
        Of training; some of them from everywhere stand for all.

    Returns
    -------
    dict with the bound and its parts, as the history has them, and ``linear``, the log
    likelihood of the principal components, all in nats for the whole data.
    """
    few = spread(windows, EXCERPT)
    scale = len(windows) / len(few)
    batch = Batch.of(data.batch(sequences, few), scale=scale)
    rng = np.random.default_rng(0)
    noise = draw_noise(model, parameters.decoder, batch.values.shape[:2], 1, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = bound(model, parameters, prior, batch, noise)
    frames, observed = _frames(batch)
    units = start.units
    densities = start.components.log_density(units.standardize(frames), observed)
    densities = densities + units.log_jacobian(observed, frames.shape[-1])
    return found._asdict() | {"linear": float(scale * densities.sum())}
