"""A mouse in depth, parsed into behaviours: after Johnson et al. (2016), Section 6.

    python examples/depth.py runs/depth

fits an SLDS with perceptrons of two layers of 200 units, as in Sections 6.2 and 6.3 of
the paper, to a synthetic depth video of 30 x 30 pixels (the recordings of the paper are
not public).  ``metrics.json`` holds the median time of a training step (8 windows of
250 frames), how well the states agree with the behaviours that made the video, and the
error of predicted frames; the figures show states, transitions, frames of states and
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

SHAPE, WINDOW, BATCH_SIZE = (30, 30), 250, 8
PREFIX, HORIZON = 200, 30


def main() -> None:
    """Fit the model; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-frames", type=int, default=10000)
    parser.add_argument("--num-states", type=int, default=10)
    parser.add_argument("--num-steps", type=int, default=400)
    parser.add_argument("--warmup", type=int, default=400)
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

    model = svae.SVAE(
        svae.SLDS(
            options.num_states,
            latent_dim=10,
            affine=True,
            sticky=5000.0,
            noise_variance=0.01,
            tolerance=1e-4,
        ),
        svae.MLP((200, 200)),
        svae.MLP((200, 200)),
        likelihood="gaussian",
    )
    model.fit(
        frames,
        options.num_steps,
        batch_size=BATCH_SIZE,
        window=WINDOW,
        rng=options.rng,
        warmup=options.warmup,
        progress=True,
    )
    scores = measure(model, frames, video.states)
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


def measure(
    model: svae.SVAE, frames: np.ndarray, behaviour: np.ndarray
) -> dict[str, Any]:
    """Time the steps, compare states with behaviours, and predictions with frames."""
    history, states = model.history_, model.predict(frames)
    seen, future = frames[:PREFIX], frames[PREFIX : PREFIX + HORIZON]
    forecast = model.forecast(seen, HORIZON)
    return {
        "seconds_per_step": float(np.median(history["seconds"])),
        "iterations": float(np.median(history["iterations"])),
        "gradient_iterations": float(np.median(history["gradient_iterations"])),
        "unconverged": int(history["unconverged"].sum()),
        "bound_per_frame": float(history["objective"][-20:].mean() / len(frames)),
        "nmi": metrics.normalized_mutual_information(behaviour, states),
        "accuracy": metrics.accuracy(behaviour, states),
        "states_in_use": metrics.states_in_use(states),
        "forecast_error": error(forecast.mean, future),
        "error_of_the_last_frame": error(seen[-1], future),
        "error_of_the_mean_frame": error(frames.mean(axis=0), future),
    }


def error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


if __name__ == "__main__":
    main()
