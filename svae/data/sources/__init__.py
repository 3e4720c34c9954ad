"""Arrays that stay in their files, and reach other processes without their data.

A `Source` has what a recording reads, ``shape``, ``dtype`` and ``[]``, and is pickled
as a reference: the worker that gets it opens the file when it first reads.
"""

from typing import Any

from svae.data.sources.hdf5 import Stored, datasets, listing, refuse_pandas
from svae.data.sources.images import Images, frame_shape_of, side_of
from svae.data.sources.mapped import Mapped
from svae.data.sources.moseq import Extraction, is_extraction
from svae.data.sources.reference import MEMORY, Source

__all__ = [
    "MEMORY",
    "Extraction",
    "Images",
    "Mapped",
    "Source",
    "Stored",
    "adopt",
    "datasets",
    "frame_shape_of",
    "is_extraction",
    "listing",
    "refuse_pandas",
    "side_of",
]


def adopt(array: Any) -> Any:
    """Return a memory map or HDF5 dataset as a `Source`, all else as it is."""
    for kind in (Mapped, Stored):
        source = kind.of(array)
        if source is not None:
            return source
    return array
