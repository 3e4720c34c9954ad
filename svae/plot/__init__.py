"""Figures of fitted models; matplotlib is imported when one is drawn."""

from svae.plot.charts import (
    bound,
    dynamics,
    ethogram,
    figures,
    forecast,
    mixture,
    transitions,
    trial,
)
from svae.plot.gallery import manifold, onsets, state_frames

__all__ = [
    "bound",
    "dynamics",
    "ethogram",
    "figures",
    "forecast",
    "manifold",
    "mixture",
    "onsets",
    "state_frames",
    "transitions",
    "trial",
]
