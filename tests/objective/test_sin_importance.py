"""Structured inference networks: weights of the posterior and scores."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from svae.families import product
from svae.objective.local import log_proposal
from svae.queries.importance import importance_scores
from svae.queries.posteriors import inferences
from tests.helpers.exact import (
    with_gaps,
)
from tests.helpers.inference_networks import (
    LINEAR,
    disturbed,
    is_told,
    known_world,
    laws_of_batch,
)


def wide_world(name, count=1e12):
    """A world whose network believes less than it could: q covers the posterior."""
    this = known_world(name, count)
    network = this.parameters.encoder["network"]
    share = np.exp(-0.5)
    wider = {
        "location": tuple(share * part for part in network["location"]),
        "log_scale": network["log_scale"] - 0.5,
    }
    encoder = this.parameters.encoder | {"network": wider}
    return this._replace(parameters=this.parameters._replace(encoder=encoder))


def scores(this, sequences, count, theta="mean", seed=0):
    """Importance scores of all sequences, (N,)."""
    rng = np.random.default_rng(seed)
    arguments = this.model, this.parameters, sequences, count, theta, rng
    return np.array(list(importance_scores(*arguments)))


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("kind", ["none", "frames", "all"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_weight_of_the_posterior_is_the_evidence(name, kind, count):
    """However many there are: published code subtracts S in the place of log S."""
    this = known_world(name)
    frames = with_gaps(np.random.default_rng(3), (4, 3), kind)
    want = this.evidence(frames)
    (got,) = scores(this, [frames], count)
    # what concentrated() leaves of the uncertainty of theta
    assert abs(got - want) < 1e-8 * max(1.0, abs(want))


@pytest.mark.parametrize("theta", ["mean", "sample"])
@pytest.mark.parametrize("name", LINEAR)
def test_every_weight_is_what_the_definition_says(name, theta):
    this = disturbed(known_world(name, 20.0), np.random.default_rng(4))
    family, natparams = this.model.latent.family, this.parameters.natparams
    frames = with_gaps(np.random.default_rng(0), (4, 3), "frames")
    got = scores(this, [frames], 3, theta, seed=5)[0]
    rng = np.random.default_rng(5)  # the same draws again, in the same order
    (inference,) = inferences(this.model, this.parameters, [frames], 3, rng, joint=True)
    thetas = [this.theta] * 3
    if theta == "sample":
        draws = product.sample(family, natparams, rng, 3)
        thetas = [
            {
                name: tuple(x[s] for x in draw) if isinstance(draw, tuple) else draw[s]
                for name, draw in draws.items()
            }
            for s in range(3)
        ]
    batch, local = inference.batch, inference.local
    laws = laws_of_batch(this.model, this.parameters, batch)
    logs = np.zeros(local.samples.shape[:2])
    for m, law in enumerate(laws):
        seen = batch.observed[m].any(axis=-1)
        if this.model.latent.independent and not seen.any():
            continue
        for s, x in enumerate(local.samples[m]):
            location, scale = this.model.decoder.apply(this.parameters.decoder, x)
            terms = scipy_stats.norm(location, np.sqrt(scale)).logpdf(batch.values[m])
            logs[m, s] = np.sum(terms[batch.observed[m]])
            stats = product.stats(family, thetas[s])
            log_prior = [law.joint(stats, path).log_density(x) for path in law.paths]
            logs[m, s] += np.logaddexp.reduce(log_prior) - law.log_density(x)
    want = np.sum(np.logaddexp.reduce(logs, axis=1) - np.log(3))
    assert abs(got - want) < 1e-8 * abs(want)
    proposals = log_proposal(this.model, this.parameters.encoder, batch, local)
    for law, samples, got in zip(laws, local.samples, proposals, strict=True):
        if is_told(law):
            assert np.max(np.abs(got - [law.log_density(x) for x in samples])) < 1e-10


@pytest.mark.parametrize("name", LINEAR)
def test_scores_grow_to_the_evidence(name):
    """Of sequences as of any others; with draws of a certain theta as well."""
    this = wide_world(name)
    frames = np.random.default_rng(6).standard_normal((4, 3))
    want = this.evidence(frames)
    few = np.mean(scores(this, [frames] * 100, 1))
    assert few < want - 0.3
    for theta in ("mean", "sample"):
        (many,) = scores(this, [frames], 4000, theta)
        assert abs(many - want) < 0.05
    fitted = this.fitted()
    assert fitted.score(frames, num_importance_samples=50) == pytest.approx(
        scores(this, [frames], 50)[0] / 4
    )
