"""The folder of a fit made on the command line, and the data that it reads.

``model.npz`` is the fitted model, ``history.csv`` the bound at every step,
``checkpoint.npz`` that from which it can go on, ``run.json`` how the run was made and
how it ended, ``scaling.npz`` how columns were standardised; ``figures/`` holds figures.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from svae import data, store
from svae.data import synthetic
from svae.data.sources import MEMORY, Source
from svae.data.sources.reference import naming
from svae.estimators import SVAE, load
from svae.training import checkpoint

__all__ = [
    "BUILT_IN",
    "FILES",
    "Data",
    "Missing",
    "Run",
    "Scaling",
    "clear",
    "excerpt",
    "frame_shape_in",
    "name_of",
    "open_data",
    "read",
    "read_own",
    "read_record",
    "split",
    "survey",
    "words_of_figures",
]


FILES = (
    "a .npy, .npz, .csv or .h5 file (FILE:NAME for one of its arrays), "
    "such as MoSeq's results_00.h5"
)
RECORD, SCALING, SCALING_KIND = "run.json", "scaling.npz", "svae.scaling"
PRODUCTS = ("segments.csv", "forecast.npz", "predictions.npz", "sample.npy")
PARTS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "data": (str,),
    "settings": (dict,),
    "standardize": (bool, type(None), dict),
}
"""What a record must have, and of which types."""
EXCERPT = 2**24  # numbers of these that are shown in figures
BUILT_IN: dict[str, Callable[[], np.ndarray]] = {
    "pinwheel": lambda: data.pinwheel(rng=1)[0],
    "dots": lambda: data.dots(rng=1),
    "switching": lambda: synthetic.switching_lds(rng=1).frames,
}


class Scaling(NamedTuple):
    """Columns lose ``mean`` and are divided by ``scale``, (P,) each."""

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, sequences: list[Any]) -> list[Any]:
        """Standardise sequences, recordings as they are read; NaN stays NaN.

        Raises
        ------
        ValueError
            If they have another number of dimensions.
        """
        obs_dim = sequences[0].shape[1]
        if obs_dim != len(self.mean):
            raise ValueError(
                f"data has {obs_dim} dimensions, the model was fitted to "
                f"{len(self.mean)}"
            )
        return [
            data.Recording(Scaled(each, self), index)
            if isinstance(each, data.Recording)
            else (each - self.mean) / self.scale
            for index, each in enumerate(sequences)
        ]

    def log_density(self, sequences: list[Any]) -> float:
        """Return log of the density of sequences over that of what `apply` makes.

        A mean over frames with data, in nats: each value that is observed counts its
        scale.
        """
        summary = data.summarize(sequences)
        log_scales = summary.num_observed * np.log(self.scale)
        return float(-np.sum(log_scales) / summary.num_frames)

    def undo(self, frames: np.ndarray) -> np.ndarray:
        """Bring frames (..., P) back to the units of the data."""
        return np.asarray(self.mean + self.scale * frames)

    def save(self, folder: Path) -> None:
        """Write it into the folder of a run."""
        store.save(folder / SCALING, self._asdict(), {"kind": SCALING_KIND})

    @classmethod
    def load(cls, folder: Path, record: dict[str, Any]) -> "Scaling | None":
        """Read that of a run, None if its data are taken as they are.

        Raises
        ------
        ValueError
            If the file is damaged, or disagrees with the record.
        """
        path, said = folder / SCALING, record["standardize"]
        if isinstance(said, dict):  # of an earlier version, in the record itself
            path, content = folder / RECORD, said
        elif not said:
            if path.is_file():
                raise ValueError(
                    f"{folder / RECORD}: says that nothing is standardised, but there "
                    f"is a {SCALING}"
                )
            return None
        else:
            if not path.is_file():
                raise ValueError(f"{path}: not found; {RECORD} says that there is one")
            content, meta = store.load(path)
            if meta.get("kind") != SCALING_KIND:
                raise ValueError(f"{path}: not the scaling of a run")
        with naming(str(path)):
            return cls(*(content[name] for name in cls._fields)).checked()

    def checked(self) -> "Scaling":
        """Return it as arrays; raise ValueError unless they are a scaling."""
        mean, scale = (np.asarray(part, dtype=np.float64) for part in self)
        if mean.ndim != 1 or mean.shape != scale.shape or not len(mean):
            raise ValueError(
                f"mean and scale have shapes {mean.shape} and {scale.shape}, expected "
                "(P,)"
            )
        if not np.all(np.isfinite(mean)) or not np.all((scale > 0) & (scale < np.inf)):
            raise ValueError("mean or scale is not finite, or a scale not positive")
        return Scaling(mean, scale)


class Scaled(Source):
    """A recording that is standardised as it is read."""

    dtype = np.dtype(np.float64)

    def __init__(self, recording: data.Recording, scaling: Scaling) -> None:
        self.recording, self.scaling = recording, scaling
        self.shape = recording.shape

    def __getitem__(self, steps: slice) -> np.ndarray:
        """Read consecutive steps."""
        return (self.recording[steps] - self.scaling.mean) / self.scaling.scale


class Run(NamedTuple):
    """A finished fit, read back from its folder."""

    folder: Path
    model: SVAE
    record: dict[str, Any]
    """What ``run.json`` says."""
    scaling: Scaling

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read the folder.

        Raises
        ------
        ValueError
            If it is not the folder of a run, or a file in it is damaged.
        """
        folder = Path(folder)
        record = read_record(folder)
        if not (folder / "model.npz").is_file():
            raise ValueError(f"{folder}: its fit has no model yet")
        model = load(folder / "model.npz")
        if not isinstance(model, SVAE):
            raise ValueError(f"{folder}: its model is no SVAE")
        scaling = Scaling.load(folder, record)
        if scaling is None:
            scaling = Scaling(np.zeros(model.obs_dim_), np.ones(model.obs_dim_))
        if len(scaling.mean) != model.obs_dim_:
            raise ValueError(
                f"{folder}: its scaling is of {len(scaling.mean)} dimensions, its "
                f"model of {model.obs_dim_}"
            )
        return cls(folder, model, record, scaling)

    def read(self, source: str | None) -> list[Any]:
        """Read data in the units of the model; by default what it was fitted to."""
        if source is None:
            return self.scaling.apply(read_own(self.folder, self.record).sequences)
        shape = frame_shape_in(self.record)
        return self.scaling.apply(open_data(source, shape).sequences)

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """Rows and columns of the image that a frame is, None if it is none."""
        shape = frame_shape_in(self.record)
        return shape if isinstance(shape, tuple) else None


class Data(NamedTuple):
    """Data of a fit, and what their source says of them."""

    sequences: list[Any]
    frame_shape: tuple[int, int] | None = None
    """Rows and columns of the image that a frame is, None if it is none."""
    quantity: str | None = None
    """What the values are and their unit, if the source says so."""


def frame_shape_in(record: dict[str, Any]) -> tuple[int, int] | str | None:
    """Return how a record says that frames are to be read, as `open_data` takes it.

    None, that arrays of three axes are sequences, for a run of an earlier version.
    """
    said = record["settings"].get("frame_shape", "none")
    if said in ("none", "auto"):
        return None if said == "none" else "auto"
    shape = tuple(said) if isinstance(said, (list, tuple)) else ()
    if len(shape) != 2 or not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"{RECORD}: its frame_shape is {said!r}")
    return int(shape[0]), int(shape[1])


def words_of_figures(record: dict[str, Any]) -> dict[str, Any]:
    """Return how figures call the values of a run, if its data said what they are."""
    return {"label": str(record["quantity"])} if "quantity" in record else {}


def read_own(folder: Path, record: dict[str, Any]) -> Data:
    """Read the data that a record names.

    Raises
    ------
    ValueError
        If they are not there, or damaged; names the record too.
    """
    try:
        return open_data(record["data"], frame_shape_in(record))
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder / RECORD}: its data: {error}") from error


def read_record(folder: Path) -> dict[str, Any]:
    """Read what ``run.json`` says of a run.

    Raises
    ------
    ValueError
        If it is not the folder of a run, or the file is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder}: not the folder of a `svae fit`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for name, kinds in PARTS.items():
            if type(record[name]) not in kinds:
                raise ValueError(f"its {name} is {record[name]!r}")
        if type(record.get("num_frames", 0)) is not int:
            raise ValueError(f"its num_frames is {record['num_frames']!r}")
    # whatever a damaged file makes json raise, or is when it is no table
    except Exception as error:
        raise ValueError(f"{path}: damaged, or not of a run ({error!r})") from error
    return dict(record)


def clear(folder: Path) -> None:
    """Remove what a run has written into its folder; the record of it first."""
    names = (RECORD, SCALING, *checkpoint.FILES, checkpoint.TRIAL, *PRODUCTS)
    for path in [*(folder / name for name in names), *folder.glob("figures/*.png")]:
        path.unlink(missing_ok=True)


def read(source: str) -> list[Any]:
    """Read the sequences of `open_data`, without images."""
    return open_data(source).sequences


def open_data(source: str, frame_shape: tuple[int, int] | str | None = None) -> Data:
    """Read a built-in data set, a file, or one of its arrays as ``FILE:NAME``.

    What does not fit into memory easily comes as recordings.

    Parameters
    ----------
    source : str
    frame_shape : (H, W) or "auto", optional
        Of the images that frames are, as `data.load` takes it.  Frames of a MoSeq
        extraction are images in any case.

    Raises
    ------
    ValueError
        If there is no such data, it is damaged, or frames have not ``H W`` values.
    """
    given = frame_shape if isinstance(frame_shape, tuple) else None
    if source in BUILT_IN:
        sequences = data.as_sequences(BUILT_IN[source]())
        return Data(sequences, _checked_shape(given, sequences, source))
    path, key = split(source)
    if not path.is_file():
        known = ", ".join(BUILT_IN)
        raise ValueError(f"{source}: neither a file nor built-in data ({known})")
    loaded = data.load(path, key, mmap=True, frame_shape=frame_shape)
    try:
        sequences = data.as_sequences(loaded)
    except ValueError as error:
        if not isinstance(loaded, list) or path.suffix.lower() != ".npz":
            raise
        with np.load(path) as arrays:
            shapes = ", ".join(f"{name} {arrays[name].shape}" for name in arrays.files)
        raise ValueError(
            f"{path}: its arrays are no sequences of one kind ({shapes}); name the one "
            f"that is meant, {path}:{next(iter(shapes.split()))}: {error}"
        ) from error
    first = sequences[0]
    shape, quantity = given, None
    if isinstance(first, data.Recording):
        shape, quantity = given or first.frame_shape, first.quantity
    shape = _checked_shape(shape, sequences, source)
    if _size(sequences) <= MEMORY:
        sequences = data.as_sequences([np.asarray(each) for each in sequences])
    return Data(sequences, shape, quantity)


def _checked_shape(
    shape: tuple[int, int] | None, sequences: list[Any], source: str
) -> tuple[int, int] | None:
    """Return the shape of images; raise ValueError if frames are none of this shape."""
    known = getattr(sequences[0], "frame_shape", None)
    size = sequences[0].shape[1]
    if shape is None or (shape[0] * shape[1] == size and known in (None, shape)):
        return shape
    found = f"{size} values" if known is None else f"{known[0]} x {known[1]} pixels"
    raise ValueError(f"{source}: frames have {found}, not {shape[0]} x {shape[1]}")


def split(source: str) -> tuple[Path, str | None]:
    """Split ``FILE:NAME`` into the file and the name of the array in it, if any."""
    file, colon, key = source.rpartition(":")
    if colon and not Path(source).is_file() and Path(file).is_file():
        return Path(file), key
    return Path(source), None


def name_of(source: str) -> str:
    """Return a name for data that can be part of a file's name."""
    path, key = split(source)
    return "-".join([path.stem, *filter(None, (key or "").split("/"))])


def excerpt(sequences: list[Any]) -> list[Any]:
    """Return sequences, or the first frames of those that are not in memory."""
    if _size(sequences) <= MEMORY:
        return sequences
    left, first = max(1, EXCERPT // sequences[0].shape[1]), []
    for each in sequences:
        first.append(each[:left])
        left -= len(first[-1])
        if left == 0:
            break
    return first


def _size(sequences: list[Any]) -> int:
    return sum(len(each) for each in sequences) * int(sequences[0].shape[1])


class Missing(NamedTuple):
    """How much of the data is missing."""

    values: int
    num_values: int
    frames: int
    """Frames of which there is no value at all."""
    num_frames: int

    @property
    def frames_with_data(self) -> int:
        """Frames of which there is a value; numbers per frame are per one of these."""
        return self.num_frames - self.frames


def survey(sequences: list[Any], scaling: str = "column") -> tuple[Missing, Scaling]:
    """Go through all data once: count what is missing, and find its scaling.

    That brings each column to mean 0 where it is observed, and

    - with "column", to variance 1: what suits columns of different units.  One that is
      constant, or missing everywhere, comes to 0 throughout.
    - with "shared", the mean variance of the columns that vary to 1.  All are divided
      by one number, so that pixels stay comparable: dust, in pixels that else never
      move, would have 30 standard deviations by their own.

    Raises
    ------
    ValueError
        If no value at all was observed.
    """
    summary = data.summarize(sequences, moments=True)
    assert summary.moments is not None
    mean, deviation = summary.moments
    num_frames = sum(len(each) for each in sequences)
    num_values = num_frames * len(mean)
    missing = Missing(
        num_values - int(summary.num_observed.sum()),
        num_values,
        num_frames - summary.num_frames,
        num_frames,
    )
    varies = summary.high > summary.low
    if scaling == "shared" and varies.any():
        weights = summary.num_observed[varies]
        pooled = np.average(deviation[varies] ** 2, weights=weights)
        return missing, Scaling(mean, np.full(len(mean), np.sqrt(pooled)))
    return missing, Scaling(mean, np.where(varies, deviation, 1.0))
