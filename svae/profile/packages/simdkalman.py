"""simdkalman: the Kalman filter in NumPy, all sequences at once.

Its steps, and not its class, which has one noise of observations for all of time.
"""

import math
from typing import Any

import numpy as np

from svae.profile.packages.prepared import Answers, Model, Prepared

__all__ = ["lds"]


def lds(model: Model) -> Prepared:
    """Return means and covariances, filtered and then smoothed."""
    from simdkalman import primitives

    A, Q, y = model["A"], model["Q"], model["y"]
    N, T, D = y.shape
    one, noise = np.eye(D), model["R"][..., None] * np.eye(D)
    m1, V1 = np.tile(model["m1"][:, None], (N, 1, 1)), np.tile(model["V1"], (N, 1, 1))

    def call() -> Any:
        logliks, filtered, (m, P) = np.zeros(N), [], (m1, V1)
        for t in range(T):
            if t:
                m, P = primitives.predict(m, P, A, Q)
            of_t = noise[:, t], y[:, t, :, None]
            m, P, _, loglik = primitives._update(m, P, one, *of_t, log_likelihood=True)
            logliks += loglik
            filtered.append((m, P))
        smoothed = [filtered[-1]]
        for m, P in filtered[-2::-1]:
            smoothed.append(primitives.smooth(m, P, A, Q, *smoothed[-1]))
        means, covs = zip(*smoothed[::-1], strict=True)
        return logliks, np.stack(means, 1), np.stack(covs, 1)

    def answers(result: Any) -> Answers:
        logliks, means, covs = result  # without the constant of the density
        constant = -0.5 * T * D * math.log(2 * math.pi)
        variances = np.diagonal(covs, axis1=-2, axis2=-1)
        return logliks + constant, means[..., 0], variances

    return Prepared(call, answers)
