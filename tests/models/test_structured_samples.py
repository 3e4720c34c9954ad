"""Structured inference networks: ragged batches, parts, and draws from q."""

from functools import partial

import numpy as np
import pytest

from svae.families import product
from svae.models import belief_after
from svae.models.inference import structured
from svae.testing import (
    assert_identical,
    relative_error,
    typical_natparams,
)
from tests.helpers.exact import quadrature
from tests.helpers.problems import quadrature_by_step
from tests.helpers.structured import MIXTURES, NAMES, case, cases


@pytest.mark.parametrize("name", NAMES)
def test_q_does_not_depend_on_the_prior(name):
    """Where there are data; and no field but the divergence does."""
    this = case(name, "ragged")
    noise = np.random.default_rng(0).standard_normal((3, 2, *this.node[1].shape[1:]))
    natparams = typical_natparams(this.latent, np.random.default_rng(9))
    other = product.expected_stats(this.latent.family, natparams)
    first, second = this.infer(noise), this.infer(noise, stats=other)
    assert np.all(first.kl != second.kl)
    assert_identical(first._replace(kl=0.0), second._replace(kl=0.0))


IN_CHUNKS = 64
"""Steps from which a Gaussian chain alone goes in chunks of time."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("longest", [60, 150])
def test_a_sequence_alone_is_the_same_in_a_ragged_batch(name, longest):
    rng = np.random.default_rng(4)
    this = case(name)
    steps = 1 if name == "gmm" else longest
    lengths = np.minimum([37, longest, 1, 8, 129], steps)
    node = -rng.uniform(0.1, 1.0, (5, steps, 2)), rng.standard_normal((5, steps, 2))
    noise, observed = (
        rng.standard_normal((5, 2, steps, 2)),
        rng.random((5, steps)) < 0.8,
    )
    observed[:, -1] = True
    node[0][~observed], node[1][~observed] = 0.0, 0.0
    known = {"observed": observed}
    whole = this._replace(node=node, lengths=lengths, known=known).infer(noise)
    for n, length in enumerate(lengths):
        alone = this._replace(
            node=tuple(part[n : n + 1, :length] for part in node),
            known={"observed": observed[n : n + 1, :length]},
        ).infer(noise[n : n + 1, :, :length])
        same = assert_identical
        if "lds" in name and length >= IN_CHUNKS:
            same = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-13)
        same(alone.log_normalizer[0], whole.log_normalizer[n])
        # sums over time, padded or not, add up in another order
        assert relative_error(whole.kl[n], alone.kl[0]) < 1e-13
        for field in ("mean", "second_moment", "states"):
            if getattr(alone, field) is not None:
                got = getattr(whole, field)[n, :length]
                same(getattr(alone, field)[0], got)
        same(alone.samples[0], whole.samples[n, :, :length])


@pytest.mark.parametrize("name", ["hmm", "lds", "affine-lds"])
@pytest.mark.parametrize("step", [1, 3])
def test_two_parts_say_what_the_whole_says(name, step):
    """log Z of the whole is that of the first part plus that of the rest given it."""
    this = case(name, "dense")
    J, h = (part[:, step - 1 :].copy() for part in this.node)
    J[:, 0], h[:, 0] = 0.0, 0.0
    whole = this.infer()
    first = this.infer(node=tuple(part[:, :step] for part in this.node))
    observed = np.ones(h.shape[:2], dtype=bool)
    observed[:, 0] = False
    known = {"belief": belief_after(first, None), "observed": observed}
    rest = this._replace(node=(J, h), known=known).infer()
    total = first.log_normalizer + rest.log_normalizer
    assert relative_error(total, whole.log_normalizer) < 1e-10
    # of a mixture x is not carried over, z is
    later = slice(step, None), slice(1, None)
    assert relative_error(rest.mean[:, later[1]], whole.mean[:, later[0]]) < 1e-10
    if rest.states is not None:
        assert np.max(np.abs(rest.states - whole.states[:, step - 1 :])) < 1e-12


@cases()
def test_weighted_samples_stand_for_all_states(name, kind):
    """Their weights are probabilities, their moments those of q, by quadrature."""
    this = case(name, kind)
    number, steps, dim = this.node[1].shape
    noise = quadrature_by_step(number, steps)
    if name not in MIXTURES:
        noise = quadrature(number, steps, dim)
    got = this.infer(noise)
    weights = got.weights
    if name not in MIXTURES:
        assert weights is None
        weights = np.full(got.samples.shape[:-1], 1 / got.samples.shape[1])
        weights = weights * this.live[:, None]
    assert weights.shape == got.samples.shape[:-1]
    assert np.max(np.abs(weights.sum(axis=1) - this.live)) < 1e-14
    mean = np.einsum("nst,nsti->nti", weights, got.samples)
    assert relative_error(mean, got.mean) < 1e-12
    second = np.einsum("nst,nsti,nstj->ntij", weights, got.samples, got.samples)
    if got.second_moment.ndim == 3:
        second = np.einsum("ntii->nti", second)
    if name in MIXTURES or kind != "ragged":  # the quadrature is of the longest
        assert relative_error(second, got.second_moment) < 1e-12


@pytest.mark.parametrize("kind", ["plain", "gaps"])
@pytest.mark.parametrize("name", NAMES)
def test_drawn_samples_have_the_law_of_q(name, kind):
    """Mean and second moments of the whole sequence, within four standard errors."""
    this = case(name, kind)
    rng, count = np.random.default_rng(8), 20_000
    number, steps, dim = this.node[1].shape
    noise = rng.standard_normal((number, count, steps, dim))
    got = this.infer(noise, uniforms=rng.random((number, count, steps)))
    assert got.weights is None
    assert got.samples.shape == noise.shape
    for law, samples in zip(this.laws(), got.samples, strict=True):
        flat = samples.reshape(count, -1)
        squares = flat[:, :, None] * flat[:, None]
        for draws, want in ((flat, law.joint_mean), (squares, law.joint_second)):
            error = np.abs(draws.mean(axis=0) - want)
            assert np.all(error < 4 * draws.std(axis=0) / np.sqrt(count))
    # noise and uniforms are one law, whatever is drawn beside it
    again = this.infer(noise[:, :5], uniforms=np.full((number, 5, steps), 0.5))
    assert again.samples.shape == (number, 5, steps, dim)


@cases("belief")
def test_the_proposal_density_is_that_of_the_enumeration(name, kind):
    this = case(name, kind)
    rng = np.random.default_rng(2)
    number, steps, dim = this.node[1].shape
    noise = rng.standard_normal((number, 3, steps, dim))
    local = this.infer(noise, uniforms=rng.random(noise.shape[:-1]))
    got = structured.log_density(
        this.latent, this.graph, this.evidence(this.node), local
    )
    want = [
        [law.log_density(x[: law.num_steps]) for x in samples]
        for law, samples in zip(this.laws(), local.samples, strict=True)
    ]
    assert relative_error(got, want) < 1e-10 or np.max(np.abs(want)) < 1e-14
    if this.latent.coupled:
        squares = np.sum(noise**2 + np.log(2 * np.pi), axis=-1) * this.live[:, None]
        by_noise = local.half_log_det[:, None] - 0.5 * squares.sum(axis=-1)
        assert relative_error(got, by_noise) < 1e-10


@pytest.mark.parametrize("kind", ["plain", "ragged", "gaps"])
@pytest.mark.parametrize("name", MIXTURES)
def test_exact_inference_beats_the_mean_field(name, kind):
    """With the graph of q(theta) q minimises what a mean field, or another q, does."""
    this = case(name, kind)
    tied = this._replace(graph=this.stats)
    best = tied.infer()
    assert relative_error(best.kl, [law.kl(this.stats) for law in tied.laws()]) < 1e-10
    field = this.latent.infer(this.stats, this.evidence(this.node))
    told = this.known.get("observed", this.live).any(axis=1)
    assert np.all((best.log_normalizer > field.log_normalizer + 1e-9)[told])
    assert np.max(best.log_normalizer - field.log_normalizer) > 1e-3
    assert np.all(best.log_normalizer < field.log_normalizer + 1.0)
    for law, free, log_normalizer in zip(
        this.laws(), this.infer().kl, best.log_normalizer, strict=True
    ):
        assert law.evidence - free < log_normalizer + 1e-12
