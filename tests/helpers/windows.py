"""Windows of recordings, and the state of a fit that reads them."""

import numpy as np

from svae import data as data_
from svae.training import step as fit_
from svae.training.settings import make_settings
from tests.helpers.exact import latent_model
from tests.helpers.problems import (
    generative,
    read_windows,
)


def settings(independent=False, **options):
    defaults = {
        "batch_size": 3,
        "window": 4,
        "num_samples": 1,
        "learning_rate": 1e-3,
        "natural_step": 0.1,
    }
    return make_settings(independent, **(defaults | options))


def typical(name, **options):
    """Return a model between nonlinear networks, and its initial state."""
    latent = latent_model(name, **options)
    model = generative(latent)
    return model, fit_.initial_state(model, 3, np.random.default_rng(3))


def recordings(rng, gaps=False):
    sequences = [rng.standard_normal((n, 3)) for n in (11, 4, 6, 1, 9)]
    if gaps:
        sequences[0][[0, 3, 7]] = np.nan  # two of them just before a window
        sequences[2][4, 1] = np.nan
        sequences[4][3:5] = np.nan
    return sequences


def every_window(model, state, sequences, rng, **options):
    """Assemble all windows as one batch; return it with their cuts."""
    chosen = settings(**options)
    windows = data_.windows(sequences, chosen.window)
    batch, unconverged = read_windows(
        model,
        state.parameters,
        sequences,
        windows,
        rng,
        context=chosen.context,
        hide=chosen.hide,
    )
    assert unconverged == 0
    return batch, windows
