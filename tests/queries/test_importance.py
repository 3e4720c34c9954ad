"""The importance-weighted score: its weights one by one, and what it tends to."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import logsumexp

from svae.families import product
from svae.likelihoods import Bernoulli
from svae.objective.batch import Batch
from svae.objective.local import expected, frame_log_likelihood, infer, local_factor
from svae.objective.model import initial_encoder
from svae.queries import importance
from svae.queries.importance import importance_score, importance_scores
from svae.queries.posteriors import inferences
from svae.testing import assert_identical, relative_error
from tests.helpers.exact import (
    CHAINS,
    NAMES,
    concentrated,
    log_evidence,
    log_prob_of_path,
    path_moments,
    paths,
    quadrature,
    with_gaps,
    world,
)

LOOSE = {"tolerance": 1e-8}
KINDS = ("none", "frames", "entries", "all")


def unsure(name, count=1e12, **options):
    """Return a world whose q(theta) has seen ``count`` observations of everything."""
    this = world(name, **options)
    natparams = concentrated(this.theta, count)
    return this._replace(parameters=this.parameters._replace(natparams=natparams))


def wider(this, by):
    """Let the encoder believe less, so that q covers the posterior and weights end."""
    matrix, offset = this.parameters.encoder["location"]
    share = np.exp(-by)
    encoder = {
        "location": (share * matrix, share * offset),
        "log_scale": this.parameters.encoder["log_scale"] - by,
    }
    return this._replace(parameters=this.parameters._replace(encoder=encoder))


def scores(this, sequences, count, theta="mean", seed=0):
    """Importance scores of all sequences, (N,)."""
    rng = np.random.default_rng(seed)
    arguments = this.model, this.parameters, sequences, count, theta, rng
    return np.array(list(importance_scores(*arguments)))


def evidence(this, frames):
    """Log p(y | theta), theta the mean of q(theta)."""
    return log_evidence(this.theta, this.parameters.decoder, frames)


def log_density_by_paths(theta, latents, kept):
    """Log p(x | theta) of the kept steps, by the dense joint of every path."""
    num_states = len(theta["weights"]) if "weights" in theta else 1
    terms = []
    for states in paths(range(num_states), repeat=len(latents)):
        mean, cov = path_moments(theta, states)
        mean, cov = mean[kept].ravel(), cov[kept][:, :, kept]
        law = scipy_stats.multivariate_normal(mean, cov.reshape(len(mean), -1))
        terms.append(
            log_prob_of_path(theta, states) + law.logpdf(latents[kept].ravel())
        )
    return logsumexp(terms)


def weights_by_definition(this, inference, thetas, stats):
    """Log p(y|x) p(x|theta) / q(x) of every sample, (M, S); dense joints of all."""
    batch, local = inference.batch, inference.local
    (M, T, _), S = batch.values.shape, local.samples.shape[1]
    decoder, D = this.parameters.decoder, 2
    matrix, offset = decoder["location"]
    deviation = np.exp(0.5 * decoder["log_scale"])
    observed = batch.observed
    if observed is None:
        observed = np.ones(batch.values.shape, dtype=bool)
    # quadrature gives all moments of q(x) over the whole sequence
    noise = quadrature(M, T, D)
    points = infer(
        this.model, stats, this.parameters.encoder, batch, noise, dense=True
    ).samples
    logs = np.zeros((M, S))
    for m in range(M):
        length = T if batch.lengths is None else batch.lengths[m]
        kept = np.arange(T) < length
        if not this.latent.coupled:
            kept &= observed[m].any(axis=-1)
        if not observed[m].any():  # no data: no likelihood
            continue
        flat = points[m][:, kept].reshape(len(points[m]), -1)
        of_q = scipy_stats.multivariate_normal(
            flat.mean(axis=0), np.cov(flat.T, bias=True)
        )
        for s in range(S):
            x = local.samples[m, s]
            law = scipy_stats.norm(x @ matrix + offset, deviation)
            logs[m, s] = np.sum(law.logpdf(batch.values[m])[observed[m]])
            logs[m, s] += log_density_by_paths(thetas[s], x[:length], kept[:length])
            logs[m, s] -= of_q.logpdf(x[kept].ravel())
    return logs


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_what_the_definition_says(name, kind, theta):
    this = unsure(name, 20.0)
    frames = with_gaps(np.random.default_rng(0), (4, 3), kind)
    family, natparams = this.latent.family, this.parameters.natparams
    got = scores(this, [frames], 3, theta, seed=5)[0]
    rng = np.random.default_rng(5)  # the same draws again, in the same order
    (inference,) = inferences(this.model, this.parameters, [frames], 3, rng)
    if theta == "mean":
        thetas = [this.theta] * 3
    else:
        draws = product.sample(family, natparams, rng, 3)
        thetas = [member(draws, s) for s in range(3)]
    message = product.expected_stats(family, natparams)
    logs = weights_by_definition(this, inference, thetas, message)
    want = np.sum(logsumexp(logs, axis=1) - np.log(3))
    assert abs(got - want) < 1e-8 * max(1.0, abs(want))


def member(draws, s):
    """Return draw number s of q(theta)."""
    return {
        name: tuple(x[s] for x in draw) if isinstance(draw, tuple) else draw[s]
        for name, draw in draws.items()
    }


@pytest.mark.parametrize("kind", ["none", "frames", "all"])
@pytest.mark.parametrize("name", ["gaussian", "lds"])
def test_weights_are_constant_where_q_is_the_posterior(name, kind, rng):
    """Exact potentials and a theta that is known: any sample gives the evidence."""
    this = world(name)
    frames = with_gaps(rng, (5, 3), kind)
    for count in (1, 3):
        (got,) = scores(this, [frames], count)
        assert abs(got - evidence(this, frames)) < 1e-6


@pytest.mark.parametrize("kind", ["none", "frames", "entries"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_tend_to_the_evidence_at_the_mean_of_theta(name, kind, rng):
    """Of a model with linear decoder, the states summed out."""
    this = wider(unsure(name, 12.0, spread=0.4), 0.7)
    frames = with_gaps(rng, (3, 3), kind)
    (got,) = scores(this, [frames], 4000)
    assert abs(got - evidence(this, frames)) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_more_samples_raise_the_score_in_expectation(name, rng):
    """Up to the evidence, from no less than the bound."""
    repeats = 192
    this = wider(world(name, **({} if name in ("gaussian", "lds") else LOOSE)), 0.7)
    frames = with_gaps(rng, (3, 3), "entries")
    many = [frames] * repeats
    if this.latent.independent:  # one long sequence of rows
        many = [np.concatenate(many)]
    ladder = [np.sum(scores(this, many, count)) / repeats for count in (1, 4, 40)]
    assert np.all(np.diff(ladder) > 0)
    assert ladder[-1] < evidence(this, frames) + 0.02
    bound = this.fitted().infer(frames, num_samples=4000, rng=1).elbo
    assert bound < ladder[0] + 0.1
    assert bound < ladder[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_log_weight_is_the_bound_but_for_the_states(name, rng):
    """By quadrature: E log p(y|x) + E log p(x|theta) - E log q(x)."""
    this = world(name)
    frames = rng.standard_normal((3, 3))
    values = frames[:, None] if this.latent.independent else frames[None]
    batch = Batch(values)
    noise = quadrature(*values.shape[:2], 2)
    local = local_factor(
        this.model, this.stats, this.parameters.encoder, batch, noise, dense=True
    )
    frames = frame_log_likelihood(
        this.model, this.parameters.decoder, batch, local.samples
    )
    entropy = values.shape[1] * (1 + np.log(2 * np.pi)) - local.half_log_det
    latents = np.swapaxes(local.samples, 0, 1)
    densities = [this.latent.log_density(this.stats, x) for x in latents]
    reconstruction = expected(frames, local.weights)
    upper = reconstruction + np.mean(densities, axis=0) + entropy
    elbo = reconstruction - local.kl
    if name in ("gaussian", "lds"):
        assert relative_error(upper, elbo) < 1e-12
    else:  # q(z) costs what it differs from p(z | x)
        assert np.all(upper > elbo)


@pytest.mark.parametrize("name", NAMES)
def test_draws_of_theta_integrate_theta_out(name, rng):
    """Log mean p(y | theta_s), by direct Monte Carlo with the exact evidence."""
    this = wider(unsure(name, 60.0), 0.4)
    frames = rng.standard_normal((2, 3))
    (got,) = scores(this, [frames], 4000, "sample")
    family, decoder = this.latent.family, this.parameters.decoder
    draws = product.sample(family, this.parameters.natparams, rng, 700)
    # rows of independent models are integrated one by one
    rows = frames[:, None] if this.latent.independent else [frames]
    logs = np.array(
        [
            [log_evidence(member(draws, s), decoder, row) for row in rows]
            for s in range(700 if family else 1)
        ]
    )
    integrals = logsumexp(logs, axis=0) - np.log(len(logs))
    errors = np.std(np.exp(logs - integrals), axis=0) / np.sqrt(len(logs))
    assert np.sum(errors) < 0.03
    assert abs(got - np.sum(integrals)) < 0.12


@pytest.mark.parametrize("name", CHAINS)
def test_weights_of_ragged_sequences_are_what_the_definition_says(name, rng):
    this = unsure(name, 20.0)
    kinds = ((4, "none"), (3, "entries"), (5, "frames"), (1, "none"))
    sequences = [with_gaps(rng, (n, 3), kind) for n, kind in kinds]
    got = scores(this, sequences, 2, seed=5)
    again = np.random.default_rng(5)
    (inference,) = inferences(this.model, this.parameters, sequences, 2, again)
    message = product.expected_stats(this.latent.family, this.parameters.natparams)
    logs = weights_by_definition(this, inference, [this.theta] * 2, message)
    assert relative_error(got, logsumexp(logs, axis=1) - np.log(2)) < 1e-9


def test_score_is_per_frame_and_seeded(rng):
    this = world("hmm")
    model = this.fitted()
    sequences = [rng.standard_normal((n, 3)) for n in (4, 6)]
    total = np.sum(scores(this, sequences, 7, seed=3))
    got = model.score(sequences, num_importance_samples=7, rng=3)
    assert got == pytest.approx(total / 10, rel=1e-13)
    assert_identical(got, model.score(sequences, num_importance_samples=7, rng=3))
    assert got != model.score(sequences, num_importance_samples=7, rng=4)


def test_a_bernoulli_score_tends_to_the_evidence_on_a_grid(rng):
    this = wider(world("gaussian"), 3.0)
    this = this._replace(model=this.model._replace(likelihood=Bernoulli()))
    frames = 1.0 * (rng.standard_normal((2, 3)) > 0)
    frames[1, 2] = np.nan
    (got,) = scores(this, [frames], 20000)
    matrix, offset = this.parameters.decoder["location"]
    axis = np.linspace(-7, 7, 281)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    odds = grid @ matrix + offset
    prior = -0.5 * np.sum(grid**2, axis=1) - np.log(2 * np.pi)
    want = 0.0
    for frame in frames:
        terms = (frame * odds - np.logaddexp(odds, 0.0))[:, ~np.isnan(frame)]
        want += logsumexp(prior + terms.sum(axis=1)) + 2 * np.log(axis[1] - axis[0])
    assert abs(got - want) < 0.05


@pytest.fixture
def limit(monkeypatch):
    """Let at most so many numbers be drawn at a time."""
    return lambda numbers: monkeypatch.setattr(importance, "NUMBERS", numbers)


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("name", [*NAMES, "sin-gmm", "sin-hmm"])
def test_scores_do_not_depend_on_how_draws_are_divided(name, theta, rng, limit):
    """Not on their memory, and then what is drawn next does not either."""
    inference = "sin" if name.startswith("sin") else "svae"
    this = wider(unsure(name.removeprefix("sin-"), 20.0), 0.4)
    model = this.model._replace(inference=inference)
    encoder = initial_encoder(model, this.parameters.natparams, this.parameters.encoder)
    this = this._replace(
        model=model, parameters=this.parameters._replace(encoder=encoder)
    )
    sequences = [with_gaps(rng, (n, 3), "frames") for n in (4, 7, 3)]
    found, after = [], []
    for numbers in (2**22, 4000, 60, 1):
        limit(numbers)
        again = np.random.default_rng(2)
        arguments = this.model, this.parameters, sequences, 9, theta, again
        found.append(importance_score(*arguments))
        after.append(again.random())
    assert len(set(after)) == 1
    for got in found[1:]:
        for part, want in found[0]._asdict().items():
            assert relative_error(getattr(got, part), want) < 1e-11


def test_draws_that_are_divided_take_bounded_memory(rng, limit):
    """Of 1000 samples no more than a hundred are there at a time."""
    this = world("lds")
    frames = rng.standard_normal((50, 3))
    limit(2**13)

    def peak(number):
        tracemalloc.start()
        scores(this, [frames], number)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(1000) < 1.5 * peak(100)
    assert peak(1000) < 8 * 1000 * 50 * 2  # the draws alone


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("name", ["lds", "gmm"])
def test_the_standard_error_is_that_of_repeated_scores(name, theta, rng):
    this = wider(unsure(name, 60.0), 0.4)
    sequences = [rng.standard_normal((3, 3)) for _ in range(3)]
    found = [
        importance_score(
            this.model,
            this.parameters,
            sequences,
            60,
            theta,
            np.random.default_rng(seed),
        )
        for seed in range(40)
    ]
    spread = np.std([each.score for each in found], ddof=1)
    told = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert 0.6 < told / spread < 1.6
    sizes = np.array([each.effective_samples for each in found])
    assert sizes.shape == (40, 3)
    assert np.all((sizes >= 1) & (sizes <= 60))


def test_effective_samples_are_all_where_q_is_the_posterior(rng):
    this = world("lds")
    frames = rng.standard_normal((5, 3))
    got = this.fitted().score(frames, num_importance_samples=50, detailed=True)
    assert got.effective_samples == pytest.approx([50.0], rel=1e-9)
    assert got.standard_error < 1e-6
    assert got.score == this.fitted().score(frames, num_importance_samples=50)
    alone = this.fitted().score(frames, num_importance_samples=1, detailed=True)
    assert alone.standard_error == np.inf
    assert alone.effective_samples == pytest.approx([1.0])


@pytest.mark.parametrize(
    "options", [{"theta": "sample"}, {"detailed": True}], ids=["theta", "detailed"]
)
def test_what_is_of_the_weighted_bound_needs_its_samples(options, rng):
    model = world("lds").fitted()
    with pytest.raises(ValueError, match="num_importance_samples"):
        model.score(rng.standard_normal((3, 3)), **options)


def test_arguments_are_named(rng):
    model = world("lds").fitted()
    frames = rng.standard_normal((3, 3))
    with pytest.raises(ValueError, match="num_importance_samples"):
        model.score(frames, num_importance_samples=0)
    with pytest.raises(ValueError, match="theta"):
        model.score(frames, num_importance_samples=2, theta="median")
