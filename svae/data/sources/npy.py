"""Arrays in NumPy's own format: a header that says what follows it, and the bytes.

NumPy takes the header at its word: it allocates what that declares, reads no further
than that, and advises to allow pickles where it finds no header.  Here the size is
compared with that of the file first.
"""

import math
import warnings
from typing import IO, Any, Literal, NamedTuple

import numpy as np

__all__ = ["Header", "fill", "mapped", "read_header"]

BLOCK = 2**20  # bytes that are read at a time where bytes are copied
# what the second version is for: headers that are longer than 64 KiB
READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What a header says of the array behind it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    length: int
    """Bytes of the header itself."""

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def order(self) -> Literal["F", "C"]:
        """Which index is next to itself in the file."""
        return "F" if self.fortran else "C"

    def over(self, buffer: bytearray) -> np.ndarray:
        """Return the array whose bytes are in a buffer."""
        return np.ndarray(self.shape, self.dtype, buffer, order=self.order)


def read_header(file: IO[bytes], size: int) -> Header:
    """Read the header of an array, and nothing else.

    Parameters
    ----------
    file : binary file
        At the first byte of the header.
    size : int
        Bytes from there to the end.

    Raises
    ------
    ValueError
        If it is no header, or is damaged, or declares more or fewer bytes than there
        are, or an array of Python objects.
    """
    start = file.tell()
    try:
        version = np.lib.format.read_magic(file)
    except ValueError as error:
        raise ValueError(
            "it does not begin as an array of NumPy does; call a table of text .csv, "
            "and save an array with numpy.save or numpy.savez"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's parser, about what is damaged
            shape, fortran, dtype = READ_HEADER[version](file)
        header = Header(tuple(map(int, shape)), fortran, dtype, file.tell() - start)
    # anything: its text goes to Python's parser, and its dtype to that of NumPy
    except Exception as error:
        raise ValueError(
            f"the header of the array is damaged ({type(error).__name__})"
        ) from error
    if header.dtype.hasobject:
        raise ValueError(
            "the array has Python objects, which are pickled, and pickles are never "
            "read; save numbers, array.astype(float), and sequences of different "
            "lengths as several arrays with numpy.savez"
        )
    follow = size - header.length
    if min(header.shape, default=0) < 0 or header.nbytes != follow:
        raise ValueError(
            f"the header says {header.dtype} of shape {header.shape}, which are "
            f"{header.nbytes} bytes, but {follow} bytes follow it: the file is damaged"
        )
    return header


def fill(header: Header, file: IO[bytes]) -> np.ndarray:
    """Read the array behind a header.

    Raises
    ------
    ValueError
        If the file ends before.
    """
    buffer = bytearray(header.nbytes)
    view = memoryview(buffer)
    for start in range(0, header.nbytes, BLOCK):
        part = view[start : start + BLOCK]
        read = file.read(len(part))
        if len(read) != len(part):
            raise ValueError(
                f"{header.nbytes - start - len(read)} of {header.nbytes} bytes of the "
                "array are missing: the file is damaged"
            )
        part[:] = read
    return header.over(buffer)


def mapped(header: Header, path: str, start: int) -> np.ndarray:
    """Map the array whose header is at a byte of a file."""
    if header.nbytes == 0:  # which no system maps
        return header.over(bytearray())
    offset = start + header.length
    return np.memmap(path, header.dtype, "r", offset, header.shape, header.order)
