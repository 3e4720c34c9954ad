"""Nested parameters: dicts, (named) tuples, lists of arrays, and their flat vectors.

Parameters are trees so that code reads in the field's names; gradients and optimisers
want flat things.  A tree's *leaves* are its arrays in a fixed order (dicts by sorted
key), its *structure* is what is needed to put leaves back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["from_vector", "leaves", "rebuild", "to_vector", "tree_map"]

Tree = Any


def leaves(tree: Tree) -> list[Any]:
    """List the arrays of ``tree`` in their fixed order."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Tree, new_leaves: Sequence[Any]) -> Tree:
    """Return the nesting of ``tree`` with ``new_leaves`` in place of its arrays."""
    remaining = iter(new_leaves)

    def build(branch: Tree) -> Tree:
        if branch is None:
            return None
        if isinstance(branch, dict):
            built = {key: build(branch[key]) for key in sorted(branch)}
            return {key: built[key] for key in branch}
        if isinstance(branch, (tuple, list)):
            children = [build(child) for child in branch]
            named = hasattr(branch, "_fields")
            return type(branch)(*children) if named else type(branch)(children)
        return next(remaining)

    return build(tree)


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
