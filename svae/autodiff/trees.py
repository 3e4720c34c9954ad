"""Nested parameters: dicts, (named) tuples, lists of arrays, and their flat vectors.

Parameters are trees so that code reads in the field's names; gradients and optimisers
want flat things.  A tree's *leaves* are its arrays in a fixed order (dicts by sorted
key), its *structure* is what is needed to put leaves back.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["check_alike", "from_vector", "leaves", "rebuild", "to_vector", "tree_map"]

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
            if type(branch) is np.ndarray:  # as nearly all are
                found.append(branch)
            else:
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
        children = [
            next(remaining) if type(branch) is np.ndarray else _build(branch, remaining)
            for branch in tree
        ]
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
        shape = np.shape(leaf)
        stop = start + math.prod(shape)
        parts.append(vector[start:stop].reshape(shape))
        start = stop
    return rebuild(tree, parts)


def check_alike(tree: Tree, template: Tree, name: str) -> None:
    """Raise ValueError unless a tree is nested and shaped like another, all finite.

    Parameters
    ----------
    tree : tree
        Of anything.
    template : tree
        Of arrays, of which only the shapes and types count; float64 will always do.
    name : str
        What the error calls the tree.
    """
    if isinstance(template, (dict, tuple, list)):
        kind = next(k for k in (dict, tuple, list) if isinstance(template, k))
        if not isinstance(tree, kind) or _keys(tree) != _keys(template):
            raise ValueError(
                f"{name} is {_summary(tree)}, expected {_summary(template)}"
            )
        for key in _keys(template):
            check_alike(tree[key], template[key], f"{name}[{key!r}]")
    elif template is None:
        if tree is not None:
            raise ValueError(f"{name} is {_summary(tree)}, expected nothing")
    else:
        if isinstance(tree, (dict, tuple, list)) or tree is None:
            raise ValueError(f"{name} is {_summary(tree)}, expected an array")
        array, shape = np.asarray(tree), np.shape(template)
        dtypes = np.dtype(np.float64), np.asarray(template).dtype
        if array.dtype not in dtypes or array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape} and type {array.dtype}, expected "
                f"{shape} and {dtypes[-1]}"
            )
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} is not finite")


def _keys(tree: Tree) -> list[Any]:
    return sorted(tree, key=str) if isinstance(tree, dict) else list(range(len(tree)))


def _summary(tree: Tree) -> str:
    if isinstance(tree, dict):
        return f"a dict of {_keys(tree)}"
    if isinstance(tree, (tuple, list)):
        return f"a {type(tree).__name__} of {len(tree)}"
    return "nothing" if tree is None else f"a {type(tree).__name__}"
