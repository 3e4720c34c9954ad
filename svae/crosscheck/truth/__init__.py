"""How the certified values are found: ball arithmetic, two derivations of each.

Needs python-flint (``pip install 'svae[certify]'``).  `make` makes the set.
"""
