"""BLAS gets the threads it is told to use, and gives the others back."""

import sys

import pytest

import svae
from svae.training import blas
from svae.training.loop import WORTH_THREADS

NETWORK = svae.MLP((6,))


@pytest.fixture(params=["threadpoolctl", "by hand"])
def counts(request, monkeypatch):
    """Count threads; once with the optional package, once without it."""
    if request.param == "threadpoolctl":
        pytest.importorskip("threadpoolctl")
    else:
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    if not blas.thread_counts():
        pytest.skip("no OpenBLAS, or the system does not show it")
    with blas.blas_threads(2):
        yield blas.thread_counts


def test_one_thread_of_blas_is_a_loan(counts):
    assert set(counts()) == {2}
    with pytest.raises(KeyError), blas.blas_threads(1):
        assert set(counts()) == {1}
        raise KeyError
    assert set(counts()) == {2}


@pytest.mark.parametrize(("window", "expected"), [(10, 1), (40, 2)])
def test_small_steps_are_taken_on_one_thread(window, expected, counts, monkeypatch):
    """The largest product of a step: 3 windows, 2 samples, 4 inputs x 6 units."""
    monkeypatch.setattr(svae.training.loop, "WORTH_THREADS", 3 * 2 * 11 * 4 * 6)
    seen = []
    svae.SVAE(svae.LDS(2), NETWORK, NETWORK).fit(
        svae.synthetic.switching_lds(rng=0).frames[:, [0, 1, 0, 1]],
        num_steps=2,
        window=window,
        batch_size=3,
        num_samples=2,
        callback=lambda step, record: seen.extend(counts()),
        rng=0,
    )
    assert set(seen) == {expected}
    assert set(counts()) == {2}


def test_the_products_of_images_are_worth_threads():
    """Those of the README's first row of steps: 8 x 250 frames of 900 pixels."""
    assert 8 * 250 * 900 * 200 > WORTH_THREADS > 50 * 15 * 40 * 40
