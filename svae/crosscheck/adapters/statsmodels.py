"""statsmodels: the Kalman filter and smoother of its state space models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import System, each_system, version_of

name, version = "statsmodels", version_of("statsmodels")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    (T, P), D = system.y.shape, len(system.m0)
    smoother = KalmanSmoother(k_endog=P, k_states=D, tolerance=0)  # no steady state
    smoother.bind(np.asfortranarray(system.y.T))
    smoother["selection"] = np.eye(D)
    smoother["design"], smoother["obs_cov"] = _over_time(system.C), _over_time(system.R)
    # the dynamics of step t lead to step t + 1, those of the last one nowhere
    smoother["transition"] = _over_time(system.A, T)
    smoother["state_cov"] = _over_time(system.Q, T)
    push = np.concatenate([system.push, np.zeros((1, D))])
    smoother["state_intercept"], smoother["obs_intercept"] = push.T, system.shift.T
    smoother.initialize_known(system.m0, system.P0)
    found = smoother.smooth()
    last = np.moveaxis(found.smoothed_state_autocov, -1, 0)
    return {
        "log_likelihood": found.llf,
        "predicted.mean": found.predicted_state.T[:T],
        "predicted.cov": np.moveaxis(found.predicted_state_cov, -1, 0)[:T],
        "filtered.mean": found.filtered_state.T,
        "filtered.cov": np.moveaxis(found.filtered_state_cov, -1, 0),
        "smoothed.mean": found.smoothed_state.T,
        "smoothed.cov": np.moveaxis(found.smoothed_state_cov, -1, 0),
        # Cov(x_{t+1}, x_t)
        "smoothed.cross_cov": np.swapaxes(last[: T - 1], 1, 2),
    }


def _over_time(x: np.ndarray, steps: int | None = None) -> np.ndarray:
    """Put time last, and one more step behind if there is one."""
    if x.ndim == 2:
        return x
    if steps is not None:
        x = np.concatenate([x, x[-1:] if len(x) else np.eye(x.shape[-1])[None]])
    return np.moveaxis(x, 0, -1)
