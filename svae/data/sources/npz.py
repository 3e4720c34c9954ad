"""Archives of arrays, ``.npz``: members that are read to their end.

A zip archive has a checksum (CRC-32) of each member, which is compared where a member
ends.  `numpy.load` stops where the header of the array says, so that a digit of the
shape that was lost goes unnoticed, with all rows behind it.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from svae.data.sources.npy import BLOCK, Header, fill, mapped, read_header
from svae.data.sources.reference import naming

__all__ = ["Member", "members", "read_members"]

SUFFIX = ".npy"
# the beginning of the header that a member has in the archive, before its name
LOCAL = struct.Struct("<4s5H3L2H")
# deflate makes at most 1032 bytes of one; bzip2 and lzma are of no use to NumPy
LARGEST_RATIO = 1032
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Member(NamedTuple):
    """An array of an archive, of which the header was read."""

    name: str
    header: Header
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @property
    def compressed(self) -> bool:
        """Whether its bytes are other than those of the array."""
        return self.info.compress_type != zipfile.ZIP_STORED

    def read(self) -> np.ndarray:
        """Read the array.

        Raises
        ------
        ValueError
            If it is damaged; the message names it.
        """
        with naming(f"array {self.name!r}"), self.archive.open(self.info) as file:
            file.read(self.header.length)
            array = fill(self.header, file)
            file.read(1)  # past the last block, where the checksum is compared
            return array

    def map(self, path: str) -> np.ndarray:
        """Map an array that is not compressed, after a pass for its checksum.

        Raises
        ------
        ValueError
            If it is damaged; the message names it.
        """
        with naming(f"array {self.name!r}"), open(path, "rb") as file:
            file.seek(self.info.header_offset)
            *_, name, extra = LOCAL.unpack(file.read(LOCAL.size))
            start = self.info.header_offset + LOCAL.size + name + extra
            file.seek(start)
            if _checksum(file, self.info.file_size) != self.info.CRC:
                raise ValueError("its checksum is wrong: the file is damaged")
            return mapped(self.header, path, start)


def members(file: BinaryIO) -> dict[str, Member]:
    """Open an archive and read the headers of its arrays.

    Parameters
    ----------
    file : binary file
        Stays in use by what is returned.

    Returns
    -------
    dict
        By names, in the order of the archive.

    Raises
    ------
    ValueError
        If it is no archive, is damaged, or has something else than arrays.
    """
    with naming("the archive"):
        archive = zipfile.ZipFile(file)
        size = os.fstat(file.fileno()).st_size
        infos = archive.infolist()
        names = [info.filename.removesuffix(SUFFIX) for info in infos]
        if len(set(names)) < len(names):
            raise ValueError(f"two arrays have one name, among {names}")
    return {
        name: _member(name, archive, info, size)
        for name, info in zip(names, infos, strict=True)
    }


def read_members(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read all arrays of an archive, each to its end.

    Raises
    ------
    ValueError
        If it is no archive, is damaged, or has something else than arrays.
    """
    return {name: member.read() for name, member in members(file).items()}


def _member(
    name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int
) -> Member:
    with naming(f"array {name!r}"):
        if info.compress_type not in METHODS:
            raise ValueError(
                "it is compressed in a way that NumPy does not use: save it again "
                "with numpy.savez"
            )
        largest = size * (LARGEST_RATIO if info.compress_type else 1)
        if info.file_size > largest:
            raise ValueError(
                f"it would have {info.file_size} bytes, more than a file of {size} "
                "bytes can hold: the file is damaged"
            )
        with archive.open(info) as file:
            return Member(name, read_header(file, info.file_size), archive, info)


def _checksum(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of bytes to come, reading a block at a time."""
    checksum = 0
    for block in _blocks(file, size):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (block := file.read(min(size, BLOCK))):
        size -= len(block)
        yield block
