"""The damage that the fuzzers do: always some, and the same for the same seed."""

import os

import numpy as np
import pytest

from svae.testing.damage import DAMAGES, damaged

CONTENT = b"{'shape': (250, 4)}" + bytes(range(256)) * 3


def replaced(before, after):
    """What is in the place of what is no longer there."""
    start = len(os.path.commonprefix([before, after]))
    left, right = before[start:], after[start:]
    end = len(os.path.commonprefix([left[::-1], right[::-1]]))
    return right[: len(right) - end]


def is_damage_of(name, before, after):
    """Whether the content is changed in the way that the name says."""
    longer = len(after) - len(before)
    if name == "truncate":
        return longer < 0 and before.startswith(after)
    if name == "append":
        return longer > 0 and after.startswith(before)
    if name in ("remove", "insert"):
        return longer < 0 if name == "remove" else longer > 0
    if name == "change_digits":
        return set(replaced(before, after)) <= set(b"0123456789 -")
    differ = [a ^ b for a, b in zip(before, after, strict=True) if a != b]
    if name == "flip_bit":
        return [each.bit_count() for each in differ] == [1]
    if name == "swap_blocks":
        return sorted(before) == sorted(after)
    return len(differ) > 0


@pytest.mark.parametrize("content", [CONTENT, b"ab"])
def test_damage_of_every_kind_changes_the_content(content):
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    seen = set()
    for _ in range(500):
        name, changed = damaged(content, rng)
        assert is_damage_of(name, content, changed)
        assert damaged(content, again) == (name, changed)
        seen.add(name)
    assert seen == {damage.__name__ for damage in DAMAGES}
