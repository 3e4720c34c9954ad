"""Trees: leaves out, leaves in, and flat vectors."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from svae.autodiff.trees import from_vector, leaves, rebuild, to_vector, tree_map


class Pair(NamedTuple):
    left: Any
    right: Any


class Single(NamedTuple):
    only: Any


def example():
    return {
        "b": Pair(np.arange(2.0), None),
        "a": (np.arange(6.0).reshape(2, 3), [np.float64(7.0), Single(np.ones((1, 1)))]),
        "empty": (),
    }


def test_leaves_come_in_a_fixed_order():
    got = leaves(example())
    assert [np.shape(leaf) for leaf in got] == [(2, 3), (), (1, 1), (2,)]
    assert leaves(None) == leaves({}) == leaves(Pair(None, ())) == []


def test_rebuilding_keeps_the_nesting_and_its_types():
    tree = example()
    got = rebuild(tree, ["x", "y", "z", "w"])
    assert list(got) == list(tree)
    assert isinstance(got["b"], Pair)
    assert got["b"] == Pair("w", None)
    assert got["a"] == ("x", ["y", Single("z")])
    assert isinstance(got["a"][1], list)
    assert isinstance(got["a"][1][1], Single)
    assert type(got["a"]) is tuple
    assert got["empty"] == ()


def test_maps_go_leaf_by_leaf_over_several_trees():
    tree = example()
    got = tree_map(lambda a, b: a - 2 * b, tree, tree)
    assert isinstance(got["b"], Pair)
    for leaf, want in zip(leaves(got), leaves(tree), strict=True):
        np.testing.assert_array_equal(leaf, -want)
    with pytest.raises(ValueError, match="argument"):
        tree_map(lambda a, b: a, tree, {"b": tree["b"]})


def test_vectors_there_and_back():
    tree = example()
    vector = to_vector(tree)
    np.testing.assert_array_equal(vector, [0, 1, 2, 3, 4, 5, 7, 1, 0, 1])
    back = from_vector(tree, vector + 1.0)
    assert isinstance(back["b"], Pair)
    assert back["b"].right is None
    for leaf, want in zip(leaves(back), leaves(tree), strict=True):
        assert np.shape(leaf) == np.shape(want)
        np.testing.assert_array_equal(leaf, want + 1.0)
    assert to_vector({}).shape == (0,)


def test_only_shapes_of_the_leaves_of_a_vector_are_looked_at():
    """They may be boxes, whose numbers a trace would record one by one."""

    class Shaped:
        shape = (2, 1)

        def __array__(self, *args, **kwargs):
            raise AssertionError("a leaf was read")

    (got,) = from_vector((Shaped(),), np.arange(2.0))
    np.testing.assert_array_equal(got, [[0.0], [1.0]])
