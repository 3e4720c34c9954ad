"""A mouse in depth, parsed into behaviours: after Johnson et al. (2016), Section 6.

    python examples/depth.py runs/depth

fits an SLDS with the default networks and settings to a synthetic depth video of 30 x
30 pixels (the recordings of the paper are not public).  ``metrics.json`` holds the
median time of a training step (8 windows of 200 frames), how well the states agree with
the behaviours that made the video, also those of the same SLDS without networks, of
principal components, and the error of frames predicted in the last tenth of the video,
which the model has not seen; the figures show states, transitions, frames of states and
the plane in latent space where the frames vary most.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae import metrics
from svae.data import synthetic

SHAPE, LATENT_DIM = (30, 30), 10
PREFIX, HORIZON = 200, 30
"""Frames that are seen before those that are predicted."""


def main() -> None:
    """Fit the model; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-frames", type=int, default=10000)
    parser.add_argument("--num-states", type=int, default=10)
    parser.add_argument("--num-steps", type=int, default=400)
    parser.add_argument("--rng", type=int, default=0)
    options = parser.parse_args()
    if options.num_frames < PREFIX + HORIZON:
        parser.error(
            f"argument --num-frames: {options.num_frames}, wanted "
            f"{PREFIX + HORIZON} or more: {PREFIX} predict the {HORIZON} after them"
        )
    options.out.mkdir(parents=True, exist_ok=True)

    video = synthetic.depth_video(
        options.num_frames,
        num_states=options.num_states,
        image_width=SHAPE[1],
        rng=options.rng,
    )
    center, scale = video.frames.mean(), video.frames.std()
    frames = (video.frames - center) / scale

    def in_units(frames: np.ndarray) -> np.ndarray:
        return center + scale * frames

    latent = svae.SLDS(options.num_states, LATENT_DIM)
    num_train = min(9 * len(frames) // 10, len(frames) - HORIZON)
    model = svae.SVAE(latent).fit(
        frames[:num_train], options.num_steps, rng=options.rng, progress=True
    )
    scores = measure(model, frames, num_train, video.states)
    components = principal_components(frames)
    linear = svae.SVI(latent).fit(components, rng=options.rng)
    scores["without_networks"] = agreement(video.states, linear.predict(components))
    drawn = {
        "bound": svae.plot.bound(model.history_, len(frames)),
        "states": svae.plot.ethogram(model, frames[:600], labels=video.states[:600]),
        "transitions": svae.plot.transitions(model),
        "dynamics": svae.plot.dynamics(model),
        "behaviours": svae.plot.state_frames(model, frames, SHAPE, undo=in_units),
        "manifold": svae.plot.manifold(model, SHAPE, frames, undo=in_units),
    }
    for name, figure in drawn.items():
        figure.savefig(options.out / f"{name}.png")
    text = json.dumps(scores, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(text)


def principal_components(frames: np.ndarray) -> np.ndarray:
    """Return as many principal components as there are latent dimensions, scaled."""
    deviations = frames - frames.mean(axis=0)
    components = deviations @ np.linalg.svd(deviations, full_matrices=False)[2].T
    return components[:, :LATENT_DIM] / components[:, :LATENT_DIM].std(axis=0)


def measure(
    model: svae.SVAE, frames: np.ndarray, num_train: int, behaviour: np.ndarray
) -> dict[str, Any]:
    """Time the steps, compare states with behaviours, and predictions with frames."""
    history = model.history_
    starts = range(num_train, len(frames) - HORIZON + 1, 100)
    seen = [frames[t - PREFIX : t] for t in starts]
    future = np.stack([frames[t : t + HORIZON] for t in starts])
    forecasts = np.stack([each.mean for each in model.forecast(seen, HORIZON)])
    last = np.stack([each[-1:] for each in seen])
    return agreement(behaviour, model.predict(frames)) | {
        "seconds_per_step": float(np.median(history["seconds"])),
        "iterations": float(np.median(history["iterations"])),
        "gradient_iterations": float(np.median(history["gradient_iterations"])),
        "unconverged": int(history["unconverged"].sum()),
        "bound_per_frame": float(history["objective"][-20:].mean() / num_train),
        "forecast_error": error(forecasts, future),
        "error_of_the_last_frame": error(last, future),
        "error_of_the_mean_frame": error(frames[:num_train].mean(axis=0), future),
    }


def agreement(behaviour: np.ndarray, states: np.ndarray) -> dict[str, Any]:
    """Compare states with behaviours."""
    return {
        "nmi": metrics.normalized_mutual_information(behaviour, states),
        "accuracy": metrics.accuracy(behaviour, states),
        "states_in_use": metrics.states_in_use(states),
    }


def error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


if __name__ == "__main__":
    main()
