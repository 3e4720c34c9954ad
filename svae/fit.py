r"""The training loop of the SVAE (Johnson et al. 2016, Algorithm 1).

One step draws a batch, estimates the bound and all its gradients, takes an Adam step
for the networks and a step along the natural gradient for q(theta).  A step is a pure
function from state to state; the loop adds only the batches, the history and the clock.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.batches import assemble, shuffled, window_length
from svae.families import product
from svae.generative import Generative, Parameters, initial_encoder
from svae.models import ConvergenceWarning
from svae.models.base import check_positive_int, live_steps
from svae.models.meanfield import GRADIENT_TOLERANCE
from svae.networks import tie
from svae.objective import (
    NATURAL_GRADIENTS,
    Batch,
    Bound,
    Gradients,
    Step,
    bound_and_gradients,
    draw_noise,
)
from svae.optim import AdamState, adam_init, adam_step, natural_step
from svae.trees import to_vector
from svae.weights import initial_posterior

__all__ = [
    "HISTORY",
    "Settings",
    "State",
    "initial_state",
    "make_settings",
    "run",
    "step",
]

HISTORY = (
    "objective",
    "reconstruction",
    "local_kl",
    "global_kl",
    "decoder_kl",
    "iterations",
    "gradient_iterations",
    "unconverged",
    "backtracks",
    "seconds",
)
"""What is recorded for each step."""


class Settings(NamedTuple):
    """How to optimise."""

    batch_size: int
    window: int | None
    num_samples: int
    learning_rate: float
    natural_step: float
    natural_gradient: str = "full"
    context: int = 0
    """Frames before a window that tell how it begins; 0 restarts the prior there."""
    hide: int = 0
    """Length of a random stretch of each window that the encoder does not see."""
    warm_start: bool = False
    """Whether inference of a window starts from the states it ended with last time."""


def make_settings(
    independent: bool, inference: str = "svae", **options: Any
) -> Settings:
    """Check settings and fill in the size of batches.

    Raises
    ------
    ValueError
        Naming the argument that has a wrong value.
    """
    if options["batch_size"] is None:
        options["batch_size"] = 50 if independent else 8
    settings = Settings(**options)
    check_positive_int(batch_size=settings.batch_size, num_samples=settings.num_samples)
    if settings.window is not None:
        check_positive_int(window=settings.window)
    for name in ("learning_rate", "natural_step"):
        rate = getattr(settings, name)
        if not 0 < rate < np.inf:
            raise ValueError(f"{name} must be a positive number, got {rate!r}")
    for name in ("context", "hide"):
        count = getattr(settings, name)
        if not isinstance(count, (int, np.integer)) or count < 0:
            raise ValueError(f"{name} must be an integer from 0 on, got {count!r}")
        if count and independent:
            raise ValueError(f"{name}: the rows of this latent model are independent")
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


class State(NamedTuple):
    """Everything that a step changes."""

    parameters: Parameters
    adam: AdamState
    step: int
    memory: dict[int, np.ndarray]
    """Window -> probabilities of its states when it was last seen, for warm starts."""


class StepInfo(NamedTuple):
    """What a step reports."""

    bound: Bound
    iterations: float
    """Mean over sequences of the iterations of inference."""
    gradient_iterations: float
    """Mean over sequences of the iterations of the solve in its gradient."""
    unconverged: int
    """Sequences of which one of the two did not converge."""
    backtracks: int
    """Halvings of the natural step."""


def initial_state(model: Generative, obs_dim: int, rng: np.random.Generator) -> State:
    """Draw initial parameters for data of ``obs_dim`` dimensions."""
    latent_dim = model.latent.latent_dim
    natparams = model.latent.initial_posterior(rng)
    network = model.encoder.init(rng, model.num_inputs(obs_dim), latent_dim)
    encoder = initial_encoder(model, natparams, network)
    weights = tie(network, model.decoder.init(rng, latent_dim, obs_dim))
    decoder = initial_posterior(model.decoder_posterior, weights)
    size = to_vector((encoder, decoder)).size
    return State(Parameters(natparams, encoder, decoder), adam_init(size), 0, {})


def step(
    model: Generative,
    state: State,
    prior: Any,
    batch: Batch,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[State, StepInfo, Any]:
    """Take one step of training.

    Returns the new state, what the step reports, and the probabilities of the discrete
    states (M, T, K), or None.

    Raises
    ------
    FloatingPointError
        If the bound or a gradient is not finite, or no natural step is valid.
    NotPositiveDefinite
        If the recognition network's potentials leave a chain without a Gaussian.
    """
    noise = draw_noise(
        model,
        state.parameters.decoder,
        batch.values.shape[:2],
        settings.num_samples,
        rng,
    )
    with warnings.catch_warnings():
        # counted instead, from the diagnostics
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimate = bound_and_gradients(
            model, state.parameters, prior, batch, noise, settings.natural_gradient
        )
    if not np.isfinite(estimate.bound.objective):
        raise FloatingPointError(
            f"step {state.step}: the bound is {estimate.bound.objective}"
        )
    moved, backtracks = _move(model, state, estimate.gradients, settings)
    info = StepInfo(
        estimate.bound,
        float(np.mean(estimate.inference.iterations)),
        float(np.mean(estimate.gradient_solve.iterations)),
        count_unconverged(model, estimate),
        backtracks,
    )
    return moved, info, estimate.states


def count_unconverged(model: Generative, estimate: Step) -> int:
    """Count the sequences that inference or its gradient did not finish."""
    tolerance = getattr(model.latent, "tolerance", np.inf)
    unfinished = (estimate.inference.residual > tolerance) | (
        estimate.gradient_solve.residual > GRADIENT_TOLERANCE
    )
    return int(np.sum(unfinished))


def _move(
    model: Generative, state: State, gradients: Gradients, settings: Settings
) -> tuple[State, int]:
    parameters = state.parameters
    try:
        (encoder, decoder), adam = adam_step(
            (parameters.encoder, parameters.decoder),
            (gradients.encoder, gradients.decoder),
            state.adam,
            settings.learning_rate,
        )
    except FloatingPointError as error:
        raise FloatingPointError(
            f"step {state.step}: the gradient of the networks is not finite"
        ) from error
    natparams, backtracks = natural_step(
        parameters.natparams,
        gradients.natparams,
        settings.natural_step,
        lambda moved: product.in_domain(model.latent.family, moved),
    )
    parameters = Parameters(natparams, encoder, decoder)
    return State(parameters, adam, state.step + 1, state.memory), backtracks


def run(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[Any],
    num_steps: int,
    settings: Settings,
    rng: np.random.Generator,
    callback: Callable[[State, dict[str, float]], None],
) -> None:
    """Take ``num_steps`` steps, handing each new state and its record to ``callback``.

    The state reaches the caller through ``callback`` after every step, so that nothing
    is lost when a later step fails or is interrupted.
    """
    length = window_length(model, sequences, settings.window)
    windows = data.windows(sequences, length)
    source = shuffled(len(windows), settings.batch_size, rng)
    for _ in range(num_steps):
        started = time.perf_counter()
        chosen = next(source)
        remembered = None
        if settings.warm_start and state.memory.keys() >= set(chosen.tolist()):
            remembered = [state.memory[w] for w in chosen.tolist()]
        batch, contexts_unconverged = assemble(
            model,
            state.parameters,
            sequences,
            windows[chosen],
            len(windows) / len(chosen),
            rng,
            settings.context,
            settings.hide,
            remembered,
        )
        state, info, states = step(model, state, prior, batch, settings, rng)
        if settings.warm_start and states is not None:
            counts = live_steps(batch.lengths, states).sum(axis=1)
            ends = zip(chosen.tolist(), states, counts, strict=True)
            seen = {w: probs[:count] for w, probs, count in ends}
            state = state._replace(memory=state.memory | seen)
        record = info.bound._asdict() | {
            "iterations": info.iterations,
            "gradient_iterations": info.gradient_iterations,
            "unconverged": info.unconverged + contexts_unconverged,
            "backtracks": info.backtracks,
            "seconds": time.perf_counter() - started,
        }
        callback(state, record)
