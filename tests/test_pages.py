"""What README and docs show runs as it stands there, with fewer steps of training.

The blocks of a page run in their order, each page in a folder of its own.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from svae.__main__ import main
from svae.cli.parser import parse
from svae.cli.settings import choose_settings

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name if path.parent == ROOT else f"docs/{path.name}": path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
COMMANDS = {
    *("fit", "info", "segment", "score", "predict-next", "forecast", "sample"),
    *("plot", "profile"),
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def pages_with(language):
    pages = [page for page in PAGES if blocks(page, language)]
    return [page for page in pages if page != "docs/interop.md"]  # see tests/interop


def with_fewer_steps(text):
    """Return a text with one step for every 500 that it asks for, or two."""
    words = r"(num[_-]steps[= ])(\d+)"

    def fewer(found):
        return found[1] + str(max(2, int(found[2]) // 500))

    return re.sub(words, fewer, text)


def commands(page):
    """Return the lines of all sh blocks of a page, split into words."""
    lines = (line for block in blocks(page, "sh") for line in block.splitlines())
    return [shlex.split(with_fewer_steps(line), comments=True) for line in lines]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_files_of_ones_own(folder):
    """Write the files that `svae.data` opens in the README."""
    h5py = pytest.importorskip("h5py")
    frames = np.random.default_rng(0).standard_normal((20, 3))
    np.save(folder / "a.npy", frames)
    np.savez(folder / "a.npz", frames=frames)
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/frames"] = frames
    (folder / "proc").mkdir()
    with h5py.File(folder / "proc/results_00.h5", "w") as file:
        file["frames"] = np.zeros((4, 8, 8), np.uint8)
        file["frames_mask"] = np.zeros((4, 8, 8))
        file["timestamps"] = np.arange(4.0)


LEAVES = {
    "README.md": ["dots.png"],
    "docs/training.md": ["run/checkpoint.npz"],
}
"""Files that the blocks of a page write."""


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_blocks_run_in_their_order(page, folder):
    for name in ("matplotlib", "tqdm", "h5py", "sklearn", "pandas"):
        pytest.importorskip(name)
    write_files_of_ones_own(folder)
    namespace = {}
    for number, block in enumerate(blocks(page, "python")):
        code = compile(with_fewer_steps(block), f"{page}, block {number}", "exec")
        exec(code, namespace)
    for name in LEAVES.get(page, ()):
        assert (folder / name).is_file()
    if page == "docs/tutorial.md":
        assert np.isnan(namespace["frames"]).any()
        assert namespace["samples"].shape == (3, 5, 100, 2)


def run_commands(page, folder, capsys):
    """Run the commands of a page, but for those that time; return their names."""
    for settings in blocks(page, "toml"):
        (folder / "settings.toml").write_text(settings)
    seen = set()
    for words in commands(page):
        if words[:2] == ["python", "-c"]:
            exec(words[2].replace("dots(", "dots(num_frames=400, "), {})
        elif "svae" in words:
            command, *rest = words[words.index("svae") + 1 :]
            if command == "crosscheck":
                seen.add(command)
                continue
            if command == "profile":  # which has a test of its own
                continue
            if command == "fit" and "--num-steps" not in rest:
                rest += ["--num-steps", "2"]
            if command == "fit" and "--resume" not in rest:
                rest += ["--warmup", "2"]
            seen.add(command)
            if command == "--version":
                with pytest.raises(SystemExit, match="0"):
                    main([command])
            else:
                assert main([command, *rest]) == 0, capsys.readouterr().err
    return seen


def test_the_first_commands_run(folder, capsys):
    pytest.importorskip("matplotlib")
    seen = run_commands("README.md", folder, capsys)
    assert seen == {"fit", "forecast", "score", "crosscheck"}
    assert (folder / "runs/gmm-pinwheel/figures/bound.png").is_file()


def test_the_commands_run_in_their_order(folder, capsys):
    pytest.importorskip("matplotlib")
    seen = run_commands("docs/command-line.md", folder, capsys)
    assert seen == COMMANDS - {"profile"} | {"--version"}
    assert len((folder / "runs/a/segments.csv").read_text().splitlines()) == 401
    record = json.loads((folder / "runs/slds-recording/run.json").read_text())
    assert record["settings"]["hidden"] == [200, 200]


def write_modules(page, folder):
    """Write the blocks of Python that begin with the name of a file to that file."""
    for block in blocks(page, "python"):
        if found := re.match(r"# (\w+\.py)\n", block):
            (folder / found[1]).write_text(block)


def crosschecks(page):
    """Return what follows ``svae crosscheck`` on a page."""
    return [
        words[2:] for words in commands(page) if words[:2] == ["svae", "crosscheck"]
    ]


def test_the_broken_smoother_of_the_readme_is_named(folder, capsys):
    write_modules("README.md", folder)
    (arguments,) = crosschecks("README.md")
    assert main(["crosscheck", *arguments]) == 1
    lines = [line.split(", ")[0] for line in capsys.readouterr().out.splitlines()]
    shown = blocks("README.md", "text")[-1].splitlines()
    assert lines[:3] == [line.split(", ")[0] for line in shown][:3]


def test_the_commands_of_the_crosscheck_run(folder, capsys):
    page = "docs/crosscheck.md"
    write_modules(page, folder)
    (folder / "answers").mkdir()
    np.savez(folder / "answers/hmm-small.npz", log_likelihood=np.zeros(99))
    status = {"list": 0, "export": 0, "compare": 1, "run": 1}
    seen = set()
    for what, *rest in crosschecks(page):
        seen.add(what)
        chosen = {
            "export": ["--case", "hmm-small"],
            "run": ["--case", "lds-companion"],
        }.get(what, [])
        wanted = 0 if "--relations" in rest else status[what]
        assert main(["crosscheck", what, *rest, *chosen]) == wanted
        assert (
            what != "run" or wanted == 0 or "A is transposed" in capsys.readouterr().out
        )
    assert seen == set(status)
    assert (folder / "verdict.html").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.slow
def test_the_commands_that_time_run(folder, capsys):
    pytest.importorskip("matplotlib")
    timing = [
        words[words.index("svae") + 1 :]
        for page in ("docs/command-line.md", "docs/speed.md")
        for words in commands(page)
        if "profile" in words
    ]
    assert len(timing) >= 9
    # the one command that times nothing reads what others have written
    for words in sorted(timing, key=lambda words: "--compare" in words):
        small = ["--quick", "--repeats", "1"]
        if "--steps" not in words:
            small += ["--num-timesteps", "20", "--sizes", "2"]
        assert main([*words, *small]) == 0, capsys.readouterr().err
        said = "written to runs/"
        if "--memory" in words:
            said = "peak/in+out"
        if "--compare" in words:
            said = "B/A"
        assert said in capsys.readouterr().out


def test_the_settings_are_settings(folder):
    (text,) = blocks("docs/command-line.md", "toml")
    (folder / "settings.toml").write_text(text)
    settings = choose_settings(parse(["fit", "--config", "settings.toml"]))
    assert settings["hidden"] == (200, 200)
