"""The plan of a fit: all that stays the same from its start to its end."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from svae import conjugate
from svae import data as data_
from svae.families.product import with_log_normalizers
from svae.models.base import check_positive_int
from svae.objective.model import Generative, Parameters, check_data, in_units
from svae.training import diagnostics
from svae.training import warmup as warmup_
from svae.training.batches import default_window, spread, window_length
from svae.training.continuation import (
    Fitted,
    check_fits,
    digest,
    network_of,
    seeing_as,
)
from svae.training.history import HISTORY, STATES_IN_USE
from svae.training.left_out import read, without_a_fifth
from svae.training.linear_start import (
    STARTS,
    LinearStart,
    has_linear_start,
    linear_networks,
    linear_start,
)
from svae.training.schedules import resolve
from svae.training.settings import (
    NETWORKS,
    Settings,
    check_frozen,
    check_stretch,
    make_settings,
    warmup_steps,
)
from svae.training.step import Stage

__all__ = ["Score", "TrainingPlan", "make_plan"]

Score = Callable[[Parameters], float]

MOST_STEPS = 1000
"""Steps of a fit that is told no number; a trial may have it take fewer."""
PATIENCE = 3
"""Scores without a better one after which a trial ends."""


class TrainingPlan(NamedTuple):
    """What is to be done; it stays the same from start to end."""

    training: Stage
    sequences: Sequence[Any]
    """(T_n, P) arrays or recordings."""
    num_steps: int
    warmup: int | None
    """Steps of the warm-up of a start, or None for none; see `svae.training.warmup`."""
    n_init: int = 1
    """How many times training starts anew; the best is kept."""
    score: Score | None = None
    """Score of parameters on held-out data."""
    score_every: int = 100
    """Steps between scores."""
    patience: int | None = None
    """Scores without a better one after which training stops."""
    num_frames: int = 0
    """Frames with data, of which there is a bound for each."""
    identity: Mapping[str, Any] = MappingProxyType({})
    """Settings of the fit and digests of its data, which tell it from other fits."""
    linear: LinearStart | None = None
    """The linear model as which the networks begin, if they do."""
    fitted: Fitted | None = None
    """The fitted model from which this one goes on, if it does."""
    encoded: data_.Windows | None = None
    """Latents of some windows, as the networks that begin encode them, if p(theta) is
    centred on them."""
    name: str | None = None
    """What bars call it, if it is not the fit itself."""
    trial: "TrainingPlan | None" = None
    """The plan of a fit to less data that tells the number of steps; see
    `svae.training.trial`."""

    @property
    def model(self) -> Generative:
        """The model that is trained."""
        return self.training.model

    @property
    def settings(self) -> Settings:
        """Settings of the steps of training."""
        return self.training.settings

    @property
    def obs_dim(self) -> int:
        """P."""
        return int(self.sequences[0].shape[1])

    @property
    def longest(self) -> int:
        """Length of the longest window of training."""
        windows = self.training.windows
        return int((windows[:, 2] - windows[:, 1]).max())

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of what is recorded of each step of training."""
        states = hasattr(self.model.latent, "num_states")
        more = [(STATES_IN_USE, states), ("held_out", self.score is not None)]
        return (*HISTORY, *(name for name, is_recorded in more if is_recorded))

    def warm_up(self) -> Stage:
        """Return the stage of the warm-up: an autoencoder, on single frames."""
        return Stage(
            warmup_.autoencoder(self.model),
            {},
            data_.windows(self.sequences, 1),
            warmup_.settings_of_frames(self.settings, self.longest),
        )


def make_plan(
    model: Generative,
    data: Any,
    *,
    num_steps: int | None,
    start: str | Fitted | None,
    warmup: int | None | str,
    n_init: int,
    held_out: Any,
    score: Callable[..., float],
    score_every: int,
    patience: int | None,
    identify: bool,
    **options: Any,
) -> TrainingPlan:
    """Check data and arguments of a fit, go through the data once, and plan the fit.

    Parameters
    ----------
    model : Generative
        As constructed, for data of any kind.
    data : (T, P), (N, T, P) or list of (T_n, P) arrays
    num_steps, start, warmup, n_init, held_out, score_every, patience
        See `svae.SVAE.fit`.
    score : callable
        Scores held-out data: ``score(model, parameters, sequences=sequences)``.
    identify : bool
        Whether to digest the data, to know them again.
    **options
        Of `svae.training.settings.make_settings`.

    Raises
    ------
    ValueError
        For malformed data or arguments; names what is wrong and where.

    Warns
    -----
    UserWarning
        Of data and settings that can hardly be meant so.
    """
    sequences = data_.as_sequences(data)
    check_data(model, sequences)
    fitted = start if isinstance(start, Fitted) else None
    start = _word_of(start, model, sequences)
    settings = make_settings(
        model.latent.independent, model.inference, start != "random", **options
    )
    if settings.window is None:
        settings = settings._replace(window=default_window(model, sequences))
    steps_are_told = num_steps is not None
    num_steps = MOST_STEPS if num_steps is None else num_steps
    check_positive_int(num_steps=num_steps, n_init=n_init, score_every=score_every)
    settings = _over_steps(settings, num_steps)
    if patience is not None:
        check_positive_int(patience=patience)
        if held_out is None:
            raise ValueError("patience: there are no held-out data to score")
    summary = data_.summarize(sequences, digest=identify)
    model = model._replace(fill=summary.mean, sees_mask=summary.partly_observed)
    windows = data_.windows(sequences, window_length(model, sequences, settings.window))
    begin = partial(_beginning, model, start, fitted, sequences)
    beginning = begin(windows)
    plan = TrainingPlan(
        Stage(beginning.model, beginning.prior, windows, settings),
        sequences,
        num_steps,
        warmup_steps(model.latent, warmup, num_steps, start != "random"),
        n_init,
        score_every=score_every,
        patience=patience,
        num_frames=summary.num_frames,
        linear=beginning.linear,
        fitted=fitted,
        encoded=beginning.encoded,
    )
    check_stretch(settings.hide, plan.longest)
    check_frozen(model.latent, settings.freeze)
    if plan.warmup and set(NETWORKS) <= set(settings.freeze):
        plan = plan._replace(warmup=0)  # all that is left of it is to fit q(theta)
    _tell_what_is_odd(plan, summary)
    of_fit = {"start": start, "warmup": warmup, "n_init": n_init}
    identity: dict[str, Any] = {
        "fit": settings._asdict() | of_fit,
        "data": _fingerprint(sequences, summary),
    }
    plan = plan._replace(identity=identity)
    if held_out is not None:
        return _scored(plan, held_out, score, identify)
    if steps_are_told or plan.linear is None:
        return plan
    return plan._replace(trial=_trial(plan, begin, score))


def _trial(
    plan: TrainingPlan,
    begin: Callable[[np.ndarray], "_Beginning"],
    score: Callable[..., float],
) -> TrainingPlan | None:
    """Return the plan of a trial, of windows that leave a fifth of the data out.

    None if there are too few data for that.
    """
    kept, left_out = without_a_fifth(plan.training.windows, plan.model.latent)
    if kept is None:
        return None
    sequences = read(plan.sequences, left_out, plan.model.latent)
    if not data_.frames_with_data(sequences):
        return None
    beginning = begin(kept)
    stage = plan.training._replace(
        model=beginning.model, prior=beginning.prior, windows=kept
    )
    trial = plan._replace(
        training=stage,
        n_init=1,
        score=partial(score, beginning.model, sequences=sequences),
        patience=PATIENCE,
        identity={**plan.identity, "trial": {"score_every": plan.score_every}},
        linear=beginning.linear,
        encoded=beginning.encoded,
        name="trial",
    )
    return trial if plan.settings.hide < trial.longest else None


def _word_of(
    start: str | Fitted | None, model: Generative, sequences: Sequence[Any]
) -> str:
    """Return one of `STARTS`, or a word by which to know a fitted model again."""
    if isinstance(start, Fitted):
        check_fits(model, start, sequences[0].shape[1])
        return digest(start)
    if start not in (None, *STARTS):
        raise ValueError(
            f"start must be one of {STARTS} or a fitted SVAE, got {start!r}"
        )
    return start or ("linear" if has_linear_start(model) else "random")


def _over_steps(settings: Settings, num_steps: int) -> Settings:
    """Return settings whose schedules know how many steps there are."""
    return settings._replace(
        schedule=resolve("schedule", settings.schedule, num_steps),
        natural_schedule=resolve(
            "natural_schedule", settings.natural_schedule, num_steps
        ),
    )


class _Beginning(NamedTuple):
    """What training on some windows begins with."""

    model: Generative
    """In its units."""
    prior: Any
    """Natural parameters of p(theta), which latents may have a part in."""
    linear: LinearStart | None
    encoded: data_.Windows | None


def _beginning(
    model: Generative,
    start: str,
    fitted: Fitted | None,
    sequences: Sequence[Any],
    windows: np.ndarray,
) -> _Beginning:
    """Return what training on windows begins with."""
    model, linear, encoder = _networks(model, start, fitted, sequences, windows)
    encoded = _encoded(model, encoder, sequences, windows)
    latent: Any = model.latent
    prior = latent.prior() if encoded is None else latent.empirical_prior(encoded)
    prior = with_log_normalizers(latent.family, prior)
    return _Beginning(model, prior, linear, encoded)


def _networks(
    model: Generative,
    start: str,
    fitted: Fitted | None,
    sequences: Sequence[Any],
    windows: np.ndarray,
) -> tuple[Generative, LinearStart | None, Any]:
    """Return the model in its units, its linear model, and the network of its encoder.

    Of networks that say nothing yet there are neither.
    """
    if fitted is not None:
        return seeing_as(model, fitted), None, network_of(fitted)
    if start != "linear":
        return model, None, None
    linear = linear_start(model, sequences, windows)
    model = in_units(model, linear.units)._replace(control_variate=True)
    # hidden layers, all that is random, have no effect
    encoder, _ = linear_networks(model, linear, np.random.default_rng(0))
    return model, linear, encoder


def _encoded(
    model: Generative, encoder: Any, sequences: Sequence[Any], windows: np.ndarray
) -> data_.Windows | None:
    """Return latents of some windows if p(theta) is to be centred on them."""
    if encoder is None or not hasattr(model.latent, "empirical_prior"):
        return None
    few = spread(windows, conjugate.MAX_FRAMES)
    return warmup_.encode(model, encoder, sequences, few)


def _scored(
    plan: TrainingPlan, held_out: Any, score: Callable[..., float], identify: bool
) -> TrainingPlan:
    """Return a plan that scores held-out data, and knows them again."""
    kept = data_.as_sequences(held_out)
    check_data(plan.model, kept)
    if kept[0].shape[1] != plan.obs_dim:
        raise ValueError(
            f"held_out has {kept[0].shape[1]} dimensions, data {plan.obs_dim}"
        )
    how = {"score_every": plan.score_every, "patience": plan.patience}
    identity = {
        **plan.identity,
        "held_out": _fingerprint(kept, data_.summarize(kept, digest=identify)),
        "fit": plan.identity["fit"] | how,
    }
    of_parameters = partial(score, plan.model, sequences=kept)
    return plan._replace(score=of_parameters, identity=identity)


def _tell_what_is_odd(plan: TrainingPlan, summary: data_.Summary) -> None:
    """Warn of data and settings, from where `svae.SVAE.fit` was called."""
    model, settings = plan.model, plan.settings
    num_states = getattr(model.latent, "num_states", None)
    is_cut = len(plan.training.windows) > len(plan.sequences)
    if plan.linear is not None:  # networks see data in units of their own
        summary = summary._replace(magnitude=np.zeros(plan.obs_dim))
    messages = diagnostics.of_data(summary, model.likelihood, num_states)
    messages += diagnostics.of_settings(
        max(settings.learning_rates), settings.context, plan.longest, is_cut
    )
    diagnostics.tell(messages, stacklevel=5)


def _fingerprint(sequences: Sequence[Any], summary: data_.Summary) -> dict[str, Any]:
    """Return what tells data from other data: sizes, and a digest of all values."""
    lengths = np.array([len(sequence) for sequence in sequences])
    means = hashlib.sha256(lengths.tobytes() + summary.mean.tobytes()).hexdigest()
    return {
        "sequences": len(lengths),
        "frames": int(lengths.sum()),
        "dimensions": len(summary.mean),
        "digest": summary.digest,
        "mean_digest": means[:16],
    }
