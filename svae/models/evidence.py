"""What data say of the latents of some sequences, and what is known of each.

The recognition network makes it once, and every latent model reads it: node potentials,
the lengths, which frames are observed, and beliefs about first steps.
"""

from typing import Any, NamedTuple

import autograd.numpy as np
import numpy as onp

from svae.data.masks import valid_steps
from svae.types import Array

__all__ = ["Belief", "Evidence", "first_states", "where_given"]


class Belief(NamedTuple):
    """What earlier frames say of the first step of some sequences.

    Where it is ``given`` it takes the place of the initial factor.  It is a constant:
    no gradient flows into it.
    """

    given: onp.ndarray
    """(N,) bool; of the other sequences the rest is finite and not used."""
    J: onp.ndarray
    """(N, D, D), with ``h`` the natural parameters of a Gaussian over x."""
    h: onp.ndarray
    """(N, D)"""
    states: onp.ndarray | None
    """(N, K), log probabilities of the discrete states, or None."""


class Evidence(NamedTuple):
    """Node potentials of N sequences; all but J and h are constants."""

    J: Array
    """(N, T, D) or (N, T, D, D), quadratic; zero at a frame that says nothing."""
    h: Array
    """(N, T, D), linear."""
    lengths: onp.ndarray | None = None
    """(N,), or None where all have T steps."""
    observed: onp.ndarray | None = None
    """(N, T) bool, frames of which there are data, or None for all.  One of which there
    are none leaves a model whose x_t are independent given z altogether."""
    belief: Belief | None = None

    @property
    def node(self) -> tuple[Any, Any]:
        """The node potentials (J, h)."""
        return self.J, self.h

    @property
    def valid(self) -> onp.ndarray:
        """Mask (N, T) of the steps within the lengths."""
        return valid_steps(self.lengths, self.h)

    @property
    def scored(self) -> onp.ndarray:
        """Mask (N, T) of the frames within the lengths of which there are data."""
        return self.valid if self.observed is None else self.valid & self.observed

    @property
    def missing(self) -> onp.ndarray:
        """Mask (N, T) of the frames within the lengths of which there are none."""
        return self.valid & ~self.scored

    def cleared(self) -> "Evidence":
        """Set potentials past the lengths to zero: what lies there is not read."""
        valid = self.valid
        if valid.all():
            return self
        steps = onp.reshape(valid, (*valid.shape, *(1,) * (self.J.ndim - 2)))
        J, h = np.where(steps, self.J, 0.0), np.where(valid[..., None], self.h, 0.0)
        return self._replace(J=J, h=h)

    def constants(self) -> "Evidence":
        """Return what is known of the sequences, without the node potentials."""
        nothing: Any = None
        return self._replace(J=nothing, h=nothing)

    def with_node(self, J: Array, h: Array) -> "Evidence":
        """Return constants with node potentials."""
        return self._replace(J=J, h=h)


def where_given(belief: Belief, believed: onp.ndarray, usual: Array) -> Array:
    """Return ``believed`` (N, ...) where there is a belief, else ``usual`` (...)."""
    given = onp.reshape(belief.given, (-1,) + (1,) * (believed.ndim - 1))
    # autograd's where does not sum what comes back for a broadcast argument, + does
    return np.where(given, believed, usual + onp.zeros(believed.shape))


def first_states(init: Array, belief: Belief | None) -> Array:
    """Return the initial potentials (K,) of z, or (N, K) where some have a belief."""
    if belief is None:
        return init
    assert belief.states is not None
    return where_given(belief, belief.states, init)
