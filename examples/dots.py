"""A dot that bounces through a video of one row: Johnson et al. (2016), Figure 4.

    python examples/dots.py runs/dots

fits a latent linear dynamical system to 5000 frames and predicts another video from its
first frames, after 200 and after 1100 steps of training as in the paper.  Figures and
``metrics.json`` go into the folder; errors there are root mean squares against the
video without its noise.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import svae

PREFIX, HORIZON = 100, 100
STAGES = (200, 1100)
FRAMES_PER_BOUNCE = 2 / 0.75 / 0.1


def main() -> None:
    """Fit the model; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-steps", type=int, default=STAGES[-1])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    model = svae.SVAE(
        svae.LDS(latent_dim=10),
        encoder=svae.MLP((50,)),
        decoder=svae.MLP((50,), mean="sigmoid"),
        likelihood="gaussian",
    )
    metrics = {}

    def look(step: int, record: dict[str, float]) -> None:
        if step in (*STAGES, options.num_steps):
            metrics[f"step_{step}"] = predictions(model)
            figure = svae.plot.forecast(model, video(), PREFIX, HORIZON)
            figure.savefig(options.out / f"forecast_{step}.png")

    data = svae.data.dots(rng=1)
    model.fit(
        data,
        options.num_steps,
        batch_size=4,
        window=50,
        learning_rate=1e-2,
        natural_step=0.1,
        rng=0,
        progress=True,
        callback=look,
    )
    svae.plot.bound(model.history_, len(data)).savefig(options.out / "bound.png")
    svae.plot.dynamics(model).savefig(options.out / "dynamics.png")
    text = json.dumps(metrics, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(text)


def video(noise_sigma: float = 0.1) -> np.ndarray:
    """Return a video that the model has not seen: it starts from another place."""
    num_frames = PREFIX + HORIZON
    # frames 0.1 apart, as in the training data
    duration = 0.1 * (num_frames - 1)
    return svae.data.dots(
        num_frames=num_frames, duration=duration, noise_sigma=noise_sigma, x0=0.5, rng=2
    )


def predictions(model: svae.SVAE) -> dict[str, float]:
    """Measure how well the video is predicted from its first frames."""
    seen, clean = video()[:PREFIX], video(noise_sigma=0.0)
    mean = model.forecast(seen, HORIZON).mean
    A = svae.families.mniw.to_standard(model.parameters_.natparams["dynamics"])[0]
    slowest = max(np.linalg.eigvals(A), key=lambda value: abs(value) * (value.imag > 0))
    return {
        "score": model.score(video()),
        "error_25_frames": error(mean[:25], clean[PREFIX:][:25]),
        "error_100_frames": error(mean, clean[PREFIX:]),
        "error_of_the_mean_frame": error(seen.mean(axis=0), clean[PREFIX:]),
        "turns_per_bounce": float(np.angle(slowest) / (2 * np.pi) * FRAMES_PER_BOUNCE),
    }


def error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((prediction - truth) ** 2)))


if __name__ == "__main__":
    main()
