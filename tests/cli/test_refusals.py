"""What the command line refuses, and in which words; its help."""

import re
import shlex

import numpy as np
import pytest

import svae
from svae.__main__ import main
from svae.cli.parser import parse
from tests.helpers.commands import SMALL_GMM, SMALL_LDS, error_of, usage_error_of


def test_an_infinite_value_is_named(frames, tmp_path, capsys):
    bad = frames.copy()
    bad[7, 2] = np.inf
    np.save(tmp_path / "bad.npy", bad)
    out = tmp_path / "run"
    arguments = ["fit", "lds", str(tmp_path / "bad.npy"), "--out", str(out)]
    complaint = error_of(capsys, arguments)
    assert "step 7" in complaint
    assert "dimension 2" in complaint
    assert not out.exists()


def test_an_empty_file_is_named(tmp_path, capsys):
    for suffix in ("npy", "npz", "csv"):
        path = tmp_path / f"empty.{suffix}"
        path.touch()
        complaint = error_of(capsys, ["fit", "gmm", str(path)])
        assert f"empty.{suffix}" in complaint


def test_data_of_one_dimension_is_refused(tmp_path, capsys):
    np.save(tmp_path / "flat.npy", np.zeros(9))
    complaint = error_of(capsys, ["fit", "lds", str(tmp_path / "flat.npy")])
    assert "(T, P)" in complaint


def test_unknown_data_is_refused_with_what_is_known(capsys):
    complaint = error_of(capsys, ["fit", "lds", "nowhere.npy"])
    assert "nowhere.npy" in complaint
    assert "pinwheel, dots, switching" in complaint


@pytest.mark.filterwarnings("ignore:data. columns 0, 1 and 2 .* are large")
def test_a_fit_that_fails_says_so_in_one_line(frames, tmp_path, capsys):
    np.save(tmp_path / "frames.npy", 1e200 * frames)
    source, out = str(tmp_path / "frames.npy"), str(tmp_path / "run")
    with np.errstate(all="ignore"):
        arguments = ["fit", "lds", source, "--out", out, "--no-standardize", *SMALL_LDS]
        complaint = error_of(capsys, arguments)
    assert "step 0" in complaint


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    for command in (["score"], ["plot"], ["sample", "--num-steps", "2"]):
        arguments = [command[0], str(tmp_path), *command[1:]]
        assert str(tmp_path) in error_of(capsys, arguments)


def test_data_of_another_size_is_refused(lds_run, capsys):
    complaint = error_of(capsys, ["score", str(lds_run / "run"), "dots"])
    assert "20 dimensions" in complaint
    assert "fitted to 3" in complaint


def test_independent_rows_have_no_forecast(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["fit", "gmm", "pinwheel", "--out", out, *SMALL_GMM]) == 0
    complaint = error_of(capsys, ["forecast", out, "--horizon", "3"])
    assert "no forecast" in complaint


def test_an_unknown_model_is_refused_with_what_is_known(capsys):
    complaint = usage_error_of(capsys, ["fit", "hmmm", "dots"])
    for name in ("gaussian", "gmm", "student", "hmm", "lds", "slds"):
        assert name in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit", "lds"],
        ["fit", "lds", "dots", "--warmup", "soon"],
        ["fit", "lds", "dots", "--warmup", "-1"],
        ["fit", "lds", "dots", "--natural-gradient", "half"],
        ["fit", "lds", "dots", "--inference", "exact"],
        ["fit", "student", "pinwheel", "--tails", "heavy"],
        ["fit", "student", "pinwheel", "--dof", "many"],
        ["score", "somewhere", "--theta", "sample"],
        ["score", "somewhere", "--ahead", "2"],
        ["score", "somewhere", "--ahead", "1", "--num-importance-samples", "3"],
        ["forecast", "somewhere", "--horizon", "3", "--theta", "mode"],
        ["fit", "lds", "dots", "--hidden", "4,x"],
        ["fit", "lds", "dots", "--num-steps", "many"],
        ["fit", "gmm", "dots", "--likelihood", "bernoulli", "--standardize"],
        ["forecast", "somewhere", "dots"],
    ],
)
def test_wrong_usage_is_refused(arguments, capsys):
    assert "usage: svae" in usage_error_of(capsys, arguments)


@pytest.mark.parametrize(
    "model, options, reason",
    [
        ("lds", "--num-states 3", "lds has no discrete states"),
        ("lds", "--sticky 3", "lds has no transitions"),
        ("gmm", "--concentration 3", "gmm has no transitions"),
        ("hmm", "--affine", "hmm has no linear dynamics"),
        ("gmm", "--noise-variance 1", "gmm has no linear dynamics"),
        ("gmm", "--window 9", "the rows of gmm are independent"),
        ("gaussian", "--context 9", "the rows of gaussian are independent"),
        ("gmm", "--hide 9", "the rows of gmm are independent"),
        ("lds", "--warm-start", "inference of lds has no iterations"),
        ("gaussian", "--warmup 9", "gaussian has no q(theta)"),
        ("gmm", "--dof 3", "gmm has no degrees of freedom"),
        ("lds", "--learn-dof", "lds has no degrees of freedom"),
        ("gmm", "--tails sampled", "gmm has no degrees of freedom"),
        ("student", "--window 9", "the rows of student are independent"),
        ("student", "--sticky 3", "student has no transitions"),
        ("student", "--tails sampled", "sampled ones need --inference sin"),
        ("gaussian", "--inference sin", "gaussian has no structured inference network"),
        ("slds", "--inference sin", "slds has no structured inference network"),
        ("slds", "--inference svae", "slds has no structured inference network"),
        (
            "gmm",
            "--warm-start --inference sin",
            "structured inference networks have no iterations",
        ),
    ],
)
def test_options_that_a_model_has_no_use_for(model, options, reason, capsys):
    said = usage_error_of(capsys, ["fit", model, "dots", *options.split()])
    assert f"argument {options.split()[0]}: {reason}" in said


COMMANDS = (
    *("fit", "info", "segment", "score", "predict-next", "forecast", "sample"),
    *("plot", "profile"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_are_commands(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example" in said
    assert "130 if interrupted" in said
    examples = re.findall(rf"^  svae ({command}.*)$", said, flags=re.MULTILINE)
    assert examples
    for example in examples:
        parse(shlex.split(example))


def test_help_names_all_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "example: svae fit gmm pinwheel" in said
    assert "1 after an error, 2 for wrong usage, 130 if interrupted" in said
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s", said, flags=re.MULTILINE)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"svae {svae.__version__}\n"
