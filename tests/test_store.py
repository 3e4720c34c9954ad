"""Files: exact nesting, whole or not at all, clear words about anything foreign."""

import json
import os
from typing import NamedTuple

import numpy as np
import pytest

from svae import store


def assert_same(left, right):
    """Compare types, nesting and bits."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (tuple, list)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    elif isinstance(left, (np.ndarray, np.generic)):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    else:
        assert left == right or (left != left and right != right)


TREE = {
    "parameters": ({"weights": (np.arange(3.0),)}, [np.eye(2), None], ()),
    "empty": {"dict": {}, "list": [], "array": np.zeros((0, 3))},
    "arrays": [
        np.array(1.5),
        np.arange(4, dtype=np.int32)[::2],
        np.array([True, False]),
        np.array(["a", "ab"]),
        np.asfortranarray(np.ones((2, 3), np.float32)),
        np.array([np.nan, -np.inf, -0.0, 5e-324]),
    ],
    "numbers": (1, True, 0.1, float("nan"), float("inf"), -0.0, "text", None),
    "scalars": [np.float64(0.1), np.float32(0.1), np.int64(7), np.bool_(True)],
    3: {"dict": 1, "array": [2]},
}
META = {"kind": "model", "sizes": [1, 2], "nested": {"a": None, "b": 0.1}, "é": "ü"}


def test_round_trip(tmp_path):
    store.save(tmp_path / "a.npz", TREE, META)
    tree, meta = store.load(tmp_path / "a.npz")
    assert_same(tree, TREE)
    assert_same(meta, META)


@pytest.mark.parametrize("tree", [None, 1.0, np.ones(3), (), {}, [np.ones(2)]])
def test_any_tree_will_do(tmp_path, tree):
    store.save(str(tmp_path / "a"), tree, {})
    assert_same(store.load(str(tmp_path / "a")), (tree, {}))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_generator_resumes_from_its_state(tmp_path):
    rng = np.random.default_rng(0)
    store.save(tmp_path / "a.npz", {}, {"rng": rng.bit_generator.state})
    again = np.random.default_rng()
    again.bit_generator.state = store.load(tmp_path / "a.npz")[1]["rng"]
    np.testing.assert_array_equal(rng.random(5), again.random(5))


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("tree", "meta", "message"),
    [
        ({"a": object()}, {}, "cannot save a object"),
        (np.array([None]), {}, "cannot save a ndarray"),
        (Pair(1, 2), {}, "cannot save a Pair"),
        ({(1, 2): 3}, {}, "keys"),
        ({}, {"a": np.ones(2)}, "not JSON serializable"),
    ],
)
def test_what_cannot_be_saved_leaves_the_file_as_it_was(tmp_path, tree, meta, message):
    store.save(tmp_path / "a.npz", [1], {})
    with pytest.raises(TypeError, match=message):
        store.save(tmp_path / "a.npz", tree, meta)
    assert store.load(tmp_path / "a.npz") == ([1], {})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    store.save(tmp_path / "a.npz", [1], {})

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        store.save(tmp_path / "a.npz", [2], {})
    assert store.load(tmp_path / "a.npz") == ([1], {})
    assert len(list(tmp_path.iterdir())) == 1


def test_saving_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        store.save(tmp_path / "no" / "a.npz", [1], {})
    with pytest.raises(FileNotFoundError):
        store.load(tmp_path / "a.npz")


def test_every_damage_is_noticed_or_harmless(tmp_path):
    """Flip bytes and cut the file anywhere: a ValueError, or the very same tree."""
    tree = {"a": (np.arange(3.0), [1.5, None]), "b": np.eye(2)}
    path = tmp_path / "a.npz"
    store.save(path, tree, {"kind": "model"})
    whole = path.read_bytes()
    flips = range(0, len(whole), 3)
    damaged = [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in flips]
    damaged += [whole[:i] for i in range(0, len(whole), 29)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            loaded = store.load(path)
        except ValueError as error:
            assert "a.npz: " in str(error)
            refused += 1
        else:
            assert_same(loaded, (tree, {"kind": "model"}))
    assert refused > 0.5 * len(damaged)


def test_a_header_that_lost_a_digit_is_noticed(tmp_path):
    """Its rows are fewer then, and what the archive has of them goes on behind."""
    path = tmp_path / "a.npz"
    store.save(path, np.arange(1000.0).reshape(250, 4), {})
    whole = path.read_bytes()
    assert whole.count(b"(250, 4)") == 1
    path.write_bytes(whole.replace(b"(250, 4)", b"(25 , 4)"))  # one bit
    with pytest.raises(ValueError, match=r"a\.npz: .*'array0': .* shape \(25, 4\)"):
        store.load(path)


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / "arrays.npz", x=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    write_header(tmp_path / "other.npz", {"format": "other", "version": 1})
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=f"{path.name}: damaged, or not a file"):
            store.load(path)


def test_another_version_is_named(tmp_path):
    write_header(tmp_path / "a.npz", {"format": "svae", "version": 2})
    with pytest.raises(ValueError, match="version 2 of the format.* reads version 1"):
        store.load(tmp_path / "a.npz")


def write_header(path, header):
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8))


def test_a_failed_write_leaves_the_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), store.replacing(path, "w") as file:
        file.write("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with store.replacing(path, "w") as file:
        file.write("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
