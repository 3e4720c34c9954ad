"""State-space models and hidden Markov models in their usual parameters, on JAX.

The functions of `svae.standard` in the information form: conversions in `jax.numpy` to
the chains of the core. Q, R and P0 need inverses, and digits are lost as the condition
number of the joint precision grows; `svae.standard` has a form without either limit.
What depends on numbers cannot be asked of traced ones: a covariance without an inverse
is refused by the chain, as potentials that are no numbers, and nobody looks whether
probabilities sum to one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve

from svae.interop.jax import chains
from svae.interop.jax.chains import as_array, as_arrays, as_lengths
from svae.kernels.arguments import require_shape, wrong_shape
from svae.standard.information import Natural
from svae.standard.records import (
    HMMSmoothed,
    LinearGaussian,
    Smoothed,
    check_effects,
    check_record,
)

__all__ = [
    "hmm_log_likelihood",
    "hmm_smoother",
    "hmm_viterbi",
    "kalman_smoother",
    "lds_to_natural",
    "log_likelihood",
]

LOG_2PI = math.log(2 * math.pi)


class System(NamedTuple):
    """A model and its data; leading axes (N, T) of matrices are 1 where shared."""

    A: Any
    Q: Any
    C: Any
    R: Any
    m0: Any
    P0: Any
    b: Any  # (N or 1, T-1 or 1, D)
    y: Any  # (N, T, P) less D u, zero where it was not observed
    seen: Any  # (N, T, P), or None: all of it
    lengths: Any  # (N,), or None
    is_single: bool

    @property
    def is_alike(self) -> bool:
        """Whether all sequences have the same covariances."""
        matrices = self.A, self.Q, self.C, self.R, self.P0
        return self.seen is None and all(len(x) == 1 for x in matrices)


def log_likelihood(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    missing: bool | None = None,
) -> jax.Array:
    """Return log p(y), the log likelihood of a linear-Gaussian state-space model.

    Twice differentiable in every field of the parameters, in y and in u.

    Parameters
    ----------
    params : svae.standard.LinearGaussian
        Of arrays of float64, which JAX may trace: the record is a tree.
    y : (N, T, P) or (T, P) array
        NaN is a missing entry, which is marginalised.
    u : (N, T, U) or (T, U) array, optional
    lengths : (N,) integers in 1..T, optional
    missing : bool, optional
        Whether entries may be missing, for which R has an inverse at every step. By
        default it is what y says, and yes if y is traced: pass False where that is
        known, which shares one inverse.

    Returns
    -------
    (N,) array, or () for y (T, P)
    """
    system = _system(params, y, u, lengths, missing)
    init, pair, node, constant, lengths = _natural(system)
    logZ = chains.gaussian_chain(init, pair, node, lengths=lengths)[0]
    return _alone(system, logZ + constant)


def kalman_smoother(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    missing: bool | None = None,
) -> Smoothed:
    """Return the law of each x_t given all observations.

    Parameters as in `log_likelihood`. Once differentiable.

    Returns
    -------
    svae.standard.Smoothed
        With ``mean`` (N, T, D), ``cov`` (N, T, D, D), ``cross_cov`` (N, T-1, D, D),
        the covariances of x_t and x_{t+1}, and ``log_likelihood`` (N,).
    """
    system = _system(params, y, u, lengths, missing)
    init, (J11, J12, J22), (J, h), constant, lengths = _natural(system)
    chain = chains.gaussian_chain(init, (J11, J12, J22), (J, h), lengths=lengths)
    logZ, (_, _, (_, mean)), _ = chain
    # covariances are second moments of the chain without h: nothing is subtracted
    N, T, D = h.shape
    n = 1 if system.is_alike else N
    every = J12 + jnp.zeros((n, T - 1, D, D))
    _, (_, (_, cross, _), (cov, _)), _ = chains.gaussian_chain(
        (init[0], jnp.zeros_like(init[1][:n] if init[1].ndim == 2 else init[1])),
        (J11, every, J22),
        (J[:n], jnp.zeros((n, T, D))),
        lengths=None if n < N else lengths,
    )
    if n < N:
        cov, cross = (jnp.broadcast_to(x, (N, *x.shape[1:])) for x in (cov, cross))
    parts = (_alone(system, x) for x in (mean, cov, cross, logZ + constant))
    return Smoothed(*parts)


def lds_to_natural(
    params: LinearGaussian,
    y: Any,
    u: Any = None,
    lengths: Any = None,
    missing: bool | None = None,
) -> Natural:
    """Return a state-space model and its data as potentials of `gaussian_chain`.

    Parameters as in `log_likelihood`.

    Returns
    -------
    svae.standard.Natural
        ``gaussian_chain(init, pair, node, lengths=lengths)[0] + constant`` is the log
        likelihood; ``lengths`` is None if all sequences have all steps.
    """
    return _natural(_system(params, y, u, lengths, missing))


def hmm_log_likelihood(
    start: Any, transition: Any, log_likelihoods: Any, lengths: Any = None
) -> jax.Array:
    """Return log p(y) of hidden Markov models.

    Twice differentiable in all three, without a constraint on sums; a probability of
    zero is a constant.

    Parameters
    ----------
    start : (K,) or (N, K) array
        Probabilities of the first state.
    transition : (K, K), (T-1, K, K) or (N, T-1, K, K) array
        [i, j] is the probability of j after i.
    log_likelihoods : (N, T, K) or (T, K) array
        log p(y_t | z_t = k).
    lengths : (N,) integers in 1..T, optional

    Returns
    -------
    (N,) array, or () for log likelihoods (T, K)
    """
    (init, pair, node), is_single = _potentials(start, transition, log_likelihoods)
    logZ = chains.markov_chain(init, pair, node, lengths)[0]
    return logZ[0] if is_single else logZ


def hmm_smoother(
    start: Any,
    transition: Any,
    log_likelihoods: Any,
    lengths: Any = None,
    pairs: bool = False,
) -> HMMSmoothed:
    """Return P(z_t | y), expected transitions, and probabilities of pairs if wanted.

    Parameters as in `hmm_log_likelihood`. Once differentiable.

    Returns
    -------
    svae.standard.HMMSmoothed
        With ``probabilities`` (N, T, K), ``pairs`` (N, T-1, K, K) or None,
        ``transitions`` (K, K), summed over all sequences, and ``log_likelihood`` (N,).
    """
    (init, pair, node), is_single = _potentials(start, transition, log_likelihoods)
    N, T, K = node.shape
    if pairs:
        pair = jnp.broadcast_to(pair, (N, T - 1, K, K))
    logZ, (_, counts, states) = chains.markov_chain(init, pair, node, lengths)
    of_pairs = counts if pairs else None
    total = counts.reshape(-1, K, K).sum(0)
    if is_single:
        of_pairs = None if of_pairs is None else of_pairs[0]
        return HMMSmoothed(states[0], of_pairs, total, logZ[0])
    return HMMSmoothed(states, of_pairs, total, logZ)


def hmm_viterbi(
    start: Any, transition: Any, log_likelihoods: Any, lengths: Any = None
) -> tuple[jax.Array, jax.Array]:
    """Return the most likely path, and the log of its joint probability with y.

    Parameters as in `hmm_log_likelihood`; not differentiable.

    Returns
    -------
    paths : (N, T) int64, -1 past the length; of equally likely states the lowest
    log_probability : (N,)
    """
    (init, pair, node), is_single = _potentials(start, transition, log_likelihoods)
    paths, score = chains.viterbi(init, pair, node, lengths)
    return (paths[0], score[0]) if is_single else (paths, score)


def _potentials(start: Any, transition: Any, logs: Any) -> tuple[list[Any], bool]:
    """Return log potentials, and whether data came without an axis of sequences."""
    names = "start", "transition", "log_likelihoods"
    start, transition, logs = as_arrays((start, transition, logs), *names)
    if logs.ndim not in (2, 3):
        raise wrong_shape("log_likelihoods", logs, "(N, T, K) or (T, K)")
    transition = transition[None] if transition.ndim == 3 else transition
    is_single = logs.ndim == 2
    node = logs[None] if is_single else logs
    return [_log(start), _log(transition), node], is_single


def _log(p: Any) -> Any:
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf)


def _system(
    params: LinearGaussian, y: Any, u: Any, lengths: Any, missing: bool | None
) -> System:
    """Bring parameters and data to one shape."""
    check_record(params)
    (y,) = as_arrays([y], "y")
    if y.ndim not in (2, 3) or 0 in y.shape[-2:]:
        raise wrong_shape("y", y, "(N, T, P) or (T, P)")
    is_single = y.ndim == 2
    y = y[None] if is_single else y
    N, T, P = y.shape
    m0 = as_array("m0", params.m0)
    D = m0.shape[-1] if m0.ndim else 0

    def steps(name: str, x: Any, count: int, event: tuple[int, ...]) -> Any:
        x = as_array(name, x)
        leads = [(), (count,), (N, count), (N, 1), (1, count), (1, 1)]
        require_shape(name, x, *((*lead, *event) for lead in leads))
        x = x.reshape((1,) * (4 - x.ndim) + x.shape)
        return x if x.shape[1] else jnp.zeros((1, 1, *event))

    def first(name: str, x: Any, event: tuple[int, ...]) -> Any:
        x = as_array(name, x)
        require_shape(name, x, event, (N, *event), (1, *event))
        return x[None] if x.ndim == len(event) else x

    m0, P0 = first("m0", m0, (D,)), first("P0", params.P0, (D, D))
    A = steps("A", params.A, T - 1, (D, D))
    Q = steps("Q", params.Q, T - 1, (D, D))
    C = steps("C", params.C, T, (P, D))
    R = steps("R", params.R, T, (P, P))
    b = jnp.zeros((1, 1, D))
    check_effects(params, u)
    if u is not None:
        u = as_array("u", u)
        u = u[None] if u.ndim == 2 else u
        require_shape("u", u, (N, T, "U"), (1, T, "U"))
        U = u.shape[-1]
        if params.B is not None and T > 1:
            b = _apply(steps("B", params.B, T - 1, (D, U)), u[:, :-1])
        if params.D is not None:
            y = y - _apply(steps("D", params.D, T, (P, U)), u)
    if missing is None:
        missing = isinstance(y, jax.core.Tracer) or bool(jnp.isnan(y).any())
    seen = None
    if lengths is not None:
        lengths = as_lengths(lengths, N, T)
    if missing or lengths is not None:
        seen = ~jnp.isnan(y)
        if lengths is not None:
            seen = seen & (jnp.arange(T) < lengths[:, None])[..., None]
        y = jnp.where(seen, y, 0.0)
    return System(A, Q, C, R, m0, P0, b, y, seen, lengths, is_single)


def _natural(system: System) -> Natural:
    """Return potentials; see `svae.standard.information` for the equations."""
    A, Q, C, R, m0, P0, b, y, seen, lengths, _ = system
    (N, T, P), D = y.shape, m0.shape[-1]
    P0_inv, P0_det = _inverse(P0)
    if seen is None:
        R_inv, R_det = _inverse(R)
        R_det = jnp.sum(R_det + jnp.zeros((N, T)), 1)
    else:
        on = seen.astype(np.float64)
        mask = on[..., None] * on[..., None, :]
        R_inv, R_det = _inverse(
            jnp.where(mask > 0, R, (1 - on)[..., None] * jnp.eye(P))
        )
        R_inv = R_inv * mask
        R_det = jnp.sum(R_det, 1) + (on.sum((1, 2)) - T * P) * LOG_2PI
    CT = jnp.swapaxes(C, -1, -2)
    of_y = _apply(R_inv, y)
    h = _apply(CT, of_y)
    J = jnp.broadcast_to(-CT @ R_inv @ C / 2, (N, T, D, D))
    h0 = _apply(P0_inv, m0)
    quadratic = jnp.sum(y * of_y, (1, 2)) + jnp.sum(m0 * h0, -1)
    log_det = R_det + P0_det
    pair: tuple[Any, ...] = (jnp.zeros((D, D)),) * 3
    if T > 1:
        between = jnp.ones((1, T - 1))
        if lengths is not None:
            between = (jnp.arange(1, T) < lengths[:, None]).astype(np.float64)
        Q_inv, Q_det = _inverse(Q)
        AT = jnp.swapaxes(A, -1, -2)
        of_b = between[..., None] * _apply(Q_inv, b)
        none = jnp.zeros((len(of_b), 1, D))
        h = h + jnp.concatenate((none, of_b), 1)
        h = h - jnp.concatenate((_apply(AT, of_b), jnp.zeros_like(none)), 1)
        quadratic = quadratic + jnp.sum(of_b * b, (1, 2))
        log_det = log_det + jnp.sum(between * Q_det, 1)
        pair = -AT @ Q_inv @ A / 2, AT @ Q_inv, -Q_inv / 2
    init = _of_first(-P0_inv / 2, N), _of_first(h0, N)
    return Natural(init, pair, (J, h), -(quadratic + log_det) / 2, lengths)


def _inverse(cov: Any) -> tuple[Any, Any]:
    """Return the inverse and the log determinant of 2 pi times a covariance."""
    size = cov.shape[-1]
    L = jnp.linalg.cholesky(cov)
    inverse = cho_solve((L, True), jnp.broadcast_to(jnp.eye(size), cov.shape))
    inverse = (inverse + jnp.swapaxes(inverse, -1, -2)) / 2
    logs = jnp.log(jnp.diagonal(L, axis1=-2, axis2=-1))
    return inverse, 2 * logs.sum(-1) + size * LOG_2PI


def _of_first(x: Any, num_sequences: int) -> Any:
    """Return a potential of the first step as the chain takes it."""
    return x[0] if len(x) == 1 and num_sequences != 1 else x


def _apply(matrix: Any, vector: Any) -> Any:
    return (matrix @ vector[..., None])[..., 0]


def _alone(system: System, x: Any) -> Any:
    return x[0] if system.is_single else x
