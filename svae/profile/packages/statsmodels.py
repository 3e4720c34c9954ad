"""statsmodels: linear dynamical systems, one sequence after the other."""

from typing import Any

import numpy as np

from svae.profile.packages.prepared import Model, Prepared, one_by_one

__all__ = ["lds"]


def lds(model: Model) -> Prepared:
    """Fill the state-space representations before the clock starts."""
    from statsmodels.tsa.statespace import kalman_smoother as ks

    wanted = ks.SMOOTHER_STATE | ks.SMOOTHER_STATE_COV | ks.SMOOTHER_STATE_AUTOCOV
    D = len(model["m1"])

    def representation(y: np.ndarray, R: np.ndarray) -> Any:
        smoother = ks.KalmanSmoother(k_endog=D, k_states=D)
        smoother.bind(np.asfortranarray(y.T))
        smoother["design"] = smoother["selection"] = np.eye(D)
        smoother["transition"], smoother["state_cov"] = model["A"], model["Q"]
        smoother["obs_cov"] = R.T * np.eye(D)[..., None]
        smoother.initialize_known(model["m1"], model["V1"])
        return smoother

    def one(smoother: Any) -> Any:
        result = smoother.smooth(smoother_output=wanted)
        variances = np.diagonal(result.smoothed_state_cov, axis1=0, axis2=1)
        return result.llf, result.smoothed_state.T, variances

    return one_by_one(one, list(map(representation, model["y"], model["R"])))
