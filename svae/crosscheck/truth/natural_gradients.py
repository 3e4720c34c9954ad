r"""The natural gradient of q(theta) of every latent model, in full.

With m the expected statistics of q(theta), a likelihood given by arrays and the draws
of x given too, the objective of Johnson et al. (2016), Eq. (3), is

.. math:: \mathcal{L} = \rho \sum_n L_n(m, r) - \mathrm{KL}(q(\theta) \| p(\theta)),
          \qquad L_n = \mathbb{E}_{q(x)} \log p(y_n | x) - \mathrm{KL}_n ,

and the natural gradient is an ordinary one in m, through the fixed point s of inference
(their Eq. (4) and Proposition 4.2):

.. math:: \tilde\nabla \mathcal{L} = \eta^0 - \eta
          + \rho \sum_n \frac{d L_n}{d m} .

*recursion*: L_n is written down and differentiated by autograd, first at a constant s;
then, with :math:`(1 - G_s')\lambda = \partial L / \partial s`, the implicit function
theorem adds :math:`\lambda' \partial G / \partial m`.

*enumeration*: the surrogate :math:`\hat L` is stationary at s, so of it only E_q[t]
remains, the conjugate part; the correction is the gradient through q of

.. math:: C = \mathbb{E}_q[\log p(y|x) - \langle r, t(x) \rangle]

(Algorithm 1 as printed has :math:`\log p(y|x)` alone, which is wrong).  It is written
out in covariances.  Let :math:`\Gamma` be the gradient of C in the potentials of x, the
feedback of the states in it, and :math:`v = H_z \lambda` with the covariance
:math:`H_z` of the states: then the rows :math:`P_{tk}`, which multiply f(x), get
:math:`s_{tk} \Gamma + v_{tk} \mathbb{E} f`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import autograd.numpy as np
import numpy as onp

from svae.crosscheck.cases import sections
from svae.crosscheck.factors import factors
from svae.crosscheck.truth.balls import (
    Derivation,
    cholesky,
    exact,
    eye,
    inverse,
    pull_back,
    solve,
    transpose,
    zeros,
)
from svae.crosscheck.truth.families import FAMILIES, Family, kl, log_2pi
from svae.crosscheck.truth.meanfield import (
    Dense,
    Recursion,
    dot,
    enclosed_fixed_point,
)
from svae.crosscheck.truth.mixtures import (
    OF_SEQUENCE,
    WAYS,
    Weighted,
    of_node,
    of_rows,
    of_states,
    problem_of,
    sequences,
)

__all__ = ["natural_gradients"]

Balls = Any
Arguments = Mapping[str, Any]


def factors_of(natparams: Mapping[str, Any]) -> list[tuple[Family, Any, Any]]:
    """Return the family of each factor, names of its parameters and statistics."""
    return [
        (
            FAMILIES[factor.family],
            [name + word for word in factor.parameters],
            [name + word for word in factor.statistics],
        )
        for name, factor in factors(natparams).items()
    ]


def with_batch(arrays: Sequence[Balls]) -> list[Balls]:
    """Give the parameters of a single member an axis of members, as families have it.

    The first parameter is a vector of a Dirichlet, a matrix of the others.
    """
    if arrays[0].ndim > (1 if len(arrays) == 1 else 2):
        return list(arrays)
    return [onp.reshape(x, (1, *onp.shape(x))) for x in arrays]


def natural_gradients(inputs: Mapping[str, Any]) -> Iterator[Derivation]:
    """Derive the bound and its gradients of one batch.

    Parameters
    ----------
    inputs : dict of arrays of balls
        ``natural.posterior.*`` and ``natural.prior.*`` of theta, ``natural.node.*``,
        ``natural.noise``, ``natural.states`` from which the ascent starts,
        ``natural.decoder.*``, ``natural.y`` and ``natural.scale``, N / M.

    Yields
    ------
    (way, quantities)
    """
    for kind, way in WAYS:
        yield way, whole(kind, sections(inputs, "natural"))


def whole(kind: Any, given: Mapping[str, Any]) -> dict[str, Balls]:
    """Return the quantities of one derivation."""
    posterior, prior = sections(given, "posterior"), sections(given, "prior")
    scale = given["scale"][0]
    message, global_kl = {}, exact([0.0])
    for family, parameters, statistics in factors_of(posterior):
        q, p = ([of[name] for name in parameters] for of in (posterior, prior))
        stats, divergence = of_factor(kind, family, with_batch(q), with_batch(p))
        for name, stat, like in zip(statistics, stats, q, strict=True):
            message[name] = stat.reshape(onp.shape(like) or (1,))
        global_kl = global_kl + np.sum(divergence, keepdims=True)
    potentials = message | {name: given[name] for name in OF_SEQUENCE}
    potentials |= {"dof": given["dof"]} if "dof" in given else {}
    problem = problem_of(potentials)
    decoder = sections(given, "decoder")
    each = []
    for n, a in enumerate(sequences(potentials)):
        start = given["states"][n]
        data = given["y"][n], given["noise"][n]
        each.append(of_sequence(kind(problem), a, start, decoder, *data))
    total = {name: sum(one[name] for one in each) for name in each[0]}
    reconstruction, local_kl = scale * total["reconstruction"], scale * total["kl"]
    found = {
        "objective": reconstruction - local_kl - global_kl,
        "reconstruction": reconstruction,
        "local_kl": local_kl,
        "global_kl": global_kl,
    }
    for _, parameters, statistics in factors_of(posterior):
        for name, stat in zip(parameters, statistics, strict=True):
            pull = prior[name] - posterior[name]
            for word, of in (("natgrad", "grad"), ("conjugate", "conjugate")):
                ahead = scale * total[f"{of}.{stat}"].reshape(onp.shape(pull))
                found[f"{word}.{name}"] = pull + ahead
    found |= {
        f"grad.decoder.{name}": scale * total[f"decoder.{name}"] for name in decoder
    }
    for name in OF_SEQUENCE:
        found[f"grad.{name}"] = scale * onp.stack([one[f"grad.{name}"] for one in each])
    for name in ("states", "mean", "samples"):
        found[name] = onp.stack([one[name] for one in each])
    return {name: onp.asarray(x) for name, x in found.items()}


def of_factor(
    kind: Any, family: Family, q: Sequence[Balls], p: Sequence[Balls]
) -> tuple[Any, Balls]:
    """Return expected statistics of q, and KL(q || p), by closed forms or recurrences.

    Recurrences belong to enumeration.
    """
    if kind is Recursion:
        return family.expected_stats(*q), kl(family, q, p)
    gradient = pull_back(
        lambda by: family.other_log_normalizer(*by.values()),
        dict(zip(family.names, q, strict=True)),
    )
    return [gradient[name] for name in family.names], family.other_kl(q, p)


def of_sequence(
    derivation: Any, a: Arguments, start: Balls, decoder: Arguments, y: Any, noise: Any
) -> dict[str, Balls]:
    """Return the terms of one sequence and their gradients."""
    several = derivation.problem.states > 1 or derivation.problem.student
    s = exact(onp.ones(start.shape))
    if several:
        s = enclosed_fixed_point(derivation, a, start)
    by = by_reverse if isinstance(derivation, Recursion) else by_covariances
    found = by(derivation, a, s, decoder, y, noise)
    linear = derivation.linear(a, s)
    samples = derivation.samples(a, s, noise)
    J, h = derivation.problem.node(a)
    mean, second = derivation.moments(a, s)
    evidence = (J * second).sum() + (h * mean).sum()
    kl = evidence - derivation.bound(a, s)
    return found | {
        "reconstruction": log_likelihood(decoder, samples, y),
        "kl": kl,
        "states": s / derivation.problem.gain(a, linear),
        "mean": mean,
        "samples": samples,
    }


def log_likelihood(decoder: Arguments, samples: Balls, y: Balls) -> Balls:
    """Return the mean over samples (S, T, D) of log N(y; W'f(x) + b, variance) (1,).

    f(x) = tanh(W_h'x + b_h), or x itself where there is no hidden layer.
    """
    x = samples
    if "hidden.W" in decoder:
        x = np.tanh(x @ decoder["hidden.W"] + decoder["hidden.b"])
    gap = y - x @ decoder["W"] - decoder["b"]
    variance = decoder["variance"]
    frames = -0.5 * (gap * gap / variance + np.log(variance) + log_2pi())
    return np.sum(np.reshape(frames, (-1,)), keepdims=True) / float(len(samples))


def by_reverse(
    recursion: Recursion, a: Arguments, s: Balls, decoder: Arguments, y: Any, noise: Any
) -> dict[str, Balls]:
    """Differentiate by autograd and the implicit function theorem."""
    problem = recursion.problem

    def local(a: Arguments, s: Balls, decoder: Arguments) -> Balls:
        mean, second = recursion.moments(a, s)
        J, h = problem.node(a)
        psi = dot(J, second) + dot(h, mean)
        samples = recursion.samples(a, s, noise)
        return log_likelihood(decoder, samples, y) - psi + recursion.bound(a, s)

    names = [name for name in a if name != "dof"]
    boxed = {name: a[name] for name in names}
    size = s.size
    of_s = pull_back(lambda by: local(a, by["s"], decoder), {"s": s})["s"]
    multiplier = zeros(s.shape)
    if problem.states > 1 or problem.student:
        slope = eye(size) - recursion.jacobian(a, s)
        solved = solve(transpose(slope), of_s.reshape(size, 1))
        multiplier = solved.reshape(s.shape)

    def whole(by: Arguments) -> Balls:
        at = {**a, **{name: by[name] for name in names}}
        weights = {name: by[f"decoder.{name}"] for name in decoder}
        total = local(at, s, weights)
        if problem.states > 1 or problem.student:
            total = total + dot(multiplier, recursion.update(at, s))
        return total

    def conjugate(by: Arguments) -> Balls:
        return recursion.bound({**a, **by}, s)

    gradient = pull_back(
        whole, boxed | {f"decoder.{name}": x for name, x in decoder.items()}
    )
    statistics = pull_back(conjugate, boxed)
    found = {f"grad.{name}": gradient[name] for name in names}
    found |= {f"conjugate.{name}": statistics[name] for name in names}
    return found | {f"decoder.{name}": gradient[f"decoder.{name}"] for name in decoder}


def by_covariances(
    dense: Dense, a: Arguments, s: Balls, decoder: Arguments, y: Any, noise: Any
) -> dict[str, Balls]:
    """Write the conjugate part and the correction out in covariances."""
    of = dense.problem
    P, cov, mean = dense.gaussian(a, s)
    second = cov + onp.outer(mean, mean)
    linear = dense.linear(a, s)
    _, p = dense.path_weights(a, of.state_potentials(a, linear))
    states = (p @ dense.indicators).reshape(s.shape)
    gain = of.gain(a, linear)

    # what E log p(y|x) - E<r, t> changes by, as J and h of x do
    samples = dense.samples(a, s, noise)
    of_samples, of_decoder = likelihood_gradient(decoder, samples, y)
    change_J, change_h = sampling_adjoint(P, cov, mean, of_samples, noise)
    psi_J, psi_h = moved_moments(cov, mean, *dense.evidence(a))
    change_J, change_h = change_J - psi_J, change_h - psi_h

    rows_J, rows_h = dense.rows(a)
    of_s = (rows_J * change_J).sum((1, 2)) + rows_h @ change_h
    of_u, of_linear, multiplier = zeros(s.shape), zeros(s.shape), zeros((s.size, 1))
    if of.states > 1 or of.student:
        slope = eye(s.size) - dense.jacobian(a, s)
        multiplier = inverse(slope).T @ of_s[:, None]
        lam = multiplier.reshape(s.shape)
        H = dense.state_covariance(a, of.state_potentials(a, linear))
        of_u = (H @ (lam * gain).reshape(-1)).reshape(s.shape)
        of_linear = gain * of_u
        if of.student:
            steep = 2 * gain * gain / (a["dof"] + of.dim)
            of_linear = of_linear + lam * states * steep
    v = of_linear.reshape(-1)
    more = moved_moments(cov, mean, onp.tensordot(v, rows_J, 1), v @ rows_h)
    change_J, change_h = change_J + more[0], change_h + more[1]

    # paths whose indicators covary with the multiplier
    along = dense.indicators @ (multiplier * gain.reshape(-1, 1))[:, 0]
    paths = p * (along - p @ along)
    conjugate = of_states(dense, a, states, p)
    conjugate |= of_rows(dense, a, [Weighted(s, second, mean, 1)], states)
    terms = [Weighted(s, change_J, change_h, 0), Weighted(of_linear, second, mean, 1)]
    correction = of_states(dense, a, of_u, paths) | of_rows(dense, a, terms, of_u)
    found = {f"conjugate.{name}": x for name, x in conjugate.items()}
    found |= {f"grad.{name}": x + correction[name] for name, x in conjugate.items()}
    node = of_node(dense, a, change_J, change_h)
    found |= {f"grad.{name}": x for name, x in node.items()}
    statistics = of_node(dense, a, second, mean)
    found |= {f"conjugate.{name}": x for name, x in statistics.items()}
    return found | {f"decoder.{name}": x for name, x in of_decoder.items()}


def moved_moments(cov: Balls, mean: Balls, J: Balls, h: Balls) -> tuple[Balls, Balls]:
    """Return how E[x x'] and E[x] change with natural parameters along (J, h).

    That is also the gradient of <(J, h), E t> in the natural parameters.
    """
    of_mean = cov @ (h + 2 * J @ mean)
    outer = onp.outer(of_mean, mean)
    return outer + outer.T + 2 * cov @ J @ cov, of_mean


def sampling_adjoint(
    P: Balls, cov: Balls, mean: Balls, of_samples: Balls, noise: Balls
) -> tuple[Balls, Balls]:
    r"""Return the gradient in (J, h), J = -P/2, of a function of mean + L^-T noise.

    A sample whose cotangent is g has, with r = L^-1 g and Phi the lower half with its
    diagonal halved, ``h_bar = S g`` and ``P_bar = -h_bar mean' - L^-T Phi(e r') L^-1``.
    """
    size = len(mean)
    root = inverse(cholesky(P))
    half = exact(onp.tri(size) - onp.eye(size) / 2)
    of_J, of_h = zeros((size, size)), zeros((size,))
    for g, e in zip(of_samples.reshape(-1, size), noise.reshape(-1, size), strict=True):
        h_bar = cov @ g
        inner = half * onp.outer(e, root @ g)
        P_bar = -onp.outer(h_bar, mean) - root.T @ inner @ root
        of_J, of_h = of_J - (P_bar + P_bar.T), of_h + h_bar
    return of_J, of_h


def likelihood_gradient(
    decoder: Arguments, samples: Balls, y: Balls
) -> tuple[Balls, dict[str, Balls]]:
    """Return the gradient of `log_likelihood` in samples and weights, by hand."""
    flat = samples.reshape(-1, samples.shape[-1])
    targets = (y + zeros((len(samples), 1, 1))).reshape(len(flat), -1)
    hidden = flat
    if "hidden.W" in decoder:
        hidden = onp.tanh(flat @ decoder["hidden.W"] + decoder["hidden.b"])
    variance, number = decoder["variance"], len(samples)
    gap = targets - hidden @ decoder["W"] - decoder["b"]
    steep = gap / variance / number
    of_variance = 0.5 * (gap * gap / variance - 1) / variance / number
    found = {"W": hidden.T @ steep, "b": steep.sum(0), "variance": of_variance.sum(0)}
    of_x = steep @ decoder["W"].T
    if "hidden.W" in decoder:
        of_x = of_x * (1 - hidden * hidden)
        found |= {"hidden.W": flat.T @ of_x, "hidden.b": of_x.sum(0)}
        of_x = of_x @ decoder["hidden.W"].T
    return of_x.reshape(samples.shape), found
