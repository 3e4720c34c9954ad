"""Damaged data files: read as they were, or refused by name.

    python tests/fuzz/files.py --runs 2000 --seed 0

damages files of every kind that `svae.data.load` reads, and reads them as the command
line does: opened, their first and last steps, and the whole if it is small.  Each ends
in one of three ways,

* ``same``: all values are the original ones, for the damage was where nothing is read;
* ``refused``: a ValueError or OSError that names the file;
* ``other``: other values.  A format without checksums cannot tell; archives of arrays
  have them, and there it is a failure;

and anything else is a failure: another exception, a warning that is none of the
package's, a message without the file or with advice to allow pickles, more than
`SECONDS`, more memory than `BYTES`, or the end of the process.
"""

import argparse
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from svae import data
from svae.testing.damage import damaged
from svae.testing.survey import BYTES, OK, SECONDS, TooLong, survey

WHOLE = 2**20  # numbers up to which a recording is read whole
CHECKED = ("npz", "compressed")  # kinds whose format has a checksum


def example(rng: np.random.Generator) -> np.ndarray:
    """Return data of which every file is made."""
    return rng.standard_normal((250, 4)).round(3)


def npy(rng: np.random.Generator) -> bytes:
    """Return a file of one array."""
    return _written(np.save, example(rng))


def npz(rng: np.random.Generator) -> bytes:
    """Return an archive of two arrays, not compressed."""
    return _written(np.savez, a=example(rng), b=example(rng)[:50])


def compressed(rng: np.random.Generator) -> bytes:
    """Return an archive of two arrays, compressed."""
    return _written(np.savez_compressed, a=example(rng), b=example(rng)[:50])


def csv(rng: np.random.Generator) -> bytes:
    """Return a table with names and missing values."""
    values = example(rng)
    values[rng.random(values.shape) < 0.1] = np.nan
    return _written(np.savetxt, values, "%.3f", ",", header="a,b,c,d", comments="")


def hdf5(rng: np.random.Generator) -> bytes:
    """Return a HDF5 file with a dataset that is not chunked, and others."""
    return _hdf5(lambda file: _fill(file, rng))


def chunked(rng: np.random.Generator) -> bytes:
    """Return a HDF5 file with a compressed dataset that can grow."""
    layout = {"chunks": (64, 4), "maxshape": (None, 4), "compression": "gzip"}
    return _hdf5(lambda file: file.create_dataset("x", data=example(rng), **layout))


def moseq(rng: np.random.Generator) -> bytes:
    """Return an extraction of MoSeq."""

    def fill(file: Any) -> None:
        shape = (30, 8, 8)
        layout = {"chunks": (10, 8, 8), "compression": "gzip"}
        frames = rng.integers(0, 80, shape).astype(np.uint8)
        file.create_dataset("frames", data=frames, **layout)
        mask = rng.uniform(-30, 0, shape).astype(np.float32)
        file.create_dataset("frames_mask", data=mask, **layout)
        file["timestamps"] = np.arange(30) * 33.0 + rng.uniform(0, 5, 30)
        file["metadata/name"] = "a mouse"

    return _hdf5(fill)


KINDS: dict[str, tuple[str, Callable[[np.random.Generator], bytes]]] = {
    "npy": (".npy", npy),
    "npz": (".npz", npz),
    "compressed": (".npz", compressed),
    "csv": (".csv", csv),
    "hdf5": (".h5", hdf5),
    "chunked": (".h5", chunked),
    "moseq": (".h5", moseq),
}


def read(path: Path) -> list[np.ndarray]:
    """Read a file: all of what is small, else the beginning and the end."""
    sequences = data.as_sequences(data.load(path, mmap=True))
    return [_values(each) for each in sequences[:100]]


def outcome(path: Path, expected: list[np.ndarray]) -> str:
    """Read a file; return one of `OK`, or what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* counts frames or time", UserWarning)
        try:
            found = read(path)
        except (ValueError, OSError) as error:
            text = str(error)
            if "allow_pickle" in text:
                return f"advises to allow pickles: {text}"
            if "MemoryError" in text or "llocate" in text:
                return f"more than {BYTES} bytes: {text}"
            # what is checked of values, after reading, names the place in the data
            named = path.name in text or "sequence " in text
            return "refused" if named else f"does not name the file: {text}"
        except TooLong:
            return f"more than {SECONDS} seconds"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    same = len(found) == len(expected) and all(
        np.array_equal(one, two, equal_nan=True)
        for one, two in zip(found, expected, strict=True)
    )
    return "same" if same else "other"


def trials(
    kind: str, runs: range, seed: int, folder: Path
) -> Iterator[tuple[int, str, str]]:
    """Damage files of a kind; yield the number, the damage and what became of each.

    Before each read, the same without what became of it.
    """
    suffix, make = KINDS[kind]
    content = make(np.random.default_rng(seed))
    whole = folder / f"whole{suffix}"
    whole.write_bytes(content)
    expected = read(whole)
    for run in runs:
        name, changed = damaged(content, np.random.default_rng([seed, run]))
        yield run, name, ""
        # another name each time: a process keeps what it has open by name
        path = folder / f"{kind}{run}{suffix}"
        path.write_bytes(changed)
        result = outcome(path, expected)
        path.unlink()
        silent = kind in CHECKED and result == "other"
        yield run, name, "other values in silence" if silent else result


def main() -> int:
    """Fuzz files of every kind; print how many ended in which way."""
    parser = argparse.ArgumentParser(description="Read damaged data files.")
    parser.add_argument("--runs", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    failed = False
    for kind in options.kinds:
        counts, wrong = survey(kind, options.runs, options.seed, trials)
        print(kind, *(f"{name} {counts[name]}" for name in (*OK, "wrong")), sep="  ")
        for line in wrong:
            print(f"  {line}")
        failed = failed or bool(wrong)
    return int(failed)


def _written(save: Callable[..., None], *values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    save(file, *values, **options)
    return file.getvalue()


def _hdf5(fill: Callable[[Any], Any]) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def _fill(file: Any, rng: np.random.Generator) -> None:
    file["group/x"] = example(rng)
    file["group/times"] = np.arange(250.0)
    file["words"] = [b"a", b"b"]
    file["group"].attrs["rate"] = 30.0


def _values(sequence: Any) -> np.ndarray:
    if sequence.shape[0] * sequence.shape[1] <= WHOLE:
        return np.array(sequence[: len(sequence)])
    rows = max(1, WHOLE // 8 // sequence.shape[1])
    return np.concatenate([sequence[:rows], sequence[len(sequence) - rows :]])


if __name__ == "__main__":
    sys.exit(main())
