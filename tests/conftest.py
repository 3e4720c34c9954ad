"""Fixtures that every test shares: a seeded generator and the two implementations."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="seed of every test problem")


@pytest.fixture
def rng(request):
    """Give each test a generator of its own, the same in every run."""
    return np.random.default_rng(request.config.getoption("--seed"))


@pytest.fixture(params=["reference", "kernels"])
def chains(request):
    """Give either implementation of the chains: the definition, the compiled one."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def reference():
    """Give the definition."""
    return importlib.import_module("svae.reference")


@pytest.fixture
def kernels():
    """Give the compiled implementation."""
    return importlib.import_module("svae.kernels")


@pytest.fixture
def run_python(tmp_path):
    """Run code in a process of its own, which may not hang.

    It runs in an empty folder: in that of a clone Python would import the sources,
    which have no compiled core unless they were installed in place.
    """

    def run(code, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
