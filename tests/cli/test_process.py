"""The process of a command: exit status, interrupts, the self-check."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import svae
from svae.__main__ import main
from svae.cli import selfcheck
from tests.helpers.commands import LOUD, SMALL_GMM


def command_of(*arguments):
    return [sys.executable, "-m", "svae", *map(str, arguments)]


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["--version"], 0, ""),
        (["score", "nowhere"], 1, "svae: error: nowhere: not the folder of a"),
        (["fit", "gmm"], 2, "usage: svae fit"),
    ],
)
def test_exit_status_of_a_process(arguments, status, said, tmp_path):
    done = subprocess.run(
        command_of(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status
    assert done.stderr.startswith(said)


def test_an_interrupt_ends_a_process_with_130(tmp_path):
    out = tmp_path / "run"
    arguments = ["fit", "gmm", "pinwheel", "--num-steps", "100000", "--quiet"]
    command = command_of(*arguments, "--out", out)

    def heed_interrupts():  # which what runs the tests in the background may ignore
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        try:
            while not (out / "run.json").exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.startswith("svae: interrupted")
    assert len(said.splitlines()) == 1


def test_info_checks_the_gradients(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("svae", "numpy", "scipy", "autograd", "python", "threads"):
        assert word in said
    assert said.count("gradient right") == 2


def test_info_fails_with_a_wrong_gradient(monkeypatch, capsys):
    right = selfcheck.gradient_errors()
    assert all(0 < error < 1e-8 for error in right.values())
    wrong = right | {"markov_chain": 1e-3}
    monkeypatch.setattr(selfcheck, "gradient_errors", lambda: wrong)
    assert main(["info"]) == 1
    assert "gradient WRONG" in capsys.readouterr().out


def test_the_gradient_check_sees_a_wrong_adjoint(monkeypatch):
    chain = svae.kernels.gaussian_chain

    def detached(init, pair, node, noise):
        J, h = init
        # the value stays, its derivative in h doubles
        doubled = h + (h - np.array(getattr(h, "_value", h)))
        return chain((J, doubled), pair, node, noise)

    monkeypatch.setattr(svae.kernels, "gaussian_chain", detached)
    assert selfcheck.gradient_errors()["gaussian_chain"] > 1e-3


def test_optional_packages_may_be_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("svae.cli.output.find_spec", lambda name: None)
    out = tmp_path / "run"
    assert main(["fit", "gaussian", "pinwheel", "--out", str(out), *LOUD]) == 0
    captured = capsys.readouterr()
    assert "no figures" in captured.out
    assert captured.err == ""  # no progress bar either
    assert not (out / "figures").exists()


@pytest.mark.parametrize("command", [["crosscheck", "list"], ["info"]])
def test_a_reader_who_has_seen_enough_is_no_error(command, tmp_path):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        command_of(*command),
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        timeout=60,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (0, b"")


def test_an_interrupted_fit_leaves_what_it_had(tmp_path, monkeypatch, capsys):
    step, taken = svae.training.step.step, []

    def interrupted(*arguments):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(arguments)
        return step(*arguments)

    monkeypatch.setattr(svae.training.step, "step", interrupted)
    out = tmp_path / "run"
    assert main(["fit", "gmm", "pinwheel", "--out", str(out), *SMALL_GMM]) == 130
    said = f"svae: interrupted; go on with: svae fit --resume {out}\n"
    assert capsys.readouterr().err == said
    assert len(svae.load(out / "model.npz").history_["objective"]) == 2
    assert main(["score", str(out)]) == 0
