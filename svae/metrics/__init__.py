"""How well states agree with labels, and the bouts into which a path falls."""

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
    "change_point_scores",
    "change_points",
    "contingency",
    "entropy",
    "normalized_mutual_information",
    "purity",
    "states_in_use",
]
