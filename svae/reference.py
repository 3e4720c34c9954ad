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

Behind the chains come the mean field of independent points in a mixture, the functions
that networks are made of, and a step of Adam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import autograd.numpy as np
from autograd import make_vjp
from autograd.tracer import getval, isbox

from svae.errors import Impossible, NotPositiveDefinite
from svae.types import Array, Integers, Potentials

__all__ = [
    "MeanField",
    "adam",
    "affine",
    "bounded_exp",
    "exp",
    "gaussian_chain",
    "gaussian_filter",
    "gaussian_head",
    "homoscedastic_log_density",
    "gaussian_log_density",
    "log",
    "logistic",
    "markov_chain",
    "markov_filter",
    "mixture",
    "mixture_evidence",
    "sample_markov_chain",
    "sigmoid",
    "softplus",
    "switching_gaussian_chain",
    "tanh",
    "tanh_layer",
    "viterbi",
]

Triple = tuple[Array, Array, Array]


def gaussian_chain(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
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


def switching_gaussian_chain(
    init: Iterable[Array],
    pairs: Iterable[Array],
    weights: Array,
    node: Iterable[Array],
    noise: Array | None = None,
    lengths: Integers | None = None,
) -> tuple[Array, tuple[Any, Any, Any], Array, Array | None]:
    """Gaussian chain whose pair potentials are mixtures of those of K states.

    The pair of x_t and x_{t+1} has the sum over states of ``weights[:, t, k]`` times
    parameters k: ``J11, J12, J22`` as in `gaussian_chain` and, of affine dynamics,
    linear terms ``h1'x_t + h2'x_{t+1}``.

    Parameters
    ----------
    init : (J (D, D) or (N, D, D), h (D,) or (N, D))
    pairs : (J11, J12, J22) or (J11, J12, J22, h1, h2), (K, D, D) and (K, D) each
    weights : (N, T-1, K), such as probabilities
    node : (J (N, T, D) diagonal or (N, T, D, D), h (N, T, D))
    noise : (N, S, T, D) standard normal draws, optional
    lengths : (N,) integers in 1..T, optional

    Returns
    -------
    logZ : (N,)
    stats : those of `init`, `pairs` and `node` as `gaussian_chain` has them; those of
        `pairs` are (K, ...), summed over sequences and steps, times the weights of the
        state
    products : (N, T-1, K), the inner product of the parameters of a state with the
        statistics of a pair: the gradient of logZ in the weights
    samples : (N, S, T, D), None without noise

    Raises
    ------
    NotPositiveDefinite
        If the joint precision of a sequence is not positive definite.
    """
    pairs, node = _arrays(pairs), _arrays(node)
    num_sequences, num_timesteps, _ = node[1].shape
    between = _live(lengths, num_sequences, num_timesteps)[:, 1:]
    weights = _select(between, *_arrays([weights]))
    pair = [np.tensordot(weights, J, 1) for J in pairs[:3]]
    h, zero = node[1], np.zeros_like(node[1][:, :1])
    if len(pairs) > 3:
        h1, h2 = (np.tensordot(weights, h, 1) for h in pairs[3:])
        h = h + np.concatenate((h1, zero), 1) + np.concatenate((zero, h2), 1)
    logZ, (init_stats, pair_stats, node_stats), samples = gaussian_chain(
        init, pair, (node[0], h), noise, lengths
    )
    features = [*pair_stats]
    if len(pairs) > 3:
        features += [node_stats[1][:, :-1], node_stats[1][:, 1:]]
    products = sum(
        np.tensordot(f, J, (range(2, f.ndim), range(1, J.ndim)))
        for f, J in zip(features, pairs, strict=True)
    )
    sums = tuple(np.tensordot(weights, f, ((0, 1), (0, 1))) for f in features)
    products = _select(between, products)
    return logZ, (init_stats, sums, node_stats), products, samples


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


def gaussian_filter(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    lengths: Integers | None = None,
) -> tuple[Triple, Triple]:
    """Log normalizers and moments of the last step of every prefix of Gaussian chains.

    The prefix of t steps has the potential of x_1, those of the nodes 1..t and those of
    the pairs (1, 2)..(t-1, t): it is a chain of its own, and knows nothing of what
    follows. Pairs that are conditional densities, ones that integrate to one over
    x_{t+1} for any x_t, make it the chain's x_t given the evidence up to t, the Kalman
    filter; of others it is what `gaussian_chain` says of the last of t steps.

    Parameters
    ----------
    init, pair, node, lengths : as in `gaussian_chain`

    Returns
    -------
    filtered : (logZ (N, T), mean (N, T, D), covariance (N, T, D, D))
        Of the prefix of t steps: its log normalizer, and the moments of its x_t.
    predicted : (logZ (N, T), mean (N, T, D), covariance (N, T, D, D))
        The same without its last node. The difference of the log normalizers is what
        the evidence of step t says, given that of the steps before it. All are zero
        past a length.

    Raises
    ------
    NotPositiveDefinite
        If a prefix, with or without its last node, has no proper Gaussian.
    """
    init, pair, node = _arrays(init), _arrays(pair), _arrays(node)
    N, T, D = node[1].shape
    live = _live(lengths, N, T)
    none = np.zeros((N, 1, D, D))
    # past the length standard normals that nothing couples to the others
    identity = np.broadcast_to(np.eye(D), (N, T - 1, D, D))
    J11, J12 = (
        np.concatenate((_select(live[:, 1:], J + np.zeros((N, T - 1, D, D))), none), 1)
        for J in pair[:2]
    )
    J22 = _select(live[:, 1:], pair[2] + np.zeros((N, T - 1, D, D)), -identity / 2)
    J22 = np.concatenate((J22, none), 1)
    Jn = node[0] if node[0].ndim == 4 else node[0][..., None] * np.eye(D)
    Jn, hn = _select(live, Jn), _select(live, node[1])

    precision = _precision(init[0] + np.zeros((N, D, D)))
    h, past = init[1] + np.zeros((N, D)), np.zeros(N)
    filtered, predicted, t = [], [], 0
    try:
        for t in range(T):
            predicted.append(_moments(precision, h, past))
            precision, h = precision + _precision(Jn[:, t]), h + hn[:, t]
            filtered.append(_moments(precision, h, past))
            if t + 1 < T:
                L = np.linalg.cholesky(precision + _precision(J11[:, t]))
                w, W = _solve(L, h), np.linalg.solve(L, J12[:, t])
                past = past + _log_integral(L, w)
                precision = _precision(J22[:, t]) - _transpose(W) @ W
                h = _apply(_transpose(W), w)
    except np.linalg.LinAlgError:
        raise _improper_prefix(*map(getval, (init[0], J11, J12, J22, Jn))) from None
    return _over_time(live, filtered), _over_time(live, predicted)


def _precision(J: Array) -> Array:
    return -(J + _transpose(J))


def _log_integral(L: Array, w: Array) -> Array:
    """Log of the integral of a Gaussian potential: precision L L', w = L^-1 h."""
    constant = w.shape[-1] / 2 * np.log(2 * np.pi)
    return np.sum(w**2 / 2 - np.log(_diagonal(L)), -1) + constant


def _moments(precision: Array, h: Array, past: Array) -> Triple:
    """Log normalizer on top of that of the past, mean and covariance of a Gaussian."""
    L = np.linalg.cholesky(precision)
    w, root = _solve(L, h), np.linalg.inv(L)
    logZ = past + _log_integral(L, w)
    return logZ, _apply(_transpose(root), w), _transpose(root) @ root


def _over_time(live: Array, steps: list[Triple]) -> Triple:
    """Stack what there is of every step, zero past the length."""
    logZ, mean, cov = (
        _select(live, _stack(parts)) for parts in zip(*steps, strict=True)
    )
    return logZ, mean, cov


def _improper_prefix(J0: Array, *steps: Array) -> NotPositiveDefinite:
    """Name the first sequence with an improper prefix, and the step that it ends at."""
    J0 = J0 + np.zeros(steps[-1][:, 0].shape)
    for n, (J, *rows) in enumerate(zip(J0, *steps, strict=True)):
        precision = _precision(J)
        for t, (J11, J12, J22, Jn) in enumerate(zip(*rows, strict=True)):
            try:
                np.linalg.cholesky(precision)
                precision = precision + _precision(Jn)
                np.linalg.cholesky(precision)
                if t + 1 < len(steps[-1][n]):
                    L = np.linalg.cholesky(precision + _precision(J11))
                    W = np.linalg.solve(L, J12)
                    precision = _precision(J22) - W.T @ W
            except np.linalg.LinAlgError:
                return NotPositiveDefinite(n, t)
    raise AssertionError("no prefix of any sequence fails on its own")


def markov_chain(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
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
    prediction: Array = init - shifts[0]
    pair, node = pair - shifts[1], node - shifts[2]
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


def markov_filter(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Log normalizers and probabilities of the last step of every prefix.

    The prefix of t steps has the potentials of z_1, of the nodes 1..t and of the pairs
    (1, 2)..(t-1, t), as in `gaussian_filter`. Rows of pairs that sum to one make it the
    chain's z_t given the evidence up to t (Rabiner 1989, Eq. 20).

    Parameters and errors as in `markov_chain`.

    Returns
    -------
    filtered : (logZ (N, T), probabilities (N, T, K))
        Of the prefix of t steps: its log normalizer, and the law of its z_t.
    predicted : (logZ (N, T), probabilities (N, T, K))
        The same without its last node. All are zero past a length.
    """
    init, pair, node = _arrays((init, pair, node))
    live = _live(lengths, *node.shape[:2])
    init, pair, node = _over_steps(init, pair, node, live)
    logits, past = init, np.zeros(len(live))
    filtered, predicted, masses = [], [], []
    for t in range(live.shape[1]):
        mass, probs = _normalise(logits)
        predicted.append((past + mass, probs))
        masses.append(mass)
        logits = logits + node[:, t]
        mass, probs = _normalise(logits)
        filtered.append((past + mass, probs))
        masses.append(mass)
        # what follows is relative to the filtered law, so that nothing grows
        finite = np.where(mass > -np.inf, mass, 0.0)
        past = past + finite
        logits = _normalise((logits - finite[:, None])[:, :, None] + pair[:, t])[0]
    log_mass = np.min(np.reshape(getval(_stack(masses)), (*live.shape, 2)), -1)
    _refuse_impossible(log_mass)
    (logZ, probs), (logZ_before, probs_before) = (
        [_select(live, _stack(parts)) for parts in zip(*steps, strict=True)]
        for steps in (filtered, predicted)
    )
    return (logZ, probs), (logZ_before, probs_before)


def viterbi(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
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
    init: Array,
    pair: Array,
    node: Array,
    uniforms: Array,
    lengths: Integers | None = None,
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


def _live(lengths: Integers | None, num_sequences: int, num_timesteps: int) -> Array:
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


class MeanField(NamedTuple):
    """A mean field q(x) q(z) of N points, or of N sequences of independent frames."""

    fixed: Array
    """(N, K) or (N, T, K), expected statistics of the states at which q(x) is taken."""
    iterations: Array
    """(N,), over all starts; of a sequence the most that a frame took."""
    residual: Array
    """(N,), largest change of a statistic in the last iteration."""
    log_normalizer: Array
    """(N,), the surrogate at the fixed point, summed over frames."""
    evidence: Array
    """(N,), expectation of <J, x x'> + h'x of the node, summed over frames."""
    half_log_det: Array
    """(N,), of the precision of x."""
    second_moment: Array
    """(N, D, D) or (N, T, D, D)"""
    mean: Array
    """(N, D) or (N, T, D)"""
    states: Array
    """(N, K) or (N, T, K), probabilities."""
    potentials: Array
    """(N, K) or (N, T, K), node potentials of z."""
    samples: Array | None = None
    """(N, S, D) or (N, S, T, D), or None without noise."""


def mixture(
    potentials: Triple,
    tails: Triple | None,
    node: Potentials,
    noise: Array | None,
    observed: Array | None,
    starts: Array | None,
    from_data: bool,
    from_prior: bool,
    tolerance: float,
    max_iterations: int,
    adjoint: Any = None,
) -> MeanField:
    r"""Mean-field inference of independent x in a mixture.

    There is an x for each of N points, or for each of T frames of N sequences.
    q(x) q(z) approximates, up to its normalizer,

    .. math:: \exp( \mathrm{init}_z + c_z + \phi_z(e_z(x)) + \langle J, x x' \rangle
              + h'x ), \qquad e_k(x) = \langle J_k, x x' \rangle + h_k'x + b_k .

    Of a Gaussian phi is the identity; of a Student-t it is the average, over the nodes
    of a quadrature, of ``-(nu + D)/2 log(1 - 2 e/nu)``, where -e is half a squared
    distance.  Coordinate ascent alternates x given ``s`` and ``s_k = p(z = k) phi_k'``
    given x until s moves no more, from every start; the end of highest surrogate is
    kept, of equal ones the first.

    Parameters
    ----------
    potentials : (init (K,) or (N, K), components (K, D D + D), constants (K,))
        The first of all points, of each, or of the frames of each sequence.
    tails : (offsets (K,), degrees of freedom (K, Q), weights (Q,)), optional
        The weights are constants.
    node : (J (..., D) or (..., D, D), h (..., D))
        Of points (N,) or of frames (N, T).
    noise : (N, S, D) or (N, S, T, D) array, optional
    observed : (...) array, optional
        1 for a point with data, 0 for one without, whose x is independent of z and has,
        beside its node, a standard normal law; by default all have data.
    starts : (N, R, K) or (N, R, T, K) array, optional
        Statistics to start from.
    from_data, from_prior : bool
        Whether to start from the evidence of each state alone, and from the prior.
    tolerance : float
        Largest change of a statistic at which a point has converged.
    max_iterations : int
    adjoint : optional
        Not used: here the linear system of the gradient is solved exactly.

    Returns
    -------
    MeanField
        The first three and half_log_det are constants; the others have two derivatives.

    Raises
    ------
    NotPositiveDefinite
        If x of a point has no proper Gaussian.
    Impossible
        If no state of a point has positive probability.
    """
    shape = _value(*_arrays([node[1]])).shape
    if len(shape) == 3:
        potentials, node, noise, observed, starts = _points_of_frames(
            potentials, node, noise, observed, starts
        )
        how = from_data, from_prior, tolerance, max_iterations
        try:
            of_points = mixture(potentials, tails, node, noise, observed, starts, *how)
        except (NotPositiveDefinite, Impossible) as error:
            raise type(error)(*divmod(error.sequence, shape[1])) from None
        return _frames_of_points(of_points, *shape[:2])
    problem = _problem(potentials, tails, node, observed)
    given: Iterable[Any] = (None if x is None else _value(x) for x in problem)
    plain = _Problem(*given)
    ends = [
        _ascend(start, plain, tolerance, max_iterations)
        for start in _starts(plain, starts, from_data, from_prior)
    ]
    heights = [_round(end[0], plain)[1].log_normalizer for end in ends]
    best, rows = np.argmax(heights, axis=0), np.arange(len(plain.observed))
    fixed = np.array([end[0] for end in ends])[best, rows]
    iterations = np.sum([end[1] for end in ends], axis=0)
    residual = np.array([end[2] for end in ends])[best, rows]

    statistics = fixed
    if any(map(isbox, problem)):
        statistics = _with_derivatives(fixed, problem, plain)
    q = _round(statistics, problem)[1]
    samples = None
    if noise is not None:
        (noise,) = _arrays([noise])
        shift = np.linalg.solve(_transpose(q.root), _transpose(noise))
        samples = q.mean[:, None] + _transpose(shift)
    return MeanField(
        fixed,
        iterations,
        residual,
        q.log_normalizer,
        q.evidence,
        _value(np.sum(np.log(_diagonal(q.root)), -1)),
        q.second_moment,
        q.mean,
        q.states,
        q.potentials,
        samples,
    )


def _points_of_frames(
    potentials: Triple,
    node: Potentials,
    noise: Array | None,
    observed: Array | None,
    starts: Array | None,
) -> tuple[Triple, Potentials, Array | None, Array | None, Array | None]:
    """Line up the frames of sequences, (N, T, ...) to (N T, ...)."""
    J, h = _arrays(node)
    N, T, _ = h.shape

    def flat(x: Array) -> Array:
        return np.reshape(x, (N * T, *x.shape[2:]))

    def draws(x: Array | None) -> Array | None:
        return None if x is None else flat(np.swapaxes(*_arrays([x]), 1, 2))

    init, components, constants = _arrays(potentials)
    if init.ndim == 2:
        init = flat(init[:, None] + np.zeros((N, T, 1)))
    observed = None if observed is None else flat(*_arrays([observed]))
    potentials = init, components, constants
    return potentials, (flat(J), flat(h)), draws(noise), observed, draws(starts)


def _frames_of_points(q: MeanField, N: int, T: int) -> MeanField:
    """Return a mean field of the frames of sequences, given that of all frames."""

    def frames(x: Array) -> Array:
        return np.reshape(x, (N, T, *x.shape[1:]))

    fields: dict[str, Any] = {}
    for field, x in q._asdict().items():
        if field in ("iterations", "residual"):
            fields[field] = np.max(frames(x), axis=1)
        elif field in ("log_normalizer", "evidence", "half_log_det"):
            fields[field] = np.sum(frames(x), axis=1)
        elif field == "samples":
            fields[field] = None if x is None else np.swapaxes(frames(x), 1, 2)
        else:
            fields[field] = frames(x)
    return MeanField(**fields)


class _Problem(NamedTuple):
    """What a mean field is about."""

    init: Array
    components: Array
    constants: Array
    offsets: Any
    dofs: Any
    weights: Any
    node_J: Array
    node_h: Array
    observed: Array


def _problem(
    potentials: Iterable[Array],
    tails: Iterable[Array] | None,
    node: Iterable[Array],
    observed: Array | None,
) -> _Problem:
    node_J, node_h = _arrays(node)
    observed = (
        np.ones(len(node_h)) if observed is None else _value(*_arrays([observed]))
    )
    init, components, constants = _arrays(potentials)
    offsets = dofs = weights = None
    if tails is not None:
        offsets, dofs, weights = _arrays(tails)
        weights = _value(weights)
    laws = offsets, dofs, weights
    return _Problem(init, components, constants, *laws, node_J, node_h, observed)


class _Round(NamedTuple):
    """What follows from statistics of the states in a round of the ascent."""

    log_normalizer: Array
    evidence: Array
    root: Array
    second_moment: Array
    mean: Array
    states: Array
    potentials: Array


def _round(statistics: Array, problem: _Problem) -> tuple[Array, _Round]:
    """Return the statistics after a round, and the round."""
    node_J, node_h, observed = problem[-3:]
    law = _law_of_x(statistics, problem.components, node_J, node_h, observed)
    log_x, root, second_moment, mean = law
    linear = observed[:, None] * (_features(second_moment, mean) @ problem.components.T)
    updated, log_z, states, potentials = _law_of_z(linear, problem)
    moments = _diagonal(second_moment) if node_J.ndim == 2 else second_moment
    sizes = len(node_h), node_h.shape[1] ** (node_J.ndim - 1)  # of no points too
    evidence = np.sum(np.reshape(node_J * moments, sizes), -1)
    return updated, _Round(
        log_x + log_z - np.sum(statistics * linear, -1),
        evidence + np.sum(node_h * mean, -1),
        root,
        second_moment,
        mean,
        states,
        potentials,
    )


def _law_of_z(linear: Array, problem: _Problem) -> tuple[Array, Array, Array, Array]:
    """Statistics, log normalizer, probabilities and node potentials of z.

    They follow from the evidence `linear` (N, K) without offsets.
    """
    has_data = problem.observed[:, None] > 0
    phi, gain = linear, np.ones(linear.shape)
    if problem.dofs is not None:
        dim, dofs = problem.node_h.shape[1], problem.dofs
        evidence = linear + problem.observed[:, None] * problem.offsets
        grown = 1.0 - 2.0 * evidence[..., None] / dofs
        phi = -0.5 * np.sum(problem.weights * (dofs + dim) * np.log(grown), -1)
        gain = np.sum(problem.weights * (1.0 + dim / dofs) / grown, -1)
    potentials = np.where(has_data, phi + problem.constants, 0.0)
    log_z, states = _normalise(problem.init + potentials)
    _refuse_impossible(_value(log_z)[:, None])
    return states * np.where(has_data, gain, 1.0), log_z, states, potentials


def _law_of_x(
    statistics: Array, components: Array, node_J: Array, node_h: Array, observed: Array
) -> tuple[Array, Array, Array, Array]:
    """Log normalizer of x given statistics of z, and its root, E x x' and E x.

    The root is the lower Cholesky factor of the precision.  In a point without data the
    standard normal law is a factor, not a potential.
    """
    *lead, D = node_h.shape
    if node_J.ndim == node_h.ndim:
        node_J = node_J[..., None] * np.eye(D)
    mixed = (observed[..., None] * statistics) @ components
    J = node_J + np.reshape(mixed[..., : D * D], (*lead, D, D))
    h = node_h + mixed[..., D * D :]
    precision = -(J + _transpose(J)) + (1.0 - observed)[..., None, None] * np.eye(D)
    try:
        root = np.linalg.cholesky(precision)
    except np.linalg.LinAlgError:
        raise _improper(_value(precision)) from None
    cov = np.linalg.inv(precision)
    mean = _apply(cov, h)
    log_x = 0.5 * np.sum(h * mean, -1) - np.sum(np.log(_diagonal(root)), -1)
    log_x = log_x + observed * D / 2 * np.log(2 * np.pi)
    return log_x, root, cov + _outer(mean, mean), mean


def _features(second_moment: Array, mean: Array) -> Array:
    """Line up E x x' and E x, (..., D D + D)."""
    *lead, D = mean.shape
    return np.concatenate((np.reshape(second_moment, (*lead, D * D)), mean), -1)


def _improper(precision: Array) -> NotPositiveDefinite:
    """Name the first point, or sequence and step, whose precision has no root."""
    for place in np.ndindex(precision.shape[:-2]):
        try:
            np.linalg.cholesky(precision[place])
        except np.linalg.LinAlgError:
            return NotPositiveDefinite(*([*place, 0][:2]))
    raise AssertionError("no precision fails on its own")


def _starts(
    problem: _Problem, starts: Array | None, from_data: bool, from_prior: bool
) -> list[Array]:
    """Return statistics (N, K) to start from, one for each start."""
    found, is_gaussian = [], problem.dofs is None
    if from_data:
        evidence = _of_each_state(problem.components, *problem[-3:], is_gaussian)
        found.append(_law_of_z(evidence, problem)[0])
    if from_prior:
        nothing = np.zeros((len(problem.observed), len(problem.constants)))
        found.append(_normalise(problem.init + nothing)[1])
    if starts is not None:
        found.extend(np.moveaxis(_value(*_arrays([starts])), 1, 0))
    if not found:
        raise ValueError("nowhere to start: give starts, from_data or from_prior")
    return found


def _of_each_state(
    components: Array, node_J: Array, node_h: Array, observed: Array, marginal: bool
) -> Array:
    """Evidence (..., K) of x given each state alone.

    With x integrated out if `marginal`, else expected.
    """
    columns = []
    for k, alone in enumerate(np.eye(len(components))):
        alone = alone + np.zeros((*observed.shape, 1))
        law = _law_of_x(alone, components, node_J, node_h, observed)
        log_x, _, second_moment, mean = law
        expected = _features(second_moment, mean) @ components[k]
        columns.append(observed * (log_x if marginal else expected))
    return np.stack(columns, -1)


def _ascend(
    start: Array, problem: _Problem, tolerance: float, max_iterations: int
) -> tuple[Array, Array, Array]:
    """Iterate until every point has converged, each on its own."""
    statistics = np.array(start)
    iterations, residual = np.zeros(len(start)), np.full(len(start), np.inf)
    for _ in range(max_iterations):
        active = residual > tolerance
        if not active.any():
            break
        updated = _round(statistics, problem)[0]
        moved = np.max(np.abs(updated - statistics), axis=1)
        residual = np.where(active, moved, residual)
        statistics = np.where(active[:, None], updated, statistics)
        iterations = iterations + active
    return statistics, iterations, residual


def _with_derivatives(fixed: Array, problem: _Problem, plain: _Problem) -> Array:
    """Return a fixed point as a function of the arguments that lead to it.

    A step of Newton's method, with the Jacobian at the fixed point, stays there, and
    has the derivative of the implicit function theorem; every further step has one
    more.
    """
    (N, K), columns = fixed.shape, np.eye(fixed.shape[1])
    pull_back, _ = make_vjp(lambda s: _round(s, plain)[0])(fixed)
    slopes = np.stack([pull_back(np.tile(e, (N, 1))) for e in columns], 1)
    statistics = fixed
    for _ in range(2):
        updated = _round(statistics, problem)[0]
        statistics = statistics + _solve(np.eye(K) - slopes, updated - statistics)
    return statistics


def mixture_evidence(
    components: Array,
    node: Potentials,
    observed: Array | None,
    states: Array | None,
) -> tuple[Array, Array | None, Array | None]:
    """Evidence for the states of points (N,) or of frames (N, T), and moments of x.

    Parameters
    ----------
    components : (K, D D + D)
        J and h of x given each state, the rows of P.
    node : (J (..., D) or (..., D, D), h (..., D))
    observed : (...) array, optional
        1 for a point with data, 0 for one without, whose evidence is zero; see
        `mixture`.
    states : (..., K) array, optional
        Expected statistics of the states; without them x is given each state alone.

    Returns
    -------
    evidence : (..., K)
        Of every state: P E[f]; without ``states`` the log normalizers of x, constants.
    second_moment, mean : (..., D, D), (..., D)
        Constants; None without ``states``.

    Raises
    ------
    NotPositiveDefinite
        If x of a point has no proper Gaussian, naming point, or sequence and step.
    """
    components, node_J, node_h = _arrays((components, *node))
    observed = (
        np.ones(node_h.shape[:-1]) if observed is None else _value(*_arrays([observed]))
    )
    if states is None:
        components, node_J, node_h = map(_value, (components, node_J, node_h))
        evidence = _of_each_state(components, node_J, node_h, observed, marginal=True)
        return evidence, None, None
    (states,) = _arrays([states])
    _, _, second_moment, mean = _law_of_x(states, components, node_J, node_h, observed)
    evidence = observed[..., None] * (_features(second_moment, mean) @ components.T)
    return evidence, _value(second_moment), _value(mean)


def _value(x: Array) -> Array:
    """Return the NumPy array inside of any number of boxes."""
    while isbox(x):
        x = getval(x)
    return x


def exp(x: Array) -> Array:
    """Exponential of every entry."""
    return np.exp(x)


def log(x: Array) -> Array:
    """Natural logarithm of every entry."""
    return np.log(x)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent of every entry."""
    return np.tanh(x)


def logistic(x: Array) -> Array:
    """Logistic function 1 / (1 + exp(-x)) of every entry."""
    return 0.5 * (np.tanh(0.5 * x) + 1.0)


sigmoid = logistic


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) of every entry."""
    return np.logaddexp(x, 0.0)


def bounded_exp(x: Array) -> Array:
    """exp(10 tanh(x / 10)): an exponential near zero, confined to exp(+-10)."""
    return np.exp(10.0 * np.tanh(x / 10.0))


def affine(inputs: Array, matrix: Array, bias: Array) -> Array:
    """Map inputs (..., M) by a matrix (M, N) and a bias (N,) to (..., N)."""
    return np.dot(inputs, matrix) + bias


def tanh_layer(inputs: Array, matrix: Array, bias: Array) -> Array:
    """Hyperbolic tangent of `affine`."""
    return np.tanh(affine(inputs, matrix, bias))


def gaussian_log_density(
    x: Array, mean: Array, variance: Array, observed: Array | None = None
) -> Array:
    """Return log N(x; mean, variance), summed over the last axis.

    Parameters
    ----------
    x : (..., P)
        The data, a constant.
    mean, variance : (..., P)
    observed : (..., P) bool, optional
        Which entries count; by default all.

    Returns
    -------
    (...) array
    """
    error = _value(x) - mean
    terms = error**2 / variance + np.log(variance) + np.log(2.0 * np.pi)
    if observed is not None:
        terms = np.where(observed, terms, 0.0)
    return -0.5 * np.sum(terms, axis=-1)


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
    """Log density of data under the Gaussian that the two heads of a network describe.

    Parameters
    ----------
    features : (N, S, T, M) array
    location, scale : (matrix (M, P), bias (P,))
    data : (N, T, P) array
        Constant.
    observed : (N, T, P) bool array, optional
        Which entries of the data count; by default all.
    mean : {"linear", "sigmoid"}
        Whether the mean is the location, or its logistic function.
    offset : (N, S, T, P) array, optional
        Added to the location.
    floor : (P,) array, optional
        With it the variance is the softplus of the scale plus the floor, else its
        `bounded_exp`.

    Returns
    -------
    (N, S, T) array, summed over dimensions.
    """
    m = affine(features, *location)
    m = m if offset is None else m + offset
    m = m if mean == "linear" else logistic(m)
    s = affine(features, *scale)
    variance = bounded_exp(s) if floor is None else softplus(s) + floor
    if observed is not None:
        observed = observed[:, None]
    return gaussian_log_density(_value(data)[:, None], m, variance, observed)


def homoscedastic_log_density(
    data: Array, location: Array, variance: Array, observed: Array | None = None
) -> Array:
    """Return log N(data; location, variance) of a variance (P,) or () of all frames.

    See `gaussian_log_density`, whose parameters otherwise these are.
    """
    return gaussian_log_density(data, location, variance, observed)


def adam(
    vector: Array | Sequence[Array],
    gradient: Array | Sequence[Array],
    mean: Array,
    square: Array,
    rate: float,
    epsilon: float,
    mean_decay: float,
    square_decay: float,
) -> Array:
    """Take a step of Adam, upwards; see `svae.training.adam.adam_step`.

    Parameters
    ----------
    vector, gradient : (P,) array, or sequence of arrays of P entries altogether
    mean, square : (P,)
        Moments of the gradient.
    rate, epsilon : float
        Both with the factors that unbias the moments.
    mean_decay, square_decay : float

    Returns
    -------
    (3, P) array
        The new vector, mean and square.

    Raises
    ------
    FloatingPointError
        If the gradient is not finite.
    """
    vector, gradient = _flat(vector), _flat(gradient)
    if not np.isfinite(gradient).all():
        raise FloatingPointError("the gradient is not finite")
    mean = mean_decay * mean + (1.0 - mean_decay) * gradient
    square = square_decay * square + (1.0 - square_decay) * gradient**2
    vector = vector + rate * mean / (np.sqrt(square) + epsilon)
    return np.stack([vector, mean, square])


def _flat(parts: Array | Sequence[Array]) -> Array:
    """Return arrays as one vector."""
    if not isinstance(parts, (list, tuple)):
        return np.ravel(parts)
    return np.concatenate([np.zeros(0), *map(np.ravel, parts)])
