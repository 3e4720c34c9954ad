"""The damage that the fuzzers do: always some, and the same for the same seed."""

import numpy as np
import pytest

from svae.testing.damage import DAMAGES, damaged

CONTENT = b"{'shape': (250, 4)}" + bytes(range(256)) * 3


@pytest.mark.parametrize("content", [CONTENT, b"ab"])
def test_damage_of_every_kind_changes_the_content(content):
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    seen = set()
    for _ in range(500):
        name, changed = damaged(content, rng)
        assert changed != content
        assert damaged(content, again) == (name, changed)
        seen.add(name)
    assert seen == {damage.__name__ for damage in DAMAGES}
