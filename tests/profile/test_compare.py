"""Two saved reports side by side."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from svae import profile
from svae.__main__ import main
from svae.profile import Comparison, saved
from svae.profile.machine import environment
from svae.profile.steps import StepRecord
from tests.helpers.profiles import TINY

ROW = Comparison("other 1.0", "lds", 2, 64, 9, 10.0, 30.0, 3.0, 1e-9, "")


@pytest.fixture
def files(report, tmp_path):
    """Save a report, and one of a machine that takes twice as long."""
    here = replace(report, comparisons=[ROW])
    there = replace(
        report,
        environment=report.environment | {"cpu": "Another", "blas": "mkl for unknown"},
        records=[
            replace(record, forward_ns=2 * record.forward_ns)
            for record in report.records[:-1]
        ],
        comparisons=[replace(ROW, peer="other 2.0", peer_ns=15.0)],
    )
    return [
        str(profile.save(each, tmp_path / name) / "profile.json")
        for each, name in ((here, "here"), (there, "there"))
    ]


def content_of(file):
    return json.loads(Path(file).read_text())


def lines_of(text, beginning):
    return [line for line in text.splitlines() if line.startswith(beginning)]


def compared(text):
    """Return what was measured, how, and the figures, of each line of the table."""
    table = text[text.index("\nwhat  ") :].strip().split("\n\n")[0]
    rows = [re.split(r"  +", line.strip()) for line in table.splitlines()[1:]]
    return [(what, unit, *map(float, figures)) for what, unit, *figures in rows]


def test_each_figure_of_both_has_its_ratio(files, report):
    rows = compared(profile.compare(*files))
    both = report.records[:-1]
    times = [(a, ratio) for _, unit, a, _, ratio in rows if unit == "ns/step"]
    assert times[-1] == (30.0, 0.5)  # of the other package
    for (here, ratio), record in zip(times[:-1], both, strict=True):
        assert here == pytest.approx(record.forward_ns, rel=5e-3)
        assert ratio == 2.0
    rest = [ratio for _, unit, *_, ratio in rows if unit != "ns/step"]
    assert set(rest) == {1.0}
    assert len(rest) > 3 + len(TINY)
    names = [what for what, *_ in rows]
    assert names.count("one core") == 3
    assert "lds D=2 varying pairs N=3 T=7 S=1 threads=2" in names
    assert "beside other lds D=2 N=64 T=9" in names


def test_machines_are_named_and_what_differs(files, report):
    text = profile.compare(*files)
    (cpu,) = lines_of(text, "cpu ")
    assert report.environment["cpu"] in cpu
    assert cpu.split()[-2:] == ["Another", "differ"]
    (blas,) = lines_of(text, "blas ")
    assert report.environment["blas"] in blas
    assert "mkl for unknown" in blas
    for name in ("instructions", "OPENBLAS_CORETYPE", "svae", "numpy", "python"):
        (line,) = lines_of(text, f"{name} ")
        assert "differ" not in line


def test_what_one_file_has_alone_is_said(files):
    text = profile.compare(*files)
    alone = text[text.index("only in A:") :]
    assert "sampling K=3 N=2 T=7 S=4 threads=2: ns/step" in alone
    assert "only in B" not in text
    assert "only in B:" in profile.compare(*files[::-1])


def test_files_of_two_kinds_have_nothing_in_common(files, tmp_path):
    figures = dict.fromkeys(("step_ms", "products_ms", "ratio", "matmul_ms"), 2.0)
    figures |= dict.fromkeys(("matmul_ratio", "products_gflops", "iterations"), 2.0)
    record = StepRecord("dots", "1 x 50 x 20", 1, **figures, gradient_iterations=0.0)
    steps = profile.StepReport(environment(), [record])
    path = profile.save_steps(steps, tmp_path) / "steps.json"
    text = profile.compare(files[0], path)
    assert "A and B have no figure in common" in text
    assert "dots 1 x 50 x 20 threads=1: ms, products ms, matmul ms" in text
    (line,) = lines_of(profile.compare(path, path), "dots")[:1]
    assert line.split()[-3:] == ["2.00", "2.00", "1.00"]


def test_older_files_say_less_of_the_machine(files, tmp_path):
    content = content_of(files[0])
    del content["environment"]["blas"], content["environment"]["OPENBLAS_CORETYPE"]
    (old := tmp_path / "old.json").write_text(json.dumps(content))
    text = profile.compare(old, files[0])
    (line,) = lines_of(text, "OPENBLAS_CORETYPE")
    assert "not said" in line
    (line,) = lines_of(text, "blas")
    assert content["roofs"]["blas"] in line


def test_the_command_compares(files, capsys):
    assert main(["profile", "--compare", *files]) == 0
    assert capsys.readouterr().out == profile.compare(*files) + "\n"


def change(content, *keys, to):
    *path, last = keys
    for key in path:
        content = content[key]
    content[last] = to


NOTHING = {"records": [], "roofs": {}}
FOREIGN = {
    "no json": lambda content: "svae",
    "no text": lambda content: b"\xff\xfe\x00\x01",
    "empty": lambda content: "",
    "a list": lambda content: "[]",
    "deep": lambda content: "[" * 100_000,
    "another's": lambda content: '{"environment": {}, "records": []}',
    "without figures": lambda content: json.dumps(content | NOTHING),
    "a record that is none": lambda content: json.dumps(content | {"records": [1]}),
    "without a machine": lambda content: json.dumps(content | {"environment": {}}),
}
FIGURES = ["fast", True, -1.0, float("nan"), float("inf"), 10**400, [1.0], {}]


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("position", [0, 1])
def test_foreign_files_are_refused_by_name(kind, position, files, tmp_path, capsys):
    content = content_of(files[0])
    del content["comparisons"]
    text = FOREIGN[kind](content)
    bad = tmp_path / "bad.json"
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    files[position] = str(bad)
    assert main(["profile", "--compare", *files]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"svae: error: {bad}: ")
    assert "report of svae profile" in captured.err


@pytest.mark.parametrize("value", FIGURES, ids=lambda x: str(x)[:5])
def test_figures_that_are_none_are_refused(value, files, tmp_path):
    content = content_of(files[0])
    change(content, "records", 0, "forward_ns", to=value)
    (bad := tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="bad.json: no report of svae profile"):
        profile.compare(files[0], bad)


def test_a_record_twice_is_refused(files, tmp_path):
    content = content_of(files[0])
    content["records"] += content["records"][:1]
    (bad := tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="stands there twice"):
        saved.read(bad)


def test_a_file_that_is_too_large_is_refused(files, monkeypatch):
    monkeypatch.setattr(saved, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        saved.read(files[0])


def test_names_say_nothing_to_the_terminal(files, tmp_path):
    content = content_of(files[0])
    change(content, "environment", "cpu", to="red \x1b[31m")
    (odd := tmp_path / "odd.json").write_text(json.dumps(content))
    assert "red ?[31m" in profile.compare(files[0], odd)


@pytest.mark.parametrize("missing", ["nothing.json", "."])
def test_files_that_cannot_be_read_are_named(missing, files, tmp_path, capsys):
    path = str(tmp_path / missing)
    assert main(["profile", "--compare", files[0], path]) == 1
    assert path.rstrip("/.") in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--compare", "a.json"], ["--long", "--steps"], ["--peers", "--long"]]
)
def test_one_thing_is_done_at_a_time(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *words])
    assert stopped.value.code == 2
    assert "argument --" in capsys.readouterr().err
