"""An SVAE step in JAX: our linear dynamical system between networks in `jax.numpy`.

The model of Johnson et al. (2016), Fig. 4, with its parameters by gradient: an encoder
gives node potentials, `svae.interop.jax.gaussian_chain` the posterior of the latent
chain, its samples and its log normalizer, and a decoder the likelihood. One `jax.jit`
holds the step, and `jax.grad` goes through all of it::

    python examples/interop_jax.py [NUM_STEPS]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from svae.data.synthetic import dots  # noqa: E402
from svae.interop.jax import gaussian_chain  # noqa: E402

NUM_SEQUENCES, WINDOW, NUM_PIXELS, D, HIDDEN = 8, 100, 10, 4, 40


def layers(rng, *sizes):
    """Draw weights and biases of an MLP."""
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [(rng.standard_normal(s) / np.sqrt(s[0]), np.zeros(s[1])) for s in pairs]


def network(params, x):
    """Apply an MLP."""
    *hidden, (W, b) = params
    for V, c in hidden:
        x = jnp.tanh(x @ V + c)
    return x @ W + b


def start(rng):
    """Draw parameters to start from."""
    return {
        "encoder": layers(rng, NUM_PIXELS, HIDDEN, 2 * D),
        "decoder": layers(rng, D, HIDDEN, NUM_PIXELS),
        "log_variance": np.zeros(NUM_PIXELS),
        "A": 0.9 * np.eye(D),
        "log_noise": np.full(D, -2.0),
    }


def prior(params):
    """Natural parameters of the chain x_{t+1} = A x_t + noise, and their log Z."""
    A, precision = params["A"], jnp.exp(-params["log_noise"])
    AQ = A.T * precision
    init = -jnp.eye(D) / 2, jnp.zeros(D)
    pair = -AQ @ A / 2, AQ, -jnp.diag(precision) / 2
    log_dets = (WINDOW - 1) * params["log_noise"].sum()
    return init, pair, (WINDOW * D * jnp.log(2 * jnp.pi) + log_dets) / 2


def bound(params, y, noise):
    """Evidence lower bound of each frame: E log p(y | x) - KL(q(x) | p(x))."""
    init, pair, prior_logZ = prior(params)
    raw, h = jnp.split(network(params["encoder"], y), 2, -1)
    J = -jax.nn.softplus(raw) / 2
    logZ, stats, samples = gaussian_chain(init, pair, (J, h), noise)
    squares, means = stats[2]
    # KL = <node potentials, statistics> - log Z(q) + log Z(p)
    kl = (J * squares + h * means).sum() - logZ.sum() + len(y) * prior_logZ
    error = y[:, None] - network(params["decoder"], samples)
    log_density = -(error**2) / jnp.exp(params["log_variance"]) / 2
    log_density -= (params["log_variance"] + jnp.log(2 * jnp.pi)) / 2
    return (log_density.sum((2, 3)).mean(1).sum() - kl) / y[..., 0].size


@jax.jit
def step(params, momenta, y, noise, t):
    """Ascend by Adam."""
    value, gradient = jax.value_and_grad(bound)(params, y, noise)
    mean, square = momenta
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)

    def moved(x, m, s):
        m, s = m / (1 - 0.9**t), s / (1 - 0.999**t)
        return x + 3e-3 * m / (jnp.sqrt(s) + 1e-8)

    return jax.tree.map(moved, params, mean, square), (mean, square), value


def main(num_steps=300):
    """Fit a dot that bounces between walls; return the bound at every step."""
    rng = np.random.default_rng(0)
    frames = dots(NUM_PIXELS)
    frames = frames / frames.std()
    params = start(rng)
    zeros = jax.tree.map(jnp.zeros_like, params)
    momenta, values = (zeros, zeros), []
    for t in range(1, num_steps + 1):
        first = rng.integers(0, len(frames) - WINDOW, NUM_SEQUENCES)
        y = np.stack([frames[n : n + WINDOW] for n in first])
        noise = rng.standard_normal((NUM_SEQUENCES, 1, WINDOW, D))
        params, momenta, value = step(params, momenta, y, noise, t)
        values.append(float(value))
        if t in (1, num_steps) or t % 50 == 0:
            print(f"step {t}: bound of a frame {np.mean(values[-20:]):.3f}")
    return values


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
