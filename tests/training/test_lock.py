"""One fit at a time in a folder: lock, leftovers, and what is replaced knowingly."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import svae
from svae import store
from svae.__main__ import main
from svae.training import checkpoint, lock

SMALL = ["--num-steps", "3", "--hidden", "4", "--num-states", "3", "--quiet"]


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr("svae.cli.output.can_draw", lambda say: False)


def fit(folder, **options):
    model = svae.SVAE(svae.LDS(2), svae.Linear(), svae.Linear())
    frames = np.random.default_rng(0).standard_normal((20, 3))
    options = {"num_steps": 2, "rng": 0, "checkpoint": folder} | options
    return model.fit(frames, **options)


def holding(folder):
    """Start a process that takes the lock of a folder and keeps it."""
    code = (
        "import sys, time, pathlib\n"
        "from svae.training import lock\n"
        "with lock.locked(pathlib.Path(sys.argv[1])):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder.parent,
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_another_process_keeps_a_fit_out_until_it_is_gone(tmp_path, capsys):
    folder = tmp_path / "run"
    process = holding(folder)
    try:
        message = f"run: process {process.pid} on .* is fitting in it; wait for"
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=message):
                fit(folder, **options)
        assert main(["fit", "gmm", "pinwheel", "--out", str(folder), *SMALL]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"process {process.pid} on " in line
        assert [path.name for path in folder.iterdir()] == [lock.FILE]
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    finally:
        process.kill()
        process.communicate()
    assert (folder / lock.FILE).is_file()  # nobody could remove it
    fit(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(checkpoint.FILES)


def test_another_thread_is_kept_out_too(tmp_path):
    refused, once = [], threading.Event()

    def other(step, record):
        if not once.is_set():
            once.set()
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join(60)

    def attempt():
        try:
            fit(tmp_path, overwrite=True)
        except ValueError as error:
            refused.append(str(error))

    fit(tmp_path, callback=other)
    assert len(refused) == 1
    assert "another thread of this process is fitting in it" in refused[0]
    assert not lock._threads
    fit(tmp_path, overwrite=True)


def test_a_forked_process_has_no_lock_of_its_parent(tmp_path):
    with lock.locked(tmp_path):
        child = os.fork()
        if child == 0:  # pragma: no cover
            try:
                with lock.locked(tmp_path):
                    os._exit(1)
            except ValueError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (tmp_path / lock.FILE).is_file()
        process = subprocess.run(
            [sys.executable, "-c", LOCKS, str(tmp_path / lock.FILE)], check=False
        )
        assert process.returncode == 3  # the child's end has not released it


LOCKS = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(3)
"""


def test_once_more_in_the_same_thread_is_nothing_new(tmp_path):
    with lock.locked(tmp_path):
        with lock.locked(tmp_path):
            pass
        assert (tmp_path / lock.FILE).is_file()
    assert list(tmp_path.iterdir()) == []
    assert not lock._threads


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), lock.locked(tmp_path):
        raise KeyError
    with lock.locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """The file that was opened is no longer the one of the folder."""
    lockf, calls = fcntl.lockf, []

    def late(descriptor, kind):
        lockf(descriptor, kind)
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / lock.FILE).unlink()

    monkeypatch.setattr(fcntl, "lockf", late)
    with lock.locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / lock.FILE).read_text().startswith(f"process {os.getpid()}")


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def missing(descriptor, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", missing)
    with pytest.warns(UserWarning, match="without locks .No locks available.: nothing"):
        fit(tmp_path)


def test_what_killed_processes_left_is_removed(tmp_path, no_figures):
    """What living ones write, and all else, stays."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    (tmp_path / "figures").mkdir()
    stale = [f"model.npz.{dead.pid}.part", f"checkpoint.npz.{dead.pid}.part"]
    stale += [f"figures/bound.png.{dead.pid}.part", f"a.{10**12}.part"]
    kept = [f"model.npz.{os.getppid()}.part", "notes.part", f"x.{dead.pid}.parts"]
    for name in [*stale, *kept]:
        (tmp_path / name).touch()
    words = ["fit", "gmm", "pinwheel", "--out", str(tmp_path), *SMALL]
    assert main(words) == 0
    assert not any((tmp_path / name).exists() for name in stale)
    assert all((tmp_path / name).exists() for name in kept)
    (tmp_path / stale[0]).touch()
    assert main(["fit", "--resume", str(tmp_path), "--quiet"]) == 0
    assert not (tmp_path / stale[0]).exists()
    store.remove_stale(tmp_path / "nowhere")


@pytest.mark.parametrize("ended", [True, False])
def test_a_fit_is_replaced_only_if_it_is_told_to_be(ended, tmp_path):
    def stop(step, record):
        raise KeyboardInterrupt

    if ended:
        fit(tmp_path)
        how = "a finished fit"
    else:
        with pytest.warns(UserWarning, match="interrupted"):
            fit(tmp_path, num_steps=3, callback=stop)
        how = "a fit that has not ended"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError, match=f"has {how}: go on with it .resume=True., rep"
    ):
        fit(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fit(tmp_path, num_steps=5, overwrite=True)
    assert len(svae.load(tmp_path / "model.npz").history_["objective"]) == 5
    with pytest.raises(ValueError, match="resume, overwrite"):
        fit(tmp_path, resume=True, overwrite=True)


def test_a_model_without_a_checkpoint_is_not_replaced_either(tmp_path):
    fit(tmp_path)
    (tmp_path / checkpoint.FILE).unlink()
    with pytest.raises(ValueError, match="without a checkpoint: replace it"):
        fit(tmp_path)
    fit(tmp_path, overwrite=True)


def test_nothing_of_the_old_fit_is_left_beside_the_new(tmp_path, monkeypatch):
    """A model of the old would pass for the new one's until that has its own."""
    fit(tmp_path)

    def failing(*arguments):
        raise FloatingPointError("not finite")

    monkeypatch.setattr(svae.training.warmup, "initialize", failing)
    with pytest.raises(FloatingPointError):
        fit(tmp_path, overwrite=True, warmup=1)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


def test_damaged_checkpoints_are_replaced_too(tmp_path):
    (tmp_path / checkpoint.FILE).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        fit(tmp_path)
    fit(tmp_path, overwrite=True)


def test_the_first_command_a_second_time(tmp_path, monkeypatch, capsys, no_figures):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "gmm", "pinwheel", *SMALL]
    assert main(words) == 0
    before = (tmp_path / "runs/gmm-pinwheel/model.npz").read_bytes()
    capsys.readouterr()
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "svae: error: runs/gmm-pinwheel has a finished fit: go on with `svae fit "
        "--resume runs/gmm-pinwheel --num-steps N`, replace it with --force, or choose "
        "another folder with --out"
    )
    assert (tmp_path / "runs/gmm-pinwheel/model.npz").read_bytes() == before
    for name in ("segments.csv", "forecast.npz", "sample.npy", "notes.txt"):
        (tmp_path / "runs/gmm-pinwheel" / name).touch()
    assert main([*words, "--rng", "3", "--force"]) == 0
    names = {path.name for path in (tmp_path / "runs/gmm-pinwheel").iterdir()}
    assert names == {*checkpoint.FILES, "run.json", "notes.txt"}
    record = json.loads((tmp_path / "runs/gmm-pinwheel/run.json").read_text())
    assert record["settings"]["rng"] == 3
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--resume", "runs/gmm-pinwheel", "--force"])
    assert "argument --force: --resume goes on" in capsys.readouterr().err


def test_a_fit_that_failed_before_its_first_step_is_no_obstacle(
    tmp_path, capsys, no_figures
):
    words = ["fit", "gmm", "pinwheel", "--out", str(tmp_path / "a"), *SMALL]
    assert main([*words, "--learning-rate", "-1"]) == 1
    assert "learning_rate" in capsys.readouterr().err
    assert main(words) == 0


def test_two_fits_started_at_once_in_a_folder(tmp_path):
    """One is the run, the other says so and changes nothing."""
    out = tmp_path / "run"
    words = ["fit", "gmm", "pinwheel", "--out", str(out), "--num-states", "3"]
    words += ["--hidden", "4", "--num-steps", "100000", "--quiet"]
    command = [sys.executable, "-m", "svae", *words]
    processes = [
        subprocess.Popen(
            [*command, "--rng", str(rng)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for rng in (1, 2)
    ]
    try:
        deadline = time.monotonic() + 60
        while all(each.poll() is None for each in processes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        loser = processes[0] if processes[1].poll() is None else processes[1]
        winner = processes[1] if loser is processes[0] else processes[0]
        _, said = loser.communicate(timeout=60)
        assert loser.returncode == 1
        assert f"process {winner.pid} on " in said
        assert len(said.splitlines()) == 1
        rng = json.loads((out / "run.json").read_text())["settings"]["rng"]
        assert rng == 1 + processes.index(winner)
    finally:
        for each in processes:
            each.kill()
            each.communicate()
