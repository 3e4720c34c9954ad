"""An adapter may do what it wants: what comes of it is a verdict."""

import textwrap
from dataclasses import replace

import numpy as np
import pytest

from svae.crosscheck import run
from svae.crosscheck.compare import Verdict
from svae.crosscheck.report import as_json, as_page, summary, table
from svae.crosscheck.scores import Score

HEAD = """
from svae.crosscheck.museum import textbook
import numpy as np
name, version = "mine", "1.5"
"""


@pytest.fixture
def verdicts(tmp_path, lds_case, hmm_case):
    """Return a function that runs the text of an adapter, on both cases."""

    def run_text(text, seconds=30.0, guesses=False):
        path = tmp_path / "mine.py"
        path.write_text(HEAD + textwrap.dedent(text))
        report = run.run(str(path), [lds_case, hmm_case], seconds, guesses)
        return report, {one.case: one for one in report.verdicts}

    return run_text


def test_right_and_unanswered(verdicts):
    report, found = verdicts("""
    print("an adapter may print")
    def lds(inputs):
        print("whenever it wants")
        return textbook.lds(inputs)
    """)
    assert (report.name, report.version, report.well) == ("mine", "1.5", True)
    assert found["lds-made"].verdict == "right"
    assert found["hmm-made"].verdict == "not judged"
    assert "no function hmm" in found["hmm-made"].reason


OUTCOMES = {
    "raise NotImplementedError('no gaps')": ("not judged", "no gaps"),
    "return 1 / 0": ("failed", "ZeroDivisionError: division by zero (line "),
    "raise SystemExit(3)": ("failed", "SystemExit: 3"),
    "return [1, 2]": ("failed", "returned list, wanted a dict"),
    "return {'smoothed': 1.0}": ("failed", "no quantity is named 'smoothed'"),
    "import os; os._exit(7)": ("failed", "ended with status 7"),
    "import os; os.kill(os.getpid(), 9)": ("failed", "ended with status -9"),
    "import time; time.sleep(60)": ("too slow", "within 4 seconds"),
    "return {'smoothed.mean': object()}": ("wrong", ""),
    "return {'smoothed.mean': np.full((2, 6, 2), np.nan)}": ("wrong", ""),
    "return {'smoothed.mean': np.zeros(3)}": ("wrong", ""),
    "return {}": ("not judged", "nothing is answered"),
    "return textbook.lds(inputs)": ("right", ""),
}
"""What functions do, and what is said of them."""


def test_whatever_happens_is_a_verdict_and_the_next_case_is_asked(tmp_path, lds_case):
    lines = [HEAD, "def lds(inputs):"]
    cases = []
    for number, body in enumerate(OUTCOMES):
        lines += [f"    if inputs['number'] == {number}:", f"        {body}"]
        inputs = lds_case.inputs | {"number": np.array(number)}
        cases.append(replace(lds_case, name=body, inputs=inputs))
    (tmp_path / "mine.py").write_text("\n".join(lines))
    report = run.run(str(tmp_path / "mine.py"), cases, 4.0, guesses=False)
    for one in report.verdicts:
        verdict, reason = OUTCOMES[one.case]
        assert one.verdict == verdict, one
        assert reason in one.reason


def test_failures_may_be_expected():
    scores = tuple(
        Score(name, right, 3.0, 1e-3, 1e9)
        for name, right in (("mean", False), ("cov", True))
    )
    wrong = Verdict("one", "lds", "wrong", scores)
    for key in ("one", "lds", "one:mean", "lds:mean"):
        used = set()
        found = run.expect(wrong, {key: "known"}, used)
        assert (found.verdict, found.reason) == ("expected failure", "known")
        assert found.well and used == {key}
    for key in ("two", "hmm", "lds:cov", "one:cov"):
        assert run.expect(wrong, {key: "known"}, set()) == wrong


@pytest.mark.parametrize("key", ["lds-made", "lds:smoothed.mean"])
def test_an_expected_failure_that_passes_is_said(verdicts, key):
    report, found = verdicts(f"""
    expected_failures = {{"{key}": "known"}}
    lds = textbook.lds
    """)
    assert not report.well
    assert found[key].verdict == "unexpected pass"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def lds(:", "SyntaxError"),
        ("expected_failures = {'ldss': 'x'}", "no case and no kind; is it lds?"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused(verdicts, text, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        verdicts(text)


@pytest.mark.parametrize("name", ["dynamaxx", "nowhere.py"])
def test_unknown_adapters_are_refused(name):
    with pytest.raises(ValueError, match="is it dynamax|there is no file"):
        run.run(name, [])


def test_reports(verdicts):
    report, _ = verdicts(
        """
    def lds(inputs):
        answers = textbook.lds(inputs, False)
        return answers | {"smoothed.mean": answers["filtered.mean"] + 0.0}
    def hmm(inputs):
        raise ValueError("<b>no</b>")
    """,
        guesses=True,
    )
    assert "1 wrong, 1 failed of 2 cases" in summary(report)
    assert "guess: as if it is what is filtered" in table(report)
    found = as_json(report)
    one = found["cases"][0]
    assert (found["well"], one["verdict"]) == (False, "wrong")
    assert one["quantities"]["smoothed.mean"]["right"] is False
    assert one["quantities"]["smoothed.mean"]["where"].startswith("sequence")
    page = as_page(report)
    assert "&lt;b&gt;no&lt;/b&gt;" in page and "<b>no</b>" not in page
    assert page.count("<tr") == page.count("</tr>")
    assert page.count("<details") == page.count("</details>") == 1


def test_an_infinite_error_is_null_in_json(lds_case):
    from svae.crosscheck.compare import judge

    verdict = judge(lds_case, {"log_likelihood": np.zeros(7)})
    report = run.Report("mine", "", [verdict, Verdict("x", "lds", "not judged")])
    assert as_json(report)["cases"][0]["quantities"]["log_likelihood"]["error"] is None


def test_relations_are_tried_through_an_adapter(tmp_path, lds_case, hmm_case):
    (tmp_path / "mine.py").write_text(
        HEAD
        + """
def lds(inputs):
    return textbook.lds(inputs, False)
def hmm(inputs):
    answers = textbook.hmm(inputs, False)
    return answers | {"log_likelihood": 2 * answers["log_likelihood"]}
"""
    )
    cases = [lds_case, hmm_case]
    report = run.run(str(tmp_path / "mine.py"), cases, relations=True)
    one, other = report.verdicts
    assert one.verdict == "right" and len(one.scores) > 20
    wrong = {score.quantity for score in other.scores if not score.right}
    assert wrong == {"shift: log_likelihood"}


def test_modules_of_the_folder_are_not_taken_for_others(
    tmp_path, monkeypatch, hmm_case
):
    monkeypatch.chdir(tmp_path)
    for name in ("types", "svae", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    (tmp_path / "mine.py").write_text(HEAD + "hmm = textbook.hmm")
    assert run.run("mine.py", [hmm_case]).verdicts[0].verdict == "right"
