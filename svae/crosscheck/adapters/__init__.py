"""How other packages are asked, each in a module that is an adapter.

They are imported in a process of their own, if they are asked for: none of the packages
is needed to use this one.  ``python -m svae.crosscheck.adapters`` asks all that are
installed and writes docs/verdicts.md anew.
"""

__all__ = ["NAMES", "PEERS"]

PEERS = (
    "cuthbert",
    "dynamax",
    "filterpy",
    "hmmlearn",
    "pykalman",
    "scikit_learn",
    "simdkalman",
    "statsmodels",
)
NAMES = ("ours", *PEERS)
"""Adapters by name; ``ours`` is this package."""
