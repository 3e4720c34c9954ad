"""Linear-Gaussian models for which everything is known: theta, the evidence, q(theta).

Given a path of states all frames are one Gaussian, whose moments are written out here;
states are summed out by enumeration.  NaN in the frames leaves entries out.
"""

from itertools import product as paths
from typing import Any, NamedTuple

import numpy as np

import svae
from svae import GMM, HMM, LDS, SLDS, Gaussian
from svae.families import dirichlet, mniw, niw, product
from svae.objective.model import Generative, Parameters
from tests.helpers.problems import exact_networks, generative

NAMES = ("gaussian", "gmm", "hmm", "lds", "slds")
CHAINS = ("hmm", "lds", "slds")
MEANS = np.array([[1.5, -0.5], [-1.0, 1.0]])
COVS = np.array([[[0.6, 0.2], [0.2, 0.5]], [[0.4, -0.1], [-0.1, 0.8]]])
DYNAMICS = np.array([[[0.9, 0.3], [-0.3, 0.8]], [[0.5, -0.6], [0.7, 0.4]]])
NOISES = np.array([[[0.3, 0.1], [0.1, 0.2]], [[0.5, 0.0], [0.0, 0.4]]])
WEIGHTS = np.array([0.6, 0.4])
TRANSITIONS = np.array([[0.8, 0.2], [0.3, 0.7]])


def latent_model(name, num_states=2, **options):
    """Return the latent model of a name, two-dimensional, with two states."""
    iterative = {"tolerance": 1e-13, "max_iterations": 5000}
    return {
        "gaussian": lambda: Gaussian(2),
        "gmm": lambda: GMM(num_states, 2, **iterative | options),
        "hmm": lambda: HMM(num_states, 2, **iterative | options),
        "lds": lambda: LDS(2, **options),
        "slds": lambda: SLDS(num_states, 2, **iterative | options),
    }[name]()


def known_theta(name, spread=1.0):
    """Return theta as draws of q(theta) are; ``spread`` moves the components apart."""
    markov = {"weights": WEIGHTS, "transitions": TRANSITIONS}
    components = spread * MEANS, np.linalg.inv(COVS)
    init, dynamics = components, (DYNAMICS, np.linalg.inv(NOISES))
    first = {
        "init": tuple(x[0] for x in init),
        "dynamics": tuple(x[0] for x in dynamics),
    }
    return {
        "gaussian": {},
        "gmm": {"weights": WEIGHTS, "components": components},
        "hmm": markov | {"components": components},
        "lds": first,
        "slds": markov | {"init": init, "dynamics": dynamics},
    }[name]


def concentrated(theta, count=1e12):
    """Return natural parameters of a q(theta) that is as good as a point, its mean."""
    natparams = {}
    for name, draw in theta.items():
        if name in ("weights", "transitions"):
            natparams[name] = dirichlet.from_standard(count * draw)
            continue
        mean, precision = draw
        counts = np.full(mean.shape[: precision.ndim - 2], count)
        scale = count * np.linalg.inv(precision)
        if name == "dynamics":
            column_cov = np.eye(mean.shape[-1]) / counts[..., None, None]
            natparams[name] = mniw.from_standard(mean, column_cov, scale, counts)
        else:
            natparams[name] = niw.from_standard(mean, counts, scale, counts)
    return natparams


class World(NamedTuple):
    """A model, theta, and a q(theta) around it; potentials are exact."""

    latent: Any
    model: Generative
    theta: dict[str, Any]
    parameters: Parameters

    @property
    def stats(self):
        """T(theta), which takes the place of the message for known theta."""
        return product.stats(self.latent.family, self.theta)

    def fitted(self):
        """Return the model as an SVAE would have it after `fit`."""
        return estimator(self.model, self.parameters)


def world(name, seed=0, spread=1.0, **options):
    """Return a linear-Gaussian world with three-dimensional frames."""
    network, encoder, decoder = exact_networks(seed=seed)
    latent, theta = latent_model(name, **options), known_theta(name, spread)
    parameters = Parameters(concentrated(theta), encoder, decoder)
    return World(latent, generative(latent, network), theta, parameters)


def estimator(model, parameters, obs_dim=3):
    """Return an SVAE that holds these parameters."""
    fitted = svae.SVAE(
        model.latent,
        model.encoder,
        model.decoder,
        likelihood=model.likelihood,
        decoder_posterior=model.decoder_posterior,
        inference=model.inference,
    )
    fitted.parameters_, fitted.obs_dim_, fitted.history_ = parameters, obs_dim, {}
    fitted.fill_, fitted.sees_mask_ = np.zeros(obs_dim) + model.fill, model.sees_mask
    return fitted


def path_moments(theta, states):
    """Mean (T, D) and covariance (T, D, T, D) of x given a path of states."""
    T, D = len(states), 2
    mean, cov = np.zeros((T, D)), np.zeros((T, D, T, D))
    if "dynamics" not in theta:
        for t, z in enumerate(states):
            if "components" in theta:
                location, precision = (x[z] for x in theta["components"])
            else:
                location, precision = np.zeros(D), np.eye(D)
            mean[t], cov[t, :, t] = location, np.linalg.inv(precision)
        return mean, cov

    def of_state(name, z):
        return tuple(x[z] for x in theta[name]) if "weights" in theta else theta[name]

    location, precision = of_state("init", states[0])
    mean[0], cov[0, :, 0] = location, np.linalg.inv(precision)
    for t in range(1, T):
        A, precision = of_state("dynamics", states[t])
        mean[t] = A @ mean[t - 1]
        cov[t, :, :t] = np.einsum("ij,jtk->itk", A, cov[t - 1, :, :t])
        cov[:t, :, t] = np.moveaxis(cov[t, :, :t], 0, -1)
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + np.linalg.inv(precision)
    return mean, cov


def log_prob_of_path(theta, states):
    """Log p(z | theta); the labels of a mixture are independent."""
    if "weights" not in theta:
        return 0.0
    if "transitions" not in theta:
        return np.sum(np.log(theta["weights"][list(states)]))
    steps = theta["transitions"][list(states[:-1]), list(states[1:])]
    return np.log(theta["weights"][states[0]]) + np.sum(np.log(steps))


class Given(NamedTuple):
    """What frames (T, P) say under one path of states."""

    log_joint: float
    """log p(y, z | theta)"""
    mean: np.ndarray
    """(T, D), of x given y and z."""
    cov: np.ndarray
    """(T, D, T, D)"""


def given_paths(theta, decoder, frames):
    """Yield, with every path of states, what the observed entries say under it."""
    matrix, offset = decoder["location"]
    variance = np.exp(decoder["log_scale"])
    T, P = frames.shape
    seen = ~np.isnan(frames).ravel()
    C = np.kron(np.eye(T), matrix.T)[seen]
    residual = (frames - offset).ravel()[seen]
    num_states = len(theta["weights"]) if "weights" in theta else 1
    for states in paths(range(num_states), repeat=T):
        mean, cov = path_moments(theta, states)
        size = mean.size
        mean, cov = mean.ravel(), cov.reshape(size, size)
        of_frames = C @ cov @ C.T + np.diag(np.tile(variance, T)[seen])
        gain = np.linalg.solve(of_frames, C @ cov).T
        error = residual - C @ mean
        quadratic = error @ np.linalg.solve(of_frames, error)
        log_det = np.linalg.slogdet(2 * np.pi * of_frames)[1]
        yield (
            states,
            Given(
                log_prob_of_path(theta, states) - 0.5 * (quadratic + log_det),
                (mean + gain @ error).reshape(T, -1),
                (cov - gain @ C @ cov).reshape(T, size // T, T, size // T),
            ),
        )


def log_evidence(theta, decoder, frames):
    """Return log p(y | theta) of what was observed, states and x summed out."""
    return np.logaddexp.reduce(
        [given.log_joint for _, given in given_paths(theta, decoder, frames)]
    )


def with_gaps(rng, shape, kind):
    """Draw frames (T, P) with some of them, or some entries, or all of them missing."""
    frames = rng.standard_normal(shape)
    if kind == "frames":
        frames[[1, len(frames) - 1]] = np.nan
    elif kind == "entries":
        frames[0, 1] = frames[2, 0] = frames[2, 2] = np.nan
    elif kind == "all":
        frames[:] = np.nan
    return frames


class Fixed:
    """A generator whose normal draws are given: quadrature in the place of chance."""

    def __init__(self, draws):
        self.draws = draws

    def standard_normal(self, shape):
        """Return the draws, which must have the shape that is wanted."""
        assert self.draws.shape == tuple(shape)
        return self.draws

    def random(self, shape):
        """Nobody should ask."""
        raise AssertionError("uniform draws were not expected")


def quadrature(num_sequences, num_steps, dim):
    """Noise (M, S, T, D) under which means of quadratic functions are exact."""
    size = num_steps * dim
    points = np.sqrt(size) * np.concatenate([np.eye(size), -np.eye(size)])
    points = points.reshape(2 * size, num_steps, dim)
    return np.tile(points, (num_sequences, 1, 1, 1))
