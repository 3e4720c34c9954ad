r"""Conjugate updates of q(theta): what is left of learning when x is known.

Let ``l(m)`` be the log normalizer of the local factors, of z given known x, say.  The
bound is ``l(m) - KL(q(theta) || p(theta))``, and its natural gradient

.. math:: \tilde\nabla_\eta \mathcal{L} = \eta^0 - \eta + \nabla_m l(m)

holds the expected statistics ``grad l(m) = E[(t(z, x), 1)]``: a step of size 1 is
coordinate ascent, and never lowers the bound (Johnson et al. 2016, Eq. 2; Hoffman et
al. 2013).  All that this needs is that l is convex in m: its tangent, which is linear
in m and touches it, is a bound on the bound, and the step is where that is highest.  So
it holds for Student-t mixtures of known degrees of freedom too, whose l is a maximum
over q(z) and q(u) of functions that are linear in m.  Degrees of freedom that are
learned have no such l; their steps are halved until they raise the bound.

`initialize` finds a q(theta) to start a structured autoencoder from: coordinate ascent
on encoded latents, from several clusterings of them, of which the best end is kept.
"""

from collections.abc import Callable
from typing import Any

import numpy as onp

from svae.autodiff.trees import leaves, rebuild, tree_map
from svae.autodiff.vjp import trace
from svae.families import product
from svae.families.product import natural_step, proper_step
from svae.types import Message

__all__ = [
    "ascend",
    "climb",
    "direction",
    "extrapolate",
]


ROUNDING = 1e-9
"""Relative size of a fall of the bound that is rounding."""


def direction(
    local: Callable[[Any], Any], family: Any, natparams: Message, prior: Message
) -> tuple[float, Any]:
    """Return the bound and its natural gradient.

    Parameters
    ----------
    local : callable
        m -> l(m), a scalar for the whole data.
    family : dict of modules of `svae.families`
    natparams, prior : dict
        Of q(theta) and p(theta).
    """
    message = product.expected_stats(family, natparams)
    pull_back, (value,) = trace(
        lambda *boxes: (local(rebuild(message, boxes)),), leaves(message)
    )
    natural = tree_map(
        lambda eta0, eta, stat: eta0 - eta + stat,
        prior,
        natparams,
        rebuild(message, pull_back(1.0)),
    )
    return float(value - product.kl(family, natparams, prior)), natural


def climb(
    local: Callable[[Any], Any],
    family: Any,
    natparams: Message,
    prior: Message,
    step_size: float = 1.0,
    ascends: bool = True,
) -> tuple[Any, float, int]:
    """Take a step along the natural gradient that does not lower the bound.

    Parameters
    ----------
    local, family, natparams, prior
        As in `direction`.
    step_size : float
        At most 1.
    ascends : bool
        Whether that is certain; if not, the step is halved until it is so.

    Returns
    -------
    natparams : dict
    bound : float
        Before the step.
    num_backtracks : int
        How often the step was halved; see `svae.families.product.proper_step`.

    Raises
    ------
    FloatingPointError
        If the bound is not finite, or no step stays in the domain.
    """
    bound, natural = direction(local, family, natparams, prior)
    if not onp.isfinite(bound):
        raise FloatingPointError(f"the bound is {bound}")

    def accepted(moved: Any) -> bool:
        with onp.errstate(all="ignore"):  # a step that is far too long may overflow
            stats = product.expected_stats(family, moved)
            reached = local(stats) - product.kl(family, moved, prior)
        return bool(reached >= bound - ROUNDING * abs(bound))

    test = None if ascends else accepted
    moved, num_backtracks = proper_step(family, natparams, natural, step_size, test)
    return moved, bound, num_backtracks


def ascend(
    local: Callable[[Any], Any],
    family: Any,
    natparams: Message,
    prior: Message,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    ascends: bool = True,
) -> tuple[Any, float]:
    """Climb in steps of size 1 until the bound rises by less than a relative tolerance.

    Returns natural parameters and the bound before the last step.
    """
    last = -onp.inf
    for _ in range(max_iterations):
        natparams, bound, _ = climb(local, family, natparams, prior, ascends=ascends)
        if bound - last <= tolerance * abs(bound):
            break
        last = bound
    return natparams, bound


def extrapolate(family: Any, prior: Message, natparams: Message, scale: float) -> Any:
    """Return q(theta) as if the data it has seen were ``scale`` times as many."""
    gained = tree_map(onp.subtract, natparams, prior)
    return natural_step(
        prior, gained, scale, lambda moved: product.in_domain(family, moved)
    )[0]
