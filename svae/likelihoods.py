r"""Likelihoods: the law of a frame y given what the decoder says of it.

A decoder maps x to a *location* and, if it is asked for one, to a positive *scale*.  A
likelihood makes a distribution of the two: all that the package knows of p(y | x) comes
from these objects.  The objective and scores take the log density; reconstructions,
imputed values and forecasts take means, variances and draws.

===========  =======================================  ==================================
likelihood   location                                 scale
===========  =======================================  ==================================
Gaussian     the mean                                 the variance: of the network, or
                                                      of parameters of its own
Bernoulli    the log odds                             not used
===========  =======================================  ==================================

`Likelihood` is the protocol, and docs/extending.md has a likelihood of counts.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import autograd.numpy as np
import numpy as onp

from svae.kernels.densities import homoscedastic_log_density
from svae.kernels.layers import (
    bounded_exp,
    gaussian_log_density,
    sigmoid,
    softplus,
)

__all__ = [
    "BY_NAME",
    "Bernoulli",
    "Gaussian",
    "Likelihood",
    "label",
    "named",
    "sum_observed",
]


VARIANCES = ("network", "dimension", "shared")
SCALES = ("network", "parameters", None)
BOUND = 10.0
"""Of the absolute value of a log variance; see `svae.kernels.layers.bounded_exp`."""


class Likelihood(Protocol):
    """The law of a frame given a location and a scale, independent frame by frame.

    Arrays of a frame have P dimensions last.  A ``scale`` is an array that broadcasts
    to the location, or None; what the two mean is for the likelihood to say.  A class
    that has these attributes and methods is a likelihood; it need not inherit.  To be
    saved with a model it is a dataclass (`svae.SVAE.save`).

    Two methods more belong to a likelihood whose ``scale_from`` is ``"parameters"``:

    ``init(obs_dim) -> tree``
        The initial parameters of its own: dicts, tuples or lists of arrays.  They are
        learned with the weights of the decoder, and are part of ``parameters_.decoder``
        and of q(gamma).
    ``scale(parameters) -> array``
        The scale, (P,) or (), differentiable in the parameters.

    And one attribute is optional: ``location``, a few words that say what the location
    is unless it is the mean (``"log odds"``).  A decoder whose location is squashed to
    the range of a mean, like ``MLP(mean="sigmoid")``, is then refused.
    """

    @property
    def scale_from(self) -> str | None:
        """Say where the scale comes from.

        ``"network"``: from the decoder.  ``"parameters"``: from parameters of the
        likelihood.  None: there is none, and the decoder has no weights for it.
        """

    @property
    def support(self) -> str | None:
        """Say which values it can have, as in ``"data in [0, 1]"``.

        None for all numbers: then data are not checked, and not read to be.
        """

    def check(self, frames: onp.ndarray) -> onp.ndarray:
        """Return which entries it can have, bool (T, P), of frames (T, P).

        The answer for a missing entry, NaN, does not matter.
        """

    def log_density(
        self, data: Any, location: Any, scale: Any, observed: Any = None
    ) -> Any:
        """Return the log density of each frame, (N, S, T), a sum over its dimensions.

        It must be written in autograd's NumPy: gradients are taken in the location and
        the scale, not in the data.

        Parameters
        ----------
        data : (N, 1, T, P) array
            Finite.
        location : (N, S, T, P) array
        scale : array that broadcasts to the location, or None
        observed : (N, 1, T, P) bool array, optional
            Which entries count, all by default; see `sum_observed`.
        """

    def mean(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return the mean of frames, (..., P) like ``location``."""

    def var(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return the variance of each entry, (..., P) like ``location``."""

    def sample(
        self, location: onp.ndarray, scale: Any, rng: onp.random.Generator
    ) -> onp.ndarray:
        """Draw frames, float (..., P) like ``location``, first axes first."""


@dataclass(frozen=True)
class Gaussian:
    r"""Normal distribution with independent dimensions; the location is the mean.

    Parameters
    ----------
    variance : {"network", "dimension", "shared"}
        The variance of every entry from the decoder, Eq. (1) of Johnson et al. (2016);
        or one for each dimension, or a single one, learned as ``exp(10 tanh(s / 10))``
        of a free s, which is the law of the scale of `svae.MLP`.
    floor : float
        Added to the variance: no entry has less, however well a network may know it.
    initial_variance : float
        What a variance for each dimension, or a single one, starts from, without the
        floor; between ``exp(-10)`` and ``exp(10)``.  After a linear start it is the
        residual of the linear model instead.
    relative_floor : float
        A floor in units of the mean variance of the data, which a linear start knows;
        after a random start the data count as standardised.
    """

    variance: str = "network"
    floor: float = 0.0
    initial_variance: float = 1.0
    relative_floor: float = 0.0

    support: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        """Refuse unknown words and numbers that cannot be variances."""
        if self.variance not in VARIANCES:
            raise ValueError(
                f"variance must be one of {VARIANCES}, got {self.variance!r}"
            )
        for name in ("floor", "relative_floor"):
            floor = getattr(self, name)
            if not 0 <= floor < onp.inf:
                raise ValueError(f"{name} must not be negative, got {floor!r}")
        if not abs(onp.log(max(self.initial_variance, 0.0) or onp.nan)) < BOUND:
            raise ValueError(
                "initial_variance must be between exp(-10) and exp(10), got "
                f"{self.initial_variance!r}"
            )

    @property
    def scale_from(self) -> str:
        """``"network"`` or ``"parameters"``; see `Likelihood`."""
        return "network" if self.variance == "network" else "parameters"

    def init(self, obs_dim: int) -> Any:
        """Return the free s of the variances, ``log_variance``, (P,) or ()."""
        return self.init_at(onp.full(obs_dim, self.initial_variance))

    def init_at(self, variances: onp.ndarray) -> Any:
        """Return the free s where the entries of frames have ``variances`` (P,).

        Without a floor; a single variance is their mean.
        """
        if self.variance == "shared":
            variances = onp.mean(variances)
        return {"log_variance": BOUND * onp.arctanh(onp.log(variances) / BOUND)}

    def relative_to(self, variance: float) -> "Gaussian":
        """Return the law whose relative floor is an absolute one.

        ``variance`` is the mean variance of the data.
        """
        if not self.relative_floor:
            return self
        floor = self.floor + self.relative_floor * variance
        return replace(self, floor=floor, relative_floor=0.0)

    def rescaled(self, factor: float) -> "Gaussian":
        """Return the law of ``factor * y``, of scales that are scaled as well."""
        return replace(self, floor=factor**2 * self.floor) if self.floor else self

    def scale(self, parameters: Any) -> Any:
        """Return the variances without the floor, (P,) or ()."""
        return bounded_exp(parameters["log_variance"])

    def check(self, frames: onp.ndarray) -> onp.ndarray:
        """Return True for all entries, (T, P)."""
        return onp.ones(frames.shape, dtype=bool)

    def log_density(
        self, data: Any, location: Any, scale: Any, observed: Any = None
    ) -> Any:
        """Return log N(y; location, scale + floor), (N, S, T); see `Likelihood`."""
        variance = self._above_floor(scale)
        if self.variance == "network":
            return gaussian_log_density(data, location, variance, observed)
        return homoscedastic_log_density(data, location, variance, observed)

    def mean(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return the location."""
        return location

    def var(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return ``scale + floor``, (..., P)."""
        variance: onp.ndarray = onp.asarray(self._above_floor(scale))
        if variance.shape == location.shape:
            return variance
        return onp.full(location.shape, variance)

    def sample(
        self, location: onp.ndarray, scale: Any, rng: onp.random.Generator
    ) -> onp.ndarray:
        """Draw frames (..., P)."""
        deviation = onp.sqrt(self.var(location, scale))
        return location + deviation * rng.standard_normal(location.shape)

    def _above_floor(self, scale: Any) -> Any:
        floor = self.floor + self.relative_floor
        return scale + floor if floor else scale


@dataclass(frozen=True)
class Bernoulli:
    """Independent bits, or gray values in [0, 1]; the location is the log odds."""

    # the decoder has a scale all the same: its weights are in files, and in q(gamma)
    scale_from: ClassVar[str | None] = "network"
    support: ClassVar[str | None] = "data in [0, 1]"
    location: ClassVar[str] = "log odds"

    def check(self, frames: onp.ndarray) -> onp.ndarray:
        """Return which entries of frames are in [0, 1], (T, P)."""
        return (frames >= 0) & (frames <= 1)

    def log_density(
        self, data: Any, location: Any, scale: Any, observed: Any = None
    ) -> Any:
        """Return the log probability, (N, S, T); see `Likelihood`."""
        return sum_observed(data * location - softplus(location), observed)

    def mean(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return the probabilities of ones, (..., P)."""
        return onp.asarray(sigmoid(location))

    def var(self, location: onp.ndarray, scale: Any) -> onp.ndarray:
        """Return ``p (1 - p)``, (..., P)."""
        probability = self.mean(location, scale)
        return probability * (1 - probability)

    def sample(
        self, location: onp.ndarray, scale: Any, rng: onp.random.Generator
    ) -> onp.ndarray:
        """Draw zeros and ones (..., P)."""
        draws = rng.random(location.shape) < self.mean(location, scale)
        return draws.astype(onp.float64)


def sum_observed(terms: Any, observed: Any) -> Any:
    """Sum terms (..., P) over the dimensions that are observed, (...)."""
    if observed is not None:
        terms = np.where(observed, terms, 0.0)
    return np.sum(terms, axis=-1)


BY_NAME: dict[str, Likelihood] = {"gaussian": Gaussian(), "bernoulli": Bernoulli()}
"""The likelihoods that have a word."""


def named(likelihood: Any) -> Likelihood:
    """Return the likelihood of a word of `BY_NAME`, or the likelihood that is given.

    Raises
    ------
    ValueError
        If it is another word, or a ``scale_from`` is none of those of `Likelihood`.
    TypeError
        If it is no likelihood; names what it lacks.
    """
    words = tuple(BY_NAME)
    if isinstance(likelihood, str):
        if likelihood not in BY_NAME:
            raise ValueError(
                f"likelihood must be one of {words} or an object like "
                f"svae.likelihoods.Gaussian(), got {likelihood!r}"
            )
        return BY_NAME[likelihood]
    needed = ["scale_from", "support", "check", "log_density", "mean", "var", "sample"]
    if getattr(likelihood, "scale_from", None) == "parameters":
        needed += ["init", "scale"]
    lacks = [name for name in needed if not hasattr(likelihood, name)]
    if isinstance(likelihood, type) or lacks:
        why = "it is a class" if isinstance(likelihood, type) else f"it lacks {lacks}"
        raise TypeError(
            f"likelihood must be one of {words} or an object like "
            f"svae.likelihoods.Gaussian(), got {likelihood!r}: {why}"
        )
    if likelihood.scale_from not in SCALES:
        raise ValueError(
            f"scale_from of a likelihood must be one of {SCALES}, "
            f"got {likelihood.scale_from!r}"
        )
    known: Likelihood = likelihood
    return known


def label(likelihood: Likelihood) -> str:
    """Return what messages call a likelihood: its word, or its class."""
    for word, known in BY_NAME.items():
        if likelihood == known:
            return repr(word)
    return type(likelihood).__name__
