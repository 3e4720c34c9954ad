"""Certified answers of chains in natural parameters, each by two derivations.

Gaussian chains: the inverse of the dense joint precision, with first and second
derivatives of log Z written out as covariances, against one integral after another,
differentiated by autograd.  Markov chains: the sum over all paths and covariances over
them, against sums from the left (or, of long chains, from the left and from the right).
Decoding: exact rational scores, by all paths and by recursion.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import autograd.numpy as np
import numpy as onp
from flint import arb, fmpq

from svae.crosscheck.cases import sections
from svae.crosscheck.truth.balls import (
    Balls,
    Derivation,
    cholesky,
    exact,
    eye,
    fraction,
    inverse,
    log_det,
    pull_back,
    solve,
    transpose,
    zeros,
)

__all__ = [
    "backward_samples",
    "gaussian_chain",
    "gaussian_integral",
    "gaussian_logZ",
    "markov_chain",
    "markov_sum",
    "viterbi",
]

DENSE = 60  # rows of the largest joint that is inverted
PATHS = 5000  # the most that are enumerated

GAUSSIAN = {  # potential: its statistic, axes of one, and whether it is of pairs
    "init.J": ("stats.init.ExxT", 2, "init"),
    "init.h": ("stats.init.Ex", 1, "init"),
    "pair.J11": ("stats.pair.ExxT", 2, "pair"),
    "pair.J12": ("stats.pair.ExxnT", 2, "pair"),
    "pair.J22": ("stats.pair.ExnxnT", 2, "pair"),
    "node.J": ("stats.node.ExxT", 2, "node"),
    "node.h": ("stats.node.Ex", 1, "node"),
}
MARKOV = {
    "init": ("stats.init", 1, "init"),
    "pair": ("stats.pair", 2, "pair"),
    "node": ("stats.node", 1, "node"),
}
Table = Mapping[str, tuple[str, int, str]]


def gaussian_chain(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive all quantities of a Gaussian chain.

    Parameters
    ----------
    inputs : dict of arrays of balls
        ``natural.*``, ``cotangent.*`` and ``direction.*``; lengths are integers.

    Yields
    ------
    (way, quantities)
        How it was derived, and arrays of balls by quantity; the first has them all.
    """
    D = inputs["natural.node.h"].shape[-1]
    lengths = steps_of(inputs, "natural.node.h", "natural.lengths")
    dense = max(lengths) * D <= DENSE
    if dense:
        way = "inverse of the dense joint precision, derivatives written as cumulants"
        yield way, _dense_gaussian(inputs, lengths)
    way = "integrals from the first step on, derivatives by reverse differentiation"
    yield (
        way,
        _differentiated(GAUSSIAN, inputs, gaussian_integral, backward_samples, lengths),
    )
    if not dense:
        way = (
            "integrals from the last step back, derivatives by reverse differentiation"
        )
        yield way, _reversed_gaussian(inputs, lengths)


def markov_chain(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive all quantities of a Markov chain; arguments as of `gaussian_chain`."""
    K = inputs["natural.node"].shape[-1]
    lengths = steps_of(inputs, "natural.node", "natural.lengths")
    few = K ** int(max(lengths)) <= PATHS
    if few:
        way = "sum over all paths, derivatives written as covariances"
        yield way, _enumerated_markov(inputs, lengths)
    way = "sums from the first step on, derivatives by reverse differentiation"
    yield way, _differentiated(MARKOV, inputs, markov_sum, None, lengths)
    if not few:
        way = "sums from the last step back, derivatives by reverse differentiation"
        yield way, _differentiated(MARKOV, inputs, _backward_logZ, None, lengths)


def viterbi(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Decode in exact rational numbers; arguments as of `markov_chain`."""
    K = inputs["natural.node"].shape[-1]
    lengths = steps_of(inputs, "natural.node", "natural.lengths")
    every = _rational(inputs)
    yield "recursion in rational numbers", _best_by_recursion(every, lengths)
    if K ** int(max(lengths)) <= PATHS:
        yield "all paths, in rational numbers", _best_of_all(every, lengths)
    else:
        way = "recursion from the last step back, in rational numbers"
        yield way, _best_backwards(every, lengths)


def steps_of(inputs: Mapping[str, Any], of: str, lengths: str) -> Any:
    """Return the lengths (N,) of sequences, those of an array if none are given."""
    N, T = inputs[of].shape[:2]
    return inputs.get(lengths, onp.full(N, T))


def gaussian_logZ(potentials: Mapping[str, Any], lengths: Any) -> Balls:
    """Return log Z (N,) of Gaussian chains, by integrals from the first step on."""
    N, T, _ = potentials["node.h"].shape
    every = _potentials(GAUSSIAN, potentials, N, T)
    return np.concatenate(
        [gaussian_integral(every, n, int(length)) for n, length in enumerate(lengths)]
    )


# Potentials that are shared, and their statistics.


def full(potential: Any, part: str, events: int, N: int, T: int) -> Any:
    """Return a potential for each sequence and step: (N, ...) or (N, T or T-1, ...)."""
    if part == "node":
        return potential
    event = onp.shape(potential)[onp.ndim(potential) - events :]
    lead = (N,) if part == "init" else (N, T - 1)
    return potential + zeros((*lead, *event))


def mirrored(stat: Any, shape: tuple[int, ...]) -> Balls:
    """Sum a statistic over the axes that a potential of this shape shares."""
    padded = (1,) * (stat.ndim - len(shape)) + shape
    shared = tuple(
        axis for axis, size in enumerate(padded) if size == 1 != stat.shape[axis]
    )
    return (stat.sum(shared, keepdims=True) if shared else stat).reshape(shape)


def inner(first: Any, second: Any) -> Any:
    """Return the sum of products (1,)."""
    return np.sum(np.reshape(first * second, (-1,)), keepdims=True)


def _potentials(table: Table, arrays: Mapping[str, Any], N: int, T: int) -> Any:
    """Return the full potentials, or directions of them; diagonals as matrices."""
    found = {
        name: full(arrays[name], part, events, N, T)
        for name, (_, events, part) in table.items()
    }
    J = found.get("node.J")
    if J is not None and J.ndim == 3:
        found["node.J"] = J[..., None] * eye(J.shape[-1])
    return found


def _differentiated(
    table: Table,
    inputs: Mapping[str, Any],
    logZ: Callable[..., Any],
    sampler: Callable[..., Any] | None,
    lengths: Any,
) -> dict[str, Any]:
    """Derive everything from log Z (N,) of potentials, by autograd.

    Statistics are its gradient, so the gradients of statistics are its second ones.
    """
    potentials = sections(inputs, "natural")
    potentials.pop("lengths", None)
    noise = potentials.pop("noise", None)
    bars, direction = sections(inputs, "cotangent"), sections(inputs, "direction")
    node = potentials["node.h" if "node.h" in potentials else "node"]
    N, T = node.shape[:2]

    def per_sequence(potentials: Mapping[str, Any]) -> Any:
        every = _potentials(table, potentials, N, T)
        return np.concatenate([logZ(every, n, lengths[n]) for n in range(N)])

    def stats(potentials: Mapping[str, Any]) -> Any:
        return pull_back(per_sequence, potentials)

    def paired(weights: Mapping[str, Any]) -> Callable[..., Any]:
        def of(potentials: Mapping[str, Any]) -> Any:
            found = stats(potentials)
            return sum(inner(weights[name], found[name]) for name in weights)

        return of

    found = {"logZ": per_sequence(potentials)}
    found |= {table[name][0]: x for name, x in stats(potentials).items()}
    stat_bars = {
        name: bars[stat] for name, (stat, _, _) in table.items() if stat in bars
    }
    if direction:
        hvp = pull_back(paired(direction), potentials)
        found |= {f"hvp.{name}": x for name, x in hvp.items()}
    if stat_bars:
        vjp = pull_back(paired(stat_bars), potentials)
        of_logZ = pull_back(lambda p: inner(bars["logZ"], per_sequence(p)), potentials)
        vjp = {name: x + of_logZ[name] for name, x in vjp.items()}
        if noise is not None and sampler is not None:

            def drawn(arguments: Mapping[str, Any]) -> Any:
                arguments = dict(arguments)
                noise = arguments.pop("noise")
                every = _potentials(table, arguments, N, T)
                return [sampler(every, noise[n, :, : lengths[n]], n) for n in range(N)]

            samples = zeros(noise.shape)
            for n, x in enumerate(drawn({**potentials, "noise": noise})):
                samples[n, :, : lengths[n]] = x
            found["samples"] = samples

            def of_samples(arguments: Mapping[str, Any]) -> Any:
                bar = bars["samples"]
                return sum(
                    inner(x, bar[n, :, : lengths[n]])
                    for n, x in enumerate(drawn(arguments))
                )

            more = pull_back(of_samples, {**potentials, "noise": noise})
            vjp = {name: x + vjp.get(name, exact(0.0)) for name, x in more.items()}
        found |= {f"vjp.{name}": x for name, x in vjp.items()}
    return found


# Gaussian chains.


def _blocks(every: Mapping[str, Any], n: int, length: int) -> Any:
    """Return precisions and h of each step of sequence n, and couplings, as lists."""
    precisions, h = [], []
    for t in range(length):
        J, linear = every["node.J"][n, t], every["node.h"][n, t]
        if t == 0:
            J, linear = J + every["init.J"][n], linear + every["init.h"][n]
        if t + 1 < length:
            J = J + every["pair.J11"][n, t]
        if t:
            J = J + every["pair.J22"][n, t - 1]
        precisions.append(-(J + transpose(J)))
        h.append(linear[:, None])
    return precisions, h, [every["pair.J12"][n, t] for t in range(length - 1)]


def _eliminated(every: Mapping[str, Any], n: int, length: int) -> Any:
    """Integrate out x_1, x_2, ... in turn; yield what each step is, given the past."""
    precisions, h, couplings = _blocks(every, n, length)
    A, b = precisions[0], h[0]
    for t in range(length):
        yield A, b
        if t + 1 < length:
            gain = transpose(solve(A, couplings[t]))
            A, b = precisions[t + 1] - gain @ couplings[t], h[t + 1] + gain @ b


def _integral(A: Any, b: Any) -> Any:
    """Return the log of the integral of exp(-x'Ax/2 + b'x), (1,)."""
    constant = arb.pi() * 2
    two_pi = onp.array([[constant.log() * A.shape[-1]]], dtype=object)
    return np.reshape((transpose(b) @ solve(A, b) - log_det(A) + two_pi) / 2, (1,))


def gaussian_integral(every: Mapping[str, Any], n: int, length: int) -> Any:
    """Return log Z (1,) of sequence n, one step integrated out after the other."""
    return sum(_integral(A, b) for A, b in _eliminated(every, n, length))


def _reversed_logZ(every: Mapping[str, Any], n: int, length: int) -> Any:
    """Integrate out the last step first."""
    precisions, h, couplings = _blocks(every, n, length)
    A, b, total = precisions[-1], h[-1], zeros((1,))
    for t in reversed(range(length)):
        total = total + _integral(A, b)
        if t:
            gain = couplings[t - 1] @ inverse(A)
            A = precisions[t - 1] - gain @ transpose(couplings[t - 1])
            b = h[t - 1] + gain @ b
    return total


def _reversed_gaussian(inputs: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    inputs = {name: x for name, x in inputs.items() if not name.endswith("samples")}
    found = _differentiated(GAUSSIAN, inputs, _reversed_logZ, None, lengths)
    if "natural.noise" in inputs:  # gradients of samples are the recursion's alone
        found = {k: x for k, x in found.items() if not k.startswith("vjp.")}
    return found


def backward_samples(every: Mapping[str, Any], noise: Any, n: int) -> Any:
    """Draw (S, T, D) backwards: x_t given x_{t+1} and the past."""
    steps = list(_eliminated(every, n, noise.shape[1]))
    x: list[Any] = []
    for t in reversed(range(len(steps))):
        A, b = steps[t]
        right = b + every["pair.J12"][n, t] @ x[-1] if x else b
        root = transpose(cholesky(A))
        x.append(solve(A, right) + solve(root, transpose(noise[:, t])))
    return np.stack([transpose(step) for step in reversed(x)], 1)


def _dense(every: Mapping[str, Any], n: int, length: int) -> tuple[Balls, Balls]:
    """Return the joint precision (L D, L D) and h (L D, 1)."""
    blocks, h, couplings = _blocks(every, n, length)
    D = len(h[0])
    P = zeros((length, D, length, D))
    for t, block in enumerate(blocks):
        P[t, :, t] = block
    for t, coupling in enumerate(couplings):
        P[t, :, t + 1] = -coupling
        P[t + 1, :, t] = -coupling.T
    return P.reshape(length * D, length * D), onp.concatenate(h)


def _dense_gaussian(inputs: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Invert the joint; the derivatives of log Z are the cumulants of (x x', x).

    Moved by potentials with the precision dP and the linear term dh, the mean moves by
    S (dh - dP mean) and the covariance S by -S dP S.  A sample mean + L^-T e whose
    cotangent is g has, with r = L^-1 g and Phi the lower half, its diagonal halved,

        h_bar = S g,    P_bar = -h_bar mean' - L^-T Phi(e r') L^-1.
    """
    potentials = sections(inputs, "natural")
    potentials.pop("lengths", None)
    noise = potentials.pop("noise", None)
    bars, direction = sections(inputs, "cotangent"), sections(inputs, "direction")
    N, T, D = potentials["node.h"].shape
    every = _potentials(GAUSSIAN, potentials, N, T)
    stat_bars = {name: bars.get(stat) for name, (stat, _, _) in GAUSSIAN.items()}
    asked = bool(bars)
    moved = {
        "hvp": _potentials(GAUSSIAN, direction, N, T) if direction else None,
        "vjp": _potentials(GAUSSIAN, stat_bars, N, T) if asked else None,
    }
    logZ = zeros((N,))
    moments: dict[str, tuple[Balls, Balls]] = {
        name: (zeros((N, T, D, T, D)), zeros((N, T, D)))
        for name in ("stats", "hvp", "vjp")
    }
    samples = zeros((0,) if noise is None else noise.shape)
    noise_bar = zeros(samples.shape)
    for n, L in enumerate(int(length) for length in lengths):

        def put(name: str, second: Balls, first: Balls, n: int = n, L: int = L) -> None:
            moments[name][0][n, :L, :, :L] += second.reshape(L, D, L, D)
            moments[name][1][n, :L] += first.reshape(L, D)

        P, h = _dense(every, n, L)
        S = inverse(P)
        mean = S @ h
        logZ[n] = _integral(P, h)[0]
        second = S + mean @ mean.T
        put("stats", second, mean)
        for name, by in moved.items():
            if by is not None:
                dP, dh = _dense(by, n, L)
                d_mean = S @ (dh - dP @ mean)
                put(name, d_mean @ mean.T + mean @ d_mean.T - S @ dP @ S, d_mean)
        if asked:
            weight = bars["logZ"][n]
            put("vjp", weight * second, weight * mean)
        if noise is None:
            continue
        root = inverse(cholesky(P))
        for s in range(noise.shape[1]):
            e = noise[n, s, :L].reshape(L * D, 1)
            samples[n, s, :L] = (mean + root.T @ e).reshape(L, D)
            if asked:
                g = bars["samples"][n, s, :L].reshape(L * D, 1)
                r, h_bar = root @ g, S @ g
                half = exact(onp.tri(L * D) - onp.eye(L * D) / 2)
                P_bar = -h_bar @ mean.T - root.T @ (half * (e @ r.T)) @ root
                put("vjp", -(P_bar + P_bar.T), h_bar)
                noise_bar[n, s, :L] = r.reshape(L, D)
    found = {"logZ": logZ}
    for name, (second, first) in moments.items():
        if name == "stats" or moved[name] is not None:
            stats = _picked(second, first, lengths)
            for potential, (stat, _, _) in GAUSSIAN.items():
                key = stat if name == "stats" else f"{name}.{potential}"
                x = stats[potential]
                if potential == "node.J" and potentials[potential].ndim == 3:
                    x = onp.diagonal(x, axis1=-2, axis2=-1)
                found[key] = mirrored(x, potentials[potential].shape)
    if noise is not None:
        found["samples"] = samples
        if asked:
            found["vjp.noise"] = noise_bar
    return found


def _picked(second: Balls, first: Balls, lengths: Any) -> dict[str, Balls]:
    """Pick from (N, T, D, T, D) and (N, T, D) what the potentials multiply."""
    t = onp.arange(first.shape[1])
    both = (t[1:] < lengths[:, None])[..., None, None]
    second = second.swapaxes(2, 3)
    own = second[:, t, t]
    cross = second[:, t[:-1], t[1:]]
    return {
        "init.J": own[:, 0],
        "init.h": first[:, 0],
        "pair.J11": own[:, :-1] * exact(both),
        "pair.J12": cross,
        "pair.J22": own[:, 1:],
        "node.J": own,
        "node.h": first,
    }


# Markov chains.


def _weights(every: Mapping[str, Any], n: int, length: int) -> tuple[Any, Any, Any]:
    """Return exp of the potentials of sequence n: (K,), (L-1, K, K), (L, K)."""
    return (
        np.exp(every["init"][n]),
        np.exp(every["pair"][n, : length - 1]),
        np.exp(every["node"][n, :length]),
    )


def markov_sum(every: Mapping[str, Any], n: int, length: int) -> Any:
    """Return log Z (1,) of sequence n, summed over one step after the other."""
    init, pair, node = _weights(every, n, length)
    alpha = init * node[0]
    for t in range(length - 1):
        alpha = (alpha @ pair[t]) * node[t + 1]
    return np.log(np.sum(alpha, keepdims=True))


def _backward_logZ(every: Mapping[str, Any], n: int, length: int) -> Any:
    init, pair, node = _weights(every, n, length)
    beta = node[length - 1]
    for t in reversed(range(length - 1)):
        beta = node[t] * (pair[t] @ beta)
    return np.log(np.sum(init * beta, keepdims=True))


def _features(paths: Any, T: int, K: int, n: int, N: int) -> dict[str, Any]:
    """Return the 0-1 statistics of paths (R, L), as float arrays (R, N, ...)."""
    R, L = paths.shape
    row, t = onp.arange(R)[:, None], onp.arange(L)
    node, pair = onp.zeros((R, N, T, K)), onp.zeros((R, N, T - 1, K, K))
    node[row, n, t, paths] = 1
    pair[row, n, t[:-1], paths[:, :-1], paths[:, 1:]] = 1
    return {"init": node[:, :, 0], "pair": pair, "node": node}


def _enumerated_markov(inputs: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Sum over all paths: statistics are means over them, derivatives covariances."""
    potentials = sections(inputs, "natural")
    potentials.pop("lengths", None)
    bars, direction = sections(inputs, "cotangent"), sections(inputs, "direction")
    N, T, K = potentials["node"].shape
    every = _potentials(MARKOV, potentials, N, T)
    stat_bars = {name: bars.get(stat) for name, (stat, _, _) in MARKOV.items()}
    moved = {
        "hvp": _potentials(MARKOV, direction, N, T) if direction else None,
        "vjp": _potentials(MARKOV, stat_bars, N, T) if bars else None,
    }
    logZ = zeros((N,))
    total: dict[str, Any] = {
        name: {k: zeros(x.shape) for k, x in every.items()}
        for name in ("stats", "hvp", "vjp")
    }
    for n, length in enumerate(lengths):
        paths = onp.array(list(product(range(K), repeat=int(length))))
        score = _scores(every, n, paths)
        weight = onp.exp(score)
        Z = weight.sum()
        logZ[n] = Z.log()
        p = weight / Z
        features = _features(paths, T, K, n, N)
        mean = {k: _over_paths(p, f) for k, f in features.items()}
        for k, x in mean.items():
            total["stats"][k] += x
        for name, by in moved.items():
            if by is None:
                continue
            along = _scores(by, n, paths)
            centred = p * (along - (p * along).sum())
            for k, f in features.items():
                total[name][k] += _over_paths(centred, f)
                if name == "vjp":
                    total[name][k] += bars["logZ"][n] * mean[k]
    found = {"logZ": logZ}
    for name, by_potential in total.items():
        if name == "stats" or moved[name] is not None:
            for k, x in by_potential.items():
                key = MARKOV[k][0] if name == "stats" else f"{name}.{k}"
                found[key] = mirrored(x, potentials[k].shape)
    return found


def _over_paths(weight: Balls, features: Any) -> Balls:
    """Sum the weights of the paths that have a feature."""
    found = zeros(features.shape[1:])
    for place in zip(*onp.nonzero(features), strict=True):
        found[place[1:]] += weight[place[0]]
    return found


def _scores(every: Mapping[str, Any], n: int, paths: Any) -> Any:
    """Return the sum of the potentials of sequence n along each path."""
    t = onp.arange(paths.shape[1])
    score = every["init"][n][paths[:, 0]] + every["node"][n, t, paths].sum(-1)
    if len(t) > 1:
        pair = every["pair"][n, t[:-1], paths[:, :-1], paths[:, 1:]]
        score = score + pair.sum(-1)
    return score


# Decoding.


def _rational(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the full potentials as fractions; -inf stays."""
    N, T, _ = inputs["natural.node"].shape
    every = _potentials(MARKOV, sections(inputs, "natural"), N, T)
    as_fraction = onp.vectorize(
        lambda x: fraction(x) if x.is_finite() else -math.inf, otypes=[object]
    )
    return {k: as_fraction(x) if x.size else x for k, x in every.items()}


def _as_balls(fractions: Any) -> Balls:
    numbers = [fmpq(x.numerator, x.denominator) for x in fractions]
    return onp.array([arb(x) for x in numbers], dtype=object)


def _best_of_all(every: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    N, T, K = every["node"].shape
    paths, unique = onp.full((N, T), -1), onp.zeros(N, bool)
    logprob = onp.zeros(N, object)
    for n, length in enumerate(lengths):
        candidates = onp.array(list(product(range(K), repeat=int(length))))
        score = _scores(every, n, candidates)
        best = max(score)
        attained = [
            path for path, s in zip(candidates, score, strict=True) if s == best
        ]
        unique[n], logprob[n] = len(attained) == 1, best
        # among equals the lowest last state, then the lowest one before it, ...
        paths[n, :length] = min(attained, key=lambda path: tuple(path[::-1]))
    return {"logprob": _as_balls(logprob), "paths": paths, "unique": unique}


def _best_backwards(every: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Decode sequences of full length in reversed time; of ties no path is said."""
    node = every["node"][:, ::-1].copy()
    node[:, -1] += every["init"]
    turned = {
        "init": every["init"] * 0,
        "pair": every["pair"][:, ::-1].swapaxes(-1, -2),
        "node": node,
    }
    found = _best_by_recursion(turned, lengths)
    paths = found.pop("paths")[:, ::-1]
    return found | ({"paths": paths} if found["unique"].all() else {})


def _best_by_recursion(every: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    N, T, K = every["node"].shape
    paths, unique = onp.full((N, T), -1), onp.zeros(N, bool)
    logprob = onp.zeros(N, object)
    for n, length in enumerate(lengths):
        score, ways, back = every["init"][n] + every["node"][n, 0], [1] * K, []
        for t in range(length - 1):
            every_pair = score[:, None] + every["pair"][n, t]
            score = every_pair.max(0)
            equal = every_pair == score
            back.append([int(onp.argmax(equal[:, j])) for j in range(K)])
            ways = [int(onp.sum(onp.array(ways) * equal[:, j])) for j in range(K)]
            score = score + every["node"][n, t + 1]
        logprob[n] = max(score)
        at_end = [k for k in range(K) if score[k] == logprob[n]]
        unique[n] = sum(ways[k] for k in at_end) == 1
        z = at_end[0]
        for t in reversed(range(length)):
            paths[n, t] = z
            z = back[t - 1][z] if t else z
    return {"logprob": _as_balls(logprob), "paths": paths, "unique": unique}
