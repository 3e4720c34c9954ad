"""How exact Gaussian chains are: problems of given condition, and errors of answers.

The answers of the compiled chain and those of LAPACK, both in float64, are compared
with the dense joint in 50 digits.  An error is the largest difference in an array,
relative to the largest magnitude in it; the sequences of a problem, alike in condition,
share an array, lest one whose adjoint happens to cancel set the scale for all.

As a program this module gives the `answers` of the kernels to pickled problems: the
instruction set of a process is chosen when it starts.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from svae import kernels, reference
from svae.autodiff.trees import leaves
from svae.testing.chains import GaussianProblem, gaussian_problem, lds_pair_potentials
from svae.testing.gradients import cotangents, random_like, relative_error
from svae.testing.oracles import (
    gaussian_adjoint_oracle,
    gaussian_oracle,
    joint_precision,
)

__all__ = [
    "QUANTITIES",
    "answers",
    "conditioned_problem",
    "instruction_sets",
    "kinds",
    "lapack_chain",
    "nearly_deterministic",
    "nearly_exact",
    "worst_errors",
]

QUANTITIES = (
    "logZ",
    "means",
    "second moments",
    "samples",
    "adjoint of statistics",
    "adjoint of samples",
)


def conditioned_problem(
    rng: np.random.Generator, condition: float, N: int = 8, T: int = 4, D: int = 2
) -> GaussianProblem:
    """Draw joint precisions of a condition number, moved there along the identity.

    The states are of order one: h = precision @ x, rounded.
    """
    init, pair, node, noise, _ = gaussian_problem(rng, N, T, D, sharing="step", S=1)
    J0, h0 = np.tile(init[0], (N, 1, 1)), 0 * init[1]
    problem = GaussianProblem((J0, h0), pair, node, noise)
    for n in range(N):
        precision = joint_precision(problem, n)[0].astype(float)
        smallest, *_, largest = np.linalg.eigvalsh(precision)
        shift = (largest - condition * smallest) / (condition - 1)
        node[0][n] -= shift / 2
        precision = joint_precision(problem, n)[0].astype(float)
        node[1][n] = (precision @ rng.standard_normal(T * D)).reshape(T, D)
    return problem


def nearly_deterministic(
    rng: np.random.Generator, variance: float = 1e-8, N: int = 8, T: int = 6, D: int = 2
) -> GaussianProblem:
    """Draw dynamics with such noise, observed through noise of order one."""
    A = np.eye(D) + 0.1 * rng.standard_normal((D, D))
    pair = lds_pair_potentials(A, np.eye(D) / variance)
    init = np.tile(-np.eye(D) / 2, (N, 1, 1)), np.zeros((N, D))
    node = -rng.uniform(0.5, 1.5, (N, T, D)), rng.standard_normal((N, T, D))
    return _per_sequence(init, pair, node, rng.standard_normal((N, 1, T, D)))


def nearly_exact(
    rng: np.random.Generator,
    variance: float = 1e-12,
    N: int = 8,
    T: int = 6,
    D: int = 2,
) -> GaussianProblem:
    """Draw dynamics with noise of order one, observed through such noise."""
    init, pair, (Jn, hn), noise, _ = gaussian_problem(rng, N, T, D, S=1)
    init = np.tile(init[0], (N, 1, 1)), np.tile(init[1], (N, 1))
    return _per_sequence(init, pair, (Jn / variance, hn / variance), noise)


def _per_sequence(init: Any, pair: Any, node: Any, noise: Any) -> GaussianProblem:
    """Give each sequence potentials, and so statistics, of its own."""
    N, T, D = node[1].shape
    pair = tuple(np.tile(J, (N, T - 1, 1, 1)) for J in pair)
    return GaussianProblem(init, pair, node, noise)


def condition_number(problem: GaussianProblem) -> float:
    """Return the largest among the joint precisions of the sequences."""
    precisions = (joint_precision(problem, n)[0] for n in range(len(problem.node[1])))
    return max(np.linalg.cond(precision.astype(float)) for precision in precisions)


def lapack_chain(init: Any, pair: Any, node: Any, noise: Any) -> Any:
    """Compute `gaussian_chain` of per-sequence potentials, step by step with LAPACK.

    An information filter and Rauch-Tung-Striebel smoother: Cholesky factors and
    triangular solves, no inverse but that which the covariance is.
    """
    N, T, D = node[1].shape
    logZ, mean = np.full(N, T * D / 2 * np.log(2 * np.pi)), np.zeros((N, T, D))
    second, cross = np.zeros((N, T, D, D)), np.zeros((N, T - 1, D, D))
    samples = np.zeros(noise.shape)
    for n in range(N):
        A, h, factors = _precision(init[0][n]), init[1][n], []
        J11, J12, J22 = (J[n] for J in pair)
        for t in range(T):
            A = A + _precision(np.diag(node[0][n, t]))
            if t + 1 < T:
                A = A + _precision(J11[t])
            L = cholesky(A, lower=True)
            w = solve_triangular(L, h + node[1][n, t], lower=True)
            logZ[n] += w @ w / 2 - np.log(np.diag(L)).sum()
            if t + 1 < T:
                W = solve_triangular(L, J12[t], lower=True)
                A, h = _precision(J22[t]) - W.T @ W, W.T @ w
                factors.append((L, W, w))
        m = solve_triangular(L, w, lower=True, trans="T")
        P = cho_solve((L, True), np.eye(D))
        x = m + solve_triangular(L, noise[n, :, -1].T, lower=True, trans="T").T
        mean[n, -1], second[n, -1], samples[n, :, -1] = m, P + np.outer(m, m), x
        for t, (L, W, w) in reversed(list(enumerate(factors))):
            G = solve_triangular(L, W, lower=True, trans="T")
            C, next_m = G @ P, m
            P = cho_solve((L, True), np.eye(D)) + C @ G.T
            m = solve_triangular(L, w + W @ m, lower=True, trans="T")
            terms = w + x @ W.T + noise[n, :, t]
            x = solve_triangular(L, terms.T, lower=True, trans="T").T
            mean[n, t], second[n, t], samples[n, :, t] = m, P + np.outer(m, m), x
            cross[n, t] = C + np.outer(m, next_m)
    diagonal = np.diagonal(second, axis1=-2, axis2=-1)
    pair_stats = second[:, :-1], cross, second[:, 1:]
    return logZ, ((second[:, 0], mean[:, 0]), pair_stats, (diagonal, mean)), samples


def _precision(J: Any) -> Any:
    return -(J + J.T)


def random_cotangents(rng: np.random.Generator, problem: GaussianProblem) -> Any:
    """Draw cotangents (stats, samples), flat."""
    return random_like(rng, leaves(problem[:4]))


def answers(
    problem: GaussianProblem,
    outputs_bar: Sequence[Any],
    forward: Callable[..., Any],
    differentiable: Callable[..., Any],
) -> dict[str, list[Any]]:
    """Return arrays with a leading axis of sequences, by quantity.

    Values are those of ``forward``, adjoints those of ``differentiable``.
    """
    logZ, stats, samples = forward(*problem[:4])

    def outputs(
        J0: Any, h0: Any, J11: Any, J12: Any, J22: Any, Jn: Any, hn: Any, noise: Any
    ) -> list[Any]:
        init, pair, node = (J0, h0), (J11, J12, J22), (Jn, hn)
        return leaves(differentiable(init, pair, node, noise))[1:]

    *stats_bar, samples_bar = outputs_bar
    zeros = [np.zeros_like(bar) for bar in outputs_bar]
    args = leaves(problem[:4])
    of_stats = cotangents(outputs, args, [*stats_bar, zeros[-1]])[:-1]
    of_samples = cotangents(outputs, args, [*zeros[:-1], samples_bar])
    return _by_quantity(logZ, stats, samples, of_stats, of_samples)


def exact_answers(
    problem: GaussianProblem, outputs_bar: Sequence[Any]
) -> dict[str, list[Any]]:
    """Return `answers` in 50 digits, rounded."""
    zeros = [np.zeros_like(bar) for bar in outputs_bar]
    of_stats, _ = gaussian_adjoint_oracle(problem, _tree(outputs_bar), zeros[-1])
    of_samples = gaussian_adjoint_oracle(problem, _tree(zeros), outputs_bar[-1])
    return _by_quantity(*gaussian_oracle(problem), of_stats, of_samples)


def lapack_answers(
    problem: GaussianProblem, outputs_bar: Sequence[Any]
) -> dict[str, list[Any]]:
    """Return `answers` of LAPACK; adjoints are those of `svae.reference`."""
    return answers(problem, outputs_bar, lapack_chain, reference.gaussian_chain)


def kernel_answers(cases: Sequence[Any], isa: str | None = None) -> list[Any]:
    """Return `answers` of the kernels to every case (problem, cotangents)."""
    if isa in (None, kernels.isa()):
        chain = kernels.gaussian_chain
        return [answers(one, bars, chain, chain) for one, bars in cases]
    done = subprocess.run(
        [sys.executable, "-m", "svae.testing.accuracy"],
        input=pickle.dumps(cases),
        env={**os.environ, "SVAE_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    found: list[Any] = pickle.loads(done.stdout)
    return found


def instruction_sets() -> list[str]:
    """Return those that build and machine have, that of this process first."""
    others = []
    for isa in {"avx512", "avx2", "generic"} - {kernels.isa()}:
        try:
            kernel_answers([], isa)
        except RuntimeError:
            continue
        others.append(isa)
    return [kernels.isa(), *sorted(others)]


def kinds(D: int, decades: Iterable[int] = range(1, 11)) -> dict[str, Any]:
    """Return functions of a generator that draw problems of every kind, by name."""
    conditioned = {
        f"condition 1e{k}": partial(conditioned_problem, condition=10.0**k, D=D)
        for k in decades
    }
    return conditioned | {
        "dynamics' noise 1e-8": partial(nearly_deterministic, D=D),
        "observations' noise 1e-12": partial(nearly_exact, D=D),
    }


def worst_errors(
    draw: Callable[[np.random.Generator], GaussianProblem],
    seeds: Iterable[int],
    isas: Iterable[str],
) -> tuple[float, dict[str, dict[str, float]]]:
    """Return the largest condition number, and largest errors by method, over problems.

    Methods are LAPACK and the kernels on every instruction set.
    """
    cases = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        problem = draw(rng)
        cases.append((problem, random_cotangents(rng, problem)))
    want = [exact_answers(*case) for case in cases]
    got = {"LAPACK": [lapack_answers(*case) for case in cases]}
    got |= {isa: kernel_answers(cases, isa) for isa in isas}
    worst = {}
    for method, found in got.items():
        each = [errors(a, b) for a, b in zip(found, want, strict=True)]
        worst[method] = {name: max(e[name] for e in each) for name in QUANTITIES}
    return max(condition_number(problem) for problem, _ in cases), worst


def errors(got: Any, want: Any) -> dict[str, float]:
    """Return the relative error of every quantity: the largest of its arrays."""
    return {
        name: max(map(relative_error, got[name], want[name])) for name in QUANTITIES
    }


def _tree(bars: Any) -> Any:
    return tuple(bars[:2]), tuple(bars[2:5]), tuple(bars[5:7])


def _by_quantity(
    logZ: Any, stats: Any, samples: Any, of_stats: Any, of_samples: Any
) -> dict[str, list[Any]]:
    (J0, h0), pair, (Jn, hn) = stats
    moments = J0, *pair, Jn
    values = [logZ], [h0, hn], moments, [samples], leaves(of_stats), leaves(of_samples)
    return dict(zip(QUANTITIES, map(list, values), strict=True))


if __name__ == "__main__":
    pickle.dump(kernel_answers(pickle.load(sys.stdin.buffer)), sys.stdout.buffer)
