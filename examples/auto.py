"""Cars: Lin, Hubacher and Khan (2018), Figure 2b, and their protocol of imputation.

    python examples/auto.py auto-mpg.csv runs/auto

takes the Auto MPG data of the UCI repository (rows with a missing horsepower are left
out), six features of 392 cars, standardised on the training part and times 5 as in the
authors' code, and classes by the number of cylinders.  A Gaussian mixture of the data
(``GMM``), a variational autoencoder (``VAE``), a structured autoencoder (``SVAE-GMM``)
and a structured inference network (``SIN-GMM``) are fitted to 274 cars and scored on
118.  Then a tenth of the entries of these is hidden and imputed.  ``metrics.json`` has
every run and a table over seeds.

The data are ``auto-mpg.data`` of the UCI Machine Learning Repository ("Auto MPG",
CC BY 4.0): mpg, cylinders, displacement, horsepower, weight, acceleration, year,
origin and name, separated by spaces. Beside it, this makes the file that is read::

    import csv, shlex

    with open("auto-mpg.data") as cars, open("auto-mpg.csv", "w", newline="") as file:
        csv.writer(file).writerows(shlex.split(line) for line in cars)
"""

import csv
from pathlib import Path
from typing import Any

import comparison
import numpy as np
from comparison import COLUMNS, Labelled, Record

import svae

NUM_STATES, LATENT_DIM = 10, 6
FEATURES = (
    0,
    2,
    3,
    4,
    5,
    6,
)  # mpg, displacement, horsepower, weight, acceleration, year
CYLINDERS = 1
MODELS: dict[str, tuple[Any, str]] = {
    "VAE": (svae.Gaussian(LATENT_DIM), "svae"),
    "SVAE-GMM": (svae.GMM(NUM_STATES, LATENT_DIM), "svae"),
    "SIN-GMM": (svae.GMM(NUM_STATES, LATENT_DIM), "sin"),
}
MARKS = (100, 500, 2000, 7000, 20000, 75000)


def main() -> None:
    """Run all methods for every seed; write figures and metrics."""
    parser = comparison.arguments(__doc__, 7000, num_seeds=3, data="auto-mpg.csv")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    marks = comparison.until(options.num_steps, MARKS)
    cars = read(options.data)
    seeds = range(options.num_seeds)
    tasks: list[tuple[Any, ...]] = [
        (fit_mixture, cars, seed, options.prior) for seed in seeds
    ]
    tasks += [
        (fit, name, cars, marks, options.learning_rate, seed, options.prior)
        for seed in seeds
        for name in MODELS
    ]
    records = comparison.run(tasks, options.num_processes)

    columns = (*COLUMNS, "seconds", *comparison.IMPUTED)
    table = comparison.report(records, "steps", columns, options.out)
    figure = comparison.curves(table, "steps")
    figure.axes[0].set(xlabel="step", title="Auto MPG, 118 cars not seen")
    figure.savefig(options.out / "errors.png")


def read(path: Path) -> tuple[np.ndarray, Labelled]:
    """Return 274 cars to fit and 118 others with their cylinders."""
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file) if row and "?" not in row]
    numbers = np.array([[float(row[column]) for column in range(7)] for row in rows])
    numbers = numbers[np.random.default_rng(0).permutation(len(numbers))]
    points, labels = numbers[:, FEATURES], numbers[:, CYLINDERS].astype(np.int64)
    seen = points[: round(0.7 * len(points))]
    points = 5.0 * (points - seen.mean(axis=0)) / seen.std(axis=0)
    return points[: len(seen)], Labelled(points[len(seen) :], labels[len(seen) :])


def fit(
    method: str,
    cars: tuple[np.ndarray, Labelled],
    marks: list[int],
    learning_rate: float,
    seed: int,
    prior: str,
) -> list[Record]:
    """Fit a model with networks, and impute with it at the end."""
    latent, inference = MODELS[method]
    latent = comparison.with_prior(latent, prior)
    network = svae.Residual((50, 50))
    model = svae.SVAE(
        latent, network, network, likelihood="gaussian", inference=inference
    )
    records = comparison.train(
        model,
        *cars,
        marks,
        {"method": method, "seed": seed},
        batch_size=64,
        learning_rate=learning_rate,
        natural_step=0.1,
        num_samples=1,
        warmup=0 if hasattr(latent, "num_states") else None,
        rng=seed,
    )
    records[-1] |= comparison.imputation_errors(model, cars[1].points)
    return records


def fit_mixture(
    cars: tuple[np.ndarray, Labelled], seed: int, prior: str
) -> list[Record]:
    """Fit a mixture to the data themselves, all of them in a step."""
    about = {"method": "GMM", "seed": seed}
    latent = comparison.with_prior(svae.GMM(NUM_STATES, len(FEATURES)), prior)
    return comparison.train_mixture(latent, *cars, [500, 2000], about, seed)


if __name__ == "__main__":
    main()
