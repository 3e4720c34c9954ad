"""Dances of honey bees cut into waggles and turns: change points found by an SLDS.

    python examples/bees.py bees.npz runs/bees

takes an ``.npz`` with recordings ``y_i (T, 3)`` (place in two coordinates and change of
heading) and marks ``changes_i (T,)`` where the motion truly changes (Oh, Rehg, Balch
and Dellaert 2008), and fits three switching dynamics to each recording, for several
seeds: to the recording itself, by conjugate inference without networks, and to the
latents of an autoencoder.  ``metrics.json`` holds precision, recall and F1 of the
change points, one found point for each true one, within a tolerance of 15 frames.

The recordings are in ``data/beedance`` of the repository ``OctoberChang/klcpd_code`` on
GitHub (BSD-3-Clause). Beside its files, this makes the one that is read::

    import numpy as np
    from scipy.io import loadmat

    arrays = {}
    for n in (1, 2, 3):
        recording = loadmat(f"beedance-{n}.mat")
        arrays[f"y_{n}"] = recording["Y"]
        arrays[f"changes_{n}"] = recording["L"].ravel()
    np.savez("bees.npz", **arrays)
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae import metrics

TOLERANCE = 15


def main() -> None:
    """Fit a model to each recording; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help=".npz with y_i and changes_i")
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=200)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    results = []
    for name, frames, changes in read(options.data):
        for seed in range(options.num_seeds):
            models = {
                "SVI": svae.SVI(latent()).fit(frames, rng=seed),
                "SVAE": fit(frames, options.num_steps, seed),
            }
            for kind, model in models.items():
                found = metrics.change_points(model.predict(frames))
                scores = metrics.change_point_scores(changes, found, TOLERANCE)
                results.append(
                    {"recording": name, "model": kind, "seed": seed}
                    | scores._asdict()
                    | {"found": len(found), "true": len(changes)}
                )
                print(results[-1], flush=True)
            if seed == 0:
                labels = np.zeros(len(frames), dtype=np.int64)
                labels[changes] = 1
                figure = svae.plot.ethogram(
                    models["SVAE"], frames, labels=np.cumsum(labels) % 2
                )
                figure.savefig(options.out / f"states_{name}.png")
    mean = {
        kind: {
            key: average(results, kind, key) for key in ("precision", "recall", "f1")
        }
        for kind in ("SVI", "SVAE")
    }
    text = json.dumps({"runs": results, "means": mean}, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(json.dumps(mean, indent=2))


def read(path: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, standardised frames and true change points of each recording."""
    recordings = []
    with np.load(path) as archive:
        for key in sorted(key for key in archive.files if key.startswith("y_")):
            frames = archive[key]
            changes = np.flatnonzero(archive[f"changes_{key[2:]}"])
            scaled = (frames - frames.mean(axis=0)) / frames.std(axis=0)
            recordings.append((key[2:], scaled, changes))
    return recordings


def latent() -> svae.SLDS:
    """Return three affine dynamics that last."""
    return svae.SLDS(
        3, 3, affine=True, sticky=500.0, noise_variance=0.1, tolerance=1e-4
    )


def fit(frames: np.ndarray, num_steps: int, seed: int) -> svae.SVAE:
    """Fit an autoencoder, whose networks begin as the principal components."""
    return svae.SVAE(latent()).fit(frames, num_steps, rng=seed, progress=True)


def average(results: list[dict[str, Any]], kind: str, key: str) -> float:
    """Mean over recordings and seeds."""
    return float(np.mean([run[key] for run in results if run["model"] == kind]))


if __name__ == "__main__":
    main()
