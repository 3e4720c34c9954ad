"""What is odd about the course of a fit, in words: from its history alone.

Like those of `svae.training.diagnostics` each function returns messages, which are few:
what was seen, what that means, and a remedy.
"""

import numpy as np

from svae.training.diagnostics import SHORT

__all__ = [
    "below_start",
    "of_falling_states",
    "of_halvings",
    "of_held_out",
    "of_trial",
]

OFTEN = 1.0
"""Halvings of a natural step, on average, from which directions are worth a word."""
KEPT = 0.75
"""Share of the states in use at the start that a fit should end with."""
OVERFITTED = 0.1
"""Share of what the bound has gained on the training data, for each frame, from which
what it has lost on others is worth a word."""
NOTICED = 0.01
"""Nats for each frame that are worth a word."""


def of_halvings(backtracks: np.ndarray, advice: str) -> list[str]:
    """Look at how often natural steps were halved, if they move q(theta) all the same.

    For the arguments see `svae.training.diagnostics.of_natural_steps`, which goes
    before.
    """
    last = backtracks[len(backtracks) // 2 :]
    if len(backtracks) < SHORT or np.mean(last) <= OFTEN:
        return []
    return [
        f"natural steps were halved {np.mean(last):.1f} times on average in the last "
        f"{len(last)} steps: what they correct for the networks is larger than what "
        f"they are sure of, so that q(theta) moves little and by noise; {advice}"
    ]


def of_falling_states(in_use: np.ndarray, num_states: int, advice: str) -> list[str]:
    """Look at whether states were lost in training that it began with.

    Parameters
    ----------
    in_use : (num_steps,) array
        States in use in each step; NaN where that is not known.
    num_states : int
    advice : str
        The remedy.
    """
    known = in_use[~np.isnan(in_use)]
    if len(known) < SHORT:
        return []
    before, after = known[: len(known) // 20].mean(), _end(known).mean()
    if after >= KEPT * before or before - after < 1:
        return []
    return [
        f"states in use fell from {before:.1f} to {after:.1f} of {num_states} during "
        "training (means over the windows of its first and last steps): the bound "
        "gains by merging states that hardly differ in the scale of the prior; "
        f"{advice}"
    ]


def of_held_out(
    scores: np.ndarray, objective: np.ndarray, best_step: int, num_frames: int
) -> list[str]:
    """Look at whether held-out data got worse while the training data got better.

    Parameters
    ----------
    scores : (num_steps,) array
        Nats for each frame, NaN at steps without a score.
    objective : (num_steps,) array
        The bound, for all frames of the training data.
    best_step : int
        Steps before the best score, 0 if that is of the start.
    num_frames : int
        Of the training data.
    """
    num_steps, remedy = (
        len(objective),
        (
            "take fewer steps (patience=5 stops in time), a weight_decay, fewer hidden "
            "units or latent dimensions, or more data"
        ),
    )
    later = scores[best_step:]
    later = later[~np.isnan(later)]
    if num_steps < SHORT or best_step > num_steps // 2 or len(later) < 2:
        return []
    tenth = max(1, num_steps // 10)
    then = objective[max(0, best_step - tenth) : best_step or tenth]
    gained = (_end(objective).mean() - then.mean()) / num_frames
    if best_step == 0:
        return [
            "held_out: no step has improved the score, and the parameters are those "
            f"before the first one, while the bound on the training data rose by "
            f"{gained:.3g} nats for each frame; {remedy}, or a lower learning_rate"
        ] * bool(gained > 0)
    lost = scores[best_step - 1] - later[-1]
    if gained <= 0 or lost < max(OVERFITTED * gained, NOTICED):
        return []
    return [
        f"held_out: the score was best after step {best_step} of {num_steps}, and has "
        f"fallen by {lost:.3g} nats for each frame while the bound on the training "
        f"data rose by {gained:.3g}: the networks learn the training frames by heart; "
        f"the parameters of step {best_step} are kept. To do better, {remedy}"
    ]


def of_trial(steps: np.ndarray, scores: np.ndarray) -> list[str]:
    """Say of a trial that no step was worth taking, and what the model is now.

    Parameters
    ----------
    steps : (K,) int array
        Before each score.
    scores : (K,) array
        Nats for each frame that was left out, the first before the first step.
    """
    return [
        f"num_steps: in a trial on four fifths of the data no step improved the score "
        f"of the fifth that was left out ({scores[0]:.6g} nats for each frame before "
        f"the first step, {scores[-1]:.6g} after {steps[-1]}), so that none was taken: "
        "the model is the linear one of its start, with q(theta) fitted to what that "
        "says. More data, fewer latent dimensions or a lower learning_rate may change "
        "that; num_steps=N takes N steps all the same"
    ]


def below_start(
    start: float, objective: np.ndarray, num_frames: int, advice: str
) -> list[str]:
    """Look at whether training ended below where it began.

    Parameters
    ----------
    start : float
        The bound before the first step, for all frames.
    objective : (num_steps,) array
        In each step; an estimate from a minibatch.
    num_frames : int
    advice : str
        The remedy.
    """
    if len(objective) < SHORT:
        return []
    end = _end(objective)
    error = end.std() / np.sqrt(len(end))
    lost = (start - end.mean()) / num_frames
    if lost < NOTICED or start - end.mean() < 2 * error:
        return []
    return [
        f"training ended {lost:.3g} nats for each frame below its start: a bound of "
        f"{end.mean() / num_frames:.6g} after {start / num_frames:.6g}, so that the "
        f"model is worse than the one it began as; {advice}"
    ]


def _end(values: np.ndarray) -> np.ndarray:
    """Return the last tenth of values of steps."""
    return values[-max(1, len(values) // 10) :]
