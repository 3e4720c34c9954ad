"""Certified answers of very long chains of scalars, and of chains of few states.

What is of single steps is left out.  Every recursion is written so that each ball
enters an update once, or with a factor that shrinks it: a radius then stays what one
step makes of it, where the textbook's m + K (y - C m) would let it grow without end.
Each chain is run from both ends; the Kalman filter carries the derivatives along.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from svae.crosscheck.truth.balls import Balls, Derivation

__all__ = ["gaussian_chain", "lds", "markov_chain"]

FIRST_TO_LAST = "from the first step to the last and back"
LAST_TO_FIRST = "from the last step to the first and back"


class Scalars(NamedTuple):
    """What a Gaussian chain of scalars comes to."""

    logZ: Any
    first: tuple[Any, Any]
    """E[x^2] and E[x] of the first step."""
    last: tuple[Any, Any]
    squares: Any
    """The sum of E[x_t^2] over all steps."""
    products: Any
    """The sum of E[x_t x_{t+1}]."""
    weighted: Any
    """The sum of E[x_t] times given weights."""


def gaussian_chain(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive log Z and the statistics of shared potentials of one chain, D = 1."""
    J0, h0, J11, c, J22 = (
        inputs[f"natural.{name}"].item()
        for name in ("init.J", "init.h", "pair.J11", "pair.J12", "pair.J22")
    )
    diagonal = [-2 * (x + J11 + J22) for x in inputs["natural.node.J"].ravel()]
    diagonal[0] += 2 * (J22 - J0)
    diagonal[-1] += 2 * J11
    h = list(inputs["natural.node.h"].ravel())
    h[0] += h0
    for way, backwards in ((FIRST_TO_LAST, False), (LAST_TO_FIRST, True)):
        found = _scalars(diagonal, c, h, h, backwards)
        yield (
            f"integrals {way}",
            {
                "logZ": _array(found.logZ, 1),
                "stats.init.ExxT": _array(found.first[0], 1, 1),
                "stats.init.Ex": _array(found.first[1], 1),
                "stats.pair.ExxT": _array(found.squares - found.last[0], 1, 1),
                "stats.pair.ExxnT": _array(found.products, 1, 1),
                "stats.pair.ExnxnT": _array(found.squares - found.first[0], 1, 1),
            },
        )


def _array(x: Any, *shape: int) -> Balls:
    return np.array([x], dtype=object).reshape(shape)


def _scalars(
    diagonal: Sequence[Any],
    coupling: Any,
    h: Sequence[Any],
    weights: Sequence[Any],
    backwards: bool,
) -> Scalars:
    """Integrate exp(-sum(d x^2)/2 + coupling sum(x x') + sum(h x)) from one end."""
    order = range(len(h))[::-1] if backwards else range(len(h))
    determinant, squares_of_h, steps = arb(1), arb(0), []
    precision, linear = arb(0), arb(0)
    for k, t in enumerate(order):
        if k:
            gain = coupling / precision
            precision, linear = diagonal[t] - gain * coupling, h[t] + gain * linear
        else:
            precision, linear = diagonal[t], h[t]
        determinant *= precision
        squares_of_h += linear * linear / precision
        steps.append((precision, linear))
    two_pi = len(h) * (2 * arb.pi()).log()
    logZ = (squares_of_h - determinant.log() + two_pi) / 2
    precision, linear = steps[-1]
    mean, variance = linear / precision, 1 / precision
    end = variance + mean * mean, mean
    squares, products, weighted = end[0], arb(0), mean * weights[order[-1]]
    for k in range(len(h) - 2, -1, -1):
        precision, linear = steps[k]
        gain = coupling / precision
        next_mean, covariance = mean, gain * variance
        mean = linear / precision + gain * mean
        variance = 1 / precision + gain * covariance
        squares += variance + mean * mean
        products += covariance + mean * next_mean
        weighted += mean * weights[order[k]]
    begin = variance + mean * mean, mean
    first, last = (end, begin) if backwards else (begin, end)
    return Scalars(logZ, first, last, squares, products, weighted)


def markov_chain(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive log Z and the statistics of shared potentials of one chain."""
    init, pair, node = (
        np.exp(inputs[f"natural.{name}"]) for name in ("init", "pair", "node")
    )
    ones = init * 0 + 1
    for way, backwards in ((FIRST_TO_LAST, False), (LAST_TO_FIRST, True)):
        if backwards:
            Z, last, first, pairs = _sums(ones, pair.T, node[0, ::-1], init)
            pairs = pairs.T
        else:
            Z, first, last, pairs = _sums(init, pair, node[0], ones)
        yield (
            f"sums {way}",
            {"logZ": _array(Z.log(), 1), "stats.init": first, "stats.pair": pairs},
        )


def _sums(start: Any, pair: Any, node: Any, end: Any) -> tuple[Any, Any, Any, Any]:
    """Return Z, the marginals of first and last step, and the sum over pairs."""
    K = len(start)
    rows = [[pair[i, j] for j in range(K)] for i in range(K)]
    alpha, alphas = [start[k] * node[0, k] for k in range(K)], []
    for t in range(len(node)):
        if t:
            alpha = [
                sum(alpha[i] * rows[i][j] for i in range(K)) * node[t, j]
                for j in range(K)
            ]
        alphas.append(alpha)
    Z = sum(alpha[k] * end[k] for k in range(K))
    beta = [end[k] / Z for k in range(K)]
    last = np.array([alpha[k] * beta[k] for k in range(K)], dtype=object)
    # sums of alpha_t beta_{t+1}', multiplied by the transitions at the end
    outer = [[arb(0)] * K for _ in range(K)]
    for t in range(len(node) - 2, -1, -1):
        weighed = [node[t + 1, j] * beta[j] for j in range(K)]
        for i in range(K):
            for j in range(K):
                outer[i][j] += alphas[t][i] * weighed[j]
        beta = [sum(rows[i][j] * weighed[j] for j in range(K)) for i in range(K)]
    first = np.array([alphas[0][k] * beta[k] for k in range(K)], dtype=object)
    return Z, first, last, np.array(outer, dtype=object) * pair


PARAMETERS = ("A", "Q", "C", "R", "m0", "P0")


def lds(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive the log likelihood and its gradient of one series of scalars."""
    values = [inputs[f"standard.{name}"].item() for name in PARAMETERS]
    y = list(inputs["standard.y"].ravel())
    shapes = [inputs[f"standard.{name}"].shape for name in PARAMETERS]
    for way, derived in (
        (f"natural parameters, integrals {LAST_TO_FIRST}, Fisher's identity", _fisher),
        ("Kalman filter that carries derivatives along", _kalman),
    ):
        log_likelihood, gradient = derived(values, y)
        found = {"log_likelihood": _array(log_likelihood, 1)}
        for name, slope, shape in zip(PARAMETERS, gradient, shapes, strict=True):
            found[f"grad.{name}"] = _array(slope, *shape)
        yield way, found


def _kalman(values: Sequence[Any], y: Sequence[Any]) -> tuple[Any, list[Any]]:
    a, q, c, r, m, P = values
    moves = range(len(PARAMETERS))
    da, dq, dc, dr, dm, dP = ([arb(int(k == which)) for k in moves] for which in moves)
    determinant, squares = arb(1), arb(0)
    slopes = [arb(0) for _ in moves]
    for t, seen in enumerate(y):
        if t:
            dm = [da[k] * m + a * dm[k] for k in moves]
            dP = [2 * a * da[k] * P + a * a * dP[k] + dq[k] for k in moves]
            m, P = a * m, a * a * P + q
        v, S = seen - c * m, c * c * P + r
        kept, gain = r / S, P * c / S
        determinant *= S
        squares += v * v / S
        for k in moves:
            of_noise = 2 * c * P * dc[k] + dr[k]  # dS but for what dP moves
            dS = of_noise + c * c * dP[k]
            dv = -dc[k] * m - c * dm[k]
            slopes[k] += (v * v * dS / S - dS) / (2 * S) - v * dv / S
            d_gain = (dP[k] * c + P * dc[k] - gain * dS) / S
            dm[k] = kept * dm[k] + d_gain * v - gain * dc[k] * m
            dP[k] = kept * kept * dP[k] + P * (dr[k] - kept * of_noise) / S
        m, P = kept * m + gain * seen, kept * P
    two_pi = len(y) * (2 * arb.pi()).log()
    return -(squares + determinant.log() + two_pi) / 2, slopes


def _fisher(values: Sequence[Any], y: Sequence[Any]) -> tuple[Any, list[Any]]:
    a, q, c, r, m0, P0 = values
    T = len(y)
    diagonal = [1 / q + a * a / q + c * c / r] * T
    diagonal[0] += 1 / P0 - 1 / q
    diagonal[-1] -= a * a / q
    h = [c * seen / r for seen in y]
    h[0] += m0 / P0
    found = _scalars(diagonal, a / q, h, y, True)
    two_pi = 2 * arb.pi()
    seen_squares = sum((seen * seen for seen in y), arb(0))
    constants = (T - 1) * (two_pi * q).log() + T * (two_pi * r).log()
    constants += (two_pi * P0).log() + m0 * m0 / P0 + seen_squares / r
    before, after = found.squares - found.last[0], found.squares - found.first[0]
    moved = after - 2 * a * found.products + a * a * before
    missed = seen_squares - 2 * c * found.weighted + c * c * found.squares
    second, first = found.first
    start = second - 2 * m0 * first + m0 * m0
    return found.logZ - constants / 2, [
        (found.products - a * before) / q,
        (moved / q - (T - 1)) / (2 * q),
        (found.weighted - c * found.squares) / r,
        (missed / r - T) / (2 * r),
        (first - m0) / P0,
        (start / P0 - 1) / (2 * P0),
    ]
