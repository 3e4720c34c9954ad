"""Our chains inside of JAX beside the same inference written in JAX itself.

Linear dynamical systems and hidden Markov models, N sequences of T steps: smoothing,
and the gradient of the log likelihood in dynamics and evidence, by the compiled chains,
by `jax.lax.scan` over steps and by `jax.lax.associative_scan` (Sarkka and
Garcia-Fernandez 2021), all under `jax.jit`, float64. One CPU: the process stays on it,
and times are its CPU time, medians of rounds in which all take turns. What they find is
compared, too::

    python examples/interop_speed.py --framework jax
"""

import argparse
import os
import time
from functools import partial

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("--framework", choices=["jax"], default="jax")
PARSER.add_argument("--num-timesteps", type=int, default=1000)
PARSER.add_argument("--num-sequences", type=int, nargs="+", default=[1, 64])
PARSER.add_argument("--latent-dims", type=int, nargs="*", default=[4, 10, 20])
PARSER.add_argument("--num-states", type=int, nargs="*", default=[10, 50])
PARSER.add_argument(
    "--beside",
    nargs="*",
    default=["scan", "associative"],
    help="what to compare with; associative scans take minutes to compile",
)
PARSER.add_argument("--rounds", type=int, default=7)
PARSER.add_argument("--cpu", type=int, default=0, help="the one to stay on")
ARGUMENTS = PARSER.parse_args()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {ARGUMENTS.cpu})  # before JAX counts its threads

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.scipy.linalg import cho_solve, solve_triangular  # noqa: E402

jax.config.update("jax_enable_x64", True)

from svae import kernels  # noqa: E402
from svae.interop.jax import gaussian_chain, markov_chain  # noqa: E402

MOST_BYTES = 2e9  # of the elements of an associative scan


# Linear dynamical systems: x_1 ~ N(0, I), x_{t+1} ~ N(A x_t, Q), y_t ~ N(x_t, R_t). R
# is diagonal, and of each sequence, as an encoder's: so are all covariances.


def lds_problem(rng, N, T, D):
    """Return A, Q, and R and y (N, T, D)."""
    rotation = np.linalg.qr(rng.standard_normal((D, D)))[0]
    root = 0.3 * rng.standard_normal((D, D))
    R = rng.uniform(0.5, 2.0, (N, T, D))
    return (
        0.95 * rotation,
        root @ root.T + 0.1 * np.eye(D),
        R,
        rng.normal(size=(N, T, D)),
    )


def our_lds(A, Q, R, y):
    """Return log likelihoods, smoothed means and variances, by our chain."""
    N, T, D = y.shape
    L = jnp.linalg.cholesky(Q)
    P = cho_solve((L, True), jnp.eye(D))
    init = -jnp.eye(D) / 2, jnp.zeros(D)
    pair = -A.T @ P @ A / 2, A.T @ P, -P / 2
    node = -0.5 / R, y / R
    logZ, (_, _, (squares, means)), _ = gaussian_chain(init, pair, node)
    constant = -(y**2 / R + jnp.log(R)).sum((1, 2)) / 2
    constant -= T * D * jnp.log(2 * jnp.pi) + (T - 1) * jnp.log(jnp.diagonal(L)).sum()
    return logZ + constant, means, squares - means**2


def _filter(A, Q, R, y):
    """Kalman filter of one sequence, by a scan: log likelihood, and moments."""
    D = len(A)

    def step(carry, now):
        mean, cov = carry
        R_t, y_t = now
        L = jnp.linalg.cholesky(cov + jnp.diag(R_t))
        residual = y_t - mean
        e = solve_triangular(L, residual, lower=True)
        gain = cho_solve((L, True), cov).T
        after, cov_after = mean + gain @ residual, cov - gain @ cov
        density = -(e @ e) / 2 - jnp.log(jnp.diagonal(L)).sum()
        ahead = A @ after, A @ cov_after @ A.T + Q
        return ahead, (density, after, cov_after, *ahead)

    start = jnp.zeros(D), jnp.eye(D)
    _, (density, *moments) = jax.lax.scan(step, start, (R, y))
    return density.sum() - y.size * jnp.log(2 * jnp.pi) / 2, moments


def _smooth(A, Q, R, y):
    total, (means, covs, ahead, covs_ahead) = _filter(A, Q, R, y)

    def step(carry, now):
        later, cov_later = carry
        mean, cov, mean_ahead, cov_ahead = now
        L = jnp.linalg.cholesky(cov_ahead)
        G = cho_solve((L, True), A @ cov).T
        smoothed = mean + G @ (later - mean_ahead)
        cov_smoothed = cov + G @ (cov_later - cov_ahead) @ G.T
        return (smoothed, cov_smoothed), (smoothed, jnp.diagonal(cov_smoothed))

    last = means[-1], covs[-1]
    steps = means[:-1], covs[:-1], ahead[:-1], covs_ahead[:-1]
    _, (smoothed, variances) = jax.lax.scan(step, last, steps, reverse=True)
    return (
        total,
        jnp.concatenate((smoothed, means[-1:])),
        jnp.concatenate((variances, jnp.diagonal(covs[-1])[None])),
    )


def _times(matrices, vectors):
    return (matrices @ vectors[..., None])[..., 0]


def _transposed(x):
    return jnp.swapaxes(x, -1, -2)


def _associative_filter(A, Q, R, y):
    T, D = y.shape
    eye = jnp.eye(D)
    prior = jnp.concatenate((eye[None], jnp.broadcast_to(Q, (T - 1, D, D))))
    moves = jnp.concatenate((jnp.zeros((1, D, D)), jnp.broadcast_to(A, (T - 1, D, D))))
    S = prior + R[:, None] * eye
    S_inv = jnp.linalg.inv(S)
    K = prior @ S_inv
    rest = eye - K
    seen = _transposed(moves) @ S_inv
    elements = rest @ moves, _times(K, y), rest @ prior, _times(seen, y), seen @ moves

    def combine(i, j):
        A_i, b_i, C_i, eta_i, J_i = i
        A_j, b_j, C_j, eta_j, J_j = j
        M = _transposed(
            jnp.linalg.solve(_transposed(eye + C_i @ J_j), _transposed(A_j))
        )
        W = _transposed(jnp.linalg.solve(_transposed(eye + J_j @ C_i), A_i))
        return (
            M @ A_i,
            _times(M, b_i + _times(C_i, eta_j)) + b_j,
            M @ C_i @ _transposed(A_j) + C_j,
            _times(W, eta_j - _times(J_j, b_i)) + eta_i,
            W @ J_j @ A_i + J_i,
        )

    _, means, covs, _, _ = jax.lax.associative_scan(combine, elements)
    ahead = jnp.concatenate((jnp.zeros((1, D)), means[:-1] @ A.T))
    covs_ahead = jnp.concatenate((eye[None], A @ covs[:-1] @ A.T + Q))
    L = jnp.linalg.cholesky(covs_ahead + R[:, None] * eye)
    e = solve_triangular(L, (y - ahead)[..., None], lower=True)
    logs = jnp.log(jnp.diagonal(L, 0, -2, -1)).sum()
    total = -(e**2).sum() / 2 - logs - y.size * jnp.log(2 * jnp.pi) / 2
    return total, means, covs


def _associative_smooth(A, Q, R, y):
    total, means, covs = _associative_filter(A, Q, R, y)
    G = covs[:-1] @ A.T @ jnp.linalg.inv(A @ covs[:-1] @ A.T + Q)
    G = jnp.concatenate((G, jnp.zeros_like(covs[:1])))
    elements = G, means - _times(G @ A, means), covs - G @ A @ covs

    def combine(later, now):
        E_j, g_j, L_j = later
        E_i, g_i, L_i = now
        return E_i @ E_j, _times(E_i, g_j) + g_i, E_i @ L_j @ _transposed(E_i) + L_i

    _, means, covs = jax.lax.associative_scan(combine, elements, reverse=True)
    return total, means, jnp.diagonal(covs, 0, -2, -1)


# Hidden Markov models of K states, from log potentials.


def hmm_problem(rng, N, T, K):
    """Return log start, log transition and log likelihoods (N, T, K)."""
    transition = rng.dirichlet(np.ones(K), K) + 0.5 * np.eye(K)
    transition /= transition.sum(1, keepdims=True)
    return np.full(K, -np.log(K)), np.log(transition), 2 * rng.normal(size=(N, T, K))


def our_hmm(init, pair, node):
    """Return log likelihoods, expected transitions and state probabilities."""
    logZ, (_, pairs, states) = markov_chain(init, pair, node)
    return logZ, pairs, states


def _messages(init, pair, node):
    A = jnp.exp(pair)
    largest = node.max(-1, keepdims=True)
    weights = jnp.exp(node - largest)

    def step(ahead, weight):
        alpha = ahead * weight
        scale = alpha.sum()
        alpha = alpha / scale
        return alpha @ A, (alpha, scale)

    _, (alphas, scales) = jax.lax.scan(step, jnp.exp(init), weights)
    return jnp.log(scales).sum() + largest.sum(), A, weights, alphas, scales


def _forward_backward(init, pair, node):
    total, A, weights, alphas, scales = _messages(init, pair, node)

    def step(beta, now):
        weight, scale = now
        before = A @ (beta * weight / scale)
        return before, before

    last = jnp.ones(len(A))
    _, betas = jax.lax.scan(step, last, (weights[1:], scales[1:]), reverse=True)
    betas = jnp.concatenate((betas, last[None]))
    after = betas[1:] * weights[1:] / scales[1:, None]
    return total, A * (alphas[:-1].T @ after), alphas * betas


def _products(init, pair, node, reverse=False):
    """Scaled products of the matrices of all steps up to each, and logs of scales."""
    largest = node.max(-1, keepdims=True)
    weights = jnp.exp(node - largest)
    A = jnp.exp(pair)
    first = jnp.broadcast_to(jnp.exp(init), A.shape) * weights[0]
    matrices = jnp.concatenate((first[None], A * weights[1:, None]))

    def combine(i, j):
        (P, p), (S, s) = (j, i) if reverse else (i, j)
        product = P @ S
        scale = product.max((-2, -1))
        return product / scale[..., None, None], p + s + jnp.log(scale)

    scales = matrices.max((-2, -1))
    elements = matrices / scales[..., None, None], jnp.log(scales)
    products, logs = jax.lax.associative_scan(combine, elements, reverse=reverse)
    return products, logs, largest.sum(), A, weights


def _associative_total(init, pair, node):
    products, logs, largest, _, _ = _products(init, pair, node)
    return jnp.log(products[-1, 0].sum()) + logs[-1] + largest


def _associative_forward_backward(init, pair, node):
    products, logs, largest, A, weights = _products(init, pair, node)
    total = jnp.log(products[-1, 0].sum()) + logs[-1] + largest
    alphas = products[:, 0] / products[:, 0].sum(-1, keepdims=True)
    behind, _, _, _, _ = _products(init, pair, node, reverse=True)
    betas = jnp.concatenate((behind[1:].sum(-1), jnp.ones((1, len(A)))))
    states = alphas * betas
    norms = states.sum(-1, keepdims=True)
    after = weights[1:] * betas[1:]
    pairs = (
        alphas[:-1] / (alphas[:-1] * (after @ A.T)).sum(-1, keepdims=True)
    ).T @ after
    return total, A * pairs, states / norms


def batched(f, axes, sums=()):
    """Map over sequences; some of the results are summed over them."""

    def mapped(*args):
        found = jax.vmap(f, axes)(*args)
        if not sums:
            return found
        return tuple(x.sum(0) if k in sums else x for k, x in enumerate(found))

    return mapped


LDS, HMM = (None, None, 0, 0), (None, None, 0)
SMOOTHERS = {
    "lds": {
        "svae": our_lds,
        "scan": batched(_smooth, LDS),
        "associative": batched(_associative_smooth, LDS),
    },
    "hmm": {
        "svae": our_hmm,
        "scan": batched(_forward_backward, HMM, sums=(1,)),
        "associative": batched(_associative_forward_backward, HMM, sums=(1,)),
    },
}
LIKELIHOODS = {
    "lds": {
        "svae": lambda *args: our_lds(*args)[0],
        "scan": batched(lambda *args: _filter(*args)[0], LDS),
        "associative": batched(lambda *args: _associative_filter(*args)[0], LDS),
    },
    "hmm": {
        "svae": lambda *args: our_hmm(*args)[0],
        "scan": batched(lambda *args: _messages(*args)[0], HMM),
        "associative": batched(_associative_total, HMM),
    },
}
WANTED = {"lds": (0, 3), "hmm": (0, 1, 2)}  # A and y; all potentials


def gradient(likelihood, argnums):
    """Return value and gradient of the sum of log likelihoods."""
    return jax.value_and_grad(lambda *args: likelihood(*args).sum(), argnums)


def difference(got, want):
    """Return the largest difference, each array relative to its largest entry."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in pairs)


def medians(functions, args, rounds):
    """Return the median CPU time of each function, in turns, and its results."""
    compiled = {name: jax.jit(f) for name, f in functions.items()}
    results = {n: jax.block_until_ready(f(*args)) for n, f in compiled.items()}
    times = {name: [] for name in compiled}
    for _ in range(rounds):
        for name, f in compiled.items():
            jax.block_until_ready(f(*args))  # others' memory is given back before
            count, start = 0, time.process_time()
            while count == 0 or time.process_time() - start < 0.02:
                jax.block_until_ready(f(*args))
                count += 1
            times[name].append((time.process_time() - start) / count)
    return {name: float(np.median(x)) for name, x in times.items()}, results


def is_too_large(kind, N, T, size, what):
    """Tell whether the elements of an associative scan leave the memory."""
    matrices = {"lds": 3, "hmm": 1}[kind] * (10 if what == "gradient" else 3)
    return matrices * N * T * size**2 * 8 > MOST_BYTES


def row(kind, size, N, T, what, rounds):
    """Measure one line of the table."""
    problem = {"lds": lds_problem, "hmm": hmm_problem}[kind]
    args = [jnp.asarray(x) for x in problem(np.random.default_rng(0), N, T, size)]
    functions = SMOOTHERS[kind]
    if what == "gradient":
        grad = partial(gradient, argnums=WANTED[kind])
        functions = {name: grad(f) for name, f in LIKELIHOODS[kind].items()}
    chosen = {"svae", *ARGUMENTS.beside}
    if is_too_large(kind, N, T, size, what):
        chosen.discard("associative")
    functions = {name: f for name, f in functions.items() if name in chosen}
    times, results = medians(functions, args, rounds)
    worst = max(difference(x, results["svae"]) for x in results.values())
    letter = {"lds": "D", "hmm": "K"}[kind]
    cells = [f"{kind}, {letter} = {size}", what, str(N), f"{times['svae'] * 1e3:.3g}"]
    for name in ("scan", "associative"):
        if name in times:
            ratio = times[name] / times["svae"]
            cells.append(f"{times[name] * 1e3:.3g} ({ratio:.2g}x)")
        else:
            cells.append("-")
    print("| " + " | ".join([*cells, f"{worst:.0e}"]) + " |", flush=True)


def overhead(rounds):
    """Print what a call of next to no work costs."""
    init, pair = jnp.zeros(2), jnp.zeros((2, 2))
    node = jnp.zeros((1, 1, 2))
    nothing = {
        "svae": lambda *args: markov_chain(*args),
        "JAX": lambda a, b, c: (c.sum(), (a + 1, b + 1, c + 1)),
    }
    times, _ = medians(nothing, [init, pair, node], 10 * rounds)
    print(
        f"\nA call of one step and two states under jit takes {times['svae'] * 1e6:.1f}"
        f" us; a function of as many arrays that adds one, {times['JAX'] * 1e6:.1f} us."
    )


def main():
    """Print the table."""
    T, rounds = ARGUMENTS.num_timesteps, ARGUMENTS.rounds
    kernels.set_num_threads(1)
    print(f"JAX {jax.__version__}, {kernels.isa()}, T = {T}, milliseconds\n")
    print("| chain | what | N | svae | scan | associative scan | difference |")
    print("|---|---|---|---|---|---|---|")
    kinds = {"lds": ARGUMENTS.latent_dims, "hmm": ARGUMENTS.num_states}
    for kind, sizes in kinds.items():
        for size in sizes:
            for what in ("smoother", "gradient"):
                for N in ARGUMENTS.num_sequences:
                    row(kind, size, N, T, what, rounds)
    overhead(rounds)


if __name__ == "__main__":
    main()
