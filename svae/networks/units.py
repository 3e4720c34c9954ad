"""The units in which networks see data and speak of x.

A network starts, and is trained by Adam, as if all that goes in and comes out were
about 1.  Between data and networks stand therefore two maps, which are fixed before
training: frames are centred and divided by one scale, the same for all dimensions, so
that what varies little is not blown up; and the evidence of the recognition network is
in units of a precision for each dimension of x.  With `NONE` the networks see data as
they are.
"""

from typing import Any, NamedTuple

import numpy as onp

from svae.autodiff.trees import check_alike

__all__ = ["NONE", "Units", "check_units"]


class Units(NamedTuple):
    """Units of data and of evidence."""

    center: Any = 0.0
    """(P,), of the data."""
    scale: float = 1.0
    """Of the data: networks see ``(y - center) / scale``."""
    precision: Any = 1.0
    """(D,), of evidence: J and h are this times what the network says."""

    @property
    def are_trivial(self) -> bool:
        """Whether networks see data as they are."""
        return onp.ndim(self.center) == 0

    def standardize(self, frames: Any) -> Any:
        """Return what networks see of frames (..., P)."""
        return (frames - self.center) / self.scale

    def restore(self, location: Any, scale: Any) -> Any:
        """Return location and scale, a variance, in the units of the data."""
        location = self.center + self.scale * location
        if scale is not None:
            scale = self.scale**2 * scale
        return location, scale

    def log_jacobian(self, observed: Any, obs_dim: int) -> Any:
        """Return the log density of frames less that of what networks see of them.

        Parameters
        ----------
        observed : (N, 1, T, P) bool array, or None
            Which entries count.
        obs_dim : int
            P.
        """
        count = obs_dim if observed is None else observed.sum(axis=-1)
        return -count * onp.log(self.scale)


NONE = Units()
"""The data's own."""


def check_units(found: Any, obs_dim: int, latent_dim: int) -> Units:
    """Return units that were read back, or `NONE` in the place of None.

    Raises
    ------
    ValueError
        If they are not those of frames of ``obs_dim`` dimensions, or not positive.
    """
    if found is None:
        return NONE
    units = Units(**found)
    if units.are_trivial:
        return NONE
    wanted = Units(onp.zeros(obs_dim), 1.0, onp.zeros(latent_dim))
    check_alike(tuple(units), tuple(wanted), "units")
    if not (units.scale > 0 and onp.all(units.precision > 0)):
        raise ValueError("units are not positive")
    return units
