"""Layers, heads, and the elementary operations that they are made of."""

# mean, whether the network is a Residual one, whether entries are missing
HEADS = [
    (mean, residual, masked)
    for mean in ("linear", "sigmoid")
    for residual in (False, True)
    for masked in (False, True)
]


SHAPE = {"N": 2, "S": 3, "T": 4, "M": 5, "P": 11}


def head_problem(rng, residual, masked, N, S, T, M, P):
    """Return features, two heads, and perhaps offset and floor; data and a mask."""
    args = [rng.standard_normal(s) for s in ((N, S, T, M), *2 * ((M, P), (P,)))]
    if residual:
        args += [rng.standard_normal((N, S, T, P)), rng.uniform(0.1, 2.0, P)]
    observed = rng.random((N, T, P)) < 0.7 if masked else None
    return args, rng.standard_normal((N, T, P)), observed


def head_of(module, mean, data, observed):
    def density(features, w, b, v, c, offset=None, floor=None):
        heads = (w, b), (v, c)
        return [
            module.gaussian_head(features, *heads, data, observed, mean, offset, floor)
        ]

    return density
