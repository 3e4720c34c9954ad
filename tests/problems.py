"""Small models with fixed seeds, and coordinates of their natural parameters."""

import numpy as np

from svae import GMM, LDS, Gaussian, Linear, Residual
from svae.generative import Generative, Parameters
from svae.objective import Batch, Noise
from svae.trees import from_vector, leaves, to_vector, tree_map


def generative(latent, network=None, likelihood="gaussian", decoder_posterior="point"):
    """Wrap a latent model between two small networks."""
    network = network or Residual((5,), weight_scale=0.3)
    return Generative(latent, network, network, likelihood, decoder_posterior)


def problem(name, seed=0, obs_dim=3, **options):
    """Return (model, parameters, prior, batch, noise) away from any special point."""
    rng = np.random.default_rng(seed)
    latent = {
        "gaussian": lambda: Gaussian(2),
        "gmm": lambda: GMM(3, 2, initial_spread=1.0, tolerance=1e-13),
        "lds": lambda: LDS(2),
    }[name]()
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
    batch = Batch(values, lengths, 2.5)
    size = to_vector(decoder["mean"]).size if "mean" in decoder else 0
    noise = Noise(rng.standard_normal((4, 2, steps, 2)), rng.standard_normal(size))
    return model, Parameters(natparams, encoder, decoder), prior, batch, noise


def typical_natparams(latent, rng):
    """Return a posterior after some data: the start plus random statistics."""
    natparams = latent.initial_posterior(rng)
    dim = latent.latent_dim

    def counts(eta, draws):
        return tuple(e + d for e, d in zip(eta, draws, strict=True))

    def niw_draw(batch):
        x = rng.standard_normal((*batch, 6, dim))
        outer = np.einsum("...ni,...nj->...ij", x, x)
        return outer, x.sum(-2), np.full(batch, 6.0), np.full(batch, 6.0)

    if "weights" in natparams:
        states = latent.num_states
        return {
            "weights": (natparams["weights"][0] + 3 * rng.random(states),),
            "components": counts(natparams["components"], niw_draw((states,))),
        }
    if "dynamics" in natparams:
        x, y = rng.standard_normal((2, 8, dim))
        pairs = (x.T @ x, x.T @ y, y.T @ y, np.array(8.0))
        return {
            "init": counts(natparams["init"], niw_draw(())),
            "dynamics": counts(natparams["dynamics"], pairs),
        }
    return natparams


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
