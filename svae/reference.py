"""The kernels as they are defined, in plain autograd NumPy.

The same functions as in `svae.kernels`, written to be read: loops over time, arrays
over sequences, and no derivative by hand. Natural parameters are literal. The Gaussian
chain has the density, up to its normalizer,

    exp( <J0, x_1 x_1'> + h0' x_1 + sum_t [ <Jn_t, x_t x_t'> + hn_t' x_t
         + <J11_t, x_t x_t'> + x_t' J12_t x_{t+1} + <J22_t, x_{t+1} x_{t+1}'> ] )

and the Markov chain

    exp( init[z_1] + sum_t node_t[z_t] + sum_t pair_t[z_t, z_{t+1}] ).

Shapes: N sequences of T steps, latent dimension D or K states. A potential of `init` or
`pair` is shared, (D, D), or given per sequence and step, (N, T-1, D, D), an axis of
length 1 being shared too. Its expected statistic has its shape, summed over what is
shared: expected statistics are the gradient of the sum of the log normalizers. A
sequence shorter than T is followed by steps that nothing couples to it; what the
arguments hold there is selected away before any arithmetic, and zero (-1 in a path) is
returned.

Of networks, the layers of `svae.kernels.layers` that have compiled passes, and a step
of Adam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import autograd.numpy as np
from autograd.tracer import getval, isbox

from svae.errors import Impossible, NotPositiveDefinite

__all__ = [
    "adam",
    "gaussian_chain",
    "gaussian_head",
    "homoscedastic_log_density",
    "markov_chain",
    "sample_markov_chain",
    "tanh_layer",
    "viterbi",
]

Array = Any  # a NumPy array, or autograd's box around one
Triple = tuple[Array, Array, Array]


def gaussian_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Array | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array | None]:
    """Log normalizer, expected statistics and samples of a Gaussian chain.

    Parameters
    ----------
    init : (J (D, D) or (N, D, D), h (D,) or (N, D))
    pair : (J11, J12, J22), each (D, D) or broadcastable to (N, T-1, D, D)
    node : (J (N, T, D) diagonal or (N, T, D, D), h (N, T, D))
    noise : (N, S, T, D) standard normal draws, optional
    lengths : (N,) integers in 1..T, optional

    Returns
    -------
    logZ : (N,)
    stats : ((ExxT, Ex), (ExxT, ExxnT, ExnxnT), (ExxT or its diagonal, Ex)), each in the
        shape of its potential
    samples : (N, S, T, D), mean + L^-T noise with L the lower Cholesky factor of the
        joint precision in time order; None without noise

    Raises
    ------
    NotPositiveDefinite
        If the joint precision of a sequence is not positive definite.
    """
    init, pair, node = _arrays(init), _arrays(pair), _arrays(node)
    num_sequences, num_timesteps, latent_dim = node[1].shape
    live = _live(lengths, num_sequences, num_timesteps)
    precision, coupling, h = _block_tridiagonal(init, pair, node, live)
    logZ, factors = _filter(precision, coupling, h)
    logZ = logZ + live.sum(1) * latent_dim / 2 * np.log(2 * np.pi)
    mean, cov, cross_cov = _smoother(factors)

    Ex = _select(live, mean)
    ExxT = _select(live, cov + _outer(mean, mean))
    ExxnT = cross_cov[:, :-1] + _outer(mean[:, :-1], mean[:, 1:])
    ExxT_of_pair = ExxT[:, :-1], ExxnT, ExxT[:, 1:]
    pair_stats = tuple(
        _like(potential, _select(live[:, 1:], stat))
        for potential, stat in zip(pair, ExxT_of_pair, strict=True)
    )
    init_stats = _like(init[0], ExxT[:, 0]), _like(init[1], Ex[:, 0])
    node_stats = (ExxT if node[0].ndim == 4 else _diagonal(ExxT)), Ex
    samples = None if noise is None else _sampler(factors, noise, live)
    return logZ, (init_stats, pair_stats, node_stats), samples


def _block_tridiagonal(
    init: list[Array], pair: list[Array], node: list[Array], live: Array
) -> Triple:
    """Diagonal blocks (N, T, D, D) and h (N, T, D) of the joint precision; couplings.

    The potential of x_t and x_{t+1} is x_t' coupling_t x_{t+1}; the last of the
    (N, T, D, D) couplings is zero. Steps past the length are standard normal.
    """
    N, T, D = node[1].shape
    none = np.zeros((N, 1, D, D))
    J11, J12, J22 = (_select(live[:, 1:], J + np.zeros((N, T - 1, D, D))) for J in pair)
    if node[0].ndim == 4:
        Jn = _select(live, node[0], -np.eye(D) / 2)
    else:
        Jn = _select(live, node[0], -1 / 2)[..., None] * np.eye(D)
    J0, h0 = (init[0] + none[:, 0])[:, None], (init[1] + np.zeros((N, D)))[:, None]
    J = Jn + np.concatenate((J0, J22), 1) + np.concatenate((J11, none), 1)
    hn = _select(live, node[1])
    h = np.concatenate((hn[:, :1] + h0, hn[:, 1:]), 1)
    return -(J + _transpose(J)), np.concatenate((J12, none), 1), h


def _filter(precision: Array, coupling: Array, h: Array) -> tuple[Array, list[Triple]]:
    """Integrate out x_1, x_2, ... in turn: a block Cholesky factorisation.

    With A = L L' the precision of x_t given the past, W = L^-1 coupling, w = L^-1 h,
    integrating x_t out sends -W'W and W'w to step t+1. Returns logZ without its
    2 pi, and (L, W, w) of every step.
    """
    N, T, D = h.shape
    logZ, W, w, factors = np.zeros(N), np.zeros((N, D, D)), np.zeros((N, D)), []
    for t in range(T):
        try:
            L = np.linalg.cholesky(precision[:, t] - _transpose(W) @ W)
        except np.linalg.LinAlgError:
            raise _not_positive_definite(getval(precision), getval(coupling)) from None
        w = _solve(L, h[:, t] + _apply(_transpose(W), w))
        W = np.linalg.solve(L, coupling[:, t])
        logZ = logZ + np.sum(w**2 / 2 - np.log(_diagonal(L)), -1)
        factors.append((L, W, w))
    return logZ, factors


def _smoother(factors: list[Triple]) -> Triple:
    """Means (N, T, D); covariances and Cov(x_t, x_{t+1}), (N, T, D, D).

    Given x_{t+1} and the past, x_t is normal, mean L^-T (w + W x_{t+1}), covariance
    (L L')^-1.
    """
    cov, mean = np.zeros_like(factors[0][0]), np.zeros_like(factors[0][2])
    moments = []
    for L, W, w in reversed(factors):
        root, gain = np.linalg.inv(L), np.linalg.solve(_transpose(L), W)
        cross_cov = gain @ cov
        cov = _transpose(root) @ root + cross_cov @ _transpose(gain)
        mean = _solve(_transpose(L), w + _apply(W, mean))
        moments.append((mean, cov, cross_cov))
    means, covs, cross_covs = zip(*reversed(moments), strict=True)
    return _stack(means), _stack(covs), _stack(cross_covs)


def _sampler(factors: list[Triple], noise: Array, live: Array) -> Array:
    """Backward sampling: the smoother's mean with x_{t+1} drawn instead of averaged."""
    noise = np.moveaxis(_select(live[:, None], *_arrays([noise])), 1, 3)
    x, samples = np.zeros_like(noise[:, 0]), []
    for t in reversed(range(len(factors))):
        L, W, w = factors[t]
        x = np.linalg.solve(_transpose(L), w[..., None] + W @ x + noise[:, t])
        samples.append(x)
    return _select(live[:, None], np.moveaxis(_stack(samples[::-1]), 3, 1))


def _not_positive_definite(precision: Array, coupling: Array) -> NotPositiveDefinite:
    """Name the first sequence whose factorisation stops, and the step it stops at."""
    for n, (blocks, couplings) in enumerate(zip(precision, coupling, strict=True)):
        W = np.zeros_like(blocks[0])
        for t, (block, B) in enumerate(zip(blocks, couplings, strict=True)):
            try:
                W = np.linalg.solve(np.linalg.cholesky(block - W.T @ W), B)
            except np.linalg.LinAlgError:
                return NotPositiveDefinite(n, t)
    raise AssertionError("no block of any sequence fails on its own")


def markov_chain(
    init: Array, pair: Array, node: Array, lengths: Array | None = None
) -> tuple[Array, Triple]:
    """Log normalizer and expected statistics of a Markov chain.

    Parameters
    ----------
    init : (K,) or (N, K) log potentials, -inf forbids
    pair : (K, K) or broadcastable to (N, T-1, K, K), [i, j] for i followed by j
    node : (N, T, K)
    lengths : (N,) integers in 1..T, optional

    Returns
    -------
    logZ : (N,)
    stats : (init, pair, node) probabilities, each in the shape of its potential

    Raises
    ------
    Impossible
        If no path of a sequence has positive probability.
    """
    init, pair, node = _arrays((init, pair, node))
    live = _live(lengths, *node.shape[:2])
    logZ, filtered, backward = _forward(init, pair, node, live)

    # P(z_t = i, z_{t+1} = j) = P(z_t = i | z_{t+1} = j, steps up to t) P(z_{t+1} = j)
    coupled = np.concatenate((live[:, 1:], np.zeros((len(live), 1), bool)), 1)
    marginal, marginals, joints = filtered[-1], [], []
    for t in reversed(range(len(filtered))):
        joint = backward[t] * marginal[:, None, :]
        marginal = np.where(coupled[:, t, None], np.sum(joint, -1), filtered[t])
        marginals.append(marginal)
        joints.append(joint)
    node_stat = _select(live, _stack(marginals[::-1]))
    pair_stat = _select(live[:, 1:], _stack(joints[::-1])[:, :-1])
    return logZ, (_like(init, node_stat[:, 0]), _like(pair, pair_stat), node_stat)


def _forward(
    init: Array, pair: Array, node: Array, live: Array
) -> tuple[Array, list[Array], list[Array]]:
    """Filter with a normalisation at every step, so that no message grows with time.

    Returns logZ (N,); of every step P(z_t | steps up to t), (N, K); and of every step
    P(z_t = i | z_{t+1} = j, steps up to t), (N, K, K), zero where j is out of reach.
    """
    init, pair, node = _over_steps(init, pair, node, live)
    shifts = _finite_max(init, 1), _finite_max(pair, (2, 3)), _finite_max(node, 2)
    prediction, pair, node = init - shifts[0], pair - shifts[1], node - shifts[2]
    scales, filtered, backward = [], [], []
    for t in range(live.shape[1]):
        scale, probs = _normalise(prediction + node[:, t])
        mass = np.where(scale > -np.inf, scale, 0.0)[:, None]
        log_filtered = prediction + node[:, t] - mass
        prediction, origins = _normalise(log_filtered[:, :, None] + pair[:, t])
        scales.append(scale)
        filtered.append(probs)
        backward.append(origins)
    _refuse_impossible(getval(_stack(scales)))
    offsets = sum(np.sum(shift, tuple(range(1, shift.ndim))) for shift in shifts)
    logZ = np.sum(_select(live, _stack(scales)), 1) + offsets
    return logZ, filtered, backward


def viterbi(
    init: Array, pair: Array, node: Array, lengths: Array | None = None
) -> tuple[Array, Array]:
    """Most likely path of every sequence; of equally likely states the lowest.

    Parameters and errors as in `markov_chain`.

    Returns
    -------
    paths : (N, T) int64, -1 past the length
    logprob : (N,) sum of the log potentials along the path
    """
    init, pair, node = (getval(x) for x in _arrays((init, pair, node)))
    live = _live(lengths, *node.shape[:2])
    scores, pair, node = _over_steps(init, pair, node, live)
    best, origins = [], []
    for t in range(live.shape[1]):
        scores = scores + node[:, t]
        best.append(scores.max(1))
        candidates = scores[:, :, None] + pair[:, t]
        origins.append(candidates.argmax(1))
        scores = candidates.max(1)
    _refuse_impossible(np.stack(best, 1))

    # A coupling of zero follows the last step: the best state is every one's origin.
    state, paths = np.zeros((len(live), 1), np.int64), []
    for origin in reversed(origins):
        state = np.take_along_axis(origin, state, 1)
        paths.append(state)
    return np.where(live, np.concatenate(paths[::-1], 1), -1), best[-1]


def sample_markov_chain(
    init: Array, pair: Array, node: Array, uniforms: Array, lengths: Array | None = None
) -> Array:
    """Paths by backward sampling: z_t given z_{t+1} and the steps up to t.

    Parameters and errors as in `markov_chain`; `uniforms` is (N, S, T) in [0, 1), and
    uniforms[n, s, t] draws step t by inverse CDF: the smallest k with
    u * total < cumulative_k. Returns paths (N, S, T) int64, -1 past the length.
    """
    init, pair, node = (getval(x) for x in _arrays((init, pair, node)))
    live = _live(lengths, *node.shape[:2])
    _, _, backward = _forward(init, pair, node, live)
    uniforms = np.where(live[:, None], getval(*_arrays([uniforms])), 0.0)
    # A coupling of zero follows the last step: whatever state it comes from will do.
    state, paths = np.zeros(uniforms.shape[:2], np.int64), []
    for t in reversed(range(len(backward))):
        cumulative = np.take_along_axis(backward[t], state[:, None, :], 2).cumsum(1)
        threshold = uniforms[:, None, :, t] * cumulative[:, -1:]
        state = np.sum(threshold >= cumulative, 1)
        paths.append(state)
    return np.where(live[:, None], np.stack(paths[::-1], 2), -1)


def _over_steps(init: Array, pair: Array, node: Array, live: Array) -> Triple:
    """Potentials (N, K), (N, T, K, K), (N, T, K), zero past a sequence's last step."""
    N, T, K = node.shape
    pair = _select(live[:, 1:], pair + np.zeros((N, T - 1, K, K)))
    pair = np.concatenate((pair, np.zeros((N, 1, K, K))), 1)
    return init + np.zeros((N, K)), pair, _select(live, node)


def _normalise(logits: Array) -> tuple[Array, Array]:
    """Logsumexp and softmax over axis 1: -inf and zeros where all logits are -inf."""
    shift = _finite_max(logits, 1)
    weights = np.exp(logits - shift)
    total = np.sum(weights, 1, keepdims=True)
    possible = total > 0
    total = np.where(possible, total, 1.0)
    return np.where(possible, np.log(total) + shift, -np.inf)[:, 0], weights / total


def _finite_max(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Shift for a log potential; a constant, for it cancels in derivatives too."""
    largest = np.max(getval(x), axis, keepdims=True)
    return np.where(largest > -np.inf, largest, 0.0)


def _refuse_impossible(log_mass: Array) -> None:
    """Raise `Impossible` at the first -inf of (N, T), sequence by sequence."""
    if (log_mass == -np.inf).any():
        raise Impossible(*np.argwhere(log_mass == -np.inf)[0].tolist())


def _arrays(potentials: Iterable[Array]) -> list[Array]:
    return [x if isbox(x) else np.asarray(x, float) for x in potentials]


def _live(lengths: Array | None, num_sequences: int, num_timesteps: int) -> Array:
    """Mask (N, T) of the steps within each sequence's length."""
    if lengths is None:
        return np.ones((num_sequences, num_timesteps), bool)
    return np.arange(num_timesteps) < np.asarray(lengths)[:, None]


def _select(live: Array, x: Array, otherwise: Array | float = 0.0) -> Array:
    return np.where(
        live.reshape(live.shape + (1,) * (x.ndim - live.ndim)), x, otherwise
    )


def _like(potential: Array, stat: Array) -> Array:
    """Sum a statistic over what its potential shares: broadcasting's adjoint."""
    stat = np.sum(stat, tuple(range(stat.ndim - potential.ndim)))
    shared = tuple(axis for axis, size in enumerate(potential.shape) if size == 1)
    return np.sum(stat, shared, keepdims=True)


def _stack(steps: Sequence[Array]) -> Array:
    """Stack on axis 1, as np.stack, whose derivative is quadratic in the steps."""
    return np.moveaxis(np.array(steps), 0, 1)


def _transpose(A: Array) -> Array:
    return np.swapaxes(A, -1, -2)


def _diagonal(A: Array) -> Array:
    return np.diagonal(A, axis1=-1, axis2=-2)


def _outer(a: Array, b: Array) -> Array:
    return a[..., :, None] * b[..., None, :]


def _apply(A: Array, x: Array) -> Array:
    return (A @ x[..., None])[..., 0]


def _solve(A: Array, b: Array) -> Array:
    return np.linalg.solve(A, b[..., None])[..., 0]


def tanh_layer(inputs: Array, matrix: Array, bias: Array) -> Array:
    """Hidden layer of a perceptron; see `svae.kernels.layers.tanh_layer`."""
    return np.tanh(np.dot(inputs, matrix) + bias)


def gaussian_head(
    features: Array,
    location: Iterable[Array],
    scale: Iterable[Array],
    data: Array,
    observed: Array | None = None,
    mean: str = "linear",
    offset: Array | None = None,
    floor: Array | None = None,
) -> Array:
    """Log density under the Gaussian of two heads; see `svae.kernels.layers`."""
    matrix, bias = location
    m = np.dot(features, matrix) + bias
    m = m if offset is None else m + offset
    m = m if mean == "linear" else 0.5 * (np.tanh(0.5 * m) + 1.0)
    matrix, bias = scale
    s = np.dot(features, matrix) + bias
    if floor is None:
        variance = np.exp(10.0 * np.tanh(s / 10.0))
    else:
        variance = np.logaddexp(s, 0.0) + floor
    error = data[:, None] - m
    terms = error**2 / variance + np.log(variance) + np.log(2.0 * np.pi)
    if observed is not None:
        terms = np.where(observed[:, None], terms, 0.0)
    return -0.5 * np.sum(terms, axis=-1)


def homoscedastic_log_density(
    data: Array, location: Array, variance: Array, observed: Array | None = None
) -> Array:
    """Log density of frames of one variance; see `svae.kernels.densities`."""
    terms = (data - location) ** 2 / variance + np.log(2.0 * np.pi * variance)
    if observed is not None:
        terms = np.where(observed, terms, 0.0)
    return -0.5 * np.sum(terms, axis=-1)


def adam(
    vector: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    rate: float,
    epsilon: float,
    mean_decay: float,
    square_decay: float,
) -> Triple:
    """Step of Adam, upwards; see `svae.training.adam.adam_step`.

    Returns
    -------
    vector, mean, square : (P,)
        Of the parameters, and the moments of their gradient.
    """
    mean = mean_decay * mean + (1.0 - mean_decay) * gradient
    square = square_decay * square + (1.0 - square_decay) * gradient**2
    return vector + rate * mean / (np.sqrt(square) + epsilon), mean, square
