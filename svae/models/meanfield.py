r"""Mean-field inference between a discrete and a continuous factor.

Let ``s`` be the expected statistics of the discrete factor q(z), and let ``u`` be its
natural parameters.  Given s, the continuous factor q(x) is optimal in closed form, and
its statistics give back the potentials of q(z):

.. math:: u = U(s; m, r), \qquad s = \mathbb{E}_u[t(z)] =: S(u).

Block coordinate ascent iterates the two until they agree.  At the fixed point the local
factor is a function of the message m and of the node potentials r, and its derivative
follows from the implicit function theorem.  With H the Hessian of q(z)'s log normalizer
(the Jacobian of S) and K the Jacobian of U in s, which is symmetric too,

.. math:: ds = H (I - K H)^{-1} \, \partial U ,

so a cotangent g on s is pulled back by solving ``(I - K H) v = g`` and handing ``H v``
to the VJP of U.  ``I - K H`` is self-adjoint in the inner product ``a' H b`` and
positive definite there at a strict local optimum, so conjugate gradients solve it; a
direction of negative curvature shows that the ascent stopped at a saddle point.

This differentiates the fixed point of Johnson et al. (2016), Section 4.2, without
truncation; the linear system is that of Bendekgey et al. (2023), symmetrised.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from autograd.extend import defvjp_argnums, primitive

from svae.vjp import trace

__all__ = ["ConvergenceWarning", "conjugate_gradients", "fixed_point"]


class ConvergenceWarning(RuntimeWarning):
    """An iterative solve of inference ended before it reached its tolerance."""


def ascend(
    potentials: Any,
    statistics: Any,
    start: Any,
    tolerance: float,
    max_iterations: int,
    arguments: Any,
) -> Any:
    """Iterate s <- S(U(s)) for each sequence until it moves less than ``tolerance``.

    Sequences leave the iteration as they converge, so that the result for one does not
    depend on its neighbours.  ``arguments`` are pairs (array, per_sequence).
    """
    current = np.array(start)
    iterations = np.zeros(len(current))
    residual = np.full(len(current), np.inf)
    active = np.arange(len(current))
    for _ in range(max_iterations):
        local = [a[active] if per_sequence else a for a, per_sequence in arguments]
        updated = statistics(potentials(current[active], *local))
        change = np.abs(updated - current[active])
        residual[active] = change.reshape(len(active), -1).max(axis=1)
        current[active] = updated
        iterations[active] += 1
        active = active[residual[active] > tolerance]
        if len(active) == 0:
            return current, iterations, residual
    warnings.warn(
        f"mean-field inference of {len(active)} of {len(current)} sequences (first: "
        f"{active[0]}) moved by {residual.max():.1e} > {tolerance:.1e} in iteration "
        f"{max_iterations}, the last allowed",
        ConvergenceWarning,
        stacklevel=2,
    )
    return current, iterations, residual


def conjugate_gradients(
    hessian: Callable[[np.ndarray], np.ndarray],
    coupling: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    states: np.ndarray,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve (I - K H) v = g for each sequence, in the inner product a' H b.

    H does not see constants over the last axis: adding one to the potentials of all
    states changes no probability.  They are projected away, so that the small variance
    of a nearly certain state keeps its digits.

    Parameters
    ----------
    hessian, coupling : callable
        The symmetric products H a and K a, (N, ..., K) to the same, sequence by
        sequence.
    target : (N, ..., K) array
        g.
    states : (N, ..., K) array
        The probabilities s at which H is taken.
    tolerance : float
        Relative size of the residual, in the norm of H, at which to stop.
    max_iterations : int

    Returns
    -------
    product : (N, ...) array
        H v.
    residual : (N,) array
        Relative size of the residual reached.

    Warns
    -----
    ConvergenceWarning
        If a sequence needs more iterations, or meets a direction of negative curvature
        (the fixed point is a saddle); its last iterate is returned.
    """

    def dot(a: Any, b: Any) -> Any:
        return np.sum(a * b, axis=tuple(range(1, a.ndim)))

    def scale(factor: Any, array: Any) -> Any:
        return factor.reshape((-1,) + (1,) * (array.ndim - 1)) * array

    def divide(a: Any, b: Any, where: Any) -> Any:
        return np.divide(a, b, out=np.zeros_like(a), where=where)

    def project(array: Any) -> Any:
        return array - np.sum(states * array, axis=-1, keepdims=True)

    # Only H v is wanted, so v itself is never formed.
    product = np.zeros_like(target)
    direction = residual = project(target)
    hessian_direction = hessian_residual = hessian(residual)
    start_size = size = dot(residual, hessian_residual)
    active = size > 0
    for _ in range(max_iterations):
        if not np.any(active):
            break
        image = project(direction - coupling(hessian_direction))
        curvature = dot(hessian_direction, image)
        active = active & (curvature > 0)
        rate = divide(size, curvature, active)
        product = product + scale(rate, hessian_direction)
        residual = residual - scale(rate, image)
        hessian_residual = hessian(residual)
        new_size = np.where(active, dot(residual, hessian_residual), size)
        growth = divide(new_size, size, active)
        direction = residual + scale(growth, direction)
        hessian_direction = hessian_residual + scale(growth, hessian_direction)
        size = new_size
        active = active & (size > tolerance**2 * start_size)
    reached = np.sqrt(divide(np.abs(size), start_size, start_size > 0))
    if np.any(reached > tolerance):
        failed = np.flatnonzero(reached > tolerance)
        warnings.warn(
            f"the gradient through mean-field inference is inexact for {len(failed)} "
            f"of {len(target)} sequences (first: {failed[0]}): relative residual "
            f"{reached.max():.1e} > {tolerance:.1e}",
            ConvergenceWarning,
            stacklevel=2,
        )
    return product, reached


def fixed_point(
    potentials: Callable[..., Any],
    statistics: Callable[[Any], Any],
    initial: Callable[..., np.ndarray],
    per_sequence: tuple[bool, ...],
    tolerance: float,
    max_iterations: int,
) -> Callable[..., Any]:
    """Make the differentiable map from arguments to the mean-field fixed point.

    Parameters
    ----------
    potentials : callable
        U: (s, *arguments) -> u, sequence by sequence.
    statistics : callable
        S: u -> s.
    initial : callable
        (*arguments) -> s to start from.
    per_sequence : tuple of bool
        Which of the arguments carry the sequence axis first.
    tolerance : float
        Largest change of an entry of s at which a sequence counts as converged.
    max_iterations : int

    Returns
    -------
    solve : callable
        (*arguments) -> (s, iterations, residual), (N, ...), (N,) and (N,), the first
        differentiable in the arguments.  A sequence that did not converge shows in
        its residual and in a `ConvergenceWarning`.
    """

    @primitive
    def solve(*arguments: Any) -> Any:
        pairs = list(zip(arguments, per_sequence, strict=True))
        start = initial(*arguments)
        return ascend(potentials, statistics, start, tolerance, max_iterations, pairs)

    def solve_vjp(argnums: Any, ans: Any, arguments: Any, kwargs: Any) -> Any:
        fixed = ans[0]

        def pull_back(g: Any) -> Any:
            coupling, (natparams,) = trace(
                lambda s: (potentials(s, *arguments),), [fixed]
            )
            hessian, _ = trace(lambda u: (statistics(u),), [natparams])
            product, _ = conjugate_gradients(
                lambda a: hessian(a)[0], lambda a: coupling(a)[0], g[0], fixed
            )
            of_arguments, _ = trace(lambda *a: (potentials(fixed, *a),), arguments)
            cotangents = of_arguments(product)
            return [cotangents[argnum] for argnum in argnums]

        return pull_back

    defvjp_argnums(solve, solve_vjp)
    return solve
