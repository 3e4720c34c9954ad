"""Commands with small settings, and what they say when they fail."""

import pytest

from svae.__main__ import main

LOUD = ["--num-steps", "3", "--hidden", "4"]


SMALL = [*LOUD, "--quiet"]


SMALL_GMM = [*SMALL, "--num-states", "3"]


SMALL_SWITCHING = [
    *(*SMALL, "--num-states", "3", "--latent-dim", "2"),
    *("--window", "20", "--batch-size", "2", "--warmup", "2"),
]


LDS = ["--latent-dim", "2", "--window", "20", "--batch-size", "2"]


SMALL_LDS, LOUD_LDS = [*SMALL, *LDS], [*LOUD, *LDS]


def error_of(capsys, arguments):
    """Run a command that must fail and return its one line of complaint."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("svae: error: ")
    return line


def usage_error_of(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def written(tmp_path, text, suffix=".toml"):
    if suffix == ".toml":
        pytest.importorskip("tomllib")
    path = tmp_path / f"settings{suffix}"
    path.write_text(text)
    return str(path)
