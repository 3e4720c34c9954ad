"""Damaged data files: read as they were, or refused by name; never anything else."""

import pytest

from svae.__main__ import main

pytest.importorskip("h5py")
pytest.importorskip("resource")
from svae.testing import survey
from tests.fuzz import files
from tests.helpers.fuzzers import surveyed


@pytest.mark.parametrize("kind", files.KINDS)
def test_damaged_files_are_read_or_refused(kind, request, tmp_path):
    seed = request.config.getoption("--seed")
    ended = [each for each in files.trials(kind, range(100), seed, tmp_path) if each[2]]
    assert [run for run, _, _ in ended] == list(range(100))
    assert [each for each in ended if each[2] not in survey.OK] == []
    assert sum(result == "refused" for _, _, result in ended) > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", files.KINDS)
def test_many_damaged_files_are_read_or_refused(kind, request):
    counts, wrong = surveyed(files, kind, request.config.getoption("--seed"))
    assert not wrong
    assert sum(counts.values()) == 2000


def test_the_fuzzer_notices(monkeypatch, tmp_path):
    """What it is there for: silence, foreign errors, no name, time, pickles."""
    path = tmp_path / "a.npy"
    path.write_bytes(files.npy(files.np.random.default_rng(0)))
    expected = files.read(path)
    assert files.outcome(path, expected) == "same"
    assert files.outcome(path, expected[:0]) == "other"
    for error, result in (
        (KeyError("x"), "KeyError: 'x'"),
        (survey.TooLong(), "more than 10 seconds"),
        (ValueError("what"), "does not name the file: what"),
        (ValueError("a.npy: allow_pickle=True"), "advises to allow pickles"),
        (ValueError("a.npy: MemoryError"), "more than 1073741824 bytes"),
        (OSError("a.npy: what"), "refused"),
    ):

        def fail(path, error=error):
            raise error

        monkeypatch.setattr(files, "read", fail)
        assert files.outcome(path, expected).startswith(result)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.h5", "folder.h5"])
@pytest.mark.parametrize("content", [b"", b"no data of any kind", bytes(1000)])
def test_the_command_line_says_so_in_one_line(name, content, tmp_path, capsys):
    path = tmp_path / name
    path.mkdir() if name == "folder.h5" else path.write_bytes(content)
    assert main(["fit", "lds", str(path), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"svae: error: {path}: ")
    assert error.count("\n") == 1


def test_the_command_line_survives_a_lack_of_memory(tmp_path, capsys, monkeypatch):
    def exhausted(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("svae.cli.runs.open_data", exhausted)
    assert main(["fit", "lds", "a.npy", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "svae: error: the memory does not suffice\n"
