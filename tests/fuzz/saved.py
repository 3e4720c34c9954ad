"""Damaged models, checkpoints and folders of runs: the same as before, or refused.

    python tests/fuzz/saved.py --runs 2000 --seed 0

damages what the package has saved, byte by byte, and also by the structure of its
files: members that are swapped, lack or are others, fields of the header that are
removed, added or of other types, with the digest as it was, made anew, or taken out as
in files of earlier versions.  Then it loads the model and scores with it, resumes the
fit, or runs ``svae score``.  Each ends in one of three ways,

* ``same``: what comes out is what came out before;
* ``refused``: a ValueError that names the file, on the command line in one line;
* ``other``: another result, where the damage is one that no file could tell from
  another one that is sound: it brings its own digest, or has none;

and anything else is a failure, as in `files.py`.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import svae
from svae import store
from svae.__main__ import main as command
from svae.autodiff.trees import leaves
from svae.testing.damage import damaged
from svae.testing.survey import OK, SECONDS, TooLong, survey

VALUES: list[Any] = [
    *(None, True, -1, 0, 3, 10**30, 2.5, float("nan"), "x", "", [], {}, [1], [[1, 2]]),
    *({"a": 1}, {"array": "array0"}, {"scalar": ["<f8", 1.0]}, {"scalar": ["O", 1]}),
    *({"dict": [["a", 1]]}, {"tuple": []}, {"class": "MLP"}, {"class": "os.system"}),
]
OPTIONS = {"num_steps": 3, "window": 10, "batch_size": 2, "rng": 0}


def frames() -> np.ndarray:
    """Return data."""
    values = np.random.default_rng(0).standard_normal((24, 2)).cumsum(axis=0)
    values[5, 1] = np.nan
    return values


def model() -> svae.SVAE:
    """Return a model that has all that a model can have."""
    network = svae.MLP((3,))
    return svae.SVAE(
        svae.HMM(2, 2), network, network, decoder_posterior="gaussian", inference="sin"
    )


def load(path: Path) -> Any:
    """Load a model; return all that it is."""
    loaded = svae.load(path)
    fields = {name: x for name, x in vars(loaded).items() if name != "parameters_"}
    numbers = leaves([loaded.parameters_, fields["history_"], fields["fill_"]])
    words = [repr(loaded), str(sorted(fields)), loaded.obs_dim_, loaded.sees_mask_]
    words += [loaded.best_step_, loaded.ended_]
    return [*words, loaded.score(frames(), rng=0), *numbers]


def load_conjugate(path: Path) -> Any:
    """Load a model without networks; return all that it is."""
    loaded = svae.load(path)
    numbers = leaves([loaded.natparams_, loaded.history_])
    score = loaded.score(np.nan_to_num(frames()))
    return [repr(loaded), loaded.obs_dim_, score, *numbers]


def resume(path: Path) -> Any:
    """Go on from a checkpoint; return what that comes to."""
    fitted = model().fit(
        frames(),
        **{**OPTIONS, "num_steps": 5},
        held_out=frames(),
        score_every=2,
        checkpoint=path.parent,
        resume=True,
    )
    history = {k: x for k, x in fitted.history_.items() if k != "seconds"}
    return [fitted.ended_, fitted.best_step_, *leaves([fitted.parameters_, history])]


def score(path: Path) -> Any:
    """Score the data of a run on the command line; return what it says."""
    said, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
        status = command(["score", str(path.parent)])
    if status == 0:
        return [said.getvalue()]
    lines = error.getvalue().splitlines()
    if status != 1 or len(lines) != 1 or not lines[0].startswith("svae: error: "):
        raise AssertionError(f"status {status}, {lines}")
    raise ValueError(lines[0])


def write(folder: Path) -> None:
    """Make everything that is damaged."""
    np.save(folder / "frames.npy", frames())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model().fit(
            frames(), **OPTIONS, held_out=frames(), score_every=2, checkpoint=folder
        )
        conjugate = svae.SVI(svae.LDS(2), svae.LinearEmission())
        conjugate.fit(np.nan_to_num(frames()), num_steps=2, rng=0)
        conjugate.save(folder / "svi.npz")
        words = ["fit", "lds", str(folder / "frames.npy"), "--out", str(folder / "run")]
        words += ["--num-steps", "2", "--hidden", "3", "--latent-dim", "2", "--quiet"]
        with mock.patch("svae.cli.output.can_draw", return_value=False):
            if command([*words, "--window", "10"]) != 0:
                raise AssertionError("there is no run")


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("model.npz", load),
    "conjugate": ("svi.npz", load_conjugate),
    "checkpoint": ("checkpoint.npz", resume),
    "record": ("run/run.json", score),
    "scaling": ("run/scaling.npz", score),
    "run's model": ("run/model.npz", score),
}


def trials(
    kind: str, runs: range, seed: int, folder: Path
) -> Iterator[tuple[int, str, str]]:
    """Damage files of a kind; yield the number, the damage and what became of each.

    Before each, the same without what became of it.
    """
    name, read = KINDS[kind]
    whole, spoiled = folder / "whole", folder / "spoiled"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    write(whole)
    content = (whole / name).read_bytes()
    _copy(whole, spoiled, kind)
    expected = read(spoiled / name)
    for run in runs:
        rng = np.random.default_rng([seed, run])
        structured = name.endswith(".npz") and rng.random() < 0.5
        change = restructured if structured else damaged
        what, changed = change(content, rng)
        yield run, what, ""
        _copy(whole, spoiled, kind)
        (spoiled / name).write_bytes(changed)
        result = outcome(lambda: read(spoiled / name), Path(name).name, expected)
        silent = result == "other" and not what.endswith(("renewed", "removed"))
        yield run, what, "another result in silence" if silent else result


def outcome(read: Callable[[], Any], name: str, expected: Any) -> str:
    """Read what is damaged; return one of `OK`, or what is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*it goes on, but last digits", UserWarning)
        try:
            found = read()
        except ValueError as error:
            text = str(error)
            # of a job that is another the folder is named
            named = name in text or text.startswith("resume: ")
            return "refused" if named else f"does not name the file: {text}"
        except TooLong:
            return f"more than {SECONDS} seconds"
        except Exception as error:
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    same = len(found) == len(expected) and all(
        np.array_equal(one, two, equal_nan=isinstance(one, np.ndarray))
        for one, two in zip(found, expected, strict=True)
    )
    return "same" if same else "other"


def restructured(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Change the structure of an archive; return what was done, and the archive."""
    while True:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop(store.HEADER).tobytes())
        before = json.dumps(header), dict(arrays)
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(header, arrays, rng)
        same = all(arrays.get(name) is array for name, array in before[1].items())
        if same and (json.dumps(header), len(arrays)) == (before[0], len(before[1])):
            continue
        seal = str(rng.choice(["kept", "renewed", "removed"]))
        if seal != "kept" and isinstance(header, dict):
            header.pop("digest", None)
        if seal == "renewed" and isinstance(header, dict):
            header["digest"] = store._digest(header, arrays)
        file = io.BytesIO()
        arrays[store.HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(file, **arrays)
        return f"{change.__name__}, digest {seal}", file.getvalue()


def swap_members(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Let two arrays change names, of one shape if there are any."""
    names = list(arrays)
    one, *_ = rng.permutation(names).tolist()
    alike = [n for n in names if n != one and arrays[n].shape == arrays[one].shape]
    alike = alike or [n for n in names if n != one]
    if alike:
        other = alike[int(rng.integers(len(alike)))]
        arrays[one], arrays[other] = arrays[other], arrays[one]


def remove_member(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Leave an array out."""
    del arrays[str(rng.choice(list(arrays)))]


def change_member(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Put another array in the place of one."""
    name = str(rng.choice(list(arrays)))
    old = arrays[name]
    new = [
        old.astype(np.float32),
        old.astype(str),
        -old,
        old.ravel()[: old.size // 2],
        np.full(old.shape, np.nan),
        np.full(old.shape, np.inf),
        old[..., None],
        np.zeros(old.shape),
        np.zeros(0),
        np.full(old.shape, 2**40),
    ]
    arrays[name] = new[int(rng.integers(len(new)))]


def remove_field(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Leave something out of the header."""
    node, key = _place(header, rng)
    del node[key]


def add_field(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Put something more into the header."""
    node, key = _place(header, rng)
    value = VALUES[int(rng.integers(len(VALUES)))]
    if isinstance(node, dict):
        node["more"] = value
    else:
        node.insert(key, value)


def retype_field(header: Any, arrays: Any, rng: np.random.Generator) -> None:
    """Put something else into the place of something in the header."""
    node, key = _place(header, rng)
    node[key] = VALUES[int(rng.integers(len(VALUES)))]


Change = Callable[[Any, Any, np.random.Generator], None]
CHANGES: tuple[Change, ...] = (
    *(swap_members, remove_member, change_member),
    *(remove_field, add_field, retype_field, retype_field),
)


def _place(header: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return a container in the header and a key of it."""
    places = list(_places({k: header[k] for k in ("meta", "tree")}))
    places += [(header, key) for key in header if key != "digest"]
    return places[int(rng.integers(len(places)))]


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from _places(node[key])


def _copy(whole: Path, spoiled: Path, kind: str) -> None:
    """Lay out what a trial reads, as it was."""
    shutil.rmtree(spoiled, ignore_errors=True)
    spoiled.mkdir()
    if KINDS[kind][0].startswith("run/"):
        ignore = shutil.ignore_patterns("figures")
        shutil.copytree(whole / "run", spoiled / "run", ignore=ignore)
    else:
        shutil.copy(whole / KINDS[kind][0], spoiled)


def main() -> int:
    """Fuzz files of every kind; print how many ended in which way."""
    parser = argparse.ArgumentParser(description="Read damaged models and runs.")
    parser.add_argument("--runs", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    failed = False
    for kind in options.kinds:
        counts, wrong = survey(kind, options.runs, options.seed, trials)
        print(kind, *(f"{n} {counts[n]}" for n in (*OK, "wrong")), sep="  ")
        for line in wrong:
            print(f"  {line}")
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
