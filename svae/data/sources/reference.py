"""What a source is, and how each process comes to one handle for each file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

__all__ = ["MEMORY", "FileSource", "Source", "naming", "opened"]

MEMORY = 2**26  # numbers that are read at once; of more, parts are read as needed

# (process, path, identity of the file) -> handle, for as long as a source uses it
_handles: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


class Source:
    """An array that is elsewhere, and is pickled as it is: without its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part."""
        raise NotImplementedError


class FileSource(Source):
    """A source in a file, opened when it is first read.

    Parameters
    ----------
    path : str
    shape : tuple of int
    dtype : numpy.dtype
    handle : optional
        What this process has opened already.
    """

    def __init__(
        self, path: str, shape: tuple[int, ...], dtype: Any, handle: Any = None
    ) -> None:
        self.path = os.path.abspath(path)
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._handle = handle

    @property
    def handle(self) -> Any:
        """What this process reads from, opened when it is first needed."""
        if self._handle is None:
            self._handle = self._open()
        return self._handle

    def _open(self) -> Any:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Return where the array is; another process cannot use what is open here."""
        return self.__dict__ | {"_handle": None}


def opened(path: str, open_file: Callable[[str], Any]) -> Any:
    """Return the handle of this process for a file, opening it if there is none.

    Raises
    ------
    OSError
        If the file cannot be opened; the message begins with its path.
    """
    try:
        found = os.stat(path)
        # a file that has changed, or another of this name, is opened anew
        identity = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        key = (os.getpid(), path, *identity)
        handle = _handles.get(key)
        if handle is None:
            handle = _handles[key] = open_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path}: cannot be opened: {reason}") from error
    return handle


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn whatever reading damaged data raises into a ValueError that says where.

    Libraries that read files meet damage in the middle of something, with errors of
    every type: zipfile with RuntimeError and NotImplementedError, h5py with KeyError,
    TypeError and OSError without a name.

    Raises
    ------
    ValueError
        Its message begins with the place.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if isinstance(error, (ValueError, OSError)) and text.startswith(f"{place}: "):
            raise
        if not isinstance(error, ValueError) or not text:
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ValueError(f"{place}: {text}") from error
