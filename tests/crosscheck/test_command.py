"""svae crosscheck: what it prints, writes, and ends with."""

import json

import numpy as np
import pytest

from svae.__main__ import main
from svae.crosscheck import cases

ADAPTER = """
from svae.crosscheck.museum import definition
name, version = "mine", "1.5"
def viterbi(inputs):
    return definition.viterbi(inputs)
def markov_chain(inputs):
    answers = definition.markov_chain(inputs)
    return answers | {"logZ": answers["logZ"] + 1.0}
"""


@pytest.fixture
def adapter(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ADAPTER)
    return str(path)


def save_answers(folder, case, **changes):
    folder.mkdir(exist_ok=True)
    answers = {name: x.hi for name, x in case.expected.items()} | changes
    np.savez(folder / f"{case.name}.npz", **answers)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["crosscheck", *map(str, arguments)])
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_list(capsys):
    assert main(["crosscheck", "list", "--kind", "viterbi"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.split()[1] == "viterbi" for line in lines)
    assert main(["crosscheck", "list", "viterbi-small"]) == 0
    out = capsys.readouterr().out
    assert "natural.pair" in out and "logprob" in out and "conventions" in out


def test_export_and_compare(tmp_path, capsys):
    folder, answers = tmp_path / "cases", tmp_path / "answers"
    chosen = ["--case", "markov-chain-small", "--case", "viterbi-small"]
    assert main(["crosscheck", "export", str(folder), *chosen]) == 0
    assert cases.names(folder) == ["markov-chain-small", "viterbi-small"]
    case = cases.load(folder / "markov-chain-small")
    save_answers(answers, case)
    command = ["crosscheck", "compare", str(folder), str(answers)]
    assert main(command) == 0
    assert "1 right, 1 not judged of 2 cases" in capsys.readouterr().out
    node = case.expected["stats.node"].hi
    save_answers(answers, case, **{"stats.node": node[:, ::-1]})
    files = {"--json": tmp_path / "v.json", "--html": tmp_path / "v.html"}
    options = [str(part) for pair in files.items() for part in pair]
    assert main([*command, *options]) == 1
    assert "time runs backwards" in capsys.readouterr().out
    found = json.loads(files["--json"].read_text())
    assert [one["verdict"] for one in found["cases"]] == ["wrong", "not judged"]
    assert "time runs backwards" in files["--html"].read_text()
    assert main([*command, "--no-guess", "--verbose"]) == 1
    out = capsys.readouterr().out
    assert "guess" not in out and "stats.pair" in out


def test_run(adapter, tmp_path, capsys):
    chosen = ["--kind", "viterbi", "--case", "viterbi-small"]
    assert main(["crosscheck", "run", adapter, *chosen]) == 0
    assert "mine 1.5" in capsys.readouterr().out
    one = ["--case", "markov-chain-small"]
    assert main(["crosscheck", "run", adapter, *one]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_damaged_answers_are_refused_by_name(tmp_path, folder_of_cases, capsys):
    answers = tmp_path / "answers"

    def compare():
        return refused(capsys, "compare", folder_of_cases, answers)

    assert "answers is no folder" in compare()
    answers.mkdir()
    assert "holds no answers" in compare()
    (answers / "lds-made.npz").write_text("no archive")
    assert "lds-made.npz is no .npz archive" in compare()
    np.savez(answers / "lds-made.npz", **{"smoothed.mea": np.zeros(3)})
    assert "no quantity is named 'smoothed.mea'; is it smoothed.mean?" in compare()
    np.savez(answers / "lds-made.npz", **{"smoothed.mean": np.array([None, 1])})
    assert "lds-made.npz" in compare()
    np.savez(answers / "lds-made.npz", **{"smoothed.mean": np.zeros(3)})
    np.savez(answers / "lsd-made.npz", **{"smoothed.mean": np.zeros(3)})
    assert "has no case 'lsd-made'; is it lds-made.npz?" in compare()


def test_answers_of_a_wrong_shape_or_not_a_number_are_wrong(
    tmp_path, folder_of_cases, lds_case, capsys
):
    answers = tmp_path / "answers"
    nowhere = np.full((2, 6, 2), np.nan)
    save_answers(
        answers, lds_case, **{"smoothed.mean": nowhere, "grad.A": np.zeros((3, 2))}
    )
    assert main(["crosscheck", "compare", str(folder_of_cases), str(answers)]) == 1
    out = capsys.readouterr().out
    assert "24 of 24 entries are NaN" in out and "shape (3, 2), wanted (2, 2)" in out


def test_wrong_usage(tmp_path, capsys):
    assert "is it viterbi-small?" in refused(capsys, "list", "viterbi-smal")
    assert "there is no file" in refused(capsys, "run", tmp_path / "nothing.py")
    assert "is it dynamax?" in refused(capsys, "run", "dynamx")
    assert "holds no cases" in refused(capsys, "compare", tmp_path, tmp_path)
    assert "invalid choice" in refused(capsys, "list", "--kind", "ldss")
