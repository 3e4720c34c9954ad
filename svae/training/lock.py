"""A folder that one fit at a time writes to.

The lock is the operating system's, on a file in the folder.  It ends with the process
that has it, however that ends: a killed fit leaves a file, and no lock.  Between
machines that share a folder it holds if their network file system has locks (NFS has
them, unless it is mounted without).
"""

import errno
import fcntl
import os
import platform
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FILE", "locked"]

FILE = "fit.lock"
TAKEN = (errno.EACCES, errno.EAGAIN)
Key = tuple[int, int, int]

# A lock is of a whole process, which would get it twice: its threads ask here first.
_guard = threading.Lock()
_threads: dict[Key, list[int]] = {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and have it alone; once more in the same thread changes nothing.

    Raises
    ------
    ValueError
        If another fit has it; names its process.

    Warns
    -----
    UserWarning
        If the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    status, thread = folder.stat(), threading.get_ident()
    key = os.getpid(), status.st_dev, status.st_ino  # not of a parent that was forked
    with _guard:
        holders = _threads.setdefault(key, [])
        if holders and holders[0] != thread:
            raise ValueError(_refusal(folder, "another thread of this process"))
        holders.append(thread)
    try:
        if len(holders) > 1:
            yield
            return
        descriptor = _lock(folder)
        try:
            yield
        finally:
            # removed while it is locked, or it might be the next one's
            (folder / FILE).unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        with _guard:
            holders.pop()
            if not holders:
                del _threads[key]


def _lock(folder: Path) -> int:
    """Return the descriptor of the folder's file, locked."""
    path = folder / FILE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                who = os.read(descriptor, 200).decode(errors="replace").strip()
                os.close(descriptor)
                raise ValueError(_refusal(folder, who)) from error
            warnings.warn(
                f"{folder} is on a file system without locks ({error.strerror}): "
                "nothing keeps two fits in it apart",
                stacklevel=5,
            )
            return descriptor
        if _is_at(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
            return descriptor
        os.close(descriptor)  # of a file that its last owner has removed meanwhile


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refusal(folder: Path, who: str) -> str:
    return (
        f"{folder}: {who or 'another process'} is fitting in it; wait for its end, or "
        "choose another folder"
    )
