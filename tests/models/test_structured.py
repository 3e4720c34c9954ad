"""Structured inference networks: enumeration, exact evidences, differences."""

from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
import pytest
from scipy import stats as scipy_stats

from svae import NotPositiveDefinite
from svae.autodiff.trees import leaves, rebuild
from svae.families import product
from svae.models import belief_after
from svae.models.inference import structured
from svae.testing import (
    assert_identical,
    check_gradients,
    enumerated,
    latent_model,
    random_belief,
    relative_error,
    typical_graph,
    typical_natparams,
)
from tests.helpers.exact import quadrature
from tests.helpers.problems import quadrature_by_step

NAMES = ("gmm", "hmm", "lds", "affine-lds")
MIXTURES = ("gmm", "hmm")
KINDS = ("plain", "dense", "ragged", "gaps", "silent", "belief", "single", "zero")


class Case(NamedTuple):
    """Arguments of `structured.infer`."""

    latent: Any
    graph: Any
    stats: Any
    node: Any
    lengths: Any = None
    known: Any = {}

    def infer(self, noise=None, **changes):
        """Return the local factor."""
        return structured.infer(
            self.latent,
            changes.get("graph", self.graph),
            changes.get("stats", self.stats),
            changes.get("node", self.node),
            noise,
            self.lengths,
            **self.known,
            uniforms=changes.get("uniforms"),
        )

    def laws(self):
        """Return the enumeration of every sequence."""
        arguments = self.graph, self.stats, self.node, self.lengths
        return enumerated(self.latent, *arguments, **self.known)

    @property
    def live(self):
        """Mask (N, T) of the steps within the lengths."""
        number, steps = self.node[1].shape[:2]
        lengths = np.full(number, steps) if self.lengths is None else self.lengths
        return np.arange(steps) < lengths[:, None]


def case(name, kind="plain", seed=0):
    """A random graph, message and evidence; ``kind`` says what is special."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    latent = latent_model(name)
    family = latent.family
    stats = product.expected_stats(family, typical_natparams(latent, rng))
    graph = product.from_free(family, typical_graph(latent, rng))
    number, steps = 3, 1 if latent.independent or kind == "single" else 4
    shape = number, steps, latent.latent_dim
    J = -rng.uniform(0.1, 1.0, shape)
    if kind == "dense":
        root = rng.standard_normal((*shape, shape[-1]))
        J = -0.3 * root @ np.swapaxes(root, -1, -2)
    h = rng.standard_normal(shape)
    lengths, known = None, {}
    if kind == "ragged":
        lengths = np.array([min(n, steps) for n in (2, 4, 1)])
        past = np.arange(steps) >= lengths[:, None]
        J[past] = h[past] = np.nan
    if kind in ("gaps", "silent"):
        observed = rng.random(shape[:2]) < 0.5 * (kind == "gaps")
        observed[0, 0], observed[2, -1] = False, kind == "gaps"
        J[~observed], h[~observed] = 0.0, 0.0
        known["observed"] = observed
    if kind == "belief":
        num_states = getattr(latent, "num_states", None)
        belief = random_belief(rng, [True, False, True], 2, num_states)
        observed = np.ones(shape[:2], dtype=bool)
        observed[belief.given, 0] = False
        J[~observed], h[~observed] = 0.0, 0.0
        known = {"belief": belief, "observed": observed}
    if kind == "zero":
        J, h = 0 * J, 0 * h
    return Case(latent, graph, stats, (J, h), lengths, known)


def cases(*without):
    """Parametrize a test over the models and what is special about the evidence."""
    pairs = [
        (name, kind)
        for name in NAMES
        for kind in KINDS
        if kind not in without and not (name == "gmm" and kind in ("belief", "single"))
    ]
    return pytest.mark.parametrize(("name", "kind"), pairs)


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
        this.node,
        None,
        this.lengths,
        **this.known,
        without_data=this.latent.without_data(this.stats),
    )
    for stats in (this.graph, this.stats, theta):
        got = this.latent.expected_log_density(stats, q)
        want = [law.expected_log_density(stats) for law in this.laws()]
        assert relative_error(got, want) < 1e-10
    assert relative_error(q.evidence, [law.evidence for law in this.laws()]) < 1e-10


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


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_alone_is_the_same_in_a_ragged_batch(name):
    rng = np.random.default_rng(4)
    this = case(name)
    steps = 1 if name == "gmm" else 150
    lengths = np.minimum([37, 150, 1, 8, 129], steps)
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
        assert_identical(alone.log_normalizer[0], whole.log_normalizer[n])
        # sums over time, padded or not, add up in another order
        assert relative_error(whole.kl[n], alone.kl[0]) < 1e-13
        for field in ("mean", "second_moment", "states"):
            if getattr(alone, field) is not None:
                got = getattr(whole, field)[n, :length]
                assert_identical(getattr(alone, field)[0], got)
        assert_identical(alone.samples[0], whole.samples[n, :, :length])


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


# Samples


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
    observed = None if this.latent.coupled else this.known.get("observed")
    got = structured.log_density(
        this.latent, this.graph, this.node, local, this.lengths, observed
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
    field = this.latent.infer(
        this.stats, this.node, None, this.lengths, observed=this.known.get("observed")
    )
    told = this.known.get("observed", this.live).any(axis=1)
    assert np.all((best.log_normalizer > field.log_normalizer + 1e-9)[told])
    assert np.max(best.log_normalizer - field.log_normalizer) > 1e-3
    assert np.all(best.log_normalizer < field.log_normalizer + 1.0)
    for law, free, log_normalizer in zip(
        this.laws(), this.infer().kl, best.log_normalizer, strict=True
    ):
        assert law.evidence - free < log_normalizer + 1e-12
