"""Reverse-mode differentiation in many arrays at once.

Autograd differentiates in one argument.  A tuple of arrays is one argument too, but
each use of an entry then costs as much as the tuple is long, which for the many small
arrays of a model is a good part of a step.  Here every array is a root of its own, in
one trace and one backward pass.

A VJP that iterates, to solve a linear system, has something to tell beside its result.
It returns `Cotangents` with diagnostics, and `trace` returns those of all nodes that a
backward pass went through.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from autograd.core import VJPNode, add_outgrads
from autograd.extend import vspace
from autograd.tracer import getval, isbox, trace_stack

from svae.autodiff.primitive import boxed

__all__ = ["Cotangents", "Diagnostics", "by_definition", "trace"]


class Diagnostics(NamedTuple):
    """How an iterative solve ended, one entry for each sequence."""

    iterations: np.ndarray
    """(N,), iterations until it converged; 0 where the answer is exact."""
    residual: np.ndarray
    """(N,), what was left: of inference, the largest change of a state's probability
    in the last update; of its gradient, the relative residual."""


class Cotangents(list[Any]):
    """A list of cotangents, and how the linear solves ended that found them.

    Parameters
    ----------
    cotangents : iterable of arrays
        One for each argument.
    diagnostics : iterable of `Diagnostics`
        One for each solve, the last of the evaluated function first.
    """

    def __init__(
        self, cotangents: Iterable[Any], diagnostics: Iterable[Diagnostics] = ()
    ) -> None:
        super().__init__(cotangents)
        self.diagnostics = list(diagnostics)


def trace(
    function: Callable[..., tuple[Any, ...]], arguments: Sequence[Any]
) -> tuple[Callable[..., Cotangents], tuple[Any, ...]]:
    """Evaluate a function and prepare its VJP in all arguments.

    Parameters
    ----------
    function : callable
        Of the arguments, returning a tuple: what is to be differentiated, and any other
        values.
    arguments : sequence of arrays

    Returns
    -------
    pull_back : callable
        Cotangents of the first values, None where there is none -> `Cotangents`, one
        for each argument (zeros for those that do not matter), with the diagnostics of
        all solves that the backward pass met.
    values : tuple
        What ``function`` returned.

    Raises
    ------
    ValueError
        If no value depends on the arguments.
    """
    roots = [VJPNode.new_root() for _ in arguments]
    with trace_stack.new_trace() as level:
        boxes = [boxed(x, level, r) for x, r in zip(arguments, roots, strict=True)]
        outputs = function(*boxes)

    def depends(output: Any) -> bool:
        return isbox(output) and output._trace == level

    if not any(map(depends, outputs)):
        raise ValueError("the function does not depend on its arguments")

    def pull_back(*cotangents: Any) -> Cotangents:
        ends = [
            (output._node, cotangent)
            for output, cotangent in zip(outputs, cotangents, strict=False)
            if cotangent is not None and depends(output)
        ]
        collected, diagnostics = _backward(ends)
        return Cotangents(
            (
                collected[root] if root in collected else vspace(x).zeros()
                for root, x in zip(roots, arguments, strict=True)
            ),
            diagnostics,
        )

    return pull_back, tuple(getval(x) if depends(x) else x for x in outputs)


def by_definition(
    definition: Callable[..., Any],
    argnums: Sequence[int],
    args: Sequence[Any],
    g: Any,
) -> Cotangents:
    """Pull a cotangent back through the definition of a primitive.

    That can be differentiated again, where the primitive's own VJP cannot.

    Parameters
    ----------
    definition : callable
        What the primitive computes, in operations that autograd differentiates.
    argnums : sequence of int
        Which of the arguments are differentiated.
    args : sequence
    g : array
        Cotangent of the result.
    """

    def of_chosen(*chosen: Any) -> tuple[Any]:
        swapped = dict(zip(argnums, chosen, strict=True))
        return (definition(*(swapped.get(k, x) for k, x in enumerate(args))),)

    return trace(of_chosen, [args[k] for k in argnums])[0](g)


def _backward(ends: Sequence[tuple[Any, Any]]) -> tuple[dict[Any, Any], list[Any]]:
    """Return cotangents of the roots, and diagnostics of the nodes on the way.

    Autograd's own pass keeps the cotangent of a single root.
    """
    sums: dict[Any, Any] = {}
    for end, cotangent in ends:
        sums[end] = _added(sums.get(end), cotangent)
    diagnostics: list[Diagnostics] = []
    for node in _last_first(sums):
        parts = node.vjp(sums.pop(node)[0])
        if type(parts) is Cotangents:
            diagnostics += parts.diagnostics
        for parent, part in zip(node.parents, parts, strict=True):
            sums[parent] = _added(sums.get(parent), part)
    return {root: total for root, (total, _) in sums.items()}, diagnostics


def _added(known: tuple[Any, bool] | None, part: Any) -> tuple[Any, bool]:
    """Add to a cotangent, which may be written to if it is marked so.

    Plain arrays are what nearly all are; autograd knows about everything.
    """
    if type(part) is np.ndarray:
        if known is None:
            return part, False
        total, is_own = known
        if type(total) is np.ndarray and not is_own:
            return total + part, True
    found: tuple[Any, bool] = add_outgrads(known, part)
    return found


def _last_first(ends: Iterable[Any]) -> list[Any]:
    """List all that ends depend on, each node behind those that depend on it.

    Without the roots, which have no parents.
    """
    order, seen, waiting = [], set(), [(end, False) for end in ends if end.parents]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend([(x, False) for x in node.parents if x.parents])
    return order[::-1]
