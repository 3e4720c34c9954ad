"""simdkalman: the Kalman filter and smoother in NumPy, over many sequences."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import System, each_system, refuse, version_of

name, version = "simdkalman", version_of("simdkalman")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    import simdkalman

    refuse(not system.constant, "has one system for all steps")
    refuse(system.has_inputs, "takes no inputs")
    refuse(system.partly_observed, "documents that a step is observed in full or not")
    kalman = simdkalman.KalmanFilter(system.A, system.Q, system.C, system.R)
    found = kalman.compute(
        system.y[None],
        0,
        initial_value=system.m0,
        initial_covariance=system.P0,
        filtered=True,
        gains=True,
        log_likelihood=True,
    )
    # the likelihood is without the constant of a density
    observed = np.isfinite(system.y).sum()
    return {
        "log_likelihood": found.log_likelihood[0]
        - 0.5 * observed * math.log(2 * math.pi),
        "filtered.mean": found.filtered.states.mean[0],
        "filtered.cov": found.filtered.states.cov[0],
        "smoothed.mean": found.smoothed.states.mean[0],
        "smoothed.cov": found.smoothed.states.cov[0],
    }
