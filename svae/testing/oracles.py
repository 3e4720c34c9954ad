"""Exact answers to small problems of chains, in 50 digits.

The Gaussian oracle builds the whole joint precision of a sequence and inverts it; the
Markov oracle enumerates every path.  With 50 digits they can also judge problems at
which any float64 oracle would lose digits of its own.  They need mpmath.
"""

from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any, ParamSpec, TypeVar

import numpy as np

from svae.testing.chains import GaussianProblem, MarkovProblem, mirror, sequence

__all__ = [
    "gaussian_adjoint_oracle",
    "gaussian_oracle",
    "joint_precision",
    "markov_marginals",
    "markov_oracle",
]

DIGITS = 50
P = ParamSpec("P")
R = TypeVar("R")


def with_digits(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute with `DIGITS` digits, whatever mpmath is set to."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        import mpmath

        with mpmath.workdps(DIGITS):
            return function(*args, **kwargs)

    return run


def exact(x: Any) -> Any:
    """Return an array of numbers of mpmath, which are those of x."""
    import mpmath

    return np.vectorize(mpmath.mpf, otypes=[object])(x)


@with_digits
def gaussian_oracle(problem: GaussianProblem) -> tuple[Any, Any, Any]:
    """Compute `gaussian_chain` by the dense joint of every sequence.

    Parameters
    ----------
    problem : GaussianProblem
        Small: the joint of a sequence has T D rows.

    Returns
    -------
    logZ : (N,) array
    stats : nested tuples of arrays
        Shaped as (init, pair, node).
    samples : (N, S, T, D) array or None
    """
    import mpmath

    N, T, D = problem.node[1].shape
    logZ, second, mean = np.zeros(N), np.zeros((N, T, D, T, D)), np.zeros((N, T, D))
    samples = None if problem.noise is None else np.zeros(problem.noise.shape)
    for n in range(N):
        root, cov, mu, h = _dense_joint(problem, n)
        length = len(h) // D
        log_det = sum(mpmath.log(x) for x in np.diag(root))
        logZ[n] = h @ mu / 2 + log_det + len(h) * mpmath.log(2 * mpmath.pi) / 2
        mean[n, :length] = mu.reshape(length, D)
        moments = cov + np.outer(mu, mu)
        second[n, :length, :, :length] = moments.reshape(length, D, length, D)
        if samples is not None:
            noise = problem.noise[n, :, :length].reshape(-1, length * D)
            draws = mu + exact(noise) @ root
            samples[n, :, :length] = draws.reshape(-1, length, D)
    return logZ, _gaussian_stats(problem, second, mean), samples


@with_digits
def gaussian_adjoint_oracle(
    problem: GaussianProblem, stats_bar: Any, samples_bar: Any
) -> tuple[Any, Any]:
    """Return cotangents of the potentials, shaped as statistics, and of the noise.

    The statistics are the gradient of log Z, so the adjoint moves them along their own
    cotangents, taken as potentials: with dP and dh these put into a joint,

        dmu = cov (dh - dP mu),    dcov = -cov dP cov.

    Samples are mu + L^-T noise; with lam the cotangent of one and r = L^-1 lam,

        h_bar = cov lam,    P_bar = -h_bar mu' - L^-T Phi(noise r') L^-1

    where Phi keeps the lower half, its diagonal halved (the adjoint of a Cholesky
    factor); a literal potential moves P by -(J + J').

    Parameters
    ----------
    problem : GaussianProblem
        Small, and with noise.
    stats_bar : nested tuples of arrays
        Cotangents of the statistics, shaped as (init, pair, node).
    samples_bar : (N, S, T, D) array

    Returns
    -------
    potentials_bar : nested tuples of arrays
        Shaped as (init, pair, node).
    noise_bar : (N, S, T, D) array
    """
    N, T, D = problem.node[1].shape
    direction = GaussianProblem(*stats_bar)._replace(lengths=problem.lengths)
    second, mean = np.zeros((N, T, D, T, D)), np.zeros((N, T, D))
    noise_bar = np.zeros(problem.noise.shape)
    for n in range(N):
        root, cov, mu, h = _dense_joint(problem, n)
        length = len(h) // D
        dP, dh = joint_precision(direction, n)
        mean_bar = cov @ (dh - dP @ mu)
        P_bar = cov @ dP @ cov / 2 - np.outer(mean_bar, mu)
        for s, lam in enumerate(exact(samples_bar[n, :, :length].reshape(-1, len(h)))):
            r, h_bar = root @ lam, cov @ lam
            Phi = np.tril(np.outer(exact(problem.noise[n, s, :length].ravel()), r))
            Phi[np.diag_indices(len(h))] /= 2
            P_bar = P_bar - np.outer(h_bar, mu) - root.T @ Phi @ root
            mean_bar = mean_bar + h_bar
            noise_bar[n, s, :length] = r.reshape(length, D)
        mean[n, :length] = mean_bar.reshape(length, D)
        moments_bar = -(P_bar + P_bar.T)
        second[n, :length, :, :length] = moments_bar.reshape(length, D, length, D)
    return _gaussian_stats(problem, second, mean), noise_bar


def _dense_joint(problem: GaussianProblem, n: int) -> tuple[Any, Any, Any, Any]:
    """L^-1 of the Cholesky factor, covariance, mean and h of sequence n's joint."""
    import mpmath

    precision, h = joint_precision(problem, n)
    root = mpmath.cholesky(mpmath.matrix(precision.tolist())) ** -1
    root = np.array(root.tolist(), dtype=object)
    cov = root.T @ root
    return root, cov, cov @ h, h


def _gaussian_stats(problem: GaussianProblem, second: Any, mean: Any) -> Any:
    """Pick from E[x x'] (N, T, D, T, D) and E[x] what the potentials multiply."""
    steps = np.arange(second.shape[1])
    coupled = np.ones((len(mean), len(steps) - 1))
    if problem.lengths is not None:
        coupled = (steps[1:] < problem.lengths[:, None]).astype(float)
    second = second.swapaxes(2, 3)
    ExxT, ExxnT = second[:, steps, steps], second[:, steps[:-1], steps[1:]]
    pair_stats = ExxT[:, :-1] * coupled[..., None, None], ExxnT, ExxT[:, 1:]
    node_J = ExxT if problem.node[0].ndim == 4 else np.einsum("ntdd->ntd", ExxT)
    return (
        (mirror(problem.init[0], ExxT[:, 0]), mirror(problem.init[1], mean[:, 0])),
        tuple(mirror(J, s) for J, s in zip(problem.pair, pair_stats, strict=True)),
        (node_J, mean),
    )


@with_digits
def joint_precision(problem: GaussianProblem, n: int) -> tuple[Any, Any]:
    """Return the precision (L D, L D) and h (L D) of sequence n, of length L."""
    import mpmath

    one = sequence(problem, n)
    (J0, h0), pair, (Jn, hn) = one.init, one.pair, one.node
    _, T, D = hn.shape
    J11, J12, J22 = (exact(np.broadcast_to(J, (1, T - 1, D, D)))[0] for J in pair)
    J = np.full((T, D, T, D), mpmath.mpf(0))
    h = exact(hn[0])
    J[0, :, 0] += exact(J0.reshape(D, D))
    h[0] += exact(h0.reshape(D))
    for t in range(T):
        J[t, :, t] += exact(Jn[0, t] if Jn.ndim == 4 else np.diag(Jn[0, t]))
    for t in range(T - 1):
        J[t, :, t] += J11[t]
        J[t, :, t + 1] += J12[t]
        J[t + 1, :, t + 1] += J22[t]
    J = J.reshape(T * D, T * D)
    return -(J + J.T), h.reshape(T * D)


@with_digits
def markov_oracle(problem: MarkovProblem) -> tuple[Any, Any]:
    """Compute `markov_chain` and `viterbi` by enumeration of all paths.

    Parameters
    ----------
    problem : MarkovProblem
        Small: a sequence has K^T paths.

    Returns
    -------
    marginals : (logZ, stats)
        logZ (N,), and statistics shaped as (init, pair, node).
    decoded : (paths, scores)
        (N, T), -1 past the lengths, and (N,).
    """
    import mpmath

    N, T, K = problem.node.shape
    logZ, best = np.zeros(N), np.zeros(N)
    node, pair = np.zeros((N, T, K)), np.zeros((N, T - 1, K, K))
    paths = np.full((N, T), -1)
    for n in range(N):
        scores = path_scores(problem, n)
        weights = {path: mpmath.exp(score) for path, score in scores.items()}
        total = sum(weights.values())
        logZ[n] = mpmath.log(total)
        for path, weight in weights.items():
            prob, z, steps = float(weight / total), np.array(path), np.arange(len(path))
            node[n, steps, z] += prob
            pair[n, steps[:-1], z[:-1], z[1:]] += prob
        # of equal scores the lowest last state, then the lowest one before it, ...
        path = min(scores, key=lambda path: (-scores[path], path[::-1]))
        paths[n, : len(path)], best[n] = path, scores[path]
    stats = mirror(problem.init, node[:, 0]), mirror(problem.pair, pair), node
    return (logZ, stats), (paths, best)


@with_digits
def markov_marginals(problem: MarkovProblem) -> tuple[Any, Any]:
    """Compute `markov_chain` of any length by forward and backward sums.

    The exponents of these numbers have no bounds, so nothing is scaled.

    Returns
    -------
    logZ : (N,) array
    stats : tuple of arrays
        Shaped as (init, pair, node).
    """
    import mpmath

    N, T, K = problem.node.shape
    logZ = np.zeros(N)
    node_stat, pair_stat = np.zeros((N, T, K)), np.zeros((N, T - 1, K, K))
    weight = np.vectorize(mpmath.exp, otypes=[object])
    for n in range(N):
        init, pair, node, _ = sequence(problem, n)
        node = exact(node[0])
        length = len(node)
        A = weight(exact(np.broadcast_to(pair, (1, length - 1, K, K)))[0])
        b = weight(node)
        alpha = [weight(exact(init.reshape(K))) * b[0]]
        beta = [np.full(K, mpmath.mpf(1))]
        for t in range(length - 1):
            alpha.append(b[t + 1] * (alpha[t] @ A[t]))
            beta.append(A[-1 - t] @ (b[-1 - t] * beta[t]))
        beta.reverse()
        total = sum(alpha[-1])
        logZ[n] = mpmath.log(total)
        for t in range(length):
            node_stat[n, t] = (alpha[t] * beta[t] / total).astype(float)
        for t in range(length - 1):
            joint = alpha[t][:, None] * A[t] * (b[t + 1] * beta[t + 1]) / total
            pair_stat[n, t] = joint.astype(float)
    stats = mirror(problem.init, node_stat[:, 0]), mirror(problem.pair, pair_stat)
    return logZ, (*stats, node_stat)


@with_digits
def path_scores(problem: MarkovProblem, n: int) -> dict[tuple[int, ...], Any]:
    """Return the log potential of every path of sequence n."""
    init, pair, node, _ = sequence(problem, n)
    _, T, K = node.shape
    init, node = exact(init.reshape(K)), exact(node[0])
    pair = exact(np.broadcast_to(pair, (1, T - 1, K, K)))[0]
    return {
        z: init[z[0]]
        + sum(node[t, z[t]] for t in range(T))
        + sum(pair[t, z[t], z[t + 1]] for t in range(T - 1))
        for z in product(range(K), repeat=T)
    }
