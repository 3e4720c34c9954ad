"""scikit-learn's variational mixture: E[log|L|] under a normal-inverse-Wishart.

Its expected log density of a component at the component's own mean has that, the
constant of the density and D/(2 kappa); nothing else of it can be asked by a case.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from svae.crosscheck.adapters.sequences import refuse, version_of

name, version = "scikit-learn", version_of("scikit-learn")
expected_failures: dict[str, str] = {}


def family(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Take each member of the family for a mixture of one component."""
    refuse("natural.q.kappa" not in inputs, "its mixtures have this family alone")
    words = ("mean", "kappa", "scale", "dof")
    members = zip(*(inputs[f"standard.q.{word}"] for word in words), strict=True)
    return {"expected_stats.nu": np.array([_half_log_det(*one) for one in members])}


def _half_log_det(mean: Any, kappa: float, scale: Any, dof: float) -> float:
    from sklearn.mixture import BayesianGaussianMixture

    model = BayesianGaussianMixture(n_components=1)
    model.means_, model.covariances_ = mean[None], scale[None] / dof
    model.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(scale / dof)).T[None]
    model.mean_precision_, model.degrees_of_freedom_ = (
        np.array([kappa]),
        np.array([dof]),
    )
    model.covariance_type_ = "full"
    log_density = float(model._estimate_log_prob(mean[None])[0, 0])
    D = len(mean)
    return log_density + 0.5 * D * np.log(2 * np.pi) + 0.5 * D / kappa
