"""Runs of fits that are the same, number for number."""

import numpy as np

import svae
from svae.autodiff.trees import leaves


def contents(folder):
    """Return all numbers of a fitted model but the clock's, and of its history."""
    model = svae.load(folder / "model.npz")
    columns = {k: x for k, x in model.history_.items() if k != "seconds"}
    return [*leaves(model.parameters_), *leaves(columns)]


def assert_same_run(folder, other):
    pairs = zip(contents(folder), contents(other), strict=True)
    for got, want in pairs:
        np.testing.assert_array_equal(got, want)


def interrupt_at(step):
    def stop(reached, record):
        if reached == step:
            raise KeyboardInterrupt

    return stop
