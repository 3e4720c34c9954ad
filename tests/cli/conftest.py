"""Runs of small models that commands read."""

import numpy as np
import pytest

from svae.__main__ import main
from tests.helpers.commands import SMALL_LDS, SMALL_SWITCHING


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return 5.0 + 3.0 * rng.standard_normal((40, 3)).cumsum(axis=0)


@pytest.fixture(scope="module")
def lds_run(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lds")
    np.save(folder / "frames.npy", frames)
    source, out = str(folder / "frames.npy"), str(folder / "run")
    assert main(["fit", "lds", source, "--out", out, *SMALL_LDS]) == 0
    return folder


@pytest.fixture(scope="module")
def gappy(frames):
    gappy = frames.copy()
    gappy[10:14] = np.nan
    gappy[20, 1] = np.nan
    return gappy


@pytest.fixture(scope="module")
def slds_run(gappy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slds")
    np.save(folder / "frames.npy", gappy)
    source, out = str(folder / "frames.npy"), str(folder / "run")
    options = ["--sticky", "4", "--affine", "--noise-variance", "0.5"]
    assert main(["fit", "slds", source, "--out", out, *SMALL_SWITCHING, *options]) == 0
    return folder
