"""A network, a likelihood and a latent model of one's own: counts that drift.

    python examples/extending.py runs/extending

Spikes of a dozen cells are counted in short bins, and the rates of all follow a walk in
the plane.  None of the package's own parts is made for that: counts have a Poisson
likelihood (`Poisson`), a single bin says little, so that the recognition network may
look at its neighbours (`TemporalConvolution`), and a walk has no dynamics to learn,
only the size of its steps (`RandomWalk`).  docs/extending.md goes through the three.

The model is scored on walks that it has not seen, beside one whose network sees every
bin alone: the chain joins the bins already, so that looking at neighbours is hardly
worth it here, and the scores say so.  Then it is saved and loaded.  ``metrics.json``
has the numbers.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import autograd.numpy as np
import numpy as onp
from autograd.scipy.special import gammaln
from matplotlib.figure import Figure

import svae
from svae.families import gaussian, wishart
from svae.likelihoods import sum_observed
from svae.models import (
    Belief,
    Draw,
    Evidence,
    Exact,
    Local,
    exact_local,
    half_log_det,
    where_given,
)

LOG_2PI = onp.log(2.0 * onp.pi)


@dataclass(frozen=True)
class Poisson:
    """Counts whose rate is the exponential of what the decoder says."""

    scale_from: ClassVar[str | None] = None
    support: ClassVar[str | None] = "counts 0, 1, 2, ..."
    location: ClassVar[str] = "the log rate"

    def check(self, frames: Any) -> Any:
        """Return which entries are counts."""
        return (frames >= 0) & (frames == onp.floor(frames))

    def log_density(
        self, data: Any, location: Any, scale: Any, observed: Any = None
    ) -> Any:
        """Return the log probability of each frame, (N, S, T)."""
        terms = data * location - np.exp(location) - gammaln(data + 1.0)
        return sum_observed(terms, observed)

    def mean(self, location: Any, scale: Any) -> Any:
        """Return the rates."""
        return onp.exp(location)

    def var(self, location: Any, scale: Any) -> Any:
        """Return the rates."""
        return onp.exp(location)

    def sample(self, location: Any, scale: Any, rng: onp.random.Generator) -> Any:
        """Draw counts."""
        return rng.poisson(onp.exp(location)).astype(onp.float64)


@dataclass(frozen=True)
class TemporalConvolution:
    """One layer of filters over neighbouring frames, and two heads."""

    num_filters: int = 20
    width: int = 9

    def init(self, rng: onp.random.Generator, in_dim: int, out_dim: int) -> Any:
        """Draw filters (width * in_dim, num_filters) and heads."""

        def layer(m: int, n: int) -> tuple[Any, Any]:
            return rng.standard_normal((m, n)) / onp.sqrt(m), onp.zeros(n)

        return {
            "filters": layer(self.width * in_dim, self.num_filters),
            "location": layer(self.num_filters, out_dim),
            "scale": layer(self.num_filters, out_dim),
        }

    def apply(self, weights: Any, inputs: Any, valid: Any) -> tuple[Any, Any]:
        """Map (N, T, in_dim) to location and scale, (N, T, out_dim) each."""
        inputs = np.where(valid[..., None], inputs, 0.0)
        num_steps, half = inputs.shape[1], self.width // 2
        border = onp.zeros((len(inputs), half, inputs.shape[2]))
        padded = np.concatenate([border, inputs, border], axis=1)
        neighbours = np.concatenate(
            [padded[:, k : k + num_steps] for k in range(self.width)], axis=-1
        )
        features = np.tanh(affine(neighbours, weights["filters"]))
        scale = np.exp(5.0 * np.tanh(affine(features, weights["scale"]) / 5.0))
        return affine(features, weights["location"]), scale


def affine(inputs: Any, layer: tuple[Any, Any]) -> Any:
    """Map by a matrix and a bias."""
    matrix, bias = layer
    return np.dot(inputs, matrix) + bias


@dataclass(frozen=True)
class RandomWalk:
    r"""Walks from a standard normal point, with steps of an unknown covariance.

    .. math:: x_1 \sim \mathcal{N}(0, I), \qquad x_{t+1} - x_t \sim
              \mathcal{N}(0, \Lambda^{-1}), \qquad \Lambda \sim \mathcal{W} .

    The message is that of the Wishart, ``-E[L] / 2`` and ``E[log |L|] / 2``: as an
    exponent, ``u'(-E[L] / 2)u`` of a step u is a pair potential of a Gaussian chain.
    """

    latent_dim: int = 2
    step_variance: float = 0.05

    independent: ClassVar[bool] = False
    coupled: ClassVar[bool] = True
    family: ClassVar[dict[str, Any]] = {"steps": wishart}

    def prior(self) -> dict[str, Any]:
        """Return natural parameters with E[L] = I / step_variance."""
        dof = self.latent_dim + 2.0
        scale = dof * self.step_variance * onp.eye(self.latent_dim)
        return {"steps": wishart.from_standard(scale, dof)}

    def initial_posterior(self, rng: onp.random.Generator) -> dict[str, Any]:
        """Return the prior."""
        return self.prior()

    def infer(
        self, message: Any, evidence: Evidence, noise: Any = None, starts: Any = None
    ) -> Local:
        """Run message passing in the chain: q(x) is exact."""
        evidence = evidence.cleared()
        half_precision, half_log_precision = message["steps"]
        first_J, first_h = self.first(len(evidence.h), evidence.belief)
        logZ, (_, _, (second_moment, mean)), samples = svae.kernels.gaussian_chain(
            (first_J, first_h),
            (half_precision, -2.0 * half_precision, half_precision),
            evidence.node,
            noise,
            evidence.lengths,
        )
        num_pairs = evidence.valid.sum(axis=1) - 1
        constant = half_log_precision - 0.5 * self.latent_dim * LOG_2PI
        log_normalizer = (
            logZ + num_pairs * constant - gaussian.log_normalizer((first_J, first_h))
        )
        terms = evidence.J * second_moment
        gain = np.sum(terms, axis=tuple(range(1, terms.ndim)))
        gain = gain + np.sum(evidence.h * mean, axis=(1, 2))
        is_first = onp.arange(mean.shape[1])[:, None] == 0
        linear = evidence.h + is_first * first_h[:, None]
        return exact_local(
            Exact(
                log_normalizer,
                gain,
                mean,
                second_moment,
                samples,
                weights=None,
                statistics=None,
                half_log_det=half_log_det(logZ, linear, mean, evidence.lengths),
            )
        )

    def first(self, number: int, belief: Belief | None) -> tuple[Any, Any]:
        """Return J (N, D, D) and h (N, D) of x_1: N(0, I), or the belief."""
        J = onp.tile(-0.5 * onp.eye(self.latent_dim), (number, 1, 1))
        h = onp.zeros((number, self.latent_dim))
        if belief is None:
            return J, h
        return where_given(belief, belief.J, J), where_given(belief, belief.h, h)

    def log_density(
        self, stats: Any, latents: Any, lengths: Any = None, observed: Any = None
    ) -> Any:
        """Return log p(x | theta), (N,), of the factors whose x are all known."""
        known = Evidence(None, latents, lengths, observed).scored
        half_precision, half_log_precision = stats["steps"]
        first = -0.5 * np.sum(latents[:, 0] ** 2 + LOG_2PI, axis=-1)
        steps = latents[:, 1:] - latents[:, :-1]
        later = np.sum(np.dot(steps, half_precision) * steps, axis=-1)
        later = later + half_log_precision - 0.5 * self.latent_dim * LOG_2PI
        pairs = known[:, 1:] & known[:, :-1]
        return np.where(known[:, 0], first, 0.0) + np.sum(pairs * later, axis=1)

    def draw(
        self,
        stats: Any,
        uniforms: onp.ndarray,
        noise: onp.ndarray,
        belief: Belief | None = None,
    ) -> Draw:
        """Draw walks, one step after the other."""
        mean, first_cov = gaussian.to_standard(self.first(len(noise), belief))
        step_cov = onp.linalg.inv(-2.0 * stats["steps"][0])
        first = onp.linalg.cholesky(first_cov) @ noise[:, 0, :, None]
        later = noise[:, 1:] @ onp.swapaxes(onp.linalg.cholesky(step_cov), -1, -2)
        moves = onp.concatenate([first.swapaxes(1, 2), later], axis=1)
        latents = mean[:, None] + onp.cumsum(moves, axis=1)
        times = onp.arange(noise.shape[1])[:, None, None]
        step_cov = onp.broadcast_to(step_cov, first_cov.shape)
        cov = first_cov[:, None] + times * step_cov[:, None]
        means = onp.broadcast_to(mean[:, None], latents.shape)
        return Draw(None, latents, means, cov)

    def transition_laws(self, theta: Any) -> tuple[Any, Any, Any]:
        """Return A, b and Q of x' = A x + b + N(0, Q), with an axis of one state."""
        A = onp.eye(self.latent_dim)[None]
        return A, onp.zeros((1, self.latent_dim)), onp.linalg.inv(theta["steps"])[None]

    def initial_laws(self, theta: Any) -> tuple[Any, Any, Any]:
        """Return the probability of the one state, and mean and covariance of x_1."""
        mean, cov = onp.zeros((1, self.latent_dim)), onp.eye(self.latent_dim)[None]
        return onp.ones(1), mean, cov


PARTS = [Poisson, TemporalConvolution, RandomWalk]


def main() -> None:
    """Fit, score, save and load the model; write numbers and a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--num-steps", type=int, default=400)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    counts, rates = record_walks(16, onp.random.default_rng(0))
    seen, unseen, unseen_rates = counts[:12], counts[12:], rates[12:]

    encoders = {"neighbours": TemporalConvolution(), "single bins": svae.MLP((20,))}
    models = {
        name: svae.SVAE(RandomWalk(), encoder, svae.MLP((20,)), Poisson()).fit(
            seen, options.num_steps, window=50, learning_rate=1e-2, rng=0
        )
        for name, encoder in encoders.items()
    }
    metrics: dict[str, Any] = {
        name: {
            "nats per bin": model.score(unseen),
            "correlation with the rates": correlation(model, unseen, unseen_rates),
            "variance of a step": step_variance(model),
        }
        for name, model in models.items()
    }

    model = models["neighbours"]
    model.save(options.out / "model.npz")
    loaded = svae.load(options.out / "model.npz", parts=PARTS)
    assert loaded.score(unseen) == model.score(unseen)
    forecast = loaded.forecast(unseen[0], horizon=20)
    metrics["forecast"] = {"most counts in a bin": float(forecast.samples.max())}
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=2))
    draw_rates(model, unseen[0], unseen_rates[0], forecast, options.out / "rates.png")


def record_walks(
    number: int, rng: onp.random.Generator, num_steps: int = 120, num_cells: int = 12
) -> tuple[list[Any], list[Any]]:
    """Make counts (T, P) of cells, and their rates, on walks of unequal length."""
    loadings = 0.5 * rng.standard_normal((2, num_cells))
    counts, rates = [], []
    for length in rng.integers(num_steps // 2, num_steps, number):
        steps = rng.standard_normal((length, 2)) * onp.sqrt(0.02)
        walk = onp.cumsum(steps, axis=0)
        rates.append(onp.exp(walk @ loadings - 1.0))
        counts.append(rng.poisson(rates[-1]).astype(onp.float64))
    return counts, rates


def correlation(model: svae.SVAE, counts: list[Any], rates: list[Any]) -> float:
    """Return the correlation of the logarithms of true and reconstructed rates."""
    found = onp.concatenate([part.mean for part in model.reconstruct(counts)])
    logs = onp.log([onp.concatenate(rates).ravel(), found.ravel()])
    return float(onp.corrcoef(logs)[0, 1])


def step_variance(model: svae.SVAE) -> float:
    """Return the mean variance of a step, at the mean of its precision."""
    precision = wishart.mean(model.parameters_.natparams["steps"])
    return float(onp.trace(onp.linalg.inv(precision)) / len(precision))


def draw_rates(
    model: svae.SVAE, counts: Any, rates: Any, forecast: Any, path: Path
) -> None:
    """Draw the counts of the busiest cell, its rate, what is found, and a forecast."""
    cell = int(counts.sum(axis=0).argmax())
    axes = (figure := Figure((8, 3), layout="constrained")).subplots()
    axes.plot(counts[:, cell], ".", color="0.6", label="counts")
    axes.plot(rates[:, cell], color="0.2", label="rate")
    axes.plot(model.reconstruct(counts).mean[:, cell], color="C0", label="found")
    later = len(counts) + onp.arange(len(forecast.mean))
    low, high = onp.quantile(forecast.samples[:, :, cell], [0.05, 0.95], axis=0)
    axes.plot(later, forecast.mean[:, cell], color="C1", label="forecast")
    axes.fill_between(later, low, high, color="C1", alpha=0.2)
    axes.set(xlabel="bin", ylabel=f"cell {cell}")
    axes.legend(loc="upper left")
    figure.savefig(path)


if __name__ == "__main__":
    main()
