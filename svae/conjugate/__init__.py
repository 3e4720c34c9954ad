"""Learning when x is known: coordinate ascent in q(theta).

`ascent` has the steps, `initialization` the clusterings from which they start, and
`exact_models` the graphical models of the data themselves, without networks.
"""

from svae.conjugate.ascent import ascend, climb, direction, extrapolate
from svae.conjugate.initialization import MAX_FRAMES, initialize

__all__ = [
    "MAX_FRAMES",
    "ascend",
    "climb",
    "direction",
    "extrapolate",
    "initialize",
]
