"""Certified answers of chains in standard parameters, each by two derivations.

Linear-Gaussian state space models: the joint covariance of all states and observations,
conditioned (Var x - Cov(x, y) Var(y)^-1 Cov(y, x)), against the Kalman filter and the
smoother that runs back with r and N (Durbin and Koopman 2012, section 4.4), which needs
no inverse but that of the innovations' covariance.  So Q, R and P0 may be singular as
long as what is observed has a density.  Hidden Markov models: the sum over all paths
against forward and backward sums.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import autograd.numpy as np
import numpy as onp
from flint import arb

from svae.crosscheck.cases import sections
from svae.crosscheck.truth.balls import (
    Balls,
    Derivation,
    exact,
    log_det,
    pull_back,
    solve,
    transpose,
    zeros,
)
from svae.crosscheck.truth.chains import DENSE, PATHS, gaussian_logZ, steps_of

__all__ = ["hmm", "lds"]

EVENTS = {"A": 2, "B": 2, "Q": 2, "C": 2, "D": 2, "R": 2}
COVARIANCES = ("Q", "R", "P0")


def lds(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive all quantities of a linear-Gaussian state space model.

    Parameters
    ----------
    inputs : dict
        ``standard.*``, arrays of balls, those of missing observations NaN; lengths are
        integers.

    Yields
    ------
    (way, quantities)
        How it was derived, and arrays of balls by quantity; the first has them all.
    """
    lengths = steps_of(inputs, "standard.y", "standard.lengths")
    parameters = sections(inputs, "standard")
    parameters.pop("lengths", None)
    y = parameters["y"]
    observed = onp.array([not ball.is_nan() for ball in y.flat]).reshape(y.shape)
    parameters["y"] = onp.where(observed, y, exact(0.0))
    D = parameters["m0"].shape[-1]
    if max(lengths) * D <= DENSE:
        way = "joint covariance of all states and observations, conditioned"
        found = _of_sequences(_conditioned, parameters, observed, lengths)
        yield way, found | _constant(inputs, lengths, found["log_likelihood"])
    way = "Kalman filter, smoother by backward recursion of r and N"
    yield way, _of_sequences(_filtered, parameters, observed, lengths)
    if max(lengths) * D > DENSE:
        way = "backward recursion of the likelihood's quadratic form"
        yield way, _of_likelihood(_backward, parameters, observed, lengths)


def _constant(
    inputs: Mapping[str, Any], lengths: Any, log_likelihood: Any
) -> dict[str, Any]:
    """Return log_likelihood - logZ where a problem has natural parameters as well."""
    if "natural.node.h" not in inputs:
        return {}
    logZ = gaussian_logZ(sections(inputs, "natural"), lengths)
    return {"natural.constant": log_likelihood - logZ}


Moments = dict[str, Any]
Sequence = Callable[..., tuple[Any, Moments]]


def _of_likelihood(
    sequence: Callable[..., tuple[Any, Any]],
    parameters: Mapping[str, Any],
    observed: Any,
    lengths: Any,
) -> dict[str, Any]:
    """Return the log likelihood and its gradient in every argument."""

    def log_likelihood(parameters: Mapping[str, Any]) -> Any:
        return np.concatenate(
            [
                sequence(_one(parameters, n, int(length)), observed[n, :length], False)[
                    0
                ]
                for n, length in enumerate(lengths)
            ]
        )

    found = {"log_likelihood": log_likelihood(parameters)}
    gradient = pull_back(log_likelihood, parameters)
    return found | {f"grad.{name}": x for name, x in gradient.items()}


def _of_sequences(
    sequence: Sequence, parameters: Mapping[str, Any], observed: Any, lengths: Any
) -> dict[str, Any]:
    """Return all quantities, zero past the lengths."""
    (N, T, _), D = observed.shape, parameters["m0"].shape[-1]
    found = {
        f"{when}.{what}": zeros((N, T, D) if what == "mean" else (N, T, D, D))
        for when in ("predicted", "filtered", "smoothed")
        for what in ("mean", "cov")
    }
    found["smoothed.cross_cov"] = zeros((N, T - 1, D, D))
    for n, length in enumerate(int(length) for length in lengths):
        one = _one(parameters, n, length)
        for name, x in sequence(one, observed[n, :length], True)[1].items():
            for t, value in enumerate(x):
                found[name][n, t] = value.reshape(found[name].shape[2:])
    return _of_likelihood(sequence, parameters, observed, lengths) | found


def _one(parameters: Mapping[str, Any], n: int, length: int) -> Callable[..., Any]:
    """Return what gives a parameter of sequence n at a step; vectors are columns.

    Covariances are made symmetric, so that their gradients are.
    """

    def at(name: str, t: int = 0) -> Any:
        x = parameters[name]
        if name in ("y", "u"):
            return x[n, t][:, None]
        if name == "m0":
            return (x[n] if x.ndim == 2 else x)[:, None]
        if name == "P0":
            x = x[n] if x.ndim == 3 else x
        elif x.ndim > EVENTS[name]:
            x = x[t]
        return (x + transpose(x)) / 2 if name in COVARIANCES else x

    def of(name: str, t: int = 0) -> Any:
        if name == "Bu":
            return at("B", t) @ at("u", t) if "B" in parameters else 0
        if name == "Du":
            return at("D", t) @ at("u", t) if "D" in parameters else 0
        return at(name, t)

    return of


def _log_density(residual: Any, S: Any) -> Any:
    """Return log N(residual; 0, S), (1,)."""
    two_pi = onp.array([[(arb.pi() * 2).log() * len(S)]], dtype=object)
    square = transpose(residual) @ solve(S, residual)
    return np.reshape(-(square + log_det(S) + two_pi) / 2, (1,))


def _conditioned(of: Callable[..., Any], observed: Any, everything: bool) -> Any:
    """Condition the joint Gaussian of all states and observations."""
    mean, V = _joint(of, len(observed))
    steps = onp.repeat(onp.arange(len(observed)), observed.sum(1))
    if len(steps):
        residual, across, S = _of_observations(of, observed, mean, V)
        log_likelihood = _log_density(residual, S)
    else:
        residual, across, S, log_likelihood = None, None, None, zeros((1,))
    if not everything:
        return log_likelihood, {}

    def given(number: int) -> tuple[Balls, Balls]:
        """Return mean and covariance of all states given the first observations."""
        if not number:
            return mean, V
        gain = transpose(solve(S[:number, :number], across[:number]))
        return mean + gain @ residual[:number], V - gain @ across[:number]

    D = len(of("m0"))
    found: Moments = {
        f"{when}.{what}": []
        for when in ("predicted", "filtered", "smoothed")
        for what in ("mean", "cov")
    }
    whole = given(len(steps))
    for t in range(len(observed)):
        own = slice(t * D, (t + 1) * D)
        for when, (m, cov) in {
            "predicted": given(int((steps < t).sum())),
            "filtered": given(int((steps <= t).sum())),
            "smoothed": whole,
        }.items():
            found[f"{when}.mean"].append(m[own])
            found[f"{when}.cov"].append(cov[own, own])
    found["smoothed.cross_cov"] = [
        whole[1][t * D : (t + 1) * D, (t + 1) * D : (t + 2) * D]
        for t in range(len(observed) - 1)
    ]
    return log_likelihood, found


def _joint(of: Callable[..., Any], L: int) -> tuple[Any, Any]:
    """Return mean (L D, 1) and covariance (L D, L D) of all states."""
    mean, rows = [of("m0")], [[of("P0")]]  # rows[t][s] = Cov(x_t, x_s), s <= t
    for t in range(L - 1):
        A = of("A", t)
        mean.append(A @ mean[t] + of("Bu", t))
        row = [A @ block for block in rows[t]]
        # Cov(x_{t+1}, x_s) = A Cov(x_t, x_s), Var(x_{t+1}) = A Var(x_t) A' + Q
        rows.append([*row, row[-1] @ transpose(A) + of("Q", t)])
    blocks = [
        [rows[t][s] if s <= t else transpose(rows[s][t]) for s in range(L)]
        for t in range(L)
    ]
    whole = np.concatenate([np.concatenate(row, 1) for row in blocks])
    return np.concatenate(mean), whole


def _of_observations(
    of: Callable[..., Any], observed: Any, mean: Any, V: Any
) -> tuple[Any, Any, Any]:
    """Return residuals (M, 1), Cov(y, x) (M, L D) and Var(y) of all M observed."""
    D = len(of("m0"))
    seen = [t for t in range(len(observed)) if observed[t].any()]
    own = {t: slice(t * D, (t + 1) * D) for t in seen}
    C = {t: of("C", t)[observed[t]] for t in seen}
    residuals = [
        (of("y", t) - of("Du", t))[observed[t]] - C[t] @ mean[own[t]] for t in seen
    ]
    across = np.concatenate([C[t] @ V[own[t]] for t in seen])
    S = np.concatenate([across[:, own[t]] @ transpose(C[t]) for t in seen], 1)
    rows = []
    for t in seen:
        before, after = (
            zeros((observed[t].sum(), observed[when].sum()))
            for when in (slice(t), slice(t + 1, None))
        )
        R = of("R", t)[observed[t]][:, observed[t]]
        rows.append(np.concatenate([before, R, after], 1))
    return np.concatenate(residuals), across, S + np.concatenate(rows)


def _filtered(of: Callable[..., Any], observed: Any, everything: bool) -> Any:
    """Filter, and smooth backwards, in covariances."""
    L = len(observed)
    m, P = of("m0"), of("P0")
    total, steps = zeros((1,)), []
    for t, seen in enumerate(observed):
        before = m, P
        C, v, S, K = None, None, None, None
        if seen.any():
            C, R = of("C", t)[seen], of("R", t)[seen][:, seen]
            v = (of("y", t) - of("Du", t))[seen] - C @ m
            S = C @ P @ transpose(C) + R
            total = total + _log_density(v, S)
            K = transpose(solve(S, C @ P))
            m, P = m + K @ v, P - K @ C @ P
        steps.append((before, (m, P), (C, v, S, K)))
        if t + 1 < L:
            A = of("A", t)
            m = A @ m + of("Bu", t)
            P = A @ P @ transpose(A) + of("Q", t)
    if not everything:
        return total, {}
    found: Moments = {
        "predicted.mean": [step[0][0] for step in steps],
        "predicted.cov": [step[0][1] for step in steps],
        "filtered.mean": [step[1][0] for step in steps],
        "filtered.cov": [step[1][1] for step in steps],
    }
    D = len(m)
    r, N = zeros((D, 1)), zeros((D, D))
    means, covs, crosses = [], [], []
    identity = exact(onp.eye(D))
    for t in reversed(range(L)):
        (m, P), _, (C, v, S, K) = steps[t]
        kept = identity if C is None else identity - K @ C
        if t + 1 < L:
            onward = of("A", t) @ kept
            next_P = steps[t + 1][0][1]
            crosses.append(P @ onward.T @ (identity - N @ next_P))
            r, N = onward.T @ r, onward.T @ N @ onward
        if C is not None:
            r, N = r + C.T @ solve(S, v), N + C.T @ solve(S, C)
        means.append(m + P @ r)
        covs.append(P - P @ N @ P)
    found |= {
        "smoothed.mean": means[::-1],
        "smoothed.cov": covs[::-1],
        "smoothed.cross_cov": crosses[::-1],
    }
    return total, found


def _backward(of: Callable[..., Any], observed: Any, everything: bool) -> Any:
    """Find p(y_t .. y_T | x_t) from the end: exp(c + h'x - x'Jx/2) up to a factor.

    Through x = A x' + noise of covariance Q the form becomes, with M = I + J Q,
    M^-1 J and M^-1 h, and c gains h'Q M^-1 h / 2 - log det M / 2: no inverse of Q.
    R must have one.
    """
    L = len(observed)
    D = len(of("m0"))
    identity = exact(onp.eye(D))
    J, h, c = zeros((D, D)), zeros((D, 1)), zeros((1,))
    for t in reversed(range(-1, L)):
        # from the form of x_{t+1} to that of x_t, or to the likelihood at the start
        Q = of("Q", t) if t >= 0 else of("P0")
        A = of("A", t) if 0 <= t < L - 1 else identity
        shift = of("m0") if t < 0 else of("Bu", t) if t < L - 1 else 0
        if t < L - 1:
            M = identity + J @ Q
            moved = solve(M, h)
            c = c + np.reshape(
                (transpose(moved) @ transpose(M) @ Q @ moved - log_det(M)) / 2, (1,)
            )
            J, h = solve(M, J), moved
            if not isinstance(shift, int):
                c = c + np.reshape(
                    transpose(h) @ shift - transpose(shift) @ J @ shift / 2, (1,)
                )
                h = h - J @ shift
            J, h = transpose(A) @ J @ A, transpose(A) @ h
        if t >= 0 and observed[t].any():
            seen = observed[t]
            C, R = of("C", t)[seen], of("R", t)[seen][:, seen]
            v = (of("y", t) - of("Du", t))[seen]
            c = c + _log_density(v, R)
            J = J + transpose(C) @ solve(R, C)
            h = h + transpose(C) @ solve(R, v)
    return c, {}


# Hidden Markov models.


def hmm(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive all quantities of a hidden Markov model; arguments as of `lds`."""
    lengths = steps_of(inputs, "standard.log_likelihoods", "standard.lengths")
    parameters = sections(inputs, "standard")
    parameters.pop("lengths", None)
    K = parameters["start"].shape[-1]
    few = K ** int(max(lengths)) <= PATHS
    if few:
        yield "sum over all paths", _all_paths(parameters, lengths)
    way = "forward and backward sums, gradient by reverse differentiation"
    yield way, _forward_backward(parameters, lengths)
    if not few:
        way = "backward sums, gradient by reverse differentiation"
        yield way, _likelihood_of_states(_backward_likelihood, parameters, lengths)


def _likelihood_of_states(
    likelihood: Callable[..., Any], parameters: Mapping[str, Any], lengths: Any
) -> dict[str, Any]:
    """Return the log likelihood (N,) and its gradient in every argument."""

    def log_likelihood(parameters: Mapping[str, Any]) -> Any:
        return np.concatenate(
            [
                np.log(
                    likelihood(
                        parameters["start"],
                        parameters["transition"],
                        np.exp(parameters["log_likelihoods"][n, :length]),
                    )
                )
                for n, length in enumerate(lengths)
            ]
        )

    gradient = pull_back(log_likelihood, parameters)
    return {"log_likelihood": log_likelihood(parameters)} | {
        f"grad.{name}": x for name, x in gradient.items()
    }


def _forward_likelihood(start: Any, transition: Any, weights: Any) -> Any:
    alpha = start * weights[0]
    for w in weights[1:]:
        alpha = (alpha @ transition) * w
    return np.sum(alpha, keepdims=True)


def _backward_likelihood(start: Any, transition: Any, weights: Any) -> Any:
    beta = weights[-1]
    for t in reversed(range(len(weights) - 1)):
        beta = weights[t] * (transition @ beta)
    return np.sum(start * beta, keepdims=True)


def _likelihood_by_paths(start: Any, transition: Any, weights: Any) -> Any:
    L, K = weights.shape
    paths = onp.array(list(product(range(K), repeat=L)))
    return np.sum(_path_weights(paths, start, transition, weights), keepdims=True)


def _path_weights(paths: Any, start: Any, transition: Any, weights: Any) -> Any:
    found = start[paths[:, 0]] * weights[0][paths[:, 0]]
    for t in range(1, paths.shape[1]):
        step = transition[paths[:, t - 1], paths[:, t]] * weights[t][paths[:, t]]
        found = found * step
    return found


def _nothing_yet(N: int, T: int, K: int) -> dict[str, Any]:
    found = {name: zeros((N, T, K)) for name in ("predicted", "filtered", "smoothed")}
    return found | {"pairs": zeros((K, K))}


def _all_paths(parameters: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Sum over paths; what is known at step t by the paths of the first t steps."""
    N, T, K = parameters["log_likelihoods"].shape
    found = _nothing_yet(N, T, K)
    best, single = onp.full((N, T), -1), True
    for n, length in enumerate(int(length) for length in lengths):
        weights = onp.exp(parameters["log_likelihoods"][n, :length])
        for t in range(length):
            paths = onp.array(list(product(range(K), repeat=t + 1)))
            without = weights[: t + 1].copy()
            without[t] = exact(1.0)
            for name, likelihoods in (
                ("predicted", without),
                ("filtered", weights[: t + 1]),
            ):
                p = _path_weights(
                    paths, parameters["start"], parameters["transition"], likelihoods
                )
                for k in range(K):
                    found[name][n, t, k] = p[paths[:, t] == k].sum() / p.sum()
        p = _path_weights(paths, parameters["start"], parameters["transition"], weights)
        for path, weight in zip(paths, p / p.sum(), strict=True):
            found["smoothed"][n, onp.arange(length), path] += weight
            for i, j in zip(path[:-1], path[1:], strict=True):
                found["pairs"][i, j] += weight
        first, alone = _largest(p)
        best[n, :length], single = paths[first], single and alone
    likelihood = _likelihood_of_states(_likelihood_by_paths, parameters, lengths)
    return likelihood | found | ({"viterbi": best} if single else {})


def _forward_backward(parameters: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Sum forwards and backwards, unscaled: the exponent of a ball has no bounds."""
    N, T, K = parameters["log_likelihoods"].shape
    found = _nothing_yet(N, T, K)
    start, transition = parameters["start"], parameters["transition"]
    for n, length in enumerate(int(length) for length in lengths):
        weights = onp.exp(parameters["log_likelihoods"][n, :length])
        alphas, predicted = [], start
        for t in range(length):
            found["predicted"][n, t] = predicted / predicted.sum()
            alphas.append(predicted * weights[t])
            found["filtered"][n, t] = alphas[t] / alphas[t].sum()
            predicted = alphas[t] @ transition
        total, beta = alphas[-1].sum(), exact(onp.ones(K))
        for t in reversed(range(length)):
            found["smoothed"][n, t] = alphas[t] * beta / total
            beta = weights[t] * beta
            if t:
                joint = alphas[t - 1][:, None] * transition * beta / total
                found["pairs"] = found["pairs"] + joint
            beta = transition @ beta
    likelihood = _likelihood_of_states(_forward_likelihood, parameters, lengths)
    return likelihood | found | _likeliest(parameters, lengths)


def _likeliest(parameters: Mapping[str, Any], lengths: Any) -> dict[str, Any]:
    """Return the likeliest paths, if each is certain to be likelier than all others."""
    N, T, K = parameters["log_likelihoods"].shape
    start, transition = parameters["start"], parameters["transition"]
    paths = onp.full((N, T), -1)
    for n, length in enumerate(int(length) for length in lengths):
        weights = onp.exp(parameters["log_likelihoods"][n, :length])
        score, sure, back = start * weights[0], [True] * K, []
        for w in weights[1:]:
            every = score[:, None] * transition
            choices = [_largest(every[:, j]) for j in range(K)]
            back.append([i for i, _ in choices])
            sure = [alone and sure[i] for i, alone in choices]
            score = onp.array([every[i, j] for j, i in enumerate(back[-1])]) * w
        z, alone = _largest(score)
        if not (alone and sure[z]):
            return {}
        for t in reversed(range(length)):
            paths[n, t] = z
            z = back[t - 1][z] if t else z
    return {"viterbi": paths}


def _largest(x: Balls) -> tuple[int, bool]:
    """Return which ball is the largest, and whether it is certain to be."""
    first = max(range(len(x)), key=lambda k: x[k].mid())
    return first, all(x[first] > x[k] for k in range(len(x)) if k != first)
