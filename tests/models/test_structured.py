"""Structured inference networks: enumeration, exact evidences, differences."""

import autograd.numpy as anp
import numpy as np
import pytest
from scipy import stats as scipy_stats

from svae import NotPositiveDefinite
from svae.autodiff.trees import leaves, rebuild
from svae.families import product
from svae.testing import (
    assert_identical,
    check_gradients,
    relative_error,
    typical_natparams,
)
from tests.helpers.structured import MIXTURES, NAMES, case, cases


def padded(laws, field, shape):
    """Stack a field (T_n, ...) of every law, zeros past the lengths."""
    stacked = np.zeros(shape)
    for row, law in zip(stacked, laws, strict=True):
        value = getattr(law, field)
        row[: len(value)] = value
    return stacked


@cases()
def test_q_is_the_enumeration(name, kind):
    this = case(name, kind)
    laws, got = this.laws(), this.infer()
    want = [law.log_normalizer for law in laws]
    assert relative_error(got.log_normalizer, want) < 1e-10
    assert relative_error(got.kl, [law.kl(this.stats) for law in laws]) < 1e-10
    second = padded(laws, "second_moment", (*got.mean.shape, 2))
    if got.second_moment.ndim == 3:
        second = np.einsum("ntii->nti", second)
    assert relative_error(got.second_moment, second) < 1e-10
    assert relative_error(got.mean, padded(laws, "mean", got.mean.shape)) < 1e-10
    if name in MIXTURES:
        states = padded(laws, "states", got.states.shape)
        assert relative_error(got.states, states) < 1e-10
        assert got.half_log_det is None
        paths = this.latent.most_likely_states(
            this.graph, got.state_potentials, this.lengths
        )
        for path, law in zip(paths, laws, strict=True):
            if law.belief is None:  # nobody asks for a path given one
                assert_identical(path[path >= 0], np.array(law.best_path))
    else:
        want = [law.told[0].half_log_det for law in laws]
        assert relative_error(got.half_log_det, want) < 1e-10
    for diagnostic in got.diagnostics:
        assert_identical(diagnostic, np.zeros(3))


@cases()
def test_expected_log_density_is_that_of_the_enumeration(name, kind):
    """Of the message of inference, of q(theta), and of a known theta."""
    this = case(name, kind)
    natparams = typical_natparams(this.latent, np.random.default_rng(7))
    theta = product.stats(
        this.latent.family, product.mean(this.latent.family, natparams)
    )
    q = this.latent.graph.exact(
        this.graph,
        this.evidence(this.node),
        without_data=this.latent.without_data(this.stats),
    )
    for stats in (this.graph, this.stats, theta):
        got = this.latent.expected_log_density(stats, q)
        want = [law.expected_log_density(stats) for law in this.laws()]
        assert relative_error(got, want) < 1e-10
    want = [law.evidence for law in this.laws()]
    assert relative_error(q.expected_evidence, want) < 1e-10


@cases()
def test_gradients_of_inference_are_differences(name, kind):
    """Of everything that is differentiable, in graph, message and evidence."""
    this = case(name, kind)
    rng = np.random.default_rng(1)
    parts = this.graph, this.stats, this.node
    noise = rng.standard_normal((3, 2, *this.node[1].shape[1:]))
    # of a frame without data the law of x is a constant
    kept = np.ones(this.live.shape)
    if not this.latent.coupled:
        kept = this.known.get("observed", kept) * kept

    def outputs(*arrays):
        graph, stats, node = rebuild(parts, arrays)
        got = this.infer(noise, graph=graph, stats=stats, node=node)
        per_step = [got.mean, got.second_moment]
        results = [got.log_normalizer, got.kl]
        results += [
            x * kept.reshape(kept.shape + (1,) * (x.ndim - 2)) for x in per_step
        ]
        results.append(got.samples * kept[:, None, :, None])
        if got.states is not None:
            results += [got.states, got.weights]
        # as one: the slope of any alone may vanish
        return [anp.concatenate([anp.ravel(part) for part in results])]

    assert np.all(np.isfinite(outputs(*leaves(parts))[0]))
    check_gradients(outputs, leaves(parts), rng, rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_without_evidence_q_is_the_graph(name):
    """And with the graph of q(theta) it diverges by -log Z."""
    this = case(name, "zero")
    got = this.infer()
    tied = this.infer(graph=this.stats)
    assert relative_error(tied.kl, -tied.log_normalizer) < 1e-12
    if name == "gmm":
        (weights,), parts = this.graph["weights"], this.graph["components"]
        mean, _, log_weight = product.to_free(this.latent.family, this.graph)[
            "components"
        ]
        scores = weights + log_weight
        probs = np.exp(scores - np.logaddexp.reduce(scores))
        assert np.max(np.abs(got.states[:, 0] - probs)) < 1e-14
        assert np.max(np.abs(got.mean[:, 0] - probs @ mean)) < 1e-13
        assert len(parts) == 4
    again = this.infer(node=tuple(0 * part for part in this.node))
    assert_identical(got, again)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(1, 1e-12), (1e4, 1e-10), (1e8, 1e-6)]
)
def test_states_of_a_mixture_in_moment_form(precision, tolerance):
    """q(z = k) is proportional to pi_k N(m; mu_k, V + S_k), Lin et al. Section 3."""
    this = case("gmm")
    rng = np.random.default_rng(3)
    m, V = rng.standard_normal((3, 2)), np.eye(2) / precision
    node = np.full((3, 1, 2), -0.5 * precision), (precision * m)[:, None]
    got = this.infer(node=node)
    means, _, log_weight = this.latent.family["components"].to_free(
        this.graph["components"]
    )
    covs = np.linalg.inv(-2 * this.graph["components"][0])
    for n in range(3):
        scores = this.graph["weights"][0] + log_weight
        scores = scores + [
            scipy_stats.multivariate_normal(mean, cov + V).logpdf(m[n])
            for mean, cov in zip(means, covs, strict=True)
        ]
        probs = np.exp(scores - np.logaddexp.reduce(scores))
        assert np.max(np.abs(got.states[n, 0] - probs)) < tolerance
        gains = covs @ np.linalg.inv(covs + V)
        mean = probs @ (means + np.einsum("kij,kj->ki", gains, m[n] - means))
        assert np.max(np.abs(got.mean[n, 0] - mean)) < tolerance
    assert np.all(np.isfinite(got.kl))


@pytest.mark.parametrize("name", NAMES)
def test_strong_evidence_determines_x(name):
    this = case(name)
    points = np.random.default_rng(5).standard_normal(this.node[1].shape)
    strong = this._replace(node=(0 * points - 0.5e8, 1e8 * points))
    got = strong.infer()
    assert np.max(np.abs(got.mean - points)) < 1e-6
    want = [law.kl(this.stats) for law in strong.laws()]
    assert relative_error(got.kl, want) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_potentials_without_a_gaussian_are_refused_with_their_place(name):
    this = case(name)
    J = this.node[0].copy()
    step = 0 if name == "gmm" else 2
    J[1, step] = 1e3
    with pytest.raises(NotPositiveDefinite) as raised:
        this.infer(node=(J, this.node[1]))
    assert (raised.value.sequence, raised.value.step) == (1, step)
