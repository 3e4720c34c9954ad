"""Settings of the steps of training, checked before anything else happens."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from svae.models.base import check_positive_int
from svae.objective.bound import NATURAL_GRADIENTS, PARTS

__all__ = [
    "NETWORKS",
    "Settings",
    "check_frozen",
    "check_stretch",
    "default_batch_size",
    "make_settings",
    "warmup_steps",
]

BEYOND = {
    "learning_rate": (
        "Adam moves every weight by about as much in each step; values from 1e-4 to "
        "1e-2 are usual"
    ),
    "natural_step": "at 1 the new q(theta) replaces the old, and nothing is beyond it",
}
"""Why a rate cannot be more than 1."""
NETWORKS = ("encoder", "decoder")
"""What may have a learning rate of its own."""


LEARNING_RATES = {"linear": 3e-4, "random": 3e-3}
"""By where the networks start: a good start is worth keeping."""


class Settings(NamedTuple):
    """How to optimise."""

    batch_size: int
    window: int | None
    num_samples: int
    learning_rate: float | Mapping[str, float]
    """Of both networks, or of the ``encoder`` and the ``decoder``."""
    natural_step: float
    natural_gradient: str = "full"
    context: int = 0
    """Frames before a window that tell how it begins; 0 restarts the prior there."""
    hide: int = 0
    """Length of a random stretch of each window that the encoder does not see."""
    warm_start: bool = False
    """Whether inference of a window starts from the states it ended with last time."""
    schedule: str = "constant"
    """Of the learning rates; see `svae.training.schedules`."""
    natural_schedule: str = "constant"
    """Of the natural step."""
    weight_decay: float = 0.0
    freeze: tuple[str, ...] = ()
    """What is not learned, of `svae.objective.bound.PARTS`."""

    @property
    def learning_rates(self) -> tuple[float, float]:
        """The learning rates of the encoder and of the decoder."""
        rate = self.learning_rate
        if isinstance(rate, Mapping):
            return rate["encoder"], rate["decoder"]
        return rate, rate


def default_batch_size(independent: bool) -> int:
    """Return how many points, or windows of chains, a step has by default."""
    return 50 if independent else 8


def make_settings(
    independent: bool, inference: str = "svae", linear: bool = False, **options: Any
) -> Settings:
    """Check settings and fill in the size of batches and the learning rate.

    ``linear`` is whether the networks begin as the linear model of the data.

    Raises
    ------
    ValueError
        Naming the argument that has a wrong value.
    """
    if options["batch_size"] is None:
        options["batch_size"] = default_batch_size(independent)
    if options["learning_rate"] is None:
        options["learning_rate"] = LEARNING_RATES["linear" if linear else "random"]
    settings = Settings(**options)
    check_positive_int(batch_size=settings.batch_size, num_samples=settings.num_samples)
    if settings.window is not None:
        check_positive_int(window=settings.window)
    if isinstance(settings.learning_rate, Mapping):
        of_each = dict(settings.learning_rate)
        if of_each.keys() != set(NETWORKS):
            raise ValueError(
                "learning_rate must be a number, or a number for each network, like "
                f"{{'encoder': 1e-3, 'decoder': 1e-4}}, got {of_each!r}"
            )
        settings = settings._replace(learning_rate=of_each)
    for rate in settings.learning_rates:
        _check_rate("learning_rate", rate)
    _check_rate("natural_step", settings.natural_step)
    if not 0 <= settings.weight_decay < np.inf:
        raise ValueError(
            f"weight_decay must be a number from 0 on, got {settings.weight_decay!r}"
        )
    for name in ("context", "hide"):
        count = getattr(settings, name)
        if not isinstance(count, (int, np.integer)) or count < 0:
            raise ValueError(f"{name} must be an integer from 0 on, got {count!r}")
        if count and independent:
            raise ValueError(f"{name}: the rows of this latent model are independent")
    settings = settings._replace(freeze=_parts(settings.freeze))
    if settings.warm_start and inference == "sin":
        raise ValueError(
            "warm_start: a structured inference network (inference='sin') has no "
            "iterations that could start anywhere"
        )
    if settings.natural_gradient not in NATURAL_GRADIENTS:
        raise ValueError(
            f"natural_gradient must be one of {NATURAL_GRADIENTS}, "
            f"got {settings.natural_gradient!r}"
        )
    return settings


def _parts(freeze: Any) -> tuple[str, ...]:
    """Return the names of what is frozen in one order."""
    names = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    wrong = [name for name in names if name not in PARTS]
    if wrong:
        raise ValueError(f"freeze must be of {PARTS}, got {wrong[0]!r}")
    return tuple(name for name in PARTS if name in names)


def check_frozen(latent: Any, freeze: tuple[str, ...]) -> None:
    """Raise ValueError if nothing is left to learn."""
    learned = [name for name in PARTS if name not in freeze]
    if not latent.family and "latent" in learned:
        learned.remove("latent")
    if not learned:
        raise ValueError(f"freeze: {freeze} leaves nothing to learn")


def _check_rate(name: str, rate: Any) -> None:
    if not 0 < rate < np.inf:
        raise ValueError(f"{name} must be a positive number, got {rate!r}")
    if rate > 1:
        raise ValueError(f"{name} must be 1 at most, got {rate!r}: {BEYOND[name]}")


def check_stretch(hide: int, longest: int) -> None:
    """Raise ValueError if a hidden stretch leaves nothing of the longest window."""
    if hide and hide >= longest:
        raise ValueError(
            f"hide: a stretch of {hide} frames leaves nothing to see of windows of "
            f"{longest} frames; choose a shorter stretch or longer windows"
        )


def warmup_steps(
    latent: Any, warmup: Any, num_steps: int, linear: bool = False
) -> int | None:
    """Return the steps of the warm-up of a fit, None for a fit without one.

    Parameters
    ----------
    latent : latent model
    warmup : int, None or "auto"
        "auto" is a quarter of ``num_steps``, 500 at most, for chains of several
        discrete states, and None for all other models and after a linear start.
    num_steps : int
        Steps of training.
    linear : bool
        Whether the networks begin as the linear model of the data.

    Raises
    ------
    ValueError
        If ``warmup`` is something else.
    """
    if warmup == "auto":
        switching = getattr(latent, "num_states", 1) > 1 and not latent.independent
        return min(num_steps // 4, 500) if switching and not linear else None
    if warmup is None:
        return None
    if isinstance(warmup, (int, np.integer)) and warmup >= 0:
        return int(warmup)
    raise ValueError(
        f"warmup must be an integer from 0 on, None or 'auto', got {warmup!r}"
    )
