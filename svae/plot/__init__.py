"""Figures of fitted models; matplotlib is imported when one is drawn."""

from svae.plot.charts import (
    bound,
    dynamics,
    ethogram,
    figures,
    forecast,
    mixture,
    transitions,
)
from svae.plot.gallery import manifold, state_frames

__all__ = [
    "bound",
    "dynamics",
    "ethogram",
    "figures",
    "forecast",
    "manifold",
    "mixture",
    "state_frames",
    "transitions",
]
