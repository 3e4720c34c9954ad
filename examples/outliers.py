"""Clusters among outliers: Lin, Hubacher and Khan (2018), Figure 2c.

    python examples/outliers.py runs/outliers

replaces 10 to 70 per cent of 700 points of the pinwheel by draws from N(0, 10^2 I) and
scores 300 clean points: a Gaussian mixture of the points (``GMM``), structured
inference networks with a Gaussian (``SIN-GMM``) and a Student-t mixture (``SIN-TMM``)
of latents.  ``metrics.json`` has every run and a table over seeds.
"""

from pathlib import Path
from typing import Any

import comparison
import numpy as np
from comparison import COLUMNS, Labelled, Record

import svae

NUM_STATES, DOF = 10, 5.0
FRACTIONS = (0.1, 0.3, 0.5, 0.7)
LATENTS: dict[str, Any] = {
    "SIN-GMM": svae.GMM(NUM_STATES, 2),
    "SIN-TMM": svae.StudentMixture(NUM_STATES, 2, dof=DOF),
}


def main() -> None:
    """Run all methods for every seed and fraction; write figures and metrics."""
    parser = comparison.arguments(__doc__, num_steps=3000, num_seeds=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = [
        (fraction, seed) for seed in range(options.num_seeds) for fraction in FRACTIONS
    ]
    tasks: list[tuple[Any, ...]] = [(fit_mixture, *each) for each in settings]
    tasks += [
        (fit, name, *each, options.num_steps, options.out)
        for each in settings
        for name in LATENTS
    ]
    records = comparison.run(tasks, options.num_processes)

    table = comparison.by_method(records, ("method", "outliers"), COLUMNS)
    for row in table:
        print(comparison.line(row))
    comparison.write(options.out, {"table": table, "runs": records})
    figure = comparison.curves(table, "outliers", "{:.0%}".format, log=False)
    figure.axes[0].set(
        xlabel="outliers in the data", title="pinwheel, 300 clean points"
    )
    figure.savefig(options.out / "errors.png")


def spoil(fraction: float, seed: int) -> tuple[np.ndarray, Labelled]:
    """Return 700 points, some of them replaced by outliers, and 300 clean ones."""
    points, labels = svae.data.pinwheel(num_per_class=200, rng=1)
    rng = np.random.default_rng(seed)
    outliers = rng.random(700) < fraction
    spoiled = np.where(
        outliers[:, None], 10.0 * rng.standard_normal((700, 2)), points[:700]
    )
    return spoiled, Labelled(points[700:], labels[700:])


def fit(
    method: str, fraction: float, seed: int, num_steps: int, out: Path
) -> list[Record]:
    """Fit a structured inference network; draw that of seed 0."""
    seen, held_out = spoil(fraction, seed)
    network = svae.Residual((40, 40))
    model = svae.SVAE(LATENTS[method], network, network, inference="sin")
    records = comparison.train(
        model,
        seen,
        held_out,
        [num_steps],
        {"method": method, "outliers": fraction, "seed": seed},
        batch_size=100,
        learning_rate=1e-2,
        natural_step=0.1,
        num_samples=4,
        warmup=0,
        rng=seed,
    )
    if seed == 0:
        name = f"{method}_{100 * fraction:.0f}.png"
        svae.plot.mixture(model, held_out.points).savefig(out / name)
    return records


def fit_mixture(fraction: float, seed: int) -> list[Record]:
    """Fit a mixture to the points themselves, all of them in a step."""
    seen, held_out = spoil(fraction, seed)
    about = {"method": "GMM", "outliers": fraction, "seed": seed}
    latent = svae.GMM(NUM_STATES, 2)
    return comparison.train_mixture(latent, seen, held_out, [300], about, seed)


if __name__ == "__main__":
    main()
