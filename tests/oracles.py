"""Chain problems with gradients of order one, and exact answers to small ones.

The Gaussian oracle builds the whole joint precision of a sequence and inverts it; the
Markov oracle enumerates every path. Both compute with 50 digits, so that they can also
judge problems at which any float64 oracle would lose digits of its own.
"""

from itertools import product
from typing import Any, NamedTuple

import mpmath
import numpy as np

SHARING = ("shared", "sequence", "time", "step", "mixed")
mpmath.mp.dps = 50
exact = np.vectorize(mpmath.mpf, otypes=[object])


class GaussianProblem(NamedTuple):
    """Arguments of `gaussian_chain`, in order."""

    init: tuple
    pair: tuple
    node: tuple
    noise: Any = None
    lengths: Any = None


class MarkovProblem(NamedTuple):
    """Arguments of `markov_chain`, in order."""

    init: Any
    pair: Any
    node: Any
    lengths: Any = None


def gaussian_problem(
    rng, N=3, T=5, D=2, *, sharing="shared", dense=False, S=2, lengths=None
):
    """Random linear dynamics, observed through random node potentials."""
    (J0_lead, h0_lead), pair_leads = _leading_axes(sharing, N, T)
    A = 0.3 * np.eye(D) + 0.6 * rng.standard_normal((D, D)) / np.sqrt(D)
    J11, J12, J22 = lds_pair_potentials(A, _positive_definite(rng, D))
    # weaker couplings and stronger precisions than the dynamics': positive definite
    scales = (1.0, 1.4), (0.6, 1.0), (1.0, 1.4)
    pair = tuple(
        J * rng.uniform(*scale, (*lead, 1, 1))
        for J, scale, lead in zip((J11, J12, J22), scales, pair_leads, strict=True)
    )
    J0 = -_positive_definite(rng, *J0_lead, D) / 2
    h0 = rng.standard_normal((*h0_lead, D))
    Jn = -rng.uniform(0.5, 1.5, (N, T, D))
    if dense:
        Jn = -_positive_definite(rng, N, T, D) / 2
    noise = rng.standard_normal((N, S, T, D)) if S else None
    node = Jn, rng.standard_normal((N, T, D))
    return GaussianProblem((J0, h0), pair, node, noise, lengths)


def markov_problem(rng, N=3, T=4, K=3, *, sharing="shared", scale=1.0, lengths=None):
    """Random log potentials."""
    (init_lead, _), (_, pair_lead, _) = _leading_axes(sharing, N, T)
    return MarkovProblem(
        scale * rng.standard_normal((*init_lead, K)),
        scale * rng.standard_normal((*pair_lead, K, K)),
        scale * rng.standard_normal((N, T, K)),
        lengths,
    )


def lds_pair_potentials(A, precision):
    """Natural parameters of x_{t+1} = A x_t + noise, from the noise's precision."""
    return -A.T @ precision @ A / 2, A.T @ precision, -precision / 2


def gaussian_oracle(problem):
    """`gaussian_chain` by the dense joint of every sequence."""
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


def gaussian_adjoint_oracle(problem, stats_bar, samples_bar):
    """Cotangents of the potentials, shaped as statistics, and of the noise.

    The statistics are the gradient of log Z, so the adjoint moves them along their own
    cotangents, taken as potentials: with dP and dh these put into a joint,

        dmu = cov (dh - dP mu),    dcov = -cov dP cov.

    Samples are mu + L^-T noise; with lam the cotangent of one and r = L^-1 lam,

        h_bar = cov lam,    P_bar = -h_bar mu' - L^-T Phi(noise r') L^-1

    where Phi keeps the lower half, its diagonal halved (the adjoint of a Cholesky
    factor); a literal potential moves P by -(J + J').
    """
    N, T, D = problem.node[1].shape
    direction = GaussianProblem(*stats_bar, lengths=problem.lengths)
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


def _dense_joint(problem, n):
    """L^-1 of the Cholesky factor, covariance, mean and h of sequence n's joint."""
    precision, h = joint_precision(problem, n)
    root = mpmath.cholesky(mpmath.matrix(precision.tolist())) ** -1
    root = np.array(root.tolist(), dtype=object)
    cov = root.T @ root
    return root, cov, cov @ h, h


def _gaussian_stats(problem, second, mean):
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


def joint_precision(problem, n):
    """Precision (L D, L D) and h (L D) of sequence n, of length L, in 50 digits."""
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


def markov_oracle(problem):
    """`markov_chain` and `viterbi` by enumeration of the paths of every sequence."""
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


def markov_marginals(problem):
    """`markov_chain` of any length by forward and backward sums in 50 digits.

    The exponents of these numbers have no bounds, so nothing is scaled.
    """
    N, T, K = problem.node.shape
    logZ = np.zeros(N)
    node_stat, pair_stat = np.zeros((N, T, K)), np.zeros((N, T - 1, K, K))
    weight = np.vectorize(mpmath.exp, otypes=[object])
    for n in range(N):
        init, pair, node, _ = sequence(problem, n)
        node = exact(node[0])
        length = len(node)
        A = weight(exact(np.broadcast_to(pair, (1, T - 1, K, K)))[0, : length - 1])
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


def path_scores(problem, n):
    """Log potential of every path of sequence n, in 50 digits."""
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


def sequence(problem, n):
    """Sequence n of a problem alone, cut to its length."""
    node_h = problem.node[-1] if isinstance(problem.node, tuple) else problem.node
    T = node_h.shape[1] if problem.lengths is None else int(problem.lengths[n])

    def alone(x, event_ndim, steps=T):
        if x.ndim > event_ndim:
            x = x[n : n + 1] if len(x) > 1 else x
        return x[:, :steps] if x.ndim == event_ndim + 2 else x

    if isinstance(problem, MarkovProblem):
        init, pair, node, _ = problem
        return MarkovProblem(alone(init, 1), alone(pair, 2, T - 1), alone(node, 1))
    (J0, h0), pair, (Jn, hn), noise, _ = problem
    return GaussianProblem(
        (alone(J0, 2), alone(h0, 1)),
        tuple(alone(J, 2, T - 1) for J in pair),
        (alone(Jn, Jn.ndim - 2), alone(hn, 1)),
        None if noise is None else noise[n : n + 1, :, :T],
    )


def fill_past_lengths(problem, filler):
    """Replace whatever a problem holds past the lengths of its sequences."""
    node_h = problem.node[-1] if isinstance(problem.node, tuple) else problem.node
    live = np.arange(node_h.shape[1]) < problem.lengths[:, None]

    def fill(x, live):
        live = live.reshape(live.shape + (1,) * (x.ndim - live.ndim))
        return np.where(live, x, filler)

    def fill_pair(x):
        return fill(x, live[:, 1:]) if x.ndim == 4 else x

    if isinstance(problem, MarkovProblem):
        pair, node = fill_pair(problem.pair), fill(problem.node, live)
        return problem._replace(pair=pair, node=node)
    pair = tuple(fill_pair(J) for J in problem.pair)
    node = tuple(fill(x, live) for x in problem.node)
    noise = fill(problem.noise, live[:, None])
    return problem._replace(pair=pair, node=node, noise=noise)


def describe(shape):
    """Name a problem's shape in a test's id."""
    sizes = [f"{name}{size}" for name, size in shape.items() if name in "NTDK"]
    dense, ragged = "dense" * ("dense" in shape), "ragged" * ("lengths" in shape)
    return "-".join(word for word in (*sizes, dense, ragged) if word)


def mirror(potential, stat):
    """Sum a statistic per sequence and step over the axes that the potential shares."""
    shape = (1,) * (stat.ndim - potential.ndim) + potential.shape
    shared = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return stat.sum(shared, keepdims=True).reshape(potential.shape)


def _leading_axes(sharing, N, T):
    """Leading axes of J0 and h0, and of J11, J12 and J22."""
    if sharing == "mixed":
        return ((N,), ()), ((), (N, T - 1), (N, 1))
    pair = {"shared": (), "sequence": (N, 1), "time": (1, T - 1), "step": (N, T - 1)}
    return ((), (N,) if sharing == "step" else ()), (pair[sharing],) * 3


def _positive_definite(rng, *shape):
    """Random matrices (..., D, D) with eigenvalues of order one."""
    root = rng.standard_normal((*shape, shape[-1])) / np.sqrt(shape[-1])
    return root @ np.swapaxes(root, -1, -2) + np.eye(shape[-1])


class DenseJoint(NamedTuple):
    """exp(x'J x + h'x + constant) over a whole path x (T D), in float64."""

    J: Any
    h: Any
    constant: Any

    @property
    def cov(self):
        return np.linalg.inv(-(self.J + self.J.T))

    @property
    def mean(self):
        return self.cov @ self.h

    @property
    def half_log_det(self):
        return 0.5 * np.linalg.slogdet(-(self.J + self.J.T))[1]

    def log_integral(self):
        size = len(self.h)
        gaussian = 0.5 * self.h @ self.mean - self.half_log_det
        return self.constant + gaussian + 0.5 * size * np.log(2 * np.pi)

    def log_density(self, x):
        """Return the exponent at x (T, D)."""
        x = x.ravel()
        return x @ self.J @ x + self.h @ x + self.constant


def path_joint(stats, path, dim, node=None, belief=None, observed=None):
    """<stats, t(z, x)> of a path z, written out as a function of x, plus <node, x>.

    The terms that z selects: components of every step, or the initial factor of the
    first and the dynamics of every other step. ``belief`` (J, h, log probabilities) of
    the first step, a Gaussian and a distribution, takes the place of initial factors.
    Without states in the statistics the path only says how long it is.  Of components
    only those of ``observed`` steps (T,) count.
    """
    T = len(path)
    J, h, constant = np.zeros((T, dim, T, dim)), np.zeros((T, dim)), 0.0
    if "weights" in stats:
        first = stats["weights"][0] if belief is None else belief[2]
        constant = first[path[0]]
    for t in range(1, T if "transitions" in stats else 0):
        constant = constant + stats["transitions"][0][path[t - 1], path[t]]

    def select(factor, t):
        if "weights" not in stats:
            return stats[factor]
        return [part[path[t]] for part in stats[factor]]

    def add_gaussian(t, part):
        nonlocal constant
        J[t, :, t] += part[0]
        h[t] += part[1]
        constant = constant + part[2] + part[3] - 0.5 * dim * np.log(2 * np.pi)

    if "components" in stats:
        for t in range(T) if observed is None else np.flatnonzero(observed):
            add_gaussian(t, select("components", t))
    else:
        if belief is None:
            add_gaussian(0, select("init", 0))
        else:
            gaussian = DenseJoint(belief[0], belief[1], 0.0)
            add_gaussian(0, (*belief[:2], -gaussian.log_integral(), 0.0))
            constant = constant + 0.5 * dim * np.log(2 * np.pi)
        for t in range(1, T):
            J11, J12, J22, half_log_det = select("dynamics", t)
            J[t - 1, :, t - 1] += J11[:dim, :dim]
            J[t - 1, :, t] += J12[:dim]
            J[t, :, t] += J22
            if len(J11) > dim:  # u = [x; 1]
                h[t - 1] += J11[:dim, dim] + J11[dim, :dim]
                h[t] += J12[dim]
                constant = constant + J11[dim, dim]
            constant = constant + half_log_det - 0.5 * dim * np.log(2 * np.pi)
    if node is not None:
        for t, part in enumerate(node[0]):
            J[t, :, t] += part if part.ndim == 2 else np.diag(part)
        h += node[1]
    size = T * dim
    return DenseJoint(J.reshape(size, size), h.reshape(size), constant)


def paths_of(num_states, num_steps):
    """List every path of the states."""
    return list(product(range(num_states), repeat=num_steps))
