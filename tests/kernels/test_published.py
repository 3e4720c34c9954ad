"""Published filters and smoothers of real series, to the published digits.

The data are not part of the project. They are looked for in `$SVAE_DATA`, else in
`shared/data` beside the repository; its README names the origin of every number.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from svae.testing import assert_close, lds_pair_potentials

DATA = Path(os.environ.get("SVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not (DATA / "published.json").exists(), reason=f"no published data in {DATA}"
)


@pytest.fixture
def published():
    """Return the published scalars."""
    return json.loads((DATA / "published.json").read_text())


def series(name):
    """Return the arrays of a data file."""
    with np.load(DATA / name) as data:
        return dict(data)


def lds(A, Q, m0, P0, C, R, y, b=0.0, d=0.0):
    """Natural parameters of a linear dynamical system, and log p(y) - logZ.

    x_{t+1} = A x_t + b_t + N(0, Q); y_t = C x_t + d + N(0, R), not observed where NaN.
    """
    A, Q, P0, C, R = (np.atleast_2d(x).astype(float) for x in (A, Q, P0, C, R))
    T, D = len(y), len(A)
    b, m0 = np.broadcast_to(b, (T - 1, D)), np.broadcast_to(m0, D)
    seen = ~np.isnan(y).any(1)
    residual = np.where(seen[:, None], y - d, 0.0)
    P0_inv, Q_inv, R_inv = (np.linalg.inv(x) for x in (P0, Q, R))
    h = residual @ R_inv @ C
    h[1:] += b @ Q_inv
    h[:-1] -= b @ Q_inv @ A
    J = -np.multiply.outer(seen, C.T @ R_inv @ C) / 2
    quadratics = (
        m0 @ P0_inv @ m0
        + np.einsum("ti,ij,tj", b, Q_inv, b)
        + np.einsum("ti,ij,tj", residual, R_inv, residual)
    )
    counts = ((P0, 1), (Q, T - 1), (R, seen.sum()))
    log_dets = sum(n * np.linalg.slogdet(2 * np.pi * cov)[1] for cov, n in counts)
    init, pair = (-P0_inv / 2, P0_inv @ m0), lds_pair_potentials(A, Q_inv)
    return (init, pair, (J[None], h[None])), -(quadratics + log_dets) / 2


def posterior(chains, potentials):
    """LogZ, means and covariances of a single sequence."""
    logZ, (_, _, (ExxT, Ex)), _ = chains.gaussian_chain(*potentials)
    return logZ[0], Ex[0], (ExxT - Ex[..., None] * Ex[..., None, :])[0]


def filtered(chains, system, steps):
    """Means and covariances of x_t given y_1..y_t: the later y are not observed."""
    T = len(system["y"])
    seen = np.arange(T) <= np.asarray(steps)[:, None]
    parts = [
        lds(**{**system, "y": np.where(past[:, None], system["y"], np.nan)})[0]
        for past in seen
    ]
    init, pair, _ = parts[0]
    node = tuple(
        np.concatenate(x) for x in zip(*(part[2] for part in parts), strict=True)
    )
    _, (_, _, (ExxT, Ex)), _ = chains.gaussian_chain(init, pair, node)
    index = np.arange(len(steps)), steps
    Ex, ExxT = Ex[index], ExxT[index]
    return Ex, ExxT - Ex[..., None] * Ex[..., None, :]


def robot():
    """Return the robot's file and system; the first step has no observation."""
    mat = loadmat(DATA / "robot.mat")
    y = np.vstack((np.full((1, 2), np.nan), mat["y"].T))
    system = {name: mat[name] for name in "ACQR"}
    return mat, system | dict(
        m0=mat["x0"][:, 0], P0=mat["P_0"], y=y, b=mat["b"].T, d=mat["d"].T
    )


def test_robot_log_likelihoods(chains, published):
    want = published["kalman_robot"]
    _, system = robot()
    potentials, constant = lds(**system)
    logZ, _, _ = posterior(chains, potentials)
    assert logZ + constant == pytest.approx(want["loglik_at_Q_R"], rel=1e-12)
    potentials, constant = lds(**system | dict(Q=10 * np.eye(5), R=10 * np.eye(2)))
    logZ, _, _ = posterior(chains, potentials)
    assert logZ + constant == pytest.approx(want["matlab_first_EM_loglik"], abs=5e-8)


def test_robot_smoother_and_filter(chains):
    mat, system = robot()
    _, mean, cov = posterior(chains, lds(**system)[0])
    assert_close(mean, mat["xsmooth"].T, 1e-10)
    assert_close(cov, np.stack(mat["Vsmooth"][0]).astype(float), 1e-10)
    steps = np.arange(0, 501, 20)
    mean, cov = filtered(chains, system, steps)
    assert_close(mean, mat["xfilt"].T[steps], 1e-10)
    assert_close(cov, np.stack(mat["Vfilt"][0])[steps].astype(float), 1e-10)


def test_kfas_vector_autoregression(chains, published):
    data = series("kfas_var.npz")
    system = {name: data[name] for name in ("A", "Q", "m0", "P0", "C", "R", "y")}
    potentials, constant = lds(**system)
    logZ, mean, cov = posterior(chains, potentials)
    assert logZ + constant == pytest.approx(published["kfas_var"]["kfas"], abs=5e-6)
    assert_close(mean, data["kfas_smoothed_mean"], 1e-7)
    # in the first steps KFAS's own covariances carry the rounding of the prior's 1e6
    ratio = np.linalg.det(cov) / data["kfas_det_smoothed_cov"]
    assert_close(ratio[5:], np.ones(197), 1e-10)
    assert_close(mean, data["ours_smoothed_mean"], 1e-10)
    assert_close(cov, data["ours_smoothed_cov"], 1e-10)


def test_nile_local_level(chains, published):
    data, want = series("nile.npz"), published["nile"]
    system = dict(A=1, Q=want["sigma2_eta"], C=1, R=want["sigma2_eps"])
    system |= dict(m0=want["m0"], P0=want["P0"], y=data["y"][:, None])
    potentials, constant = lds(**system)
    logZ, mean, cov = posterior(chains, potentials)
    assert logZ + constant == pytest.approx(want["loglik_all"], rel=1e-12)
    assert mean[0, 0] == pytest.approx(want["smoothed_mean_first"], rel=1e-10)
    assert cov[-1, 0, 0] == pytest.approx(want["smoothed_var_last"], rel=1e-10)
    assert_close(mean[:, 0], data["smoothed_mean"], 1e-10)
    assert_close(cov[:, 0, 0], data["smoothed_var"], 1e-10)
    mean, cov = filtered(chains, system, np.arange(100))
    assert_close(mean[:, 0], data["filtered_mean"], 1e-10)
    assert_close(cov[:, 0, 0], data["filtered_var"], 1e-10)


def test_nile_diffuse_log_likelihood(chains, published):
    """With x_1 given the first observation alone, as the exact diffuse start has it."""
    want = published["nile"]["published_KFAS_ML"]
    eta, eps = np.exp([want["log_var_eta"], want["log_var_eps"]])
    y = series("nile.npz")["y"][:, None]
    rest, first = y[1:], y[0, 0]
    potentials, constant = lds(A=1, Q=eta, m0=first, P0=eps + eta, C=1, R=eps, y=rest)
    logZ, _, _ = posterior(chains, potentials)
    assert logZ + constant == pytest.approx(want["diffuse_loglik"], abs=5e-5)


def hmm(pi, A, log_likelihoods):
    """Log potentials of a single hidden Markov chain."""
    return np.log(pi), np.log(A), log_likelihoods[None]


def filtered_states(chains, potentials):
    """P(z_t given y_1..y_t): the ends of all the prefixes."""
    init, pair, node = potentials
    T = node.shape[1]
    _, (_, _, probs) = chains.markov_chain(
        init, pair, np.broadcast_to(node, (T, *node.shape[1:])), np.arange(T) + 1
    )
    return probs[np.arange(T), np.arange(T)]


def test_stata_federal_funds_rate(chains, published):
    data = series("hmm_fedfunds.npz")
    y, mu, sigma2 = data["y"], data["mu"], data["sigma2"]
    logs = -((y[:, None] - mu) ** 2 / sigma2 + np.log(2 * np.pi * sigma2)) / 2
    potentials = hmm(data["pi"], data["A"], logs)
    logZ, (_, _, probs) = chains.markov_chain(*potentials)
    want = published["hmm_fedfunds"]
    assert logZ[0] == pytest.approx(want["stata"], abs=5e-6)
    assert logZ[0] == pytest.approx(want["independent"], rel=1e-12)
    assert_close(probs[0], data["ours_smoothed"], 1e-10)
    assert_close(probs[0], data["stata_smoothed"], 1e-6)
    assert_close(filtered_states(chains, potentials), data["stata_filtered"], 1e-6)


def test_viterbi_article(chains, published):
    model = published["hmm_wikipedia_viterbi_article"]
    emissions = np.log(model["B"])[:, model["obs"]].T
    potentials = hmm(model["pi"], model["A"], emissions)
    logZ, (_, _, probs) = chains.markov_chain(*potentials)
    paths, logprob = chains.viterbi(*potentials)
    assert np.exp(logZ[0]) == pytest.approx(model["likelihood"], rel=1e-13)
    assert_close(probs[0], np.array(model["posterior"]), 1e-13)
    assert paths[0].tolist() == model["viterbi_path"]
    assert np.exp(logprob[0]) == pytest.approx(model["viterbi_prob"], rel=1e-13)


def test_umbrella(chains, published):
    model = published["hmm_umbrella"]
    emissions = np.log(model["B"])[:, model["obs"]].T
    potentials = hmm(model["pi"], model["A"], emissions)
    logZ, (_, _, probs) = chains.markov_chain(*potentials)
    filtered_rain = filtered_states(chains, potentials)[:, 0]
    assert np.exp(logZ[0]) == pytest.approx(model["likelihood"], rel=1e-13)
    assert np.round(probs[0, :, 0], 4).tolist() == model["published_smoothed"]
    assert np.round(filtered_rain, 4).tolist() == model["published_filtered"]
    assert_close(probs[0, :, 0], np.array(model["smoothed_rain"]), 1e-13)
    assert_close(filtered_rain, np.array(model["filtered_rain"]), 1e-13)
