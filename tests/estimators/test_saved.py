"""What is read back is checked: numbers against the model, words against tables."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import svae
from svae import store
from svae.__main__ import main
from svae.cli import runs
from svae.training import checkpoint
from svae.training.generators import GENERATORS
from tests.helpers.fits import run

EARLIER = Path(__file__).parent / "earlier"  # files of the version without digests


def header_of(path):
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop(store.HEADER).tobytes()), arrays


def rewrite(path, change):
    """Let a function change the header and the arrays of a file, with a new digest."""
    header, arrays = header_of(path)
    header.pop("digest", None)
    change(header, arrays)
    header["digest"] = store._digest(header, arrays)
    content = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays, **{store.HEADER: content})


def at(node, *keys):
    """Return what is at a place of a tree in a header."""
    for key in keys:
        ((kind, content),) = node.items()
        node = dict(content)[key] if kind == "dict" else content[key]
    return node


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).standard_normal((40, 3)).cumsum(axis=0)


@pytest.fixture(scope="module")
def saved(frames, tmp_path_factory):
    """Make a file of each kind of model."""
    folder = tmp_path_factory.mktemp("saved")
    network = svae.MLP((3,))
    options = {"num_steps": 2, "rng": 0}
    points = frames[:, :2]
    svae.SVAE(svae.SLDS(2, 2), network, network).fit(frames, **options).save(
        folder / "slds.npz"
    )
    svae.SVAE(svae.HMM(2, 2), svae.Residual((3,)), svae.Linear(), inference="sin").fit(
        frames, **options
    ).save(folder / "sin.npz")
    svae.SVAE(svae.Gaussian(2), network, network, decoder_posterior="gaussian").fit(
        frames, **options
    ).save(folder / "gaussian.npz")
    svae.SVI(svae.LDS(2), svae.LinearEmission()).fit(frames, **options).save(
        folder / "svi.npz"
    )
    svae.SVI(svae.StudentMixture(2, 2, learn_dof=True)).fit(points, **options).save(
        folder / "student.npz"
    )
    return folder


NAMES = ["slds", "sin", "gaussian", "svi", "student"]


@pytest.mark.parametrize("name", NAMES)
def test_members_that_were_swapped_are_noticed(name, saved, tmp_path):
    """Each has a right checksum, and perhaps the shape of the other."""
    path = tmp_path / "a.npz"
    header, arrays = header_of(saved / f"{name}.npz")
    names = sorted(arrays)
    for one in names:
        for other in names:
            if one < other and arrays[one].shape == arrays[other].shape:
                swapped = arrays | {one: arrays[other], other: arrays[one]}
                if np.array_equal(arrays[one], arrays[other]):
                    continue
                content = np.frombuffer(json.dumps(header).encode(), np.uint8)
                np.savez(path, **swapped, **{store.HEADER: content})
                with pytest.raises(ValueError, match="a.npz: .*not what was saved"):
                    svae.load(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_checked_against_the_model(name, saved, tmp_path):
    """Arrays that are cut, longer, not finite, of text or not there at all."""
    path = tmp_path / "a.npz"
    header, arrays = header_of(saved / f"{name}.npz")
    for member, array in arrays.items():
        last = header["tree"]["dict"][-1]
        assert last[0] in ("history", "fill")
        wrong = [np.array(["text"]), np.full(array.shape + (2,), 0.5)]
        if array.size:
            wrong.append(np.resize(array, (array.size + 1,)))
        if not is_history(header, member):
            wrong.append(np.full(array.shape, np.nan))
        for other in wrong:
            shutil.copy(saved / f"{name}.npz", path)
            rewrite(path, lambda h, a, m=member, o=other: a.update({m: o}))
            with pytest.raises(ValueError, match="a.npz: "):
                svae.load(path)


def is_history(header, member):
    history = at(header["tree"], "history")
    return {"array": member} in dict(history["dict"]).values()


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_lacks_or_is_of_another_type_is_named(name, saved, tmp_path):
    path = tmp_path / "a.npz"
    meta = header_of(saved / f"{name}.npz")[0]["meta"]
    for field in meta:
        for wrong in (None, {}, "x", -1, 2.5):
            shutil.copy(saved / f"{name}.npz", path)
            rewrite(path, lambda h, a, f=field, w=wrong: h["meta"].update({f: w}))
            with pytest.raises(ValueError, match="a.npz: "):
                svae.load(path)
    for role, part in meta["arguments"].items():
        if not isinstance(part, dict):
            continue
        for field in part:
            shutil.copy(saved / f"{name}.npz", path)
            rewrite(
                path,
                lambda h, a, r=role, f=field: h["meta"]["arguments"][r].update(
                    {f: {"class": "os.system"}}
                ),
            )
            with pytest.raises(ValueError, match="a.npz: "):
                svae.load(path)


def test_parameters_of_no_distribution_are_refused(saved, tmp_path):
    for name, place in (("slds", ("parameters", 0)), ("svi", ("natparams",))):
        path = tmp_path / f"{name}.npz"
        shutil.copy(saved / path.name, path)

        def negate(header, arrays, place=place):
            for member in names_in(at(header["tree"], *place)):
                arrays[member] = -arrays[member]

        rewrite(path, negate)
        with pytest.raises(ValueError, match=f"{name}.npz: natparams are of no distr"):
            svae.load(path)


def names_in(node):
    ((kind, content),) = node.items()
    if kind in ("array", "scalar"):
        return [content] if kind == "array" else []
    branches = [b for _, b in content] if kind == "dict" else content
    return [name for branch in branches for name in names_in(branch)]


@pytest.mark.parametrize("word", ["os.system", "getattr", "LatentModel", "base", ""])
def test_only_named_classes_are_made(word, saved, tmp_path):
    path = tmp_path / "a.npz"
    for role in ("latent", "encoder"):
        shutil.copy(saved / "slds.npz", path)
        rewrite(
            path,
            lambda h, a, r=role: h["meta"]["arguments"].update({r: {"class": word}}),
        )
        with pytest.raises(ValueError, match=f"a.npz: {role} is a {word}: not among"):
            svae.load(path)


# ------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Make the folders of a fit that ended and of one in its warm-up."""
    folder = tmp_path_factory.mktemp("fits")
    with pytest.warns(UserWarning, match="interrupted"):
        run("slds", folder / "training", resume=False, callback=stop_at(20))
    run("slds", folder / "ended", resume=False, num_steps=20)
    step, taken = svae.training.step.step, []

    def interrupted(*arguments):
        taken.append(1)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning):
        patch.setattr(svae.training.step, "step", interrupted)
        run("slds", folder / "warm-up", resume=False)
    for name in ("training", "ended", "warm-up"):
        tree, meta = store.load(folder / name / checkpoint.FILE)
        assert meta["phase"] == name
    return folder


def stop_at(step):
    def stop(reached, record):
        if reached == step:
            raise KeyboardInterrupt

    return stop


PLACES = [
    ("rng",),
    ("restart",),
    ("phase",),
    ("warmup",),
    ("state",),
    ("state", "parameters"),
    ("state", "adam"),
    ("state", "adam", 0),
    ("state", "adam", 1),
    ("state", "adam", 2),
    ("state", "step"),
    ("state", "memory"),
    ("state", "queue"),
    ("records",),
    ("leader",),
    ("leader", 0),
    ("leader", 1),
    ("leader", 2),
    ("champion",),
    ("champion", "parameters"),
    ("champion", "records"),
    ("champion", "merit"),
    ("champion", "step"),
    ("champion", "restart"),
]


@pytest.mark.parametrize("name", ["training", "ended", "warm-up"])
def test_every_part_of_a_training_state_is_checked(name, folders, tmp_path):
    shutil.copytree(folders / name, tmp_path / "a")
    path = tmp_path / "a" / checkpoint.FILE
    good, tried = path.read_bytes(), 0
    tree = header_of(path)[0]["tree"]
    for place in PLACES:
        try:
            node = at(tree, *place)
        except (AttributeError, KeyError):  # there is no leader or champion yet
            continue
        for wrong in (-1, 2.5, {"dict": [["a", 1]]}):
            if wrong == 2.5 and place in (("leader", 0), ("champion", "merit")):
                continue
            path.write_bytes(good)
            rewrite(path, lambda h, a, p=place, w=wrong: put(h["tree"], p, w))
            with pytest.raises(ValueError, match=f"{checkpoint.FILE}: "):
                run("slds", tmp_path / "a", num_steps=20 if name == "ended" else 50)
            tried += 1
        assert node != 2.5
    assert tried > 30


def put(node, place, value):
    """Put a value at a place of a tree."""
    node = at(node, *place[:-1])
    ((kind, content),) = node.items()
    if kind == "dict":
        next(entry for entry in content if entry[0] == place[-1])[1] = value
    else:
        content[place[-1]] = value


@pytest.mark.parametrize(
    "word", ["test", "seed", "default_rng", "RandomState", "BitGenerator", "_pickle"]
)
def test_only_named_generators_are_made(word, folders, tmp_path, monkeypatch):
    """Also where the name is one of `numpy.random`: that of its tests, say."""
    if hasattr(np.random, word):
        monkeypatch.setattr(np.random, word, lambda *_: pytest.fail("it was called"))
    shutil.copytree(folders / "training", tmp_path / "a")
    path = tmp_path / "a" / checkpoint.FILE
    rewrite(path, lambda h, a: put(h["tree"], ("rng", "bit_generator"), word))
    with pytest.raises(ValueError, match=f"{checkpoint.FILE}: rng: .*got '{word}'"):
        run("slds", tmp_path / "a")


@pytest.mark.parametrize("bits", list(GENERATORS.values()))
def test_all_generators_of_numpy_go_on(bits, tmp_path):
    def fit(folder, num_steps, rng, resume=False):
        return run("gmm", folder, resume, num_steps=num_steps, rng=rng, warmup=None)

    fit(tmp_path / "a", 1, np.random.Generator(bits(5)))
    resumed = fit(tmp_path / "a", 3, None, resume=True)
    whole = fit(tmp_path / "b", 3, np.random.Generator(bits(5)))
    np.testing.assert_array_equal(
        resumed.history_["objective"], whole.history_["objective"]
    )


def test_a_generator_that_cannot_go_on_is_refused_at_the_start(tmp_path):
    class Other(np.random.PCG64):
        @property
        def state(self):
            return super().state | {"bit_generator": "Other"}

    with pytest.raises(ValueError, match="rng: the bit generator .*got 'Other'"):
        run("gmm", tmp_path, False, rng=np.random.Generator(Other(0)))


# --------------------------------------------------------- files of earlier versions


def test_models_of_earlier_versions_are_read():
    frames = np.load(EARLIER / "frames.npy")
    model = svae.load(EARLIER / "svi.npz")
    assert model.emission == svae.LinearEmission(spread=50.0)
    assert model.score(np.nan_to_num(frames)) == pytest.approx(-7.127373294279937)


def test_a_class_of_ones_own_in_a_file_of_an_earlier_version():
    class Wide(svae.MLP):
        pass

    with pytest.raises(ValueError, match=r"encoder is a Wide: not among.*=\[Wide\]"):
        svae.load(EARLIER / "wide.npz")
    model = svae.load(EARLIER / "wide.npz", parts=[Wide])
    assert type(model.encoder) is Wide
    assert len(model.history_["objective"]) == 2


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    shutil.copytree(EARLIER, tmp_path / "earlier")
    monkeypatch.chdir(tmp_path / "earlier")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*it goes on, but last digits may differ")
        yield Path("run")


def test_runs_of_earlier_versions_are_read(earlier, capsys):
    assert main(["score", "run"]) == 0
    score = float(capsys.readouterr().out.split()[0])
    assert score == pytest.approx(-8.737370, abs=2e-6)


def test_runs_of_earlier_versions_go_on(earlier, capsys):
    assert main(["fit", "--resume", "run", "--num-steps", "6", "--quiet"]) == 0
    assert len(svae.load("run/model.npz").history_["objective"]) == 6
    record = json.loads((earlier / "run.json").read_text())
    assert record["standardize"] is True
    assert runs.Run.load(earlier).scaling.scale.shape == (3,)
    assert "digest" in store.load(earlier / checkpoint.FILE)[1]["job"]["data"]


def test_checkpoints_of_earlier_versions_know_other_data_by_their_means(earlier):
    frames = np.load("frames.npy")
    frames[0, 0] += 1.0
    np.save("frames.npy", frames)
    with pytest.raises(ValueError, match="a fit with data.mean_digest = "):
        networks = svae.MLP((4,)), svae.MLP((4,))
        model = svae.SVAE(svae.LDS(2), *networks, likelihood="gaussian")
        model.fit(
            runs.Run.load(earlier).read(None),
            num_steps=6,
            window=20,
            batch_size=2,
            checkpoint="run",
            resume=True,
        )
