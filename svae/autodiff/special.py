r"""The gamma function's logarithm and derivatives, differentiable.

`autograd.scipy` has them too, but takes several times as long to import as the whole of
this package; ``scipy.special`` itself is loaded by the first call.
"""

from typing import Any

import scipy
from autograd.extend import defvjp

from svae.autodiff.primitive import primitive

__all__ = ["digamma", "gammaln", "polygamma"]


@primitive
def gammaln(x: Any) -> Any:
    """Return the logarithm of the absolute value of the gamma function."""
    return scipy.special.gammaln(x)


@primitive
def digamma(x: Any) -> Any:
    """Return the derivative of `gammaln`."""
    return scipy.special.digamma(x)


@primitive
def polygamma(order: int, x: Any) -> Any:
    """Return a derivative of `digamma`."""
    return scipy.special.polygamma(order, x)


defvjp(gammaln, lambda ans, x: lambda g: g * digamma(x))
defvjp(digamma, lambda ans, x: lambda g: g * polygamma(1, x))
defvjp(polygamma, None, lambda ans, n, x: lambda g: g * polygamma(n + 1, x))
