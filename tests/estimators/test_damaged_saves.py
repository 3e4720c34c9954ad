"""Damaged models, checkpoints and runs: as they were, or refused by name."""

import pytest

pytest.importorskip("resource")
from svae.testing import survey
from tests.fuzz import saved
from tests.helpers.fuzzers import surveyed


@pytest.mark.parametrize("kind", saved.KINDS)
def test_damaged_saves_are_read_or_refused(kind, request, tmp_path):
    seed = request.config.getoption("--seed")
    ended = [each for each in saved.trials(kind, range(40), seed, tmp_path) if each[2]]
    assert [run for run, _, _ in ended] == list(range(40))
    assert [each for each in ended if each[2] not in survey.OK] == []
    assert sum(result == "refused" for _, _, result in ended) > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", saved.KINDS)
def test_many_damaged_saves_are_read_or_refused(kind, request):
    seed = request.config.getoption("--seed")
    counts, wrong = surveyed(saved, kind, seed)
    assert not wrong
    assert sum(counts.values()) == 2000


def test_the_fuzzer_notices(tmp_path, monkeypatch):
    """Silence, where a file has a digest, foreign errors and ones without a name."""
    assert saved.outcome(lambda: [1], "a.npz", [1]) == "same"
    assert saved.outcome(lambda: [2], "a.npz", [1]) == "other"
    for error, result in (
        (ValueError("a.npz: what"), "refused"),
        (ValueError("what"), "does not name the file: what"),
        (KeyError("x"), "KeyError: 'x'"),
        (AssertionError("status 0"), "AssertionError: status 0"),
        (survey.TooLong(), "more than 10 seconds"),
    ):

        def fail(error=error):
            raise error

        assert saved.outcome(fail, "a.npz", [1]) == result
    monkeypatch.setattr("svae.store._check_digest", lambda header, members: None)
    results = {each for _, _, each in saved.trials("model", range(120), 0, tmp_path)}
    assert "another result in silence" in results
