"""Four ways to fit spiral clusters: Lin, Hubacher and Khan (2018), Figure 2a.

    python examples/inference_networks.py runs/inference_networks

fits 700 points of the pinwheel and scores 300 others after 100, 900, 5000 and 10000
steps: a Gaussian mixture of the points (``GMM``), and warped mixtures by structured
autoencoders with the natural gradient of Eq. (4) in Johnson et al. (2016) in full
(``SVAE``) or without its correction, as published code has it (``SVAE, conjugate``),
and by structured inference networks (``SIN``), with the same networks and steps.  All
mixtures start from clusterings of what they model, points or encoded points.
``metrics.json`` has every run and a table over seeds; squared errors are there summed
over dimensions and as means over them.
"""

from pathlib import Path
from typing import Any

import comparison
from comparison import COLUMNS, Labelled, Record

import svae

NUM_STATES = 10
METHODS: dict[str, dict[str, Any]] = {
    "SVAE, conjugate": {"natural_gradient": "conjugate"},
    "SVAE": {},
    "SIN": {"inference": "sin"},
}
MARKS = (100, 150, 900, 2500, 5000, 10000)


def main() -> None:
    """Run all methods for every seed; write figures and metrics."""
    parser = comparison.arguments(__doc__, num_steps=10000, num_seeds=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    marks = comparison.until(options.num_steps, MARKS)
    seeds = range(options.num_seeds)
    tasks: list[tuple[Any, ...]] = [
        (fit_mixture, marks[:3], seed, options.prior) for seed in seeds
    ]
    tasks += [
        (fit, name, marks, seed, options.prior, options.out)
        for seed in seeds
        for name in METHODS
    ]
    records = comparison.run(tasks, options.num_processes)

    columns = (*COLUMNS, "seconds", *comparison.IMPUTED)
    table = comparison.report(records, "steps", columns, options.out)
    figure = comparison.curves(table, "steps")
    figure.axes[0].set(xlabel="step", title="pinwheel, 300 points not seen")
    figure.savefig(options.out / "errors.png")


def split() -> tuple[Labelled, Labelled]:
    """Return 700 points to fit and 300 others."""
    points, labels = svae.data.pinwheel(num_per_class=200, rng=1)
    return Labelled(points[:700], labels[:700]), Labelled(points[700:], labels[700:])


def fit(
    method: str, marks: list[int], seed: int, prior: str, out: Path
) -> list[Record]:
    """Fit a warped mixture, and impute with it at the end; draw that of seed 0."""
    seen, held_out = split()
    network = svae.Residual((50, 50))
    latent = comparison.with_prior(svae.GMM(NUM_STATES, latent_dim=2), prior)
    model = svae.SVAE(
        latent, network, network, likelihood="gaussian", **METHODS[method]
    )
    records = comparison.train(
        model,
        seen.points,
        held_out,
        marks,
        {"method": method, "seed": seed},
        batch_size=100,
        learning_rate=1e-2,
        natural_step=0.1,
        num_samples=4,
        warmup=0,
        rng=seed,
    )
    records[-1] |= comparison.imputation_errors(model, held_out.points)
    if seed == 0:
        name = method.lower().replace(", ", "_")
        svae.plot.mixture(model, held_out.points).savefig(out / f"{name}.png")
    return records


def fit_mixture(marks: list[int], seed: int, prior: str) -> list[Record]:
    """Fit a mixture to the points themselves, all of them in a step."""
    seen, held_out = split()
    about = {"method": "GMM", "seed": seed}
    latent = comparison.with_prior(svae.GMM(NUM_STATES, latent_dim=2), prior)
    return comparison.train_mixture(latent, seen.points, held_out, marks, about, seed)


if __name__ == "__main__":
    main()
