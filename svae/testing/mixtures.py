"""Mixtures of independent rows as csrc/mixture defines them, in autograd NumPy."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd import make_vjp
from autograd.scipy.special import logsumexp

from svae import kernels
from svae.types import Array

__all__ = [
    "AUTOGRAD",
    "mixture",
    "mixture_evidence",
    "pulled_back",
    "same_mixture_gradients",
]

AUTOGRAD = threading.RLock()
"""Autograd has one stack of traces for all threads."""


def pulled_back(
    function: Callable[..., Any], arguments: Sequence[Any], bars: Sequence[Any]
) -> Any:
    """Cotangents of flat arguments, for those of all results."""

    def paired(arguments: Any) -> Any:
        results = function(*arguments)
        return sum(np.sum(y * bar) for y, bar in zip(results, bars, strict=True))

    return make_vjp(paired)(tuple(arguments))[0](1.0)


def mixture(
    statistics: Array, potentials: Any, tails: Any, node: Any, noise: Any, observed: Any
) -> tuple[Any, list[Any]]:
    """Return the statistics after a round, and what `kernels.mixture` does of these.

    That is log normalizer, evidence, half log determinant, second moment, mean, states,
    their potentials and samples.
    """
    init, components, constants = potentials
    node_J, node_h = node
    D = node_h.shape[1]
    observed = onp.ones(len(node_h)) if observed is None else observed
    A, h, cov, mean, second_moment = _law_of_x(statistics, components, node, observed)
    linear = observed[:, None] * _features(second_moment, mean) @ components.T
    if tails is None:
        evidence = phi = linear
        gain = onp.ones(evidence.shape)
    else:
        offsets, dofs, weights = tails
        evidence = linear + observed[:, None] * offsets
        grown = -2.0 * evidence[..., None] / dofs
        phi = np.sum(-0.5 * weights * (dofs + D) * np.log1p(grown), -1)
        gain = np.sum(weights * (1.0 + D / dofs) / (1.0 + grown), -1)
        gain = np.where(observed[:, None] > 0, gain, 1.0)
    levels = np.where(observed[:, None] > 0, phi + constants, 0.0)
    log_states = logsumexp(init + levels, axis=1)
    states = np.exp(init + levels - log_states[:, None])
    half_log_det = 0.5 * np.linalg.slogdet(A)[1]
    log_x = 0.5 * np.sum(h * mean, 1) - half_log_det
    log_x = log_x + observed * 0.5 * D * onp.log(2.0 * onp.pi)
    surrogate = log_x + log_states - np.sum(statistics * linear, 1)
    dense = node_J if node_J.ndim == 3 else node_J[:, :, None] * onp.eye(D)
    of_node = np.sum(dense * second_moment, (1, 2)) + np.sum(node_h * mean, 1)
    results = [
        *(surrogate, of_node, half_log_det, second_moment, mean, states, levels),
    ]
    if noise is not None:
        L = np.linalg.cholesky(A)
        shifts = np.linalg.solve(np.swapaxes(L, 1, 2), np.swapaxes(noise, 1, 2))
        results.append(mean[:, None] + np.swapaxes(shifts, 1, 2))
    return states * gain, results


def _law_of_x(statistics: Array, components: Array, node: Any, observed: Any) -> Any:
    """Precision, h, covariance, mean and second moment of x given the states."""
    node_J, node_h = node
    N, D = node_h.shape
    J = node_J if node_J.ndim == 3 else node_J[:, :, None] * onp.eye(D)
    mixed = (observed[:, None] * statistics) @ components
    J = J + np.reshape(mixed[:, : D * D], (N, D, D))
    A = -(J + np.swapaxes(J, 1, 2)) + (1.0 - observed)[:, None, None] * onp.eye(D)
    h = node_h + mixed[:, D * D :]
    cov = np.linalg.inv(A)
    mean = np.sum(cov * h[:, None, :], 2)
    return A, h, cov, mean, cov + mean[:, :, None] * mean[:, None, :]


def _features(second_moment: Array, mean: Array) -> Array:
    N, D = mean.shape
    return np.concatenate([np.reshape(second_moment, (N, D * D)), mean], 1)


def mixture_evidence(components: Array, node: Any, observed: Any, states: Any) -> Any:
    """Evidence of rows, second moments and means, as `kernels.mixture_evidence`."""
    node_h = node[1]
    (N, D), K = node_h.shape, len(components)
    observed = onp.ones(N) if observed is None else observed
    if states is not None:
        *_, mean, second_moment = _law_of_x(states, components, node, observed)
        features = _features(second_moment, mean)
        return observed[:, None] * features @ components.T, second_moment, mean
    log_normalizers = []
    for k in range(K):
        alone = onp.tile(onp.eye(K)[k], (N, 1))
        A, h, _, mean, _ = _law_of_x(alone, components, node, observed)
        log_det = onp.linalg.slogdet(A)[1]
        log_x = 0.5 * (onp.sum(h * mean, 1) - log_det + D * onp.log(2.0 * onp.pi))
        log_normalizers.append(observed * log_x)
    return onp.stack(log_normalizers, 1), None, None


def same_mixture_gradients(
    potentials: Any,
    tails: Any,
    node: Any,
    noise: Any,
    observed: Any,
    from_data: bool,
    rng: onp.random.Generator,
) -> None:
    """Compare `mixture_vjp` with the implicit function theorem, solved densely."""
    starts = from_data, not from_data, 1e-14, 5000
    found = kernels.mixture(potentials, tails, node, noise, observed, None, *starts)
    fixed, residual = found[0], found[2]
    N, K = fixed.shape
    arrays = [*potentials, *(tails or ()), *node] + ([] if noise is None else [noise])

    def split(arrays: Any) -> Any:
        rest = arrays[3:]
        own_tails, rest = (rest[:3], rest[3:]) if tails else (None, rest)
        return (
            arrays[:3],
            own_tails,
            rest[:2],
            rest[2] if len(rest) > 2 else None,
            observed,
        )

    def round_of(s: Array, *arrays: Any) -> Any:
        return [mixture(s, *split(arrays))[0]]

    def results_of(s: Array, *arrays: Any) -> Any:
        results = mixture(s, *split(arrays))[1]
        return results[:2] + results[3:]  # half log determinants are constants

    columns = [
        pulled_back(round_of, [fixed, *arrays], [onp.tile(onp.eye(K)[k], (N, 1))])[0]
        for k in range(K)
    ]
    slopes = onp.stack(columns, 1).reshape(N, K, K)  # d updated_k / d s_l
    system = onp.eye(K) - onp.swapaxes(slopes, 1, 2)
    conditions = onp.linalg.cond(system) if N else onp.ones(1)
    if (residual > 1e-13).any() or conditions.max() > 1e3:
        return
    bars = [rng.standard_normal(y.shape) for y in results_of(fixed, *arrays)]
    fixed_bar, *direct = pulled_back(results_of, [fixed, *arrays], bars)
    solved = onp.linalg.solve(system, fixed_bar[..., None])[..., 0]
    _, *through = pulled_back(round_of, [fixed, *arrays], [solved])
    want = [a + b for a, b in zip(direct, through, strict=True)]

    samples_bar = bars[6] if noise is not None else None
    got = kernels.mixture_vjp(
        potentials,
        tails,
        node,
        noise,
        observed,
        fixed,
        bars[:6],
        samples_bar,
        1e-13,
        1000,
    )
    init_bar, constants_bar, evidence_bar, J_bar, h_bar, dofs_bar, noise_bar, *_ = got
    counted = fixed if observed is None else fixed * observed[:, None]
    second_moment, mean = found[6], found[7]
    of_node = bars[1]
    J_total = J_bar + of_node[:, None, None] * second_moment
    if node[0].ndim == 2:
        J_total = onp.einsum("ndd->nd", J_total)
    composed = [
        init_bar,
        evidence_bar.T @ _features(second_moment, mean)
        + counted.T @ _features(J_bar, h_bar),
        constants_bar.sum(0),
    ]
    if tails is not None:
        composed += [
            (evidence_bar + bars[0][:, None] * counted).sum(0),
            dofs_bar.sum(0).reshape(tails[1].shape),
            None,  # weights of nodes are constants
        ]
    composed += [J_total, h_bar + of_node[:, None] * mean]
    if noise is not None:
        composed.append(noise_bar)
    for k, (a, b) in enumerate(zip(composed, want, strict=True)):
        if a is None:
            continue
        scale = onp.max(onp.abs(b), initial=1.0)
        error = onp.max(onp.abs(a - b), initial=0.0)
        assert error <= 1e-7 * scale, f"mixture_vjp, array {k}: {error} of {scale}"
