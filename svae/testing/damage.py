"""Damage to the bytes of a file: what disks, transfers and editors do, and worse.

`damaged` never returns what it was given, so a reader that accepts the result has
either read something else or looked past the place.
"""

import re
from collections.abc import Callable

import numpy as np

__all__ = ["DAMAGES", "damaged"]


def flip_bit(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit."""
    changed = bytearray(content)
    changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip some bits within a few bytes, as a bad cell of memory does."""
    changed = bytearray(content)
    start = int(rng.integers(len(content)))
    for place in range(start, min(start + int(rng.integers(2, 9)), len(content))):
        changed[place] ^= int(rng.integers(256))
    return bytes(changed)


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    """Keep the beginning only."""
    return content[: int(rng.integers(len(content)))]


def remove(content: bytes, rng: np.random.Generator) -> bytes:
    """Leave some bytes out."""
    start, size = int(rng.integers(len(content))), _size(rng)
    return content[:start] + content[start + size :]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    """Put bytes in between."""
    start = int(rng.integers(len(content) + 1))
    return content[:start] + rng.bytes(_size(rng)) + content[start:]


def append(content: bytes, rng: np.random.Generator) -> bytes:
    """Put bytes at the end, also a part of the file itself."""
    more = content[-_size(rng) :] if rng.random() < 0.5 else rng.bytes(_size(rng))
    return content + more


def swap_blocks(content: bytes, rng: np.random.Generator) -> bytes:
    """Let two blocks of equal size change places."""
    size = max(1, min(_size(rng), len(content) // 2))
    first = int(rng.integers(len(content) - 2 * size + 1))
    second = int(rng.integers(first + size, len(content) - size + 1))
    changed = bytearray(content)
    changed[first : first + size] = content[second : second + size]
    changed[second : second + size] = content[first : first + size]
    return bytes(changed)


def blank_block(content: bytes, rng: np.random.Generator) -> bytes:
    """Fill a block with zeros, as a hole that was never written has."""
    start, size = int(rng.integers(len(content))), _size(rng)
    hole = bytes(len(content[start : start + size]))
    return content[:start] + hole + content[start + size :]


def change_digits(content: bytes, rng: np.random.Generator) -> bytes:
    """Write other digits where there are some: shapes in headers, sizes in json."""
    numbers = [each.span() for each in re.finditer(rb"\d+", content[:4096])] or [(0, 0)]
    start, stop = numbers[int(rng.integers(len(numbers)))]
    kept = stop - start if rng.random() < 0.7 else int(rng.integers(0, 20))
    digits = bytes(rng.choice(list(b"0123456789 -"), size=kept).tolist())
    return content[:start] + digits + content[stop:]


Damage = Callable[[bytes, np.random.Generator], bytes]
DAMAGES: tuple[Damage, ...] = (
    *(flip_bit, flip_bits, truncate, remove, insert, append),
    *(swap_blocks, blank_block, change_digits),
)


def damaged(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage the content of a file.

    Parameters
    ----------
    content : bytes
        At least two, not all the same.
    rng : numpy.random.Generator

    Returns
    -------
    name : str
        What was done, one of `DAMAGES`.
    changed : bytes
        Never the same as ``content``.
    """
    while True:
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        changed = damage(content, rng)
        if changed != content:
            return damage.__name__, changed


def _size(rng: np.random.Generator) -> int:
    """Return a number of bytes from 1 to 1000, small ones as often as large ones."""
    return int(10 ** rng.uniform(0, 3))
