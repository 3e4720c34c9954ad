"""Two rotations that take turns: a switching linear dynamical system finds both.

    python examples/switching.py runs/switching

fits an SLDS to 2000 frames in which blocks of 100 follow A_1 = 0.95 I and
A_2 = 0.95 Rot(pi/4), seen in noise (the synthetic experiment in the history of the code
of Johnson et al. 2016), for several seeds of data and training.  ``metrics.json`` holds
for each the normalised mutual information of the inferred states with the true ones and
the largest error of an eigenvalue of a state's E[A_k]; the figures show the first seed.
``--warmup none`` starts q(theta) from its prior instead of from clustered latents.
"""

import argparse
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

import svae
from svae import metrics
from svae.data import synthetic

WINDOW, BATCH_SIZE = 200, 2
STEPS_PER_EPOCH = 2000 // (WINDOW * BATCH_SIZE)


def main() -> None:
    """Fit a model for every seed; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--num-steps", type=int, default=400)
    parser.add_argument("--warmup", default="100", help="steps, or none")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warmup = None if options.warmup == "none" else int(options.warmup)

    results = []
    for seed in range(options.num_seeds):
        data = synthetic.switching_lds(rng=seed)
        frames = data.frames / data.frames.std(axis=0)
        model = svae.SVAE(
            svae.SLDS(num_states=2, latent_dim=2),
            svae.MLP((50,)),
            svae.MLP((50,)),
            likelihood="gaussian",
        )
        model.fit(
            frames,
            options.num_steps,
            batch_size=BATCH_SIZE,
            window=WINDOW,
            learning_rate=1.5e-2,
            natural_step=0.1,
            rng=seed,
            warmup=warmup,
            progress=True,
        )
        results.append({"seed": seed} | recovery(model, frames, data))
        print(results[-1], flush=True)
        if seed == 0:
            svae.plot.bound(model.history_, len(frames)).savefig(
                options.out / "bound.png"
            )
            for name, figure in figures(model, frames, data.states).items():
                figure.savefig(options.out / f"{name}.png")
    epochs = (options.num_steps + (warmup or 0)) / STEPS_PER_EPOCH
    scores = {"epochs": epochs, "runs": results} | {
        "collapsed": sum(result["states_in_use"] < 2 for result in results),
        "nmi_above_0.9": sum(result["nmi"] >= 0.9 for result in results),
        "error_below_0.02": sum(
            result["eigenvalue_error"] <= 0.02 for result in results
        ),
    }
    text = json.dumps(scores, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(text)


def recovery(model: svae.SVAE, frames: np.ndarray, data: Any) -> dict[str, Any]:
    """Compare states and eigenvalues with the truth, in the better order of states."""
    path = model.predict(frames)
    mean = svae.families.mniw.to_standard(model.parameters_.natparams["dynamics"])[0]
    found = [np.sort_complex(np.linalg.eigvals(A)) for A in mean]
    truth = [np.sort_complex(np.linalg.eigvals(A)) for A in data.dynamics]
    errors = [
        max(
            np.abs(found[k] - value).max()
            for k, value in zip(order, truth, strict=True)
        )
        for order in permutations(range(len(truth)))
    ]
    return {
        "nmi": metrics.normalized_mutual_information(data.states, path),
        "accuracy": metrics.accuracy(data.states, path),
        "eigenvalue_error": float(min(errors)),
        "states_in_use": metrics.states_in_use(path),
        "unconverged": int(model.history_["unconverged"].sum()),
        "backtracks": int(model.history_["backtracks"].sum()),
    }


def figures(model: svae.SVAE, frames: np.ndarray, states: np.ndarray) -> dict[str, Any]:
    """Show the states beside the true ones, and the eigenvalues of the dynamics."""
    return {
        "states": svae.plot.ethogram(model, frames[:1000], labels=states[:1000]),
        "dynamics": svae.plot.dynamics(model),
    }


if __name__ == "__main__":
    main()
