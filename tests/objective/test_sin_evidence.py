"""Structured inference networks: the bound is the evidence, or below it."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import digamma

from svae import GMM, LDS, Linear
from svae.autodiff.trees import leaves, rebuild, to_vector, tree_map
from svae.autodiff.vjp import trace
from svae.families import niw, product
from svae.networks import recognize
from svae.objective.batch import Batch, Noise
from svae.objective.bound import bound, bound_and_gradients
from svae.objective.model import Parameters, initial_encoder
from svae.testing import (
    Enumerated,
    assert_close,
    assert_identical,
    relative_error,
)
from tests.helpers.exact import (
    with_gaps,
)
from tests.helpers.inference_networks import (
    LINEAR,
    NAMES,
    disturbed,
    known_world,
    with_gap,
)
from tests.helpers.problems import (
    generative,
    problem,
)


@pytest.mark.parametrize("kind", ["none", "frames", "all"])
@pytest.mark.parametrize("name", LINEAR)
def test_the_bound_of_the_posterior_is_the_evidence(name, kind):
    """With theta known: no mean field lies between. Any other q is worse."""
    this = known_world(name)
    rng = np.random.default_rng(1)
    frames = with_gaps(rng, (4, 3), kind)
    want = this.evidence(frames)
    assert abs(np.sum(this.bounds(frames)) - want) < 1e-10 * max(1.0, abs(want))
    if kind != "all":
        for _ in range(5):
            assert np.sum(disturbed(this, rng).bounds(frames)) < want - 1e-4


@pytest.mark.parametrize("name", LINEAR)
def test_unsure_of_theta_the_bound_is_lower(name):
    """E log p and not log p at the mean of theta, which is larger (Jensen)."""
    frames = np.random.default_rng(2).standard_normal((4, 3))
    this = known_world(name, 20.0)
    family = this.model.latent.family
    message = product.expected_stats(family, this.parameters.natparams)
    point = product.stats(family, product.mean(family, this.parameters.natparams))
    assert relative_error(to_vector(point), to_vector(this.stats)) < 1e-10
    assert np.sum(this.bounds(frames, message)) < this.evidence(frames) - 0.05


def test_the_bound_of_a_mixture_term_by_term():
    """E log p in digammas, the sum over components, N/M, KL(q(theta) || p(theta))."""
    model, parameters, prior, batch, noise = problem("sin-gmm")
    got = bound(model, parameters, prior, batch, noise)
    alpha = parameters.natparams["weights"][0] + 1.0
    log_pi = digamma(alpha) - digamma(alpha.sum())
    graph = product.from_free(model.latent.family, parameters.encoder["graph"])
    J, h = recognize(model.encoder, parameters.encoder["network"], batch.values)
    components = list(
        zip(*niw.to_standard(parameters.natparams["components"]), strict=True)
    )
    reconstruction = local_kl = 0.0
    for n, y in enumerate(batch.values[:, 0]):
        law = Enumerated(model.latent, graph, (J[n], h[n]))
        log_z = np.log(law.probs)
        for k, (mean, kappa, scale, nu) in enumerate(components):
            of_x = scipy_stats.multivariate_normal(
                law.means[k], law.seconds[k] - np.outer(law.means[k], law.means[k])
            )
            D = 2
            log_det = np.sum(digamma((nu - np.arange(D)) / 2)) + D * np.log(2)
            log_det -= np.linalg.slogdet(scale)[1]
            S_inv = np.linalg.inv(scale)
            centered = law.seconds[k] - np.outer(law.means[k], mean)
            centered += np.outer(mean, mean) - np.outer(mean, law.means[k])
            log_p = 0.5 * (log_det - D * np.log(2 * np.pi) - D / kappa)
            log_p -= 0.5 * nu * np.sum(S_inv * centered)
            local_kl += law.probs[k] * (log_z[k] - of_x.entropy() - log_pi[k] - log_p)
            # samples given z are mean + L^-T noise with precision L L'
            precision = np.linalg.inv(of_x.cov)
            roots = np.linalg.inv(np.linalg.cholesky(precision))
            x = law.means[k] + noise.latents[n, :, 0] @ roots
            location, variance = model.decoder.apply(parameters.decoder, x)
            logs = scipy_stats.norm(location, np.sqrt(variance)).logpdf(y).sum(axis=-1)
            reconstruction += law.probs[k] * logs.mean()
    assert relative_error(got.reconstruction, 2.5 * reconstruction) < 1e-10
    assert relative_error(got.local_kl, 2.5 * local_kl) < 1e-10
    of_theta = product.kl(model.latent.family, parameters.natparams, prior)
    assert got.global_kl == pytest.approx(of_theta, rel=1e-12)
    total = 2.5 * (reconstruction - local_kl) - of_theta
    assert got.objective == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", ["lds", "affine-lds"])
def test_tied_to_the_prior_it_is_the_structured_autoencoder(name, gaps):
    """Value and gradients of both networks; that of m is split in two by the tie."""
    model, parameters, prior, batch, noise = problem(name)
    batch = with_gap(batch) if gaps else batch
    message = product.expected_stats(model.latent.family, parameters.natparams)
    graph = product.to_free(model.latent.family, message)
    encoder = {"network": parameters.encoder, "graph": graph}
    tied = bound_and_gradients(
        model._replace(inference="sin"),
        parameters._replace(encoder=encoder),
        prior,
        batch,
        noise,
    )
    free = bound_and_gradients(model, parameters, prior, batch, noise)
    assert_close(tied.bound, free.bound, 1e-10)
    for got, want in (
        (tied.gradients.encoder["network"], free.gradients.encoder),
        (tied.gradients.decoder, free.gradients.decoder),
    ):
        assert relative_error(to_vector(got), to_vector(want)) < 1e-10
    through_q = tree_map(
        lambda a, b: a - b, free.gradients.natparams, tied.gradients.natparams
    )

    def pairing(*coordinates):
        moved = product.from_free(model.latent.family, rebuild(graph, coordinates))
        pairs = zip(leaves(moved), leaves(through_q), strict=True)
        return (sum(anp.sum(a * b) for a, b in pairs),)

    want = trace(pairing, leaves(graph))[0](1.0)
    got = to_vector(tied.gradients.encoder["graph"])
    assert np.max(np.abs(got)) > 0.1
    assert relative_error(got, to_vector(want)) < 1e-9


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_changes_no_bit_of_bound_and_gradients(name, hide):
    model, parameters, prior, batch, noise = problem(f"sin-{name}")
    batch = with_gap(batch)
    if hide:
        shown = np.ones(batch.values.shape[:2], dtype=bool)
        shown[2] = False
        batch = replace(batch, shown=shown)
    scored = batch.scored
    first, *others = (
        bound_and_gradients(
            model,
            parameters,
            prior,
            replace(batch, values=np.where(scored, batch.values, garbage)),
            noise,
        )
        for garbage in (0.0, 1.0, -1e60)
    )
    assert not np.all(scored)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves(first.gradients))
    for other in others:
        assert_identical(leaves((other.bound, other.gradients)), leaves(first[:2]))


def test_rows_without_data_are_as_deleted():
    model, parameters, prior, batch, noise = problem("sin-gmm")
    batch = with_gap(batch)
    kept = batch.observed.any(axis=(1, 2))
    assert 0 < np.sum(~kept)
    fewer = Batch(batch.values[kept], None, batch.observed[kept], batch.scale)
    want = bound_and_gradients(
        model, parameters, prior, fewer, noise._replace(latents=noise.latents[kept])
    )
    got = bound_and_gradients(model, parameters, prior, batch, noise)
    assert_close(got.bound, want.bound, 1e-12)
    assert_close(leaves(got.gradients), leaves(want.gradients), 1e-12)


def log_mean_exp(logs):
    return np.logaddexp.reduce(logs) - np.log(len(logs))


@pytest.mark.parametrize("name", ["gmm", "lds"])
def test_coordinate_ascent_stays_below_the_evidence(name):
    """Theta integrated out too. Of a mixture it ends above what a mean field ends at.

    With exact potentials and the graph of q(theta) both steps are optimal.
    """
    latent = GMM(2, 1, tolerance=1e-12) if name == "gmm" else LDS(1)
    rng = np.random.default_rng(6)
    decoder = {"location": (np.array([[1.0]]), np.zeros(1)), "log_scale": np.zeros(1)}
    values = 2 * rng.standard_normal((3, 1, 1) if name == "gmm" else (1, 3, 1))
    batch, prior = Batch(values), latent.prior()
    steps = values.shape[1] if name == "lds" else 1
    points = np.sqrt(steps) * np.concatenate([np.eye(steps), -np.eye(steps)])
    noise = Noise(np.tile(points[..., None], (len(values), 1, 1, 1)), np.zeros(0))

    def ascend(inference):
        model = generative(latent, Linear())._replace(inference=inference)
        natparams, bounds = latent.initial_posterior(np.random.default_rng(0)), []
        for _ in range(60):
            encoder = initial_encoder(model, natparams, decoder)
            parameters = Parameters(natparams, encoder, decoder)
            step = bound_and_gradients(model, parameters, prior, batch, noise)
            bounds.append(step.bound.objective)
            natparams = tree_map(
                lambda a, b: a + b, natparams, step.gradients.natparams
            )
        return np.array(bounds)

    bounds = ascend("sin")
    assert np.all(np.diff(bounds) > -1e-9)
    draws = product.sample(latent.family, prior, rng, 200_000)
    if name == "gmm":
        mean, precision = draws["components"]
        variance, logs = 1 / precision[..., 0, 0] + 1.0, 0.0
        for y in values[:, 0, 0]:
            parts = -0.5 * (y - mean[..., 0]) ** 2 / variance
            parts = parts - 0.5 * np.log(2 * np.pi * variance)
            parts = parts + np.log(draws["weights"])
            logs = logs + np.logaddexp.reduce(parts, axis=-1)
        assert bounds[-1] > ascend("svae")[-1] + 1e-3
    else:
        mean, precision = (x.reshape(-1) for x in draws["init"])
        A, of_noise = (x.reshape(-1) for x in draws["dynamics"])
        variance, logs = 1 / precision, 0.0
        for y in values[0, :, 0]:
            total = variance + 1.0
            logs = logs - 0.5 * ((y - mean) ** 2 / total + np.log(2 * np.pi * total))
            gain = variance / total
            mean, variance = mean + gain * (y - mean), variance * (1 - gain)
            mean, variance = A * mean, A**2 * variance + 1 / of_noise
        assert bounds[-1] == pytest.approx(ascend("svae")[-1], rel=1e-9)
    evidence = log_mean_exp(logs)
    assert evidence - 4.0 < bounds[-1] < evidence - 1e-3
