"""How the local factor q(z) q(x) is found.

With a single Gaussian factor it is exact.  Of a discrete and a Gaussian one,
`switching` finds the mean field of chains, `fixed_point` differentiates it, `switches`
says what a state selects, and `one_step` has all of that in one kernel for independent
points.  `mixture` and `structured` are exact with a graph of its own (Lin et al. 2018).
"""
