"""Warped mixtures for spiral clusters: Johnson et al. (2016), Figure 1.

    python examples/pinwheel.py runs/pinwheel

fits two models to 500 points on five spirals: the density network of their Fig. 1c (no
clusters) and the latent mixture of Fig. 1d (clusters of any shape).  Figures and
``metrics.json`` go into the folder; scores there are bounds in nats for each point,
Rand indices compare the mixture's states with the spirals.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import svae

NETWORK = svae.Residual((40, 40))
MODELS = {
    "density_network": svae.SVAE(
        svae.Gaussian(latent_dim=2), NETWORK, NETWORK, likelihood="gaussian"
    ),
    "warped_mixture": svae.SVAE(
        svae.GMM(num_states=15, latent_dim=2), NETWORK, NETWORK, likelihood="gaussian"
    ),
}


def main() -> None:
    """Fit both models; write figures and metrics."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for figures and metrics")
    parser.add_argument("--num-steps", type=int, default=3000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data, classes = svae.data.pinwheel(rng=1)
    held_out, held_out_classes = svae.data.pinwheel(rng=2)
    metrics = {}
    for name, model in MODELS.items():
        print(name)
        model.fit(
            data,
            options.num_steps,
            batch_size=50,
            learning_rate=1e-2,
            natural_step=0.02,
            start="random",  # as the paper's code does
            rng=0,
            progress=True,
        )
        metrics[name] = {"score": model.score(data), "held_out": model.score(held_out)}
        svae.plot.mixture(model, data).savefig(options.out / f"{name}.png")
        svae.plot.bound(model.history_, len(data)).savefig(
            options.out / f"{name}_bound.png"
        )

    mixture = MODELS["warped_mixture"]
    states = mixture.predict(data)
    metrics["warped_mixture"] |= {
        "states_used": len(np.unique(states)),
        "rand_index": svae.metrics.adjusted_rand_index(classes, states),
        "held_out_rand_index": svae.metrics.adjusted_rand_index(
            held_out_classes, mixture.predict(held_out)
        ),
    }
    text = json.dumps(metrics, indent=2)
    (options.out / "metrics.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
