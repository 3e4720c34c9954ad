"""Errors of the compiled functions of one number, against mpmath.

As a program it prints them: the instruction set of a process is chosen when it starts.
"""

import json

import mpmath
import numpy as np

from svae import kernels

EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
SCALES = (1e-300, 1e-8, 1e-3, 0.3, 1.0, 3.0, 30.0, 200.0)
HARD = [
    *(0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 1e-17, 0.34657359027997264),
    *(18.7, 19.1, 22.0, 30.0, 36.0, 36.8, 708.0, 709.7, 710.0, 744.4, 745.0, 745.2),
    *(800.0, 1e308),
]


def arguments():
    """Return numbers of all sizes and either sign."""
    rng = np.random.default_rng(0)
    numbers = [scale * rng.standard_normal(40) for scale in SCALES]
    return np.concatenate([*numbers, HARD, np.negative(HARD)])


def errors():
    """Return each function's largest error in units in the last place, and where."""
    found = {}
    with mpmath.workprec(2400):  # 1 + exp(-745) is not 1
        for name, exact in EXACT.items():
            x = arguments()
            if name == "log":
                x = np.abs(x[x != 0])
            pairs = zip(x.tolist(), getattr(kernels, name)(x), strict=True)
            found[name] = max(
                (error(got, exact(mpmath.mpf(at))), at) for at, got in pairs
            )
    return found


def error(got, want):
    """Distance of a double from an exact value, which may be beyond all doubles."""
    nearest = float(want)
    if np.isinf(nearest) or np.isinf(got):
        return 0.0 if nearest == got else np.inf
    unit = np.spacing(abs(nearest)) if nearest else 5e-324
    return float(abs(mpmath.mpf(float(got)) - want) / unit)


if __name__ == "__main__":
    print(json.dumps(errors()))
