r"""One step ahead: each latent and each frame given the past alone.

The law of the latents is that of `svae.queries.forecasts`: what frames say of them are
the node potentials r_t of the recognition network, and what follows comes from the
generative process at the mean of q(theta).  Where inference is exact, of an LDS and of
a structured inference network, row t of a prediction is the forecast from frames before
t, and the last row that is filtered is that of the posterior.  Where inference is mean
field, `svae.models.inference.filtering` takes in one r_t after the other, at the mean
of q(theta) throughout: exactly for an HMM, with a Gaussian for each state for an SLDS.
A frame without data says nothing.

The density of a frame is an integral over its x,

.. math:: p(y_t \mid y_{<t}) = \int p(y_t \mid x)\, p(x \mid r_{<t})\, dx
          = \mathbb{E}_q \frac{p(y_t \mid x)}{\tfrac12 + \tfrac12
          e^{\langle r_t, t(x) \rangle} / Z_t}, \qquad
          q = \tfrac12 p(x \mid r_{<t}) + \tfrac12 p(x \mid r_{\le t}),

estimated by as many draws from what is predicted as from what is filtered (the balance
heuristic of Veach and Guibas 1995): where frames tell of x far more than the past does,
hardly any draw from the first is near them.  The filtered law only says where to look,
and what is estimated knows nothing of frame t.  The mean of the estimated densities is
right, that of their logarithms too low, the less the more draws there are.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from svae import data
from svae.families import product
from svae.models import LDS, Evidence
from svae.models.inference.filtering import Draws, Filtering, filtering
from svae.models.inference.prediction import merged
from svae.networks import outputs
from svae.networks.decoder_posterior import mean_weights
from svae.networks.protocol import accepts
from svae.objective.batch import Batch
from svae.objective.local import evidence
from svae.objective.model import Generative, Parameters, recognition
from svae.queries.forecasts import FrameLaw
from svae.queries.importance import rows_of, stretches
from svae.queries.posteriors import (
    FRAMES,
    at_least_one,
    by_sequence,
    chunks,
    covariance,
    inferences,
)
from svae.types import Array

__all__ = [
    "Filtered",
    "Prediction",
    "check_ahead",
    "filtered",
    "predictions",
    "score_ahead",
]

NUMBERS = 2**24
"""Numbers, of draws of x and of laws given states, that are held at a time."""


class Filtered(NamedTuple):
    """What is known of the latents of each of T frames from the frames up to it.

    For stacked sequences (N, T, P) every field has N in front; for a list of sequences
    there is a list of these.
    """

    mean: Array
    """(T, D), of x_t given frames up to t; None where the data themselves are x."""
    cov: Array
    """(T, D, D), its covariance, or None."""
    states: Array | None
    """(T, K), probabilities of z_t given frames up to t, or None without any."""
    log_evidence: Array
    """(T,), what the evidence of frame t adds to the log normalizer of that before it.
    Of a model without networks it is the log density of the frame given the past."""


class Prediction(NamedTuple):
    """The law of each of T frames given the frames before it.

    For stacked sequences (N, T, P) every field has N in front; for a list of sequences
    there is a list of predictions.
    """

    mean: Array
    """(T, P), row t given frames before t; the first from the initial factor alone."""
    var: Array
    """(T, P), variances, with that of the observation."""
    log_density: Array
    """(T,), of what was observed of each frame; 0 where that is nothing."""
    latent_mean: Array | None
    """(T, D), mean of x_t; None where the data themselves are x."""
    latent_cov: Array | None
    """(T, D, D), its covariance, or None."""
    states: Array | None
    """(T, K), probabilities of z_t, or None without any."""

    @property
    def variance(self) -> Array:
        """``var``, as a `Forecast` calls it."""
        return self.var


def check_ahead(ahead: Any) -> None:
    """Raise ValueError unless the number of steps ahead is 1."""
    if ahead != 1 or isinstance(ahead, bool):
        raise ValueError(f"ahead must be 1, got {ahead!r}")


def filtered(
    model: Generative, parameters: Parameters, sequences: Sequence[Any]
) -> Iterator[Filtered]:
    """Yield what is known of each sequence, frame by frame.

    Of independent rows it is the posterior: they have no past.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : sequence of (T_n, P) arrays or recordings
    """
    if model.latent.independent:
        yield from _rows_filtered(model, parameters, sequences)
        return
    for batch, _, found in _filterings(model, parameters, sequences):
        step = found.filtered
        log_evidence = np.where(batch.scored_frames, found.log_evidence, 0.0)
        arrays = step.mean, step.cov, _states(model, step.states), log_evidence
        for steps, _ in by_sequence(False, batch.num_steps, arrays, ()):
            yield Filtered(*steps)


def _rows_filtered(
    model: Generative, parameters: Parameters, sequences: Sequence[Any]
) -> Iterator[Filtered]:
    rng = np.random.default_rng(0)  # of samples that nothing here looks at
    for inference in inferences(model, parameters, sequences, 1, rng):
        local = inference.local
        cov = covariance(local.mean, local.second_moment)
        arrays = local.mean, cov, local.states, local.log_normalizer[:, None]
        for steps, _ in by_sequence(True, inference.lengths, arrays, ()):
            yield Filtered(*steps)


def predictions(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
) -> Iterator[Prediction]:
    """Yield the prediction of each frame of each sequence from those before it.

    Of independent rows it is the prior's marginal, the same for all of them.

    Parameters
    ----------
    model : Generative
    parameters : Parameters
    sequences : sequence of (T_n, P) arrays or recordings
    num_samples : int
        Draws of x that represent what is predicted; as many again, of what is filtered,
        help to estimate densities.
    rng : numpy.random.Generator
        The draws of a step do not depend on how many follow it.
    """
    seed = int(rng.integers(2**63))
    if model.latent.independent:
        yield from _rows_predicted(model, parameters, sequences, num_samples, seed)
        return
    filterings = _filterings(model, parameters, sequences, num_samples, seed)
    for batch, node, found in filterings:
        step = found.predicted
        of_frames = _of_frames(model, parameters, batch, _proposals(node, found))
        arrays = *of_frames, step.mean, step.cov, _states(model, step.states)
        for steps, _ in by_sequence(False, batch.num_steps, arrays, ()):
            yield Prediction(*steps)


def _rows_predicted(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    seed: int,
) -> Iterator[Prediction]:
    """Yield the prior's marginal for every row, and the density of each."""
    latent = model.latent
    theta = product.mean(latent.family, parameters.natparams)
    draws = _draws(seed, [0], 1, num_samples, latent.latent_dim)
    drawn = latent.draw(
        product.stats(latent.family, theta),
        draws.uniforms[0, 0, 0, :, None],
        draws.noise[0, 0, 0, :, None],
    )
    shares = np.full((1, 1, num_samples), 1.0 / num_samples)
    mean, cov = merged(shares, drawn.mean[None, :, 0], drawn.cov[None, :, 0])
    prior = [mean[0, 0], cov[0, 0], theta.get("weights") if theta else None]
    for sequence in sequences:
        parts = []
        for _, _, rows in data.stretches([sequence]):
            batch = Batch.of(data.batch([rows], [(0, 0, len(rows))]))
            shape = (1, num_samples, len(rows), latent.latent_dim)
            samples = np.broadcast_to(drawn.latents[None], shape)
            parts.append(_of_frames(model, parameters, batch, [(samples, None)]))
        yield Prediction(
            *(np.concatenate(part, axis=1)[0] for part in zip(*parts, strict=True)),
            *(
                None if part is None else np.stack([part] * len(sequence))
                for part in prior
            ),
        )


def score_ahead(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int,
    rng: np.random.Generator,
) -> float:
    """Return the mean log density of frames with data given the past, in nats.

    Arguments as in `predictions`.

    Raises
    ------
    ValueError
        If there is no frame with data.
    """
    found = predictions(model, parameters, sequences, num_samples, rng)
    total = sum(float(each.log_density.sum()) for each in found)
    return total / at_least_one(data.summarize(sequences).num_frames)


def _states(model: Generative, states: np.ndarray) -> np.ndarray | None:
    return states if hasattr(model.latent, "num_states") else None


def _filterings(
    model: Generative,
    parameters: Parameters,
    sequences: Sequence[Any],
    num_samples: int = 0,
    seed: int = 0,
) -> Iterator[tuple[Batch, Evidence, Filtering]]:
    """Yield batches of chains, their evidence, and what filtering says of them."""
    _check_causal(model.encoder)
    latent = model.latent
    theta = product.mean(latent.family, parameters.natparams)
    network, graph = recognition(model, parameters.encoder)
    if graph is None and isinstance(latent, LDS):  # whose inference is exact
        graph = product.expected_stats(latent.family, parameters.natparams)
    if not hasattr(latent, "prefixes"):
        graph = None
    dim, number = latent.latent_dim, 0
    num_laws = 2 * num_samples + getattr(latent, "num_states", 1) * dim
    for chunk, cut in chunks(sequences, latent.independent):
        whole = Batch.of(data.batch(chunk, cut))
        num_steps = whole.values.shape[1]
        some = max(1, NUMBERS // (num_steps * dim * num_laws))
        for rows in stretches(len(chunk), some):
            batch, draws = rows_of(whole, rows), None
            if num_samples:
                each = range(number + rows.start, number + rows.stop)
                draws = _draws(seed, each, num_steps, num_samples, dim)
            node = evidence(model, network, batch)
            yield batch, node, filtering(latent, theta, node, draws, graph)
        number += len(chunk)


def _draws(
    seed: int, sequences: Sequence[int], num_steps: int, num_samples: int, dim: int
) -> Draws:
    """Draw for each sequence, of generators of its own, step after step.

    Samples are in pairs with opposite noise, so that the mean of what is linear in x
    has no error given the states, and the uniforms of the pairs of a step are spread
    evenly.
    """
    pairs, uniforms, noise = -(-num_samples // 2), [], []
    for number in sequences:
        of_states, of_latents = map(
            np.random.default_rng, np.random.SeedSequence([seed, number]).spawn(2)
        )
        offsets = of_states.random((num_steps, 2, 1))
        uniforms.append((np.arange(pairs) + offsets) / pairs)
        noise.append(of_latents.standard_normal((num_steps, 2, pairs, dim)))
    u, e = np.stack(uniforms), np.stack(noise)
    return Draws(
        np.concatenate([u, u], axis=-1)[..., :num_samples],
        np.concatenate([e, -e], axis=-2)[..., :num_samples, :],
    )


Proposal = tuple[np.ndarray, np.ndarray | None]
"""Draws of x (M, S, T, D), and the log of what their density is divided by."""


def _proposals(node: Evidence, found: Filtering) -> list[Proposal]:
    """Return predicted and filtered draws, and logs (M, S, T) of weights of each."""
    proposals = []
    for step in (found.predicted, found.filtered):
        x = np.swapaxes(step.samples, 1, 2)
        logs = np.einsum("nstd,ntd->nst", x**2, node.J)
        logs += np.einsum("nstd,ntd->nst", x, node.h)
        logs -= found.log_evidence[:, None]
        proposals.append((x, np.log(2.0) - np.logaddexp(0.0, logs)))
    return proposals


def _of_frames(
    model: Generative,
    parameters: Parameters,
    batch: Batch,
    proposals: Sequence[Proposal],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means and variances (M, T, P) and log densities (M, T) of frames.

    The first draws are of what is predicted, whose moments these are.
    """
    logs, mean, var = [], np.zeros(batch.values.shape), np.zeros(batch.values.shape)
    observed = None if batch.scored is None else batch.scored[:, None]
    for which, (samples, log_weights) in enumerate(proposals):
        count = 0
        for part, law in _laws(model, parameters, samples):
            terms = law.likelihood.log_density(
                batch.values[:, None], law.location, law.scale, observed
            )
            if log_weights is not None:
                terms = terms + log_weights[:, part]
            logs.append(terms)
            if which > 0:
                continue
            # moments of the draws so far, and of more of them (Chan et al. 1983)
            means, size = law.mean(), part.stop - part.start
            count += size
            share, center = size / count, means.mean(axis=1)
            spread = means.var(axis=1) + law.var().mean(axis=1)
            apart = center - mean
            var += share * (spread - var) + share * (1 - share) * apart**2
            mean += share * apart
    every = np.concatenate(logs, axis=1)
    log_density = np.logaddexp.reduce(every, axis=1) - np.log(every.shape[1])
    return mean, var, np.where(batch.scored_frames, log_density, 0.0)


def _laws(
    model: Generative, parameters: Parameters, samples: np.ndarray
) -> Iterator[tuple[slice, FrameLaw]]:
    """Yield laws of frames at draws (M, S, T, D), some draws of all at a time."""
    weights = mean_weights(model.decoder_posterior, parameters.decoder)
    number, num_samples, num_steps, _ = samples.shape
    for part in stretches(num_samples, max(1, FRAMES // (number * num_steps))):
        x = samples[:, part]
        law = outputs(model.likelihood, model.decoder, weights, x, model.units)
        yield part, FrameLaw(model.likelihood, *law)


def _check_causal(encoder: Any) -> None:
    """Raise TypeError if a network sees more than the frame that it speaks of."""
    if accepts(encoder, "apply", "valid") and not getattr(encoder, "causal", False):
        raise TypeError(
            f"encoder {type(encoder).__name__} sees neighbouring frames, so what it "
            "says of the past may know of the future: one step ahead needs a network "
            "of single frames, or one of frames before it (an attribute causal = True)"
        )
