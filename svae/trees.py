"""Nested parameters: dicts, (named) tuples, lists of arrays, and their flat vectors.

Parameters are trees so that code reads in the field's names; gradients and optimisers
want flat things.  A tree's *leaves* are its arrays in a fixed order (dicts by sorted
key), its *structure* is what is needed to put leaves back.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["from_vector", "leaves", "rebuild", "to_vector", "tree_map"]

Tree = Any


def leaves(tree: Tree) -> list[Any]:
    """List the arrays of ``tree`` in their fixed order."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Tree, found: list[Any]) -> None:
    if isinstance(tree, dict):
        for key in sorted(tree):
            _collect(tree[key], found)
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            _collect(branch, found)
    elif tree is not None:
        found.append(tree)


def rebuild(tree: Tree, new_leaves: Iterable[Any]) -> Tree:
    """Return the nesting of ``tree`` with ``new_leaves`` in place of its arrays."""
    return _build(tree, iter(new_leaves))


def _build(tree: Tree, remaining: Iterator[Any]) -> Tree:
    if isinstance(tree, dict):
        built = dict.fromkeys(tree)
        for key in sorted(tree):
            built[key] = _build(tree[key], remaining)
        return built
    if isinstance(tree, (tuple, list)):
        children = [_build(branch, remaining) for branch in tree]
        if isinstance(tree, list):
            return children
        named = hasattr(tree, "_fields")
        return type(tree)(*children) if named else tuple(children)
    return None if tree is None else next(remaining)


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` leaf by leaf over trees of one structure."""
    columns = zip(leaves(tree), *(leaves(other) for other in others), strict=True)
    return rebuild(tree, [function(*column) for column in columns])


def to_vector(tree: Tree) -> np.ndarray:
    """Concatenate the leaves of ``tree`` into one float64 vector."""
    parts = [np.ravel(leaf) for leaf in leaves(tree)]
    return np.concatenate(parts) if parts else np.zeros(0)


def from_vector(tree: Tree, vector: np.ndarray) -> Tree:
    """Cut ``vector`` into arrays shaped like the leaves of ``tree`` (as views)."""
    parts, start = [], 0
    for leaf in leaves(tree):
        stop = start + np.size(leaf)
        parts.append(vector[start:stop].reshape(np.shape(leaf)))
        start = stop
    return rebuild(tree, parts)
