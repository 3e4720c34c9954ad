"""Conjugate inference finds the clusters, states and dynamics of data."""

import os
from pathlib import Path

import numpy as np
import pytest

import svae
from svae.estimators import SVI
from svae.families import mniw, niw
from svae.testing import assert_close
from tests.helpers.conjugate import blobs, linear_frames, rotation

DATA = Path(os.environ.get("SVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def markov_path(rng, num_steps, num_states=3, stay=0.9):
    """States that last."""
    path = np.zeros(num_steps, dtype=int)
    for t in range(1, num_steps):
        change = rng.random() > stay
        path[t] = rng.integers(num_states) if change else path[t - 1]
    return path


@pytest.mark.parametrize("batch_size", [None, 50])
def test_gmm_finds_clusters(batch_size, rng):
    points, labels = blobs(rng, 500, distance=5.0)
    model = SVI(svae.GMM(3, 2)).fit(points, num_steps=50, batch_size=batch_size, rng=0)
    nmi = svae.metrics.normalized_mutual_information(labels, model.predict(points))
    assert nmi > 0.99


@pytest.mark.parametrize("batch_size", [None, 4])
def test_hmm_finds_states(batch_size, rng):
    states = markov_path(rng, 600)
    centres = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    frames = centres[states] + 0.7 * rng.standard_normal((600, 2))
    model = SVI(svae.HMM(3, 2)).fit(
        frames, num_steps=30, batch_size=batch_size, window=50, rng=0
    )
    nmi = svae.metrics.normalized_mutual_information(states, model.predict(frames))
    assert nmi > 0.95


def test_slds_of_the_data_finds_dynamics(rng):
    states = markov_path(rng, 1500, num_states=2, stay=0.98)
    dynamics = np.stack([rotation(0.95, 0.6), rotation(0.95, -0.6)])
    frames = np.zeros((1500, 2))
    for t in range(1, 1500):
        frames[t] = dynamics[states[t]] @ frames[t - 1] + rng.standard_normal(2)
    model = SVI(svae.SLDS(2, 2)).fit(frames, num_steps=30, rng=0, tolerance=1e-6)
    nmi = svae.metrics.normalized_mutual_information(states, model.predict(frames))
    assert nmi > 0.7
    found = mniw.mean(model.natparams_["dynamics"])[0]
    order = np.argsort([-A[1, 0] for A in found])
    assert_close(found[order], dynamics, 0.1)


@pytest.mark.parametrize("obs_dim", [1, 5])
def test_lds_finds_eigenvalues(obs_dim, rng):
    A, C = rotation(0.95, 0.4), rng.standard_normal((obs_dim, 2))
    sequences = [linear_frames(rng, 300, A, C) for _ in range(3)]
    sequences[0][50:60] = np.nan
    model = SVI(svae.LDS(2)).fit(sequences, num_steps=120, rng=0)
    found = np.linalg.eigvals(mniw.mean(model.natparams_["dynamics"])[0])
    want = np.linalg.eigvals(A)
    assert_close(np.sort_complex(found), np.sort_complex(want), 0.03)
    # minibatches of windows come to the same
    stochastic = SVI(svae.LDS(2)).fit(
        sequences, num_steps=150, window=100, batch_size=3, rng=0
    )
    found = np.linalg.eigvals(mniw.mean(stochastic.natparams_["dynamics"])[0])
    assert_close(np.sort_complex(found), np.sort_complex(want), 0.05)


@pytest.mark.skipif(
    not (DATA / "hmm_fedfunds.npz").exists(), reason=f"no published data in {DATA}"
)
def test_hmm_of_the_federal_funds_rate():
    with np.load(DATA / "hmm_fedfunds.npz") as file:
        rate, published = file["y"], file["stata_smoothed"]
    frames = ((rate - rate.mean()) / rate.std())[:, None]
    model = SVI(svae.HMM(2, 1)).fit(frames, rng=0, tolerance=1e-9)
    low_first = np.argsort(niw.mean(model.natparams_["components"])[0][:, 0])
    probs = model.infer(frames).states[:, low_first]
    # theirs is maximum likelihood with one variance for both states
    assert np.mean(np.abs(probs - published)) < 0.03
    assert np.mean((probs > 0.5) == (published > 0.5)) > 0.97
