"""Typical points, and moments of frames."""

import numpy as np

from svae.families import product
from svae.objective.batch import Batch
from svae.objective.local import infer
from svae.objective.model import Parameters
from svae.testing import typical_natparams
from tests.helpers.problems import generative

HORIZON = 3


def typical(latent, seed=0):
    """Return a model between two nonlinear networks, away from any special point."""
    rng = np.random.default_rng(seed)
    model = generative(latent)
    encoder, decoder = model.encoder.init(rng, 3, 2), model.decoder.init(rng, 2, 3)
    natparams = latent.initial_posterior(rng)
    if not hasattr(latent, "num_states"):
        natparams = typical_natparams(latent, rng)
    return model, Parameters(natparams, encoder, decoder)


def local_of(model, parameters, frames):
    stats = product.expected_stats(model.latent.family, parameters.natparams)
    missing = np.isnan(frames)
    batch = Batch(np.nan_to_num(frames)[None], None, ~missing[None])
    return infer(model, stats, parameters.encoder, batch, dense=True)


def until_data(frames):
    """Return frames up to the last with data, at least one, and how many follow."""
    told = np.flatnonzero(~np.isnan(frames).all(axis=1))
    end = told[-1] + 1 if len(told) else 1
    return frames[:end], len(frames) - end


def cov_of(second_moment, mean):
    return second_moment - mean[..., :, None] * mean[..., None, :]
