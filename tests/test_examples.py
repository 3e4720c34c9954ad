"""Every example that docs/examples.md lists runs, at settings that are small.

Data that are public but no part of the project are made up here, in files such as their
publishers have, and converted as the examples say.
"""

import json
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

ROOT = Path(__file__).parents[1]
LISTED = [
    shlex.split(words)
    for words in re.findall(
        r"^python (examples/.*?) +#",
        (ROOT / "docs" / "examples.md").read_text(),
        re.MULTILINE,
    )
]

# What makes each of them short.
SMALL = {
    "pinwheel": "--num-steps 2",
    "dots": "--num-steps 2",
    "natural_gradient": "--num-steps 2",
    "switching": "--num-steps 2 --num-seeds 1 --warmup 2",
    "inference_networks": "--num-steps 2 --num-seeds 1",
    "auto": "--num-steps 2 --num-seeds 1",
    "outliers": "--num-steps 2 --num-seeds 1 --prior published",
    "behaviour": "--num-steps 2 --num-seeds 1",
    "bees": "--num-steps 2 --num-seeds 1",
    "depth": "--num-frames 230 --num-steps 1",
    "streaming": "--gigabytes 0.01 --num-steps 2",
    "extending": "--num-steps 5",
    "workers": "--num-steps 2 --batch-sizes 2 --num-windows 4 --num-pixels 20",
}
QUICK = ("pinwheel", "dots", "extending")


def publish_cars(folder, rng):
    rows = rng.uniform(1.0, 2.0, (60, 7)).round(3).astype(str)
    rows[:, 1] = rng.choice(["4", "6", "8"], 60)
    rows[7, 3] = "?"
    lines = ["   ".join([*row, '1\t"a name"']) for row in rows]
    (folder / "auto-mpg.data").write_text("\n".join(lines) + "\n")


def publish_motions(folder, rng):
    kind = [(name, object) for name in ("X", "Xprev", "TrueZ", "filename")]
    sequences = np.zeros((6, 1), kind)
    for n, sequence in enumerate(sequences[:, 0]):
        frames = rng.standard_normal((41, 12)).cumsum(axis=0)
        sequence["X"], sequence["Xprev"] = frames[1:], frames[:-1]
        sequence["TrueZ"] = np.arange(40)[:, None] // 4 + 1
        sequence["filename"] = f"13_{n}"
    savemat(folder / "mocap6.mat", {"DataBySeq": sequences})


def publish_dances(folder, rng):
    for n in (1, 2, 3):
        changes = np.zeros((60, 1))
        changes[[20, 40]] = 1
        recording = {"Y": rng.random((60, 3)), "L": changes}
        savemat(folder / f"beedance-{n}.mat", recording)


PUBLISH = {"auto": publish_cars, "behaviour": publish_motions, "bees": publish_dances}


def numbers_of(values):
    """Yield all numbers of nested lists and dicts."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from numbers_of(value)
    elif isinstance(values, (int, float)):
        yield values


def convert(script):
    """Run the lines of an example's documentation that make its data."""
    doc = script.read_text().split('"""')[1]
    exec(textwrap.dedent(doc.partition("::\n")[2]), {})


def test_the_list_is_complete():
    assert {Path(words[0]).stem for words in LISTED} == SMALL.keys()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            words,
            id=Path(words[0]).stem,
            marks=[] if Path(words[0]).stem in QUICK else pytest.mark.slow,
        )
        for words in LISTED
    ],
)
def test_an_example_runs_and_its_numbers_are_finite(words, tmp_path, monkeypatch, rng):
    for package in ("matplotlib", "tqdm", "h5py"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    script, *arguments = words
    name = Path(script).stem
    if name in PUBLISH:
        PUBLISH[name](tmp_path, rng)
        convert(ROOT / script)
        assert Path(arguments[0]).is_file()
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments, *SMALL[name].split()],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    out = Path(arguments[-1])
    if (out / "metrics.json").is_file():
        numbers = list(numbers_of(json.loads((out / "metrics.json").read_text())))
        assert list(out.glob("*.png"))
    else:
        (table,) = out.glob("*.csv")
        cells = table.read_text().replace("\n", ",").split(",")
        numbers = [
            float(cell) for cell in cells if re.fullmatch(r"[-+.\deE]+|nan", cell)
        ]
    assert len(numbers) >= 5
    assert np.isfinite(numbers).all()


def test_a_depth_video_too_short_to_predict_is_refused(tmp_path, monkeypatch, capsys):
    script, short = str(ROOT / "examples/depth.py"), ["--num-frames", "229"]
    monkeypatch.setattr("sys.argv", [script, str(tmp_path), *short])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(script, run_name="__main__")
    assert "argument --num-frames: 229, wanted 230 or more" in capsys.readouterr().err


@pytest.mark.parametrize("num_steps", [2, 12])
def test_few_steps_of_workers_have_a_time(num_steps):
    run = runpy.run_path(str(ROOT / "examples/workers.py"))["run"]
    frames = np.random.default_rng(0).standard_normal((500, 5))
    row = run(lambda: nullcontext((None, None, list)), frames, num_steps, 2, False)
    assert np.isfinite(list(row.values())).all()
