r"""The training loop of the SVAE (Johnson et al. 2016, Algorithm 1).

One step draws a batch, estimates the bound and all its gradients, takes an Adam step
for the networks and a natural-gradient step for q(theta).  A step is a pure function
from state to state; the loop adds only the batches, the history and the clock.

Windows cut from a longer sequence count as sequences of their own: each starts anew
from the initial factor.  The estimator is unbiased for the bound of the data so cut.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.families import product
from svae.generative import Generative, Parameters
from svae.models import ConvergenceWarning
from svae.models.base import check_positive_int
from svae.objective import (
    Batch,
    Bound,
    Gradients,
    bound_and_gradients,
    draw_noise,
)
from svae.optim import AdamState, adam_init, adam_step, natural_step
from svae.trees import from_vector, to_vector
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


def make_settings(
    independent: bool,
    batch_size: int | None,
    window: int | None,
    num_samples: int,
    learning_rate: float,
    natural_step: float,
) -> Settings:
    """Check settings and fill in the size of batches.

    Raises
    ------
    ValueError
        Naming the argument that is not a positive number.
    """
    if batch_size is None:
        batch_size = 50 if independent else 8
    check_positive_int(batch_size=batch_size, num_samples=num_samples)
    if window is not None:
        check_positive_int(window=window)
    rates = {"learning_rate": learning_rate, "natural_step": natural_step}
    for name, rate in rates.items():
        if not 0 < rate < np.inf:
            raise ValueError(f"{name} must be a positive number, got {rate!r}")
    return Settings(batch_size, window, num_samples, learning_rate, natural_step)


class State(NamedTuple):
    """Everything that a step changes."""

    parameters: Parameters
    adam: AdamState
    step: int


class StepInfo(NamedTuple):
    """What a step reports."""

    bound: Bound
    iterations: float
    """Mean over sequences of the iterations of inference."""
    unconverged: int
    """Number of convergence warnings of inference and its gradient."""
    backtracks: int
    """Halvings of the natural step."""


def initial_state(model: Generative, obs_dim: int, rng: np.random.Generator) -> State:
    """Draw initial parameters for data of ``obs_dim`` dimensions."""
    latent_dim = model.latent.latent_dim
    natparams = model.latent.initial_posterior(rng)
    encoder = model.encoder.init(rng, obs_dim, latent_dim)
    weights = model.decoder.init(rng, latent_dim, obs_dim)
    decoder = initial_posterior(model.decoder_posterior, weights)
    size = to_vector((encoder, decoder)).size
    return State(Parameters(natparams, encoder, decoder), adam_init(size), 0)


def step(
    model: Generative,
    state: State,
    prior: Any,
    batch: Batch,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[State, StepInfo]:
    """Take one step of training.

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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        bound, gradients, diagnostics = bound_and_gradients(
            model, state.parameters, prior, batch, noise
        )
    unconverged = _count_and_forward(caught)
    if not np.isfinite(bound.objective):
        raise FloatingPointError(f"step {state.step}: the bound is {bound.objective}")
    moved, backtracks = _move(model, state, gradients, settings)
    iterations = float(np.mean(diagnostics[0]))
    return moved, StepInfo(bound, iterations, unconverged, backtracks)


def _count_and_forward(caught: list[warnings.WarningMessage]) -> int:
    count = 0
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            count += 1
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return count


def _move(
    model: Generative, state: State, gradients: Gradients, settings: Settings
) -> tuple[State, int]:
    parameters = state.parameters
    networks = (parameters.encoder, parameters.decoder)
    gradient = to_vector((gradients.encoder, gradients.decoder))
    if not np.all(np.isfinite(gradient)):
        raise FloatingPointError(
            f"step {state.step}: the gradient of the networks is not finite"
        )
    vector, adam = adam_step(
        to_vector(networks), gradient, state.adam, settings.learning_rate
    )
    natparams, backtracks = natural_step(
        parameters.natparams,
        gradients.natparams,
        settings.natural_step,
        lambda moved: product.in_domain(model.latent.family, moved),
    )
    encoder, decoder = from_vector(networks, vector)
    moved = State(Parameters(natparams, encoder, decoder), adam, state.step + 1)
    return moved, backtracks


def batches(
    sequences: Sequence[np.ndarray],
    independent: bool,
    settings: Settings,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Yield batches for ever, each epoch in a new random order.

    The units are rows where they are independent, else windows of the sequences; every
    unit is used once in each epoch.
    """
    longest = max(len(sequence) for sequence in sequences)
    window = 1 if independent else settings.window or longest
    windows = data.windows(sequences, window)
    while True:
        order = rng.permutation(len(windows))
        for start in range(0, len(windows), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            values, _, lengths = data.batch(sequences, windows[chosen])
            yield Batch(values, lengths, len(windows) / len(chosen))


def run(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[np.ndarray],
    num_steps: int,
    settings: Settings,
    rng: np.random.Generator,
    callback: Callable[[State, dict[str, float]], None],
) -> None:
    """Take ``num_steps`` steps, handing each new state and its record to ``callback``.

    The state reaches the caller through ``callback`` after every step, so that nothing
    is lost when a later step fails or is interrupted.
    """
    source = batches(sequences, model.latent.independent, settings, rng)
    for _ in range(num_steps):
        started = time.perf_counter()
        state, info = step(model, state, prior, next(source), settings, rng)
        record = info.bound._asdict() | {
            "iterations": info.iterations,
            "unconverged": info.unconverged,
            "backtracks": info.backtracks,
            "seconds": time.perf_counter() - started,
        }
        callback(state, record)
