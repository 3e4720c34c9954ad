"""Motion capture parsed into actions: HMM and SLDS, without networks and with them.

    python examples/behaviour.py mocap.npz runs/behaviour

takes an ``.npz`` with joint channels ``x_NAME (T, 12)`` and human labels ``z_NAME
(T,)`` of exercise sequences (Fox, Hughes, Sudderth and Jordan 2014), standardises the
channels, and fits models that never see the labels, for several seeds: k-means, an HMM
and an SLDS of the channels themselves, by conjugate inference without networks, and
both as autoencoders with default networks and settings.  ``metrics.json`` holds the
framewise accuracy of the inferred states after optimal matching, and the adjusted Rand
index; the figures show the first seed of the autoencoders.

The sequences are the first five of ``mocap6.mat`` in the repository
``michaelchughes/mocap6dataset`` on GitHub (BSD-2-Clause; recorded by CMU). Beside it,
this makes the file that is read::

    import numpy as np
    from scipy.io import loadmat

    sequences = loadmat("mocap6.mat", simplify_cells=True)["DataBySeq"][:5]
    arrays = {f"x_{n}": sequence["X"] for n, sequence in enumerate(sequences)}
    arrays |= {f"z_{n}": sequence["TrueZ"] for n, sequence in enumerate(sequences)}
    np.savez("mocap.npz", **arrays)
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.vq import kmeans2

import svae
from svae import metrics

NUM_STATES, LATENT_DIM = 12, 12
LATENTS = {
    "HMM": svae.HMM(NUM_STATES, LATENT_DIM),
    "SLDS": svae.SLDS(NUM_STATES, LATENT_DIM),
}


def main() -> None:
    """Fit all models for every seed; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help=".npz with x_NAME and z_NAME")
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--num-steps", type=int, default=400)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    frames, labels = read(options.data)
    models: dict[str, Callable[[int], Any]] = {
        "k-means": lambda seed: cluster(frames, seed)
    }
    for name, latent in LATENTS.items():
        models[name] = partial(fit_conjugate, latent, frames)
        models[f"{name}-SVAE"] = partial(fit, latent, frames, options.num_steps)
    results = []
    for name, make in models.items():
        for seed in range(options.num_seeds):
            model = make(seed)
            states = model if name == "k-means" else model.predict(frames)
            results.append({"model": name, "seed": seed} | agreement(labels, states))
            print(results[-1], flush=True)
            if seed == 0 and name.endswith("SVAE"):
                figure = svae.plot.ethogram(model, frames[0], labels=labels[0])
                figure.savefig(options.out / f"states_{name}.png")
                svae.plot.transitions(model).savefig(
                    options.out / f"transitions_{name}.png"
                )
    scores = {"runs": results, "means": {name: means(results, name) for name in models}}
    text = json.dumps(scores, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(json.dumps(scores["means"], indent=2))


def read(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return sequences with channels of mean 0 and variance 1, and their labels."""
    with np.load(path) as archive:
        names = sorted(key[2:] for key in archive.files if key.startswith("x_"))
        frames = [archive[f"x_{name}"] for name in names]
        labels = [archive[f"z_{name}"].astype(np.int64) for name in names]
    rows = np.concatenate(frames)
    return [(x - rows.mean(axis=0)) / rows.std(axis=0) for x in frames], labels


def cluster(frames: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Label frames by k-means."""
    rows = np.concatenate(frames)
    _, states = kmeans2(rows, NUM_STATES, minit="++", seed=seed)
    ends = np.cumsum([len(x) for x in frames])
    return np.split(np.asarray(states, dtype=np.int64), ends[:-1])


def fit_conjugate(latent: Any, frames: list[np.ndarray], seed: int) -> svae.SVI:
    """Fit a model without networks."""
    return svae.SVI(latent).fit(frames, rng=seed)


def fit(latent: Any, frames: list[np.ndarray], num_steps: int, seed: int) -> svae.SVAE:
    """Fit an autoencoder."""
    return svae.SVAE(latent).fit(frames, num_steps, rng=seed, progress=True)


def agreement(labels: list[np.ndarray], states: list[np.ndarray]) -> dict[str, Any]:
    """Compare states with labels."""
    return {
        "accuracy": metrics.accuracy(labels, states),
        "adjusted_rand_index": metrics.adjusted_rand_index(labels, states),
        "nmi": metrics.normalized_mutual_information(labels, states),
        "states_in_use": metrics.states_in_use(states),
        "switches": sum(int((np.diff(path) != 0).sum()) for path in states),
    }


def means(results: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""
    runs = [result for result in results if result["model"] == name]
    keys = ("accuracy", "adjusted_rand_index", "nmi", "states_in_use", "switches")
    return {
        key: [
            float(np.mean([run[key] for run in runs])),
            float(np.std([run[key] for run in runs])),
        ]
        for key in keys
    }


if __name__ == "__main__":
    main()
