"""One file for nested arrays and their description: ``.npz`` with json inside.

Arrays are the members of the archive; how they nest is one json document among them,
so nothing is ever unpickled.  A file appears under its name only when it is complete,
and holds a digest of itself, so that it is read as it was written or not at all.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from svae.data.sources.npz import read_members

__all__ = [
    "check",
    "load",
    "remove_stale",
    "replacing",
    "save",
    "versions",
    "write_json",
]


FORMAT, VERSION = "svae", 1
HEADER = "header"
KINDS = "biufU"  # of dtypes: bool, integers, floats, text
PART = re.compile(r".+\.(\d+)\.part")


@contextmanager
def replacing(path: str | Path, mode: str = "wb", **options: Any) -> Iterator[Any]:
    """Open a file beside ``path`` that takes its place when all is written.

    Whatever goes wrong before leaves ``path`` as it was, and nothing beside it.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove what processes that are no more had begun to write in a folder.

    Those are processes of this machine: on a shared folder one of another may be
    taken for dead if it is writing at this moment.
    """
    for path in folder.glob("*.part"):
        match = PART.fullmatch(path.name)
        if match is not None and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def check(arrays: Any) -> None:
    """Raise TypeError if `save` would for this tree."""
    _encode(arrays, {})


def save(path: str | Path, arrays: Any, meta: dict[str, Any]) -> None:
    """Write a tree of arrays and a description, whole or not at all.

    Parameters
    ----------
    path : path
        Written as it is, without a suffix added.
    arrays : tree
        Dicts (keys str or int), tuples and lists of numeric arrays, numbers, strings
        and None.
    meta : dict
        Anything that json holds.

    Raises
    ------
    TypeError
        If the tree or ``meta`` holds something else; ``path`` is left as it was.
    """
    members: dict[str, Any] = {}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "tree": _encode(arrays, members),
        "meta": meta,
    }
    header["digest"] = _digest(header, members)
    members[HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with replacing(path) as file:
        np.savez(file, **members)


def load(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """Read what `save` wrote.

    Returns
    -------
    arrays : tree
        Nested as it was saved.
    meta : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is not of this format, or of another version of it.
    """
    with open(path, "rb") as file:
        try:
            header, members = _read(file)
            if header["format"] != FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            version = header["version"]
            if version == VERSION:
                _check_digest(header, members)
                return _decode(header["tree"], members), dict(header["meta"])
        # whatever a damaged or foreign file makes zipfile, NumPy and json raise
        except Exception as error:
            raise ValueError(
                f"{path}: damaged, or not a file that svae saved ({error!r})"
            ) from error
    raise ValueError(
        f"{path}: saved in version {version} of the format, this svae reads "
        f"version {VERSION}"
    )


def _digest(header: dict[str, Any], members: dict[str, np.ndarray]) -> str:
    """Return a digest of a header without one, and of the arrays beside it.

    The checksums of an archive are of its members one by one: they say nothing of
    names that were swapped.
    """
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(members):
        array = members[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _check_digest(header: dict[str, Any], members: dict[str, np.ndarray]) -> None:
    """Raise ValueError if the content is not that which was saved, as far as is known.

    Files of earlier versions have no digest.
    """
    saved = header.pop("digest", None)
    if saved is not None and saved != _digest(header, members):
        raise ValueError("its content is not what was saved")


def _read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of an archive."""
    members = read_members(file)
    return json.loads(members.pop(HEADER).tobytes()), members


def _encode(tree: Any, members: dict[str, np.ndarray]) -> Any:
    """Describe ``tree`` in json, moving its arrays to ``members``."""
    kind = type(tree)
    if tree is None or kind in (bool, int, float, str):
        return tree
    if kind is dict:
        if not all(type(key) in (str, int) for key in tree):
            raise TypeError(
                f"cannot save a dict with keys {list(tree)}: not str or int"
            )
        return {"dict": [[key, _encode(tree[key], members)] for key in tree]}
    if kind in (tuple, list):
        return {kind.__name__: [_encode(branch, members) for branch in tree]}
    if isinstance(tree, (np.ndarray, np.generic)) and tree.dtype.kind in KINDS:
        if isinstance(tree, np.generic):
            return {"scalar": [tree.dtype.str, tree.item()]}
        name = f"array{len(members)}"
        members[name] = np.asarray(tree)
        return {"array": name}
    raise TypeError(f"cannot save a {kind.__name__}: {tree!r}")


def _decode(node: Any, members: dict[str, np.ndarray]) -> Any:
    """Rebuild the tree that `_encode` described."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {key: _decode(branch, members) for key, branch in content}
    if kind == "array":
        return members[content]
    if kind == "scalar":
        dtype, value = np.dtype(content[0]), content[1]
        if dtype.kind not in KINDS:
            raise ValueError(f"it has a scalar of type {dtype}")
        return dtype.type(value)
    if kind not in ("tuple", "list"):
        raise ValueError(f"it has a {kind!r}")
    branches = [_decode(branch, members) for branch in content]
    return tuple(branches) if kind == "tuple" else branches


def write_json(path: Path, content: Any) -> None:
    """Write json so that a reader never sees half of it."""
    with replacing(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of the package, of what it needs, and of Python."""
    from importlib.metadata import version  # slow to import, and rarely asked for

    names = ("svae", "numpy", "scipy", "autograd")
    return {name: version(name) for name in names} | {
        "python": platform.python_version()
    }
