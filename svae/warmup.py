"""Before training: networks that say something, and a q(theta) that fits what they say.

Inference of a switching model with untrained networks tells states badly apart, may
give all frames to one, and training hardly leaves that again. So the networks first
learn as a variational autoencoder, in which every step is an independent N(0, I) and
there are no states to collapse; then q(theta) is fitted to the latents, from several
clusterings of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from svae import conjugate, data
from svae.batches import spread, window_length
from svae.fit import Settings, State, run
from svae.generative import (
    Generative,
    Parameters,
    initial_encoder,
    recognition,
)
from svae.models import Gaussian
from svae.objective import Batch, infer
from svae.optim import adam_init
from svae.trees import to_vector

__all__ = ["encode", "warm_up"]


def warm_up(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[Any],
    num_steps: int,
    settings: Settings,
    rng: np.random.Generator,
    callback: Callable[[State, dict[str, float]], None],
) -> State:
    """Train the networks as a variational autoencoder, fit q(theta) to its latents.

    Parameters
    ----------
    model, state, prior, sequences, settings, rng, callback
        As in `svae.fit.run`.
    num_steps : int
        Of the autoencoder; 0 takes the networks as they are.

    Returns
    -------
    State
        To start training from.
    """
    network, _ = recognition(model, state.parameters.encoder)
    networks = Parameters({}, network, state.parameters.decoder)
    last = [State(networks, adam_init(to_vector(networks).size), 0, {})]

    def keep(moved: State, record: dict[str, float]) -> None:
        last[0] = moved
        callback(moved, record)

    length = window_length(model, sequences, settings.window)
    # as many frames in a step, but from everywhere: steps are independent, they have
    # no past to begin with, and cannot be predicted
    frames = settings._replace(
        batch_size=settings.batch_size * length, context=0, hide=0, warm_start=False
    )
    run(autoencoder(model), last[0], {}, sequences, num_steps, frames, rng, keep)
    networks = last[0].parameters
    windows = data.windows(sequences, length)
    few = spread(windows, conjugate.MAX_FRAMES)
    points = encode(model, networks.encoder, sequences, few)
    start, _ = conjugate.initialize(model.latent, prior, points, rng)
    scale = len(windows) / len(few)
    natparams = conjugate.extrapolate(model.latent.family, prior, start, scale)
    encoder = initial_encoder(model, natparams, networks.encoder)
    if encoder is networks.encoder:
        adam = last[0].adam
    else:  # the graph is new
        adam = adam_init(to_vector((encoder, networks.decoder)).size)
    return State(Parameters(natparams, encoder, networks.decoder), adam, 0, {})


def autoencoder(model: Generative) -> Generative:
    """Return the variational autoencoder with the networks of a model."""
    return model._replace(latent=Gaussian(model.latent.latent_dim), inference="svae")


def encode(
    model: Generative, encoder: Any, sequences: Sequence[Any], windows: np.ndarray
) -> conjugate.Points:
    """Return means of x under N(0, I) and the encoder's evidence, window by window."""
    values, observed, lengths = data.batch(sequences, windows)
    if lengths is None:
        lengths = np.full(len(values), values.shape[1])
    batch = Batch(values, lengths, 1.0, observed)
    local = infer(autoencoder(model), {}, encoder, batch)
    frames = None if observed is None else observed.any(axis=-1)
    return conjugate.Points(local.mean, lengths, frames)
