r"""A step of training (Johnson et al. 2016, Algorithm 1).

One step draws a minibatch, has its gradients evaluated (`svae.training.gradients`, or
workers), and updates the parameters (`svae.training.update`).  All that is random is
drawn first: the rest is a pure function of state and minibatch.
"""

import time
from typing import Any, NamedTuple

import numpy as np

from svae.autodiff.trees import to_vector
from svae.families import product
from svae.models.inference.fixed_point import GRADIENT_TOLERANCE
from svae.networks.decoder_posterior import initial_posterior
from svae.networks.observation import init_decoder
from svae.objective.bound import Step, complete
from svae.objective.model import Generative, Parameters, initial_encoder
from svae.training.adam import AdamState, adam_init
from svae.training.batches import Minibatch, draw, take
from svae.training.diagnostics import IN_USE
from svae.training.gradients import Evaluate
from svae.training.history import STATES_IN_USE, Record
from svae.training.settings import Settings
from svae.training.update import update

__all__ = [
    "Stage",
    "State",
    "count_unconverged",
    "first_state",
    "initial_state",
    "step",
    "step_on",
]


class Stage(NamedTuple):
    """What stays the same in all steps of a stage, the warm-up or training."""

    model: Generative
    prior: Any
    """Natural parameters of p(theta)."""
    windows: np.ndarray
    """(M, 3), of the data; see `svae.data.windows`."""
    settings: Settings


class State(NamedTuple):
    """Everything that a step changes."""

    parameters: Parameters
    adam: AdamState
    step: int
    memory: dict[int, np.ndarray]
    """Window -> probabilities of its states when it was last seen, for warm starts."""
    queue: np.ndarray
    """Windows that the present epoch has not seen."""


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
    stage: Stage, state: State, evaluate: Evaluate, rng: np.random.Generator
) -> tuple[State, Record]:
    """Draw a minibatch, take the step that it determines, and record it.

    Parameters
    ----------
    stage : Stage
    state : State
    evaluate : Evaluate
        Reads and differentiates the windows.
    rng : numpy.random.Generator

    Returns
    -------
    state : State
    record : dict of str to float
        What `svae.training.history` names.

    Raises
    ------
    FloatingPointError
        If the bound or a gradient is not finite, or no natural step is valid; names the
        step.
    NotPositiveDefinite
        If the recognition network's potentials leave a chain without a Gaussian.
    """
    started = time.perf_counter()
    windows, settings = stage.windows, stage.settings
    chosen, queue = take(state.queue, len(windows), settings.batch_size, rng)
    starts = None
    if settings.warm_start and state.memory.keys() >= set(chosen.tolist()):
        starts = [state.memory[w] for w in chosen.tolist()]
    minibatch = draw(
        stage.model,
        state.parameters.decoder,
        windows[chosen],
        len(windows) / len(chosen),
        rng,
        settings.num_samples,
        settings.context,
        settings.hide,
        starts,
    )
    state, record, states = step_on(minibatch, stage, state, evaluate)
    state = state._replace(queue=queue)
    if settings.warm_start and states is not None:
        _, first, stop = minibatch.with_past().T
        ends = zip(chosen.tolist(), states, stop - first, strict=True)
        seen = {w: probs[:count] for w, probs, count in ends}
        state = state._replace(memory=state.memory | seen)
    return state, record | {"seconds": time.perf_counter() - started}


def step_on(
    minibatch: Minibatch, stage: Stage, state: State, evaluate: Evaluate
) -> tuple[State, Record, Any]:
    """Take the step that a minibatch determines.

    Returns the new state, the record without the time, and the probabilities of the
    discrete states (M, T, K), or None.  For what it raises see `step`.
    """
    model, parameters = stage.model, state.parameters
    kind, frozen = stage.settings.natural_gradient, stage.settings.freeze
    message = product.measured_stats(model.latent.family, parameters.natparams)
    networks = parameters.encoder, parameters.decoder
    scale = minibatch.scale
    try:
        local, contexts = evaluate(model, message, *networks, minibatch, kind, frozen)
        found = complete(model, parameters, message, stage.prior, scale, local, kind)
        if not np.isfinite(found.bound.objective):
            raise FloatingPointError(f"the bound is {found.bound.objective}")
        parameters, adam, backtracks = update(
            model,
            parameters,
            state.adam,
            found.gradients,
            stage.settings,
            state.step,
        )
    except FloatingPointError as error:
        raise FloatingPointError(f"step {state.step}: {error}") from error
    record = found.bound._asdict() | {
        "iterations": float(np.mean(found.inference.iterations)),
        "gradient_iterations": float(np.mean(found.gradient_solve.iterations)),
        "unconverged": count_unconverged(model, found) + contexts,
        "backtracks": backtracks,
    }
    if hasattr(model.latent, "num_states"):
        record[STATES_IN_USE] = _states_in_use(minibatch, found.states)
    moved = state._replace(parameters=parameters, adam=adam, step=state.step + 1)
    return moved, record, found.states


def _states_in_use(minibatch: Minibatch, states: Any) -> float:
    """Count states that hold 1 % of the frames of a minibatch; NaN if unknown.

    ``states`` are their probabilities (M, T, K), or None.
    """
    if states is None:
        return np.nan
    likeliest = states.argmax(axis=2)
    if states.shape[1] > 1:
        _, first, stop = minibatch.with_past().T
        likeliest = likeliest[np.arange(states.shape[1]) < (stop - first)[:, None]]
    # as `svae.metrics.states_in_use` counts, whose checks take as long as a small step
    counts = np.bincount(likeliest.ravel(), minlength=states.shape[2])
    return float(np.sum(counts >= IN_USE * counts.sum()))


def count_unconverged(model: Generative, estimate: Step) -> int:
    """Count the sequences that inference or its gradient did not finish."""
    tolerance = getattr(model.latent, "tolerance", np.inf)
    unfinished = (estimate.inference.residual > tolerance) | (
        estimate.gradient_solve.residual > GRADIENT_TOLERANCE
    )
    return int(np.sum(unfinished))
