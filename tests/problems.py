"""Small models with fixed seeds, and coordinates of their natural parameters."""

import warnings

import numpy as np

from svae import GMM, HMM, LDS, SLDS, Gaussian, Linear, Residual, StudentMixture
from svae.autodiff.trees import from_vector, leaves, to_vector, tree_map
from svae.families import product
from svae.models import ConvergenceWarning
from svae.objective.batch import Batch, Noise
from svae.objective.bound import contribution
from svae.objective.model import Generative, Parameters
from svae.training import step as fit
from svae.training.batches import assemble, draw


def generative(latent, network=None, likelihood="gaussian", decoder_posterior="point"):
    """Wrap a latent model between two small networks."""
    network = network or Residual((5,), weight_scale=0.3)
    return Generative(latent, network, network, likelihood, decoder_posterior)


LATENT = {
    "gaussian": (Gaussian, {"latent_dim": 2}),
    "gmm": (GMM, {"num_states": 3, "latent_dim": 2, "initial_spread": 1.0}),
    "hmm": (HMM, {"num_states": 3, "latent_dim": 2, "initial_spread": 1.0}),
    "lds": (LDS, {"latent_dim": 2}),
    "affine-lds": (LDS, {"latent_dim": 2, "affine": True}),
    "slds": (SLDS, {"num_states": 3, "latent_dim": 2, "initial_spread": 0.5}),
    "affine-slds": (
        SLDS,
        {"num_states": 3, "latent_dim": 2, "affine": True, "initial_spread": 0.5},
    ),
}
SMALL_STUDENT = LATENT["gmm"][1] | {"dof": 4.0}
STUDENT = {  # x given z is not Gaussian
    "student": (StudentMixture, SMALL_STUDENT),
    "learned-student": (StudentMixture, SMALL_STUDENT | {"learn_dof": True}),
}
MEAN_FIELD = ("gmm", "hmm", "slds", "affine-slds")


def latent_model(name, tolerance=1e-13, **options):
    """Return a small latent model; those that iterate do so down to rounding."""
    kind, defaults = (LATENT | STUDENT)[name]
    if name in (*MEAN_FIELD, *STUDENT):
        options["tolerance"] = tolerance
    return kind(**(defaults | options))


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


def typical_graph(latent, rng):
    """Return free coordinates of a graph, none of whose factors is normalised."""
    message = product.expected_stats(latent.family, typical_natparams(latent, rng))
    coordinates = product.to_free(latent.family, message)
    return tree_map(
        lambda part: part + 0.2 * rng.standard_normal(part.shape), coordinates
    )


def typical_natparams(latent, rng):
    """Return a posterior after some data: the start plus random statistics."""
    dim = latent.latent_dim

    def gaussians(eta):
        x = rng.standard_normal((*eta[2].shape, 6, dim))
        count = np.full(eta[2].shape, 6.0)
        return np.swapaxes(x, -1, -2) @ x, x.sum(-2), count, count

    def pairs(eta):
        x, y = rng.standard_normal((2, *np.shape(eta[3]), 8, dim))
        if latent.affine:
            x = np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)
        xT, yT = np.swapaxes(x, -1, -2), np.swapaxes(y, -1, -2)
        return xT @ x, xT @ y, yT @ y, np.full(np.shape(eta[3]), 8.0)

    def curved(eta):
        return -rng.uniform(1, 4, eta[0].shape), rng.uniform(1, 8, eta[1].shape)

    draws = {
        "dof": curved,
        "weights": lambda eta: (3 * rng.random(eta[0].shape),),
        "transitions": lambda eta: (3 * rng.random(eta[0].shape),),
        "components": gaussians,
        "init": gaussians,
        "dynamics": pairs,
    }
    return {
        name: tuple(e + d for e, d in zip(eta, draws[name](eta), strict=True))
        for name, eta in latent.initial_posterior(rng).items()
    }


def typical_theta(latent, rng, precision=1.0, spread=1.0):
    """Return a theta as `product.sample` draws it: distinct states, stable dynamics.

    ``precision`` is that of the noise, ``spread`` how far means and biases are apart.
    """
    K, D = getattr(latent, "num_states", None), latent.latent_dim
    lead = () if K is None else (K,)
    root = rng.standard_normal((2, *lead, D, D)) / np.sqrt(D)
    noise = precision * (root @ np.swapaxes(root, -1, -2) + np.eye(D))
    means = spread * rng.standard_normal((*lead, D))
    rotations = np.linalg.qr(rng.standard_normal((*lead, D, D)))[0]
    A = 0.9 * rotations
    if getattr(latent, "affine", False):
        A = np.concatenate([A, spread * rng.standard_normal((*lead, D, 1))], axis=-1)
    theta = {
        "dof": lambda: np.log(rng.uniform(3.0, 9.0, (K, 1))),
        "weights": lambda: rng.dirichlet(np.full(K, 2.0)),
        "transitions": lambda: rng.dirichlet(np.full(K, 2.0), K),
        "components": lambda: (means, noise[0]),
        "init": lambda: (means, noise[0]),
        "dynamics": lambda: (A, noise[1]),
    }
    return {name: theta[name]() for name in latent.family}


def local_problem(latent, rng, lengths=(5, 3, 1, 4), dense=False):
    """Return the message m, node potentials of sequences of these lengths, lengths."""
    stats = product.expected_stats(latent.family, typical_natparams(latent, rng))
    number, steps = len(lengths), 1 if latent.independent else max(lengths)
    shape = (number, steps, latent.latent_dim)
    J = -rng.uniform(0.1, 0.5, shape)
    if dense:
        root = rng.standard_normal((*shape, shape[-1]))
        J = -0.1 * (root @ np.swapaxes(root, -1, -2) + np.eye(shape[-1]))
    lengths = None if latent.independent else np.array(lengths)
    return stats, (J, 0.5 * rng.standard_normal(shape)), lengths


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

    def evaluate(task):
        networks = task.encoder, task.decoder
        given = task.message, *networks, batch, drawn.noise, task.natural_gradient
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return contribution(model, *given), 0

    return fit.step(model, state, prior, drawn, evaluate, settings)


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
