r"""What is known of each x_t given the evidence before it, or up to it.

.. math:: p(x_t, z_t \mid r_{<t}), \qquad
          p(x_t, z_t \mid r_{\le t}) = p(x_t, z_t \mid r_{<t})\,
          e^{\langle r_t, t(x_t) \rangle} / Z_t ,

at one theta, with r_t the node potentials of step t.  Both are exact where x is one
Gaussian chain, by `svae.kernels.gaussian_filter`, and where x_t depends on z_t alone,
by `svae.kernels.markov_filter` after every x_t is integrated out.  Where z switches the
dynamics of x the exact law has K^t Gaussians.  The *interacting multiple model* filter
(Blom and Bar-Shalom 1988) keeps one for each z_t: those that reach a state from
different states before it are merged by matching moments, before its dynamics move
them.  That is the recursion by which `svae.models.inference.prediction` goes on without
evidence; each step of evidence is exact given the merged Gaussians.

Inference that is exact has a graph of its own in the place of theta: the message of
q(theta), or that of a structured inference network.  What it says of the last of t
steps is then what is known up to t, and theta has the step from there: a forecast.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from svae import kernels
from svae.errors import NotPositiveDefinite
from svae.families.arrays import matvec, transpose
from svae.models.evidence import Evidence
from svae.models.inference.prediction import (
    ByState,
    after,
    check_finite,
    laws,
    merged,
)
from svae.types import Array

__all__ = [
    "Draws",
    "Filtering",
    "Step",
    "chain_filter",
    "filtering",
    "first_law",
    "one_state",
    "states_filter",
]


class Draws(NamedTuple):
    """Random numbers of which samples are made, of predicted and of filtered laws."""

    uniforms: np.ndarray
    """(N, T, 2, S), in [0, 1), for z."""
    noise: np.ndarray
    """(N, T, 2, S, D), standard normal, for x given z."""


class Step(NamedTuple):
    """Laws of x_t and z_t, each of all steps of N sequences."""

    mean: np.ndarray
    """(N, T, D)"""
    cov: np.ndarray
    """(N, T, D, D)"""
    states: np.ndarray
    """(N, T, K); one state where the model has none."""
    samples: Any
    """(N, T, S, D), or None without draws."""


class Filtering(NamedTuple):
    """What the evidence up to a step says of it."""

    predicted: Step
    """Given the evidence of the steps before it."""
    filtered: Step
    """Given its own evidence too.  Samples are of what is predicted times the evidence,
    also where the law itself is that of a graph."""
    log_evidence: np.ndarray
    """(N, T), log Z_t: of the expectation of ``exp <r_t, t(x_t)>`` before it."""


def filtering(
    latent: Any,
    theta: Any,
    evidence: Evidence,
    draws: Draws | None = None,
    graph: Any = None,
) -> Filtering:
    """Filter the evidence of N sequences under one theta.

    Parameters
    ----------
    latent : LatentModel
        A chain over time.
    theta : dict
        One theta, as draws of q(theta) are.
    evidence : Evidence
        Without beliefs.  What lies past the lengths is not read.
    draws : Draws, optional
    graph : dict, optional
        Statistics that inference has in the place of those of theta, of a model with a
        method ``prefixes``: what is known up to a step with data is then what they say
        of it, and theta has the law of the step that follows.

    Returns
    -------
    Filtering
        What it says past the lengths means nothing.

    Raises
    ------
    TypeError
        If a latent model has other factors, and no method that tells.
    NotPositiveDefinite
        If the evidence leaves no proper law, naming sequence and step.
    FloatingPointError
        If means grow beyond the range of numbers between frames with data.
    """
    evidence = evidence.cleared()
    first, dynamics = first_law(latent, theta), laws(latent, theta)
    transitions = theta.get("transitions", np.ones((1, 1)))
    if graph is not None:
        past = latent.prefixes(graph, evidence)
        steps = _stepwise(first, dynamics, transitions, evidence, past)
    elif len(first.probs) == 1 and latent.coupled:
        steps = _one_chain(first, dynamics, evidence)
    elif not latent.coupled:
        steps = _separate(first, dynamics, transitions, evidence)
    else:
        steps = _stepwise(first, dynamics, transitions, evidence)
    predicted, filtered, log_evidence = [], [], []
    for t, step in enumerate(steps):
        predicted.append(_of_step(step.predicted, step.predicted, draws, t, 0))
        filtered.append(_of_step(step.filtered, step.updated, draws, t, 1))
        log_evidence.append(step.log_Z)
        check_finite(predicted[-1][0], t)
    return Filtering(
        _over_time(predicted), _over_time(filtered), np.stack(log_evidence, axis=1)
    )


def first_law(latent: Any, theta: Any) -> ByState:
    """Return the law of z_1, and of x_1 given it: (K,), (K, D) and (K, D, D).

    Raises
    ------
    TypeError
        If a latent model has other factors, and no method that tells.
    """
    if hasattr(latent, "initial_laws"):
        return ByState(*latent.initial_laws(theta))
    name = "init" if latent.coupled else "components"
    if name not in theta:
        raise TypeError(
            f"{type(latent).__name__} cannot tell how a sequence begins: give it a "
            "method initial_laws (see svae.LatentModel)"
        )
    mean, precision = (np.asarray(part, dtype=np.float64) for part in theta[name])
    if precision.ndim == 2:
        mean, precision = mean[None], precision[None]
    probs = theta.get("weights", np.ones(len(mean)))
    return ByState(np.asarray(probs), mean, np.linalg.inv(precision))


class _Laws(NamedTuple):
    """Laws of one step of N sequences."""

    predicted: ByState
    updated: ByState
    """What is predicted times the evidence of the step."""
    filtered: ByState
    """The same, or what a graph says of it."""
    log_Z: np.ndarray
    """(N,)"""


def _one_chain(first: ByState, dynamics: Any, evidence: Evidence) -> Iterator[_Laws]:
    """Filter a Gaussian chain."""
    A, b, Q = (part[0] for part in dynamics)
    precision = np.linalg.inv(Q)
    J12 = A.T @ precision
    init_precision = np.linalg.inv(first.covs[0])
    (log_after, *filtered), (log_before, *predicted) = chain_filter(
        (-0.5 * init_precision, init_precision @ first.means[0]),
        (-0.5 * J12 @ A, J12, -0.5 * precision),
        (-J12 @ b, precision @ b),
        evidence,
    )
    for t in range(evidence.h.shape[1]):
        known = one_state(*(part[:, t] for part in filtered))
        before = one_state(*(part[:, t] for part in predicted))
        yield _Laws(before, known, known, log_after[:, t] - log_before[:, t])


def one_state(mean: np.ndarray, cov: np.ndarray) -> ByState:
    """Give moments (..., D) and (..., D, D) an axis of one state."""
    one = np.ones((*mean.shape[:-1], 1))
    return ByState(one, mean[..., None, :], cov[..., None, :, :])


def chain_filter(
    init: Any, pair: Any, linear: tuple[Array, Array], evidence: Evidence
) -> tuple[Any, Any]:
    """Filter a Gaussian chain whose pairs have linear terms.

    The kernel gets these as evidence of the two steps.  Those of the first come too
    early for what is filtered, those of the second too late for what is predicted;
    `_tilted` makes that good.

    Parameters
    ----------
    init, pair
        Potentials as of `svae.kernels.gaussian_filter`.
    linear : (h1, h2) or None
        (D,) each, in x_t and x_{t+1} of every pair.
    evidence : Evidence

    Returns
    -------
    filtered, predicted
        As `svae.kernels.gaussian_filter`, without the constants of pairs.
    """
    J, h = evidence.node
    if linear is None:
        return kernels.gaussian_filter(init, pair, (J, h), evidence.lengths)
    pairs, nothing = evidence.valid[:, 1:, None], np.zeros((len(h), 1, h.shape[-1]))
    early = np.concatenate([pairs * linear[0], nothing], axis=1)
    late = np.concatenate([nothing, pairs * linear[1]], axis=1)
    filtered, predicted = kernels.gaussian_filter(
        init, pair, (J, h + early + late), evidence.lengths
    )
    return _tilted(filtered, -early), _tilted(predicted, late)


def _tilted(moments: Any, k: np.ndarray) -> tuple[Any, Any, Any]:
    """Multiply Gaussians by exp(k'x): of N(m, V) comes exp(k'm + k'Vk/2) N(m + Vk, V).

    Log normalizers, means and covariances, and k (N, T, D).
    """
    logZ, mean, cov = moments
    shift = matvec(cov, k)
    return logZ + np.sum(k * (mean + 0.5 * shift), axis=-1), mean + shift, cov


def _separate(
    first: ByState, dynamics: Any, transitions: Any, evidence: Evidence
) -> Iterator[_Laws]:
    """Filter a chain of states that select x: given z, each x_t has its evidence."""
    means, covs = (
        np.concatenate([part[None], np.repeat(later[None], evidence.h.shape[1] - 1, 0)])
        for part, later in zip(first[1:], dynamics[1:], strict=True)
    )
    J, h = _node_of(evidence, slice(None))
    potentials, *given = updated(means, covs, J, h)
    with np.errstate(divide="ignore"):
        chain = np.log(first.probs), np.log(transitions)
    filtered, predicted = kernels.markov_filter(*chain, potentials, evidence.lengths)
    number = len(h)
    for t in range(h.shape[1]):
        prior = (
            np.broadcast_to(part[t], (number, *part[t].shape)) for part in (means, covs)
        )
        known = ByState(filtered[1][:, t], *(part[:, t] for part in given))
        yield _Laws(
            ByState(predicted[1][:, t], *prior),
            known,
            known,
            filtered[0][:, t] - predicted[0][:, t],
        )


def states_filter(
    init: Any, pair: Any, given: tuple[Any, Any, Any], evidence: Evidence
) -> ByState:
    """Return what prefixes of a chain of states say of their last step.

    Parameters
    ----------
    init, pair : (K,), (K, K)
        Log potentials.
    given : (N, T, K), (N, T, K, D) and (N, T, K, D, D)
        Log integrals, means and covariances of x with its evidence, given z.
    evidence : Evidence
        Of which steps without data do not tell of z.
    """
    potentials, means, covs = given
    if evidence.observed is not None:
        potentials = np.where(evidence.observed[..., None], potentials, 0.0)
    filtered, _ = kernels.markov_filter(init, pair, potentials, evidence.lengths)
    return ByState(filtered[1], means, covs)


def _stepwise(
    first: ByState,
    dynamics: Any,
    transitions: Any,
    evidence: Evidence,
    past: ByState | None = None,
) -> Iterator[_Laws]:
    """Filter step by step, with a Gaussian for each state.

    ``past``, of all steps, is what is known up to those with data, if they do not have
    to make that themselves.
    """
    number = len(evidence.h)
    law = ByState(*(np.broadcast_to(part, (number, *part.shape)) for part in first))
    for t in range(evidence.h.shape[1]):
        if t > 0:
            with np.errstate(over="ignore", invalid="ignore"):
                moved = after(law, transitions, dynamics)
            law = ByState(*map(partial(_where, evidence.valid[:, t]), moved, law))
        J, h = (part[:, 0] for part in _node_of(evidence, slice(t, t + 1)))
        try:
            log_Z, means, covs = updated(law.means, law.covs, J, h)
        except NotPositiveDefinite as error:
            raise NotPositiveDefinite(error.sequence, t) from None
        with np.errstate(divide="ignore"):
            logs = np.log(law.probs) + log_Z
        total = np.logaddexp.reduce(logs, axis=1)
        now = known = ByState(np.exp(logs - total[:, None]), means, covs)
        if past is not None:
            graph = ByState(*(part[:, t] for part in past))
            known = ByState(*map(partial(_where, evidence.scored[:, t]), graph, now))
        yield _Laws(law, now, known, total)
        law = known


def _where(rows: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Choose between arrays (N, ...) by rows (N,)."""
    return np.where(np.reshape(rows, (-1, *(1,) * (some.ndim - 1))), some, others)


def _node_of(evidence: Evidence, steps: slice) -> tuple[Any, Any]:
    """Return J (N, T', 1, D, D) or (N, T', 1, D), and h (N, T', 1, D) of some steps."""
    return evidence.J[:, steps, None], evidence.h[:, steps, None]


def updated(mean: Array, cov: Array, J: Array, h: Array) -> tuple[Any, Any, Any]:
    """Multiply Gaussians by evidence: log of the integral, mean and covariance.

    With V = LL' and R = -2J, S = I + L'RL: the covariance is V* = L S^-1 L', the mean
    m + V*(h - Rm), and the log of the integral is m'Jm + h'm
    + (h - Rm)'V*(h - Rm)/2 - log|S|/2.  No inverse of V or R is taken.

    Parameters
    ----------
    mean, cov : (..., D), (..., D, D)
    J : (..., D) or (..., D, D)
        Its ndim is that of h, or one more.
    h : (..., D)

    Raises
    ------
    NotPositiveDefinite
        If there is no integral; the step is the second axis, if there is one.
    """
    R = -2.0 * (J if J.ndim > h.ndim else J[..., None] * np.eye(h.shape[-1]))
    try:
        L = np.linalg.cholesky(cov)
        root = np.linalg.cholesky(np.eye(h.shape[-1]) + transpose(L) @ R @ L)
    except np.linalg.LinAlgError:
        S = np.linalg.eigvalsh(np.linalg.inv(cov) + R)[..., 0]
        sequence, step = np.unravel_index(np.argmin(S), S.shape)[:2]
        raise NotPositiveDefinite(int(sequence), int(step)) from None
    half = np.linalg.solve(root, transpose(L))
    innovation = h - matvec(R, mean + np.zeros(h.shape))
    projected = matvec(half, innovation)
    log_Z = (
        np.sum(0.5 * (h + innovation) * mean, axis=-1)
        + 0.5 * np.sum(projected**2, axis=-1)
        - np.sum(np.log(np.diagonal(root, axis1=-2, axis2=-1)), axis=-1)
    )
    return log_Z, mean + matvec(transpose(half), projected), transpose(half) @ half


def _of_step(
    law: ByState, sampled: ByState, draws: Draws | None, t: int, which: int
) -> tuple[Any, ...]:
    """Return mean, covariance, probabilities of states and samples of one step."""
    mean, cov = merged(law.probs[:, None], law.means, law.covs)
    samples = None
    if draws is not None:
        uniforms, noise = draws.uniforms[:, t, which], draws.noise[:, t, which]
        samples = _drawn(sampled, uniforms, noise)
    return mean[:, 0], cov[:, 0], law.probs, samples


def _drawn(law: ByState, uniforms: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Draw x (N, S, D) of mixtures with uniforms (N, S) and noise (N, S, D)."""
    cumulative = np.cumsum(law.probs, axis=-1)
    scaled = uniforms[..., None] * cumulative[:, None, -1:]
    states = np.sum(scaled >= cumulative[:, None], axis=-1)
    rows = np.arange(len(states))[:, None]
    roots = np.linalg.cholesky(law.covs)
    return law.means[rows, states] + matvec(roots[rows, states], noise)


def _over_time(steps: list[tuple[Any, ...]]) -> Step:
    columns: Iterator[Any] = (
        None if column[0] is None else np.stack(column, axis=1)
        for column in zip(*steps, strict=True)
    )
    return Step(*columns)
