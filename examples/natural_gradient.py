"""Natural against standard gradients of q(theta): Johnson et al. (2016), Figure 5a.

    python examples/natural_gradient.py runs/natural

trains latent linear dynamical systems on the dots video, which differ only in the
direction and the size of the steps of q(theta): natural gradients in full and without
their correction at 0.1, the paper's untuned step, and standard gradients at several
rates.  A step that leaves the domain of q(theta) is halved until it does not;
``metrics.json`` says when a run first left it, which for the standard gradient at 0.1
and 0.05 is at once, as the paper reports.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import svae
from svae.plot.drawing import COLORS

RUNS = (
    ("full", 0.1),
    ("conjugate", 0.1),
    ("none", 0.1),
    ("none", 0.05),
    ("none", 0.01),
    ("none", 0.0001),
)
NAMES = {"full": "natural", "conjugate": "natural, uncorrected", "none": "standard"}


def main() -> None:
    """Train all models; write the figure and the metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figure and metrics")
    parser.add_argument("--num-steps", type=int, default=500)
    parser.add_argument("--num-seeds", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    frames = svae.data.dots(rng=1)
    metrics, curves = [], {}
    for kind, step in RUNS:
        for seed in range(options.num_seeds):
            history = train(frames, kind, step, options.num_steps, seed)
            curves.setdefault((kind, step), []).append(history["objective"])
            metrics.append(summary(history, len(frames), kind, step, seed))
            print(metrics[-1], flush=True)
    draw(curves, len(frames)).savefig(options.out / "natural_gradient.png")
    text = json.dumps(metrics, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")


def train(
    frames: np.ndarray, kind: str, step: float, num_steps: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the history of one run."""
    model = svae.SVAE(
        svae.LDS(latent_dim=10),
        encoder=svae.MLP((50,)),
        decoder=svae.MLP((50,), mean="sigmoid"),
        likelihood="gaussian",
        natural_gradient=kind,
    )
    model.fit(
        frames,
        num_steps,
        batch_size=1,
        window=50,
        learning_rate=1e-3,
        natural_step=step,
        rng=seed,
        progress=True,
    )
    return model.history_


def summary(
    history: dict[str, np.ndarray], num_frames: int, kind: str, step: float, seed: int
) -> dict[str, Any]:
    """Say how high the bound got, and how often a step left the domain."""
    left = np.flatnonzero(history["backtracks"])
    return {
        "gradient": NAMES[kind],
        "step": step,
        "seed": seed,
        "bound_per_frame": float(history["objective"][-50:].mean() / num_frames),
        "steps_that_left_the_domain": len(left),
        "first_of_them": int(left[0]) if len(left) else None,
    }


def draw(curves: dict[Any, Any], num_frames: int) -> Figure:
    """Show running means of the bound per frame, over all seeds."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained", dpi=120)
    ax = figure.subplots()
    for rank, ((kind, step), runs) in enumerate(curves.items()):
        width = max(1, len(runs[0]) // 25)
        mean = np.mean(runs, axis=0) / num_frames
        smooth = np.convolve(mean, np.full(width, 1 / width), mode="valid")
        steps = np.arange(width, width + len(smooth))
        line = "--" if kind == "none" else "-"
        name = f"{NAMES[kind]}, {step:g}"
        ax.plot(steps, smooth, line, color=COLORS[rank % len(COLORS)], label=name)
    ax.set(xlabel="step", ylabel="bound, nats per frame", ylim=(-25, None))
    ax.legend(title="gradient of $q(\\theta)$ and step size")
    return figure


if __name__ == "__main__":
    main()
