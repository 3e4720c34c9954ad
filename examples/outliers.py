"""Clusters among outliers: Lin, Hubacher and Khan (2018), Figure 2c.

    python examples/outliers.py runs/outliers

replaces 10 to 70 per cent of 700 points of the pinwheel by draws from N(0, 10^2 I) and
scores 300 clean points: a Gaussian mixture of the points (``GMM``), structured
inference networks with a Gaussian (``SIN-GMM``) and a Student-t mixture (``SIN-TMM``)
of latents, and a Gaussian one whose q(theta) learns from the statistics of published
code.  ``metrics.json`` has every run and a table over seeds.
"""

from pathlib import Path
from typing import Any

import autograd.numpy as anp
import comparison
import numpy as np
from comparison import COLUMNS, Labelled, Record

import svae
from svae.autodiff.operations import value_of
from svae.autodiff.trees import tree_map

NUM_STATES, DOF = 10, 5.0
NUM_POINTS, BATCH_SIZE = 700, 100
FRACTIONS = (0.1, 0.3, 0.5, 0.7)


class Mispaired(svae.GMM):
    """A Gaussian mixture whose q(theta) learns as in the code of Lin et al. (2018).

    There the statistics of a component are its probability times x of the *whole*
    mixture, where they should be of x given that component, and those of a minibatch
    are not scaled to the size of the data.
    """

    @property
    def graph(self) -> svae.GMM:
        """That of inference is right."""
        return svae.GMM(self.num_states, self.latent_dim)

    def expected_log_density(self, stats: Any, q: Any) -> Any:
        """Return the right value, with the gradient in m of the wrong statistics."""
        of = q.statistics
        marginal = anp.sum(of.states[..., None] * of.features, axis=2, keepdims=True)
        wrong = q._replace(
            statistics=of._replace(features=marginal + 0.0 * of.features)
        )
        fixed = tree_map(value_of, stats)
        expectation = super().expected_log_density
        pull = expectation(stats, wrong) - expectation(fixed, wrong)
        return expectation(fixed, q) + pull * BATCH_SIZE / NUM_POINTS


LATENTS: dict[str, Any] = {
    "SIN-GMM": svae.GMM(NUM_STATES, 2),
    "SIN-GMM, published statistics": Mispaired(NUM_STATES, 2),
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
    tasks: list[tuple[Any, ...]] = [
        (fit_mixture, *each, options.prior) for each in settings
    ]
    tasks += [
        (fit, name, *each, options.num_steps, options.prior, options.out)
        for each in settings
        for name in LATENTS
    ]
    records = comparison.run(tasks, options.num_processes)

    table = comparison.report(records, "outliers", COLUMNS, options.out)
    figure = comparison.curves(table, "outliers", "{:.0%}".format, log=False)
    figure.axes[0].set(
        xlabel="outliers in the data", title="pinwheel, 300 clean points"
    )
    figure.savefig(options.out / "errors.png")


def spoil(fraction: float, seed: int) -> tuple[np.ndarray, Labelled]:
    """Return 700 points, some of them replaced by outliers, and 300 clean ones."""
    points, labels = svae.data.pinwheel(num_per_class=200, rng=1)
    rng = np.random.default_rng(seed)
    outliers = rng.random(NUM_POINTS) < fraction
    spoiled = np.where(
        outliers[:, None],
        10.0 * rng.standard_normal((NUM_POINTS, 2)),
        points[:NUM_POINTS],
    )
    return spoiled, Labelled(points[NUM_POINTS:], labels[NUM_POINTS:])


def fit(
    method: str, fraction: float, seed: int, num_steps: int, prior: str, out: Path
) -> list[Record]:
    """Fit a structured inference network; draw that of seed 0."""
    seen, held_out = spoil(fraction, seed)
    network = svae.Residual((40, 40))
    latent = comparison.with_prior(LATENTS[method], prior)
    model = svae.SVAE(latent, network, network, likelihood="gaussian", inference="sin")
    records = comparison.train(
        model,
        seen,
        held_out,
        [num_steps],
        {"method": method, "outliers": fraction, "seed": seed},
        batch_size=BATCH_SIZE,
        learning_rate=1e-2,
        natural_step=0.1,
        num_samples=4,
        warmup=0,
        rng=seed,
    )
    if seed == 0:
        name = f"{method}_{100 * fraction:.0f}.png".replace(", ", "_").replace(" ", "_")
        svae.plot.mixture(model, held_out.points).savefig(out / name)
    return records


def fit_mixture(fraction: float, seed: int, prior: str) -> list[Record]:
    """Fit a mixture to the points themselves, all of them in a step."""
    seen, held_out = spoil(fraction, seed)
    about = {"method": "GMM", "outliers": fraction, "seed": seed}
    latent = comparison.with_prior(svae.GMM(NUM_STATES, 2), prior)
    return comparison.train_mixture(latent, seen, held_out, [300], about, seed)


if __name__ == "__main__":
    main()
