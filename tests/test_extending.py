"""The parts that docs/extending.md adds are right, and the page quotes the example."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import svae
from svae.autodiff.trees import tree_map
from svae.families import gaussian, product
from svae.models import Belief, Evidence
from svae.networks import recognize
from svae.testing import assert_identical, relative_error

ROOT = Path(__file__).parents[1]


def imported(path):
    spec = importlib.util.spec_from_file_location("extending", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("matplotlib")
    return imported(ROOT / "examples" / "extending.py")


def test_the_page_quotes_the_example():
    page = (ROOT / "docs" / "extending.md").read_text()
    script = (ROOT / "examples" / "extending.py").read_text()
    quoted = [
        block
        for block in re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
        if block.startswith("@dataclass")
    ]
    assert len(quoted) == 3
    for block in quoted:
        for part in block.split("\n\n\n"):
            assert part in script


def natparams_of(latent, rng):
    dim = latent.latent_dim
    root = rng.standard_normal((dim, dim))
    return {"steps": (root @ root.T + np.eye(dim), np.array(dim + 3.0))}


def dense_walk(half_precision, number, belief):
    """Precision (T D, T D) and linear term of a walk, and log of its constants."""
    dim = len(half_precision)
    precision, h = np.zeros((number, dim, number, dim)), np.zeros((number, dim))
    precision[0, :, 0] = np.eye(dim) if belief is None else -2.0 * belief[0]
    h[0] = 0.0 if belief is None else belief[1]
    for t in range(1, number):
        for row, column, sign in ((t, t, 1), (t - 1, t - 1, 1), (t, t - 1, -1)):
            precision[row, :, column] -= 2.0 * sign * half_precision
            if row != column:
                precision[column, :, row] -= 2.0 * sign * half_precision
    return precision.reshape(number * dim, -1), h.ravel()


@pytest.mark.parametrize("believed", [False, True])
def test_inference_in_a_walk_is_that_of_a_dense_gaussian(example, believed, rng):
    latent, (N, T, D) = example.RandomWalk(2), (3, 5, 2)
    natparams = natparams_of(latent, rng)
    message = product.expected_stats(latent.family, natparams)
    half_precision, half_log = message["steps"]
    J, h = -np.exp(rng.standard_normal((N, T, D))), rng.standard_normal((N, T, D))
    lengths, belief = np.array([5, 1, 3]), None
    if believed:
        first = gaussian.from_standard(
            rng.standard_normal((N, D)), np.tile(0.3 * np.eye(D), (N, 1, 1))
        )
        belief = Belief(np.array([True, False, True]), *first, None)
    dense = J[..., None] * np.eye(D)
    local = latent.infer(message, Evidence(dense, h, lengths, None, belief))
    for n, length in enumerate(lengths):
        told = None
        if believed and belief.given[n]:
            told = belief.J[n], belief.h[n]
        precision, linear = dense_walk(half_precision, length, told)
        log_constant = (length - 1) * (half_log - 0.5 * D * np.log(2 * np.pi))
        start = (-0.5 * np.eye(D), np.zeros(D)) if told is None else told
        log_constant -= gaussian.log_normalizer(start)
        precision = precision - 2.0 * np.diag(J[n, :length].ravel())
        linear = linear + h[n, :length].ravel()
        mean, cov = np.linalg.solve(precision, linear), np.linalg.inv(precision)
        log_det = np.linalg.slogdet(precision)[1]
        logZ = 0.5 * (linear @ mean - log_det + length * D * np.log(2 * np.pi))
        assert relative_error(local.log_normalizer[n], logZ + log_constant) < 1e-12
        assert relative_error(local.mean[n, :length].ravel(), mean) < 1e-12
        assert relative_error(local.half_log_det[n], 0.5 * log_det) < 1e-11
        second = (cov + np.outer(mean, mean)).reshape(length, D, length, D)
        second = np.einsum("titj->tij", second)
        assert relative_error(local.second_moment[n, :length], second) < 1e-12
        gain = np.sum(J[n, :length, :, None] * np.eye(D) * second)
        gain += np.sum(h[n, :length].ravel() * mean)
        want = gain - logZ - log_constant
        assert relative_error(local.kl[n], want) < 1e-11


def test_the_density_of_a_walk_is_that_of_its_draws(example, rng):
    """Mean and covariance of draws, and log p as their Gaussian has it."""
    latent = example.RandomWalk(2)
    theta = product.sample(latent.family, natparams_of(latent, rng), rng)
    stats = product.stats(latent.family, theta)
    number = 4
    drawn = latent.draw(
        stats, rng.random((50000, number)), rng.standard_normal((50000, number, 2))
    )
    precision, _ = dense_walk(stats["steps"][0], number, None)
    cov = np.linalg.inv(precision)
    flat = drawn.latents.reshape(50000, -1)
    scale = np.sqrt(np.outer(np.diagonal(cov), np.diagonal(cov)))
    assert np.max(abs(np.cov(flat.T) - cov) / scale) < 0.03
    blocks = np.einsum("titj->tij", cov.reshape(number, 2, number, 2))
    assert relative_error(drawn.cov[0], blocks) < 1e-12
    few = drawn.latents[:3]
    log_det = np.linalg.slogdet(precision)[1] - 2 * number * np.log(2 * np.pi)
    want = 0.5 * (log_det - np.einsum("ni,ij,nj->n", flat[:3], precision, flat[:3]))
    assert relative_error(latent.log_density(stats, few), want) < 1e-12
    # given lengths, or frames that are not known, of what is left
    first = latent.log_density(stats, few, lengths=np.array([1, 1, 1]))
    known = np.array([[True, False, True, False]] * 3)
    assert_identical(latent.log_density(stats, few, observed=known), first)


def test_each_walk_may_have_a_theta_of_its_own(example, rng):
    latent = example.RandomWalk(2)
    thetas = product.sample(latent.family, natparams_of(latent, rng), rng, 3)
    noise = rng.standard_normal((3, 4, 2))
    together = latent.draw(
        product.stats(latent.family, thetas), rng.random((3, 4)), noise
    )
    for s in range(3):
        theta = tree_map(lambda part, s=s: part[s], thetas)
        alone = latent.draw(
            product.stats(latent.family, theta), rng.random((1, 4)), noise[s : s + 1]
        )
        assert relative_error(together.latents[s], alone.latents[0]) < 1e-12


def test_a_convolution_sees_no_padding(example, rng):
    network = example.TemporalConvolution(num_filters=4, width=5)
    weights = network.init(rng, 3, 2)
    frames = rng.standard_normal((1, 6, 3))
    alone = recognize(network, weights, frames)
    padded = np.concatenate([frames, np.full((1, 4, 3), 9.0)], axis=1)
    valid = np.arange(10)[None] < 6
    together = recognize(network, weights, padded, valid=valid)
    for one, other in zip(alone, together, strict=True):
        assert_identical(one, other[:, :6])
    everywhere = recognize(network, weights, padded)
    assert np.max(abs(everywhere[1][:, :6] - alone[1])) > 0.1


@pytest.fixture(scope="module")
def fitted(example):
    counts, _ = example.record_walks(3, np.random.default_rng(0), 30, 4)
    model = svae.SVAE(
        example.RandomWalk(),
        example.TemporalConvolution(5),
        svae.MLP((5,)),
        example.Poisson(),
        decoder_posterior="gaussian",
    )
    return model.fit(counts, 3, window=12, context=3, hide=2, rng=0), counts


def test_sequences_in_a_batch_do_not_meet(fitted):
    """Not even where the encoder gets the mean for what is missing."""
    model, counts = fitted
    counts = [each.copy() for each in counts]
    counts[0][2] = np.nan
    together = model.transform(counts)
    for one, other in zip(counts, together, strict=True):
        np.testing.assert_allclose(model.transform(one), other, rtol=1e-9, atol=1e-12)


def test_every_question_has_an_answer(fitted, example):
    model, counts = fitted
    assert "scale" not in model.parameters_.decoder["mean"]
    few = counts[0]
    for theta in ("mean", "sample"):
        told = model.forecast(few, 4, num_samples=5, theta=theta)
        assert example.Poisson().check(told.samples).all()
        assert np.all(told.variance > told.path_means.var(axis=0))
        assert np.isfinite(model.score(counts, num_importance_samples=4, theta=theta))
    assert example.Poisson().check(model.sample(6, rng=0)).all()
    gaps = few.copy()
    gaps[3:5, 1] = gaps[-2:] = np.nan
    assert np.isfinite(model.impute(gaps, num_samples=3, num_passes=2)).all()
    posterior = model.infer(gaps)
    step_cov = np.linalg.inv(
        product.mean(model.latent.family, model.parameters_.natparams)["steps"]
    )
    np.testing.assert_allclose(posterior.mean[-1], posterior.mean[-3])
    np.testing.assert_allclose(posterior.cov[-1], posterior.cov[-3] + 2 * step_cov)


def test_the_parts_are_saved_loaded_and_resumed(fitted, example, tmp_path):
    model, counts = fitted
    model.save(tmp_path / "a.npz")
    loaded = svae.load(tmp_path / "a.npz", parts=example.PARTS)
    assert loaded.score(counts) == model.score(counts)
    assert (loaded.likelihood, loaded.latent) == (model.likelihood, model.latent)
    with pytest.raises(ValueError, match="not among svae's own"):
        svae.load(tmp_path / "a.npz")

    def fit(num_steps, folder, **options):
        copy = svae.SVAE(**model.get_params(deep=False))
        return copy.fit(
            counts, num_steps, rng=0, checkpoint=tmp_path / folder, **options
        )

    whole = fit(3, "whole")
    fit(1, "part")
    resumed = fit(3, "part", resume=True)
    assert resumed.score(counts) == whole.score(counts)


def test_a_latent_model_that_cannot_tell_what_follows_says_so(fitted, example):
    class Mute(example.RandomWalk):
        transition_laws = property()

    model, counts = fitted
    mute = svae.SVAE(Mute(), model.encoder, model.decoder, model.likelihood)
    mute.fit(counts, 1, rng=0)
    gaps = counts[0].copy()
    gaps[-1] = np.nan
    with pytest.raises(TypeError, match="Mute .* transition_laws"):
        mute.infer(gaps)
