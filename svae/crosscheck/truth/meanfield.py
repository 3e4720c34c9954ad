r"""Mean-field inference q(z) q(x), its fixed point proven, in two derivations.

All latent models are one: given probabilities s of the states, x is a Gaussian chain
whose potentials are mixed by them, and given x the states are a Markov chain (Johnson
et al. 2016, Section 4.2; SYSTEMS 2.1),

.. math::
    \eta_x = \sum_{tk} s_{tk} P_{tk} + r, \qquad
    u_{tk} = \langle P_{tk}, \mathbb{E} f(x) \rangle + c_{tk}, \qquad
    G(s) = \mathbb{E}_u[e_z] .

A linear dynamical system has one state; a Gaussian mixture is a Markov chain of one
step.  With the Student-t (Archambeau and Verleysen 2007) s is the probability times
E[u], and the potentials are -(nu + D)/2 log(1 + g / nu) with <P, E f> = -g/2.  The
bound after one sweep from s is

.. math:: \hat L(s) = \log Z_x(s) + \log Z_z(u) - \sum_{tk} s_{tk}
          \langle P_{tk}, \mathbb{E} f \rangle .

*recursion* integrates one x after the other and sums over one z after the other; every
expectation and every derivative is autograd's, of log Z_x and log Z_z.  *enumeration*
inverts the dense joint of all x and sums over all paths of z; its derivatives are
covariances, of Gaussians by Isserlis' theorem, of states by their definition; its bound
is E log p - E log q, term by term.

The fixed point of G is enclosed by Krawczyk's operator,

.. math:: K(B) = \tilde s - Y (\tilde s - G(\tilde s))
          + (1 - Y (1 - G'(B))) (B - \tilde s),

which maps a box B into its own interior only if B holds exactly one fixed point, and
that one is in K(B) (Krawczyk 1969; Rump 2010, Section 13).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import autograd.numpy as np
import numpy as onp
from flint import arb, ctx

from svae.crosscheck.truth.balls import (
    Disagreement,
    cholesky,
    exact,
    eye,
    inverse,
    log_det,
    midpoints,
    precision,
    pull_back,
    solve,
    transpose,
    zeros,
)
from svae.crosscheck.truth.chains import backward_samples, gaussian_integral, markov_sum
from svae.crosscheck.truth.families import lgamma, log_2pi

__all__ = ["Dense", "Problem", "Recursion", "ascend", "enclosed_fixed_point"]

Balls = Any
Arguments = Mapping[str, Any]
SWEEPS = 5000
"""Block updates from the start, at most."""
NEWTON = 8
"""Steps of Newton's method after these, at most."""


def number(x: Any) -> Balls:
    """Return an array (1,) of a number."""
    return onp.array([x], dtype=object)


def dot(x: Balls, y: Balls) -> Balls:
    """Return the sum of products (1,)."""
    return np.sum(np.reshape(x * y, (-1,)), keepdims=True)


def mix(s: Balls, rows: Balls) -> Balls:
    """Mix rows (K, ...) by weights (T, K): (T, ...)."""
    flat = np.reshape(rows, (rows.shape[0], -1))
    return np.reshape(s @ flat, (s.shape[0], *rows.shape[1:]))


@dataclass(frozen=True)
class Problem:
    """One sequence of a latent model: which factors it has, and its sizes."""

    model: str
    steps: int
    dim: int
    states: int

    @property
    def coupled(self) -> bool:
        """Whether x_t depends on x_{t-1}."""
        return self.model in ("lds", "slds")

    @property
    def student(self) -> bool:
        """Whether states select Student-t distributions."""
        return self.model == "student"

    def markov(self, a: Arguments) -> tuple[Balls, Balls]:
        """Return the initial and pair log potentials of z."""
        if self.model in ("lds", "gaussian"):
            return zeros((1,)), zeros((1, 1))
        pair = a.get("transitions")
        return a["weights"], zeros((self.states,) * 2) if pair is None else pair

    def by_state(self, a: Arguments, name: str) -> Balls:
        """Return an argument with an axis of states in front."""
        return a[name][None] if self.model == "lds" else a[name]

    def gaussians(self, a: Arguments) -> tuple[Balls, Balls, Balls]:
        """Return J (K, D, D), h (K, D) and c (K,): of nodes, or of the first x."""
        D = self.dim
        if self.model == "gaussian":
            return -0.5 * eye(D)[None], zeros((1, D)), number(-0.5 * D * log_2pi())
        factor = "init" if self.coupled else "components"
        J, h, quadratic, half_log_det = (
            self.by_state(a, f"{factor}.{part}")
            for part in ("J", "h", "quadratic", "half_log_det")
        )
        c = np.reshape(quadratic + half_log_det, (-1,)) - 0.5 * D * log_2pi()
        return 0.5 * (J + transpose(J)), h, c

    def pairs(self, a: Arguments) -> dict[str, Balls]:
        """Return J11, J12, J22, h1, h2 (K, ...) and c (K,) of dynamics.

        Those of [A b] and [x; 1] hold the linear terms of b in their last row and
        column.
        """
        D = self.dim
        J11, J12, J22, half_log_det = (
            self.by_state(a, f"dynamics.{part}")
            for part in ("J11", "J12", "J22", "half_log_det")
        )
        c = np.reshape(half_log_det, (-1,)) - 0.5 * D * log_2pi()
        h1 = h2 = zeros((self.states, D))
        J11, J22 = (0.5 * (J + transpose(J)) for J in (J11, J22))
        if J11.shape[-1] > D:
            h1, h2 = 2.0 * J11[:, :D, D], J12[:, D]
            c = c + J11[:, D, D]
            J11, J12 = J11[:, :D, :D], J12[:, :D]
        return {"J11": J11, "J12": J12, "J22": J22, "h1": h1, "h2": h2, "c": c}

    def node(self, a: Arguments) -> tuple[Balls, Balls]:
        """Return the evidence J (T, D, D) and h (T, D)."""
        J, h = a["node.J"], a["node.h"]
        if J.ndim == h.ndim:
            J = J[..., None] * eye(self.dim)
        return 0.5 * (J + transpose(J)), h

    def constants(self, a: Arguments) -> Balls:
        """Return c (T, K)."""
        c = self.gaussians(a)[2]
        T = self.steps
        if not self.coupled:
            return c[None] + zeros((T, 1))
        if T == 1:
            return c[None]
        later = self.pairs(a)["c"][None] + zeros((T - 1, 1))
        return np.concatenate([c[None], later])

    def state_potentials(self, a: Arguments, linear: Balls) -> Balls:
        """Return u (T, K) of <P, E f> (T, K)."""
        if not self.student:
            return linear + self.constants(a)
        nu, dim = a["dof"], 1.0 * self.dim
        c = lgamma(0.5 * (nu + dim)) - lgamma(0.5 * nu)
        c = c - 0.5 * dim * (np.log(nu) + arb.pi().log())
        tails = 0.5 * (nu + dim) * np.log1p(-2.0 * linear / nu)
        return a["components.half_log_det"] + c - tails

    def gain(self, a: Arguments, linear: Balls) -> Balls:
        """Return E[u], the derivative of u in <P, E f>; 1 of Gaussians."""
        if not self.student:
            return exact(onp.ones(linear.shape))
        nu = a["dof"]
        return (nu + 1.0 * self.dim) / (nu - 2.0 * linear)


class Recursion:
    """The first derivation: one step after the other, derivatives by autograd."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def chain(self, a: Arguments, s: Balls) -> dict[str, Balls]:
        """Return the potentials of x, mixed by s (T, K); one sequence."""
        of, (J, h) = self.problem, self.problem.node(a)
        T, D = of.steps, of.dim
        rows_J, rows_h, _ = of.gaussians(a)
        weights = s[:1] if of.coupled else s
        J_mixed, h_mixed = mix(weights, rows_J), mix(weights, rows_h)
        pair = {name: zeros((T - 1, D, D)) for name in ("J11", "J12", "J22")}
        init = zeros((D, D)), zeros((D,))
        if of.coupled:
            init = J_mixed[0], h_mixed[0]
            if T > 1:
                parts = of.pairs(a)
                pair = {name: mix(s[1:], parts[name]) for name in pair}
                nothing = zeros((1, D))
                h = h + np.concatenate([mix(s[1:], parts["h1"]), nothing])
                h = h + np.concatenate([nothing, mix(s[1:], parts["h2"])])
        else:
            J, h = J + J_mixed, h + h_mixed
        every = {"init.J": init[0], "init.h": init[1], "node.J": J, "node.h": h}
        every |= {f"pair.{name}": x for name, x in pair.items()}
        return {name: x[None] for name, x in every.items()}

    def log_integral(self, a: Arguments, s: Balls) -> Balls:
        """Return log Z_x (1,), with what of <P, E f> is constant."""
        total = gaussian_integral(self.chain(a, s), 0, self.problem.steps)
        if self.problem.student:
            total = total + dot(s, a["components.quadratic"] + zeros(s.shape))
        return total

    def linear(self, a: Arguments, s: Balls) -> Balls:
        """Return <P, E f> (T, K): the gradient of log Z_x in s."""
        return pull_back(lambda by: self.log_integral(a, by["s"]), {"s": s})["s"]

    def log_sum(self, a: Arguments, u: Balls) -> Balls:
        """Return log Z_z (1,)."""
        init, pair = self.problem.markov(a)
        pairs = pair[None, None] + zeros((1, max(len(u) - 1, 1), 1, 1))
        every = {"init": init[None], "pair": pairs, "node": u[None]}
        return markov_sum(every, 0, len(u))

    def probabilities(self, a: Arguments, u: Balls) -> Balls:
        """Return those of the states (T, K): the gradient of log Z_z in u."""
        return pull_back(lambda by: self.log_sum(a, by["u"]), {"u": u})["u"]

    def update(self, a: Arguments, s: Balls) -> Balls:
        """Return G(s)."""
        linear = self.linear(a, s)
        u = self.problem.state_potentials(a, linear)
        return self.probabilities(a, u) * self.problem.gain(a, linear)

    def jacobian(self, a: Arguments, s: Balls) -> Balls:
        """Return G' (T K, T K)."""
        size, rows = s.size, []
        for unit in onp.eye(size).reshape(size, *s.shape):
            gradient = pull_back(
                lambda by, unit=unit: dot(exact(unit), self.update(a, by["s"])),
                {"s": s},
            )
            rows.append(gradient["s"].reshape(-1))
        return onp.stack(rows)

    def bound(self, a: Arguments, s: Balls) -> Balls:
        """Return the surrogate bound (1,) after a sweep from s."""
        linear = self.linear(a, s)
        u = self.problem.state_potentials(a, linear)
        return self.log_integral(a, s) + self.log_sum(a, u) - dot(s, linear)

    def moments(self, a: Arguments, s: Balls) -> tuple[Balls, Balls]:
        """Return E[x_t] (T, D) and E[x_t x_t'] (T, D, D) given s."""
        T, D = self.problem.steps, self.problem.dim
        gradient = pull_back(
            lambda by: self.log_integral(
                {**a, "node.J": by["J"], "node.h": by["h"]}, s
            ),
            {"J": self.problem.node(a)[0], "h": a["node.h"] + zeros((T, D))},
        )
        return gradient["h"], gradient["J"]

    def samples(self, a: Arguments, s: Balls, noise: Balls) -> Balls:
        """Return samples (S, T, D) of x given s, drawn backwards."""
        return backward_samples(self.chain(a, s), noise, 0)


class Dense:
    """The second derivation: all of x at once, path by path; covariances."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        K, T = problem.states, problem.steps
        self.paths = onp.array(list(product(range(K), repeat=T)))
        self.indicators = exact(onp.eye(K)[self.paths].reshape(len(self.paths), -1))
        """(R, T K), which state a path has at each step."""

    def place(self, t: int) -> slice:
        """Return where x_t is among all x."""
        return slice(t * self.problem.dim, (t + 1) * self.problem.dim)

    def rows(self, a: Arguments) -> tuple[Balls, Balls]:
        """Return P_tk as potentials of all x: (T K, T D, T D) and (T K, T D)."""
        of = self.problem
        T, K, size = of.steps, of.states, of.steps * of.dim
        J, h = zeros((T, K, size, size)), zeros((T, K, size))
        rows_J, rows_h, _ = of.gaussians(a)
        for t in range(T):
            here = self.place(t)
            if t == 0 or not of.coupled:
                J[t][:, here, here], h[t][:, here] = rows_J, rows_h
                continue
            before, parts = self.place(t - 1), of.pairs(a)
            J[t][:, before, before] = parts["J11"]
            J[t][:, here, here] = parts["J22"]
            J[t][:, before, here] = 0.5 * parts["J12"]
            J[t][:, here, before] = 0.5 * transpose(parts["J12"])
            h[t][:, before], h[t][:, here] = parts["h1"], parts["h2"]
        return J.reshape(T * K, size, size), h.reshape(T * K, size)

    def evidence(self, a: Arguments) -> tuple[Balls, Balls]:
        """Return the node potentials of all x, (T D, T D) and (T D,)."""
        J, h = self.problem.node(a)
        size = h.size
        whole = zeros((size, size))
        for t, block in enumerate(J):
            whole[self.place(t), self.place(t)] = block
        return whole, h.reshape(size)

    def gaussian(self, a: Arguments, s: Balls) -> tuple[Balls, Balls, Balls]:
        """Return precision, covariance and mean of all x given weights s."""
        (rows_J, rows_h), (J, h) = self.rows(a), self.evidence(a)
        weights = s.reshape(-1)
        P = -2 * (J + onp.tensordot(weights, rows_J, 1))
        cov = inverse(P)
        return P, cov, cov @ (h + weights @ rows_h)

    def linear(self, a: Arguments, s: Balls) -> Balls:
        """Return <P, E f> (T, K)."""
        _, cov, mean = self.gaussian(a, s)
        rows_J, rows_h = self.rows(a)
        second = cov + onp.outer(mean, mean)
        found = (rows_J * second).sum((1, 2)) + rows_h @ mean
        found = found.reshape(s.shape)
        if self.problem.student:
            found = found + a["components.quadratic"]
        return found

    def path_weights(self, a: Arguments, u: Balls) -> tuple[Balls, Balls]:
        """Return log potentials and probabilities of all paths, (R,) each."""
        init, pair = self.problem.markov(a)
        scores = self.indicators @ u.reshape(-1) + init[self.paths[:, 0]]
        for t in range(1, self.problem.steps):
            scores = scores + pair[self.paths[:, t - 1], self.paths[:, t]]
        weights = onp.exp(scores)
        return scores, weights / weights.sum()

    def update(self, a: Arguments, s: Balls) -> Balls:
        """Return G(s)."""
        linear = self.linear(a, s)
        u = self.problem.state_potentials(a, linear)
        states = (self.path_weights(a, u)[1] @ self.indicators).reshape(s.shape)
        return states * self.problem.gain(a, linear)

    def state_covariance(self, a: Arguments, u: Balls) -> Balls:
        """Return the covariance (T K, T K) of the indicators of states."""
        p = self.path_weights(a, u)[1]
        mean = p @ self.indicators
        return self.indicators.T @ (p[:, None] * self.indicators) - onp.outer(
            mean, mean
        )

    def row_covariance(
        self, a: Arguments, s: Balls, J: Balls, h: Balls
    ) -> tuple[Balls, Balls]:
        """Return Cov(x'P x + p'x, x'J x + h'x) (T K, M) of quadratic functions.

        By Isserlis' theorem ``2 tr(P S J S) + (2 P m + p)' S (2 J m + h)``; J are
        (M, T D, T D), h (M, T D).
        """
        _, cov, mean = self.gaussian(a, s)
        rows_J, rows_h = self.rows(a)
        left = (cov @ rows_J @ cov).reshape(len(rows_J), -1)
        slopes = (2 * rows_J @ mean + rows_h) @ cov
        return 2 * left @ J.reshape(len(J), -1).T + slopes @ (2 * J @ mean + h).T

    def jacobian(self, a: Arguments, s: Balls) -> Balls:
        """Return G' (T K, T K), a product of covariances."""
        linear = self.linear(a, s)
        u = self.problem.state_potentials(a, linear)
        gain = self.problem.gain(a, linear).reshape(-1)
        K = self.row_covariance(a, s, *self.rows(a))
        states = self.path_weights(a, u)[1] @ self.indicators
        H = self.state_covariance(a, u)
        moved = gain[:, None] * (H @ (gain[:, None] * K))
        if self.problem.student:  # d gain / d<P, E f> = 2 gain^2 / (nu + D)
            nu = onp.tile(a["dof"] * exact(onp.ones(s.shape[1])), len(s))
            slope = states * 2 * gain * gain / (nu + self.problem.dim)
            moved = moved + slope[:, None] * K
        return moved

    def bound(self, a: Arguments, s: Balls) -> Balls:
        """Return E log p(x, z) + E<r, t> + entropies (1,), path by path.

        Of q(x) that is optimal given s, and of q(z) that is optimal given q(x).
        """
        P, cov, mean = self.gaussian(a, s)
        second = cov + onp.outer(mean, mean)
        J, h = self.evidence(a)
        u = self.problem.state_potentials(a, self.linear(a, s))
        scores, p = self.path_weights(a, u)
        of_states = (p * (scores - onp.log(p))).sum()
        of_x = (J * second).sum() + h @ mean
        size = len(mean)
        entropy = 0.5 * (size * (log_2pi() + 1) - log_det(P)[0, 0])
        return number(of_states + of_x + entropy)

    def moments(self, a: Arguments, s: Balls) -> tuple[Balls, Balls]:
        """Return E[x_t] (T, D) and E[x_t x_t'] (T, D, D) given s."""
        _, cov, mean = self.gaussian(a, s)
        second = cov + onp.outer(mean, mean)
        here = [self.place(t) for t in range(self.problem.steps)]
        blocks = onp.stack([second[place, place] for place in here])
        return mean.reshape(len(here), -1), blocks

    def samples(self, a: Arguments, s: Balls, noise: Balls) -> Balls:
        """Return samples (S, T, D): mean + L^-T noise, P = L L'."""
        P, _, mean = self.gaussian(a, s)
        flat = noise.reshape(len(noise), -1)
        drawn = solve(transpose(cholesky(P)), flat.T).T + mean
        return drawn.reshape(noise.shape)


def log_evidence(derivation: Any, a: Arguments) -> Balls:
    """Return log of the sum over z of the integral over x (1,): what is bounded.

    Each path fixes s, and with it a Gaussian; its constants are the chain's potentials.
    """
    of = derivation.problem
    dense = Dense(of)
    terms = []
    for path in dense.paths:
        s = exact(onp.eye(of.states)[path])
        if isinstance(derivation, Dense):
            P, _, mean = dense.gaussian(a, s)
            quadratic = mean @ P @ mean
            size = len(mean)
            logZ = 0.5 * (quadratic + size * log_2pi() - log_det(P)[0, 0])
        else:
            logZ = derivation.log_integral(a, s)[0]
        init, pair = of.markov(a)
        score = logZ + (s * of.constants(a)).sum() + init[path[0]]
        score = score + sum(pair[i, j] for i, j in zip(path, path[1:], strict=False))
        terms.append(score)
    return number(onp.exp(onp.array(terms)).sum().log())


def ascend(derivation: Any, a: Arguments, start: Balls) -> Balls:
    """Return midpoints near the fixed point that coordinate ascent leads to.

    With 80 bits until nothing moves by 2^-30; Newton's method does the rest.
    """
    with precision(80):
        s = midpoints(start)
        at = {name: _rounded(x) for name, x in a.items()}
        for _ in range(SWEEPS):
            moved = midpoints(derivation.update(at, s))
            change = max(abs(x) for x in (moved - s).flat)
            s = moved
            if change < arb(2) ** -30:
                return s
    raise Disagreement(f"coordinate ascent has not converged in {SWEEPS} sweeps")


def _rounded(x: Any) -> Any:
    return midpoints(x) if onp.asarray(x).dtype == object and onp.size(x) else x


def enclosed_fixed_point(derivation: Any, a: Arguments, start: Balls) -> Balls:
    """Return balls that hold the fixed point of G which ascent from a start leads to.

    Raises
    ------
    Disagreement
        If Krawczyk's operator does not map a box into itself.
    """
    s = ascend(derivation, a, start)
    shape, size = s.shape, s.size
    identity = eye(size)
    Y = inverse_slope(derivation, a, s)
    for _ in range(NEWTON):
        step = Y @ (s - derivation.update(a, s)).reshape(size)
        s = midpoints(s - step.reshape(shape))
        if max(abs(x) for x in step).upper() < arb(2) ** (-ctx.prec // 2):
            break
        Y = inverse_slope(derivation, a, s)
    radius = arb(2) ** (-ctx.prec // 3)
    box = onp.vectorize(lambda x: arb(x, radius), otypes=[object])(s)
    contraction = identity - Y @ (identity - derivation.jacobian(a, box))
    newton = Y @ (s - derivation.update(a, s)).reshape(size)
    image = s.reshape(size) - newton + contraction @ (box - s).reshape(size)
    for ball, inside in zip(box.flat, image, strict=True):
        if not ball.contains_interior(inside):
            raise Disagreement("Krawczyk's operator leaves its box: no proof")
    return image.reshape(shape)


def inverse_slope(derivation: Any, a: Arguments, s: Balls) -> Balls:
    """Return the midpoints of the inverse of 1 - G'(s)."""
    return midpoints(inverse(eye(s.size) - derivation.jacobian(a, s)))
