"""Checks that a training state which was read back is one of a training plan."""

from typing import Any

import numpy as np

from svae.autodiff.trees import check_alike, to_vector
from svae.objective.model import Parameters, check_parameters
from svae.training import warmup
from svae.training.generators import generator_at
from svae.training.history import Record
from svae.training.loop import ENDED, TRAINING, WARM_UP, TrainingState
from svae.training.plan import TrainingPlan
from svae.training.step import State

__all__ = ["check_training_state"]


def check_training_state(plan: TrainingPlan, training: TrainingState) -> None:
    """Raise ValueError if a state that was read back cannot be one of a plan."""
    generator_at(training.rng)
    if training.phase not in (WARM_UP, TRAINING, ENDED):
        raise ValueError(f"phase is {training.phase!r}")
    _check_count("restart", training.restart, plan.n_init)
    warming = training.phase == WARM_UP
    if warming or training.warmup is not None:
        _check_count("warmup", training.warmup)
    _check_state(plan, training.state, warming)
    _check_records(plan, training.records, 0 if warming else training.state.step)
    if training.best_so_far is not None:
        _check_best(plan, *training.best_so_far)
    if training.phase == ENDED and training.best_restart is None:
        raise ValueError("it has ended without a best restart")
    if (best := training.best_restart) is not None:
        _check_best(plan, best.score, best.step, best.parameters)
        _check_count("restart", best.restart, plan.n_init)
        _check_records(plan, best.records, len(best.records))


def _check_state(plan: TrainingPlan, state: State, warming: bool) -> None:
    windows = plan.training.windows
    model = warmup.autoencoder(plan.model) if warming else plan.model
    parameters = check_parameters(model, state.parameters, plan.obs_dim)
    weights = to_vector((parameters.encoder, parameters.decoder))
    _check_count("step", state.step)
    _check_count("step of Adam", state.adam.step)
    moments = state.adam.mean, state.adam.square
    check_alike(moments, (weights, weights), "moments of Adam")
    if np.any(state.adam.square < 0):
        raise ValueError("moments of Adam are negative")
    num_windows = len(windows)
    if warming:
        num_windows = int((windows[:, 2] - windows[:, 1]).sum())
    check_alike(state.queue, np.zeros(np.size(state.queue), dtype=np.int64), "queue")
    for window in [*state.queue.tolist(), *state.memory]:
        _check_count("window", window, num_windows)
    for probs in state.memory.values():
        num_states = getattr(plan.model.latent, "num_states", 0)
        check_alike(probs, np.zeros((len(probs), num_states)), "memory")


def _check_records(plan: TrainingPlan, records: list[Record], count: int) -> None:
    """Raise ValueError unless there are so many, of all that is recorded."""
    names = set(plan.recorded)
    numbers = all(isinstance(x, (int, float)) for r in records for x in r.values())
    if len(records) != count or any(r.keys() != names for r in records) or not numbers:
        raise ValueError(f"records are not those of {count} steps")


def _check_best(
    plan: TrainingPlan, score: float, step: int, parameters: Parameters
) -> None:
    if not isinstance(score, float) or np.isnan(score):
        raise ValueError(f"score is {score!r}")
    _check_count("step", step)
    check_parameters(plan.model, parameters, plan.obs_dim)


def _check_count(name: str, count: Any, stop: float = np.inf) -> None:
    if type(count) is not int or not 0 <= count < stop:
        raise ValueError(f"{name} is {count!r}")
