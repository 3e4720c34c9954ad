"""Priors in standard terms: what they set, what they refuse, how they are kept."""

import copy
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest

import svae
from svae.families import dirichlet, gaussian, mniw, niw
from svae.priors import MNIW, NIW, Dirichlet, Normal

K, D = 4, 3
LIN = {
    "weights": Dirichlet(0.05 / K),
    "components": NIW(mean=0, kappa=0.5, scale=D + 0.5, dof=2 * D + 0.5),
}
MODELS = (
    svae.GMM(K, D),
    svae.StudentMixture(K, D, learn_dof=True),
    svae.HMM(K, D, concentration=2.0, sticky=5.0),
    svae.LDS(D, affine=True, noise_variance=0.3),
    svae.SLDS(K, D, affine=True, noise_variance=0.3),
)
each_model = pytest.mark.parametrize("latent", MODELS, ids=lambda m: type(m).__name__)


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name, factor in want.items():
        for mine, theirs in zip(got[name], factor, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_prior_of_lin_hubacher_and_khan():
    for kind in (svae.GMM, svae.StudentMixture):
        prior = kind(K, D, prior=LIN).prior()
        (alpha,) = dirichlet.to_standard(prior["weights"])
        np.testing.assert_allclose(alpha, np.full(K, 0.05 / K), rtol=1e-12)
        mean, kappa, scale, dof = niw.to_standard(prior["components"])
        np.testing.assert_array_equal(mean, np.zeros((K, D)))
        np.testing.assert_array_equal(kappa, np.full(K, 0.5))
        np.testing.assert_array_equal(scale, np.tile((D + 0.5) * np.eye(D), (K, 1, 1)))
        np.testing.assert_array_equal(dof, np.full(K, 2 * D + 0.5))


def test_the_default_of_a_mixture_is_that_of_johnson_et_al():
    prior = svae.GMM(K, D).prior()
    np.testing.assert_array_equal(prior["weights"][0], np.full(K, 0.05 / K))
    want = niw.from_standard(
        np.zeros((K, D)),
        np.full(K, 0.5),
        np.tile((D + 0.5) * np.eye(D), (K, 1, 1)),
        np.full(K, D + 0.5),
    )
    assert_same({"components": prior["components"]}, {"components": want})


@each_model
def test_nothing_given_is_the_default(latent):
    for prior in (None, {}):
        other = replace(latent, prior=prior)
        assert other == latent
        assert hash(other) == hash(latent)
        assert_same(other.prior(), latent.default_prior())


@each_model
def test_a_factor_that_is_not_named_keeps_the_default(latent):
    given, default = replace(latent, **changed(latent)).prior(), latent.prior()
    name = next(iter(changed(latent)["prior"]))
    assert any(
        np.any(mine != theirs)
        for mine, theirs in zip(given.pop(name), default.pop(name), strict=True)
    )
    assert_same(given, default)


@each_model
def test_shapes_are_those_of_the_default(latent):
    given, default = replace(latent, **changed(latent)).prior(), latent.prior()
    for name, factor in default.items():
        shapes = [np.shape(part) for part in given[name]]
        assert shapes == [np.shape(part) for part in factor]


@each_model
def test_saved_and_read_again(latent, tmp_path):
    latent = replace(latent, **changed(latent))
    model = svae.SVAE(latent, svae.Linear(), svae.Linear())
    data = np.random.default_rng(0).standard_normal((40, 4))
    if not latent.independent:
        data = data[None]
    model.fit(data, num_steps=1, warmup=None, rng=0)
    model.save(tmp_path / "model.npz")
    again = svae.load(tmp_path / "model.npz").latent
    assert again == latent
    assert_same(again.prior(), latent.prior())


@each_model
def test_copies_are_equal(latent):
    latent = replace(latent, **changed(latent))
    for other in (copy.deepcopy(latent), pickle.loads(pickle.dumps(latent))):
        assert other == latent
        assert_same(other.prior(), latent.prior())
    assert latent != replace(latent, prior=None)


def test_numbers_not_given_are_those_of_the_default():
    latent = svae.SLDS(K, D, noise_variance=0.3)
    loose = replace(latent, prior={"dynamics": MNIW(column_cov=10 / (2 * D))})
    mean, column_cov, scale, dof = mniw.to_standard(loose.prior()["dynamics"])
    want = mniw.to_standard(latent.prior()["dynamics"])
    np.testing.assert_allclose(column_cov, 10 * want[1], rtol=1e-12)
    for mine, theirs in zip((mean, scale, dof), (want[0], *want[2:]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_numbers_vectors_and_matrices_say_the_same():
    number = svae.LDS(D, prior={"init": NIW(1.0, 2.0, 3.0, 4.0)})
    vector = svae.LDS(D, prior={"init": NIW([1.0] * D, 2.0, [3.0] * D, 4.0)})
    matrix = svae.LDS(D, prior={"init": NIW(np.ones(D), 2, 3 * np.eye(D), 4)})
    assert_same(vector.prior(), number.prior())
    assert_same(matrix.prior(), number.prior())


def test_dynamics_around_a_multiple_of_the_identity():
    latent = svae.SLDS(K, D, affine=True, prior={"dynamics": MNIW(mean=0.9)})
    mean, *_ = mniw.to_standard(latent.prior()["dynamics"])
    np.testing.assert_allclose(mean[1], 0.9 * np.eye(D, D + 1), rtol=1e-12)


def test_each_state_has_its_own():
    means = np.arange(K * D).reshape(K, D)
    scales = np.arange(1, K + 1)[:, None, None] * np.eye(D)
    components = NIW(mean=means, scale=scales, dof=np.arange(K) + D)
    latent = svae.HMM(K, D, prior={"components": components})
    mean, _, scale, dof = niw.to_standard(latent.prior()["components"])
    np.testing.assert_allclose(mean, means, rtol=1e-12)
    np.testing.assert_allclose(scale, scales, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(dof, np.arange(K) + D)


def test_rows_of_transitions():
    row, matrix = np.arange(1.0, K + 1), 1.0 + np.eye(K)
    by_row = svae.HMM(K, D, prior={"transitions": Dirichlet(row)})
    (alpha,) = dirichlet.to_standard(by_row.prior()["transitions"])
    np.testing.assert_array_equal(alpha, np.tile(row, (K, 1)))
    sticky = svae.HMM(K, D, prior={"transitions": Dirichlet(matrix)})
    assert_same(sticky.prior(), svae.HMM(K, D, sticky=1.0).prior())


def test_the_dof_of_tails():
    latent = svae.StudentMixture(
        K, D, learn_dof=True, prior={"dof": Normal(np.log(30.0), 0.25)}
    )
    mean, cov = gaussian.to_standard(latent.prior()["dof"])
    np.testing.assert_allclose(mean, np.full((K, 1), np.log(30.0)), rtol=1e-12)
    np.testing.assert_allclose(cov, np.full((K, 1, 1), 0.25), rtol=1e-12)


def test_components_start_around_the_mean_of_their_prior():
    rng = np.random.default_rng
    latent, shift = svae.GMM(K, D), np.array([10.0, -20.0, 30.0])
    moved = replace(latent, prior={"components": NIW(mean=shift)})
    means = [
        niw.to_standard(each.initial_posterior(rng(0))["components"])[0]
        for each in (latent, moved)
    ]
    np.testing.assert_allclose(means[1], means[0] + shift, rtol=1e-12)


def test_a_sparse_prior_of_weights_empties_components():
    points, _ = svae.data.pinwheel(num_per_class=40, rng=0)
    used = []
    for alpha in (0.01, 100.0):
        latent = svae.GMM(10, 2, prior={"weights": Dirichlet(alpha)})
        states = svae.SVI(latent).fit(points, rng=0).predict(points)
        used.append(len(np.unique(states)))
    assert used[0] < used[1]


def test_steps_of_a_linear_model_start_at_the_scale_of_its_prior():
    wide = svae.LDS(D, noise_variance=0.3)
    given = svae.LDS(D, prior={"dynamics": MNIW(scale=0.3 * (D + 1))})
    np.testing.assert_allclose(given.step_variance, wide.step_variance, rtol=1e-12)


def test_shown_where_it_is_given():
    model = svae.SVAE(svae.GMM(K, D, prior=LIN), svae.Linear(), svae.Linear())
    assert model.get_params()["latent__prior"] == LIN
    assert f"prior={LIN!r}" in repr(model)
    assert "NIW(mean=0.0, kappa=0.5, scale=3.5, dof=6.5)" in repr(model)
    model.set_params(latent__prior=None)
    assert model.latent == svae.GMM(K, D)


def test_what_is_given_is_kept_apart_from_what_is_taken():
    given = dict(LIN)
    latent = svae.GMM(K, D, prior=given)
    given.clear()
    assert latent.prior == LIN


class Sparse(svae.GMM):
    """A subclass with a prior of its own, a method."""

    def prior(self):
        return super().prior() | {"weights": dirichlet.from_standard(np.full(K, 0.5))}


@dataclass(frozen=True)
class Denser(Sparse):
    """Another, with a field and a decorator."""

    alpha: float = 3.0

    def prior(self):
        return super().prior() | {
            "weights": dirichlet.from_standard(np.full(K, self.alpha))
        }


@pytest.mark.parametrize("kind, alpha", [(Sparse, 0.5), (Denser, 3.0)])
def test_a_subclass_may_have_a_method(kind, alpha):
    latent = kind(K, D)
    np.testing.assert_array_equal(latent.prior()["weights"][0], alpha - 1.0)
    assert latent == kind(K, D)
    given = kind(K, D, prior={"weights": Dirichlet(7.0)})
    np.testing.assert_array_equal(given.prior()["weights"][0], np.full(K, 6.0))


@pytest.mark.parametrize(
    "prior, message",
    [
        ([1], "prior must be a dict"),
        ({"component": NIW()}, "GMM has no factor 'component'.*'components'"),
        ({"components": Dirichlet(1.0)}, r"prior\['components'\] must be .*NIW"),
        ({"components": 3.0}, r"prior\['components'\] must be .*NIW"),
        ({"components": NIW(dof=D - 1)}, r"prior\['components'\].dof must be more"),
        ({"components": NIW(mean=[1, 2])}, r"\].mean must be .*\(3,\).*got \(2,\)"),
        ({"components": NIW(kappa=[1, 2])}, r"\].kappa must be .*\(4,\).*got \(2,\)"),
        ({"components": NIW(scale=np.eye(2))}, r"\].scale must be .*got \(2, 2\)"),
        ({"weights": Dirichlet([1.0, 2.0])}, r"\].concentration must be .*\(4,\)"),
    ],
)
def test_what_does_not_fit_the_model_is_named(prior, message):
    with pytest.raises(ValueError, match=message):
        svae.GMM(K, D, prior=prior)


@pytest.mark.parametrize(
    "kind, given, message",
    [
        (Dirichlet, {"concentration": 0.0}, "concentration must be positive"),
        (Dirichlet, {"concentration": [1, np.nan]}, "concentration must be finite"),
        (Dirichlet, {"concentration": "many"}, "concentration must be finite numbers"),
        (NIW, {"mean": [[1], [1, 2]]}, "mean must be finite numbers"),
        (NIW, {"kappa": -1.0}, "kappa must be positive"),
        (NIW, {"scale": [1.0, 0.0]}, "scale must be positive"),
        (NIW, {"scale": [[1.0, 2.0], [2.0, 1.0]]}, "scale must be symmetric and"),
        (NIW, {"dof": 0}, "dof must be positive"),
        (MNIW, {"column_cov": [[1.0, 0.5], [0.0, 1.0]]}, "column_cov must be symm"),
        (Normal, {"cov": 0.0}, "cov must be positive"),
    ],
)
def test_numbers_that_no_model_could_take_are_named(kind, given, message):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {message}"):
        kind(**given)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: svae.HMM(K, D, sticky=5.0, prior={"transitions": Dirichlet(1.0)}),
            "sticky=5.0 has no effect",
        ),
        (
            lambda: svae.LDS(D, noise_variance=0.1, prior={"dynamics": MNIW(scale=1)}),
            "noise_variance=0.1 has no effect",
        ),
        (
            lambda: svae.SLDS(
                K,
                D,
                concentration=2.0,
                prior={"weights": Dirichlet(1.0), "transitions": Dirichlet(1.0)},
            ),
            "concentration=2.0 has no effect",
        ),
    ],
)
def test_nothing_is_said_twice(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def changed(latent):
    """Return a prior of one factor that differs from the default of a model."""
    if "dynamics" in latent.family:
        return {"prior": {"dynamics": MNIW(mean=0.5)}}
    return {"prior": {"components": NIW(mean=np.arange(D), dof=D + 2.5)}}
