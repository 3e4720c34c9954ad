"""Reports are labelled by the machine, and by the kernels that its BLAS runs."""

import pytest

from svae import profile
from svae.profile import blas, machine


class Library:
    """A build of OpenBLAS with one function."""

    def __init__(self, name, answer):
        setattr(self, name, lambda: answer)


@pytest.mark.parametrize("before", ["", "scipy_"])
@pytest.mark.parametrize("after", ["", "64_"])
def test_the_kernels_are_those_of_numpys_library(before, after, monkeypatch):
    name = f"{before}openblas_get_corename{after}"
    libraries = {
        "/env/numpy.libs/libscipy_openblas64_-1.so": Library(name, b"Haswell"),
        "/env/scipy.libs/libscipy_openblas-1.so": Library(name, b"Zen"),
    }
    monkeypatch.setattr(blas, "loaded_openblas", lambda: libraries)
    assert blas.core_name() == "Haswell"


@pytest.mark.parametrize(
    "libraries",
    [
        {},
        {"/env/scipy.libs/libscipy_openblas-1.so": Library("openblas_x", b"Zen")},
        {"/usr/lib/libopenblas.so": Library("openblas_get_parallel", b"1")},
        {"/usr/lib/libopenblas.so": Library("openblas_get_corename", None)},
    ],
    ids=["none", "scipy's", "too old", "silent"],
)
def test_kernels_that_cannot_be_told_are_unknown(libraries, monkeypatch):
    monkeypatch.setattr(blas, "loaded_openblas", lambda: libraries)
    assert blas.core_name() == "unknown"


def test_the_library_agrees_with_threadpoolctl():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    known = {
        info["filepath"]: info["architecture"]
        for info in threadpoolctl.threadpool_info()
        if info["internal_api"] == "openblas"
    }
    if not known or blas.core_name() == "unknown":
        pytest.skip("no OpenBLAS, or the system does not show it")
    assert blas.core_name() in known.values()


def test_the_choice_of_kernels_is_in_the_label(run_python):
    """OpenBLAS reads what kernels to run when it is loaded."""
    if blas.core_name() == "unknown":
        pytest.skip("no OpenBLAS, or the system does not show it")
    code = (
        "from svae.profile import machine\n"
        "print(machine.environment_lines(machine.environment())[-1])"
    )
    chosen = run_python(code, OPENBLAS_CORETYPE="Nehalem").stdout
    if "for Nehalem" not in chosen:
        pytest.skip("this build of OpenBLAS has no such kernels")
    assert chosen.endswith("for Nehalem, OPENBLAS_CORETYPE Nehalem\n")
    own = run_python(code, OPENBLAS_CORETYPE="").stdout
    assert "Nehalem" not in own
    assert own.endswith("OPENBLAS_CORETYPE unset\n")


def test_every_report_names_the_kernels(report, monkeypatch):
    for name in ("blas", "OPENBLAS_CORETYPE", "cpu", "instructions"):
        assert report.environment[name]
    assert f"{blas.blas_label()}, OPENBLAS_CORETYPE" in profile.table(report)
    monkeypatch.setattr(blas, "core_name", lambda: "Prescott")
    steps = profile.StepReport(machine.environment())
    assert "for Prescott" in profile.steps_table(steps)
