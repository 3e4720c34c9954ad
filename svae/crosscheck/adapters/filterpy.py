"""filterpy: the Kalman filter and smoother in NumPy, step by step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import System, each_system, refuse, version_of

name, version = "filterpy", version_of("filterpy")
expected_failures: dict[str, str] = {}


def lds(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Filter and smooth."""
    return each_system(inputs, _smooth)


def _smooth(system: System) -> dict[str, Any]:
    from filterpy.kalman import KalmanFilter

    refuse(system.partly_observed, "a step is observed in full or not at all")
    T, P = system.y.shape
    D = len(system.m0)
    A, Q = (np.broadcast_to(x, (T - 1, D, D)) for x in (system.A, system.Q))
    C, R = np.broadcast_to(system.C, (T, P, D)), np.broadcast_to(system.R, (T, P, P))
    kalman = KalmanFilter(dim_x=D, dim_z=P, dim_u=D)
    kalman.x, kalman.P = system.m0[:, None].copy(), system.P0.copy()
    total, found = 0.0, []
    for t, y in enumerate(system.y):
        if t:
            kalman.predict(
                u=system.push[t - 1][:, None], B=np.eye(D), F=A[t - 1], Q=Q[t - 1]
            )
        prior = kalman.x.copy(), kalman.P.copy()
        if np.isnan(y).all():
            kalman.update(None)
        else:
            kalman.update((y - system.shift[t])[:, None], R=R[t], H=C[t])
            total += kalman.log_likelihood
        found.append((*prior, kalman.x.copy(), kalman.P.copy()))
    before, cov_before, mean, cov = (np.array(x) for x in zip(*found, strict=True))
    answers = {
        "log_likelihood": total,
        "predicted.mean": before[..., 0],
        "predicted.cov": cov_before,
        "filtered.mean": mean[..., 0],
        "filtered.cov": cov,
    }
    if not system.push.any():  # which its smoother does not take
        # of step k it takes the dynamics that lead to it
        steps = [[np.eye(D), *A], [np.eye(D), *Q]]
        smoothed, covs, _, _ = kalman.rts_smoother(mean, cov, *steps)
        answers |= {"smoothed.mean": smoothed[..., 0], "smoothed.cov": covs}
    return answers
