"""Reverse-mode differentiation in many arrays at once.

Autograd differentiates in one argument.  A tuple of arrays is one argument too, but
each use of an entry then costs as much as the tuple is long, which for the many small
arrays of a model is a good part of a step.  Here every array is a root of its own, in
one trace and one backward pass.
"""

from collections.abc import Callable, Sequence
from typing import Any

from autograd.core import VJPNode, add_outgrads
from autograd.extend import vspace
from autograd.tracer import getval, isbox, new_box, trace_stack
from autograd.util import toposort

__all__ = ["trace"]


def trace(
    function: Callable[..., tuple[Any, ...]], arguments: Sequence[Any]
) -> tuple[Callable[..., list[Any]], tuple[Any, ...]]:
    """Evaluate a function and prepare its VJP in all arguments.

    Parameters
    ----------
    function : callable
        Of the arguments, returning a tuple: what is to be differentiated first, then
        any number of other values.
    arguments : sequence of arrays

    Returns
    -------
    pull_back : callable
        Cotangent of the first value, or of the value at another ``position`` -> list of
        cotangents, one for each argument (zeros for those that do not matter).
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

    def pull_back(cotangent: Any, position: int = 0) -> list[Any]:
        end = outputs[position]
        collected = {}
        if depends(end):
            collected = _backward(cotangent, end._node, set(roots))
        return [
            collected[root] if root in collected else vspace(x).zeros()
            for root, x in zip(roots, arguments, strict=True)
        ]

    return pull_back, tuple(getval(x) if depends(x) else x for x in outputs)


def _backward(cotangent: Any, end: Any, roots: set[Any]) -> dict[Any, Any]:
    """Cotangents of the roots; autograd's own pass keeps that of a single one."""
    cotangents = {end: (cotangent, False)}
    collected = {}
    for node in toposort(end):
        total = cotangents.pop(node)[0]
        if node in roots:
            collected[node] = total
        for parent, part in zip(node.parents, node.vjp(total), strict=True):
            cotangents[parent] = add_outgrads(cotangents.get(parent), part)
    return collected
