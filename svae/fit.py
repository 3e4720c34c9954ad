r"""The training loop of the SVAE (Johnson et al. 2016, Algorithm 1).

One step draws a batch, estimates the bound and all its gradients, takes an Adam step
for the networks and a step along the natural gradient for q(theta).  A step is a pure
function from state to state; the loop adds only the batches, the history and the clock.

Windows are cut from longer sequences.  Without context each counts as a sequence of
its own and starts anew from the initial factor: the estimator is unbiased for the bound
of the data so cut, in which the initial factor answers for every edge.  With a context
of C frames a window that is not the first of its sequence starts from what q says of
the frame before it, given the C frames that end there:

.. math:: \sum_w \mathbb{E} \log p(y_w | x_w)
          - \mathrm{KL}(q(x_w) \| p(x_w | \hat q(x_{a-1}))) .

That is an estimate of the evidence as a product of predictions,
``log p(y_1) + sum_w log p(y_w | y_{<w})``, and no longer a bound: the belief forgets
what is more than C frames back, is a constant to the gradient, and frames after a
window have no say in it.  Every pair of frames counts once, and only true beginnings
inform the initial factor.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import conjugate, data
from svae.families import product
from svae.generative import Generative, Parameters
from svae.models import Belief, ConvergenceWarning, Gaussian, belief_after
from svae.models.base import check_positive_int, live_steps
from svae.models.meanfield import GRADIENT_TOLERANCE
from svae.objective import (
    NATURAL_GRADIENTS,
    Batch,
    Bound,
    Gradients,
    Step,
    bound_and_gradients,
    draw_noise,
    infer,
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
    "spread_windows",
    "step",
    "warm_up",
    "window_of",
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

WARM_UP_FRAMES = 20000
"""Frames whose latents q(theta) is fitted to after the warm-up."""


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


def make_settings(independent: bool, **options: Any) -> Settings:
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
    encoder = model.encoder.init(rng, model.num_inputs(obs_dim), latent_dim)
    weights = model.decoder.init(rng, latent_dim, obs_dim)
    decoder = initial_posterior(model.decoder_posterior, weights)
    size = to_vector((encoder, decoder)).size
    return State(Parameters(natparams, encoder, decoder), adam_init(size), 0, {})


def warm_up(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[Any],
    num_steps: int,
    settings: Settings,
    rng: np.random.Generator,
    callback: Callable[[State, dict[str, float]], None],
) -> State:
    """Train the networks as a variational autoencoder, fit q(theta) to its latents.

    Steps of a sequence are independent N(0, I) meanwhile, so that no state of the
    latent model can take or lose frames before the networks tell them apart.  The fit
    is `conjugate.initialize`, on at most ``WARM_UP_FRAMES`` frames.
    """
    states = [state._replace(parameters=state.parameters._replace(natparams={}))]

    def keep(moved: State, record: dict[str, float]) -> None:
        states.append(moved)
        del states[0]
        callback(moved, record)

    independent = model._replace(latent=Gaussian(model.latent.latent_dim))
    if num_steps:
        size = window_of(model, sequences, settings)
        run(independent, states[0], {}, sequences, num_steps, size, settings, rng, keep)
    networks = states[-1].parameters
    points = encode(model, networks.encoder, sequences, settings)
    natparams, _ = conjugate.initialize(model.latent, prior, points, rng)
    return State(networks._replace(natparams=natparams), state.adam, 0, {})


def spread_windows(windows: np.ndarray, size: int) -> np.ndarray:
    """Return windows (M, 3) of ``size`` steps, evenly spread over more than needed."""
    number = max(1, WARM_UP_FRAMES // size)
    if number >= len(windows):
        return windows
    return windows[np.linspace(0, len(windows) - 1, number).astype(int)]


def encode(
    model: Generative, encoder: Any, sequences: Sequence[Any], settings: Settings
) -> conjugate.Points:
    """Return means of x under N(0, I) and the encoder's evidence, window by window."""
    size = window_of(model, sequences, settings)
    windows = spread_windows(data.windows(sequences, size), size)
    values, observed, lengths = data.batch(sequences, windows)
    if lengths is None:
        lengths = np.full(len(values), values.shape[1])
    vae = model._replace(latent=Gaussian(model.latent.latent_dim))
    local = infer(vae, {}, encoder, Batch(values, lengths, 1.0, observed))
    frames = None if observed is None else observed.any(axis=-1)
    return conjugate.Points(local.mean, lengths, frames)


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
    parameters = Parameters(natparams, encoder, decoder)
    return State(parameters, adam, state.step + 1, state.memory), backtracks


def batches(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield indices of windows for ever, each epoch in a new random order.

    Every window is used once in each epoch.
    """
    while True:
        order = rng.permutation(count)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def assemble(
    model: Generative,
    state: State,
    sequences: Sequence[Any],
    windows: np.ndarray,
    chosen: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> Batch:
    """Read the chosen windows, with what their contexts say of their first steps."""
    scale = len(windows) / len(chosen)
    cut = windows[chosen]
    carried = (cut[:, 1] > 0) & (settings.context > 0)
    belief = None
    if np.any(carried):
        belief = context_belief(model, state, sequences, cut, carried, settings)
        # the frame before the window, of which the belief knows all there is to know
        cut = cut - np.stack([0 * carried, carried, 0 * carried], axis=1)
    values, observed, lengths = data.batch(sequences, cut)
    if belief is not None:
        if observed is None:
            observed = live_steps(lengths, values)[..., None] & np.ones(
                values.shape, dtype=bool
            )
        observed[carried, 0] = False
    hidden = None
    if settings.hide:
        hidden = hidden_stretches(values.shape[:2], lengths, settings.hide, rng)
    starts = None
    if settings.warm_start and all(int(w) in state.memory for w in chosen):
        starts = [padded([state.memory[int(w)] for w in chosen], values.shape[1])]
    return Batch(values, lengths, scale, observed, hidden, belief, starts)


def context_belief(
    model: Generative,
    state: State,
    sequences: Sequence[Any],
    cut: np.ndarray,
    carried: np.ndarray,
    settings: Settings,
) -> Belief:
    """Return the belief about the frame before each carried window."""
    index, start = cut[carried, 0], cut[carried, 1]
    before = np.stack([index, np.maximum(start - settings.context, 0), start], axis=1)
    values, observed, lengths = data.batch(sequences, before)
    stats = product.expected_stats(model.latent.family, state.parameters.natparams)
    batch = Batch(values, lengths, 1.0, observed)
    local = infer(model, stats, state.parameters.encoder, batch, dense=True)
    belief = belief_after(local, lengths)
    number, dim = len(cut), model.latent.latent_dim
    J, h = np.tile(-0.5 * np.eye(dim), (number, 1, 1)), np.zeros((number, dim))
    J[carried], h[carried] = belief.J, belief.h
    states = None
    if belief.states is not None:
        states = np.zeros((number, belief.states.shape[1]))
        states[carried] = belief.states
    return Belief(carried, J, h, states)


def window_of(model: Generative, sequences: Sequence[Any], settings: Settings) -> int:
    """Return the length of the windows that sequences are cut into."""
    if model.latent.independent:
        return 1
    return settings.window or max(len(sequence) for sequence in sequences)


def hidden_stretches(
    shape: tuple[int, int], lengths: Any, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Mask (M, T) of a random stretch of ``size`` frames in each window.

    Of a window that is not longer than ``size``, all frames but the first are hidden.
    """
    number, steps = shape
    lengths = np.full(number, steps) if lengths is None else lengths
    sizes = np.minimum(size, lengths - 1)
    first = rng.integers(0, lengths - sizes + 1)
    first = np.where(sizes < size, 1, first)[:, None]
    times = np.arange(steps)
    return (times >= first) & (times < first + sizes[:, None])


def padded(arrays: Sequence[np.ndarray], num_steps: int) -> np.ndarray:
    """Stack (T_n, K) arrays to (M, T, K), zeros behind the shorter ones."""
    stacked = np.zeros((len(arrays), num_steps, arrays[0].shape[1]))
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked


def run(
    model: Generative,
    state: State,
    prior: Any,
    sequences: Sequence[Any],
    num_steps: int,
    window: int,
    settings: Settings,
    rng: np.random.Generator,
    callback: Callable[[State, dict[str, float]], None],
) -> None:
    """Take ``num_steps`` steps, handing each new state and its record to ``callback``.

    The state reaches the caller through ``callback`` after every step, so that nothing
    is lost when a later step fails or is interrupted.
    """
    windows = data.windows(sequences, window)
    source = batches(len(windows), settings.batch_size, rng)
    for _ in range(num_steps):
        started = time.perf_counter()
        chosen = next(source)
        batch = assemble(model, state, sequences, windows, chosen, settings, rng)
        state, info, states = step(model, state, prior, batch, settings, rng)
        if settings.warm_start and states is not None:
            steps = batch.lengths
            if steps is None:
                steps = np.full(len(chosen), states.shape[1])
            seen = {
                int(w): probs[:length]
                for w, probs, length in zip(chosen, states, steps, strict=True)
            }
            state = state._replace(memory=state.memory | seen)
        record = info.bound._asdict() | {
            "iterations": info.iterations,
            "gradient_iterations": info.gradient_iterations,
            "unconverged": info.unconverged,
            "backtracks": info.backtracks,
            "seconds": time.perf_counter() - started,
        }
        callback(state, record)
