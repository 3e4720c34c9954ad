"""Going on from a fitted model: its networks, and its q(theta) where that fits.

The networks see data as those of the fitted model do, in its units and with its fill
for missing entries: then they say the same.  A latent model of the same family and
sizes takes q(theta) too; another one, an SLDS after an LDS, is fitted to the latents
that the encoder gives, as after a warm-up.
"""

import hashlib
from typing import Any, NamedTuple

from svae.autodiff.trees import check_alike, to_vector
from svae.networks.units import Units
from svae.objective.model import (
    Generative,
    Parameters,
    in_units,
    initial_encoder,
    recognition,
)

__all__ = [
    "Fitted",
    "check_fits",
    "digest",
    "network_of",
    "parameters_from",
    "seeing_as",
]

PARTS = ("encoder", "decoder", "likelihood", "decoder_posterior")
"""What a fitted model must share with one that goes on from it."""


class Fitted(NamedTuple):
    """A fitted model from which another fit goes on."""

    model: Generative
    """As constructed, with what the fit has learned of missing entries."""
    units: Units
    parameters: Parameters
    obs_dim: int


def check_fits(model: Generative, fitted: Fitted, obs_dim: int) -> None:
    """Raise ValueError, naming what does not fit, unless a model can go on.

    Parameters
    ----------
    model : Generative
        As constructed.
    fitted : Fitted
    obs_dim : int
        P of the data.
    """
    for name in PARTS:
        old, new = getattr(fitted.model, name), getattr(model, name)
        if old != new:
            raise ValueError(
                f"start: the {name} of the fitted model is {old!r}, of this one "
                f"{new!r}; construct this model with the same"
            )
    sizes = {
        "latent_dim": (fitted.model.latent.latent_dim, model.latent.latent_dim),
        "number of columns": (fitted.obs_dim, obs_dim),
    }
    for name, (was, now) in sizes.items():
        if was != now:
            raise ValueError(
                f"start: the {name} of the fitted model is {was}, not {now}"
            )


def seeing_as(model: Generative, fitted: Fitted) -> Generative:
    """Return a model whose networks see data as those of a fitted one do."""
    known = fitted.model
    model = model._replace(fill=known.fill, sees_mask=known.sees_mask)
    if fitted.units.are_trivial:
        return model
    return in_units(model, fitted.units)._replace(control_variate=True)


def parameters_from(model: Generative, fitted: Fitted) -> tuple[Parameters, bool]:
    """Return parameters to go on with, and whether they are all there are.

    If not, q(theta) is that of no factors, and the encoder has the network alone.
    """
    natparams, encoder, decoder = fitted.parameters
    network = network_of(fitted)
    if not _is_alike(model.latent, fitted):
        return Parameters({}, network, decoder), False
    if model.inference != fitted.model.inference:
        encoder = initial_encoder(model, natparams, network)
    return Parameters(natparams, encoder, decoder), True


def network_of(fitted: Fitted) -> Any:
    """Return the weights of the recognition network, without a graph."""
    return recognition(fitted.model, fitted.parameters.encoder)[0]


def digest(fitted: Fitted) -> str:
    """Return a word by which to know a fitted model again."""
    numbers = to_vector(tuple(fitted.parameters)).tobytes()
    return f"fitted {hashlib.sha256(numbers).hexdigest()[:16]}"


def _is_alike(latent: Any, fitted: Fitted) -> bool:
    """Whether q(theta) of a fitted model is one of a latent model too."""
    known: Any = fitted.model.latent
    try:
        check_alike(fitted.parameters.natparams, latent.prior(), "natparams")
    except ValueError:
        return False
    return bool(known.family == latent.family)
