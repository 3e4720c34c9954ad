"""An adapter's answers to the cases: asked for in a process of its own, and judged.

An adapter is a Python file with a function for each kind of case that it can answer::

    name, version = "mine", "1.0"
    expected_failures = {"lds-singular-Q": "needs Q to have an inverse"}

    def lds(inputs):
        ...  # inputs["standard.A"], ...
        return {"log_likelihood": ..., "smoothed.mean": ...}

It answers what it can, raises ``NotImplementedError`` with a reason for a case that is
not its business, and names in ``expected_failures`` what it is known to get wrong: a
case, a kind, or either with a colon and a quantity.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, NamedTuple

from svae.crosscheck import adapters
from svae.crosscheck.cases import KINDS, Case
from svae.crosscheck.compare import Verdict, judge
from svae.crosscheck.guess import with_guess
from svae.crosscheck.metamorphic import check

__all__ = ["SECONDS", "Report", "run"]

SECONDS = 60.0
"""That a case may take, unless another number is said."""
START = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from svae.crosscheck import worker; worker.main(sys.argv[1])"
)
"""Imports what this process does, and nothing of the folder that it runs in."""
LOADING = 300.0
"""Seconds that an adapter may take to be imported."""


class Report(NamedTuple):
    """What is said of an implementation."""

    name: str
    version: str
    verdicts: list[Verdict]
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        """Whether nothing is wrong but what was expected to be."""
        return all(one.well for one in self.verdicts)


def run(
    adapter: str,
    cases: Iterable[Case],
    seconds: float = SECONDS,
    guesses: bool = True,
    progress: Callable[[Verdict], Any] = lambda verdict: None,
    relations: bool = False,
) -> Report:
    """Ask an adapter for all cases, and judge its answers.

    Parameters
    ----------
    adapter : str
        The path of a Python file or the name of a shipped adapter.
    cases : iterable of Case
    seconds : float
        That a case may take.
    guesses : bool
        Whether to look for the cause of what is wrong.
    progress : callable
        Is given each verdict.
    relations : bool
        Whether to try the relations of `svae.crosscheck.metamorphic` on each case
        instead, which no certified answer is needed for.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no such adapter, it cannot be imported, or it expects the failure
        of something that is no case and no kind.
    """
    begin = time.perf_counter()
    cases = list(cases)
    with Worker(check_name(adapter)) as worker:
        about = worker.about
        expected = {str(k): str(v) for k, v in about["expected_failures"].items()}
        check_expectations(expected, cases)
        used: set[str] = set()
        verdicts = []
        for case in cases:
            if relations:
                verdict = relate_one(worker, case, seconds)
            else:
                verdict = judge_one(worker, case, seconds, guesses)
            verdict = expect(verdict, expected, used)
            verdicts.append(verdict)
            progress(verdict)
    for key in () if relations else expected:
        if key not in used and key.partition(":")[0] in judged_names(verdicts):
            reason = f"nothing fails that was expected to: {expected[key]}"
            kind = key.partition(":")[0]
            verdicts.append(Verdict(key, kind, "unexpected pass", reason=reason))
            progress(verdicts[-1])
    elapsed = time.perf_counter() - begin
    return Report(about["name"], about["version"], verdicts, elapsed)


def check_name(adapter: str) -> str:
    """Raise ValueError if there is no such adapter."""
    if adapter.endswith(".py"):
        if not Path(adapter).is_file():
            raise ValueError(f"there is no file {adapter}")
    elif adapter not in adapters.NAMES:
        near = get_close_matches(adapter, adapters.NAMES, 1)
        hint = f"; is it {near[0]}?" if near else ""
        raise ValueError(
            f"{adapter!r} is neither a Python file nor one of "
            f"{', '.join(adapters.NAMES)}{hint}"
        )
    return adapter


def check_expectations(expected: Mapping[str, str], cases: list[Case]) -> None:
    """Raise ValueError if something is expected of what does not exist."""
    from svae.crosscheck.cases import names

    known = {*KINDS, *names(), *(case.name for case in cases)}
    for key in expected:
        head = key.partition(":")[0]
        if head not in known:
            near = get_close_matches(head, known, 1)
            hint = f"; is it {near[0]}?" if near else ""
            raise ValueError(
                f"expected_failures names {key!r}, which is no case and no kind{hint}"
            )


def judge_one(worker: "Worker", case: Case, seconds: float, guesses: bool) -> Verdict:
    """Ask for one case, and judge what comes."""
    begin = time.perf_counter()
    word, about = worker.ask(case.kind, case.inputs, seconds)
    elapsed = time.perf_counter() - begin
    if word != "answers":
        return Verdict(case.name, case.kind, word, reason=about, seconds=elapsed)
    try:
        verdict = judge(case, about)
    except ValueError as why:
        return Verdict(case.name, case.kind, "failed", reason=str(why), seconds=elapsed)
    if guesses and verdict.verdict == "wrong":
        verdict = with_guess(case, about, verdict)
    return replace(verdict, seconds=elapsed)


class NoAnswerError(Exception):
    """What an adapter said instead of an answer, in a verdict's word and reason."""


def relate_one(worker: "Worker", case: Case, seconds: float) -> Verdict:
    """Try the relations that apply to a case."""
    begin = time.perf_counter()

    def ask(inputs: dict[str, Any]) -> dict[str, Any]:
        word, about = worker.ask(case.kind, inputs, seconds)
        if word == "not judged":
            raise NotImplementedError(about)
        if word != "answers":
            raise NoAnswerError(word, about)
        return dict(about)

    try:
        found = check(case, ask)
    except NotImplementedError as error:
        return Verdict(case.name, case.kind, "not judged", reason=str(error))
    except NoAnswerError as error:
        word, reason = error.args
        return Verdict(case.name, case.kind, word, reason=reason)
    scores = tuple(
        one._replace(quantity=f"{name}: {one.quantity}")
        for name, several in found.items()
        for one in several
    )
    right = all(one.right for one in scores)
    word = "not judged" if not scores else "right" if right else "wrong"
    elapsed = time.perf_counter() - begin
    reason = "" if scores else "no relation applies"
    return Verdict(case.name, case.kind, word, scores, reason, seconds=elapsed)


def expect(verdict: Verdict, expected: Mapping[str, str], used: set[str]) -> Verdict:
    """Take what was expected into account, and note in `used` what came true."""
    heads = verdict.case, verdict.kind
    if verdict.verdict in ("failed", "too slow"):
        for head in heads:
            if head in expected:
                used.add(head)
                reason = f"{expected[head]} [{verdict.reason}]"
                return replace(verdict, verdict="expected failure", reason=reason)
    if verdict.verdict == "wrong":
        wrong = [one.quantity for one in verdict.scores if not one.right]
        keys = {
            name: next(
                (
                    key
                    for head in heads
                    for key in (f"{head}:{name}", head)
                    if key in expected
                ),
                None,
            )
            for name in wrong
        }
        used.update(key for key in keys.values() if key)
        if all(keys.values()):
            reasons = dict.fromkeys(expected[key] for key in keys.values() if key)
            reason = "; ".join(reasons)
            return replace(verdict, verdict="expected failure", reason=reason)
    if verdict.verdict == "right" and verdict.case in expected:
        used.add(verdict.case)
        reason = f"was expected to fail: {expected[verdict.case]}"
        return replace(verdict, verdict="unexpected pass", reason=reason)
    return verdict


def judged_names(verdicts: Iterable[Verdict]) -> set[str]:
    """Return cases that were judged, and their kinds."""
    judged = [one for one in verdicts if one.verdict != "not judged"]
    return {name for one in judged for name in (one.case, one.kind)}


class Worker:
    """A process with an adapter, started anew when it has died."""

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter
        self.process: subprocess.Popen[bytes] | None = None
        self.about: dict[str, Any] = {}

    def __enter__(self) -> "Worker":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process; raise ValueError if the adapter cannot be imported."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, self.adapter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        word, about = self._receive(LOADING)
        if word != "ready":
            self.stop()
            raise ValueError(f"adapter {self.adapter}: {about}")
        self.about = about

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def ask(self, kind: str, inputs: dict[str, Any], seconds: float) -> tuple[str, Any]:
        """Return what the adapter says of a case."""
        if self.process is None:
            self.start()
        assert self.process is not None and self.process.stdin is not None
        try:
            pickle.dump((kind, inputs), self.process.stdin)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        word, about = self._receive(seconds)
        if word in ("too slow", "died"):
            self.stop()
        return ("failed" if word == "died" else word), about

    def _receive(self, seconds: float) -> tuple[str, Any]:
        process = self.process
        assert process is not None and process.stdout is not None
        late: list[bool] = []

        def end() -> None:
            late.append(True)
            process.kill()

        timer = Timer(seconds, end)
        timer.start()
        try:
            word, about = pickle.load(process.stdout)
            return str(word), about
        except (EOFError, pickle.UnpicklingError):
            if late:
                return "too slow", f"no answer within {seconds:g} seconds"
            status = process.wait()
            return "died", f"the process of the adapter ended with status {status}"
        finally:
            timer.cancel()
