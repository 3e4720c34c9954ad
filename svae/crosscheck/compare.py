"""Answers beside certified values: what is right, and where it is most wrong.

`judge` takes a case and answers in memory; `compare` takes a folder of exported cases
and one with a file ``NAME.npz`` of answers for each.  Either judges what is answered
and says nothing of the rest.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from svae.crosscheck import cases
from svae.crosscheck.cases import Case
from svae.crosscheck.scores import Score, score, score_paths

__all__ = [
    "VERDICTS",
    "Verdict",
    "check_quantities",
    "compare",
    "describe_place",
    "judge",
    "read_answers",
]

VERDICTS = {
    "right": True,
    "wrong": False,
    "failed": False,
    "too slow": False,
    "not judged": True,
    "expected failure": True,
    "unexpected pass": False,
}
"""Verdicts, and whether all is well with them."""

STEPS = (".mean", ".cov", ".cross_cov", "filtered", "predicted", "smoothed")
PER_STEP = (*STEPS, "stats.node", "stats.node.ExxT", "stats.node.Ex", "samples")


@dataclass(frozen=True)
class Verdict:
    """What is said of the answers to a case."""

    case: str
    kind: str
    verdict: str
    """One of `VERDICTS`."""
    scores: tuple[Score, ...] = ()
    reason: str = ""
    """Why there is nothing to score, or why a failure was expected."""
    guess: str = ""
    """What may have gone wrong."""
    seconds: float = 0.0
    places: dict[str, str] = field(default_factory=dict)
    """Where the largest error of a wrong quantity is, in words."""

    @property
    def well(self) -> bool:
        """Whether this verdict is no reason to complain."""
        return VERDICTS[self.verdict]

    @property
    def digits(self) -> float:
        """Digits of the worst quantity; NaN if none was scored."""
        return min((s.digits for s in self.scores), default=float("nan"))


def judge(case: Case, answers: Mapping[str, Any]) -> Verdict:
    """Judge answers to a case.

    Parameters
    ----------
    case : Case
    answers : dict of str to array
        Any of the case's quantities.

    Raises
    ------
    ValueError
        If a quantity is none of the case's.

    Examples
    --------
    >>> from svae.crosscheck import cases
    >>> case = cases.load("gaussian-chain-small")
    >>> judge(case, {"logZ": case.expected["logZ"].hi}).verdict
    'right'
    """
    left_out = {"viterbi"}  # by cases whose likeliest path is not the only one
    if case.generator:  # a digest leaves out what is of single steps
        left_out = set(answers)
    answers = {
        name: x
        for name, x in answers.items()
        if name in case.expected or name not in left_out
    }
    check_quantities(case, answers)
    scores = tuple(_score(case, name, answers) for name in answers if name != "unique")
    if not scores:
        return Verdict(case.name, case.kind, "not judged", reason="nothing is answered")
    right = all(one.right for one in scores)
    places = {
        one.quantity: describe_place(case, one.quantity, one.place)
        for one in scores
        if not one.right and one.place is not None
    }
    word = "right" if right else "wrong"
    return Verdict(case.name, case.kind, word, scores, places=places)


def check_quantities(case: Case, answers: Mapping[str, Any]) -> None:
    """Raise ValueError if an answer is to a quantity that the case does not have."""
    for name in answers:
        if name not in case.expected:
            near = get_close_matches(str(name), case.expected, 1)
            instead = (
                f"is it {near[0]}?" if near else "it has " + ", ".join(case.expected)
            )
            raise ValueError(
                f"case {case.name}: no quantity is named {name!r}; {instead}"
            )


def _score(case: Case, name: str, answers: Mapping[str, Any]) -> Score:
    truth = case.expected[name]
    if name == "paths" and "logprob" in case.expected:
        paths = np.asarray(truth.hi)
        unique = np.ones(len(paths), bool)
        if "unique" in case.expected:
            unique = np.asarray(case.expected["unique"].hi)
        attained = log_potentials(case, answers[name])
        wanted = case.expected["logprob"].hi
        return score_paths(answers[name], paths, unique, attained, wanted)
    condition = case.condition(name)
    return score(name, answers[name], truth.hi, truth.lo, truth.radius, condition)


def log_potentials(case: Case, paths: Any) -> Any:
    """Return the log potential of the path of each sequence, NaN of what is none."""
    init, pair, node = (case.inputs[f"natural.{x}"] for x in ("init", "pair", "node"))
    N, T, K = node.shape
    found, paths = np.full(N, np.nan), np.asarray(paths)
    lengths = case.inputs.get("natural.lengths", np.full(N, T))
    if paths.shape != (N, T):
        return found
    pair = np.broadcast_to(pair, (N, max(T - 1, 0), K, K))
    init = np.broadcast_to(init, (N, K))
    for n, length in enumerate(lengths):
        z = paths[n, :length]
        if (z == z.astype(int)).all() and (z >= 0).all() and (z < K).all():
            z, t = z.astype(int), np.arange(length)
            steps = pair[n, t[:-1], z[:-1], z[1:]].sum()
            found[n] = init[n, z[0]] + node[n, t, z].sum() + steps
    return found


def describe_place(case: Case, name: str, place: tuple[int, ...] | None) -> str:
    """Say where an entry of a quantity is: its sequence, its step, its indices."""
    if place is None:
        return ""
    sizes = case.expected[name].hi.shape
    words: list[str] = []
    if len(sizes) > 0 and sizes[0] == case.sizes.get("N"):
        if len(sizes) == 1 and name in ("logZ", "log_likelihood", "logprob"):
            return f"sequence {place[0]}"
        by_step = name == "paths" or name.endswith(PER_STEP)
        if by_step and len(place) > 1:
            words, place = [f"sequence {place[0]}"], place[1:]
            if name == "samples":
                words, place = [*words, f"sample {place[0]}"], place[1:]
            words, place = [*words, f"step {place[0]}"], place[1:]
    if place:
        words.append("entry " + ", ".join(map(str, place)))
    return ", ".join(words)


def read_answers(path: Path) -> dict[str, Any]:
    """Read a file of answers.

    Raises
    ------
    ValueError
        If it is no archive of arrays of numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, AttributeError) as why:
        raise ValueError(
            f"{path} is no .npz archive of arrays of numbers ({why}): write it with "
            "numpy.savez"
        ) from None


def compare(folder: str | Path, answers: str | Path) -> list[Verdict]:
    """Judge files of answers to exported cases.

    Parameters
    ----------
    folder : path
        With a folder for each case, as `svae crosscheck export` writes it.
    answers : path
        With a file ``NAME.npz`` for each case that is answered.

    Returns
    -------
    list of Verdict
        For every case of the folder.

    Raises
    ------
    ValueError
        If there are no cases or no answers, a file is damaged, or has the name of no
        case or of no quantity.
    """
    folder, answers = Path(folder), Path(answers)
    for path in (folder, answers):
        if not path.is_dir():
            raise ValueError(f"{path} is no folder")
    known = cases.names(folder)
    if not known:
        raise ValueError(f"{folder} holds no cases: svae crosscheck export {folder}")
    files = {path.stem: path for path in sorted(answers.glob("*.npz"))}
    for name in files:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; is it {near[0]}.npz?" if near else ""
            raise ValueError(f"{files[name]}: {folder} has no case {name!r}{hint}")
    if not files:
        raise ValueError(
            f"{answers} holds no answers: write a file such as {known[0]}.npz"
        )
    verdicts = []
    for name in known:
        case = cases.load(folder / name)
        if name not in files:
            reason = f"there is no file {name}.npz"
            verdicts.append(Verdict(name, case.kind, "not judged", reason=reason))
            continue
        try:
            verdicts.append(judge(case, read_answers(files[name])))
        except ValueError as why:
            raise ValueError(f"{files[name]}: {why}") from None
    return verdicts
