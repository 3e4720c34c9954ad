"""Published results of real series, in the published parameters.

The data are not part of the project: see `tests/kernels/test_published.py`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from svae.standard import (
    LinearGaussian,
    hmm_filter,
    hmm_smoother,
    kalman_filter,
    kalman_smoother,
    log_likelihood,
)
from svae.testing import assert_close

DATA = Path(os.environ.get("SVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not (DATA / "published.json").exists(), reason=f"no published data in {DATA}"
)
FORM = pytest.mark.parametrize("form", ["auto", "information", "covariance"])


@pytest.fixture
def published():
    """Return the published scalars."""
    return json.loads((DATA / "published.json").read_text())


def series(name):
    """Return the arrays of a data file."""
    with np.load(DATA / name) as data:
        return dict(data)


@FORM
def test_nile_local_level(form, published):
    data, want = series("nile.npz"), published["nile"]
    level = LinearGaussian(
        A=[[1.0]],
        Q=[[want["sigma2_eta"]]],
        C=[[1.0]],
        R=[[want["sigma2_eps"]]],
        m0=[want["m0"]],
        P0=[[want["P0"]]],
    )
    y = data["y"][:, None]
    filtered, smoothed = (
        f(level, y, form=form) for f in (kalman_filter, kalman_smoother)
    )
    assert filtered.log_likelihood == pytest.approx(want["loglik_all"], rel=1e-12)
    assert_close(filtered.mean[:, 0], data["filtered_mean"], 1e-10)
    assert_close(filtered.cov[:, 0, 0], data["filtered_var"], 1e-10)
    assert_close(smoothed.mean[:, 0], data["smoothed_mean"], 1e-10)
    assert_close(smoothed.cov[:, 0, 0], data["smoothed_var"], 1e-10)


@FORM
def test_kfas_vector_autoregression(form, published):
    data = series("kfas_var.npz")
    names = "A", "Q", "C", "R", "P0"
    params = LinearGaussian(
        **{name: np.atleast_2d(data[name]).astype(float) for name in names},
        m0=np.broadcast_to(data["m0"], len(data["A"])),
    )
    found = kalman_smoother(params, data["y"], form=form)
    want = published["kfas_var"]["kfas"]
    assert found.log_likelihood == pytest.approx(want, abs=5e-6)
    assert_close(found.mean, data["kfas_smoothed_mean"], 1e-7)
    assert_close(found.mean, data["ours_smoothed_mean"], 1e-10)
    assert_close(found.cov, data["ours_smoothed_cov"], 1e-10)


@FORM
def test_robot_with_inputs(form, published):
    """Offsets b and d are inputs of one; the first step has no observation."""
    mat, want = loadmat(DATA / "robot.mat"), published["kalman_robot"]
    y = np.vstack((np.full((1, 2), np.nan), mat["y"].T))
    T, (b, d) = len(y), (mat["b"].T, mat["d"].T)
    params = LinearGaussian(
        **{name: mat[name].astype(float) for name in "ACQR"},
        m0=mat["x0"][:, 0],
        P0=mat["P_0"].astype(float),
        B=np.broadcast_to(b, (T - 1, 5))[..., None],
        D=np.broadcast_to(d, (T, 2))[..., None],
    )
    u = np.ones((T, 1))
    total = log_likelihood(params, y, u, form=form)
    assert total == pytest.approx(want["loglik_at_Q_R"], rel=1e-12)
    smoothed = kalman_smoother(params, y, u, form=form)
    assert_close(smoothed.mean, mat["xsmooth"].T, 1e-10)
    assert_close(smoothed.cov, np.stack(mat["Vsmooth"][0]).astype(float), 1e-10)
    filtered = kalman_filter(params, y, u, form=form)
    assert_close(filtered.mean, mat["xfilt"].T, 1e-10)
    assert_close(filtered.cov, np.stack(mat["Vfilt"][0]).astype(float), 1e-10)


def test_stata_federal_funds_rate(published):
    data = series("hmm_fedfunds.npz")
    y, mu, sigma2 = data["y"], data["mu"], data["sigma2"]
    logs = -((y[:, None] - mu) ** 2 / sigma2 + np.log(2 * np.pi * sigma2)) / 2
    smoothed = hmm_smoother(data["pi"], data["A"], logs)
    want = published["hmm_fedfunds"]
    assert smoothed.log_likelihood == pytest.approx(want["stata"], abs=5e-6)
    assert_close(smoothed.probabilities, data["ours_smoothed"], 1e-10)
    filtered = hmm_filter(data["pi"], data["A"], logs)
    assert_close(filtered.probabilities, data["stata_filtered"], 1e-6)
