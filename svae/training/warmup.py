"""Before training: networks that say something, and a q(theta) that fits what they say.

Inference of a switching model with untrained networks tells states badly apart, may
give all frames to one, and training hardly leaves that again. So the networks first
learn as a variational autoencoder, in which every step is an independent N(0, I) and
there are no states to collapse; then q(theta) is fitted to the latents, from several
clusterings of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from svae import conjugate, data
from svae.data import sequences as sequences_
from svae.models import Gaussian
from svae.objective.batch import Batch
from svae.objective.local import infer
from svae.objective.model import Generative, Parameters, initial_encoder, recognition
from svae.training.batches import spread
from svae.training.settings import Settings
from svae.training.step import State, first_state

__all__ = [
    "autoencoder",
    "encode",
    "initial_networks",
    "initialize",
    "settings_of_frames",
]


def initial_networks(model: Generative, state: State) -> State:
    """Return the state from which the networks of a model learn on their own."""
    network, _ = recognition(model, state.parameters.encoder)
    return first_state(Parameters({}, network, state.parameters.decoder))


def settings_of_frames(settings: Settings, window: int) -> Settings:
    """Return settings for batches of as many frames, but from everywhere.

    Steps are independent, they have no past to begin with, and cannot be predicted.
    Schedules begin with training.
    """
    size = settings.batch_size * window
    settings = settings._replace(schedule="constant", natural_schedule="constant")
    return settings._replace(batch_size=size, context=0, hide=0, warm_start=False)


def initialize(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[Any],
    windows: np.ndarray,
    rng: np.random.Generator,
    points: data.Windows | None = None,
) -> State:
    """Fit q(theta) to the latents of an autoencoder, and return a state to train from.

    Parameters
    ----------
    model : Generative
    state : State
        Of the autoencoder.
    prior : dict
    sequences : list of (T_n, P) arrays or recordings
    windows : (M, 3) int64 array
        Of training.
    rng : numpy.random.Generator
        For clusterings of the latents, of which the best is taken.
    points : Windows, optional
        The latents of as many windows as are used, if they are known already.

    Returns
    -------
    State
        With the moments of Adam where the networks are all there is to learn.
    """
    networks = state.parameters
    natparams = dict(prior)
    if model.latent.family:
        few = spread(windows, conjugate.MAX_FRAMES)
        if points is None:
            points = encode(model, networks.encoder, sequences, few)
        start, _ = conjugate.initialize(model.latent, prior, points, rng)
        scale = len(windows) / len(few)
        natparams = conjugate.extrapolate(model.latent.family, prior, start, scale)
    encoder = initial_encoder(model, natparams, networks.encoder)
    first = first_state(Parameters(natparams, encoder, networks.decoder))
    # where there is a graph beside the network it is new
    known = encoder is networks.encoder
    return first._replace(adam=state.adam) if known else first


def autoencoder(model: Generative) -> Generative:
    """Return the variational autoencoder with the networks of a model."""
    return model._replace(latent=Gaussian(model.latent.latent_dim), inference="svae")


def encode(
    model: Generative, encoder: Any, sequences: Sequence[Any], windows: np.ndarray
) -> data.Windows:
    """Return means of x under N(0, I) and the encoder's evidence, window by window.

    Every frame is for itself, so that neither many windows nor a wide or a long one
    needs more memory than `svae.sequences_.STRETCH` numbers at a time, or one frame.
    """
    lengths = windows[:, 2] - windows[:, 1]
    latents = np.zeros((len(windows), lengths.max(), model.latent.latent_dim))
    observed = np.ones(latents.shape[:2], dtype=bool)
    for rows, start, cut in _parts(windows, sequences[0].shape[1]):
        batch = Batch.of(data.batch(sequences, cut))
        batch = replace(batch, lengths=cut[:, 2] - cut[:, 1])
        local = infer(autoencoder(model), {}, encoder, batch)
        steps = slice(start, start + batch.values.shape[1])
        latents[rows, steps] = local.mean
        if batch.observed_frames is not None:
            observed[rows, steps] = batch.observed_frames
    points = data.Windows(latents, lengths)
    if np.all(observed | ~points.valid):
        return points
    return replace(points, observed=(observed & points.valid)[..., None])


def _parts(
    windows: np.ndarray, obs_dim: int
) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Cut windows (M, 3) into parts of frames that are read together.

    Yields the windows that a part is of, its first step in them, and where it is in the
    sequences, as `svae.data.windows` has it.
    """
    lengths = windows[:, 2] - windows[:, 1]
    steps = min(int(lengths.max()), max(1, sequences_.STRETCH // obs_dim))
    count = max(1, sequences_.STRETCH // (steps * obs_dim))
    for first in range(0, len(windows), count):
        own = lengths[first : first + count]
        for start in range(0, int(own.max()), steps):
            rows = first + np.flatnonzero(own > start)
            index, begin, stop = windows[rows].T
            begin = begin + start
            cut = np.stack([index, begin, np.minimum(begin + steps, stop)], axis=1)
            yield rows, start, cut
