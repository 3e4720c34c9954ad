r"""Between usual parameters and natural ones, both ways, with the constants.

A linear-Gaussian model and its data are the Gaussian chain of
`svae.standard.information`, whose log normalizer contains
:math:`(T D / 2) \log 2 \pi`; what turns it into log p(y) is the ``constant``. A hidden
Markov model has none: its log potentials are the logs of its probabilities, and logZ is
log p(y).

The way back is a law of its own: any chain, of potentials that are no densities too, is
a Markov process that starts from a law of x_1 and moves by one of x_{t+1} given x_t,
which depends on time and takes in the evidence of all later steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import autograd.numpy as np
import numpy as onp

from svae import kernels
from svae.autodiff.operations import value_of
from svae.kernels.arguments import as_array, as_lengths
from svae.standard.algebra import apply, transpose
from svae.standard.information import Natural, potentials
from svae.standard.records import LinearGaussian
from svae.standard.system import as_system
from svae.types import Array, Integers

__all__ = [
    "Dynamics",
    "GaussianMoments",
    "hmm_from_natural",
    "hmm_to_natural",
    "lds_from_natural",
    "lds_to_natural",
    "moments_from_natural",
]


class Dynamics(NamedTuple):
    """A Gaussian chain as a process: x_1 ~ N(m0, P0), x_{t+1} ~ N(A x_t + b, Q).

    Matrices are zero past a length.
    """

    A: Array
    """(N, T-1, D, D)."""
    b: Array
    """(N, T-1, D)."""
    Q: Array
    """(N, T-1, D, D)."""
    m0: Array
    """(N, D)."""
    P0: Array
    """(N, D, D)."""
    log_normalizer: Array
    """(N,), true integrals: (T D / 2) log 2 pi is in."""


class GaussianMoments(NamedTuple):
    """Means and central moments of a Gaussian chain."""

    mean: Array
    """(N, T, D)."""
    cov: Array
    """(N, T, D, D)."""
    cross_cov: Array
    """Cov(x_t, x_{t+1}), (N, T-1, D, D)."""
    log_normalizer: Array
    """(N,)."""


def lds_to_natural(
    params: LinearGaussian,
    y: Array,
    u: Array | None = None,
    lengths: Integers | None = None,
) -> Natural:
    """Return a state-space model and its data as potentials of a Gaussian chain.

    With the fields of what is returned, log p(y) is
    ``gaussian_chain(init, pair, node, lengths=lengths)[0] + constant``. Differentiable.

    Parameters
    ----------
    params, y, u, lengths
        As in `svae.standard.log_likelihood`.

    Returns
    -------
    Natural
        ``init``, ``pair``, ``node``, as `svae.kernels.gaussian_chain` takes them,
        ``constant`` (N,) and ``lengths`` (N,).

    Raises
    ------
    ValueError
        If an argument is malformed, or if Q, R or P0 has no inverse.
    """
    return potentials(as_system(params, y, u, lengths))


def lds_from_natural(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    lengths: Integers | None = None,
) -> Dynamics:
    """Return any Gaussian chain as a linear-Gaussian process, given its evidence.

    With messages (J_t, h_t) from the end, :math:`Q_t = -(J_{22} + J_{t+1})^{-1} / 2`,
    :math:`A_t = Q_t J_{12}'` and :math:`b_t = Q_t h_{t+1}`. Nodes of zero and pairs
    that are conditional densities give the A, Q, m0, P0 that these were made from.
    Differentiable.

    Parameters
    ----------
    init, pair, node, lengths
        As in `svae.kernels.gaussian_chain`, which has the errors.
    """
    init, pair, (Jn, hn) = tuple(init), tuple(pair), tuple(node)
    logZ = kernels.gaussian_chain(init, pair, (Jn, hn), lengths=lengths)[0]
    J0, h0 = (as_array("init", x) for x in init)
    J11, J12, J22 = (as_array("pair", x) for x in pair)
    Jn, hn = as_array("node J", Jn), as_array("node h", hn)
    N, T, D = value_of(hn).shape
    live = onp.arange(T) < as_lengths(lengths, N, T)[:, None]
    Jn = Jn if value_of(Jn).ndim == 4 else Jn[..., None] * onp.eye(D)
    Jn = np.where(live[..., None, None], Jn, 0.0)
    hn = np.where(live[..., None], hn, 0.0)
    every, between = onp.zeros((N, T - 1, D, D)), live[:, 1:, None, None]
    J11, J12 = (np.where(between, J + every, 0.0) for J in (J11, J12))
    J22 = np.where(between, J22 + every, -onp.eye(D) / 2)
    J, h, steps = Jn[:, -1], hn[:, -1], []
    for t in reversed(range(T - 1)):
        Q = _symmetric_inverse(J22[:, t] + J)
        A, b = Q @ transpose(J12[:, t]), apply(Q, h)
        steps.append((A, b, Q))
        J = Jn[:, t] + J11[:, t] + J12[:, t] @ A / 2
        h = hn[:, t] + apply(J12[:, t], b)
    P0 = _symmetric_inverse(J + J0)
    m0 = apply(P0, h + h0)
    if steps:
        A, b, Q = (np.stack(x[::-1], 1) for x in zip(*steps, strict=True))
        b = np.where(between[..., 0], b, 0.0)
        A, Q = np.where(between, A, 0.0), np.where(between, Q, 0.0)
    else:
        A, b, Q = every, onp.zeros((N, 0, D)), every
    return Dynamics(A, b, Q, m0, P0, logZ)


def moments_from_natural(
    init: Iterable[Array],
    pair: Iterable[Array],
    node: Iterable[Array],
    lengths: Integers | None = None,
) -> GaussianMoments:
    """Return means, covariances and Cov(x_t, x_{t+1}) of a Gaussian chain.

    Covariances are second moments of the chain without h: nothing is subtracted, so
    means that are large cost no digits. Differentiable.

    Parameters
    ----------
    init, pair, node, lengths
        As in `svae.kernels.gaussian_chain`, which has the errors.
    """
    (J0, h0), (J11, J12, J22), (Jn, hn) = init, pair, node
    chain = kernels.gaussian_chain((J0, h0), (J11, J12, J22), (Jn, hn), lengths=lengths)
    logZ, (_, _, (_, mean)), _ = chain
    N, T, D = mean.shape
    Jn = as_array("node J", Jn)
    Jn = Jn if value_of(Jn).ndim == 4 else Jn[..., None] * onp.eye(D)
    of_steps = as_array("pair J12", J12) + onp.zeros((N, T - 1, D, D))
    silent, centred = onp.zeros(value_of(h0).shape), onp.zeros((N, T, D))
    _, (_, (_, cross, _), (cov, _)), _ = kernels.gaussian_chain(
        (J0, silent), (J11, of_steps, J22), (Jn, centred), lengths=lengths
    )
    return GaussianMoments(mean, cov, cross, logZ)


def hmm_to_natural(start: Array, transition: Array) -> tuple[Array, Array]:
    """Return the log potentials ``init`` and ``pair`` of a hidden Markov model.

    ``node`` are its log likelihoods, and logZ of `svae.kernels.markov_chain` is log
    p(y) without any constant. A probability of zero is -inf, whose gradient is zero;
    that in the probability itself is in `svae.standard.hmm_log_likelihood`.

    Parameters
    ----------
    start : (K,) or (N, K) array
    transition : (K, K) or (N, T-1, K, K) array
    """
    return _log(as_array("start", start)), _log(as_array("transition", transition))


def hmm_from_natural(
    init: Array, pair: Array, node: Array, lengths: Integers | None = None
) -> tuple[Array, Array, Array]:
    """Return any Markov chain as start and transitions, and its log normalizer.

    Potentials need not be logs of probabilities. With messages from the end, m_t(i) the
    log of the sum over j of exp(pair[i, j] + node[t+1, j] + m_{t+1}(j)), transitions
    are the terms of the sum over the sum, and the start that of init + node[1] + m_1.
    They take in the evidence of later steps: nothing is left to be observed.
    Differentiable.

    Parameters
    ----------
    init, pair, node, lengths
        As in `svae.kernels.markov_chain`, which has the errors.

    Returns
    -------
    start : (N, K)
    transition : (N, T-1, K, K)
        Rows of states that lead nowhere are uniform; zero past a length.
    log_normalizer : (N,)
    """
    logZ, _ = kernels.markov_chain(init, pair, node, lengths)
    init, pair, node = (
        as_array(name, x)
        for name, x in (("init", init), ("pair", pair), ("node", node))
    )
    N, T, K = value_of(node).shape
    live = onp.arange(T) < as_lengths(lengths, N, T)[:, None]
    every = onp.zeros((N, T - 1, K, K))
    pair = np.where(live[:, 1:, None, None], pair + every, 0.0)
    node = np.where(live[..., None], node, 0.0)
    message, transitions = onp.zeros((N, K)), []
    for t in reversed(range(T - 1)):
        terms = pair[:, t] + (node[:, t + 1] + message)[:, None]
        transition, total = _normalised(terms)
        on = live[:, t + 1]
        transitions.append(np.where(on[:, None, None], transition, 0.0))
        message = np.where(on[:, None], total, 0.0)
    start, _ = _normalised(init + node[:, 0] + message)
    stacked = np.stack(transitions[::-1], 1) if transitions else every
    return start, stacked, logZ


def _normalised(terms: Array) -> tuple[Array, Array]:
    """Return exp(terms) over their sums, and logs of these; uniform if all are -inf."""
    largest = value_of(terms).max(-1, keepdims=True)
    largest = onp.where(onp.isfinite(largest), largest, 0.0)
    weights = np.exp(terms - largest)
    total = np.sum(weights, -1, keepdims=True)
    leads = value_of(total) > 0
    total = np.where(leads, total, 1.0)
    p = np.where(leads, weights / total, 1.0 / value_of(terms).shape[-1])
    logs = np.where(leads[..., 0], (np.log(total) + largest)[..., 0], -np.inf)
    return p, logs


def _log(p: Array) -> Array:
    is_positive = value_of(p) > 0
    return np.where(is_positive, np.log(np.where(is_positive, p, 1.0)), -np.inf)


def _symmetric_inverse(J: Array) -> Array:
    """Return the covariance whose minus half a precision J is."""
    cov = np.linalg.inv(-(J + transpose(J)))
    return (cov + transpose(cov)) / 2
