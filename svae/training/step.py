r"""A step of training (Johnson et al. 2016, Algorithm 1).

One step draws a batch, estimates the bound and all its gradients, takes an Adam step
for the networks and a step along the natural gradient for q(theta).  It is a pure
function from state to state; all that is random is drawn before.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from svae.autodiff.trees import check_alike, to_vector
from svae.families import product
from svae.families.product import natural_step
from svae.models.base import check_positive_int
from svae.models.inference.fixed_point import GRADIENT_TOLERANCE
from svae.networks.decoder_posterior import initial_posterior
from svae.networks.observation import init_decoder
from svae.objective.bound import NATURAL_GRADIENTS, Bound, Gradients, Step, complete
from svae.objective.model import Generative, Parameters, initial_encoder
from svae.training.adam import AdamState, adam_init, adam_step
from svae.training.batches import Draw, draw, take
from svae.training.workers import Evaluate, Task

__all__ = [
    "HISTORY",
    "Settings",
    "State",
    "advance",
    "check_history",
    "check_stretch",
    "first_state",
    "initial_state",
    "make_settings",
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


BEYOND = {
    "learning_rate": (
        "Adam moves every weight by about as much in each step; values from 1e-4 to "
        "1e-2 are usual"
    ),
    "natural_step": "at 1 the new q(theta) replaces the old, and nothing is beyond it",
}
"""Why a rate cannot be more than 1."""


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
        if rate > 1:
            raise ValueError(f"{name} must be 1 at most, got {rate!r}: {BEYOND[name]}")
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
    queue: np.ndarray
    """Windows that the present epoch has not seen."""


class StepInfo(NamedTuple):
    """What a step reports."""

    bound: Bound
    iterations: float
    """Mean over sequences of the iterations of inference."""
    gradient_iterations: float
    """Mean over sequences of the iterations of the solve in its gradient."""
    unconverged: int
    """Sequences of which one of the two, or their context, did not converge."""
    backtracks: int
    """Halvings of the natural step."""


def check_history(history: Any) -> dict[str, np.ndarray]:
    """Return a history that was read back.

    Raises
    ------
    ValueError
        If it is none: a dict of columns of numbers of one length, the objective finite.
    """
    objective = history["objective"]
    check_alike(objective, np.zeros(len(objective)), "objective")
    for name, column in history.items():
        numbers = type(name) is str and column.dtype.kind in "iuf"
        if not numbers or column.shape != objective.shape:
            raise ValueError(f"history has no numbers for each step in {name!r}")
    return dict(history)


def check_stretch(hide: int, longest: int) -> None:
    """Raise ValueError if a hidden stretch leaves nothing of the longest window."""
    if hide and hide >= longest:
        raise ValueError(
            f"hide: a stretch of {hide} frames leaves nothing to see of windows of "
            f"{longest} frames; choose a shorter stretch or longer windows"
        )


def initial_state(model: Generative, obs_dim: int, rng: np.random.Generator) -> State:
    """Draw initial parameters for data of ``obs_dim`` dimensions."""
    latent_dim = model.latent.latent_dim
    natparams = model.latent.initial_posterior(rng)
    network = model.encoder.init(rng, model.num_inputs(obs_dim), latent_dim)
    encoder = initial_encoder(model, natparams, network)
    weights = init_decoder(
        model.decoder, model.likelihood, network, rng, latent_dim, obs_dim
    )
    decoder = initial_posterior(model.decoder_posterior, weights)
    return first_state(Parameters(natparams, encoder, decoder))


def first_state(parameters: Parameters) -> State:
    """Return the state before the first step from these parameters."""
    size = to_vector((parameters.encoder, parameters.decoder)).size
    return State(parameters, adam_init(size), 0, {}, np.zeros(0, dtype=np.int64))


def step(
    model: Generative,
    state: State,
    prior: Any,
    drawn: Draw,
    evaluate: Evaluate,
    settings: Settings,
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
    parameters, kind = state.parameters, settings.natural_gradient
    message = product.expected_stats(model.latent.family, parameters.natparams)
    networks = parameters.encoder, parameters.decoder
    local, contexts = evaluate(Task(model, message, *networks, drawn, kind))
    estimate = complete(model, parameters, message, prior, drawn.scale, local, kind)
    if not np.isfinite(estimate.bound.objective):
        raise FloatingPointError(
            f"step {state.step}: the bound is {estimate.bound.objective}"
        )
    moved, backtracks = _move(model, state, estimate.gradients, settings)
    info = StepInfo(
        estimate.bound,
        float(np.mean(estimate.inference.iterations)),
        float(np.mean(estimate.gradient_solve.iterations)),
        count_unconverged(model, estimate) + contexts,
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
    moved = state._replace(parameters=parameters, adam=adam, step=state.step + 1)
    return moved, backtracks


def advance(
    model: Generative,
    state: State,
    prior: Any,
    windows: np.ndarray,
    evaluate: Evaluate,
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[State, dict[str, float]]:
    """Draw a batch of the windows (M, 3), take a step, and record it."""
    started = time.perf_counter()
    chosen, queue = take(state.queue, len(windows), settings.batch_size, rng)
    starts = None
    if settings.warm_start and state.memory.keys() >= set(chosen.tolist()):
        starts = [state.memory[w] for w in chosen.tolist()]
    drawn = draw(
        model,
        state.parameters.decoder,
        windows[chosen],
        len(windows) / len(chosen),
        rng,
        settings.num_samples,
        settings.context,
        settings.hide,
        starts,
    )
    state, info, states = step(model, state, prior, drawn, evaluate, settings)
    state = state._replace(queue=queue)
    if settings.warm_start and states is not None:
        _, first, stop = drawn.with_past().T
        ends = zip(chosen.tolist(), states, stop - first, strict=True)
        seen = {w: probs[:count] for w, probs, count in ends}
        state = state._replace(memory=state.memory | seen)
    record = info.bound._asdict() | {
        "iterations": info.iterations,
        "gradient_iterations": info.gradient_iterations,
        "unconverged": info.unconverged,
        "backtracks": info.backtracks,
        "seconds": time.perf_counter() - started,
    }
    return state, record
