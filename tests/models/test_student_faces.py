"""Student-t mixtures through SVI and SVAE; arguments that make no sense."""

import autograd.numpy as anp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import gamma

import svae
from svae import SVAE, SVI, StudentMixture
from svae.autodiff.trees import leaves, rebuild
from svae.autodiff.vjp import trace
from svae.families import niw, product
from svae.objective.local import local_terms
from svae.testing import (
    typical_natparams,
)
from tests.helpers.students import structured_problem, student_points


@pytest.mark.parametrize(
    "latent",
    [StudentMixture(2, 2, dof=3.0), StudentMixture(2, 2, learn_dof=True)],
    ids=["known", "learned"],
)
def test_the_face_of_svi(latent, rng, tmp_path):
    x, labels = student_points(rng, 300, [3.0, 3.0], 10.0)
    x[7] = np.nan
    model = SVI(latent).fit(x, num_steps=30, tolerance=1e-9, rng=0)
    assert set(model.history_) >= {"objective", "backtracks", "step_size"}
    posterior = model.infer(x)
    assert posterior.states.shape == (300, 2)
    assert posterior.elbo == pytest.approx(299 * model.score(x), rel=1e-12)
    kept = np.arange(300) != 7
    nmi = svae.metrics.normalized_mutual_information(
        labels[kept], model.predict(x)[kept]
    )
    assert nmi > 0.85
    # a single theta has a normalised density: the mean one is nearly the best
    assert model.score(x, theta="mean") > model.score(x)
    sample = model.sample(500, rng=1)
    assert sample.shape == (500, 2)
    np.testing.assert_array_equal(sample, model.sample(500, rng=1))
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert (type(loaded), loaded.latent) == (SVI, latent)
    assert loaded.score(x) == model.score(x)
    np.testing.assert_array_equal(loaded.sample(20, rng=3), model.sample(20, rng=3))
    with pytest.raises(ValueError, match="2 dimensions.*StudentMixture.*latent_dim=3"):
        SVI(StudentMixture(2, 3)).fit(x)


@pytest.mark.parametrize(
    "inference, options",
    [
        ("svae", {}),
        ("svae", {"learn_dof": True}),
        ("sin", {"learn_dof": True}),
        ("sin", {"learn_dof": True, "tails": "sampled"}),
    ],
)
def test_the_face_of_svae(inference, options, rng, tmp_path):
    x, _ = student_points(rng, 120, [3.0, 3.0], 6.0)
    x[4], x[9, 1] = np.nan, np.nan
    latent = StudentMixture(3, 2, **options)
    network = svae.MLP((8,))
    model = SVAE(latent, network, network, inference=inference)
    model.fit(x, num_steps=20, warmup=5, batch_size=30, rng=0)
    again = SVAE(latent, network, network, inference=inference)
    again.fit(x, num_steps=20, warmup=5, batch_size=30, rng=0)
    first = model.history_["objective"]
    np.testing.assert_array_equal(first, again.history_["objective"])
    assert np.all(np.isfinite(first)) and first[-5:].mean() > first[:5].mean()
    assert model.predict(x).shape == (120,)
    assert model.transform(x).shape == (120, 2)
    assert np.isfinite(model.score(x))
    tight = model.score(x, num_importance_samples=50)
    assert tight > model.score(x, num_samples=50)
    assert np.isfinite(model.score(x, num_importance_samples=5, theta="sample"))
    assert model.sample(7, rng=0).shape == (7, 2)
    completed = model.impute(x)
    assert np.all(np.isfinite(completed))
    model.save(tmp_path / "model.npz")
    loaded = svae.load(tmp_path / "model.npz")
    assert (loaded.latent, loaded.inference) == (latent, inference)
    assert loaded.score(x) == model.score(x)
    with pytest.raises(TypeError, match="rows of StudentMixture are independent"):
        model.forecast(x, 3)


@pytest.mark.parametrize("inference", ["svae", "sin"])
def test_importance_scores_grow_to_the_evidence(inference, rng):
    """Of a Student-t plus Gaussian noise: an integral over the scale."""
    y, variance = np.array([[0.3], [-2.5], [9.0]]), 0.05
    latent = StudentMixture(1, 1, dof=4.0)
    options = {"likelihood": "gaussian", "inference": inference}
    model = SVAE(latent, svae.Linear(), svae.Linear(), **options)
    model.fit(y, num_steps=1, start="random", rng=0)
    encoder = {
        "location": (np.eye(1) / variance, np.zeros(1)),
        "log_scale": np.full(1, -np.log(variance)),
    }
    if inference == "sin":
        encoder = model.parameters_.encoder | {"network": encoder}
    decoder = {
        "location": (np.eye(1), np.zeros(1)),
        "log_scale": np.full(1, np.log(variance)),
    }
    q = typical_natparams(latent, rng)
    model.parameters_ = model.parameters_._replace(
        natparams=q, encoder=encoder, decoder=decoder
    )
    mean, precision = (part[0] for part in niw.mean(q["components"]))
    evidence = 0.0
    for (value,) in y:

        def density(u, value=value):
            spread = 1 / (precision[0, 0] * u) + variance
            normal = np.exp(-0.5 * (value - mean[0]) ** 2 / spread)
            return normal / np.sqrt(2 * np.pi * spread) * gamma(2, scale=0.5).pdf(u)

        pieces = ((0, 0.01), (0.01, 1), (1, 10), (10, 50))
        parts = [quad(density, *piece, epsabs=1e-13)[0] for piece in pieces]
        evidence += np.log(sum(parts)) / 3
    many = model.score(y, num_importance_samples=4000)
    assert many == pytest.approx(evidence, abs=0.02)
    assert model.score(y, 500) < evidence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dof": 0.0}, "dof must be a positive number, got 0.0"),
        ({"dof": -1.0}, "dof must be"),
        ({"dof": np.inf}, "dof must be"),
        ({"dof": np.nan}, "dof must be"),
        ({"tails": "heavy"}, "tails must be one of"),
        ({"num_states": 0}, "num_states must be"),
        ({"starts": ()}, "starts must be"),
    ],
)
def test_words_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        StudentMixture(**options)


@pytest.mark.filterwarnings("ignore:state 1 has 100 % of the frames")
def test_sampled_tails_need_a_structured_inference_network(rng):
    x = rng.standard_normal((20, 2))
    latent = StudentMixture(2, 2, tails="sampled")
    with pytest.raises(ValueError, match="inference='sin'"):
        SVAE(latent, svae.Linear(), svae.Linear()).fit(x, num_steps=1)
    # and known x have no samples
    SVI(latent).fit(x, num_steps=2, rng=0)


def test_structured_inference_has_no_warm_start(rng):
    model = SVAE(StudentMixture(2, 2), svae.Linear(), svae.Linear(), inference="sin")
    with pytest.raises(ValueError, match="warm_start.*inference='sin'.*no iterations"):
        model.fit(rng.standard_normal((20, 2)), num_steps=1, warm_start=True)
    assert not hasattr(model, "parameters_")


def test_terms_are_leaves_of_the_message(rng):
    """The bound is differentiable in every leaf of m, that of log nu included."""
    model, parameters, _, batch, noise = structured_problem(
        "learned-student", "augmented"
    )
    message = product.expected_stats(model.latent.family, parameters.natparams)

    def value(*boxes):
        _, local = local_terms(
            model,
            rebuild(message, boxes),
            parameters.encoder,
            parameters.decoder,
            batch,
            noise.latents,
        )
        return (anp.sum(local.kl),)

    pull_back, _ = trace(value, leaves(message))
    assert all(np.any(bar != 0) for bar in pull_back(1.0))
