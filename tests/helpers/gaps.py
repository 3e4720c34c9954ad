"""Small problems with gaps."""

import numpy as np

import svae
from svae import data as data_
from svae.objective.batch import Batch, Noise
from svae.objective.local import frame_log_likelihood, local_factor
from svae.objective.model import Parameters
from tests.helpers.exact import (
    latent_model,
    with_gaps,
)
from tests.helpers.problems import (
    generative,
)

SMALL = svae.MLP((6,))


LIKELIHOODS = ("gaussian", "bernoulli")


def small_problem(name, kind, likelihood="gaussian", sees_mask=False, hide=False):
    """Return (model, parameters, prior, batch, noise) with something missing."""
    rng = np.random.default_rng(11)
    latent = latent_model(name, num_states=3)
    model = generative(latent, likelihood=likelihood)
    fill = np.array([0.2, 0.4, 0.1])
    model = model._replace(fill=fill, sees_mask=sees_mask)
    encoder = model.encoder.init(rng, model.num_inputs(3), 2)
    decoder = model.decoder.init(rng, 2, 3)
    natparams = latent.initial_posterior(rng)
    steps = 1 if latent.independent else 6
    sequences = [with_gaps(rng, (6, 3), kind), rng.standard_normal((4, 3))]
    if kind == "frames":  # a gap at the very beginning
        sequences[1][0] = np.nan
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    windows = data_.batch(sequences, data_.windows(sequences, steps))
    shown = None
    if hide:
        shown = np.ones(windows.values.shape[:2], dtype=bool)
        shown[:, 2:4] = False
    batch = Batch.of(windows, scale=1.5, shown=shown)
    noise = Noise(rng.standard_normal((len(batch.values), 2, steps, 2)), np.zeros(0))
    return model, Parameters(natparams, encoder, decoder), latent.prior(), batch, noise


def frames_and_factor(model, stats, parameters, batch, noise):
    """Log p(y_t | x_t) (M, S, T) and the local factor with dense second moments."""
    local = local_factor(
        model, stats, parameters.encoder, batch, noise.latents, dense=True
    )
    weights = parameters.decoder
    return frame_log_likelihood(model, weights, batch, local.samples), local


def recordings(rng, likelihood="gaussian"):
    """Ragged sequences: of frames, of entries, and one of which nothing is known."""
    sequences = [
        with_gaps(rng, (9, 3), "frames"),
        with_gaps(rng, (5, 3), "entries"),
        with_gaps(rng, (4, 3), "all"),
        rng.standard_normal((7, 3)),
    ]
    if likelihood == "bernoulli":
        sequences = [np.where(np.isnan(s), s, 1.0 * (s > 0)) for s in sequences]
    return sequences


def with_gaps_everywhere(rng, kind):
    """Three ragged sequences with every kind of gap, or only whole frames."""
    sequences = [rng.standard_normal((n, 3)) + [1.0, 2.0, 3.0] for n in (12, 9, 5)]
    for sequence in sequences:
        sequence[[0, 3, len(sequence) - 1]] = np.nan
        if kind == "entries":
            sequence[2, 1] = sequence[1, 0] = np.nan
    return sequences


def make(name, **options):
    tolerance = {} if name in ("gaussian", "lds") else {"tolerance": 1e-6}
    return svae.SVAE(latent_model(name, **tolerance), SMALL, SMALL, **options)
