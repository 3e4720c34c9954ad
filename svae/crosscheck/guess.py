"""A plain guess at what has gone wrong, by finding what would give the same numbers.

A *hypothesis* is a way to come to other answers: a mistake of the museum; an argument
that is read in another way, transposed, or as a precision where it is a covariance, or
not at all; or a quantity that is reported in another way, halved, or as a second moment
where it is a covariance.  The hypothesis whose answers agree with those given, where
those are wrong, is the guess, as long as it is much nearer than the truth; what it
leaves unexplained is explained by the next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from svae.crosscheck import museum
from svae.crosscheck.cases import Case
from svae.crosscheck.compare import Verdict
from svae.crosscheck.museum.gallery import FAILURES, RIGHT
from svae.crosscheck.scores import PASSES_BELOW, ROUNDOFF, digits, relative_error
from svae.types import Array, Mask

__all__ = ["Explanation", "explain", "guess", "with_guess"]

Answers = Mapping[str, Any]
LARGEST = 4000
"""Numbers of data up to which hypotheses are tried."""
NEARER = 2.0
"""Digits by which a hypothesis has to be nearer than the truth."""
AGREES = 3.0
"""Digits that it has to have at least."""
ENOUGH = 9
"""Digits above which one hypothesis is as good as another."""


class Explanation(NamedTuple):
    """What would give the same numbers."""

    says: str
    quantities: tuple[str, ...]
    digits: float
    """Digits in which the answers agree with it, in the worst of the quantities."""


NOTHING = Explanation("", (), 0.0)


class Hypothesis(NamedTuple):
    """A way to come to other answers."""

    says: str
    answers: Callable[[Case, bool], Answers]
    """Of a case, with or without gradients."""


def guess(case: Case, answers: Answers, verdict: Verdict) -> str:
    """Return a guess at the cause of wrong answers in a sentence, or nothing.

    Parameters
    ----------
    case : Case
    answers : dict of str to array
    verdict : Verdict
        Of `svae.crosscheck.compare.judge`.
    """
    found = explain(case, answers, verdict)
    wrong = [one.quantity for one in verdict.scores if not one.right]
    sentences = []
    for one in found:
        part = (
            "" if len(one.quantities) == len(wrong) else f"{listed(one.quantities)}: "
        )
        sentences.append(f"{part}as if {one.says} (agrees to {one.digits:.0f} digits)")
    left = set(wrong).difference(*(one.quantities for one in found))
    where = where_wrong(case, answers, [name for name in wrong if name in left])
    return "; ".join([*sentences, *([where] if where else [])])


def with_guess(case: Case, answers: Answers, verdict: Verdict) -> Verdict:
    """Return a verdict with a guess at the cause."""
    return replace(verdict, guess=guess(case, answers, verdict))


def listed(names: tuple[str, ...]) -> str:
    """Return names in a row, the first few."""
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def explain(case: Case, answers: Answers, verdict: Verdict) -> list[Explanation]:
    """Return what would give the wrong numbers, the simplest that explains most first.

    Parameters
    ----------
    case, answers, verdict
        As in `guess`.
    """
    comparable = [s for s in verdict.scores if np.isfinite(s.error)]
    wrong = {s.quantity: s.digits for s in comparable if not s.right}
    right = {s.quantity for s in comparable if s.right}
    data = [x for name, x in case.inputs.items() if name.startswith("natural.node")]
    size = max(np.size(x) for x in (*data, case.inputs.get("standard.y", 0)))
    if not wrong or size > LARGEST:
        return []
    slopes = any(name.startswith(("grad", "vjp", "hvp")) for name in wrong)
    found, candidates = [], []
    for hypothesis in hypotheses(case, answers):
        try:
            with np.errstate(all="ignore"):
                other = hypothesis.answers(case, slopes)
        except (*FAILURES, TypeError, KeyError):
            continue
        candidates.append((hypothesis.says, other))
        merit, one = fits(case, hypothesis.says, other, answers, wrong, right)
        if merit == (len(wrong), ENOUGH):  # none can be better
            return [one]
    while wrong:
        fitted = [fits(case, *one, answers, wrong, right) for one in candidates]
        _, best = max(fitted, key=lambda pair: pair[0], default=(None, NOTHING))
        if not best.quantities:
            break
        found.append(best)
        wrong = {q: d for q, d in wrong.items() if q not in best.quantities}
        right = set()
    return found


def fits(
    case: Case,
    says: str,
    other: Answers,
    answers: Answers,
    wrong: Mapping[str, float],
    right: set[str],
) -> tuple[tuple[int, int], Explanation]:
    """Return how well other answers agree with wrong ones, and what they explain.

    What they have wrong and the answers have right counts against them.
    """
    explained = {}
    for name, of_truth in wrong.items():
        if name in other and np.shape(other[name]) == np.shape(answers[name]):
            near = agreement(answers[name], other[name])
            if near >= AGREES and near > of_truth + NEARER:
                explained[name] = near
    against = 0
    for name in () if isinstance(other, OnlyWhereWrong) else right:
        if name in other and np.shape(other[name]) == np.shape(case.expected[name].hi):
            truth = case.expected[name]
            error = relative_error(other[name], truth.hi, truth.lo, truth.radius)[0]
            allowed = PASSES_BELOW * ROUNDOFF * max(case.condition(name), 1.0)
            against += not error < 100 * allowed
    least = min(explained.values(), default=0.0)
    merit = len(explained) - against, round(min(least, ENOUGH))
    return merit, Explanation(says, tuple(explained), least)


def agreement(answer: Any, other: Any) -> float:
    """Return the digits in which two arrays agree."""
    answer, other = np.asarray(answer, float), np.asarray(other, float)
    if np.isnan(answer).any() or np.isnan(other).any():
        return 0.0
    return digits(relative_error(answer, other)[0])


def hypotheses(case: Case, answers: Answers) -> Iterator[Hypothesis]:
    """Yield ways to come to other answers, the simplest first."""
    if case.kind in RIGHT:  # what is only less exact is no mistake
        yield Hypothesis(
            "the plain recursions, which lose digits here, had been used",
            lambda case, slopes: RIGHT[case.kind](case.inputs, slopes),
        )
    yield from readings(case)
    yield from reports(case, answers)
    for one in museum.MISTAKES.values():
        if case.kind in one.kinds and case.kind in RIGHT:

            def wrong(case: Case, slopes: bool, one: Any = one) -> Answers:
                return museum.answer(one, case, slopes)

            yield Hypothesis(one.says, wrong)


# --- arguments that are read in another way

Change = Callable[[Array], Array]

SQUARE: dict[str, Change] = {
    "{} is transposed": lambda x: np.swapaxes(x, -1, -2),
}
COVARIANCE: dict[str, Change] = {
    "{} is taken for a precision": np.linalg.inv,
    "{} is taken for a root of the covariance": lambda x: x @ np.swapaxes(x, -1, -2),
    "only the diagonal of {} is used": lambda x: x * np.eye(x.shape[-1]),
    "{} is taken for zero": np.zeros_like,
}
ABSENT: dict[str, Change] = {"{} is taken for zero": np.zeros_like}
PER_STEP: dict[str, Change] = {
    "{} is taken one step late": lambda x: np.concatenate([x[:1], x[:-1]]),
    "{} is taken one step early": lambda x: np.concatenate([x[1:], x[-1:]]),
    "{} of the first step is used at all steps": lambda x: np.broadcast_to(
        x[:1], x.shape
    ),
}
SHIFTED: dict[str, Change] = {
    "{} is taken one step late": lambda x: np.concatenate([x[:, :1], x[:, :-1]], 1),
    "{} is taken one step early": lambda x: np.concatenate([x[:, 1:], x[:, -1:]], 1),
}
FACTORS: dict[str, Change] = {
    "{} is halved": lambda x: x / 2,
    "{} is doubled": lambda x: 2 * x,
    "{} has the other sign": lambda x: -x,
}
UNIFORM: Change = lambda x: np.full(x.shape, 1 / x.shape[-1])  # noqa: E731

READINGS: dict[str, dict[str, dict[str, Change]]] = {
    "lds": {
        "A": SQUARE,
        "C": SQUARE,
        "Q": COVARIANCE,
        "R": COVARIANCE,
        "P0": COVARIANCE,
        "m0": ABSENT,
        "B": ABSENT,
        "D": ABSENT,
        "u": ABSENT | SHIFTED,
        "y": {"missing entries of {} are zeros": np.nan_to_num},
    },
    "hmm": {
        "transition": SQUARE,
        "start": {"{} is taken for uniform": UNIFORM},
        "log_likelihoods": FACTORS,
    },
    "gaussian_chain": {
        "init.J": FACTORS | ABSENT,
        "init.h": FACTORS | ABSENT,
        "pair.J11": FACTORS | ABSENT,
        "pair.J12": SQUARE | FACTORS,
        "pair.J22": FACTORS | ABSENT,
        "node.J": FACTORS,
        "node.h": FACTORS | ABSENT,
    },
    "markov_chain": {"init": ABSENT | FACTORS, "pair": SQUARE, "node": FACTORS},
    "viterbi": {"init": ABSENT, "pair": SQUARE, "node": FACTORS},
}
"""How arguments of each kind of case can be misread."""


def readings(case: Case) -> Iterator[Hypothesis]:
    """Yield what comes of arguments that are misread."""
    words = "standard" if case.kind in ("lds", "hmm") else "natural"
    for name, changes in READINGS.get(case.kind, {}).items():
        key = f"{words}.{name}"
        if key not in case.inputs:
            continue
        x = np.asarray(case.inputs[key], float)
        if case.kind == "lds" and x.ndim == 3 and name not in ("y", "u"):
            changes = changes | PER_STEP
        for says, change in changes.items():
            yield Hypothesis(says.format(name), _reread(key, change))
    for key in ("natural.lengths", "standard.lengths", "lengths"):
        if key in case.inputs:
            yield Hypothesis("the lengths are ignored", _reread(key, None))


def _reread(key: str, change: Change | None) -> Callable[[Case, bool], Answers]:
    def answers(case: Case, slopes: bool) -> Answers:
        inputs = dict(case.inputs)
        x = inputs.pop(key)
        if change is not None:
            inputs[key] = change(np.asarray(x, float))
        elif words_past_the_end(inputs):
            raise ValueError("there is nothing behind the ends to count")
        return RIGHT[case.kind](inputs, slopes)

    return answers


def words_past_the_end(inputs: Mapping[str, Any]) -> bool:
    """Whether natural inputs are NaN behind the ends of sequences."""
    nodes = (x for name, x in inputs.items() if name.startswith("natural.node"))
    return any(np.isnan(x).any() for x in nodes)


# --- quantities that are reported in another way

Report = Callable[[Case, str, Array, Answers], Array]


def _partner(case: Case, name: str, of: str) -> Array:
    """Return the truth of a neighbouring quantity."""
    return np.asarray(case.expected[name.rpartition(".")[0] + "." + of].hi)


def _outer(a: Array, b: Array) -> Array:
    return a[..., :, None] * b[..., None, :]


def _with_means(case: Case, name: str, x: Array, answers: Answers) -> Array:
    mean = _partner(case, name, "mean")
    if name.endswith("cross_cov"):
        return x + _outer(mean[:, :-1], mean[:, 1:])
    return x + _outer(mean, mean)


def _without_means(case: Case, name: str, x: Array, answers: Answers) -> Array:
    mean = _partner(case, name, "Ex")
    return x - (_outer(mean, mean) if x.ndim > mean.ndim else mean**2)


def _correlation(case: Case, name: str, x: Array, answers: Answers) -> Array:
    sd = np.sqrt(np.diagonal(x, axis1=-1, axis2=-2))
    return x / _outer(sd, sd)


def _other(stage: str) -> Report:
    def report(case: Case, name: str, x: Array, answers: Answers) -> Array:
        head, _, tail = name.partition(".")
        if head not in ("filtered", "predicted", "smoothed") or head == stage:
            raise KeyError(name)
        return np.asarray(case.expected[f"{stage}.{tail}" if tail else stage].hi)

    return report


def _constant(case: Case, name: str, x: Array, answers: Answers) -> Array:
    """Return log Z with as many constants as fit best, if they are whole numbers."""
    if name not in ("logZ", "log_likelihood", "log_normalizer", "bound"):
        raise KeyError(name)
    gap = np.asarray(answers[name], float) - x
    count = np.round(gap / (0.5 * np.log(2 * np.pi)))
    sizes = case.sizes
    most = 2 * sizes.get("T", 1) * max(sizes.get("D", 1), sizes.get("P", 1)) ** 2
    if not count.any() or np.abs(count).max() > most:
        raise ValueError("no constant is missing")
    return x + count * 0.5 * np.log(2 * np.pi)


def _diagonal_added(case: Case, name: str, x: Array, answers: Answers) -> Array:
    gap = np.asarray(answers[name], float) - x
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        raise KeyError(name)
    return x + np.mean(np.diagonal(gap, axis1=-1, axis2=-2)) * np.eye(x.shape[-1])


def _simply(change: Change) -> Report:
    return lambda case, name, x, answers: change(x)


def _of_matrices(change: Change) -> Report:
    def report(case: Case, name: str, x: Array, answers: Answers) -> Array:
        if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
            raise KeyError(name)
        return change(x)

    return report


def _over(size: str) -> Report:
    return lambda case, name, x, answers: x / case.sizes[size]


REPORTS: dict[str, Report] = {
    "the sign is the other": _simply(lambda x: -x),
    "it is twice the right value": _simply(lambda x: 2 * x),
    "it is half of the right value": _simply(lambda x: x / 2),
    "it is transposed": _of_matrices(lambda x: np.swapaxes(x, -1, -2)),
    "it is the second moment, the product of the means included": _with_means,
    "it is a covariance, the product of the means left out": _without_means,
    "it is the correlation, not the covariance": _correlation,
    "it is the inverse": _of_matrices(np.linalg.inv),
    "it is the Cholesky factor": _of_matrices(np.linalg.cholesky),
    "only the diagonal is there": _of_matrices(lambda x: x * np.eye(x.shape[-1])),
    "it is what is filtered": _other("filtered"),
    "it is what is predicted": _other("predicted"),
    "it is what is smoothed": _other("smoothed"),
    "it is divided by the number of sequences": _over("N"),
    "it is divided by the number of steps": _over("T"),
    "it is the logarithm to base 2": _simply(lambda x: x / np.log(2)),
    "it is the logarithm to base 10": _simply(lambda x: x / np.log(10)),
    "it is the exponential": _simply(np.exp),
    "it is the logarithm": _simply(np.log),
    "time runs backwards": _simply(lambda x: x[:, ::-1]),
    "it is one step late": _simply(
        lambda x: np.concatenate([x[:, :1], x[:, :-1]], axis=1)
    ),
    "it is one step early": _simply(
        lambda x: np.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    ),
    "the numbers have single precision": _simply(
        lambda x: x.astype(np.float32).astype(float)
    ),
    "constants log(2 pi)/2 are missing, or too many": _constant,
    "a constant is added to the diagonal": _diagonal_added,
}
"""Other ways to report a quantity."""


def reports(case: Case, answers: Answers) -> Iterator[Hypothesis]:
    """Yield what comes of quantities that are reported in another way."""
    for says, report in REPORTS.items():
        yield Hypothesis(says, _reported(report, answers))


def _reported(report: Report, given: Answers) -> Callable[[Case, bool], Answers]:
    def answers(case: Case, slopes: bool) -> Answers:
        found = {}
        for name in given:
            truth = np.asarray(case.expected[name].hi, float)
            try:
                found[name] = report(case, name, truth, given)
            except (KeyError, ValueError, IndexError, np.linalg.LinAlgError):
                continue
        return OnlyWhereWrong(found)

    return answers


class OnlyWhereWrong(dict[str, Any]):
    """Other reports of quantities, each of which may be made or not.

    So the ones that are not made do not count against the others.
    """


# --- where it is wrong, if nobody knows why


def where_wrong(case: Case, answers: Answers, names: list[str]) -> str:
    """Say what the wrong entries have in common, or nothing."""
    for says, chosen in places(case):
        hits = [
            _wrong_only_there(case, name, answers[name], chosen)
            for name in names
            if _is_by_step(case, name, answers[name])
        ]
        if hits and all(hits):
            return f"what is wrong is wrong only {says}"
    return ""


def _is_by_step(case: Case, name: str, answer: Any) -> bool:
    shape = case.expected[name].hi.shape
    N, T = case.sizes.get("N"), case.sizes.get("T")
    return np.shape(answer) == shape and shape[:2] == (N, T)


def _wrong_only_there(case: Case, name: str, answer: Any, chosen: Mask) -> bool:
    truth = case.expected[name].hi
    if chosen.all() or not chosen.any():
        return False
    scale = np.max(np.abs(truth)) or 1.0
    error = np.abs(np.asarray(answer, float) - truth) / scale
    error = np.where(np.isnan(error), np.inf, error)
    by_step = error.reshape(*chosen.shape, -1).max(-1, initial=0.0)
    allowed = PASSES_BELOW * ROUNDOFF * max(case.condition(name), 1.0)
    return bool((by_step[~chosen] < allowed).all())


def places(case: Case) -> Iterator[tuple[str, Mask]]:
    """Yield sets of steps (N, T) with a name."""
    N, T = case.sizes.get("N", 1), case.sizes.get("T", 1)
    steps, rows = np.arange(T), np.arange(N)[:, None]
    lengths = np.full(N, T)
    for key in ("natural.lengths", "standard.lengths", "lengths"):
        lengths = np.asarray(case.inputs.get(key, lengths))
    ends = lengths[:, None]
    both = np.zeros((N, T), bool)
    yield "at the first step", both | (steps == 0)
    yield "at the last step", both | (steps == ends - 1)
    yield "behind the end of short sequences", steps >= ends
    y = case.inputs.get("standard.y")
    if y is not None and np.shape(y)[:2] == (N, T):
        gaps = np.isnan(y)
        yield "where all of y is missing", gaps.all(-1)
        yield "where some of y is missing", gaps.any(-1)
    yield "in the first sequence", both | (rows == 0)
    yield "in sequences after the first", both | (rows > 0)
    yield "in sequences shorter than the longest", both | (ends < T)
