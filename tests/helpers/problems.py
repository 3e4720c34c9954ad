"""Small models between networks, batches, and coordinates of natural parameters."""

import warnings
from types import SimpleNamespace

import numpy as np

from svae import Linear, Residual
from svae.autodiff.trees import from_vector, leaves, to_vector, tree_map
from svae.families import product
from svae.likelihoods import named
from svae.models import ConvergenceWarning
from svae.objective.batch import Batch, Noise
from svae.objective.bound import contribution
from svae.objective.model import Generative, Parameters
from svae.testing import latent_model, typical_graph, typical_natparams
from svae.training import step as fit
from svae.training.batches import assemble, draw


def generative(latent, network=None, likelihood="gaussian", decoder_posterior="point"):
    """Wrap a latent model between two small networks."""
    network = network or Residual((5,), weight_scale=0.3)
    return Generative(latent, network, network, named(likelihood), decoder_posterior)


def problem(name, seed=0, obs_dim=3, **options):
    """Return (model, parameters, prior, batch, noise) away from any special point.

    Of a structured inference network if the name begins with ``sin-``.
    """
    rng = np.random.default_rng(seed)
    latent = latent_model(name.removeprefix("sin-"))
    model = generative(latent, **options)
    encoder = model.encoder.init(rng, obs_dim, 2)
    decoder = model.decoder.init(rng, 2, obs_dim)
    if model.decoder_posterior == "gaussian":
        spread = tree_map(lambda w: -1.0 + 0.1 * rng.standard_normal(w.shape), decoder)
        decoder = {"mean": decoder, "log_std": spread}
    prior = latent.prior()
    natparams = typical_natparams(latent, rng)
    steps = 1 if latent.independent else 5
    values = rng.standard_normal((4, steps, obs_dim))
    lengths = None if latent.independent else np.array([5, 3, 1, 4])
    batch = Batch(values, lengths, scale=2.5)
    size = to_vector(decoder["mean"]).size if "mean" in decoder else 0
    noise = Noise(rng.standard_normal((4, 2, steps, 2)), rng.standard_normal(size))
    if name.startswith("sin-"):
        model = model._replace(inference="sin")
        encoder = {"network": encoder, "graph": typical_graph(latent, rng)}
    return model, Parameters(natparams, encoder, decoder), prior, batch, noise


def symmetric_basis(tree):
    """Return columns, one for each free coordinate of a tree.

    Square leaves that equal their transpose are symmetric matrices.
    """
    columns, offset = [], 0
    total = to_vector(tree).size
    for leaf in leaves(tree):
        leaf = np.asarray(leaf)
        index = offset + np.arange(leaf.size).reshape(leaf.shape)
        square = leaf.ndim >= 2 and leaf.shape[-1] == leaf.shape[-2]
        if square and np.array_equal(leaf, np.swapaxes(leaf, -1, -2)):
            rows, cols = np.tril_indices(leaf.shape[-1])
            pairs = zip(
                index[..., rows, cols].ravel(),
                index[..., cols, rows].ravel(),
                strict=True,
            )
        else:
            pairs = ((i, i) for i in index.ravel())
        for i, j in pairs:
            column = np.zeros(total)
            column[[i, j]] = 1.0
            columns.append(column)
        offset += leaf.size
    return np.array(columns).T


def shifted(tree, vector):
    """Return the tree moved by a flat vector."""
    return from_vector(tree, to_vector(tree) + vector)


def central_difference(function, direction, step=1e-3):
    """Fourth-order central difference of function(s * direction) at s = 0."""
    f = {k: function(k * step * direction) for k in (-2, -1, 1, 2)}
    return (f[-2] - 8 * f[-1] + 8 * f[1] - f[2]) / (12 * step)


def read_windows(model, parameters, sequences, cut, rng, scale=1.0, **options):
    """Read windows as a step does; return the batch and contexts without convergence.

    ``options`` are those of `svae.training.batches.draw`.
    """
    drawn = draw(model, parameters.decoder, cut, scale, rng, **options)
    message = product.expected_stats(model.latent.family, parameters.natparams)
    return assemble(model, message, parameters.encoder, sequences, drawn)


def take_step(model, state, prior, batch, settings, rng):
    """Take a step of training on a batch, with noise drawn for it."""
    steps = [(index, 0, batch.values.shape[1]) for index in range(len(batch.values))]
    drawn = draw(
        model,
        state.parameters.decoder,
        np.array(steps),
        batch.scale,
        rng,
        settings.num_samples,
    )

    def evaluate(model, message, encoder, decoder, minibatch, natural_gradient, frozen):
        given = message, encoder, decoder, batch, drawn.noise, natural_gradient, frozen
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return contribution(model, *given), 0

    stage = fit.Stage(model, prior, np.array(steps), settings)
    state, record, states = fit.step_on(drawn, stage, state, evaluate)
    return state, SimpleNamespace(**record), states


def exact_networks(obs_dim=3, latent_dim=2, seed=0):
    """Linear decoder and the recognition network whose potentials are exact.

    With orthogonal columns C the evidence C' R^-1 C is diagonal.
    """
    rng = np.random.default_rng(seed)
    C = np.linalg.qr(rng.standard_normal((obs_dim, obs_dim)))[0][:, :latent_dim] * 1.7
    d, variance = rng.standard_normal(obs_dim), 0.6
    decoder = {
        "location": (C.T, d),
        "log_scale": np.full(obs_dim, np.log(variance)),
    }
    encoder = {
        "location": (C / variance, -d @ C / variance),
        "log_scale": np.log(np.sum(C**2, axis=0) / variance),
    }
    return Linear(), encoder, decoder


def quadrature_by_step(number, steps):
    """Noise (M, 4, T, 2) with exact first and second moments at every step."""
    points = np.sqrt(2) * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    return np.tile(points[None, :, None], (number, 1, steps, 1))
