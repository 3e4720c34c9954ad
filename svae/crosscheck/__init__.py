"""Certified answers, and what judges those of any implementation by them.

`cases` reads and writes the certified set; `truth` makes it.  `scores` counts digits,
`compare` judges answers, `run` asks an adapter for them in a process of its own
(`worker`), `guess` finds what would give the same wrong numbers, among the mistakes of
the `museum` too, and `report` says it all.  `metamorphic` has the checks that need no
truth, `adapters` other packages, and `ours` this one.
"""

from svae.crosscheck.cases import Case, Certified, load, names, write

__all__ = ["Case", "Certified", "load", "names", "write"]
