"""Reverse-mode differentiation in many arrays at once.

Autograd differentiates in one argument.  A tuple of arrays is one argument too, but
each use of an entry then costs as much as the tuple is long, which for the many small
arrays of a model is a good part of a step.  Here every array is a root of its own, in
one trace and one backward pass.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autograd.core import VJPNode, add_outgrads
from autograd.extend import vspace
from autograd.tracer import getval, isbox, new_box, trace_stack

__all__ = ["trace"]


def trace(
    function: Callable[..., tuple[Any, ...]], arguments: Sequence[Any]
) -> tuple[Callable[..., list[Any]], tuple[Any, ...]]:
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
        Cotangents of the first values, None where there is none -> list of cotangents,
        one for each argument (zeros for those that do not matter).
    values : tuple
        What ``function`` returned.

    Raises
    ------
    ValueError
        If the first value does not depend on the arguments.
    """
    roots = [VJPNode.new_root() for _ in arguments]
    with trace_stack.new_trace() as level:
        boxes = [new_box(x, level, r) for x, r in zip(arguments, roots, strict=True)]
        outputs = function(*boxes)

    def depends(output: Any) -> bool:
        return isbox(output) and output._trace == level

    if not depends(outputs[0]):
        raise ValueError("the function does not depend on its arguments")

    def pull_back(*cotangents: Any) -> list[Any]:
        ends = [
            (output._node, cotangent)
            for output, cotangent in zip(outputs, cotangents, strict=False)
            if cotangent is not None and depends(output)
        ]
        collected = _backward(ends, set(roots))
        return [
            collected[root] if root in collected else vspace(x).zeros()
            for root, x in zip(roots, arguments, strict=True)
        ]

    return pull_back, tuple(getval(x) if depends(x) else x for x in outputs)


def _backward(ends: Sequence[tuple[Any, Any]], roots: set[Any]) -> dict[Any, Any]:
    """Cotangents of the roots; autograd's own pass keeps that of a single one."""
    cotangents: dict[Any, Any] = {}
    for end, cotangent in ends:
        cotangents[end] = add_outgrads(cotangents.get(end), cotangent)
    collected = {}
    for node in _last_first(cotangents):
        total = cotangents.pop(node)[0]
        if node in roots:
            collected[node] = total
        for parent, part in zip(node.parents, node.vjp(total), strict=True):
            cotangents[parent] = add_outgrads(cotangents.get(parent), part)
    return collected


def _last_first(ends: Iterable[Any]) -> list[Any]:
    """List all that ends depend on, each node behind those that depend on it."""
    order, seen, waiting = [], set(), [(end, False) for end in ends]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting.extend((parent, False) for parent in node.parents)
    return order[::-1]
