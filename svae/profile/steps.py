"""Times of whole training steps, beside the matrix products that they cannot avoid.

A step assembles a batch, estimates the bound and its gradients, and moves the networks
and q(theta). What no implementation of the networks can leave out are their matrix
products: of each layer one forward, one for the gradient of the matrix, and one for
that of its inputs, unless these are data. They are timed in turns with the steps, in
arrays of their own with outputs that are there before, with as many threads of BLAS,
and in the order that is faster: of large ones OpenBLAS computes the transpose, or does
not, up to a quarter faster. What `numpy.matmul` takes for them as they are written
stands beside that.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from svae import data, likelihoods
from svae.families.product import with_log_normalizers
from svae.models import GMM, LDS, SLDS
from svae.networks import MLP, Residual
from svae.objective.model import Generative, recognition
from svae.profile.bars import steps_of
from svae.profile.clock import Timed, interleave, usable_cpus
from svae.profile.machine import environment
from svae.training.blas import blas_threads
from svae.training.gradients import evaluate
from svae.training.settings import make_settings
from svae.training.step import Stage, State, initial_state, step

__all__ = ["WORKLOADS", "StepRecord", "StepReport", "Workload", "run_steps"]

SETTLING = 10
"""Steps before the one that is timed: the first ones of a mean field are no others'."""


def video(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images of 30 x 30 pixels that change slowly, in noise."""
    path = np.cumsum(rng.standard_normal((num_frames, 3)), axis=0)
    images = path @ rng.standard_normal((3, 900)) / np.sqrt(num_frames)
    return images + 0.3 * rng.standard_normal(images.shape)


def pinwheel(num_points: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of a pinwheel of five blades."""
    return data.pinwheel(num_per_class=num_points // 5, rng=rng)[0]


def dots(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images of a bouncing dot."""
    duration = 0.1 * (num_frames - 1)
    return data.dots(num_frames=num_frames, duration=duration, rng=rng)


class Workload(NamedTuple):
    """A model and the batches that it is trained on."""

    latent: Any
    encoder: Any
    decoder: Any
    draw: Callable[[int, np.random.Generator], np.ndarray]
    """Frames, or points."""
    batch_size: int
    window: int


WORKLOADS = {
    "lds video": Workload(LDS(10), MLP(), MLP(), video, 8, 250),
    "slds video": Workload(SLDS(10, 10), MLP(), MLP(), video, 8, 250),
    "pinwheel": Workload(GMM(15, 2), Residual(), Residual(), pinwheel, 50, 1),
    "dots": Workload(
        LDS(10), MLP((50,)), MLP((50,), mean="sigmoid"), dots, batch_size=1, window=50
    ),
}
"""Videos; Figures 1 and 4 of Johnson et al. (2016)."""


@dataclass(frozen=True)
class StepRecord:
    """What was measured of one workload with one number of threads."""

    workload: str
    batch: str
    """Sequences x steps x dimensions."""
    num_threads: int
    """Of the compiled core, and of BLAS."""
    step_ms: float
    products_ms: float
    """Matrix products of the networks, forward and backward, in the faster order."""
    ratio: float
    """Step over these."""
    matmul_ms: float
    """The products as they are written."""
    matmul_ratio: float
    """Step over those."""
    products_gflops: float
    iterations: float
    """Of inference, and of the solve in its gradient: mean over sequences."""
    gradient_iterations: float


@dataclass(frozen=True)
class StepReport:
    """All that `run_steps` measured."""

    environment: dict[str, str]
    records: list[StepRecord] = field(default_factory=list)


def run_steps(
    chosen: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    repeats: int = 9,
    budget: float = 20.0,
    rng: int = 0,
    progress: bool = False,
) -> StepReport:
    """Time training steps.

    Parameters
    ----------
    chosen : sequence of str, optional
        Of `WORKLOADS`; by default all.
    threads : sequence of int, optional
        Numbers of threads to time beside one; by default as many as there are CPUs.
    repeats : int
        Samples of every time, of which the median is kept.
    budget : float
        Seconds after which a workload takes no more than three samples.
    rng : int
        Seed of data and models.
    progress : bool
        Show a bar, which needs tqdm.

    Returns
    -------
    StepReport
        With one record for each workload and number of threads.

    Raises
    ------
    ValueError
        If there is no such workload, or a number is not positive.
    """
    chosen = list(WORKLOADS) if chosen is None else list(chosen)
    if unknown := [name for name in chosen if name not in WORKLOADS]:
        raise ValueError(f"workloads {unknown}: there are {list(WORKLOADS)}")
    threads = sorted({1, *(threads or [len(usable_cpus()) or 1])})
    if min(repeats, *threads) < 1:
        raise ValueError(f"repeats {repeats}, threads {threads}: wanted 1 or more")
    report = StepReport(environment())
    for name in steps_of(chosen, progress, "workload"):
        report.records.extend(_measure(name, threads, repeats, budget, rng))
    return report


def _measure(
    name: str, threads: Sequence[int], repeats: int, budget: float, rng: int
) -> list[StepRecord]:
    workload = WORKLOADS[name]
    trained = Trained.settle(workload, rng)
    products = matrix_products(trained)
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in products)
    calls = {}
    for n in threads:
        with blas_threads(n):
            fastest = [faster_order(product) for product in products]
        calls[f"step {n}"] = Timed(trained.step, n, n)
        calls[f"products {n}"] = Timed(partial(multiply, fastest), n, n)
        calls[f"matmul {n}"] = Timed(partial(multiply, products), n, n)
    seconds = interleave(calls, repeats, budget)
    record = trained.step()[1]
    return [
        StepRecord(
            name,
            " x ".join(map(str, trained.batch_shape)),
            n,
            step_ms=1e3 * seconds[f"step {n}"],
            products_ms=1e3 * seconds[f"products {n}"],
            ratio=seconds[f"step {n}"] / seconds[f"products {n}"],
            matmul_ms=1e3 * seconds[f"matmul {n}"],
            matmul_ratio=seconds[f"step {n}"] / seconds[f"matmul {n}"],
            products_gflops=flops / seconds[f"products {n}"] / 1e9,
            iterations=record["iterations"],
            gradient_iterations=record["gradient_iterations"],
        )
        for n in threads
    ]


@dataclass(frozen=True)
class Trained:
    """A model after some steps: its next step is the same, as often as it is taken."""

    model: Generative
    state: State
    step: Callable[[], Any]
    """Take the next step, batch and all."""
    batch_shape: tuple[int, int, int]

    @classmethod
    def settle(cls, workload: Workload, rng: int = 0) -> "Trained":
        """Take some steps."""
        generator = np.random.default_rng(rng)
        model = Generative(
            workload.latent,
            workload.encoder,
            workload.decoder,
            likelihoods.Gaussian(),
            "point",
        )
        settings = make_settings(
            model.latent.independent,
            batch_size=workload.batch_size,
            window=None,
            num_samples=1,
            learning_rate=1e-3,
            natural_step=0.1,
        )
        count = workload.batch_size * workload.window
        sequences = [workload.draw(count, generator)]
        windows = data.windows(sequences, workload.window)
        shape = workload.batch_size, workload.window, sequences[0].shape[1]
        prior = with_log_normalizers(model.latent.family, model.latent.prior())
        stage = Stage(model, prior, windows, settings)
        state = initial_state(model, shape[2], generator)
        read = partial(evaluate, sequences)

        def take(state: State, rng: Any) -> Any:
            return step(stage, state, read, rng)

        for _ in range(SETTLING):
            state = take(state, generator)[0]
        last = partial(take, state)
        return cls(model, state, lambda: last(np.random.default_rng(rng)), shape)


Product = tuple[np.ndarray, np.ndarray, np.ndarray]


def matrix_products(trained: Trained, rng: int = 0) -> list[Product]:
    """Return factors, and room for their product, of all that a step multiplies."""
    parameters, generator = trained.state.parameters, np.random.default_rng(rng)
    num_rows = trained.batch_shape[0] * trained.batch_shape[1]
    encoder, _ = recognition(trained.model, parameters.encoder)
    products = []
    for weights, from_data in ((encoder, True), (parameters.decoder, False)):
        for matrix, is_first in layer_matrices(weights):
            inputs = generator.standard_normal((num_rows, matrix.shape[0]))
            slopes = generator.standard_normal((num_rows, matrix.shape[1]))
            factors = [(inputs, matrix), (inputs.T, slopes)]
            if not (from_data and is_first):
                factors.append((slopes, matrix.T))
            products += [(a, b, np.empty((len(a), b.shape[1]))) for a, b in factors]
    return products


def faster_order(product: Product, repeats: int = 5) -> Product:
    """Return a product, or its transpose if that takes less time."""
    a, b, out = product
    transposed = b.T, a.T, np.empty(out.shape[::-1])

    def best(product: Product) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            multiply([product])
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return min(product, transposed, key=best)


def layer_matrices(weights: Any) -> list[tuple[np.ndarray, bool]]:
    """List the matrices of a perceptron, and whether inputs are what they multiply."""
    hidden = [matrix for matrix, _ in weights["hidden"]]
    heads = [weights[name][0] for name in ("location", "scale")]
    layers = [(matrix, not k) for k, matrix in enumerate(hidden)]
    layers += [(matrix, not hidden) for matrix in heads]
    return layers + ([(weights["skip"][0], True)] if "skip" in weights else [])


def multiply(products: Sequence[Product]) -> None:
    """Compute all products."""
    for a, b, out in products:
        np.matmul(a, b, out=out)
