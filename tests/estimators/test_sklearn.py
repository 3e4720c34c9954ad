"""`SVAE` and `SVI` inside scikit-learn: its own checks, pipelines, searches, frames."""

import inspect
import pickle

import numpy as np
import pytest

import svae
from svae import NotFitted

pytest.importorskip("sklearn")

import sklearn
from sklearn import utils
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

NETWORKS = {"encoder": svae.MLP((4,)), "decoder": svae.MLP((4,))}


class SVAE(svae.SVAE):
    """Fitted in a few steps of one seed."""

    def fit(self, data, y=None):
        return super().fit(data, y, num_steps=4, rng=0, warmup=None)


class SVI(svae.SVI):
    """Fitted in a few steps of one seed."""

    def fit(self, data, y=None):
        return super().fit(data, y, num_steps=4, rng=0)


class OfAnyColumns(SVI):
    """A model of x itself, of as many dimensions as the data of a check have."""

    emission = None
    _columns = 2

    def __init__(self, kind=svae.GMM, num_states=2):
        self.kind = kind
        self.num_states = num_states

    @property
    def latent(self):
        return self.kind(self.num_states, self._columns)

    def fit(self, data, y=None):
        self._columns = np.shape(data)[-1]
        return super().fit(data, y)


OWN_WORDS = "refused, in the package's own words, which name sequence and remedy"
EXPECTED = {
    "check_n_features_in_after_fitting": OWN_WORDS,
    "check_complex_data": OWN_WORDS,
    "check_estimators_empty_data_messages": OWN_WORDS,
    "check_fit2d_predict1d": OWN_WORDS,
    "check_dtype_object": "objects are not taken for numbers: data.astype(float)",
}
"""Of every model."""
OF_TRANSFORMERS = {
    "check_transformer_data_not_an_array": "a list is a list of sequences, no table",
}
OF_CHAINS = {
    "check_methods_sample_order_invariance": "rows are a sequence: order matters",
    "check_methods_subset_invariance": "the state of a frame depends on the others",
}
OF_NETWORKS = {
    "check_parameters_default_constructible": "default networks are (frozen) objects",
}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (SVAE(svae.GMM(2, 2), **NETWORKS), OF_TRANSFORMERS | OF_NETWORKS),
        (SVAE(svae.HMM(2, 2), **NETWORKS), OF_TRANSFORMERS | OF_NETWORKS | OF_CHAINS),
        (SVAE(svae.LDS(2), **NETWORKS), OF_TRANSFORMERS | OF_NETWORKS | OF_CHAINS),
        (SVI(svae.LDS(2)), OF_TRANSFORMERS | OF_CHAINS),
        (OfAnyColumns(svae.GMM), {}),
        (OfAnyColumns(svae.HMM), {}),  # clusters so far apart that order is no matter
    ],
    ids=["SVAE-GMM", "SVAE-HMM", "SVAE-LDS", "SVI-LDS", "SVI-GMM", "SVI-HMM"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checks_of_scikit_learn(model, expected):
    expected = EXPECTED | expected
    results = estimator_checks.check_estimator(
        model, expected_failed_checks=expected, on_skip=None, on_fail=None
    )
    status = {}
    for result in results:
        status.setdefault(result["status"], {})[result["check_name"]] = result
    failed = {name: r["exception"] for name, r in status.get("failed", {}).items()}
    assert not failed
    assert status["xfail"].keys() == expected.keys()  # and none of them passes
    assert status.get("skipped", {}).keys() <= {"check_array_api_input"}
    assert len(status["passed"]) >= 29


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_set_output_transform,
        estimator_checks.check_set_output_transform_pandas,
        estimator_checks.check_global_output_transform_pandas,
        estimator_checks.check_transformer_get_feature_names_out,
        estimator_checks.check_transformer_get_feature_names_out_pandas,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checks_of_names_and_containers(check):
    pytest.importorskip("pandas")
    check("SVAE", SVAE(svae.HMM(2, 2), **NETWORKS))
    check("SVI", SVI(svae.LDS(2)))


SETTINGS = {"num_steps": 4, "rng": 0}


def walk(rng=0, length=40):
    """Return frames (T, 3) of a rotation."""
    rng, angle = np.random.default_rng(rng), np.arange(length) / 5
    frames = np.stack([np.cos(angle), np.sin(angle), np.sin(2 * angle)], axis=1)
    return frames + 0.1 * rng.standard_normal(frames.shape)


def switching(num_sequences=8, length=60):
    """Return sequences (T, 2) of three states that last, far apart."""
    rng = np.random.default_rng(0)
    centers = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    sequences = []
    for _ in range(num_sequences):
        states = np.repeat(rng.integers(3, size=length // 5), 5)
        noise = 0.3 * rng.standard_normal((length, 2))
        sequences.append(centers[states] + noise)
    return sequences


@pytest.mark.parametrize(
    "model", [svae.SVAE(svae.HMM(2, 2), **NETWORKS), svae.SVI(svae.LDS(2))], ids=type
)
def test_labels_after_the_data_are_ignored(model):
    for method in (type(model).fit, type(model).score):
        assert list(inspect.signature(method).parameters)[:3] == ["self", "data", "y"]
    frames, labels = walk(), np.arange(40) % 2
    want = clone(model).fit(frames, **SETTINGS)
    score = want.score(frames)
    for y in (None, labels, list(labels), labels.astype(str)):
        found = clone(model).fit(frames, y, **SETTINGS)
        assert found.score(frames, y) == found.score(frames, y=y) == score
    assert clone(model).fit(frames, labels, 4, rng=0).score(frames) == score
    assert clone(model).fit(frames, None, 4, rng=0).score(frames) == score
    assert clone(model).fit([frames], [1], 4, rng=0).score([frames], [1]) == score
    assert clone(model).fit(frames, y=labels, **SETTINGS).score(frames) == score


def test_a_setting_after_the_data_is_no_label():
    frames = walk()
    model = svae.SVAE(svae.LDS(2), **NETWORKS)
    assert len(model.fit(frames, 3, 1, 20, 0).history_["objective"]) == 3
    few = model.score(frames, 1, rng=1)
    assert few == model.score(frames, num_samples=1, rng=1) != model.score(frames)
    weighted = model.score(frames, None, 5)
    assert weighted == model.score(frames, num_importance_samples=5)
    conjugate = svae.SVI(svae.LDS(2)).fit(frames, 2)
    assert conjugate.score(frames, "mean") == conjugate.score(frames, theta="mean")
    for wrong in (np.zeros(7), 1.5):  # no labels of these rows
        with pytest.raises(ValueError, match="num_steps must be a positive integer"):
            conjugate.fit(frames, wrong)


def test_what_a_model_can_do_is_what_it_has():
    networks = svae.SVAE(svae.HMM(2, 2), **NETWORKS)
    assert hasattr(networks, "predict") and hasattr(networks, "transform")
    dynamics = svae.SVI(svae.LDS(2))
    assert hasattr(dynamics, "fit_transform") and not hasattr(dynamics, "fit_predict")
    mixture = svae.SVI(svae.GMM(2, 2))
    assert hasattr(mixture, "fit_predict") and not hasattr(mixture, "predict_proba")
    for name in ("transform", "fit_transform", "get_feature_names_out"):
        assert not hasattr(mixture, name) and hasattr(svae.SVI, name)
    with pytest.raises(TypeError, match="transform: the data themselves are the x"):
        mixture.transform(np.zeros((4, 2)))
    with pytest.raises(TypeError, match="predict: LDS has no discrete states"):
        dynamics.predict(np.zeros((4, 2)))
    assert utils.get_tags(networks).input_tags.allow_nan
    assert utils.get_tags(networks).transformer_tags is not None
    assert utils.get_tags(mixture).transformer_tags is None
    assert utils.get_tags(svae.SVAE(None)).estimator_type == "density_estimator"


@pytest.mark.parametrize("model", [svae.SVAE(svae.GMM(2, 2)), svae.SVI(svae.LDS(2))])
def test_before_fit_both_errors_are_one(model):
    with pytest.raises(NotFittedError, match="not fitted yet") as caught:
        model.transform(walk())
    again = pickle.loads(pickle.dumps(caught.value))
    for error in (caught.value, again):
        assert isinstance(error, NotFitted) and str(error) == str(caught.value)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize(
    "model", [svae.SVAE(svae.HMM(2, 2), **NETWORKS), svae.SVI(svae.LDS(2))], ids=type
)
def test_data_frames_in_and_out(model, tmp_path):
    pandas = pytest.importorskip("pandas")
    frames = pandas.DataFrame(
        walk(), columns=["x", "y", "z"], index=pandas.date_range("2020", periods=40)
    )
    model = clone(model).fit(frames, **SETTINGS)
    check_is_fitted(model)
    assert model.n_features_in_ == 3
    assert list(model.feature_names_in_) == ["x", "y", "z"]
    arrays = model.transform(walk())
    assert isinstance(arrays, np.ndarray)
    assert np.array_equal(model.transform(frames), arrays)

    found = model.set_output(transform="pandas").transform(frames)
    prefix = type(model).__name__.lower()
    assert list(found.columns) == [f"{prefix}0", f"{prefix}1"]
    assert found.index.equals(frames.index)
    assert np.array_equal(found.to_numpy(), arrays)
    assert list(model.transform(walk()).index) == list(range(40))
    listed = model.transform([frames, frames[:10]])
    assert [len(each) for each in listed] == [40, 10]
    assert listed[1].index.equals(frames.index[:10])
    assert model.transform(walk()[None]).shape == (1, 40, 2)
    assert isinstance(clone(model).fit_transform(frames, **SETTINGS), pandas.DataFrame)
    assert isinstance(model.set_output().transform(frames), pandas.DataFrame)

    assert isinstance(
        model.set_output(transform="default").transform(frames), np.ndarray
    )
    del model._sklearn_output_config
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(model.transform(frames), pandas.DataFrame)
    with pytest.raises(ValueError, match="transform must be one of"):
        model.set_output(transform="list")

    model.save(tmp_path / "model.npz")
    again = svae.load(tmp_path / "model.npz")
    assert list(again.feature_names_in_) == ["x", "y", "z"]
    with pytest.raises(ValueError, match=r"unseen: \['w'\], missing: \['x'\]"):
        again.score(frames.rename(columns={"x": "w"}))
    with pytest.raises(ValueError, match="in another order. Select them"):
        again.transform(frames[["y", "x", "z"]])
    with pytest.raises(ValueError, match="sequence 1 has the columns"):
        clone(model).fit([frames, frames[["y", "x", "z"]]], **SETTINGS)
    assert not hasattr(model.fit(walk(), **SETTINGS), "feature_names_in_")


def test_held_out_columns_are_those_of_the_data():
    pandas = pytest.importorskip("pandas")
    frames = pandas.DataFrame(walk(), columns=["x", "y", "z"])
    model = svae.SVAE(svae.LDS(2), **NETWORKS)
    with pytest.raises(ValueError, match="in another order"):
        model.fit(frames, held_out=frames[["y", "x", "z"]], **SETTINGS)


@pytest.mark.parametrize("names", [["x"], ["x", "y", 3], "xyz"])
def test_names_in_a_file_that_are_none_are_refused(names):
    model = svae.SVI(svae.LDS(2))
    model.obs_dim_ = 3
    with pytest.raises(ValueError, match="feature_names are"):
        model._restore_columns({"feature_names": names})


def test_a_pipeline_segments_and_transforms():
    frames = 100 + 10 * walk()
    model = svae.SVAE(svae.HMM(2, 2), **NETWORKS)
    pipe = make_pipeline(StandardScaler(), model)
    pipe.fit(frames, **{f"svae__{name}": value for name, value in SETTINGS.items()})
    scaled = StandardScaler().fit_transform(frames)
    want = clone(model).fit(scaled, **SETTINGS)
    assert np.array_equal(pipe.predict(frames), want.predict(scaled))
    assert np.array_equal(pipe.transform(frames), want.transform(scaled))
    assert pipe.score(frames) == want.score(scaled)
    assert pipe.score(frames, np.arange(40)) == want.score(scaled)
    assert list(pipe.get_feature_names_out()) == ["svae0", "svae1"]
    two = make_pipeline(svae.SVI(svae.LDS(2)), svae.SVI(svae.GMM(3, 2)))
    labels = two.fit_predict(walk())
    assert labels.shape == (40,)


def test_a_search_finds_the_number_of_states():
    search = GridSearchCV(
        svae.SVI(svae.HMM(1, 2)), {"latent__num_states": [1, 2, 3]}, cv=2
    )
    sequences = switching()
    search.fit(sequences, num_steps=10, rng=0)  # folds of whole sequences
    assert search.best_params_ == {"latent__num_states": 3}
    assert search.best_estimator_.latent == svae.HMM(3, 2)
    assert np.all(np.diff(search.cv_results_["mean_test_score"]) > 0.1)
    paths = search.predict(sequences)
    assert [path.shape for path in paths] == [(60,)] * 8
    stacked = GridSearchCV(search.estimator, search.param_grid, cv=2)
    stacked.fit(np.stack(sequences), num_steps=10, rng=0)
    for ours, theirs in zip(
        search.cv_results_["mean_test_score"],
        stacked.cv_results_["mean_test_score"],
        strict=True,
    ):
        assert ours == pytest.approx(theirs)


def test_a_search_goes_through_a_pipeline():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), svae.SVAE(svae.LDS(1), **NETWORKS)),
        {"svae__latent__latent_dim": [1, 2], "svae__encoder__hidden": [(3,)]},
        cv=TimeSeriesSplit(2),
    )
    search.fit(walk(), svae__num_steps=3, svae__rng=0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[-1]
    assert best.latent.latent_dim == search.best_params_["svae__latent__latent_dim"]
    assert best.encoder == svae.MLP((3,))


def test_two_processes_score_as_one():
    model, sequences = svae.SVI(svae.HMM(2, 2)), switching()
    settings = {"cv": 2, "params": {"num_steps": 5, "rng": 0}}
    want = cross_val_score(model, sequences, **settings)
    found = cross_val_score(model, sequences, n_jobs=2, **settings)
    assert found == pytest.approx(want, rel=1e-12)


def test_without_scikit_learn_nothing_of_it_is_imported(run_python):
    code = (
        "import sys, numpy, svae; model = svae.SVI(svae.LDS(1));"
        "model.fit(numpy.random.default_rng(0).standard_normal((20, 2)), 2);"
        "model.transform(numpy.zeros((3, 2))); repr(model);"
        "print({'sklearn', 'pandas'} & set(sys.modules))"
    )
    done = run_python(code)
    assert done.stdout.strip() == "set()", done.stderr
