"""Certified answers, and what judges those of any implementation by them.

`cases` reads and writes the certified set; `truth` makes it.
"""

from svae.crosscheck.cases import Case, Certified, load, names, write

__all__ = ["Case", "Certified", "load", "names", "write"]
