"""What a data set is: sequences of frames, in memory or in files, and made ones.

Inside the package data are a list of sequences (T_n, P): float64 arrays, or a
`Recording` for each one that is not in memory.  `as_sequences` makes that of everything
a caller may hold, `load` and `moseq` open files, `windows` and `batch` cut.  NaN means
missing; it ends at `batch`, which gives zeros and says where something was observed.
"""

from svae.data.files import deeplabcut, images, load, moseq
from svae.data.masks import Windows
from svae.data.recording import Recording
from svae.data.sequences import (
    Summary,
    as_sequences,
    batch,
    frames_with_data,
    stretches,
    summarize,
    windows,
)
from svae.data.synthetic import dots, pinwheel

__all__ = [
    "Recording",
    "Summary",
    "Windows",
    "as_sequences",
    "batch",
    "deeplabcut",
    "dots",
    "frames_with_data",
    "images",
    "load",
    "moseq",
    "pinwheel",
    "stretches",
    "summarize",
    "windows",
]
