r"""Log normalizers, expected statistics and KL divergences of the families.

Every family has the density :math:`h(x) \exp\{<\eta, t(x)> - \log Z(\eta)\}` with
natural parameters and base measures as in docs/specification.md.  Two derivations:

*closed forms*: expected statistics by digammas (Johnson et al. 2016, Appendix; Bishop
2006, Appendix B), and the one divergence of all exponential families,
``KL = <eta_q - eta_p, E_q t> - log Z(eta_q) + log Z(eta_p)``.

*recurrences*: log Z alone, found another way (coordinates integrated out one after the
other, determinants of packed matrices, Legendre's duplication formula
:math:`\Gamma(z) \Gamma(z + 1/2) = 2^{1 - 2z} \sqrt\pi\, \Gamma(2z)`, sticks broken one
by one); statistics are its gradient, their adjoints its Hessian, and divergences those
of the textbooks in standard parameters, factor by factor.

A third, of one dimension, is the integral itself: `acb.integral` encloses it.

Arrays have a batch axis in front, (B, ...); a number is (B,).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autograd.numpy as np
import numpy as onp
from autograd.extend import defvjp, primitive
from flint import acb, arb, ctx

from svae.crosscheck.truth import balls
from svae.crosscheck.truth.balls import (
    Derivation,
    exact,
    inverse,
    log_det,
    pull_back,
    transpose,
)

__all__ = [
    "FAMILIES",
    "Family",
    "derivations",
    "family_of",
    "lgamma",
    "log_2pi",
    "polygamma",
]

Balls = Any
NatParams = Sequence[Balls]


@primitive
def polygamma(order: int, x: Balls) -> Balls:
    """Return the derivative of digamma: (-1)^(n + 1) n! zeta(n + 1, x), Hurwitz's."""
    if order == 0:
        return onp.frompyfunc(lambda a: a.digamma(), 1, 1)(x)
    factor = arb((-1) ** (order + 1)) * arb(order).fac()
    return onp.frompyfunc(lambda a: factor * arb(order + 1).zeta(a), 1, 1)(x)


@primitive
def lgamma(x: Balls) -> Balls:
    """Return log Gamma."""
    return onp.frompyfunc(lambda a: a.lgamma(), 1, 1)(x)


defvjp(
    polygamma,
    lambda ans, order, x: lambda g: g * polygamma(order + 1, x),
    argnums=(1,),
)
defvjp(lgamma, lambda ans, x: lambda g: g * polygamma(0, x))


def log_2pi() -> arb:
    """Return log 2 pi, in the precision that is set."""
    return (2 * arb.pi()).log()


def symmetric(matrix: Balls) -> Balls:
    """Return the symmetric part."""
    return 0.5 * (matrix + transpose(matrix))


def dot(x: Balls, y: Balls) -> Balls:
    """Sum products over all axes but the first: (B,)."""
    product = x * y
    return np.sum(np.reshape(product, (len(product), -1)), axis=1)


def vector(matrix: Balls, x: Balls) -> Balls:
    """Multiply (B, D, E) by (B, E)."""
    return (matrix @ x[..., None])[..., 0]


def outer(x: Balls, y: Balls) -> Balls:
    """Return x y', (B, D, E)."""
    return x[..., :, None] * y[..., None, :]


def sequential_log_det(matrix: Balls) -> Balls:
    """Return log|M| (B,): pivots, as rows and columns are eliminated from the last."""
    total = exact(onp.zeros(len(matrix)))
    while (size := matrix.shape[-1]) > 0:
        pivot = matrix[:, -1, -1]
        total = total + np.log(pivot)
        if size == 1:
            break
        column = matrix[:, :-1, -1]
        rest = outer(column, column) / pivot[:, None, None]
        matrix = matrix[:, :-1, :-1] - rest
    return total


def multivariate_lgamma(a: Balls, dim: int) -> Balls:
    """Return log Gamma_D(a), by its definition."""
    total = exact(onp.full(len(a), 0.25 * dim * (dim - 1))) * arb.pi().log()
    for i in range(dim):
        total = total + lgamma(a - 0.5 * i)
    return total


def multivariate_digamma(a: Balls, dim: int) -> Balls:
    """Return its derivative."""
    return sum((polygamma(0, a - 0.5 * i) for i in range(dim)), start=exact(0.0))


def other_lgamma(x: Balls) -> Balls:
    """Return log Gamma of twice the number, by the duplication formula halved."""
    log_2, log_pi = arb(2).log(), arb.pi().log()
    return (x - 1.0) * log_2 - 0.5 * log_pi + lgamma(0.5 * x) + lgamma(0.5 * x + 0.5)


def other_multivariate_lgamma(a: Balls, dim: int) -> Balls:
    """Return log Gamma_D(a) with pairs of factors joined by the duplication formula."""
    log_2, log_pi = arb(2).log(), arb.pi().log()
    total = exact(onp.full(len(a), 0.25 * dim * (dim - 1))) * log_pi
    for i in range(0, dim - 1, 2):
        b = a - 0.5 * i
        total = total + (2.0 - 2.0 * b) * log_2 + 0.5 * log_pi + lgamma(2.0 * b - 1.0)
    if dim % 2:
        last = a - 0.5 * (dim - 1)
        total = total + lgamma(last + 1.0) - np.log(last)
    return total


@dataclass(frozen=True)
class Family:
    """A family: names of its parameters, and its two derivations."""

    names: tuple[str, ...]
    log_normalizer: Callable[..., Balls]
    expected_stats: Callable[..., tuple[Balls, ...]]
    other_log_normalizer: Callable[..., Balls]
    other_kl: Callable[[NatParams, NatParams], Balls]
    integral: Callable[..., Balls] | None = None
    """Encloses the integral of one dimension, where there is only one."""


def kl(family: Family, q: NatParams, p: NatParams) -> Balls:
    """Return the divergence of exponential families, (B,)."""
    stats = family.expected_stats(*q)
    terms = (dot(a - b, t) for a, b, t in zip(q, p, stats, strict=True))
    return sum(terms, start=family.log_normalizer(*p) - family.log_normalizer(*q))


def family_of(inputs: Mapping[str, Any]) -> Family:
    """Return the family whose parameters the inputs name."""
    start = "natural.q."
    names = {name.removeprefix(start) for name in inputs if name.startswith(start)}
    return next(family for family in FAMILIES.values() if set(family.names) == names)


def derivations(inputs: Mapping[str, Balls]) -> Iterator[Derivation]:
    """Derive all quantities of two members q and p of a family.

    Parameters
    ----------
    inputs : dict of arrays of balls
        ``natural.q.NAME``, ``natural.p.NAME`` and cotangents of every quantity.

    Yields
    ------
    (way, quantities)
    """
    family = family_of(inputs)
    q, p = (_allowed(family, inputs, role) for role in "qp")
    names = family.names
    cotangents = {
        name.removeprefix("cotangent."): _cut(family, inputs, x)
        for name, x in inputs.items()
        if name.startswith("cotangent.")
    }
    of_stats = [cotangents[f"expected_stats.{name}"] for name in names]

    def first(q: NatParams, p: NatParams) -> dict[str, Balls]:
        stats = family.expected_stats(*q)
        found = {f"expected_stats.{n}": t for n, t in zip(names, stats, strict=True)}
        log_normalizer = family.log_normalizer(*q)
        return {"log_normalizer": log_normalizer, **found, "kl": kl(family, q, p)}

    def weighted(arguments: dict[str, Balls]) -> Balls:
        split = ([arguments[f"{role}.{name}"] for name in names] for role in "qp")
        found = first(*split)
        return sum(
            (dot(cotangents[name], x) for name, x in found.items()), start=exact(0.0)
        )

    arguments = {
        f"{role}.{name}": x
        for role, values in (("q", q), ("p", p))
        for name, x in zip(names, values, strict=True)
    }
    gradient = pull_back(weighted, arguments)
    one = first(q, p) | {f"vjp.{name}": g for name, g in gradient.items()}
    yield "closed forms", _filled(family, inputs, one)
    other = _second(family, q, p, of_stats, cotangents)
    way = "recurrences of log Z and its derivatives, divergences of textbooks"
    yield way, _filled(family, inputs, other)
    if family.integral is not None and q[0].size == len(q[0]):
        way = "the integral of one dimension, enclosed"
        yield way, {"log_normalizer": family.integral(*q)}


def _second(
    family: Family,
    q: NatParams,
    p: NatParams,
    of_stats: Sequence[Balls],
    cotangents: Mapping[str, Balls],
) -> dict[str, Balls]:
    """Derive from the other log Z alone, and from textbooks' divergences.

    With c the cotangents, F = c_Z log Z + <c_t, grad log Z> + c_KL KL has the gradients
    ``c_Z t_q + H_q (c_t + c_KL (q - p))`` and ``c_KL (t_p - t_q)``.
    """
    names = family.names

    def stats_of(eta: NatParams) -> list[Balls]:
        gradient = pull_back(
            lambda arguments: family.other_log_normalizer(*arguments.values()),
            dict(zip(names, eta, strict=True)),
        )
        return [gradient[name] for name in names]

    def of_each(numbers: Balls, array: Balls) -> Balls:
        return numbers.reshape((-1,) + (1,) * (array.ndim - 1)) * array

    of_kl, of_Z = cotangents["kl"], cotangents["log_normalizer"]
    directions = [
        c + of_each(of_kl, a - b) for c, a, b in zip(of_stats, q, p, strict=True)
    ]

    def along(arguments: dict[str, Balls]) -> Balls:
        pairs = zip(directions, stats_of(list(arguments.values())), strict=True)
        return sum((dot(d, t) for d, t in pairs), start=exact(0.0))

    stats_q, stats_p = stats_of(q), stats_of(p)
    hessian = pull_back(along, dict(zip(names, q, strict=True)))
    found = {
        "log_normalizer": family.other_log_normalizer(*q),
        "kl": family.other_kl(q, p),
    }
    for name, t_q, t_p in zip(names, stats_q, stats_p, strict=True):
        found[f"expected_stats.{name}"] = t_q
        found[f"vjp.q.{name}"] = of_each(of_Z, t_q) + hessian[name]
        found[f"vjp.p.{name}"] = of_each(of_kl, t_p - t_q)
    return found


def gaussian() -> Family:
    """Return x ~ N(P^-1 h, P^-1) with P = -(J + J')."""

    def moments(J: Balls, h: Balls) -> tuple[Balls, Balls, Balls]:
        P = -(J + transpose(J))
        cov = inverse(P)
        return P, cov, vector(cov, h)

    def log_normalizer(J: Balls, h: Balls) -> Balls:
        P, _, mean = moments(J, h)
        dim = h.shape[-1]
        return 0.5 * (dot(h, mean) - log_det(P)[:, 0, 0] + dim * log_2pi())

    def expected_stats(J: Balls, h: Balls) -> tuple[Balls, Balls]:
        _, cov, mean = moments(J, h)
        return cov + outer(mean, mean), mean

    def other_log_normalizer(J: Balls, h: Balls) -> Balls:
        P, total = -(J + transpose(J)), exact(onp.zeros(len(h)))
        while True:
            pivot, last = P[:, -1, -1], h[:, -1]
            total = total + 0.5 * (log_2pi() - np.log(pivot) + last * last / pivot)
            if h.shape[-1] == 1:
                return total
            column = P[:, :-1, -1] / pivot[:, None]
            h = h[:, :-1] - column * last[:, None]
            P = P[:, :-1, :-1] - outer(column, P[:, -1, :-1])

    def other_kl(q: NatParams, p: NatParams) -> Balls:
        P, cov, mean = moments(*q)
        P_p, _, mean_p = moments(*p)
        gap = mean - mean_p
        logs = sequential_log_det(P) - sequential_log_det(P_p)
        spread = dot(P_p, cov + outer(gap, gap)) - 1.0 * gap.shape[-1]
        return 0.5 * (spread + logs)

    def integral(J: Balls, h: Balls) -> Balls:
        return _each(lambda J, h: _log_integral(J, h), J[:, 0, 0], h[:, 0])

    return Family(
        ("J", "h"),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        other_kl,
        integral,
    )


def categorical() -> Family:
    """Return z = k with probability exp(eta_k) / Z; -inf forbids a state."""

    def log_normalizer(eta: Balls) -> Balls:
        return np.log(np.sum(np.exp(eta), axis=1))

    def expected_stats(eta: Balls) -> tuple[Balls]:
        return (np.exp(eta - log_normalizer(eta)[:, None]),)

    def other_log_normalizer(eta: Balls) -> Balls:
        total = eta[:, 0]  # log(a + b) = log a + log(1 + b / a), state by state
        for k in range(1, eta.shape[1]):
            total = total + np.log1p(np.exp(eta[:, k] - total))
        return total

    def other_kl(q: NatParams, p: NatParams) -> Balls:
        of_q, of_p = (np.exp(e[0]) for e in (q, p))
        of_q, of_p = (e / np.sum(e, axis=1)[:, None] for e in (of_q, of_p))
        return dot(of_q, np.log(of_q / of_p))

    return Family(
        ("log_potentials",),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        other_kl,
    )


def dirichlet() -> Family:
    """Return pi ~ Dir(eta + 1)."""

    def log_normalizer(eta: Balls) -> Balls:
        alpha = eta + 1.0
        return np.sum(lgamma(alpha), axis=1) - lgamma(np.sum(alpha, axis=1))

    def expected_stats(eta: Balls) -> tuple[Balls]:
        alpha = eta + 1.0
        return (polygamma(0, alpha) - polygamma(0, np.sum(alpha, axis=1))[:, None],)

    def sticks(eta: Balls) -> list[tuple[Balls, Balls]]:
        alpha = eta + 1.0
        ends = range(alpha.shape[1] - 1)
        return [(alpha[:, k], np.sum(alpha[:, k + 1 :], axis=1)) for k in ends]

    def log_beta(a: Balls, b: Balls) -> Balls:
        return other_lgamma(a) + other_lgamma(b) - other_lgamma(a + b)

    def other_log_normalizer(eta: Balls) -> Balls:
        return sum((log_beta(*stick) for stick in sticks(eta)), start=exact(0.0))

    def other_kl(q: NatParams, p: NatParams) -> Balls:
        total = exact(onp.zeros(len(q[0])))
        for (a, b), (c, d) in zip(sticks(*q), sticks(*p), strict=True):
            psi_a, psi_b, psi = (_other_digamma(x) for x in (a, b, a + b))
            total = total + log_beta(c, d) - log_beta(a, b)
            total = total + (a - c) * (psi_a - psi) + (b - d) * (psi_b - psi)
        return total

    return Family(
        ("alpha_minus_1",),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        other_kl,
    )


def _other_digamma(x: Balls) -> Balls:
    """Return digamma by its recurrence."""
    return polygamma(0, x + 1.0) - 1.0 / x


def wishart_log_normalizer(log_det_S: Balls, nu: Balls, dim: int, gamma: Any) -> Balls:
    """Return log Z of W(S^-1, nu) to the base measure |L|^(-(D + 1)/2)."""
    return 0.5 * nu * (dim * arb(2).log() - log_det_S) + gamma(0.5 * nu, dim)


def wishart_stats(S: Balls, nu: Balls) -> tuple[Balls, Balls]:
    """Return -E[L]/2 and E[log|L|]/2 of L ~ W(S^-1, nu)."""
    dim = S.shape[-1]
    of_log = multivariate_digamma(0.5 * nu, dim) + dim * arb(2).log()
    half_log_det = 0.5 * (of_log - log_det(S)[:, 0, 0])
    return -0.5 * nu[:, None, None] * inverse(S), half_log_det


def wishart_kl(q: NatParams, p: NatParams) -> Balls:
    """Return the divergence of Wisharts, in standard parameters."""
    (S_q, nu_q), (S_p, nu_p) = q, p
    dim = S_q.shape[-1]
    logs = sequential_log_det(S_q) - sequential_log_det(S_p)
    psi = sum(
        (_other_digamma(0.5 * nu_q - 0.5 * i) for i in range(dim)), start=exact(0.0)
    )
    gammas = other_multivariate_lgamma(0.5 * nu_p, dim) - other_multivariate_lgamma(
        0.5 * nu_q, dim
    )
    trace = dot(transpose(S_p), inverse(S_q)) - 1.0 * dim
    return 0.5 * (nu_p * logs + nu_q * trace + (nu_q - nu_p) * psi) + gammas


def wishart() -> Family:
    """Return L ~ W(S^-1, nu)."""

    def log_normalizer(S: Balls, nu: Balls) -> Balls:
        of_S = log_det(symmetric(S))[:, 0, 0]
        return wishart_log_normalizer(of_S, nu, S.shape[-1], multivariate_lgamma)

    def expected_stats(S: Balls, nu: Balls) -> tuple[Balls, Balls]:
        return wishart_stats(symmetric(S), nu)

    def other_log_normalizer(S: Balls, nu: Balls) -> Balls:
        of_S = sequential_log_det(symmetric(S))
        return wishart_log_normalizer(of_S, nu, S.shape[-1], other_multivariate_lgamma)

    def integral(S: Balls, nu: Balls) -> Balls:
        return _each(_log_gamma_integral, S[:, 0, 0], nu)

    return Family(
        ("S", "nu"),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        wishart_kl,
        integral,
    )


def niw() -> Family:
    """Return L ~ W(S^-1, nu), mu | L ~ N(m, (kappa L)^-1)."""

    def standard(second: Balls, weighted: Balls, kappa: Balls, nu: Balls) -> Any:
        mean = weighted / kappa[:, None]
        return mean, kappa, symmetric(second) - outer(weighted, mean), nu

    def log_normalizer(*eta: Balls) -> Balls:
        mean, kappa, S, nu = standard(*eta)
        dim = mean.shape[-1]
        of_S = log_det(S)[:, 0, 0]
        of_L = wishart_log_normalizer(of_S, nu, dim, multivariate_lgamma)
        return of_L + 0.5 * dim * (log_2pi() - np.log(kappa))

    def expected_stats(*eta: Balls) -> tuple[Balls, ...]:
        mean, kappa, S, nu = standard(*eta)
        J, half_log_det = wishart_stats(S, nu)
        h = -2.0 * vector(J, mean)
        quadratic = -0.5 * (dot(h, mean) + 1.0 * mean.shape[-1] / kappa)
        return J, h, quadratic, half_log_det

    def other_log_normalizer(
        second: Balls, weighted: Balls, kappa: Balls, nu: Balls
    ) -> Balls:
        dim, column = weighted.shape[-1], weighted[:, :, None]
        below = np.concatenate([transpose(column), kappa[:, None, None]], axis=2)
        above = np.concatenate([symmetric(second), column], axis=2)
        # the packed matrix [[S + k m m', k m], [k m', k]] has determinant k |S|
        packed = sequential_log_det(np.concatenate([above, below], axis=1))
        log_kappa = np.log(kappa)
        of_L = wishart_log_normalizer(
            packed - log_kappa, nu, dim, other_multivariate_lgamma
        )
        return of_L + 0.5 * dim * (log_2pi() - log_kappa)

    def other_kl(q: NatParams, p: NatParams) -> Balls:
        m_q, k_q, S_q, nu_q = standard(*q)
        m_p, k_p, S_p, nu_p = standard(*p)
        dim, gap, ratio = m_q.shape[-1], m_q - m_p, k_p / k_q
        of_mean = nu_q * k_p * dot(gap, vector(inverse(S_q), gap))
        of_kappa = 1.0 * dim * (ratio - 1.0 - np.log(ratio))
        return wishart_kl((S_q, nu_q), (S_p, nu_p)) + 0.5 * (of_kappa + of_mean)

    return Family(
        ("second", "weighted_mean", "kappa", "nu"),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        other_kl,
    )


def mniw() -> Family:
    """Return L = Q^-1 ~ W(S^-1, nu), A | Q ~ MN(M, Q, V^-1)."""

    def standard(V: Balls, weighted: Balls, second: Balls, nu: Balls) -> Any:
        V = symmetric(V)
        K = inverse(V)
        M = transpose(K @ weighted)
        return M, V, K, symmetric(second) - symmetric(M @ weighted), nu

    def log_normalizer(*eta: Balls) -> Balls:
        M, V, _, S, nu = standard(*eta)
        dim, dim_in = M.shape[-2:]
        of_S = log_det(S)[:, 0, 0]
        of_L = wishart_log_normalizer(of_S, nu, dim, multivariate_lgamma)
        return of_L + 0.5 * dim * (dim_in * log_2pi() - log_det(V)[:, 0, 0])

    def expected_stats(*eta: Balls) -> tuple[Balls, ...]:
        M, _, K, S, nu = standard(*eta)
        J22, half_log_det = wishart_stats(S, nu)
        J12 = -2.0 * transpose(M) @ J22
        J11 = -0.5 * (symmetric(J12 @ M) + 1.0 * M.shape[-2] * K)
        return J11, J12, J22, half_log_det

    def other_log_normalizer(
        V: Balls, weighted: Balls, second: Balls, nu: Balls
    ) -> Balls:
        dim_in, dim = weighted.shape[-2:]
        above = np.concatenate([symmetric(V), weighted], axis=2)
        below = np.concatenate([transpose(weighted), symmetric(second)], axis=2)
        # [[V, V M'], [M V, S + M V M']] has determinant |V| |S|
        packed = sequential_log_det(np.concatenate([above, below], axis=1))
        of_V = sequential_log_det(symmetric(V))
        of_L = wishart_log_normalizer(packed - of_V, nu, dim, other_multivariate_lgamma)
        return of_L + 0.5 * dim * (dim_in * log_2pi() - of_V)

    def other_kl(q: NatParams, p: NatParams) -> Balls:
        M_q, V_q, K_q, S_q, nu_q = standard(*q)
        M_p, V_p, _, S_p, nu_p = standard(*p)
        dim, dim_in = M_q.shape[-2:]
        gap = M_q - M_p
        logs = sequential_log_det(V_q) - sequential_log_det(V_p)
        of_K = 1.0 * dim * (dot(V_p, K_q) - 1.0 * dim_in + logs)
        of_M = nu_q * dot(inverse(S_q), gap @ V_p @ transpose(gap))
        return wishart_kl((S_q, nu_q), (S_p, nu_p)) + 0.5 * (of_K + of_M)

    return Family(
        ("column_precision", "weighted_mean", "second", "nu"),
        log_normalizer,
        expected_stats,
        other_log_normalizer,
        other_kl,
    )


FAMILIES = {
    maker.__name__: maker()
    for maker in (gaussian, categorical, dirichlet, wishart, niw, mniw)
}


def _allowed(family: Family, inputs: Mapping[str, Balls], role: str) -> list[Balls]:
    """Return natural parameters; of a categorical, of its possible states."""
    return [_cut(family, inputs, inputs[f"natural.{role}.{n}"]) for n in family.names]


def _possible(family: Family, inputs: Mapping[str, Balls]) -> Any:
    if family.names != ("log_potentials",):
        return None
    eta = inputs["natural.q.log_potentials"]
    return onp.array([ball.is_finite() for ball in eta[0]])


def _cut(family: Family, inputs: Mapping[str, Balls], x: Balls) -> Balls:
    possible = _possible(family, inputs)
    return x if possible is None or x.ndim < 2 else x[:, possible]


def _filled(
    family: Family, inputs: Mapping[str, Balls], found: Mapping[str, Balls]
) -> dict[str, Balls]:
    """Put zeros where states are impossible."""
    possible = _possible(family, inputs)
    if possible is None:
        return dict(found)
    whole = {}
    for name, x in found.items():
        whole[name] = x
        if x.ndim == 2:
            whole[name] = balls.zeros((len(x), len(possible)))
            whole[name][:, possible] = x
    return whole


def _each(function: Callable[..., arb], *arrays: Balls) -> Balls:
    """Apply a function of numbers to each member of a batch."""
    found = [function(*one) for one in zip(*arrays, strict=True)]
    return onp.array(found, dtype=object)


def _log_integral(J: arb, h: arb) -> arb:
    """Enclose log of the integral of exp(J x^2 + h x)."""
    precision = -2 * J
    middle = (h / precision).mid()
    slope, top = h + 2 * J * middle, J * middle * middle + h * middle
    width = ((2 * ctx.prec) / precision).sqrt().mid()
    inside = acb.integral(
        lambda t, _: ((J * t + slope) * t).exp(), -acb(width), acb(width)
    ).real
    steep = precision * width - abs(slope)
    tail = 2 * ((J * width + abs(slope)) * width).exp() / steep
    return top + (inside + _up_to(tail)).log()


def _log_gamma_integral(S: arb, nu: arb) -> arb:
    """Enclose log of the integral of L^(nu/2 - 1) exp(-S L/2) dL, with L = exp(u)."""
    a, b = nu / 2, S / 2
    left = (-(ctx.prec + 10) / a - 10).mid()
    right = ((a + ctx.prec + 10) * 4 / b).log().mid()
    inside = acb.integral(
        lambda u, _: (a * u - b * u.exp()).exp(), acb(left), acb(right)
    ).real
    steep = b * right.exp() - a
    tail = (a * left).exp() / a + (a * right - b * right.exp()).exp() / steep
    return (inside + _up_to(tail)).log()


def _up_to(bound: arb) -> arb:
    """Return the ball from 0 to a bound."""
    half = bound.upper() / 2
    return arb(half, half.upper())
