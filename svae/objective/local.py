"""The local factor of a batch: recognition network, message passing, likelihood."""

from typing import Any, cast

import autograd.numpy as np
import numpy as onp

from svae.autodiff.operations import inner, value_of
from svae.models import Evidence, Local
from svae.models.base import StructuredModel
from svae.models.inference import structured
from svae.networks import log_likelihood, recognize
from svae.objective.batch import Batch
from svae.objective.control_variate import control_variate
from svae.objective.model import Generative, recognition
from svae.types import Array, Message

__all__ = [
    "expected",
    "frame_log_likelihood",
    "infer",
    "local_factor",
    "local_terms",
    "log_proposal",
    "without_empty",
]


def infer(
    model: Generative,
    stats: Message,
    encoder: Any,
    batch: Batch,
    noise: onp.ndarray | None = None,
    dense: bool = False,
    uniforms: onp.ndarray | None = None,
) -> Local:
    """Return the local factor: recognition network, then message passing.

    Parameters
    ----------
    model : Generative
    stats : dict
        Expected statistics of q(theta), the message m.
    encoder : tree
        phi: the weights of the recognition network, and perhaps a graph.
    batch : Batch
    noise : (M, S, T, D) array or None
    dense : bool
        For a chain, return second moments of x as (M, T, D, D), not their diagonals.
    uniforms : (M, S, T) array, optional
        From `draw_uniforms`: samples are then draws from q(x), without weights.

    Returns
    -------
    Local
    """
    network, graph = recognition(model, encoder)
    of_data = evidence(model, network, batch)
    if dense and not model.latent.independent:
        identity = onp.eye(model.latent.latent_dim)
        of_data = of_data._replace(J=of_data.J[..., None] * identity)
    return _factor(model, graph, stats, of_data, batch, noise, uniforms)


def _factor(
    model: Generative,
    graph: Any,
    stats: Any,
    of_data: Evidence,
    batch: Batch,
    noise: onp.ndarray | None,
    uniforms: onp.ndarray | None = None,
) -> Local:
    """Return the local factor given evidence, under the prior or a graph of its own."""
    if graph is None:
        return model.latent.infer(stats, of_data, noise, batch.starts)
    latent = cast(StructuredModel, model.latent)
    return structured.infer(latent, graph, stats, of_data, noise, uniforms)


def evidence(model: Generative, network: Any, batch: Batch) -> Evidence:
    """Return what the recognition network says of a batch, and what is known of it."""
    J, h = recognize(
        model.encoder,
        network,
        batch.values,
        batch.shown_entries,
        model.fill,
        model.sees_mask,
        batch.valid,
        model.units,
    )
    return Evidence(J, h, batch.lengths, batch.observed_frames, batch.belief)


def log_proposal(
    model: Generative, encoder: Any, batch: Batch, local: Local
) -> onp.ndarray:
    """Return log q(x) (M, S) at the samples of a structured inference network."""
    network, graph = recognition(model, encoder)
    latent = cast(StructuredModel, model.latent)
    return structured.log_density(latent, graph, evidence(model, network, batch), local)


def local_factor(
    model: Generative,
    stats: Message,
    encoder: Any,
    batch: Batch,
    noise: onp.ndarray,
    dense: bool = False,
    uniforms: onp.ndarray | None = None,
) -> Local:
    """Return the local factor; a row without data is no datum and costs nothing."""
    local = infer(model, stats, encoder, batch, noise, dense, uniforms)
    return without_empty(local, batch) if model.latent.independent else local


def without_empty(local: Local, batch: Batch) -> Local:
    """Let sequences of which nothing was observed cost nothing."""
    if batch.observed is None:
        return local
    return local._replace(
        kl=np.where(batch.nonempty, local.kl, 0.0),
        log_normalizer=np.where(batch.nonempty, local.log_normalizer, 0.0),
    )


def local_terms(
    model: Generative,
    stats: Message,
    encoder: Any,
    weights: Any,
    batch: Batch,
    noise: onp.ndarray,
) -> tuple[Any, Local]:
    """Return E log p(y | x, gamma), (M,), and the local factor with its KL, (M,).

    With a control variate frames count in it that are scored and shown to the encoder:
    there is no evidence of the others.
    """
    network, graph = recognition(model, encoder)
    of_data = evidence(model, network, batch)
    local = _factor(model, graph, stats, of_data, batch, noise)
    if model.latent.independent:
        local = without_empty(local, batch)
    frames = frame_log_likelihood(model, weights, batch, local.samples)
    estimate = expected(frames, local.weights)
    if not model.control_variate:
        return estimate, local
    cleared = of_data.cleared()
    known = control_variate(
        local.mean,
        local.second_moment,
        local.samples,
        local.weights,
        value_of(cleared.J),
        value_of(cleared.h),
    )
    return estimate + known, local


def frame_log_likelihood(
    model: Generative, weights: Any, batch: Batch, latents: Array
) -> Any:
    """Return log p(y_t | x_t, gamma), (M, S, T), at latents (M, S, T, D)."""
    return log_likelihood(
        model.likelihood,
        model.decoder,
        weights,
        latents,
        batch.values,
        batch.scored,
        model.units,
    )


def expected(frames: Array, weights: Any) -> Array:
    """Sum frames (M, S, T) over time, and average over samples: (M,)."""
    if weights is None:
        weights = onp.full(frames.shape, 1.0 / frames.shape[1])
    return inner(weights, frames)
