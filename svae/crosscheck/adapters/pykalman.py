"""pykalman: the Kalman filter and smoother in NumPy."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import System, each_system, refuse, version_of

name, version = "pykalman", version_of("pykalman")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    from pykalman import KalmanFilter

    refuse(system.Q.ndim > 2 or system.R.ndim > 2, "has one Q and one R for all steps")
    refuse(system.partly_observed, "documents that a step is observed in full or not")
    filter_ = KalmanFilter(
        transition_matrices=system.A,
        observation_matrices=system.C,
        transition_covariance=system.Q,
        observation_covariance=system.R,
        transition_offsets=system.push if system.has_inputs else None,
        observation_offsets=system.shift if system.has_inputs else None,
        initial_state_mean=system.m0,
        initial_state_covariance=system.P0,
    )
    y = np.ma.masked_invalid(system.y)
    filtered_means, filtered_covs = filter_.filter(y)
    means, covs = filter_.smooth(y)
    return {
        "log_likelihood": filter_.loglikelihood(y),
        "filtered.mean": filtered_means,
        "filtered.cov": filtered_covs,
        "smoothed.mean": means,
        "smoothed.cov": covs,
    }
