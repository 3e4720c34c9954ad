"""How well states agree with labels, the bouts of a path, and plain predictions."""

from svae.metrics.baselines import (
    autoregression,
    mean_frame,
    mean_squared_error,
    previous_frame,
)
from svae.metrics.labels import (
    ChangePointScores,
    Contingency,
    accuracy,
    adjusted_rand_index,
    align_states,
    change_point_scores,
    change_points,
    contingency,
    entropy,
    normalized_mutual_information,
    purity,
    states_in_use,
)

__all__ = [
    "ChangePointScores",
    "Contingency",
    "accuracy",
    "adjusted_rand_index",
    "align_states",
    "autoregression",
    "change_point_scores",
    "change_points",
    "contingency",
    "entropy",
    "mean_frame",
    "mean_squared_error",
    "normalized_mutual_information",
    "previous_frame",
    "purity",
    "states_in_use",
]
