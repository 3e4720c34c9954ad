r"""Mean-field inference between a discrete and a continuous factor.

Let ``s`` be the expected statistics of the discrete factor q(z), and let ``u`` be its
natural parameters.  Given s, the continuous factor q(x) is optimal in closed form, and
its statistics give back the potentials of q(z):

.. math:: u = U(s; a), \qquad s = \mathbb{E}_u[t(z)] =: S(u; a),

a being the message m and the node potentials r.  Block coordinate ascent iterates the
two until they agree, from one start or from several of which the best end is kept.  At
the fixed point the local factor is a function of a, and its derivative follows from the
implicit function theorem.  With H the Hessian of q(z)'s log normalizer (the Jacobian of
S in u) and K the Jacobian of U in s, which is symmetric too,

.. math:: (I - H K)\, ds = H\, \partial_a U\, da + \partial_a S\, da ,

so a cotangent g on s is pulled back by solving ``(I - K H) v = g``, handing ``v`` to
the VJP of S in a and ``H v`` to that of U.  ``I - K H`` is self-adjoint in the inner
product ``a' H b`` and positive definite there at a strict local optimum, so conjugate
gradients solve it; a direction of negative curvature shows that the ascent stopped at a
saddle point.

This differentiates the fixed point of Johnson et al. (2016), Section 4.2, without
truncation; the linear system is that of Bendekgey et al. (2023), symmetrised.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from autograd.extend import defvjp_argnums

from svae.autodiff.primitive import primitive
from svae.autodiff.trees import tree_map
from svae.autodiff.vjp import Cotangents, Diagnostics, trace
from svae.types import VJP, Array, Mask

__all__ = [
    "Alternation",
    "ConvergenceWarning",
    "conjugate_gradients",
    "fixed_point",
    "warn_of_gradient",
    "warn_of_inference",
]


Product = Callable[[np.ndarray], np.ndarray]

GRADIENT_TOLERANCE = 1e-8
"""Relative residual at which the linear solve of a gradient has converged."""
GRADIENT_ITERATIONS = 1000
"""Iterations that it may take."""


class ConvergenceWarning(RuntimeWarning):
    """An iterative solve of inference ended before it reached its tolerance."""


class Alternation(NamedTuple):
    """The two blocks, sequence by sequence: functions of s or u, constants, arguments.

    The constants are a tree of arrays with the sequence axis first, in which nothing is
    differentiated; the arguments are arrays.
    """

    potentials: Callable[..., Any]
    """U: (s, constants, *arguments) -> u."""
    statistics: Callable[..., Any]
    """S: (u, constants, *arguments) -> s."""
    surrogate: Callable[..., Any]
    """(s, constants, *arguments) -> (N,), what the ascent ascends."""
    starts: Callable[..., Sequence[np.ndarray]]
    """(constants, *arguments) -> values of s to start from."""
    per_sequence: tuple[bool, ...]
    """Which of the arguments have the sequence axis first."""
    normalized: bool = True
    """Whether s are probabilities over the last axis, which a constant added to all
    entries of u there does not change."""

    def of_sequences(
        self, rows: np.ndarray, constants: Any, arguments: Sequence[Any]
    ) -> tuple[Any, list[Any]]:
        """Return the constants and arguments of some sequences."""
        chosen = [
            a[rows] if per_sequence else a
            for a, per_sequence in zip(arguments, self.per_sequence, strict=True)
        ]
        return tree_map(lambda a: a[rows], constants), chosen


def ascend(
    blocks: Alternation,
    start: Any,
    tolerance: float,
    max_iterations: int,
    constants: Any,
    arguments: Sequence[Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Iterate s <- S(U(s)) for each sequence until it moves less than ``tolerance``.

    Sequences leave the iteration as they converge, so that the result for one does not
    depend on its neighbours.  Returns s, iterations (N,) and last moves (N,).
    """
    current = np.array(start)
    iterations = np.zeros(len(current))
    residual = np.full(len(current), np.inf)
    active, states = np.arange(len(current)), current
    fixed, local = constants, arguments
    for _ in range(max_iterations):
        natparams = blocks.potentials(states, fixed, *local)
        updated = blocks.statistics(natparams, fixed, *local)
        change = np.abs(updated - states).reshape(len(active), -1).max(axis=1)
        residual[active], current[active], states = change, updated, updated
        iterations[active] += 1
        moving = change > tolerance
        if np.all(moving):
            continue
        active, states = active[moving], updated[moving]
        if len(active) == 0:
            break
        fixed, local = blocks.of_sequences(active, constants, arguments)
    return current, iterations, residual


def best_ascent(
    blocks: Alternation,
    starts: Sequence[Any],
    tolerance: float,
    max_iterations: int,
    constants: Any,
    arguments: Sequence[Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ascend from every start; of each sequence keep the end of highest surrogate."""
    ends = [
        ascend(blocks, start, tolerance, max_iterations, constants, arguments)
        for start in starts
    ]
    if len(ends) == 1:
        best = ends[0]
    else:
        heights = [blocks.surrogate(end[0], constants, *arguments) for end in ends]
        choice, rows = np.argmax(heights, axis=0), np.arange(len(heights[0]))
        states, iterations, residual = (
            np.stack(column) for column in zip(*ends, strict=True)
        )
        spent = iterations.sum(axis=0)
        best = states[choice, rows], spent, residual[choice, rows]
    warn_of_inference(best[2], tolerance, max_iterations)
    return best


def warn_of_inference(
    residual: np.ndarray, tolerance: float, max_iterations: int
) -> None:
    """Warn of sequences (N,) whose ascent did not converge."""
    unconverged = np.flatnonzero(residual > tolerance)
    if len(unconverged):
        warnings.warn(
            f"mean-field inference of {len(unconverged)} of {len(residual)} sequences "
            f"(first: {unconverged[0]}) moved by {residual.max():.1e} > "
            f"{tolerance:.1e} in iteration {max_iterations}, the last allowed",
            ConvergenceWarning,
            stacklevel=3,
        )


def conjugate_gradients(
    hessian: Product,
    coupling: Product,
    target: np.ndarray,
    states: np.ndarray | None,
    tolerance: float = GRADIENT_TOLERANCE,
    max_iterations: int = GRADIENT_ITERATIONS,
    products_of: Callable[[np.ndarray], tuple[Product, Product]] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Solve (I - K H) v = g for each sequence, in the inner product a' H b.

    Where s are probabilities H does not see constants over the last axis: adding one to
    the potentials of all states changes no probability.  They are projected away, so
    that the small variance of a nearly certain state keeps its digits.

    Parameters
    ----------
    hessian, coupling : callable
        The symmetric products H a and K a, (N, ..., K) to the same, sequence by
        sequence.
    target : (N, ..., K) array
        g.
    states : (N, ..., K) array or None
        The probabilities s at which H is taken; None if s are none.
    tolerance : float
        Relative size of the residual, in the norm of H, at which to stop.
    max_iterations : int
    products_of : callable, optional
        Makes ``hessian`` and ``coupling`` of some sequences alone, given their indices.
        By default those that have converged are multiplied along with the last ones.

    Returns
    -------
    solution : (N, ...) array
        v, up to constants over the last axis.
    product : (N, ...) array
        H v.
    iterations : (N,) array
    residual : (N,) array
        Relative size of the residual reached.

    Warns
    -----
    ConvergenceWarning
        If a sequence needs more iterations, or meets a direction of negative curvature
        (the fixed point is a saddle); its last iterate is returned.
    """

    def dot(a: Array, b: Array) -> Array:
        return np.sum(a * b, axis=tuple(range(1, a.ndim)))

    def scale(factor: Array, array: Array) -> Array:
        return factor.reshape((-1,) + (1,) * (array.ndim - 1)) * array

    def divide(a: Array, b: Array, where: Mask) -> Array:
        return np.divide(a, b, out=np.zeros_like(a), where=where)

    def project(array: Array) -> Array:
        if states is None:
            return array
        return array - np.sum(states * array, axis=-1, keepdims=True)

    def without_rounding(array: Array) -> Array:
        # what is left of a constant is no target that could be reached
        size, whole = (np.max(np.abs(a), axis=-1) for a in (array, target))
        is_rounding = size <= 4.0 * np.finfo(float).eps * whole
        return np.where(is_rounding[..., None], 0.0, array)

    products = _Products(hessian, coupling, products_of)
    # H v is summed beside v: a product with H is a pass through the chain
    solution, product = np.zeros_like(target), np.zeros_like(target)
    iterations = np.zeros(len(target))
    direction = residual = without_rounding(project(target))
    hessian_direction = hessian_residual = products.hessian(residual)
    start_size = size = dot(residual, hessian_residual)
    active = size > 0
    for _ in range(max_iterations):
        if not np.any(active):
            break
        products.narrow(active)
        image = project(direction - products.coupling(hessian_direction))
        curvature = dot(hessian_direction, image)
        active = active & (curvature > 0)
        iterations += active
        rate = divide(size, curvature, active)
        solution = solution + scale(rate, direction)
        product = product + scale(rate, hessian_direction)
        residual = residual - scale(rate, image)
        hessian_residual = products.hessian(residual)
        new_size = np.where(active, dot(residual, hessian_residual), size)
        growth = divide(new_size, size, active)
        direction = residual + scale(growth, direction)
        hessian_direction = hessian_residual + scale(growth, hessian_direction)
        size = new_size
        active = active & (size > tolerance**2 * start_size)
    reached = np.sqrt(divide(np.abs(size), start_size, start_size > 0))
    warn_of_gradient(reached, tolerance)
    return solution, product, iterations, reached


class _Products:
    """Products with H and K of the sequences that still iterate.

    A product is a pass through both chains.  Once three quarters of the sequences have
    converged the others go on without them; products of those left out are zeros.
    """

    def __init__(
        self,
        hessian: Product,
        coupling: Product,
        products_of: Callable[[np.ndarray], tuple[Product, Product]] | None,
    ) -> None:
        self._products = hessian, coupling
        self._products_of = products_of
        self._rows: np.ndarray | None = None

    def narrow(self, active: Mask) -> None:
        """Leave out sequences that are not active (N,), if they are many."""
        if self._products_of is None:
            return
        count = len(active) if self._rows is None else len(self._rows)
        if 4 * np.count_nonzero(active) <= count:
            self._rows = np.flatnonzero(active)
            self._products = self._products_of(self._rows)

    def hessian(self, array: np.ndarray) -> np.ndarray:
        """Return H a."""
        return self._multiply(self._products[0], array)

    def coupling(self, array: np.ndarray) -> np.ndarray:
        """Return K a."""
        return self._multiply(self._products[1], array)

    def _multiply(self, product: Product, array: np.ndarray) -> np.ndarray:
        if self._rows is None:
            return product(array)
        result = np.zeros_like(array)
        result[self._rows] = product(array[self._rows])
        return result


def warn_of_gradient(residual: np.ndarray, tolerance: float) -> None:
    """Warn of sequences (N,) whose gradient's linear solve did not converge."""
    failed = np.flatnonzero(residual > tolerance)
    if len(failed):
        warnings.warn(
            f"the gradient through mean-field inference is inexact for {len(failed)} "
            f"of {len(residual)} sequences (first: {failed[0]}): relative residual "
            f"{residual.max():.1e} > {tolerance:.1e}",
            ConvergenceWarning,
            stacklevel=3,
        )


def fixed_point(
    blocks: Alternation, tolerance: float, max_iterations: int
) -> Callable[..., Any]:
    """Make the differentiable map from arguments to the mean-field fixed point.

    Parameters
    ----------
    blocks : Alternation
    tolerance : float
        Largest change of an entry of s at which a sequence counts as converged.
    max_iterations : int

    Returns
    -------
    solve : callable
        ``solve(starts, constants, *arguments) -> (s, iterations, residual)``,
        (N, ...), (N,) and (N,), the first differentiable in the arguments.  A sequence
        that did not converge shows in its residual and in a `ConvergenceWarning`.
        ``starts`` None means those of the blocks.  Its VJP returns `Cotangents` with
        the diagnostics of the linear solve.
    """

    @primitive
    def solve(
        starts: Any, constants: Any, *arguments: Any
    ) -> tuple[Array, Array, Array]:
        if starts is None:
            starts = blocks.starts(constants, *arguments)
        return best_ascent(
            blocks, starts, tolerance, max_iterations, constants, arguments
        )

    def solve_vjp(
        argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> VJP:
        fixed = ans[0]
        _, constants, *arguments = args

        def products_at(
            states: Array, constants: Any, arguments: Sequence[Any]
        ) -> tuple[Product, Product, Array]:
            coupling, (natparams,) = trace(
                lambda s: (blocks.potentials(s, constants, *arguments),), [states]
            )
            hessian, _ = trace(
                lambda u: (blocks.statistics(u, constants, *arguments),), [natparams]
            )
            return lambda a: hessian(a)[0], lambda a: coupling(a)[0], natparams

        def products_of(rows: np.ndarray) -> tuple[Product, Product]:
            chosen = blocks.of_sequences(rows, constants, arguments)
            return products_at(fixed[rows], *chosen)[:2]

        def pull_back(g: Array) -> Cotangents:
            hessian, coupling, natparams = products_at(fixed, constants, arguments)
            solution, product, iterations, residual = conjugate_gradients(
                hessian,
                coupling,
                g[0],
                fixed if blocks.normalized else None,
                products_of=products_of,
            )
            through_U, _ = trace(
                lambda *a: (blocks.potentials(fixed, constants, *a),), arguments
            )
            through_S, _ = trace(
                lambda *a: (blocks.statistics(natparams, constants, *a),), arguments
            )
            pairs = zip(through_U(product), through_S(solution), strict=True)
            cotangents = [None, None, *(a + b for a, b in pairs)]
            return Cotangents(
                (cotangents[argnum] for argnum in argnums),
                [Diagnostics(iterations, residual)],
            )

        return pull_back

    defvjp_argnums(solve, solve_vjp)
    return solve
