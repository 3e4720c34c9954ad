"""A fit that is killed goes on as if nothing had happened, bit for bit."""

import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest

from svae import store
from svae.training import checkpoint
from tests.helpers import fits
from tests.helpers.fits import JOBS, run
from tests.helpers.runs import assert_same_run, interrupt_at


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Processes that have imported the package already: a life is short.

    Their server starts in an empty folder: in that of a clone it would import the
    sources, which have no compiled core unless they were installed in place.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["svae.estimators"])
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("server"))
    try:
        first = context.Process(target=print)
        first.start()
        first.join(60)
    finally:
        os.chdir(here)
    assert first.exitcode == 0
    return context


@pytest.mark.parametrize(("name", "kills"), [("slds", 36), ("lds", 12), ("gmm", 12)])
def test_killed_at_any_moment_it_ends_the_same(name, kills, whole, processes, tmp_path):
    """Killed, not stopped: also while a file is being written."""
    rng, folder, steps = np.random.default_rng(7), tmp_path / "run", []
    for life in range(kills + 1):
        here, there = processes.Pipe()
        process = fits.process(processes, "run", name, folder, True, there)
        process.start()
        there.close()  # or nothing would tell of a process that ended before
        assert here.recv() == "started"
        if life < kills:
            # counted in saves, not in seconds: machines and their loads differ
            wait_for_saves(folder / checkpoint.FILE, rng.integers(0, 3), process)
            process.join(rng.uniform(0.0, 0.01))
            process.kill()
        process.join(60)
        if life < kills and process.exitcode == 0:
            pytest.fail(f"it ended after {life} kills: too few")
        if (folder / checkpoint.FILE).is_file():
            tree, meta = store.load(folder / checkpoint.FILE)
            steps.append((tree["restart"], meta["phase"], tree["state"]["step"]))
    assert process.exitcode == 0
    assert len(set(steps)) > kills // 3  # it went on between the kills
    assert_same_run(folder, whole / name)


def wait_for_saves(path, count, process):
    """Wait until a file was written ``count`` times more, or the process has ended."""

    def written():
        return path.stat().st_mtime_ns if path.is_file() else None

    seen, deadline = written(), time.monotonic() + 60
    while count and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.0005)
        if (now := written()) != seen:
            seen, count = now, count - 1


def test_a_kill_in_the_middle_of_a_step_and_of_a_file(whole, processes, tmp_path):
    """The numbers drawn for a step that was not saved are drawn again."""
    for stop, where in ((17, "step"), (18, "save")):
        folder = tmp_path / where
        process = fits.process(processes, "killed_within", folder, stop, where)
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        left = [path.name for path in folder.iterdir()]
        assert (where == "save") == any(name.endswith(".part") for name in left)
        run("lds", folder)
        assert_same_run(folder, whole / "lds")


@pytest.mark.parametrize("name", list(JOBS))
def test_saving_rarely_changes_nothing(name, whole, tmp_path):
    """A checkpoint now and then, Ctrl-C, and steps that are done again."""

    def stop(step, record):
        if step == 21:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted in step 22 of the training"):
        run(name, tmp_path / "a", False, checkpoint_interval=1e9, callback=stop)
    run(name, tmp_path / "a", checkpoint_interval=1e9)
    assert_same_run(tmp_path / "a", whole / name)


def test_it_goes_on_in_a_fresh_process(whole, tmp_path, run_python):
    """With a plain interpreter, and from another working folder."""
    with pytest.warns(UserWarning, match="interrupted"):
        run("lds", tmp_path / "a", False, callback=interrupt_at(9))
    np.savez(tmp_path / "data.npz", *JOBS["lds"][1])
    done = run_python(f"""
import svae
network = svae.MLP((6,))
model = svae.SVAE(svae.LDS(2), network, network, decoder_posterior="gaussian")
data = svae.data.load({str(tmp_path / "data.npz")!r})
model.fit(data, num_steps=60, window=20, batch_size=2, learning_rate=1e-2,
          checkpoint={str(tmp_path / "a")!r}, resume=True)
print(model.ended_, len(model.history_["objective"]))
""")
    assert done.stdout.split() == ["steps", "60"], done.stderr
    assert_same_run(tmp_path / "a", whole / "lds")


def test_a_finished_fit_goes_further(whole, tmp_path):
    """To more steps, as if they had been asked for at first; not to fewer."""
    shutil.copytree(whole / "lds", tmp_path / "a")
    run("lds", tmp_path / "a", num_steps=70)
    run("lds", tmp_path / "b", False, num_steps=70)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    again = run("lds", tmp_path / "a", num_steps=10)
    assert len(again.history_["objective"]) == 70


def test_the_warm_up_keeps_its_length_when_steps_are_added(tmp_path):
    """It would be a quarter of the steps, of which there are more now."""
    options = {"n_init": 1, "warmup": "auto", "held_out": None}
    run("slds", tmp_path / "a", False, num_steps=30, **options)
    run("slds", tmp_path / "a", num_steps=40, **options)
    run("slds", tmp_path / "b", False, num_steps=40, **options | {"warmup": 7})
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_resuming_what_has_not_begun_begins_it(whole, tmp_path):
    run("lds", tmp_path / "a", resume=True)
    assert_same_run(tmp_path / "a", whole / "lds")
