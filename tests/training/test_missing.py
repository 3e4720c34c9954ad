"""Fits and every method take data with gaps; lonely frames."""

import numpy as np
import pytest

import svae
from svae.testing import assert_identical, relative_error
from tests.helpers.exact import (
    NAMES,
)
from tests.helpers.gaps import (
    make,
    with_gaps_everywhere,
)


@pytest.mark.parametrize("kind", ["frames", "entries"])
@pytest.mark.parametrize("name", NAMES)
def test_fit_and_every_method_take_gaps(name, kind, rng, tmp_path):
    sequences = with_gaps_everywhere(rng, kind)
    model = make(name).fit(sequences, num_steps=4, window=5, batch_size=2, rng=0)
    assert all(np.all(np.isfinite(c)) for c in model.history_.values())
    assert model.sees_mask_ is (kind == "entries")
    every = np.concatenate(sequences)
    assert relative_error(model.fill_, np.nanmean(every, axis=0)) < 1e-14
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert loaded.sees_mask_ is model.sees_mask_
    assert_identical(loaded.fill_, model.fill_)
    stacked = np.stack([sequences[0][:8], sequences[1][:8]])
    for data in (sequences, stacked, sequences[0]):
        results = everything_arranged(model, data)
        assert_identical(everything_arranged(loaded, data), results)
        assert_identical(everything_arranged(loaded, Elsewhere.all(data)), results)


def everything_arranged(model, data):
    """Call every method, check that all is finite and shaped like the data."""
    results = [model.transform(data), model.impute(data, num_samples=2, num_passes=2)]
    infer = model.infer(data, num_samples=2)
    results += [p for p in (infer if isinstance(infer, list) else [infer])]
    results.append(model.score(data))
    results.append(model.score(data, num_importance_samples=2))
    if hasattr(model.latent, "num_states"):
        results.append(model.predict(data))
    if not model.latent.independent:
        forecast = model.forecast(data, 2, num_samples=2)
        results += forecast if isinstance(forecast, list) else [forecast]
    for leaf in leaves_of(results):
        assert np.all(np.isfinite(leaf))
    for result, dim in zip(results[:2], (2, 3), strict=True):
        if isinstance(data, list):
            assert [r.shape for r in result] == [(s.shape[0], dim) for s in data]
        else:
            assert result.shape == (*data.shape[:-1], dim)
    return results


def leaves_of(tree):
    if isinstance(tree, (list, tuple)):
        return [leaf for branch in tree for leaf in leaves_of(branch)]
    return [] if tree is None else [tree]


class Elsewhere:
    """Data with nothing but a shape and ``[]``, which counts the frames read."""

    def __init__(self, values):
        self.values, self.shape, self.reads = values, values.shape, []

    @classmethod
    def all(cls, data):
        return [cls(d) for d in data] if isinstance(data, list) else cls(data)

    def __getitem__(self, key):
        self.reads.append(np.prod(np.shape(self.values[key])[:-1]))
        return self.values[key]


@pytest.mark.parametrize("name", ["gmm", "lds", "slds"])
def test_data_with_gaps_is_read_window_by_window(name, rng, tmp_path, monkeypatch):
    monkeypatch.setattr("svae.data.sequences.STRETCH", 3 * 10)
    frames = rng.standard_normal((2, 40, 3))
    frames[0, 3], frames[1, 7, 1] = np.nan, np.nan
    np.save(tmp_path / "frames.npy", frames)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    lazy = Elsewhere(frames)
    options = {"num_steps": 3, "window": 8, "batch_size": 2, "rng": 0, "warmup": None}
    histories = []
    for data in (frames, mapped, lazy):
        model = make(name).fit(data, **options)
        histories.append([c for n, c in model.history_.items() if n != "seconds"])
    assert_identical(histories[1], histories[0])
    assert_identical(histories[2], histories[0])
    assert max(lazy.reads) <= 10
    # one pass for the summary, then only what the steps need
    size = 1 if name == "gmm" else 8
    assert sum(lazy.reads) <= 80 + 3 * 2 * size
    assert_identical(model.transform(mapped), model.transform(frames))


def without_neighbours(kind, rng):
    """Frames (60, 2) of which no two neighbours are observed."""
    frames = rng.standard_normal((60, 2)).cumsum(axis=0)
    frames = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    observed = np.zeros(60, dtype=bool)
    observed[{"every other": slice(0, None, 2), "first": 0, "one": 37}[kind]] = True
    frames[~observed] = np.nan
    return frames


def rises(bounds):
    """Whether no step on all of the data has lowered the bound."""
    return np.all(np.diff(bounds) >= -1e-9 * np.abs(bounds[1:]))


LONELY = {
    "lds": svae.LDS(2),
    "affine-lds": svae.LDS(2, affine=True),
    "hmm": svae.HMM(3, 2),
    "slds": svae.SLDS(3, 2),
    "affine-slds": svae.SLDS(3, 2, affine=True),
}


@pytest.mark.parametrize("kind", ["every other", "first", "one"])
@pytest.mark.parametrize("name", LONELY)
@pytest.mark.filterwarnings("ignore::svae.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:num_states. there are more states")
def test_frames_without_observed_neighbours_are_fitted(name, kind, rng):
    frames = without_neighbours(kind, rng)
    model = svae.SVAE(LONELY[name], svae.MLP((5,)), svae.MLP((5,)))
    model.fit(frames, num_steps=4, window=20, rng=0)
    assert np.isfinite(model.score(frames, num_samples=1))
    completed, seen = model.impute(frames, num_samples=2), ~np.isnan(frames)
    assert np.isfinite(completed).all()
    np.testing.assert_array_equal(completed[seen], frames[seen])


@pytest.mark.parametrize("kind", ["every other", "first", "one"])
@pytest.mark.parametrize("name", ["lds", "affine-lds", "hmm"])
@pytest.mark.filterwarnings("ignore:data. columns 0 and 1 .* are constant")
@pytest.mark.filterwarnings("ignore:num_states. there are more states")
def test_frames_without_observed_neighbours_are_fitted_without_networks(
    name, kind, rng
):
    frames = without_neighbours(kind, rng)
    for data in (frames, [frames, frames[::2]]):
        model = svae.SVI(LONELY[name]).fit(data, num_steps=5, rng=0)
        assert rises(model.history_["objective"])
        assert np.isfinite(model.score(data))


def test_single_frames_of_switching_dynamics_are_fitted_without_networks(rng):
    """Sequences of one frame are all that is left of such data when they are cut."""
    frames = without_neighbours("every other", rng)[::2]
    model = svae.SVI(svae.SLDS(3, 2)).fit([*frames[:, None]], num_steps=5, rng=0)
    assert rises(model.history_["objective"])
    assert np.isfinite(model.score([*frames[:, None]]))
